"""The front door: configuration, filters, stamps of the engines, statistics, and prepared data of each way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.models import wav2vec2_model

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.alignment.aligner import AlignItem, AlignmentError, AlignResult
from lst.data.alignment.build import FilteredAligner, align_files, build_aligner, process_aligner
from lst.data.alignment.ctc.model import save_ctc_model
from lst.data.alignment.formats.textgrid import write_textgrids
from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.alignment.stamps import (
    VOICE_SEARCH,
    StampsAligner,
    engine_word_times,
    speak_with_stamps,
    stamps_path,
    write_stamps,
    write_stamps_many,
)
from lst.data.audio.read import read_audio
from lst.data.checks.corpus import check_corpus
from lst.data.config import AlignConfig, DataConfig, InterleaveConfig
from lst.data.documents.interleave import DocumentBuilder, Span
from lst.data.prepare.prepare import prepare
from lst.data.shards import ShardReader
from lst.data.synthesis.engine_times import ESPEAK_PHONEME, ESPEAK_WORD, espeak_spans
from lst.data.synthesis.voices import choose_engine, pseudo_speakers, synthesize, synthesize_cached
from lst.data.utterance import TimedWord, Utterance, Word
from lst.errors import ProblemsError, UserError
from lst.model.batch import SPEECH
from lst.tokenizers.text import fit_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary
from tests.data.conftest import SENTENCES, align, left_out, options

TEXT = "Anna ate the 12 warm breads, out of the oven. It is in the box!"
SOUND = np.zeros(16_000, np.float32)


def test_every_fault_of_the_configuration_is_named() -> None:
    config = AlignConfig(
        method="whisper",
        level="phone",
        format="srt",
        window_s=2.0,
        overlap_s=1.0,
        batch=0,
        min_words_per_second=3.0,
        max_words_per_second=2.0,
    )
    with pytest.raises(ProblemsError) as raised:
        build_aligner(config)
    assert len(raised.value.problems) == 6
    assert DataConfig(align=config).problems() == config.problems()
    for method, missing in (("ctc", "checkpoint"), ("import", "source")):
        assert f"data.align.{missing}=" in AlignConfig(method=method).problems()[0]
    for method in ("pocketsphinx", "manifest", "stamps"):
        assert "places words only" in AlignConfig(method=method, level="character").problems()[0]
    assert AlignConfig().problems() == []


def test_options_of_alignment_come_from_the_command_line() -> None:
    given = [
        "data.align.method=ctc",
        "data.align.checkpoint=my model, v=2",
        "data.align.level=character",
        "data.align.min_score=-1.5",
        "data.align.max_words_per_second=6",
    ]
    assert build_config(given).data.align == AlignConfig(
        method="ctc", checkpoint="my model, v=2", level="character", min_score=-1.5, max_words_per_second=6.0
    )


class FixedAligner:
    """Says what it was told."""

    batch = 3
    scale = None

    def __init__(self, words: tuple[Word, ...]) -> None:
        self.words = words

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[AlignResult]:
        return [AlignmentError("it does not fit") if item.text == "misfit" else self.words for item in items]


def test_filters_leave_out_with_the_reason() -> None:
    words = (Word("a", 0, 5, -2.0, (5,)), Word("b", 5, 10, -4.0, (5,)))
    items = [AlignItem(SOUND, text, 25) for text in ("a b", "misfit")]

    def filtered(**changes: object) -> str:
        found = FilteredAligner(FixedAligner(words), AlignConfig(**changes)).align_many(items, 25)  # type: ignore[arg-type]
        assert str(found[1]) == "it does not fit"
        return str(found[0])

    plain = str(tuple(word._replace(character_ends=()) for word in words))
    for kept in ({}, {"min_score": -3.0}, {"min_words_per_second": 2.0}, {"max_words_per_second": 2.0}):
        assert filtered(**kept) == plain
    assert filtered(level="character", method="import", source="x") == str(words)
    assert "words score -3.000 on average, below data.align.min_score=-2.9" in filtered(min_score=-2.9)
    both = filtered(min_score=0.0, max_words_per_second=1.9)
    assert "words score" in both
    assert "2.00 words a second, above data.align.max_words_per_second=1.9" in both
    assert "2.00 words a second, below" in filtered(min_words_per_second=2.1)


def test_default_is_pocketsphinx_with_its_results_unchanged(sounds: list[np.ndarray]) -> None:
    config = AlignConfig()
    aligner, bare = build_aligner(config), PocketsphinxAligner()
    assert aligner.name == bare.name == "pocketsphinx-en-us"
    for sound, text in zip(sounds[:3], SENTENCES, strict=False):
        num_frames = len(sound) // 640
        words = align(bare, sound, text, num_frames, 25)
        assert align(aligner, sound, text, num_frames, 25) == words
        items = [AlignItem(sound, "—", num_frames), AlignItem(sound, text, num_frames)]
        for any_aligner in (aligner, bare):
            misfit, found = any_aligner.align_many(items, 25)
            assert "nothing in '—' can be said" in str(misfit)
            assert isinstance(misfit, AlignmentError)
            assert found == words
    assert aligner.align_many([], 25) == []
    assert process_aligner(config) is process_aligner(AlignConfig())
    assert process_aligner(config) is not process_aligner(replace(config, min_score=-99.0))


def test_every_method_is_one_interface_and_gives_a_result_for_each_item(tmp_path: Path) -> None:
    """Whatever the aligner, results keep the order of the items, and misfits are errors among them."""
    (tmp_path / "all.ctm").write_text("a 1 0 0.5 hello\nc 1 0 0.5 hello\n")
    words = [TimedWord("hello", 0.0, 0.5)]
    items = [
        AlignItem(SOUND, text, 25, name, words if name != "b" else ())
        for name, text in (("a", "Hello!"), ("b", "Hello!"), ("c", "Hello, you"))
    ]
    reasons = {"manifest": "b: the corpus gives no times", "import": "b: there is no alignment of it"}
    for method, reason in reasons.items():
        aligner = build_aligner(AlignConfig(method=method, source=str(tmp_path)))
        assert aligner.batch == 1
        found = aligner.align_many(items, 25)
        assert found[0] == (Word("Hello!", 0, 12, 0.0),)
        assert [isinstance(result, AlignmentError) for result in found] == [False, True, True]
        assert reason in str(found[1])
        assert "ends before word 2" in str(found[2])
    assert FilteredAligner(FixedAligner(()), AlignConfig()).batch == FixedAligner.batch


def test_files_of_alignments_are_part_of_what_data_is_made_from(tmp_path: Path) -> None:
    (tmp_path / "a.ctm").write_text("a 1 0 1 x\n")
    config = AlignConfig(method="import", source=str(tmp_path))
    before = align_files(config)
    (tmp_path / "a.ctm").write_text("a 1 0 1 xy\n")
    assert before is not None
    assert align_files(config) != before
    assert align_files(AlignConfig()) is None


def test_words_keep_their_characters_in_records() -> None:
    plain, known = Word("a", 0, 3, -1.0), Word("ab", 3, 9, -2.0, (2, 6))
    assert "character_ends" not in Utterance("u", "s", "a", 1.0, np.zeros(9, np.uint16), (plain,)).to_record()
    utterance = Utterance("u", "s", "a ab", 1.0, np.zeros(9, np.uint16), (plain, known))
    record = json.loads(json.dumps(utterance.to_record()))
    assert Utterance.from_record(record, utterance.units).words == (plain, known)


def test_aligned_characters_decide_the_frames_of_pieces() -> None:
    texts = ["unbelievably", "warm", "gardens"]
    tokenizer = fit_text_tokenizer(["the warm bread in the garden, unbelievably green and wonderfully warm"], 330)
    vocabulary = Vocabulary(tokenizer.vocab_size, 50, tokenizer.sha256, "u")
    generator = np.random.default_rng(0)
    words, estimated, position = [], [], 0
    for text in texts:
        ends = (*map(int, np.sort(generator.integers(0, 31, len(text) - 1))), 30)
        words.append(Word(text, position, position + 30, 0.0, ends if text != "warm" else ()))
        even = tuple((2 * (index + 1) * 30 + len(text)) // (2 * len(text)) for index in range(len(text)))
        estimated.append(words[-1]._replace(character_ends=() if text == "warm" else even))
        position += 34
    builder = DocumentBuilder(tokenizer, vocabulary, InterleaveConfig(), 0, "bpe")

    def lengths(found: list[Word]) -> list[int]:
        utterance = Utterance("u", "s", " ".join(texts), 4.0, np.zeros(position, np.uint16), tuple(found))
        return builder.from_spans(utterance, [Span(SPEECH, 0, 3)]).segment_lengths.tolist()

    expected: list[int] = []
    for word in words:
        pieces = tokenizer.piece_characters([word.text])[0]
        places = np.cumsum(pieces)
        ends = (
            word.character_ends
            or estimated[1].character_ends
            or [(2 * (index + 1) * 30 + len(word.text)) // (2 * len(word.text)) for index in range(len(word.text))]
        )
        bounds = [0, *(ends[place - 1] if place else 0 for place in places)]
        bounds[-1] = 30
        expected += [*np.diff(bounds).tolist(), 4]
    assert lengths(words) == expected
    # What an estimate says is what no characters say.
    assert lengths(estimated) == lengths([word._replace(character_ends=()) for word in words])
    assert lengths(words) != lengths(estimated)


@pytest.mark.parametrize("voice", ["slt", "rms", "awb"])
def test_flite_says_where_its_words_are(voice: str, tmp_path: Path) -> None:
    speaker = next(speaker for speaker in pseudo_speakers("flite", 3, 0) if speaker.voice == voice)
    try:
        audio, rate_hz, words = engine_word_times(TEXT, speaker)
    except AlignmentError as error:
        pytest.skip(f"flite's library is absent: {error}")
    assert rate_hz == 16_000
    spoken = synthesize(TEXT, speaker)
    # The library's sound is the command's: its times are the cached audio's.
    np.testing.assert_allclose(audio * speaker.gain / np.abs(audio).max(), spoken, atol=1e-6)
    assert [word for word, _, _ in words] == TEXT.replace(",", "").replace(".", "").replace("!", "").split()
    for (_, start, end), (_, next_start, _) in zip(words, [*words[1:], ("", len(audio) / rate_hz, 0.0)], strict=True):
        assert 0 <= start < end <= next_start + 1e-6
    loudness = np.square(spoken)
    held = sum(loudness[round(start * rate_hz) : round(end * rate_hz)].sum() for _, start, end in words)
    print(f"{voice}: words hold {held / loudness.sum():.2%} of the energy")
    assert held > 0.98 * loudness.sum()

    path = synthesize_cached(TEXT, speaker, tmp_path)
    assert write_stamps(TEXT, speaker, path, tmp_path)
    waveform = read_audio(path)
    stamped = StampsAligner(str(tmp_path))
    found = align(stamped, waveform, TEXT, len(waveform) // 160, 100)
    assert [word.text for word in found] == TEXT.split()
    assert [(word.start_frame, word.end_frame) for word in found] == [
        (round(start * 100), round(end * 100)) for _, start, end in words
    ]
    assert (stamped.num_stamped, stamped.num_fallback) == (1, 0)
    speak_with_stamps([(TEXT, speaker)], tmp_path / "both", tmp_path / "both", 1)
    assert {file.name: file.read_bytes() for file in (tmp_path / "both").iterdir()} == {
        file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()
    }, "speaking and noting times in one go gives the files of doing one after the other"
    jobs = [(TEXT, speaker), ("Yes.", speaker), (TEXT, speaker)]
    paths = [path, synthesize_cached("Yes.", speaker, tmp_path), path]
    assert write_stamps_many(jobs, paths, tmp_path / "more", 2) == 3
    assert len(list((tmp_path / "more").iterdir())) == 2
    aligned = align(PocketsphinxAligner(), waveform, TEXT, len(waveform) // 160, 100)
    errors_s = [abs(left.start_frame - right.start_frame) / 100 for left, right in zip(found, aligned, strict=True)]
    print(f"{voice}: pocketsphinx starts words {np.median(errors_s) * 1000:.0f} ms off, median")
    assert np.median(errors_s) <= 0.03


def test_espeak_says_where_its_words_are(tmp_path: Path) -> None:
    for speaker in pseudo_speakers("espeak-ng", 6, 0):
        try:
            audio, rate_hz, words = engine_word_times(TEXT, speaker)
        except AlignmentError as error:
            pytest.skip(f"espeak-ng's library is absent: {error}")
        assert [word for word, _, _ in words] == TEXT.split()
        for (_, start, end), (_, after, _) in zip(words, [*words[1:], ("", len(audio) / rate_hz, 0.0)], strict=True):
            assert 0 <= start < end <= after + 1e-6
        held = sum(np.square(audio[round(a * rate_hz) : round(b * rate_hz)]).sum() for _, a, b in words)
        assert held > 0.98 * np.square(audio).sum()
        path = synthesize_cached(TEXT, speaker, tmp_path)
        assert write_stamps(TEXT, speaker, path, tmp_path)
        speak_with_stamps([(TEXT, speaker)], tmp_path / "both", tmp_path / "both", 1)
        assert (tmp_path / "both" / path.name).read_bytes() == path.read_bytes()


def test_glued_words_of_espeak_are_divided_at_a_phoneme() -> None:
    def phoneme(sample: int, name: bytes) -> tuple[int, int, int, bytes]:
        return ESPEAK_PHONEME, 0, sample, name

    events = [
        (ESPEAK_WORD, 0, 0, b""),
        phoneme(0, b"_"),
        phoneme(10, b"aU"),
        phoneme(20, b"t"),
        phoneme(30, b"@"),
        phoneme(40, b"v"),
        phoneme(45, b"_:"),
        (ESPEAK_WORD, 9, 50, b""),
        phoneme(60, b"d"),
        phoneme(70, b"O"),
        phoneme(80, b"g"),
        phoneme(90, b"_"),
    ]
    assert espeak_spans("out of — dog", events, 100, 1) == [("out", 10, 30), ("of", 30, 45), ("dog", 60, 90)]
    # An event one word late counts for the word before, whose group then holds both.
    late = [*events[:7], (ESPEAK_WORD, 2, 50, b""), *events[8:]]
    assert [word for word, _, _ in espeak_spans("out of — dog", late, 100, 1)] == ["out", "of", "dog"]
    assert espeak_spans("a b c", [(ESPEAK_WORD, 0, 0, b""), phoneme(0, b"x")], 9, 1) == []


def test_engines_without_times_fall_back_and_say_so(
    tmp_path: Path, sounds: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AlignmentError, match="pico gives no times"):
        engine_word_times("Hello.", pseudo_speakers("pico", 1, 0)[0])
    aligner = StampsAligner(str(tmp_path))
    num_frames = len(sounds[0]) // 640
    expected = align(PocketsphinxAligner(search=VOICE_SEARCH), sounds[0], SENTENCES[0], num_frames, 25)
    for content in (
        None,
        "damaged",
        json.dumps({"words": [["Anna", 0, "x"]]}),
        json.dumps({"words": [["Ben", 0.0, 0.1]]}),
    ):
        if content is not None:
            stamps_path(sounds[0], tmp_path).write_text(content)
        assert align(aligner, sounds[0], SENTENCES[0], num_frames, 25) == expected
    assert (aligner.num_stamped, aligner.num_fallback) == (0, 4)
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("has no usable time stamps") == 1
    # Audio that is not what the library says gets no stamps.
    speaker = pseudo_speakers(choose_engine("auto"), 1, 0)[0]
    soundfile.write(tmp_path / "other.flac", sounds[1][:9_000], 16_000)
    assert not write_stamps("Hello there.", speaker, tmp_path / "other.flac", tmp_path)
    assert write_stamps_many([("Hello there.", speaker)], [tmp_path / "other.flac"], tmp_path, 1) == 0


def read_spoken(folder: Path) -> list[Utterance]:
    return [*ShardReader(folder, "train"), *ShardReader(folder, "valid")]


def read_words(folder: Path) -> dict[str, tuple[Word, ...]]:
    return {utterance.id: utterance.words for utterance in read_spoken(folder)}


@pytest.mark.parametrize("file_format", ["textgrid", "ctm"])
def test_exported_alignments_are_imported_as_they_were(
    prepared: Path, corpus: Path, tmp_path: Path, file_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run_dir={prepared.parent}", f"export.format={file_format}", f"export.folder={tmp_path / 'out'}"]
    assert main(["export", *words]) == 0
    assert capsys.readouterr().out.count("utterances") == 2
    # Where a folder has the file's name, or a file the folder's.
    taken = tmp_path / "taken" / ("train" if file_format == "textgrid" else "train.ctm")
    taken.parent.mkdir()
    taken.write_text("") if file_format == "textgrid" else taken.mkdir()
    assert main(["export", *words[:2], f"export.folder={taken.parent}"]) == 2
    assert "give another folder with export.folder=FOLDER" in capsys.readouterr().err
    index = prepare(
        tmp_path / "data", options(corpus, align=AlignConfig(method="import", source=str(tmp_path / "out")))
    )
    assert index["aligner"] == "import-auto"
    after = read_words(tmp_path / "data")
    assert {key: [word[:3] for word in words] for key, words in after.items()} == {
        key: [word[:3] for word in words] for key, words in read_words(prepared).items()
    }


def test_faulty_imports_are_named_before_any_work(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    """What pocketsphinx found goes out as TextGrids and comes in again, but for two files."""
    write_textgrids(tmp_path / "grids", read_spoken(prepared), 25)
    align = AlignConfig(method="import", source=str(tmp_path / "grids"))
    prepare(tmp_path / "data", options(corpus, align=align))
    with pytest.raises(
        ProblemsError, match=r"(?s)other settings.*data\.align\.method: 'import' then, 'pocketsphinx' now"
    ):
        prepare(tmp_path / "data", options(corpus))
    (tmp_path / "grids" / "utt_1.TextGrid").unlink()
    (tmp_path / "grids" / "utt_2.TextGrid").write_text("nothing")
    with pytest.raises(ProblemsError, match="2 of 8 utterances") as raised:
        prepare(tmp_path / "faulty", options(corpus, align=align))
    assert len(raised.value.problems) == 2
    assert not (tmp_path / "faulty" / "shards").exists()
    index = prepare(tmp_path / "faulty", options(corpus, align=align, max_unaligned_share=0.3))
    assert sorted(item["id"] for item in left_out(tmp_path / "faulty")) == ["utt_1", "utt_2"]
    assert index["num_unaligned"] == 2


def test_prepare_with_the_times_of_the_manifest(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    """What pocketsphinx found is written into a manifest; its words come out, scores included."""
    before = read_words(prepared)
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        row["path"] = str(corpus / row["path"])
        row["words"] = [
            [word.text, word.start_frame / 25, word.end_frame / 25, word.score] for word in before[row["id"]]
        ]
    folder = tmp_path / "timed"
    folder.mkdir()

    def write() -> None:
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    write()
    align = AlignConfig(method="manifest")
    index = prepare(tmp_path / "data", options(folder, align=align))
    assert index["aligner"] == "manifest"
    assert read_words(tmp_path / "data") == before
    del rows[1]["words"]
    rows[2]["text"] = "Something else."
    write()
    with pytest.raises(ProblemsError, match="alignments in the manifest: 2 of 8 utterances") as raised:
        prepare(tmp_path / "faulty", options(folder, align=align))
    assert raised.value.problems[0] == "utt_1: the corpus gives no times of words for it"
    assert "utt_2: word 1 is 'Something' in the transcript" in raised.value.problems[1]
    assert not (tmp_path / "faulty" / "shards").exists()
    report = check_corpus(folder, "auto", 0.1, 60.0, decode=False, max_examples=0, align=align)
    assert report.counts == {"alignment": 2}
    assert "utt_2: word 1 is 'Something'" in report.as_text()
    prepare(tmp_path / "faulty", options(folder, align=align, max_unaligned_share=0.3))
    assert sorted(item["id"] for item in left_out(tmp_path / "faulty")) == ["utt_1", "utt_2"]
    # With other faults they are told at once.
    rows[3]["path"] = "nowhere.wav"
    write()
    with pytest.raises(ProblemsError) as raised:
        prepare(tmp_path / "both", options(folder, align=align))
    assert len(raised.value.problems) == 3


def test_alignments_that_nobody_gave_are_not_left_out_but_told(corpus: Path, tmp_path: Path) -> None:
    align = AlignConfig(method="manifest")
    for share in (0.1, 1.0):
        with pytest.raises(UserError, match=r"no utterance has any: add words.*or choose another data\.align\.method"):
            prepare(tmp_path / "data", options(corpus, align=align, max_unaligned_share=share))
    assert "no utterance has any" in check_corpus(corpus, "auto", 0.1, 60.0, False, 0, align).as_text()
    grids = AlignConfig(method="import", source=str(tmp_path / "nowhere"))
    assert "there is no such file or folder" in check_corpus(corpus, "auto", 0.1, 60.0, False, 0, grids).as_text()
    # Nor does a limit leave all of them out.
    strict = AlignConfig(min_words_per_second=50.0)
    with pytest.raises(ProblemsError, match="8 of 8 utterances") as raised:
        prepare(tmp_path / "strict", options(corpus, align=strict, max_unaligned_share=1.0))
    assert "max_unaligned_share" not in str(raised.value)


def test_a_limit_of_scores_needs_scores(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    write_textgrids(tmp_path / "grids", read_spoken(prepared), 25)
    align = AlignConfig(method="import", source=str(tmp_path / "grids"), min_score=-3.0)
    with pytest.raises(UserError, match=r"data\.align\.min_score=-3\.0: no word .* has a score: leave the option out"):
        prepare(tmp_path / "data", options(corpus, align=align))


def test_prepare_with_ctc_batches_and_filters_by_score(corpus: Path, tmp_path: Path) -> None:
    labels = ("-", "|", *"abcdefghijklmnopqrstuvwxyz", "'")
    layers = [(16, 10, 5), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2)]
    torch.manual_seed(0)
    architecture = {
        "extractor_mode": "group_norm",
        "extractor_conv_layer_config": layers,
        "extractor_conv_bias": False,
        "encoder_embed_dim": 16,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 1,
        "encoder_num_heads": 2,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": 32,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": False,
        "encoder_layer_drop": 0.0,
        "aux_num_out": len(labels),
    }
    save_ctc_model(tmp_path / "ctc", wav2vec2_model(**architecture), architecture, labels)
    align = AlignConfig(method="ctc", checkpoint=str(tmp_path / "ctc"), level="character", batch=3)
    index = prepare(tmp_path / "data", options(corpus, align=align, shard_utterances=4))
    assert index["aligner"] == "ctc-ctc"
    words = read_words(tmp_path / "data")
    assert len(words) == 8
    for own in words.values():
        assert all(len(word.character_ends) == len(word.text) for word in own)
    prepare(tmp_path / "single", options(corpus, align=replace(align, batch=1), shard_utterances=4))
    assert read_words(tmp_path / "single") == words
    gone = replace(align, checkpoint=str(tmp_path / "gone"))
    with pytest.raises(UserError, match="is no folder and no bundle"):
        prepare(tmp_path / "never", options(corpus, align=gone))
    assert not (tmp_path / "never" / "units.safetensors").exists()
    scores = {key: float(np.mean([word.score for word in own])) for key, own in words.items()}
    limit = float(np.median(list(scores.values())))
    prepare(tmp_path / "best", options(corpus, align=replace(align, min_score=limit), max_unaligned_share=0.5))
    assert read_words(tmp_path / "best").keys() == {key for key, score in scores.items() if score >= limit}
    reasons = {item["id"]: item["reason"] for item in left_out(tmp_path / "best")}
    assert reasons.keys() == {key for key, score in scores.items() if score < limit}
    assert all("below data.align.min_score" in reason for reason in reasons.values())
