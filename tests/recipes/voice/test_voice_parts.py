"""Parts of a voice: units and vocoder are trained, stopped and resumed bit for bit; models of the run speak by them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from made_run import make_utterance, write_data
from safetensors.torch import load_file
from small_voices import TINY_WORDS, hum

from lst.api.voices import voices_of_run
from lst.cli import main
from lst.configs.compose import VOICE, build_config
from lst.data.prepared import PreparedData
from lst.errors import UserError
from lst.recipes.benchmarks.figures import Figures
from lst.recipes.benchmarks.resynthesis import CEILING, measure
from lst.recipes.quickstart import train_arms
from lst.recipes.voice import quick
from lst.recipes.voice.part_modules import PartModule, SpectrumModule, UnitsModule
from lst.recipes.voice.parts import FILES, train_part
from lst.recipes.voice.quick import quick_voice_command
from lst.recipes.voice.train import voice_folder
from lst.runs import RunFolder
from lst.voice.saved import SavedVoice
from lst.voice.vocoders.of_mels import TrainedVocoder

pytest.importorskip("pyworld", reason="the extra voice is not installed")
TRAINING = [*TINY_WORDS, "spectrum.dim=8", "spectrum.layers=1", "train.steps=3", "train.rows=2", "train.piece_s=0.5"]
TRAINING += ["train.eval_every=2", "train.checkpoint_every=2", "train.eval_rows=2", "train.reference_s=0.5"]
TRAINING += ["train.accelerator=cpu"]
MODULES = {"units": UnitsModule, "vocoder": SpectrumModule}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of hums; there are no features of phones."""
    root = tmp_path_factory.mktemp("parts") / "run"
    (root / "audio").mkdir(parents=True)
    made = [make_utterance(number, root / "audio", "one two three four", 1.0 + number / 4) for number in range(6)]
    write_data(RunFolder(root), {"train": made[:4], "valid": made[4:]})
    return root


def train(run: Path, part: str, *more: str) -> Path:
    return train_part(VOICE.build([f"run_dir={run}", f"part={part}", *TRAINING, *more]))


@pytest.fixture(scope="module")
def trained(run: Path) -> dict[str, Path]:
    """The files of both parts, trained without a stop."""
    return {part: train(run, part, "name=whole") for part in FILES}


@pytest.mark.parametrize("part", FILES)
def test_stopped_and_resumed_equals_uninterrupted(
    run: Path, trained: dict[str, Path], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third step, after the checkpoint of the second."""
    loss = MODULES[part].batch_loss

    def stops(self: PartModule, batch: object) -> torch.Tensor:
        if self.global_step == 2:
            raise OSError("the machine is gone")
        return loss(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(MODULES[part], "batch_loss", stops)
    with pytest.raises(OSError, match="the machine is gone"):
        train(run, part, "name=stopped")
    monkeypatch.undo()
    final = voice_folder(VOICE.build([f"run_dir={run}", "name=stopped"])) / FILES[part]
    assert not final.exists()
    first, second = load_file(trained[part]), load_file(train(run, part, "name=stopped"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    rows = [(run / "voice" / name / part / "metrics.jsonl").read_text() for name in ("whole", "stopped")]
    assert rows[0] == rows[1]
    assert sum("loss" in json.loads(line) for line in rows[0].splitlines()) == 3


def test_what_learns_and_what_is_kept(run: Path, trained: dict[str, Path]) -> None:
    saved = SavedVoice.load(trained["units"])
    assert (saved.description["has_student"], saved.description["has_units"]) == (False, True)
    assert saved.description["phones"] == ["SIL"]
    vocoder = TrainedVocoder.load(trained["vocoder"])
    assert vocoder.description["sample_rate_hz"] == 16_000
    assert any(parameter.abs().sum() > 0 for parameter in vocoder.network.out.parameters()), "it has learned"
    assert train(run, "units", "name=whole") == trained["units"], "nothing is left to do"
    with pytest.raises(UserError, match=r"train\.rows: 2 then, 3 now"):
        train(run, "units", "name=whole", "train.rows=3")


def test_models_of_the_run_speak_by_both(run: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    data = PreparedData(run / "data")
    voice = voices_of_run(run, data.codec)["whole"]
    assert isinstance(voice.vocoder, TrainedVocoder)
    units = data.train[0].units
    sound = voice.sound(units)
    assert len(sound) == len(units) * 640
    assert voice.name == "a decoder trained on speech, sound by a vocoder trained on speech"
    with pytest.raises(UserError, match="converts nothing"):
        voice.convert(hum(1.0), voice.saved.default_style)
    given = ["voice", "speak", f"run_dir={run}", "name=whole", "units=1 1 2", f"out={tmp_path / 'a.wav'}"]
    assert main(given) == main([*given, "vocoder=griffin_lim"]) == 0
    given = ["voice", "speak", f"run_dir={run}", "name=whole", f"out={tmp_path / 'a.wav'}", "--dry-run"]
    assert main([*given, "units=1 1 9999"]) == 2, "the plan refuses what the command would"
    for command in (["eval"], ["eval", "--dry-run"]):
        assert main(["voice", *command, f"run_dir={run}", "name=whole"]) == 2
    soundfile.write(tmp_path / "b.wav", hum(1.0), 16_000)
    given = ["voice", "convert", f"run_dir={run}", "name=whole", f"source={tmp_path / 'b.wav'}", "--dry-run"]
    assert main([*given, f"reference={tmp_path / 'b.wav'}", f"out={tmp_path / 'c.wav'}"]) == 2


@pytest.mark.parametrize(
    ("part", "word", "needed"),
    [
        ("units", "loss.cycle=2", "part=whole"),
        ("units", "train.teacher_steps=3", "part=whole"),
        ("units", "spectrum.dim=16", "part=vocoder"),
        ("vocoder", "model.style_dim=8", "part=whole|units"),
        ("vocoder", "train.reference_s=1", "part=whole|units"),
        ("units", "texts_are_right=true", "part=whole"),
    ],
)
def test_options_of_other_parts_are_refused(
    part: str, word: str, needed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["voice", "train", f"run_dir={tmp_path}", f"part={part}", word, "--dry-run"]) == 2
    assert f"{word}: has no effect with part={part}; it is read with {needed}" in capsys.readouterr().err


def test_a_name_has_one_kind_of_voice(run: Path, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["voice", "train", f"run_dir={run}", "name=whole", "--dry-run"]) == 2
    assert "holds a voice of part=units: train the whole voice under another name=NAME" in capsys.readouterr().err
    (run / "voice" / "begun" / "stage-1").mkdir(parents=True)
    with pytest.raises(UserError, match="holds a whole voice: train part=units under another name=NAME"):
        train(run, "units", "name=begun")


def test_plans_and_what_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["voice", "train", f"run_dir={run}", "part=vocoder", "name=planned", "--dry-run"]
    assert main(given) == 0
    assert "vocoder of voice planned: 800 steps" in capsys.readouterr().out
    assert main(["voice", "train", f"run_dir={tmp_path}", "part=units", "--dry-run"]) == 0
    assert "it waits for prepared data" in capsys.readouterr().out
    assert main(["voice", "train", f"run_dir={run}", "train.steps=5"]) == 2
    assert "part=" in capsys.readouterr().err


def test_quickstart_trains_a_voice_where_it_can(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = quick_voice_command(build_config([f"run_dir={run}"]))
    assert shipped is not None
    assert main([*shipped.words[3:], "--dry-run"]) == 0, "every option that is passed on is read"
    small = [word for word in TRAINING if word.partition("=")[0] != "train.steps"]
    read = [word for word in small if not word.startswith(("spectrum.", "model.reader_dim="))]
    monkeypatch.setattr(quick, "_WORDS", ("part=units", "name=units", *read))
    assert quick_voice_command(build_config([f"run_dir={run}", "voice.steps=0"])) is None
    config = build_config([f"run_dir={run}", "voice.steps=1"])
    with monkeypatch.context() as patch:
        patch.setattr(quick.importlib.util, "find_spec", lambda name: None)
        assert quick_voice_command(config) is None
        assert "models speak by mean spectra" in capsys.readouterr().err
    command = quick_voice_command(config)
    assert command is not None
    train_arms({}, command)
    assert "units" in voices_of_run(run, PreparedData(run / "data").codec)
    assert quick_voice_command(config) is None, "it is trained"
    # A voice that fails ends nothing else.
    broken = replace(command, words=(*command.words, "train.rows=none"), log=tmp_path / "broken.log")
    train_arms({}, broken)
    assert "models speak by mean spectra: voice units (exit status 2)" in capsys.readouterr().err


class Deaf:
    """Hears the same in everything."""

    name = "deaf"

    def transcribe(self, waveform: np.ndarray) -> str:
        return "one two"


def test_resynthesis_is_measured(run: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("jiwer", reason="the extra asr is not installed")
    figures = Figures("resynthesis", tmp_path)
    measure(figures, run, PreparedData(run / "data"), Deaf(), 1, "valid")
    rows = {row.name: row for row in figures.rows}
    assert rows[f"{CEILING}: word errors, %"].value == rows["recording: word errors, %"].value == 50
    assert rows["units, voice whole: word errors, %"].target == 100
    assert rows["true mel, vocoder of whole: distance of spectra"].value > 0
    assert "units, mean spectra: word errors, %" in rows
