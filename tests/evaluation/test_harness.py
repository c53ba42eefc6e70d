"""lm-evaluation-harness on models of this project: its numbers are those of the project's own scorer."""

from __future__ import annotations

import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_run import make_run

from lst.configs.compose import build_config
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from lst.evaluation.items import Item, Part
from lst.evaluation.likelihoods import score_items
from lst.model.checkpoint import save_model
from lst.model.lst import LatentSpeechTextModel
from lst.runs import RunFolder, open_data

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed: extra harness")

from lst.evaluation.harness.__main__ import TASKS, main  # noqa: E402
from lst.evaluation.harness.model import HarnessModel  # noqa: E402

SHAPES = {
    "text": ["model=baseline_debug", "patching=none"],
    "patches": ["model=lst_debug", "patching=static"],
    "h3": ["model=baseline_debug", "patching=none", "model.global_mixers=[h3]", "model.positions=none"],
}
ITEMS = [
    ("The small boat went over", ["the lake to the other shore.", "night and back", "she said"], 0),
    ("she  said the boat", ["went over the lake", "before night went the small shore and back"], 1),
    ("the other shore", ["went the night", "the lake"], 0),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("harness") / "run"
    make_run(root)
    for name, words in SHAPES.items():
        config = build_config([f"run_dir={root}", *words, "model.max_patches=64", "train.row_patches=64"])
        vocabulary = open_data(config).vocabulary
        model = LatentSpeechTextModel(config.model, vocabulary.size, 4)
        with torch.no_grad():
            model.head.weight.mul_(20)
        save_model(RunFolder(root).final(name), model, config.patching, vocabulary.to_dict())
    return root


def model_of(run: Path, name: str) -> HarnessModel:
    return HarnessModel(str(run / "models" / name / "final"), batch_size=2)


def text_part(name: str, text: str) -> Part:
    words = tuple(Word(word, place, place + 1, 0.0) for place, word in enumerate(text.split()))
    return Part.whole(
        Utterance(name, "", " ".join(text.split()), len(words) / 25, np.zeros(len(words), np.uint16), words)
    )


@pytest.mark.parametrize("name", SHAPES)
def test_a_shared_task_gives_the_scores_of_our_scorer_item_by_item(run: Path, name: str, tmp_path: Path) -> None:
    rows = [{"ind": n, "ctx": ctx, "endings": endings, "label": label} for n, (ctx, endings, label) in enumerate(ITEMS)]
    harness = model_of(run, name)
    results = evaluated(harness, "hellaswag", rows, tmp_path / "items.jsonl")
    parts = [text_part(f"c{n}", ctx) for n, (ctx, _, _) in enumerate(ITEMS)]
    items = [
        Item(
            str(n), "", parts[n], parts[n - 1], tuple(text_part(f"{n}-{e}", text) for e, text in enumerate(own)), label
        )
        for n, (_, own, label) in enumerate(ITEMS)
    ]
    ours = score_items(harness.scorer, items, directions=("T→T",))
    nats = {(row["item"], row["ending"]): row["nats"] for row in ours}
    samples = {str(sample["doc"]["id"]): sample for sample in results["samples"]["lst_hellaswag"]}
    assert len(samples) == len(ITEMS)
    right = []
    for n, (_, endings, label) in enumerate(ITEMS):
        own = [nats[str(n), ending] for ending in range(len(endings))]
        theirs = [float(answer[0][0]) for answer in samples[str(n)]["resps"]]
        assert theirs == pytest.approx(own, abs=1e-4)
        right.append(float(np.argmax(own) == label))
        assert samples[str(n)]["acc"] == right[-1]
    assert results["results"]["lst_hellaswag"]["acc,none"] == pytest.approx(np.mean(right))


def requests(*arguments: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=own) for own in arguments]


@pytest.mark.parametrize("name", SHAPES)
def test_generation_is_what_is_likeliest_and_stops(run: Path, name: str) -> None:
    harness = model_of(run, name)
    greedy = {"until": ["\n\n"], "max_gen_toks": 6}
    (first, second) = harness.generate_until(requests(("the small boat", greedy), ("she said", greedy)))
    assert first
    assert second
    (alone,) = harness.generate_until(requests(("the small boat", greedy)))
    assert alone == first
    stop = first[len(first) // 2]
    (cut,) = harness.generate_until(requests(("the small boat", {**greedy, "until": stop})))
    assert cut == first[: first.index(stop)]
    likeliest = harness.scorer.trained.tokenizers.tokenizer.encode("the small boat")
    (answer,) = harness._loglikelihood_tokens([(("", ""), likeliest[:1], likeliest[1:])])
    assert not answer[1]


def test_the_likeliest_continuation_is_called_greedy(run: Path) -> None:
    harness = model_of(run, "text")
    context = harness.tok_encode("the small boat")
    document = harness._document(context)
    ids: list[int] = []
    for _ in range(3):
        document = harness._document([*context, *ids])
        losses = [harness._loglikelihood_tokens([(("", ""), [*context, *ids], [new])])[0] for new in range(50)]
        ids.append(int(np.argmax([nats for nats, _ in losses])))
        assert [number for number, (_, is_greedy) in enumerate(losses) if is_greedy] in ([ids[-1]], [])
    assert len(document) > len(context)


def test_long_texts_are_scored_in_windows_and_long_contexts_lose_their_beginnings(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harness = model_of(run, "text")
    text = "the small boat went over the lake to the other shore before night " * 6
    ids = harness.tok_encode(text)
    assert len(ids) > harness.max_text_tokens
    short, long, nothing = harness.loglikelihood_rolling(requests(("the small boat",), (text,), ("",)))
    ((expected, _),) = harness._loglikelihood_tokens([(("", ""), [], harness.tok_encode("the small boat"))])
    assert short == pytest.approx(expected)
    first = harness._loglikelihood_tokens([(("", ""), [], ids[: harness.max_text_tokens])])[0][0]
    assert long < first < short
    assert nothing == 0
    capsys.readouterr()
    ((cut, _),) = harness._loglikelihood_tokens([(("", ""), ids, ids[:3])])
    assert "1 of 1 contexts do not fit" in capsys.readouterr().err
    room = harness.max_text_tokens - 3
    ((same, _),) = harness._loglikelihood_tokens([(("", ""), ids[-room:], ids[:3])])
    assert cut == pytest.approx(same)
    with pytest.raises(UserError, match="allowed are 1 to 62"):
        harness._loglikelihood_tokens([(("", "x"), [], ids)])


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("blimp", {"sentence_good": "the boat went", "sentence_bad": "the boat go"}),
        ("copa", {"premise": "It was night.", "question": "cause", "choice1": "a", "choice2": "b", "label": 1}),
    ],
)
def test_other_shipped_tasks_run(run: Path, name: str, row: dict[str, Any], tmp_path: Path) -> None:
    results = evaluated(model_of(run, "text"), name, [row], tmp_path / "items.jsonl")
    assert results["results"][f"lst_{name}"]["acc,none"] in (0.0, 1.0)


def evaluated(harness: HarnessModel, name: str, rows: list[dict[str, Any]], file: Path) -> Any:
    """Results of a shipped task on these items."""
    from lm_eval.tasks import TaskManager

    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manager = TaskManager(include_path=str(TASKS), metadata={"file": str(file)}, include_defaults=False)
    return lm_eval.simple_evaluate(
        harness, tasks=[f"lst_{name}"], task_manager=manager, log_samples=True, bootstrap_iters=0
    )


def test_the_command_names_the_model_and_the_tasks_to_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.registry import get_model

    seen: list[list[str]] = []
    monkeypatch.setattr("sys.argv", [])
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: seen.append(list(sys.argv)))
    words = ["--model", "lst", "--model_args", "pretrained=folder", "--tasks", "lst_copa"]
    main(words)
    main([*words, "--include_path", "mine"])
    main(["ls", "tasks"])
    assert seen[0] == ["lm_eval", *words, "--include_path", str(TASKS)]
    assert seen[1:] == [["lm_eval", *words, "--include_path", "mine"], ["lm_eval", "ls", "tasks"]]
    assert get_model("lst") is HarnessModel


def test_faulty_folders_and_files_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="configuration is missing"):
        HarnessModel(str(tmp_path))
    with pytest.raises(UserError, match="no model in"):
        HarnessModel(str(run / "models" / "nosuch" / "final"))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_the_model_is_an_entry_point_of_the_harness() -> None:
    (found,) = entry_points(group="lm_eval.models", name="lst") or pytest.skip("the package is not installed anew")
    assert found.load() is HarnessModel
