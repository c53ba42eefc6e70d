"""Recordings without a transcript: refused with the way out, kept as speech alone, or heard by a recogniser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

from lst.configs.compose import build_config
from lst.data import config as data_config
from lst.data.batches.mixing import mix_sources
from lst.data.checks import check_prepared
from lst.data.checks.corpus import check_corpus
from lst.data.config import DataConfig, InterleaveConfig, MixConfig
from lst.data.documents.interleave import DocumentBuilder
from lst.data.prepare.prepare import prepare
from lst.data.prepared import PreparedData
from lst.data.recordings import recognisers
from lst.data.recordings.recognisers import Hearing, Pocketsphinx, RecogniserChoice, load_recogniser
from lst.errors import ProblemsError, UserError
from lst.recipes.training.sources import weighted_corpora
from lst.recipes.training.train import check_training
from tests.data.conftest import SENTENCES, hashes, left_out, options


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LST_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def mixed(sounds: Sequence[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings with a transcript; one without, one that pandas wrote as NaN, and one that no row names."""
    folder = tmp_path_factory.mktemp("mixed")
    rows = []
    for number, (text, sound) in enumerate(zip(SENTENCES, sounds, strict=True)):
        soundfile.write(folder / f"utt_{number}.wav", sound, 16_000)
        rows.append({"path": f"utt_{number}.wav", "text": {5: "", 6: "NaN"}.get(number, text)})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:7]))
    return folder


@pytest.fixture(scope="module")
def silent(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder = tmp_path_factory.mktemp("silent") / "data"
    prepare(folder, options(mixed, transcribe="none"))
    return PreparedData(folder)


class Parrot:
    """A recogniser that hears how long a recording is, and is less sure of short ones."""

    heard: ClassVar[list[int]] = []

    def __init__(self, weights: str = "") -> None:
        self.name = f"parrot {weights}"

    def transcribe(self, waveform: np.ndarray) -> str:
        return self.hear(waveform).text

    def hear(self, waveform: np.ndarray) -> Hearing:
        self.heard.append(len(waveform))
        return Hearing("the red hat is away" if len(self.heard) != 2 else "", 0.3 if len(self.heard) == 3 else 0.9)


def test_recordings_without_a_transcript_are_refused_with_the_way_out(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(ProblemsError, match=r"data\.transcribe=none") as error:
        prepare(tmp_path / "data", options(mixed))
    assert len(error.value.problems) == 3


def test_they_are_kept_as_speech_beside_transcribed_ones(silent: PreparedData, mixed: Path) -> None:
    assert (len(silent.train) + len(silent.valid), len(silent.speech)) == (5, 3)
    assert {utterance.id for utterance in silent.speech} == {"utt_5", "utt_6", "utt_7"}
    for utterance in silent.speech:
        assert (utterance.text, utterance.words) == ("", ())
        assert utterance.num_frames > 10
    report = check_prepared(silent.folder, True, 0)
    assert report.num_problems == 0, report.as_text()
    told = check_corpus(mixed, "auto", 0.2, 60.0, False, 0, data=DataConfig(transcribe="none"))
    assert told.num_problems == 0
    assert "3 recordings of 0.00 h have no transcript: they become speech alone" in told.as_text()


def test_a_corpus_without_transcripts_has_a_weight_beside_one_with_them(
    mixed: Path, sounds: Sequence[np.ndarray], tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    heard.mkdir()
    for number, sound in enumerate(sounds[:3]):
        soundfile.write(heard / f"talk_{number}.wav", sound, 16_000)
    given = options(Path(f"[read={mixed},heard={heard}]"), transcribe="none")
    prepare(tmp_path / "run" / "data", given)
    data = PreparedData(tmp_path / "run" / "data")
    assert (len(data.train_of("heard")), len(data.speech_of("heard")), len(data.speech_of("read"))) == (0, 3, 3)
    config = build_config([f"run_dir={tmp_path / 'run'}", "data.sources.weights={read: 1, heard: 2}"])
    parts = weighted_corpora(config, data)
    sources = mix_sources(data.train, data.text, MixConfig(1.0, 1.0, 1.0), corpora=parts, untranscribed=data.speech)
    counts = {source.name: len(source.utterances) for source in sources}
    num_read = len(data.train)
    told = {"interleaved:read": num_read, "speech:read": num_read + 3, "speech:heard": 3, "text:read": num_read}
    assert counts == told
    # Without weights, the loss of each is told by its corpus all the same.
    (speech,) = mix_sources(data.train, data.text, MixConfig(0.0, 0.0, 1.0), untranscribed=data.speech)
    told_by = [speech.source_of(place) for place in range(len(speech.utterances))]
    assert told_by == ["read"] * num_read + [utterance.provenance.corpus for utterance in data.speech]
    assert "heard" in told_by
    # A patch a word would be a patch an utterance.
    with pytest.raises(UserError, match=r"patching=curriculum makes patches of words.*patching\.max_patch=16"):
        check_training(build_config([f"run_dir={tmp_path / 'run'}"]), data)
    check_training(build_config([f"run_dir={tmp_path / 'run'}", "patching.max_patch=16"]), data)
    check_training(build_config([f"run_dir={tmp_path / 'run'}", "patching=static"]), data)


def test_documents_of_speech_alone_are_drawn_from_both(silent: PreparedData) -> None:
    sources = mix_sources(
        silent.train, silent.text, MixConfig(interleaved=1, text=1, speech=1), untranscribed=silent.speech
    )
    by_kind = {source.kind: source.utterances for source in sources}
    assert len(by_kind["speech"]) == len(silent.train) + 3
    assert len(by_kind["interleaved"]) == len(by_kind["text"]) == len(silent.train)
    builder = DocumentBuilder(silent.tokenizer, silent.vocabulary, InterleaveConfig(), seed=0)
    last = by_kind["speech"][len(by_kind["speech"]) - 1]
    document = builder.speech(last)
    assert int((document.modalities == 1).sum()) == last.num_frames
    assert int(np.sum(document.segment_lengths)) == last.num_frames


def test_audio_alone_is_a_corpus_of_speech(sounds: Sequence[np.ndarray], tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    folder.mkdir()
    for number, sound in enumerate(sounds[:4]):
        soundfile.write(folder / f"a{number}.wav", sound, 16_000)
    with pytest.raises(UserError, match="audio alone"):
        prepare(tmp_path / "data", options(folder))
    prepare(tmp_path / "data", options(folder, transcribe="none"))
    data = PreparedData(tmp_path / "data")
    assert (len(data.train), len(data.valid), len(data.speech)) == (3, 1, 0)
    with pytest.raises(UserError, match=r"set data\.mix\.interleaved=0 data\.mix\.text=0"):
        mix_sources(data.train, data.text, MixConfig())
    (source,) = mix_sources(data.train, data.text, MixConfig(interleaved=0, text=0, speech=1))
    assert len(source.utterances) == 3


def test_a_recogniser_gives_texts_that_are_kept_and_filtered(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [SimpleNamespace(name="parrot", value="birds:Parrot", load=lambda: Parrot)]
    for module in (data_config, recognisers):
        monkeypatch.setattr(module, "entry_points", lambda group: points if group == "lst.recognisers" else [])
    Parrot.heard = []
    load_recogniser.cache_clear()
    chosen = options(mixed, transcribe="parrot", min_confidence=0.5, max_unaligned_share=1.0)
    assert chosen.data.problems() == []
    prepare(tmp_path / "data", chosen)
    assert len(Parrot.heard) == 3
    data = PreparedData(tmp_path / "data")
    row = data.manifest["utt_5"]
    assert (row.text, row.split, row.transcript_confidence) == ("the red hat is away", "train", 0.9)
    reasons = {one["id"]: one["reason"] for one in left_out(tmp_path / "data")}
    assert "heard no word" in reasons["utt_6"]
    assert "confidence is 0.30, below data.min_confidence=0.5" in reasons["utt_7"]
    prepare(tmp_path / "again", chosen)
    assert len(Parrot.heard) == 3, "what was heard is kept"
    assert hashes(tmp_path / "again" / "shards") == hashes(tmp_path / "data" / "shards")
    assert "allowed are null, faster-whisper, none, parrot, pocketsphinx" in str(
        DataConfig(transcribe="owl").problems()
    )
    assert "data.transcribe_weights=FOLDER" in str(DataConfig(transcribe="faster-whisper").problems())
    monkeypatch.setattr(points[0], "load", lambda: lambda weights: SimpleNamespace(name="mute"))
    with pytest.raises(UserError, match="lacks transcribe, hear"):
        load_recogniser(RecogniserChoice("parrot", "other"))


def test_pocketsphinx_is_sure_of_speech_and_not_of_noise(sounds: Sequence[np.ndarray]) -> None:
    recogniser = Pocketsphinx()
    noise = 0.05 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    spoken, unspoken = recogniser.hear(sounds[2]), recogniser.hear(noise)
    assert spoken.text == recogniser.transcribe(sounds[2])
    assert 0 <= unspoken.confidence < spoken.confidence <= 1


def test_long_audio_without_a_transcript_is_cut_at_pauses(sounds: Sequence[np.ndarray], tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    folder.mkdir()
    silence = np.zeros(8_000, np.float32)
    soundfile.write(
        folder / "talk.wav", np.concatenate([part for sound in sounds[:5] for part in (sound, silence)]), 16_000
    )
    prepare(tmp_path / "data", options(folder, transcribe="none", cut_above_s=6.0, cut_to_s=5.0, vad="energy"))
    data = PreparedData(tmp_path / "data")
    rows = list(data.manifest.values())
    assert len(rows) >= 2
    assert all(row.id.startswith("talk-") and (row.duration_s or 0) <= 5.0 for row in rows)


def test_speech_alone_has_no_rate_of_words(mixed: Path) -> None:
    report = check_corpus(mixed, "auto", 0.2, 60.0, False, 0, data=DataConfig(transcribe="none"))
    assert "words a second" not in " ".join(report.notes)
    with_text = list(map(json.loads, (mixed / "manifest.jsonl").read_text().splitlines()))[:5]
    seconds = sum(soundfile.info(mixed / row["path"]).duration for row in with_text)
    num_words = sum(len(row["text"].split()) for row in with_text)
    assert report.statistics["words a second"] == pytest.approx(num_words / seconds)


def test_training_speech_may_be_without_transcripts_where_held_out_speech_has_them(silent: PreparedData) -> None:
    (speech,) = mix_sources([], [], MixConfig(interleaved=0, text=0, speech=1), untranscribed=silent.speech)
    assert speech.utterances is silent.speech, "read shard by shard"
    with pytest.raises(UserError, match=r"set data\.mix\.interleaved=0 data\.mix\.text=0$"):
        mix_sources([], [], MixConfig(), untranscribed=silent.speech)
    with pytest.raises(UserError, match=r"set data\.mix\.text=0 data\.mix\.speech=1$"):
        mix_sources([], [], MixConfig(interleaved=0, text=1, speech=0), untranscribed=silent.speech)
    # A text beside has no words of the speech: nothing can be interleaved.
    alone = MixConfig(interleaved=1, text=1, speech=1)
    with pytest.raises(UserError, match=r"without transcripts: set data\.mix\.interleaved=0$"):
        mix_sources(silent.speech, list(silent.train), alone)
