"""Long recordings with one transcript: cut at pauses, each piece with its words; what does not fit costs itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from repository import SHARED_DATA

from lst.data.alignment.ctc.foreign_labels import ForeignLabelMap
from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.alignment.imported import ImportAligner
from lst.data.audio import read_row_audio
from lst.data.checks.corpus import check_corpus
from lst.data.config import AlignConfig, DataConfig
from lst.data.corpora import ManifestRow, read_manifest, write_manifest
from lst.data.corpora.rows import LongFate
from lst.data.prepare import hashing
from lst.data.prepare.gather import gather_source
from lst.data.prepare.prepare import prepare
from lst.data.prepared import PreparedData
from lst.data.recordings import activity, hearing_ctc, listen
from lst.data.recordings.cut import CutRows, cut_recordings, fate_of_long
from lst.data.recordings.pieces import FoundWord, cut_pieces
from lst.data.utterance import TimedWord
from lst.errors import ProblemsError, UserError
from tests.data.conftest import SENTENCES, align, hashes, left_out, options

GAP_S = 0.5
LIBRISPEECH = SHARED_DATA / "librispeech_mini"
NUM_REAL = 6
WRONG = "Seven grey ships sailed past the northern harbour while nobody watched them leave."
# Times that are given for words of a whole recording.
NAMES = [f"word{number}" for number in range(20)]
TIMES_S = [(round(0.7 * number + 0.1, 3), round(0.7 * number + 0.6, 3)) for number in range(20)]
CUT: dict[str, Any] = {"cut_above_s": 8.0, "cut_to_s": 6.0, "vad": "energy"}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What is heard here is heard anew, and once; a part is short enough that the chapter has two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listen, "PART_S", 10.0)
        patch.setattr(listen, "BORDER_S", 2.0)
        patch.setenv("LST_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def chapter(sounds: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of all sentences with silences between them."""
    silence = np.zeros(round(GAP_S * 16_000), np.float32)
    path = tmp_path_factory.mktemp("chapter") / "chapter.flac"
    soundfile.write(path, np.concatenate([part for sound in sounds for part in (sound, silence)]), 16_000)
    return path


@pytest.fixture(scope="module")
def corpus_of_chapter(chapter: Path) -> Path:
    (chapter.parent / "manifest.jsonl").write_text(
        json.dumps({"path": chapter.name, "text": " ".join(SENTENCES)}) + "\n"
    )
    return chapter.parent


@pytest.fixture(scope="module")
def whole(corpus_of_chapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chapter, prepared without interruption."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    prepare(folder, options(corpus_of_chapter, **CUT))
    return folder


def cut(chapter: Path, texts: Sequence[str], align: AlignConfig | None = None, **fields: Any) -> CutRows:
    duration_s = soundfile.info(chapter).duration
    row = ManifestRow("chapter", chapter, " ".join(texts), duration_s=duration_s, **fields)
    return cut_recordings([row], DataConfig(align=align or AlignConfig(), **CUT), {f"{chapter}\0": "hash"}, 1)


def ctm() -> str:
    lines = zip(NAMES, TIMES_S, strict=True)
    return "".join(f"chapter 1 {start_s:.3f} {end_s - start_s:.3f} {name}\n" for name, (start_s, end_s) in lines)


def textgrid(duration_s: float) -> str:
    """A tier of words with silences between them."""
    bounds = [0.0, *(time_s for span in TIMES_S for time_s in span), duration_s]
    texts = ["", *(text for name in NAMES for text in (name, ""))]
    head = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{duration_s}\n<exists>\n1\n"IntervalTier"\n'
    cells = zip(bounds, bounds[1:], texts, strict=False)
    own = "".join(f'{start_s}\n{end_s}\n"{text}"\n' for start_s, end_s, text in cells)
    return f'{head}"words"\n0\n{duration_s}\n{len(texts)}\n{own}'


def starts_of(data: PreparedData, start_of: Callable[[str], float]) -> list[tuple[float, str]]:
    """Each word with its start in the recording, in seconds."""
    return sorted(
        (start_of(utterance.id) + word.start_frame / 25, word.text)
        for reader in (data.train, data.valid)
        for utterance in reader
        for word in utterance.words
    )


def test_each_word_of_a_long_recording_lies_where_it_does_in_short_ones(
    whole: Path, prepared: Path, sounds: list[np.ndarray]
) -> None:
    begins_s = np.cumsum([0.0, *(len(sound) / 16_000 + GAP_S for sound in sounds)])
    short = starts_of(PreparedData(prepared), lambda name: float(begins_s[int(name.removeprefix("utt_"))]))
    data = PreparedData(whole)
    long = starts_of(data, lambda name: data.manifest[name].start_s)
    assert [word for _, word in long] == " ".join(SENTENCES).split()
    assert np.median([abs(one - other) for (one, _), (other, _) in zip(long, short, strict=True)]) <= 0.04
    rows = list(data.manifest.values())
    assert len(rows) >= 4
    for row in rows:
        assert row.is_segment
        assert row.duration_s is not None
        assert row.duration_s <= CUT["cut_to_s"]
        assert row.id == f"chapter-{round(1000 * row.start_s):08d}-{round(1000 * (row.start_s + row.duration_s)):08d}"


def test_a_missing_sentence_costs_its_speech(chapter: Path) -> None:
    found = cut(chapter, [*SENTENCES[:3], *SENTENCES[4:]])
    assert " ".join(row.text for row in found.rows) == " ".join([*SENTENCES[:3], *SENTENCES[4:]])
    (lost,) = found.left_out
    assert "speech without text" in lost["reason"]


def test_a_sentence_too_many_costs_itself(chapter: Path) -> None:
    found = cut(chapter, [*SENTENCES[:3], WRONG, *SENTENCES[3:]])
    assert " ".join(row.text for row in found.rows) == " ".join(SENTENCES)
    (lost,) = found.left_out
    assert f"text without speech: {WRONG}" in lost["reason"]


def test_times_that_the_corpus_gives_need_no_listening(chapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "PocketsphinxListener", None)
    names = [f"word{number}" for number in range(20)]
    times = tuple(TimedWord(name, 0.7 * number + 0.1, 0.7 * number + 0.6) for number, name in enumerate(names))
    found = cut(chapter, names, AlignConfig(method="manifest"), words=times)
    assert [word.text for row in found.rows for word in row.words] == names
    for row in found.rows:
        assert [word.text for word in row.words] == row.text.split()
        assert all(0 <= word.start_s < word.end_s <= (row.duration_s or 0) for word in row.words)


def test_times_of_files_for_the_whole_recording_are_given_to_its_pieces(chapter: Path, tmp_path: Path) -> None:
    duration_s = soundfile.info(chapter).duration
    for suffix, text in {"TextGrid": textgrid(duration_s), "ctm": ctm()}.items():
        folder = tmp_path / suffix
        folder.mkdir()
        (folder / f"chapter.{suffix}").write_text(text)
        found = cut(chapter, NAMES, AlignConfig(method="import", source=str(folder)), language="de")
        assert not found.problems
        assert len(found.rows) >= 3
        assert [word.text for row in found.rows for word in row.words] == NAMES
        aligner = ImportAligner(str(folder))
        back = []
        for row in found.rows:
            assert row.text.split() == [word.text for word in row.words]
            words, problems = aligner.timed_words(row.id, row.text, row.duration_s or 0.0, row.words, "chapter")
            assert not problems
            back += [(row.start_s + word.start_s, row.start_s + word.end_s) for word in words]
        np.testing.assert_allclose(back, TIMES_S, atol=1e-9)
    words = tuple(TimedWord(name, *span) for name, span in zip(NAMES, TIMES_S, strict=True))
    of_corpus = cut(chapter, NAMES, AlignConfig(method="manifest"), words=words, language="de")
    assert [(row.id, row.text) for row in of_corpus.rows] == [(row.id, row.text) for row in found.rows]


def test_words_without_times_and_ends_of_characters_stay_with_their_piece(chapter: Path, tmp_path: Path) -> None:
    words: list[dict[str, Any]] = [
        {"word": name, "start": start_s, "end": end_s} for name, (start_s, end_s) in zip(NAMES, TIMES_S, strict=True)
    ]
    words[7] = {"word": NAMES[7]}
    (tmp_path / "chapter.json").write_text(json.dumps({"segments": [{"words": words}]}))
    rows = list(cut(chapter, NAMES, AlignConfig(method="import", source=str(tmp_path))).rows)
    assert [word.text for row in rows for word in row.words if word.is_unaligned] == [NAMES[7]]
    ends = tuple(word._replace(character_ends_s=(word.end_s - 0.1, word.end_s)) for word in rows[0].words)
    rows[0] = replace(rows[0], words=ends)
    write_manifest(tmp_path / "rows.jsonl", rows)
    assert [row.words for row in read_manifest(tmp_path / "rows.jsonl")] == [row.words for row in rows]


def test_files_of_times_that_do_not_fit_the_recording_are_named(chapter: Path, tmp_path: Path) -> None:
    (tmp_path / "chapters.ctm").write_text("chapters 1 0.0 0.5 one\nchapters 1 0.5 0.5 two\n")
    align = AlignConfig(method="import", source=str(tmp_path))
    (problem,) = cut(chapter, ["one", "two"], align).problems
    assert "there is no alignment of it" in problem.message
    assert "the nearest name is 'chapters'" in problem.message
    (tmp_path / "chapters.ctm").rename(tmp_path / "all.ctm")
    (tmp_path / "all.ctm").write_text("chapter 1 0.0 0.5 one\nchapter 1 0.5 0.5 two\n")
    (problem,) = cut(chapter, ["one", "three"], align).problems
    assert "word 2 is 'three' in the transcript and 'two' in the alignment" in problem.message


def test_pieces_of_given_times_become_shards_with_these_times(chapter: Path, tmp_path: Path) -> None:
    (tmp_path / "times").mkdir()
    (tmp_path / "times/chapter.ctm").write_text(ctm())
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"path": str(chapter), "text": " ".join(NAMES)}) + "\n")
    align = AlignConfig(method="import", source=str(tmp_path / "times"))
    prepare(tmp_path / "data", options(tmp_path / "manifest.jsonl", align=align, **CUT))
    data = PreparedData(tmp_path / "data")
    found = starts_of(data, lambda name: data.manifest[name].start_s)
    assert [text for _, text in found] == NAMES
    np.testing.assert_allclose([start_s for start_s, _ in found], [start_s for start_s, _ in TIMES_S], atol=0.041)


def test_the_transcript_of_another_recording_is_refused_with_its_cause(
    sounds: list[np.ndarray], tmp_path: Path
) -> None:
    texts = [" ".join(SENTENCES[:4]), " ".join(SENTENCES[4:])]
    silence = np.zeros(round(GAP_S * 16_000), np.float32)
    rows = []
    for number, own in enumerate((sounds[:4], sounds[4:])):
        path = tmp_path / f"talk_{number}.wav"
        soundfile.write(path, np.concatenate([part for sound in own for part in (sound, silence)]), 16_000)
        duration_s = soundfile.info(path).duration
        rows.append(ManifestRow(path.stem, path, texts[1 - number], duration_s=duration_s))
    hashes = {f"{row.path}\0": row.id for row in rows}
    config = DataConfig(**{**CUT, "cut_above_s": 4.0})
    found = cut_recordings(rows, config, hashes, 1)
    assert not found.rows
    assert [problem.id for problem in found.problems] == ["talk_0", "talk_1"]
    for problem in found.problems:
        assert "the transcript does not fit the recording" in problem.message
        assert "Check that it is this recording's, and its language" in problem.message
    right = [replace(row, text=text) for row, text in zip(rows, texts, strict=True)]
    assert not cut_recordings(right, config, hashes, 1).problems


def test_pieces_of_a_recording_are_in_one_split_and_each_file_is_hashed_once(
    sounds: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed, hash_file = [], hashing.hash_file
    monkeypatch.setattr(hashing, "hash_file", lambda *job: hashed.append(job[0].stem) or hash_file(*job))
    rows = []
    for number, own in enumerate((slice(0, 4), slice(4, None))):
        silence = np.zeros(round(GAP_S * 16_000), np.float32)
        talk = np.concatenate([part for sound in sounds[own] for part in (sound, silence)])
        soundfile.write(tmp_path / f"talk_{number}.wav", talk, 16_000)
        rows.append({"path": f"talk_{number}.wav", "text": " ".join(SENTENCES[own])})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # With seeds of all kinds: of pieces that are drawn one by one, some would lie apart.
    for seed in range(3):
        found = options(tmp_path, part="plan", seed=seed, **{**CUT, "cut_above_s": 4.0, "cut_to_s": 3.0})
        prepare(tmp_path / f"data_{seed}", found)
        splits = {name: set[str]() for name in ("talk_0", "talk_1")}
        for row in read_manifest(tmp_path / f"data_{seed}/manifest.jsonl"):
            splits[Path(row.path).stem].add(row.split)
        assert sorted(map(tuple, splits.values())) == [("train",), ("valid",)]
    assert sorted(hashed) == 3 * ["talk_0"] + 3 * ["talk_1"]


def test_a_ctc_model_cuts_long_recordings_in_another_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loudness of a made sound is the label that the model hears in it."""
    text = "Привет, мир! Как дела? Сегодня хорошо. Очень рад тебя видеть, друг мой. Пойдём домой вместе скорее."
    labels = ("-", "|", *"абвгдежзийклмнопрстуфхцчшщъыьэюяё")
    carrier = np.tile([1, -1], 320).astype(np.float32)
    sound, starts_s = [np.zeros(6_400, np.float32)], []
    for piece in ForeignLabelMap(labels, 0, "ru").readings(text, ()):
        starts_s.append(sum(map(len, sound)) / 16_000)
        for label in piece.words[0].label_ids:
            sound += [carrier * (label + 2) / 64, carrier * 2 / 64]
        sound.append(np.zeros(6_400, np.float32))
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.concatenate(sound), 16_000)

    def emissions(_: object, waveforms: Sequence[np.ndarray], *more: object) -> list[torch.Tensor]:
        heard = np.abs(waveforms[0][160::320]) * 64 - 2
        best = torch.from_numpy(np.maximum(heard.round(), 0).astype(np.int64))
        return [torch.nn.functional.one_hot(best, len(labels)).float()]

    ctc = SimpleNamespace(labels=labels, blank_id=0, samples_a_frame=320)
    monkeypatch.setattr(hearing_ctc, "load_ctc_model", lambda *given: ctc)
    monkeypatch.setattr(hearing_ctc, "ctc_emissions", emissions)
    monkeypatch.setattr(listen, "align_files", lambda align: None)
    found = cut(path, [text], AlignConfig(method="ctc", checkpoint="made up"), language="ru")
    assert (found.problems, found.left_out) == ([], [])
    assert " ".join(row.text for row in found.rows) == text
    assert len(found.rows) >= 3
    first = 0
    for row in found.rows:
        assert 0 <= starts_s[first] - row.start_s <= 0.5
        first += len(row.text.split())
    (problem,) = cut(path, ["совсем другая запись"] * 9, AlignConfig(method="ctc"), language="ru").problems
    assert "the transcript does not fit the recording" in problem.message


def test_stopped_while_listening_it_goes_on_to_the_same_bytes(
    corpus_of_chapter: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LST_CACHE_DIR", str(tmp_path / "cache"))
    heard: list[int] = []
    original = listen._heard

    def stopped(job: listen.PartJob) -> listen.HeardPart:
        if len(heard) == 1:
            heard.append(-1)
            raise KeyboardInterrupt
        heard.append(job.part)
        return original(job)

    monkeypatch.setattr(listen, "_heard", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "data", options(corpus_of_chapter, **CUT))
    prepare(tmp_path / "data", options(corpus_of_chapter, **CUT))
    assert heard == [0, -1, *range(1, max(heard) + 1)]
    assert max(heard) >= 1
    assert hashes(tmp_path / "data") == hashes(whole)


def test_check_tells_beforehand_and_prepare_what_was_left_out(
    corpus_of_chapter: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = check_corpus(corpus_of_chapter, "auto", 0.2, 60.0, True, 0, data=DataConfig(**CUT))
    assert report.num_problems == 0
    assert "1 recordings of 0.01 h are longer than 8 s" in report.as_text()
    refused = check_corpus(corpus_of_chapter, "auto", 0.2, 6.0, False, 0, data=DataConfig(cut_above_s=600.0))
    assert "is too long" in refused.as_text()
    assert not left_out(whole)


def test_a_folder_of_short_utterances_is_made_as_before(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "data", options(corpus, cut_above_s=60.0))
    shards = {name: own for name, own in hashes(prepared).items() if name.startswith("shards") and name.endswith("tar")}
    assert {name: own for name, own in hashes(tmp_path / "data").items() if name in shards} == shards


def test_a_transcript_that_does_not_fit_stops_before_the_work(chapter: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text(
        "".join(json.dumps({"path": str(chapter), "id": name, "text": WRONG * 3}) + "\n" for name in ("one", "two"))
    )
    with pytest.raises(ProblemsError, match="does not fit the recording"):
        prepare(tmp_path / "data", options(tmp_path, **CUT))


@pytest.mark.skipif(not (LIBRISPEECH / "manifest.tsv").is_file(), reason="shared/data/librispeech_mini is not here")
def test_words_of_real_speech_lie_where_they_do_in_short_utterances(tmp_path: Path) -> None:
    """Utterances of many speakers, joined with silences, one sentence of them missing in the transcript."""
    rows = [line.split("\t") for line in (LIBRISPEECH / "manifest.tsv").read_text("utf-8").splitlines()[1:]]
    chosen = sorted((row for row in rows if row[1] == "train"), key=lambda row: float(row[4]))[:NUM_REAL]
    sounds = [soundfile.read(LIBRISPEECH / row[5], dtype="float32")[0] for row in chosen]
    silence = np.zeros(round(GAP_S * 16_000), np.float32)
    joined = tmp_path / "talk.flac"
    soundfile.write(joined, np.concatenate([part for sound in sounds for part in (sound, silence)]), 16_000)
    begins_s = np.cumsum([0.0, *(len(sound) / 16_000 + GAP_S for sound in sounds)])
    texts = [row[6] for row in chosen]
    found = cut(joined, [*texts[:2], *texts[3:]])
    assert " ".join(row.text for row in found.rows).split() == " ".join([*texts[:2], *texts[3:]]).split()
    assert any("speech without text" in lost["reason"] for lost in found.left_out)
    aligner = PocketsphinxAligner()

    def starts(waveform: np.ndarray, text: str, begin_s: float) -> list[tuple[float, str]]:
        num_frames = len(waveform) // 640
        return [(begin_s + word.start_frame / 25, word.text) for word in align(aligner, waveform, text, num_frames, 25)]

    long = [one for row in found.rows for one in starts(read_row_audio(row), row.text, row.start_s)]
    kept = [number for number in range(NUM_REAL) if number != 2]
    short = [one for number in kept for one in starts(sounds[number], texts[number], float(begins_s[number]))]
    assert [word for _, word in long] == [word for _, word in short]
    assert np.median([abs(one - other) for (one, _), (other, _) in zip(long, short, strict=True)]) <= 0.04


def test_the_plan_takes_one_long_recording(corpus_of_chapter: Path) -> None:
    found = gather_source(options(corpus_of_chapter, **CUT), is_plan=True)
    assert [row.id for row in found.rows] == ["chapter"]


def test_given_times_of_chinese_words_cut_a_recording(chapter: Path) -> None:
    words = tuple(TimedWord(text, at_s, at_s + 1.0) for text, at_s in (("学生", 0.5), ("喝水", 5.0), ("去学校", 9.0)))
    found = cut(chapter, ["学 生 喝 水。 去 学 校"], AlignConfig(method="manifest"), words=words, language="zh")
    assert found.problems == []
    assert " ".join(row.text for row in found.rows) == "学 生 喝 水。 去 学 校"
    assert [word.text for row in found.rows for word in row.words] == ["学", "生", "喝", "水。", "去", "学", "校"]


def test_a_transcript_of_labels_alone_is_told_as_such(chapter: Path) -> None:
    (problem,) = cut(chapter, ["[music] —"]).problems
    assert problem.message == "nothing in the transcript is said: all of it is labels in brackets or signs"


def test_why_a_long_recording_stays_whole_is_told(chapter: Path, tmp_path: Path) -> None:
    row = {"path": str(chapter), "text": " ".join(SENTENCES), "language": "de"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    why = "data.align.method=pocketsphinx hears English alone, not German"
    given = options(tmp_path, max_duration_s=10.0)
    with pytest.raises(ProblemsError, match=f"is too long: .*; it is not cut, as {why}: data.align.method=ctc cuts it"):
        gather_source(given, is_plan=True)
    told = check_corpus(tmp_path, "auto", 0.2, 10.0, False, 0, data=given.data)
    assert f"it is not cut, as {why}" in told.as_text()
    whole = DataConfig(cut_above_s=10.0)
    noted = check_corpus(tmp_path, "auto", 0.2, 60.0, False, 0, data=whole)
    assert f"1 long recordings are not cut, as {why}: data.align.method=ctc cuts them." in noted.notes
    long = ManifestRow("long", chapter, "a dog", duration_s=90.0)
    for method, why in (
        (AlignConfig(method="import", source="x"), ""),
        (AlignConfig(method="manifest"), "no times of its words"),
        (AlignConfig(), ""),
    ):
        fate = fate_of_long(long, DataConfig(align=method))
        assert why in fate.why_whole
        assert fate.is_long
        assert bool(fate.why_whole) is not fate.is_cut
    short = fate_of_long(replace(long, duration_s=50.0), DataConfig(align=AlignConfig(method="manifest")))
    assert short == LongFate()


def test_a_very_short_word_in_a_pause_is_in_one_piece() -> None:
    words = [FoundWord("one", (0.4, 0.98)), FoundWord("a", (8.98, 8.99)), FoundWord("two", (8.99, 9.89))]
    found = cut_pieces(words, [(8.038, 9.038), (9.051, 12.051)], 20.0, 1.0)
    assert " ".join(piece.text.rpartition(": ")[2] for piece in [*found.kept, *found.lost]).split().count("a") == 1


def test_pieces_keep_the_limit_of_short_audio(chapter: Path) -> None:
    row = ManifestRow("chapter", chapter, " ".join(SENTENCES), duration_s=soundfile.info(chapter).duration)
    config = DataConfig(**{**CUT, "cut_to_s": 3.0, "min_duration_s": 2.2})
    found = cut_recordings([row], config, {f"{chapter}\0": "hash"}, 1)
    assert found.rows
    assert min(one.duration_s or 0.0 for one in found.rows) >= 2.2
    short = [one["reason"] for one in found.left_out if "shorter than data.min_duration_s: " in one["reason"]]
    assert sum(len(reason.rpartition(": ")[2].split()) for reason in short) + sum(
        len(one.text.split()) for one in found.rows
    ) == len(row.text.split())


def test_a_missing_detector_is_no_fault_of_recordings(chapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    activity.load_silero.cache_clear()
    row = ManifestRow("chapter", chapter, " ".join(SENTENCES), duration_s=soundfile.info(chapter).duration)
    with pytest.raises(UserError, match=r"latent-speech-text\[vad\]"):
        cut_recordings([row], DataConfig(**{**CUT, "vad": "silero"}), {f"{chapter}\0": "hash"}, 1)
