"""``lst voice quickstart``: who speaks in its corpus, what another body does to a sound, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_voices import hum

from lst.cli import main
from lst.data.corpora.manifest import read_manifest
from lst.data.synthesis import voices
from lst.data.synthesis.voices import PseudoSpeaker
from lst.errors import UserError
from lst.recipes.voice import many_voices
from lst.recipes.voice.many_voices import BODY_RANGE, BodySpeaker, make_corpus, many_speakers, speech_of

VOICES = ["flite:rms", "pico:en-GB", "flite:awb"]


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, PseudoSpeaker]]:
    """Every voice is there and hums; returns what was spoken."""
    spoken: list[tuple[str, PseudoSpeaker]] = []

    def named(name: str) -> PseudoSpeaker:
        engine, _, voice = name.partition(":")
        if voice == "nobody":
            raise UserError(f"{engine} has no such voice")
        return PseudoSpeaker(name, engine, voice, 1.0, 1.0, 0.7)

    def speak(text: str, speaker: PseudoSpeaker, folder: Path) -> Path:
        spoken.append((text, speaker))
        path = tmp_path / f"{len(spoken)}.wav"
        soundfile.write(path, hum(1.0, pitch_hz=200), 16_000)
        return path

    monkeypatch.setattr(voices, "named_speaker", named)
    monkeypatch.setattr(many_voices, "synthesize_cached", speak)
    return spoken


def test_engines_take_turns_and_speakers_differ() -> None:
    speakers = many_speakers(VOICES, 40, seed=3)
    assert speakers[:7] == many_speakers(VOICES, 7, seed=3), "with more speakers the first ones stay"
    assert [one.speaker.voice for one in speakers[:4]] == ["rms", "en-GB", "awb", "en-GB"]
    assert len({one.speaker.name for one in speakers}) == 40
    assert len({(one.body, one.speaker.rate, one.speaker.pitch) for one in speakers}) == 40
    low, high = BODY_RANGE
    assert all(low - 0.01 <= one.body <= high + 0.01 and round(one.body * 16_000) % 50 == 0 for one in speakers)
    assert max(one.body for one in speakers) - min(one.body for one in speakers) > 0.8 * (high - low)


def test_all_voices_that_are_absent_or_twice_there_are_named() -> None:
    with pytest.raises(
        UserError, match=r"(?s)many\.voices: 3 problems.*a:nobody: a has.*pico:en-GB: .*b:nobody: b has"
    ):
        many_speakers(["a:nobody", *VOICES, "pico:en-GB", "b:nobody"], 2, 0)


def test_a_smaller_body_has_higher_frequencies_and_less_time(tmp_path: Path) -> None:
    speaker = BodySpeaker(PseudoSpeaker("a", "flite", "rms", 1.0, 1.0, 0.7), 1.125)
    made = speech_of("a text", speaker, tmp_path)
    assert len(made) == pytest.approx(16_000 / 1.125, abs=2)
    spectrum = np.abs(np.fft.rfft(made, 16_000))
    assert int(spectrum.argmax()) == pytest.approx(225, abs=3)


def test_a_corpus_is_made_once(tmp_path: Path, engines: list[tuple[str, PseudoSpeaker]]) -> None:
    speakers = many_speakers(VOICES, 4, seed=0)
    manifest = make_corpus(tmp_path / "corpus", speakers, 2, 0, 2)
    rows = read_manifest(manifest)
    assert [row.speaker for row in rows[::2]] == [one.speaker.name for one in speakers]
    assert len({row.text for row in rows}) == 8, "each speaker says sentences of their own"
    for row in rows:
        assert [word.text for word in row.words] == row.text.split()
        assert row.words[-1].end_s == pytest.approx(soundfile.info(row.path).duration, abs=1e-3)
    assert len(engines) == 8
    assert make_corpus(tmp_path / "corpus", speakers, 2, 0, 2) == manifest
    assert len(engines) == 8
    # Half made, it must not be filled up with other sentences under the same names.
    manifest.unlink()
    for other in ((speakers[:3], 2, 0), (speakers, 3, 0), (speakers, 2, 1)):
        with pytest.raises(UserError, match="holds speech of other speakers, sentences or another seed"):
            make_corpus(tmp_path / "corpus", *other, 2)
    assert make_corpus(tmp_path / "corpus", speakers, 2, 0, 2) == manifest
    assert len(engines) == 8


def test_a_plan_is_shown_and_heard_voices_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["voice", "quickstart", f"run_dir={tmp_path / 'run'}", "--dry-run"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "sentences of each of 150 speakers" in shown
    assert "stage 1" in shown
    assert "evaluate it on 20 sentences of flite:slt" in shown
    assert main([*command, "eval.voices=[flite:rms,flite:slt]"]) == 2
    assert "flite:rms: in many.voices and in eval.voices" in capsys.readouterr().err
    assert main([*command, "eval.recognise=faster-whisper", f"eval.recogniser_weights={tmp_path}"]) == 2
    capsys.readouterr()
    assert main([*command, f"eval.speaker_weights={tmp_path / 'nowhere.pt'}"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert main([*command, "many.voices=[]"]) == 2
    assert "many.voices= names no voice" in capsys.readouterr().err
