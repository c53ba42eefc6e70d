"""The command for synthetic languages and ListOps: what it leaves, resuming, the report, mistakes."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lst.cli import main
from lst.configs.compose import SYNTHETIC
from lst.configs.synthetic_schema import SyntheticConfig
from lst.errors import ProblemsError, UserError
from lst.model.batch import PackedBatch
from lst.options import list_options
from lst.recipes.report.plots import standalone_svg
from lst.recipes.synthetic.batches import scored_batches, training_batches
from lst.recipes.synthetic.module import SyntheticModule, build_module, convolution_path, learning_rate_share
from lst.recipes.synthetic.report import found_results, language_table, listops_table, write_synthetic_report
from lst.recipes.synthetic.tasks import build_task
from lst.recipes.training.callbacks import RunCallback
from lst.recipes.training.checkpoints import SafeCheckpointIO, complete_checkpoints
from lst.recipes.training.trainer import TrainerOptions, fit
from lst.storage import read_json, read_jsonl, write_json

TINY = (
    "task.length=6",
    "task.vocabulary=10",
    "task.train_sequences=64",
    "task.test_sequences=20",
    "model.global_dim=16",
    "train.batch_sequences=8",
    "train.eval_every=4",
    "train.checkpoint_every=3",
    "train.warmup_steps=2",
    "train.decay_share=0",
)


def run_command(*words: str) -> None:
    assert main(["synthetic", *words]) == 0


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = SafeCheckpointIO().load_checkpoint(complete_checkpoints(folder / "checkpoints")[-1])["state_dict"]
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


def assert_same_training(folder: Path, other: Path) -> None:
    """Weights, metrics and results, but not times nor the commands' words."""
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (folder / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    results = [read_json(place / "result.json", dict[str, Any], "", "") for place in (folder, other)]
    for result in results:
        del result["timing"], result["command"]
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both languages and ListOps, trained for ten steps with two seeds."""
    run = tmp_path_factory.mktemp("synthetic") / "run <&>"
    for task in ("associative_recall", "induction_head"):
        run_command(f"task={task}", "seeds=[0,1]", "train.max_steps=10", *TINY, f"run_dir={run}")
    sizes = ("task.min_length=5", "task.max_length=24", *TINY[2:])
    run_command("task=listops", "seeds=[0]", "train.max_steps=4", *sizes, f"run_dir={run}")
    return run


def test_command_leaves_metrics_and_results(tiny_run: Path) -> None:
    for seed in (0, 1):
        folder = tiny_run / "associative_recall" / "attention" / f"seed-{seed}"
        rows = read_jsonl(folder / "metrics.jsonl", dict[str, Any])
        assert [row["step"] for row in rows if "loss" in row] == list(range(1, 11))
        assert [row["step"] for row in rows if "test_accuracy" in row] == [4, 8, 10]
        assert [row["learning_rate"] for row in rows if "loss" in row][:3] == [1e-3, 2e-3, 2e-3]
        assert all(row["gradient_norm"] > 0 for row in rows if "loss" in row)
        result = read_json(folder / "result.json", dict[str, Any], "", "")
        assert result["steps"] == 10
        assert 0 <= result["accuracy"] <= result["best_accuracy"] <= 1
        assert result["timing"]["training_s"] > 0
        assert {path.name for path in folder.iterdir()} == {
            "config.yaml",
            "settings.json",
            "versions.json",
            "metrics.jsonl",
            "result.json",
            "checkpoints",
        }
        assert [path.name for path in complete_checkpoints(folder / "checkpoints")] == ["step-00000010"]
    first, second = (weights(tiny_run / "associative_recall" / "attention" / f"seed-{seed}") for seed in (0, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_done_is_not_done_twice(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tiny_run / "induction_head" / "attention" / "seed-0" / "result.json"
    before = result.stat().st_mtime_ns
    run_command("task=induction_head", "seeds=[0,1]", "train.max_steps=10", *TINY, f"run_dir={tiny_run}")
    captured = capsys.readouterr()
    assert captured.err.count("is trained: nothing to do") == 2
    assert result.stat().st_mtime_ns == before
    assert "Induction head" in captured.out
    assert f"report: {tiny_run / 'report.html'}" in captured.out


def test_a_longer_training_begins_as_a_shorter_one(tiny_run: Path, tmp_path: Path) -> None:
    """Seven steps, then three more: the same as ten at once."""
    for steps in (7, 10):
        run_command("seeds=[1]", f"train.max_steps={steps}", *TINY, f"run_dir={tmp_path}")
    place = Path("associative_recall/attention/seed-1")
    assert_same_training(tmp_path / place, tiny_run / place)


@pytest.mark.parametrize("died_at", [2, 5, 8])
def test_stopped_in_the_middle_it_ends_the_same(
    died_at: int, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_loss = SyntheticModule.batch_loss

    def dying_loss(module: SyntheticModule, batch: PackedBatch) -> torch.Tensor:
        if module.global_step == died_at:
            raise KeyboardInterrupt
        return real_loss(module, batch)

    words = ["synthetic", "seeds=[0]", "train.max_steps=10", *TINY, f"run_dir={tmp_path}"]
    monkeypatch.setattr(SyntheticModule, "batch_loss", dying_loss)
    assert main(words) == 130
    monkeypatch.setattr(SyntheticModule, "batch_loss", real_loss)
    assert main(words) == 0
    place = Path("associative_recall/attention/seed-0")
    assert_same_training(tmp_path / place, tiny_run / place)


@pytest.mark.parametrize("written_first", [False, True])
def test_stopped_at_a_validation_it_ends_the_same(
    written_first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every step of a checkpoint is validated: before its row is written, and after its checkpoint."""
    words = ["synthetic", "seeds=[0]", "train.max_steps=8", *TINY, "train.checkpoint_every=2", "train.eval_every=2"]
    place = Path("associative_recall/attention/seed-0")
    real_end = RunCallback.on_validation_end

    def dying_end(callback: RunCallback, trainer: Any, module: Any) -> None:
        if written_first:
            real_end(callback, trainer, module)
        if trainer.global_step == 4:
            raise KeyboardInterrupt
        if not written_first:
            real_end(callback, trainer, module)

    monkeypatch.setattr(RunCallback, "on_validation_end", dying_end)
    assert main([*words, f"run_dir={tmp_path / 'a'}"]) == 130
    newest = complete_checkpoints(tmp_path / "a" / place / "checkpoints")[-1]
    assert newest.name == ("step-00000004" if written_first else "step-00000002")
    monkeypatch.setattr(RunCallback, "on_validation_end", real_end)
    for run in ("a", "b"):
        assert main([*words, f"run_dir={tmp_path / run}"]) == 0
    assert_same_training(tmp_path / "a" / place, tmp_path / "b" / place)


def test_trainings_begun_with_version_0_1_are_refused_with_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["synthetic", "seeds=[0]", *TINY, f"run_dir={tmp_path}"]
    assert main([*words, "train.max_steps=2"]) == 0
    checkpoint = tmp_path / "associative_recall/attention/seed-0/checkpoints/step-00000002"
    SafeCheckpointIO().save_checkpoint({"step": 2, "model": {}, "optimiser": {}}, checkpoint)
    assert main([*words, "train.max_steps=3"]) == 2
    assert "begun with version 0.1" in capsys.readouterr().err


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    run_command("seeds=[0]", "train.max_steps=1", *TINY, f"run_dir={tmp_path}")
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_killed_without_warning_it_ends_the_same(tmp_path: Path) -> None:
    words = ["seeds=[0]", "train.max_steps=60", *TINY, "train.checkpoint_every=5"]
    place = Path("associative_recall/attention/seed-0")
    # A copy of this process: importing everything anew would take longer than the training.
    process = multiprocessing.get_context("fork").Process(
        target=run_command, args=(*words, f"run_dir={tmp_path / 'a'}")
    )
    process.start()
    while not complete_checkpoints(tmp_path / "a" / place / "checkpoints") and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "a" / place / "result.json").exists()
    run_command(*words, f"run_dir={tmp_path / 'a'}")
    run_command(*words, f"run_dir={tmp_path / 'b'}")
    assert_same_training(tmp_path / "a" / place, tmp_path / "b" / place)


def test_rate_warms_up_holds_and_falls_to_zero() -> None:
    quick = SYNTHETIC.build(["task=induction_head", "train.max_steps=1000"]).train
    shares = [learning_rate_share(step, quick) for step in range(1000)]
    assert shares[:2] == [0.01, 0.02]
    assert set(shares[99:801]) == {1.0}
    assert shares[900] == pytest.approx(0.5)
    assert shares[999] == pytest.approx(0.005)
    constant = SYNTHETIC.build(["train=published"]).train
    assert {learning_rate_share(step, constant) for step in (0, 100, 31_249)} == {1.0}


def test_with_a_falling_rate_the_number_of_steps_is_a_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["synthetic", "seeds=[0]", *TINY, "train.decay_share=0.5", f"run_dir={tmp_path}"]
    assert main([*words, "train.max_steps=4"]) == 0
    assert main([*words, "train.max_steps=6"]) == 2
    assert "train.max_steps: 4 then, 6 now" in capsys.readouterr().err


def test_stopping_at_an_accuracy_is_final(tmp_path: Path) -> None:
    """Also where the process dies between the last checkpoint and the result."""
    words = ["seeds=[0]", "train.max_steps=40", "train.stop_at=0.01", *TINY, f"run_dir={tmp_path}"]
    folder = tmp_path / "associative_recall" / "attention" / "seed-0"
    run_command(*words)
    result = read_json(folder / "result.json", dict[str, Any], "", "")
    assert result["stopped_early"]
    assert result["steps"] < 40
    assert result["accuracy"] >= 0.01
    metrics = (folder / "metrics.jsonl").read_bytes()
    (folder / "result.json").unlink()
    run_command(*words)
    again = read_json(folder / "result.json", dict[str, Any], "", "")
    assert again["steps"] == result["steps"]
    assert (folder / "metrics.jsonl").read_bytes() == metrics


def test_other_settings_under_the_same_name_are_refused(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["synthetic", "seeds=[0,1]", *TINY, f"run_dir={tiny_run}"]
    assert main([*words, "train.max_steps=5", "train.learning_rate=1e-3"]) == 2
    err = capsys.readouterr().err
    assert err.count("train.learning_rate: 0.002 then, 0.001 now") == 2
    assert err.count("trained for 10 steps already, train.max_steps=5 now") == 2
    assert "name=NAME" in err


def test_report_says_what_the_files_say(tiny_run: Path) -> None:
    found = found_results(tiny_run)
    assert list(found) == ["associative_recall", "induction_head", "listops"]
    html, text = (tiny_run / "report.html").read_text(), (tiny_run / "report.md").read_text()
    for part in (
        "Associative recall",
        "Induction head",
        "ListOps",
        "99.8",
        "35.6",
        "6.8",
        "S4D",
        "GSS",
        "2.9 times",
        "5.8 times",
        "lst synthetic task=listops",
    ):
        assert part in html
        assert part in text
    assert "run <&>" not in html
    assert html.count("<svg") == 3
    assert not re.search(r"""(src|href)="(?!#)""", html), "nothing is fetched"
    for task in found:
        assert (tiny_run / f"curves-{task}.svg").exists()
        assert f"curves-{task}.svg" in text
    accuracies = [result["accuracy"] for result in found["associative_recall"][0].results]
    row = next(
        row for row in language_table("associative_recall", found["associative_recall"]).rows if row[0] == "attention"
    )
    assert row[2] == f"{100 * np.mean(accuracies):.1f}"
    assert row[3] == ", ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies)
    # Six tokens instead of twenty: not what was published.
    assert row[1] == "–"
    assert "so not to be compared with it: attention" in text


def test_curves_stand_alone_as_files(tiny_run: Path) -> None:
    from xml.etree import ElementTree

    svg = (tiny_run / "curves-listops.svg").read_text()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in svg
    assert "xmlns=" in standalone_svg("<svg viewBox='0 0 1 1'></svg>")


def test_speeds_compare_with_a_transformer_at_the_same_work(tiny_run: Path, tmp_path: Path) -> None:
    source = tiny_run / "listops" / "attention" / "seed-0"
    result = read_json(source / "result.json", dict[str, Any], "", "")
    for name, step_s, tokens in (("attention", 0.4, 25), ("h3", 0.1, 25), ("h3-plain", 0.2, 25), ("s4d", 0.1, 50)):
        folder = tmp_path / "listops" / name / "seed-0"
        timing = {**result["timing"], "median_step_s": step_s}
        write_json(folder / "result.json", {**result, "model": name, "timing": timing, "num_tokens": tokens})
        (folder / "metrics.jsonl").write_bytes((source / "metrics.jsonl").read_bytes())
    rows = {row[0]: row for row in listops_table(found_results(tmp_path)["listops"]).rows}
    place = 9
    assert [rows[name][place] for name in ("attention", "h3", "h3-plain", "s4d")] == ["1.00×", "4.00×", "2.00×", "–"]
    assert rows["h3"][8] == "10.00"
    assert write_synthetic_report(tmp_path).exists()


def test_help_lists_choices_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthetic", "--help"]) == 0
    out = capsys.readouterr().out
    for part in (
        "associative_recall | induction_head | listops",
        "attention | attention_rotary | h3 | s4d",
        "published | quick",
        "run_dir=runs/synthetic",
        "train.stop_at=null",
        "seeds=[0, 1, 2]",
        "convolution=fast",
    ):
        assert part in out
    assert [option.key for option in list_options(SyntheticConfig()) if not option.doc] == []


def test_cfg_job_and_dry_run_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthetic", "task=induction_head", "train=published", "--cfg", "job"]) == 0
    out = capsys.readouterr().out
    assert "max_steps: 62500" in out
    assert "learning_rate: 0.0005" in out
    for task in ("task=associative_recall", "task=listops"):
        words = ["task.max_length=40", "task.min_length=5"] if "listops" in task else []
        assert (
            main(
                [
                    "synthetic",
                    task,
                    *words,
                    "task.train_sequences=50",
                    "train.batch_sequences=2",
                    f"run_dir={tmp_path / 'r'}",
                    "--dry-run",
                ]
            )
            == 0
        )
    out = capsys.readouterr().out
    for part in ("nothing is written", "GFLOP a step", "disk about", "ms a step", "parameters"):
        assert part in out
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("choice", [f"{group}={name}" for group, names in SYNTHETIC.groups.items() for name in names])
def test_every_shipped_choice_composes(choice: str) -> None:
    assert isinstance(SYNTHETIC.build([choice]), SyntheticConfig)


def test_a_models_context_is_as_long_as_the_sequences(tmp_path: Path) -> None:
    """Whatever model.max_patches says: longer than its default, or than what it was set to."""
    assert SYNTHETIC.build(["task=listops", "task.max_length=4096"]).task.num_tokens == 4097
    for name, options in (("usual", []), ("short", ["model.max_patches=4"])):
        run_command(*TINY, "seeds=[0]", "train.max_steps=2", f"run_dir={tmp_path / name}", *options)
    ours, theirs = (weights(tmp_path / name / "associative_recall/attention/seed-0") for name in ("usual", "short"))
    assert ours["backbone.positions.weight"].shape[0] == 8
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_wrong_choices_are_reported_together_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthetic", "task=asociative_recall", "model=h4", "learning_rate=1"]) == 2
    err = capsys.readouterr().err
    for part in (
        "did you mean associative_recall?",
        "model=h4: allowed are attention",
        "did you mean h3?",
        "did you mean train.learning_rate?",
        "3 problems",
        "lst synthetic --help",
    ):
        assert part in err


def problems_of(*words: str) -> list[str]:
    with pytest.raises(ProblemsError) as raised:
        SYNTHETIC.build(words)
    return raised.value.problems


def test_contradictory_sizes_are_reported_together() -> None:
    found = problems_of(
        "task.length=7",
        "task.vocabulary=9",
        "task.max_depth=3",
        "seeds=[1,1]",
        "convolution=plain",
        "model.encoder_layers=1",
        "train.stop_at=1.5",
        "train.batch_sequences=0",
        "train.learning_rate=0",
    )
    text = "\n".join(found)
    for part in (
        "task.length=7",
        "task.vocabulary=9",
        "task.max_depth=3",
        "seeds=[1, 1]",
        "no convolution",
        "encoder_layers=1",
        "train.stop_at",
        "train.batch_sequences",
        "train.learning_rate",
    ):
        assert part in text
    found = problems_of("task=listops", "task.length=4", "task.min_length=9", "task.max_length=8")
    assert [problem.partition(":")[0] for problem in found] == ["task.length=4", "task.min_length=9, max_length=8"]
    assert "allowed are fast, plain" in problems_of("convolution=fft")[0]
    assert "train.max_steps=null" in problems_of("task=listops", "train=published")[0]
    assert "of 64 different sequences" in problems_of("task.length=2", "task.vocabulary=18")[0]


@pytest.mark.parametrize(("model", "rate"), [("attention", "5e-3"), ("h3", "2e-3")])
def test_models_learn_associative_recall(tmp_path: Path, model: str, rate: str) -> None:
    """A small version: three keys, five pairs.

    The rate of h3 is one at which all paths of the state-space kernel learn alike, on any seed (450 to 550 steps): at
    5e-3 the rounding of the path decided whether it took 700 or 1,200. Attention takes 800 at 5e-3, 1,100 at 2e-3.
    """
    config = SYNTHETIC.build(
        [
            f"model={model}",
            "task.length=10",
            "task.vocabulary=8",
            "task.train_sequences=2000",
            "task.test_sequences=200",
            f"train.learning_rate={rate}",
            "train.warmup_steps=50",
            "train.max_steps=2000",
            "train.eval_every=50",
            "train.stop_at=0.95",
            "model.embedding_dropout=0",
        ]
    )
    data = build_task(config.task, 0)
    module, batches = build_module(config, data, 0), training_batches(data, config.train.batch_sequences, 0, 0)
    callback = RunCallback(tmp_path, config.train, 0, "learning", validates_last=True)
    fit(module, batches, scored_batches(data), TrainerOptions(2000, config.train.eval_every, tmp_path), callback)
    assert module.stopped_early
    scores = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert scores[-1]["test_accuracy"] >= 0.95


def test_plain_convolution_has_a_name_and_a_path_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    @contextlib.contextmanager
    def forced_path(name: str) -> Iterator[None]:
        asked.append(name)
        yield

    monkeypatch.setattr("lst.kernels.ssm.forced_path", forced_path)
    fast, plain = SYNTHETIC.build(["model=h3"]), SYNTHETIC.build(["model=h3", "convolution=plain"])
    for config in (fast, plain):
        with convolution_path(config):
            pass
    assert asked == ["convolution"]
    assert (fast.label, plain.label) == ("h3", "h3-plain")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"version": 9},
            "result.json has version 9, this project reads 1.*again in another run_dir",
        ),
        ({"task": "listops"}, "result.json.*model is missing.*Delete .*seed-0 and train again"),
        ([], "is damaged: .*result.json.*Delete .*seed-0 and train again"),
    ],
)
def test_the_report_refuses_a_result_of_another_form_with_its_place(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "listops" / "h3" / "seed-0" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"(?s){said}"):
        found_results(tmp_path)
