"""``lst generate`` in text and sound, one prompt and many; ``lst export hub=``; spoken continuations in the report."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import soundfile
from whole_models import save_whole

import lst
from lst.api import prompts
from lst.cli import main
from lst.configs.compose import build_config
from lst.data.audio import read_audio
from lst.data.prepared import PreparedData
from lst.errors import UserError
from lst.model.checkpoint import load_model, save_model
from lst.recipes.report.record import read_run
from lst.recipes.report.spoken import SpokenSection, spoken_section
from lst.runs import RunFolder

FEW = ["generate.max_new_tokens=10", "name=static"]


@pytest.fixture(scope="module")
def run(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generate") / "run"
    shutil.copytree(smoke_data, root)
    save_whole(root, "static", "patching=static")
    save_whole(root, "single", "patching=static", "patching.deduplicate=true", seed=1)
    return root


@pytest.fixture(scope="module")
def audio(run: Path) -> Path:
    data = PreparedData(run / "data")
    return Path(data.manifest[data.valid[0].id].path)


def test_text_audio_or_both_become_sound(run: Path, audio: Path, tmp_path: Path) -> None:
    for number, prompt in enumerate(
        (
            ["generate.text=Anna went"],
            [f"generate.audio={audio}"],
            ["generate.text=Anna went", f"generate.audio={audio}"],
        )
    ):
        out = tmp_path / f"{number}.wav"
        words = ["generate", f"run_dir={run}", *FEW, *prompt, f"out={out}"]
        # A model of random weights may end at once.
        assert any(main([*words, f"seed={seed}"]) == 0 for seed in range(6))
        samples, rate_hz = soundfile.read(out)
        assert (len(samples) % 640, rate_hz) == (0, 16_000)
        assert np.abs(samples).max() < 1


def test_both_are_read_in_order(
    run: Path, audio: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", f"run_dir={run}", *FEW, "generate.text=Anna went", f"generate.audio={audio}"]
    read: list[Path] = []
    monkeypatch.setattr(prompts, "read_audio", lambda path, rate_hz: read.append(path) or read_audio(path, rate_hz))
    assert main([*words, "generate.modality=text", "generate.temperature=0"]) == 0
    assert len(read) == 1, "a spoken prompt is encoded once"
    told = capsys.readouterr().out
    assert re.search(r"prompt: +Anna went .*: \d+ \d+", told)
    model = lst.load(run, "static")
    prompt = ["Anna went", audio]
    expected = model.generate(prompt, modality="text", max_new_tokens=10, temperature=0)  # type: ignore[arg-type]
    assert f"continuation: {expected.text}\n" in told
    units = model.units(audio)
    again = model.generate(["Anna went", units], modality="text", max_new_tokens=10, temperature=0)
    assert again.text == expected.text
    with pytest.raises(UserError, match="of samples, give"):
        model.generate(units.astype(np.int64) + 60_000)


def test_streamed_text_is_the_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", f"run_dir={run}", *FEW, "generate.text=Anna went", "seed=3"]
    assert main(words) == 0
    whole = capsys.readouterr().out
    assert main([*words, "generate.stream=true"]) == 0
    assert capsys.readouterr().out == whole


def test_a_copied_folder_needs_no_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = shutil.copytree(run / "models/single/final", tmp_path / "model")
    assert main(["generate", f"generate.model={copied}", "generate.text=Anna", f"out={tmp_path}/a.wav", *FEW[:1]]) == 0
    assert "s of sound" in capsys.readouterr().out


def test_a_model_of_an_earlier_version_speaks_by_the_audio_of_its_run(run: Path, tmp_path: Path) -> None:
    own = tmp_path / "run"
    shutil.copytree(run / "data", own / "data")
    save_model(own / "models/static/final", *load_model(run / "models/static/final"))
    for root in (run, own):
        words = [f"run_dir={root}", *FEW, "generate.text=Anna", f"out={root}/a.wav"]
        assert main(["generate", *words]) == 0
    assert (run / "a.wav").read_bytes() == (own / "a.wav").read_bytes()


def test_many_prompts_become_rows_and_sound(run: Path, audio: Path, tmp_path: Path) -> None:
    shutil.copy(audio, tmp_path / "prompt.flac")
    rows = [{"id": "a", "text": "Anna went"}, {"id": "b", "audio": "prompt.flac"}, {"id": "c", "text": "Tom"}]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    words = ["generate", f"run_dir={run}", *FEW, f"generate.prompts={prompts}", f"out={out}"]
    assert main([*words, "--dry-run"]) == 0
    assert not out.exists()
    assert main(words) == 0
    found = [json.loads(line) for line in (out / "continuations.jsonl").read_text().splitlines()]
    assert [(row["id"], bool(row["text"]), row["audio"]) for row in found] == [
        ("a", True, ""),
        ("b", False, "b.wav"),
        ("c", True, ""),
    ]
    assert found[0]["text"] == lst.load(run, "static").generate("Anna went", max_new_tokens=10).text
    assert len(soundfile.read(out / "b.wav")[0]) == 640 * len(found[1]["units"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generate.text=a", "out=x.mp3"], "write out=FILE.wav"),
        (["generate.text=a", "out=x.wav", "generate.modality=text"], "out= is for sound"),
        (["generate.prompts=PROMPTS"], "name a folder with out=FOLDER"),
        (["generate.prompts=PROMPTS", "out=x", "generate.text=a"], "leave generate.text= and generate.audio= out"),
        (["generate.prompts=/no/such.jsonl", "out=x"], "there is no such file"),
        (["generate.prompts=PROMPTS", "out=x"], "prompts in"),
        (["generate.model=/no/such", "generate.text=a"], "no model in /no/such"),
    ],
)
def test_prompts_that_cannot_be_continued_are_named(
    words: list[str], told: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"id": "a", "text": " "}, {"id": "../b", "text": "x"}, {"id": "c", "audio": "none.wav"}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    given = [word.replace("PROMPTS", str(prompts)) for word in words]
    assert main(["generate", f"run_dir={run}", "name=static", *given]) == 2
    error = capsys.readouterr().err
    assert told in error
    if told == "prompts in":
        for part in ("'a' occurs 2 times", "'../b': it names a file", "'a' has neither", "there is no audio"):
            assert part in error
    assert not (tmp_path / "x").exists()


def test_a_prompt_that_is_cut_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a", "text": "b"}\n{"id": "c", "te')
    words = [f"run_dir={run}", "name=static", f"generate.prompts={tmp_path}/p.jsonl", f"out={tmp_path}/x"]
    assert main(["generate", *words]) == 2
    assert "line 2 is not whole JSON" in capsys.readouterr().err


def test_export_writes_a_whole_model_with_its_card(
    run: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "public"
    words = ["export", f"run_dir={run}", "name=static", f"hub={target}", "export.licence=apache-2.0"]
    assert main([*words, "--dry-run"]) == 0
    assert not target.exists()
    assert main(words) == 0
    assert "has no results of these weights" in capsys.readouterr().err
    card = (target / "README.md").read_text()
    for part in (
        "license: apache-2.0",
        "| data | ",
        "synthesised speech",
        "lst.load(",
        "It was not evaluated",
        "static",
    ):
        assert part in card
    context = ["Anna went", audio]
    assert lst.load(target).score(context, ["home"]) == lst.load(run, "static").score(context, ["home"])  # type: ignore[arg-type]
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_card_has_the_figures_of_these_weights(run: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(run, tmp_path / "run"))
    assert main(["eval", f"run_dir={own}", "eval.max_items=4", "eval.bootstrap_samples=100"]) == 0
    assert main(["report", f"run_dir={own}", "report.continuation_s=0"]) == 0
    assert main(["export", f"run_dir={own}", "name=static", f"hub={tmp_path}/whole"]) == 0
    card = (tmp_path / "whole/README.md").read_text()
    figures = json.loads((own / "results.json").read_text())["models"]
    own_figures = next(model for model in figures if model["name"] == "static")["directions"]["S→S"]
    assert (
        f"| S→S | {own_figures['score']} | {own_figures['num_items']} | {100 * own_figures['accuracy']:.1f} |" in card
    )


def test_export_pushes_to_the_hub(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is a folder here, with the two calls of its client."""
    calls: list[Any] = []

    class FakeApi:
        def create_repo(self, name: str, **options: Any) -> str:
            calls.append((name, options))
            return f"https://hub/{name}"

        def upload_folder(self, repo_id: str, folder_path: Path, **_: Any) -> None:
            shutil.copytree(folder_path, tmp_path / "hub" / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    assert main(["export", f"run_dir={run}", "name=single", "hub=hub:someone/speech"]) == 0
    assert calls == [("someone/speech", {"private": True, "exist_ok": True})]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(tmp_path / "hub" / name))
    pushed = lst.load("someone/speech")
    assert pushed.score("Anna", ["went"]) == lst.load(run, "single").score("Anna", ["went"])


def test_a_hub_that_refuses_is_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Refusing:
        def create_repo(self, *_: Any, **__: Any) -> str:
            raise OSError("offline\nmore")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    assert main(["export", f"run_dir={run}", "name=single", "hub=hub:someone/speech"]) == 2
    error = capsys.readouterr().err
    assert "hub=hub:someone/speech cannot be written (OSError: offline)" in error
    assert "Traceback" not in error


def test_the_report_plays_what_each_model_says(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def section_of(root: Path, duration_s: int) -> SpokenSection | None:
        words = [f"run_dir={root}", f"report.continuation_s={duration_s}"]
        return spoken_section(read_run(build_config(words), words))

    section = section_of(run, 1)
    assert section is not None
    assert section.problems == []
    labels = [clip.label for clip in section.clips]
    assert labels[:2] == ["prompt", "what really followed"]
    assert sorted(labels[2:]) == ["single", "static"]
    assert all(clip.address.startswith("data:audio/") or clip.shown == "it ended at once" for clip in section.clips)
    assert section.recogniser
    rows = PreparedData(run / "data").manifest
    with monkeypatch.context() as patched:
        patched.setattr(PreparedData, "manifest", {name: replace(row, language="de") for name, row in rows.items()})
        german = section_of(run, 1)
    assert german is not None
    assert (german.recogniser, {clip.heard for clip in german.clips}) == ("", {""}), "it hears English alone"
    assert section_of(run, 0) is None
    own = tmp_path / "run"
    shutil.copytree(run / "data", own / "data")
    save_model(RunFolder(own).final("old"), *load_model(run / "models/static/final"))
    assert section_of(own, 1) is None, "it has no voice of its own"
