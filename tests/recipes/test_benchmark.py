"""``lst benchmark build`` and ``lst eval eval.benchmark=``: a small benchmark, spoken, scored, damaged and mended."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.shards import load_index
from lst.evaluation.benchmark import open_benchmark
from lst.evaluation.results import DIRECTIONS
from lst.model.checkpoint import save_model
from lst.model.lst import LatentSpeechTextModel
from lst.runs import RunFolder, open_data

pytestmark = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")

ROWS = [
    {"ind": 4, "ctx": "[header] How to rest [step] Sit", "endings": ["down.", "on 2 hats.", "up."], "label": 0},
    {"ind": 5, "ctx": "A dog", "endings": ["barks.", "sings.", "up."], "label": 0},
]


def files_of(folder: Path) -> dict[str, str]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture(scope="module")
def run(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke data with a model that was never trained."""
    root = tmp_path_factory.mktemp("benchmark") / "run"
    shutil.copytree(smoke_data, root)
    config = build_config([f"run_dir={root}", "model=lst_debug", "patching=static"])
    vocabulary = open_data(config).vocabulary
    model = LatentSpeechTextModel(config.model, vocabulary.size, 0)
    save_model(RunFolder(root).final("static"), model, config.patching, vocabulary.to_dict())
    return root


def build(run: Path, name: str, items: Path, out: Path, *words: str) -> int:
    own = ["num_workers=1", "data.voice=flite", "data.shard_utterances=5", *words]
    return main(["benchmark", "build", name, f"items={items}", f"out={out}", f"run_dir={run}", *own])


@pytest.fixture(scope="module")
def items(run: Path) -> Path:
    path = run.parent / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def built(run: Path, items: Path) -> Path:
    assert build(run, "hellaswag", items, run.parent / "spoken") == 0
    return run.parent / "spoken"


def test_a_benchmark_has_units_words_audio_hashes_and_a_card(built: Path) -> None:
    benchmark = open_benchmark(str(built))
    first, second = benchmark.items
    assert first.context.text == "How to rest. Sit"
    assert [part.text for part in first.endings] == ["down.", "on two hats.", "up."]
    assert first.other_context == second.context
    assert all(len(part.utterance.units) for part in (first.context, *first.endings))
    clips = [json.loads(line) for line in (built / "clips.jsonl").read_text().splitlines()]
    assert len(clips) == 8
    assert len({clip["path"] for clip in clips}) == 7 + (clips[3]["speaker"] != clips[7]["speaker"])
    assert {clip["speaker"] for clip in clips[:4]} == {clips[0]["speaker"]}, "all of an item by one voice"
    assert all(clip["fault"] == "" for clip in clips)
    card = benchmark.card
    assert (card["num_items"], card["num_endings"], card["chance"]) == (2, [3], pytest.approx(1 / 3))
    assert "Spoken hellaswag" in (built / "README.md").read_text()
    assert all(row.path.exists() for row in benchmark.manifest.values())  # type: ignore[union-attr]


def test_a_build_that_was_stopped_goes_on_to_the_same_bytes(
    run: Path, items: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    assert build(run, "hellaswag", items, copy) == 0
    assert "nothing to do" in capsys.readouterr().err
    for name in ("index.json", "benchmark.json", "questions.jsonl", "shards/questions-000001.json"):
        (copy / name).unlink()
    next((copy / "audio").iterdir()).write_bytes(b"half")
    (copy / "audio/stray.flac").write_bytes(b"x")
    assert build(run, "hellaswag", items, copy) == 0
    assert files_of(copy) == files_of(built)
    (copy / "clips.jsonl").write_text("")
    assert build(run, "hellaswag", items, copy) == 0
    assert files_of(copy) == files_of(built)
    assert build(run, "hellaswag", items, copy, "seed=7") == 2
    assert "made from other items" in capsys.readouterr().err


def test_every_model_is_scored_in_four_directions_apart_from_the_own_results(
    run: Path, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", f"run_dir={run}", f"eval.benchmark={built}", "eval.bootstrap_samples=100"]
    assert main([*words, "--dry-run"]) == 0
    assert main(words) == 0
    told = capsys.readouterr()
    assert "the context of another item, drawn by seed=0" in told.err, "named before scoring"
    assert "chance is 33.3" in told.out
    (place,) = (run / "eval").glob("static@hellaswag-*.benchmark.json")
    assert not (run / "eval/static.json").exists()
    assert RunFolder(run).eval_results_of_other_data("static") == []
    result = json.loads(place.read_text())
    rows = [json.loads(line) for line in place.with_suffix(".items.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 4 * 3
    assert list(result["directions"]) == list(DIRECTIONS)
    assert result["chance"] == pytest.approx(1 / 3)
    assert result["controls"]["level"]["strata"]["all"]["num_items"] == 2, "audio of the benchmark is heard"
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_endings_without_context_are_scored_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "blimp.jsonl"
    path.write_text(json.dumps({"uid": "x", "pair": "0", "field": "syntax", "good": "He is.", "bad": "He are."}) + "\n")
    assert build(run, "blimp", path, tmp_path / "blimp") == 0
    assert main(["eval", f"run_dir={run}", f"eval.benchmark={tmp_path / 'blimp'}", "eval.bootstrap_samples=100"]) == 0
    (place,) = (run / "eval").glob("static@blimp-*.benchmark.json")
    result = json.loads(place.read_text())
    assert {name: score["headline"] for name, score in result["directions"].items()} == {"S→S": "mean", "T→T": "mean"}
    assert result["controls"]["join_repeat"]["strata"] == {}, "there is no cut"
    assert "S→S by mean, T→T by mean" in capsys.readouterr().out


def test_what_cannot_be_built_or_scored_is_refused_first(
    run: Path, items: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({**ROWS[0], "label": 9}) + "\n" + json.dumps({**ROWS[1], "endings": []}) + "\n")
    assert build(run, "hellaswag", bad, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "line 1" in told
    assert "line 2" in told
    assert not (tmp_path / "out").exists()
    assert build(run, "hellaswag", items, tmp_path / "out", "--dry-run") == 0
    assert "8 clips" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    other = tmp_path / "other"
    shutil.copytree(built, other)
    card = json.loads((other / "benchmark.json").read_text())
    (other / "benchmark.json").write_text(json.dumps({**card, "units_sha256": "0" * 64}))
    assert main(["eval", f"run_dir={run}", f"eval.benchmark={other}"]) == 2
    assert "units of another tokenizer" in capsys.readouterr().err
    (other / "benchmark.json").write_text(json.dumps(card))
    next((other / "audio").iterdir()).unlink()
    assert main(["eval", f"run_dir={run}", f"eval.benchmark={other}"]) == 2
    assert "is missing" in capsys.readouterr().err
    assert load_index(built)["description"].startswith("hellaswag (2 items)")
