"""``lst voice``: a training is resumed bit for bit, and files of every kind are converted or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
import torch
from made_run import make_utterance, write_data
from safetensors.torch import load_file
from small_voices import TINY_WORDS, hum, random_voice

from lst.api.voices import trained_voices
from lst.cli import main
from lst.configs.compose import VOICE
from lst.data.alignment.hmm import PHONES, PhoneAligner
from lst.data.prepared import PreparedData
from lst.errors import UserError
from lst.recipes.voice.corpus import VoiceCorpus
from lst.recipes.voice.features import FEATURE_FOLDER, ShardTask, make_features, make_shard_features, read_features
from lst.recipes.voice.module import VoiceModule
from lst.recipes.voice.train import train_voice, voice_folder
from lst.runs import RunFolder
from lst.storage.tensors import open_tensors
from lst.voice.converter import StyleVoice
from lst.voice.model import VoiceBatch
from lst.voice.saved import STYLE_VOICE_FILE, SavedVoice

pytest.importorskip("pyworld", reason="the extra voice is not installed")
TRAINING = [*TINY_WORDS, "train.teacher_steps=3", "train.student_steps=3", "train.rows=2", "train.piece_s=0.5"]
TRAINING += ["train.eval_every=2", "train.checkpoint_every=2", "train.eval_rows=2", "train.reference_s=0.5"]
TRAINING += ["loss.adversarial=1", "loss.style=1", "train.accelerator=cpu"]


def fake_phones(self: PhoneAligner, waveform: np.ndarray, text: str) -> np.ndarray:
    """Each phone in turn for 50 ms."""
    return (np.arange(len(waveform) // 160) // 5 % len(PHONES)).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of hums, with features of fake phones."""
    root = tmp_path_factory.mktemp("voice") / "run"
    (root / "audio").mkdir(parents=True)
    made = [make_utterance(number, root / "audio", "one two three four", 2.0 + number / 4) for number in range(6)]
    write_data(RunFolder(root), {"train": made[:4], "valid": made[4:]})
    with patch.object(PhoneAligner, "phones", fake_phones):
        make_features(PreparedData(root / "data"), 1)
    return root


def words(run: Path, *more: str) -> list[str]:
    return [f"run_dir={run}", *TRAINING, *more]


@pytest.fixture(scope="module")
def trained(run: Path) -> Path:
    """The file of a voice that was trained without a stop."""
    return train_voice(VOICE.build(words(run, "name=whole")))


def metrics(run: Path, name: str) -> list[dict]:
    found = []
    for stage in (1, 2):
        lines = (run / "voice" / name / f"stage-{stage}" / "metrics.jsonl").read_text().splitlines()
        found += [json.loads(line) for line in lines]
    return found


@pytest.mark.parametrize("stage", [1, 2])
def test_stopped_at_any_step_and_resumed_equals_uninterrupted(
    run: Path, trained: Path, stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the third step, after the checkpoint of the second."""
    name, loss = f"stopped-{stage}", VoiceModule.batch_loss

    def stops(self: VoiceModule, batch: VoiceBatch) -> torch.Tensor:
        if self.stage == stage and self.global_step == 2:
            raise OSError("the machine is gone")
        return loss(self, batch)

    monkeypatch.setattr(VoiceModule, "batch_loss", stops)
    config = VOICE.build(words(run, f"name={name}"))
    with pytest.raises(OSError, match="the machine is gone"):
        train_voice(config)
    monkeypatch.undo()
    assert not (voice_folder(config) / STYLE_VOICE_FILE).exists()
    first, second = load_file(trained), load_file(train_voice(config))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert metrics(run, name) == metrics(run, "whole")


def test_both_stages_train_and_validate(run: Path, trained: Path) -> None:
    rows = metrics(run, "whole")
    losses = [row for row in rows if "loss" in row]
    assert len(losses) == 6
    for row in losses:
        assert row["loss"] == pytest.approx(sum(v for k, v in row.items() if k.startswith("loss_")), rel=1e-4)
    assert losses[0]["learning_rate"] != losses[1]["learning_rate"], "the schedule moves"
    assert {"valid_teacher_mel", "valid_student_mel", "valid_units_mel"} <= rows[-2].keys() | rows[-1].keys() | set(
        rows[-3]
    )
    saved = SavedVoice.load(trained)
    assert (saved.description["num_speakers"], saved.description["phones"]) == (3, list(PHONES))
    assert train_voice(VOICE.build(words(run, "name=whole"))) == trained, "nothing is left to do"


def test_other_settings_are_refused(run: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stage 1: train\.rows: 2 then, 3 now"):
        train_voice(VOICE.build(words(run, "name=whole", "train.rows=3")))
    with pytest.raises(UserError, match="lst prepare"):
        train_voice(VOICE.build(words(tmp_path)))


def test_features_are_made_once_and_again_where_the_shard_is_another(run: Path, tmp_path: Path) -> None:
    data = PreparedData(run / "data")
    files = sorted((run / "data" / FEATURE_FOLDER).iterdir())
    assert [path.name for path in files] == ["train-000000.safetensors", "valid-000000.safetensors"]
    before = [path.stat().st_mtime_ns for path in files]
    make_features(data, 1)
    assert [path.stat().st_mtime_ns for path in files] == before
    found = read_features(data, "train")
    assert sorted(found) == [f"utterance-{number}" for number in range(4)]
    own = found["utterance-3"]
    assert len(own.phones) == 275
    assert len(own.pitch_hz) == 220
    with pytest.raises(UserError, match=r"texts_are_right=true: the phones of .* were placed with false"):
        make_features(data, 1, texts_are_right=True)
    content = files[0].read_bytes()
    files[0].write_bytes(content[:-3])
    with pytest.raises(UserError, match=r"damaged: .*train-000000\.safetensors .* Delete it; lst voice train"):
        make_features(data, 1)
    files[0].write_bytes(content)


def test_what_cannot_be_aligned_is_left_out_and_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the real aligner, which hears no words in a hum, and where the recordings of two utterances are gone."""
    data = PreparedData(run / "data")
    path = run / "data" / FEATURE_FOLDER / "train-000000.safetensors"
    before = path.read_bytes()
    rows = dict(list(data.manifest.items())[:2])
    make_shard_features(ShardTask(data.folder, "train", 0, rows))
    read_features(data, "train")
    assert "train: 4 utterances have no phones and are left out of the voice" in capsys.readouterr().err
    left_out = json.loads(open_tensors(path).metadata["lst"])["left_out"]
    assert ["does not fit" in one["reason"] for one in left_out] == [True, True, False, False]
    assert left_out[2] == {"id": "utterance-2", "reason": "it has no recording"}
    path.write_bytes(before)


def test_a_piece_is_cut_at_equal_times(run: Path) -> None:
    corpus = VoiceCorpus(PreparedData(run / "data"), "train", 16_000)
    whole = corpus.piece(0)
    piece = whole.cut(7, 12)
    assert np.array_equal(piece.mel, whole.mel[:, 14:38])
    assert np.array_equal(piece.units, whole.units[7:19])
    assert np.array_equal(piece.prosody, whole.prosody[:, 14:38])
    longer = whole.cut(0, len(whole.phones) + 5)
    assert np.array_equal(longer.mel[:, -10:], whole.mel[:, :10]), "one that is too short is repeated"
    one, other = (corpus.batch(3, 12, 16, np.random.default_rng(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("saved")
    random_voice().save(folder / STYLE_VOICE_FILE)
    return f"voice={folder / STYLE_VOICE_FILE}"


def write_sound(path: Path, duration_s: float = 1.0, rate_hz: int = 16_000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = hum(duration_s, rate_hz)
    soundfile.write(path, np.stack([samples] * channels, axis=1), rate_hz)
    return path


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (48_000, 2), (16_000, 1)])
def test_any_rate_and_stereo_are_converted(tmp_path: Path, voice: str, rate_hz: int, channels: int) -> None:
    source, reference = (write_sound(tmp_path / name, 1.0, rate_hz, channels) for name in ("a.wav", "b.wav"))
    out = tmp_path / "out" / "c.wav"
    assert main(["voice", "convert", voice, f"source={source}", f"reference={reference}", f"out={out}"]) == 0
    with soundfile.SoundFile(out) as file:
        assert (file.samplerate, file.frames) == (16_000, 16_000)
        assert file.comment == "converted by LST: words of a.wav, voice of b.wav"


def test_a_folder_is_converted_and_all_its_problems_are_told_first(
    tmp_path: Path, voice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, folder = write_sound(tmp_path / "b.flac"), tmp_path / "in"
    write_sound(folder / "x.wav")
    write_sound(folder / "deep" / "y.flac", 0.3)
    given = ["voice", "convert", voice, f"source={folder}", f"reference={reference}", f"out={tmp_path / 'out'}"]
    assert main([*given, "--dry-run"]) == 0
    assert main(given) == 0
    assert sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.wav")) == [
        Path("deep/y.wav"),
        Path("x.wav"),
    ]
    (folder / "empty.wav").touch()
    write_sound(folder / "x.flac")
    soundfile.write(folder / "none.wav", np.zeros(0), 16_000)
    assert main([*given[:-1], f"out={tmp_path / 'other'}"]) == 2
    told = capsys.readouterr().err
    for wanted in ("empty.wav", "none.wav is empty", "x.flac: another source becomes"):
        assert wanted in told
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["source=A"], "needs reference=, out="),
        (["source=A", "reference=SHORT", "out=c.wav"], "SHORT lasts 0.20 s: give 0.5 s or more"),
        (["source=MISSING", "reference=A", "out=c.wav"], "MISSING does not exist"),
        (["source=A", "reference=SILENT", "out=c.wav"], "SILENT is silent"),
        (["source=A", "reference=A", "out=A"], "would overwrite what is read"),
        (["source=A", "reference=A", "out=c.mp3"], "name a file that ends with .wav"),
        (["source=A", "reference=A", "out=c.wav", "voice=none.safetensors"], "there is no voice none.safetensors"),
    ],
)
def test_what_cannot_be_converted(
    tmp_path: Path, voice: str, more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"A": "a.wav", "SHORT": "short.wav", "SILENT": "silent.wav", "MISSING": "missing.wav"}
    write_sound(tmp_path / "a.wav")
    write_sound(tmp_path / "short.wav", 0.2)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    for key, name in names.items():
        more = [word.replace(f"={key}", f"={tmp_path / name}") for word in more]
        told = told.replace(key, str(tmp_path / name))
    assert main(["voice", "convert", *([] if "voice=" in more[-1] else [voice]), *more]) == 2
    assert told in capsys.readouterr().err


def test_units_are_spoken(tmp_path: Path, voice: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, reference = tmp_path / "c.wav", write_sound(tmp_path / "b.wav")
    (tmp_path / "units.txt").write_text("[1, 2, 3]\n")
    for units in ("1 1 2 10", str(tmp_path / "units.txt")):
        assert main(["voice", "speak", voice, f"units={units}", f"out={out}", f"reference={reference}"]) == 0
    with soundfile.SoundFile(out) as file:
        assert file.frames == round(3 / 25 * 16_000)
        assert file.comment == "synthesised by LST: 3 units, voice of b.wav"
    assert main(["voice", "speak", voice, f"units={' '.join(['7'] * 200)}", f"out={out}"]) == 0, "no name of a file"
    problems = {
        "units=1 11": "knows units from 0 to 10",
        "units=one": "give numbers such as",
        f"units={'one ' * 300}": "give numbers such as",
        "text=hello": "lm=NAME",
    }
    for word, told in problems.items():
        assert main(["voice", "speak", voice, word, f"out={out}"]) == 2
        assert told in capsys.readouterr().err
    assert main(["voice", "speak", voice, f"out={out}"]) == 2
    assert "either units= or text=" in capsys.readouterr().err


def test_models_of_a_run_speak_with_its_voice(run: Path, trained: Path, tmp_path: Path) -> None:
    final = RunFolder(run).final("m")
    assert trained in trained_voices(final)
    assert trained_voices(tmp_path) == trained_voices(Path("/model")) == []
    random_voice().save(tmp_path / STYLE_VOICE_FILE)
    assert trained_voices(tmp_path) == [tmp_path / STYLE_VOICE_FILE]
    data = PreparedData(run / "data")
    saved = SavedVoice.load(trained)
    assert saved.description["units_sha256"] == data.codec.sha256
    assert len(StyleVoice(saved).sound(data.train[0].units)) == len(data.train[0].units) * 640
