"""``lst voice eval``: what is measured of known sounds, and the files that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from small_voices import hum, random_voice

from lst.cli import main
from lst.configs.compose import VOICE
from lst.data.alignment.aligner import AlignmentError
from lst.data.alignment.hmm import PhoneAligner
from lst.data.corpora.manifest import write_manifest
from lst.data.corpora.rows import ManifestRow
from lst.data.prepared import UNITS_FILE
from lst.errors import UserError
from lst.evaluation.benchmark.recognise import spoken_keys
from lst.evaluation.speakers import SpectralMeasure, load_speaker_encoder
from lst.recipes.voice.evaluate import SYSTEMS
from lst.recipes.voice.measures import path_distance, probe_accuracy, swapped
from lst.recipes.voice.pairs import Pair, recorded_pairs
from lst.tokenizers.kmeans import Centroids, KmeansTokenizer
from lst.tokenizers.units import NUM_FEATURES
from lst.voice.saved import STYLE_VOICE_FILE


def test_distance_along_the_best_path() -> None:
    mel = np.random.default_rng(0).normal(size=(80, 12)).astype(np.float32)
    assert path_distance(mel, mel) == 0
    assert path_distance(np.repeat(mel, 2, axis=1), mel) == pytest.approx(0), "another speed costs nothing"
    assert path_distance(mel + 0.5, mel) <= 0.5 + 1e-6
    assert path_distance(mel[:, ::-1], mel) > 0.3
    assert path_distance(np.zeros((80, 1)), np.ones((80, 3))) == pytest.approx(1)


def test_swap_takes_over_means_and_spreads() -> None:
    rng = np.random.default_rng(0)
    mel, reference = rng.normal(size=(80, 30)), 3 + 2 * rng.normal(size=(80, 50))
    found = swapped(mel, reference)
    np.testing.assert_allclose(found.mean(axis=1), reference.mean(axis=1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.std(axis=1), reference.std(axis=1), rtol=1e-3)


def test_the_probe_finds_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    voices = ["a", "b"] * 10
    noise = rng.normal(size=(20, 3))
    is_a = np.array([voice == "a" for voice in voices])
    assert probe_accuracy(np.column_stack([noise, 9 * is_a]), voices) == 1
    assert probe_accuracy(noise, voices) < 0.9
    assert probe_accuracy(noise[:1], ["a"]) == 0


def test_voices_are_told_apart_at_any_level(tmp_path: Path) -> None:
    """By mean spectra, and by a speaker encoder whose weights are trusted."""
    weights = {
        f"lstm.{name}": tensor for name, tensor in torch.nn.LSTM(40, 256, 3, batch_first=True).state_dict().items()
    } | {f"linear.{name}": tensor for name, tensor in torch.nn.Linear(256, 256).state_dict().items()}
    torch.save({"model_state": weights}, tmp_path / "pretrained.pt")
    with pytest.raises(UserError, match=r"pickle.*eval\.trust=true"):
        load_speaker_encoder(tmp_path / "pretrained.pt", trust=False)
    torch.save({"other": 1}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="no speaker encoder"):
        load_speaker_encoder(tmp_path / "other.pt", trust=True)
    low, high = hum(1.0, pitch_hz=100), hum(1.0, pitch_hz=300)
    for measure in (SpectralMeasure(), load_speaker_encoder(tmp_path / "pretrained.pt", trust=True)):
        vectors = [measure.vector(one) for one in (low, high, 0.5 * low)]
        assert np.linalg.norm(vectors[0]) == pytest.approx(1, rel=1e-4)
        assert vectors[0] @ vectors[2] > 0.98
    assert SpectralMeasure().vector(low) @ SpectralMeasure().vector(high) < 0.95


class Deaf:
    """A recogniser that hears one thing."""

    name = "deaf"

    def transcribe(self, waveform: np.ndarray) -> str:
        assert waveform.dtype == np.float32
        return "one"


def test_recorded_speakers_are_converted_into_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the utterances that are held out, and without those that are too short; their lengths are in the audio."""
    rows = []
    for number in range(10):
        path = tmp_path / f"u{number}.wav"
        soundfile.write(path, np.zeros(8000 if number == 0 else 32_000), 8000)
        split = "train" if number == 9 else "dev"
        rows.append(ManifestRow(f"u{number}", path, f"text {number}", f"s{number % 3}", split))
    write_manifest(tmp_path / "manifest.jsonl", rows)
    config = VOICE.build([f"eval.corpus={tmp_path}", "eval.sentences=8"])
    pairs = recorded_pairs(config)
    assert len(pairs) == 8
    for pair in pairs:
        assert pair.truth is None
        assert pair.source.speaker == pair.source_voice != pair.reference.speaker == pair.other.speaker
        assert pair.reference != pair.other
        assert {"u0", "u9"}.isdisjoint({pair.source.id, pair.reference.id, pair.other.id})
    assert len({(pair.source_voice, pair.reference.speaker) for pair in pairs}) == 6
    assert "1 recordings are left out, such as" in capsys.readouterr().err
    pairs = recorded_pairs(VOICE.build([f"eval.corpus={tmp_path}", "eval.sentences=50"]))
    assert len({pair.source.id for pair in pairs}) == len(pairs) == 8, "the probe must not meet a recording again"
    assert "there are 8 different recordings to convert" in capsys.readouterr().err
    write_manifest(tmp_path / "manifest.jsonl", rows[:2])
    with pytest.raises(UserError, match="two speakers or more with two recordings each of 3 to 15 s; it has 0"):
        recorded_pairs(config)


def test_a_page_of_recordings_has_no_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyworld", reason="the extra voice is not installed")
    path = tmp_path / "a.wav"
    soundfile.write(path, hum(0.6), 16_000)
    row = ManifestRow("a", path, "one")
    monkeypatch.setattr(
        "lst.recipes.voice.pairs.recorded_pairs", lambda config: [Pair("one", name, row, row, row) for name in "ab"]
    )
    monkeypatch.setattr(PhoneAligner, "phones", lambda self, waveform, text: np.zeros(60, np.uint8))
    random_voice().save(tmp_path / "voice" / "v" / STYLE_VOICE_FILE)
    assert main(["voice", "eval", f"run_dir={tmp_path}", "name=v", f"eval.corpus={tmp_path}"]) == 0
    assert "against the source" in capsys.readouterr().out
    found = json.loads((tmp_path / "voice" / "v" / "evaluation_corpus.json").read_text())
    assert "truth" not in found["systems"]
    assert found["systems"]["student"]["mel_distance"] is None
    assert "no true result" in (tmp_path / "voice" / "v" / "evaluation_corpus.html").read_text()


def test_a_page_and_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyworld", reason="the extra voice is not installed")
    rows = []
    for pitch_hz in (100, 200, 210, 205):
        path = tmp_path / f"{pitch_hz}.wav"
        soundfile.write(path, hum(0.6, pitch_hz=pitch_hz), 16_000)
        rows.append(ManifestRow(path.stem, path, "one"))
    texts = ["<b>one</b>", "two", "bad", "four"]
    pairs = [Pair(text, f"voice-{number % 2}", *rows) for number, text in enumerate(texts)]
    monkeypatch.setattr("lst.recipes.voice.pairs.parallel_pairs", lambda config: pairs)
    monkeypatch.setattr("lst.recipes.voice.evaluate.load_recogniser", lambda choice: Deaf())

    def phones(self: PhoneAligner, waveform: np.ndarray, text: str) -> np.ndarray:
        if text == "bad":
            raise AlignmentError("the audio does not fit the text")
        return (np.arange(len(waveform) // 160) % 3).astype(np.uint8)

    monkeypatch.setattr(PhoneAligner, "phones", phones)
    centroids = Centroids(
        np.random.default_rng(0).normal(size=(7, NUM_FEATURES)).astype(np.float32), np.ones(NUM_FEATURES, np.float32)
    )
    codec = KmeansTokenizer(centroids, {"kind": "mfcc"})
    codec.save(tmp_path / "data" / UNITS_FILE)
    random_voice(codec.sha256, 7).save(tmp_path / "voice" / "v" / STYLE_VOICE_FILE)
    assert main(["voice", "eval", f"run_dir={tmp_path}", "name=v", "eval.recognise=pocketsphinx"]) == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "voice" / "v" / "evaluation.json").read_text())
    assert found["version"] == 1
    assert (found["num_conversions"], found["left_out"]) == (3, ["bad: the audio does not fit the text"])
    assert list(found["systems"]) == list(SYSTEMS)
    assert all(name in shown for name in SYSTEMS.values())
    assert found["systems"]["truth"]["mel_distance"] == 0
    assert found["systems"]["source"]["mel_distance"] > 0
    # "one" is heard each time: it is right in the first text, whose marks are read aloud, and in no other one.
    num_words = sum(len(spoken_keys(text)) for text in texts if text != "bad")
    assert found["systems"]["student"]["word_error_rate"] == pytest.approx((num_words - 1) / num_words)
    assert (found["recogniser"], found["corpus"]) == ("deaf", None)
    assert "of the swap's distance" in shown
    html = (tmp_path / "voice" / "v" / "evaluation.html").read_text()
    assert html.count("<audio") == 3 * 7
    assert "<b>one</b>" not in html
    assert "no speaker encoder" in html
    assert main(["voice", "eval", f"run_dir={tmp_path}", "name=v", "eval.voices=[flite]", "--dry-run"]) == 2
