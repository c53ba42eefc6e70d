"""Speech from text: what the settings do to the sound, errors, and the cache."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.data.synthesis import engines
from lst.data.synthesis import voices as speech_synthesis
from lst.data.synthesis.voices import (
    GAIN_RANGE,
    PITCH_RANGE,
    RATE_RANGE,
    PseudoSpeaker,
    choose_engine,
    default_cache_dir,
    pseudo_speakers,
    synthesize,
    synthesize_cached,
    synthesize_many,
)
from lst.errors import ProblemsError, UserError

TEXT = "Anna ate the warm bread with butter."
INSTALLED = {
    "flite": shutil.which("flite") is not None,
    "espeak-ng": shutil.which("espeak-ng") is not None,
    "pico": importlib.util.find_spec("py_nanotts") is not None,
}


def engine_param(engine: str, *values: object) -> object:
    skip = pytest.mark.skipif(not INSTALLED[engine], reason=f"the speech engine {engine} is not installed")
    return pytest.param(engine, *values, marks=skip)


@pytest.fixture
def speaker() -> PseudoSpeaker:
    """A speaker of any engine that is here, the quickest first."""
    engine = next((engine for engine in ("pico", "flite", "espeak-ng") if INSTALLED[engine]), None)
    if engine is None:
        pytest.skip("no speech engine is installed")
    return pseudo_speakers(engine, 1, seed=0)[0]


@pytest.fixture
def fake_flite(tmp_path, monkeypatch):
    """Puts a command named flite first on the path; call it with the shell lines to run."""

    def install(*lines: str) -> PseudoSpeaker:
        path = tmp_path / "bin" / "flite"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["#!/bin/sh", *lines]))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
        return PseudoSpeaker("fake", "flite", "slt", 1.0, 1.0, 0.9)

    return install


def fundamental_hz(audio_L: np.ndarray, sample_rate_hz: int = 16000) -> float:
    """Median over voiced frames of the autocorrelation's peak between 60 and 400 Hz."""
    width, values = int(0.06 * sample_rate_hz), []
    low, high = sample_rate_hz // 400, sample_rate_hz // 60
    for start in range(0, len(audio_L) - width, width // 4):
        frame = audio_L[start : start + width] - audio_L[start : start + width].mean()
        autocorrelation = np.correlate(frame, frame, "full")[width - 1 :]
        lag = low + int(autocorrelation[low:high].argmax())
        if np.sqrt((frame**2).mean()) > 0.02 and autocorrelation[lag] > 0.5 * autocorrelation[0]:
            values.append(sample_rate_hz / lag)
    return float(np.median(values))


def band_levels_db(audio_L: np.ndarray) -> np.ndarray:
    """Mean level of 16 bands of 500 Hz, in dB about their mean: the long-term colour of a voice."""
    power = np.abs(np.fft.rfft(audio_L)) ** 2
    levels = np.array([10 * np.log10(band.mean() + 1e-12) for band in np.array_split(power, 16)])
    return levels - levels.mean()


@pytest.mark.parametrize("engine", [engine_param(engine) for engine in INSTALLED])
def test_audio_is_repeatable_speech_with_the_asked_peak(engine):
    speaker = pseudo_speakers(engine, 1, seed=5)[0]
    text = f"{TEXT} Tom rowed home."
    audio_L = synthesize(text, speaker)
    assert audio_L.dtype == np.float32
    assert audio_L.ndim == 1
    assert 2 < len(audio_L) / 16000 < 8
    assert np.abs(audio_L).max() == pytest.approx(speaker.gain, rel=1e-5)
    assert 50 < fundamental_hz(audio_L) < 350
    synthesize("Something else is said between.", speaker)
    np.testing.assert_array_equal(synthesize(text, speaker), audio_L)


@pytest.mark.parametrize("engine", [engine_param(engine) for engine in INSTALLED])
def test_sample_rate_changes_neither_duration_nor_pitch(engine):
    speaker = pseudo_speakers(engine, 1, seed=5)[0]
    at_16k, at_24k = synthesize(TEXT, speaker), synthesize(TEXT, speaker, sample_rate_hz=24000)
    assert len(at_24k) / 24000 == pytest.approx(len(at_16k) / 16000, abs=1e-3)
    assert fundamental_hz(at_24k, 24000) == pytest.approx(fundamental_hz(at_16k), rel=0.03)


VOICES = [("flite", "slt"), ("flite", "awb"), ("espeak-ng", "en-us+m3"), ("pico", "en-US"), ("pico", "en-GB")]


@pytest.mark.parametrize(("engine", "voice"), [engine_param(*pair) for pair in VOICES])
def test_rate_and_pitch_change_the_sound(engine, voice):
    plain = PseudoSpeaker("plain", engine, voice, 1.0, 1.0, 0.9)
    slow_L, fast_L = (synthesize(TEXT, dataclasses.replace(plain, rate=rate)) for rate in RATE_RANGE)
    assert 1.12 < len(slow_L) / len(fast_L) < 1.4  # 1.15 / 0.9 = 1.28, less the pauses that some engines keep.
    low_L, high_L = (synthesize(TEXT, dataclasses.replace(plain, pitch=pitch)) for pitch in PITCH_RANGE)
    assert 1.4 < fundamental_hz(high_L) / fundamental_hz(low_L) < 1.75  # 1.25 / 0.8 = 1.56
    assert len(low_L) == pytest.approx(len(high_L), rel=0.05)


@pytest.mark.parametrize("engine", [engine_param(engine) for engine in INSTALLED])
def test_no_speaker_clips(engine):
    # Cut-off peaks show as runs of samples at the greatest magnitude, whatever they were scaled to later.
    for speaker in pseudo_speakers(engine, 2, seed=1):
        audio_L = np.abs(synthesize(TEXT, dataclasses.replace(speaker, pitch=PITCH_RANGE[1], gain=1.0)))
        assert audio_L.max() <= 1.0
        assert (audio_L > 0.9995).sum() <= 2


@pytest.mark.parametrize("engine", [engine_param(engine) for engine in INSTALLED])
def test_speakers_sound_different(engine):
    sounds = [synthesize(TEXT, speaker) for speaker in pseudo_speakers(engine, 6, seed=0)]
    measured = [(len(audio_L), fundamental_hz(audio_L), band_levels_db(audio_L)) for audio_L in sounds]
    for index, (one_duration, one_hz, one_db) in enumerate(measured):
        for other_duration, other_hz, other_db in measured[:index]:
            assert (
                abs(one_duration / other_duration - 1) > 0.03
                or abs(one_hz / other_hz - 1) > 0.05
                or np.abs(one_db - other_db).mean() > 2
            )


@pytest.mark.parametrize("engine", list(INSTALLED))
def test_pseudo_speakers_are_repeatable_and_spread(engine):
    speakers = pseudo_speakers(engine, 40, seed=7)
    assert speakers[:5] == pseudo_speakers(engine, 5, seed=7)
    assert speakers != pseudo_speakers(engine, 40, seed=8)
    assert len({speaker.name for speaker in speakers}) == 40
    voices = {speaker.voice for speaker in speakers}
    assert len(voices) >= 2
    for voice in voices:
        same = [speaker for speaker in speakers if speaker.voice == voice]
        for speaker in same:
            assert speaker.engine == engine
            assert RATE_RANGE[0] <= speaker.rate <= RATE_RANGE[1]
            assert PITCH_RANGE[0] <= speaker.pitch <= PITCH_RANGE[1]
            assert GAIN_RANGE[0] <= speaker.gain <= GAIN_RANGE[1]
        assert len({(speaker.rate, speaker.pitch, speaker.gain) for speaker in same}) == len(same)
        if voice == "rms":
            assert {speaker.pitch for speaker in same} == {1.0}
        else:
            assert max(speaker.pitch for speaker in same) - min(speaker.pitch for speaker in same) > 0.2


def test_pseudo_speakers_refuse_bad_arguments():
    for arguments, message in ((("piper", 1, 0), "piper"), (("pico", 0, 0), "num_speakers=0"), (("pico", 1, -1), "-1")):
        with pytest.raises(UserError, match=message):
            pseudo_speakers(*arguments)


def test_auto_takes_the_first_engine_there_is(monkeypatch):
    present = {"flite", "espeak-ng"}
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name in present else None)
    monkeypatch.setitem(sys.modules, "py_nanotts", sys)  # Anything that can be imported.
    assert choose_engine("auto") == "flite"
    assert choose_engine("pico") == "pico"
    present.remove("flite")
    assert choose_engine("auto") == "espeak-ng"
    present.remove("espeak-ng")
    assert choose_engine("auto") == "pico"
    with pytest.raises(UserError, match="flite is not installed"):
        choose_engine("flite")


def test_missing_engines_are_reported_with_ways_out(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "py_nanotts", None)
    for requested in ("auto", "pico", "flite"):
        with pytest.raises(UserError) as caught:
            choose_engine(requested)
        for part in (
            "installed",
            "pip install py-nanotts",
            "apt-get install flite",
            "apt-get install espeak-ng",
            "corpus=PATH",
        ):
            assert part in str(caught.value)
    with pytest.raises(UserError, match="'sapi'; allowed are auto, flite, espeak-ng, pico"):
        choose_engine("sapi")
    with pytest.raises(UserError, match="not installed"):
        synthesize(TEXT, PseudoSpeaker("a", "pico", "en-US", 1.0, 1.0, 0.9))


@pytest.mark.parametrize("text", ["", " \n", "<>", "\x00"])
def test_empty_text_is_refused(text, speaker):
    with pytest.raises(UserError, match="nothing to speak"):
        synthesize(text, speaker)


def test_settings_out_of_range_are_refused(speaker):
    for change in ({"rate": 9.0}, {"pitch": 0.1}, {"gain": 0.0}, {"gain": 1.5}):
        with pytest.raises(UserError, match="rate must be"):
            synthesize(TEXT, dataclasses.replace(speaker, **change))


def test_markup_in_the_text_is_no_command(speaker):
    assert len(synthesize('<volume level="0">Anna ate the bread.', speaker)) > 16000


def test_engine_failure_shows_its_own_message(fake_flite):
    speaker = fake_flite("echo out of diphones >&2", "exit 3")
    with pytest.raises(UserError, match=r"flite \(voice slt\) could not speak 'Anna ate.*out of diphones"):
        synthesize(TEXT, speaker)
    fake_flite("echo no such voice >&2", "exit 0")
    with pytest.raises(UserError, match="no such voice"):
        synthesize(TEXT, speaker)


def test_silent_and_endless_engines_fail(fake_flite, tmp_path, monkeypatch):
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(1600), 16000)
    speaker = fake_flite(f'for last; do :; done; cp {silence} "$last"')
    with pytest.raises(UserError, match="made no sound"):
        synthesize(TEXT, speaker)
    monkeypatch.setattr(engines, "START_LIMIT_S", -0.5)
    fake_flite("exec sleep 20")
    with pytest.raises(UserError, match="still busy"):
        synthesize(TEXT, speaker)


def test_cache_keeps_what_it_has(speaker, tmp_path):
    path = synthesize_cached(TEXT, speaker, tmp_path / "voices")
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16000, 1)
    np.testing.assert_allclose(soundfile.read(path)[0], synthesize(TEXT, speaker), atol=1 / 32768)
    before = path.stat()
    assert synthesize_cached(TEXT, speaker, tmp_path / "voices") == path
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_damaged_cache_file_is_made_again(damage, speaker, tmp_path):
    path = synthesize_cached(TEXT, speaker, tmp_path)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "other": b"not audio" * 1000}[damage])
    assert synthesize_cached(TEXT, speaker, tmp_path) == path
    assert path.read_bytes() == content


def test_cache_key_covers_all_that_changes_the_sound(speaker, tmp_path, monkeypatch):
    monkeypatch.setattr(
        speech_synthesis, "synthesize", lambda text, speaker, sample_rate_hz: np.full(1600, 0.5, np.float32)
    )
    paths = [synthesize_cached(TEXT, speaker, tmp_path), synthesize_cached(TEXT + " Soon.", speaker, tmp_path)]
    for change in ({"voice": "other"}, {"rate": 1.01}, {"pitch": 1.01}, {"gain": 0.61}):
        paths.append(synthesize_cached(TEXT, dataclasses.replace(speaker, **change), tmp_path))
    monkeypatch.setattr(type(engines.engine_of(speaker.engine)), "version", lambda self, voice: "99.0")
    paths.append(synthesize_cached(TEXT, speaker, tmp_path))
    assert len(set(paths)) == len(paths)


def test_default_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("LST_CACHE_DIR", str(tmp_path))
    assert default_cache_dir() == tmp_path / "voices"
    monkeypatch.delenv("LST_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "lst" / "voices"


def test_many_keeps_order_and_speaks_only_what_is_missing(speaker, tmp_path, monkeypatch):
    totals, spoken = [], []
    original_progress, original_synthesize = speech_synthesis.Progress, speech_synthesis.synthesize
    monkeypatch.setattr(
        speech_synthesis, "Progress", lambda total, *rest: totals.append(total) or original_progress(total, *rest)
    )
    monkeypatch.setattr(
        speech_synthesis, "synthesize", lambda text, *rest: spoken.append(text) or original_synthesize(text, *rest)
    )
    texts = ["Tom rowed home.", "Kate sang.", "Ben ate a pie.", "Kate sang.", "Lucy slept."]
    first = synthesize_cached(texts[2], speaker, tmp_path)
    spoken.clear()
    jobs = [(text, speaker) for text in texts]
    paths = synthesize_many(jobs, tmp_path, num_workers=3)
    assert totals == [3]
    assert sorted(spoken) == sorted({*texts} - {texts[2]})
    assert paths == [synthesize_cached(text, speaker, tmp_path) for text in texts]
    assert paths[2] == first
    assert len(set(paths)) == 4
    assert synthesize_many(jobs, tmp_path, num_workers=3) == paths
    assert (len(spoken), totals) == (3, [3])
    assert synthesize_many([], tmp_path, num_workers=1) == []


def test_many_reports_all_empty_texts_before_work(speaker, tmp_path):
    with pytest.raises(ProblemsError) as caught:
        synthesize_many([(TEXT, speaker), ("", speaker), (" ", speaker)], tmp_path, num_workers=2)
    assert caught.value.problems == ["text 1 is empty", "text 2 is empty"]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="num_workers=0"):
        synthesize_many([(TEXT, speaker)], tmp_path, num_workers=0)


def test_many_stops_at_a_failure_and_keeps_what_is_done(speaker, tmp_path, monkeypatch):
    original = speech_synthesis.synthesize
    spoken: list[str] = []

    def fail_on_third(text: str, *rest: object) -> np.ndarray:
        spoken.append(text)
        if len(spoken) == 3:
            raise speech_synthesis._failure(text, speaker, "it broke.")
        return original(text, *rest)

    monkeypatch.setattr(speech_synthesis, "synthesize", fail_on_third)
    jobs = [(f"Word {word}.", speaker) for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
    with pytest.raises(UserError, match=r"could not speak 'Word three\.': it broke"):
        synthesize_many(jobs, tmp_path, num_workers=1)
    assert len(list(Path(tmp_path).glob("*.flac"))) == len(spoken) - 1 < len(jobs) - 1
