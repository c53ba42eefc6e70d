"""Interleaved documents: how spans are cut, which frames and words they hold, and what the tokens then are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.data.config import InterleaveConfig
from lst.data.documents.interleave import DocumentBuilder, Span, document_generator, draw_spans, span_frames
from lst.data.documents.spans import draw_spans_together, written_where_unaligned
from lst.data.utterance import Utterance, Word
from lst.model.batch import IGNORE_ID, SPEECH, TEXT, Document
from lst.tokenizers.text import fit_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary

NAMES = "anna ben the warm bread garden small key dog slept all day rain green hill boat push home".split()  # noqa: SIM905
TOKENIZER = fit_text_tokenizer([" ".join(NAMES[i:] + NAMES[:i]) for i in range(len(NAMES))], 330)
NUM_UNITS = 500
VOCABULARY = Vocabulary(TOKENIZER.vocab_size, NUM_UNITS, TOKENIZER.sha256, "u")

configs = st.builds(
    lambda least, more, share, ratio, speech, leading, *others: InterleaveConfig(
        least, least + more, share, ratio, speech, speech + leading, *others
    ),
    st.integers(1, 12),
    st.integers(0, 30),
    st.floats(0.01, 1.0),
    st.floats(0.05, 3.0),
    st.integers(1, 6),
    st.integers(0, 20),
    st.sampled_from([None, 1.0, 0.3]),
    st.sampled_from([0, 0, 3, 9]),
)


def make_utterance(seed: int, num_words: int, name: str = "utt", words_frames: tuple[int, int] = (1, 9)) -> Utterance:
    """Random words of ``words_frames`` frames with pauses of 0 to 5 between some, and random units."""
    generator = np.random.default_rng(seed)
    words, position = [], int(generator.integers(0, 6))
    for _ in range(num_words):
        end = position + int(generator.integers(words_frames[0], words_frames[1] + 1))
        words.append(Word(str(generator.choice(NAMES)), position, end, -5.0))
        position = end + int(generator.integers(0, 6)) * int(generator.random() < 0.4)
    num_frames = position + int(generator.integers(0, 6))
    units = generator.integers(0, NUM_UNITS, num_frames).astype(np.uint16)
    text = " ".join(word.text for word in words)
    return Utterance(f"{name}_{seed}", "s", text, num_frames / 25, units, tuple(words))


utterances = st.builds(make_utterance, st.integers(0, 10**6), st.integers(1, 60))


def builder(config: InterleaveConfig | None = None, seed: int = 0) -> DocumentBuilder:
    return DocumentBuilder(TOKENIZER, VOCABULARY, config or InterleaveConfig(), seed)


def owner_of_frames(utterance: Utterance) -> list[int]:
    """The word that each frame goes with: of a pause between two words the first half, rounded down, stays left."""
    words = utterance.words
    owners = []
    for frame in range(utterance.num_frames):
        left = max((index for index, word in enumerate(words) if word.start_frame <= frame), default=-1)
        if left < 0 or frame < words[left].end_frame or left == len(words) - 1:
            owners.append(max(left, 0))
        else:
            pause = words[left + 1].start_frame - words[left].end_frame
            owners.append(left if frame - words[left].end_frame < pause // 2 else left + 1)
    return owners


def parse(document: Document) -> list[tuple[int, list[int]]]:
    """Spans of a document as (modality, ids); checks that markers, <bos> and <eos> stand where they must."""
    ids = document.token_ids.tolist()
    assert ids[0] == VOCABULARY.bos_id
    assert ids[-1] == VOCABULARY.eos_id
    spans: list[tuple[int, list[int]]] = []
    modalities = []
    for index in ids[1:-1]:
        assert index not in (VOCABULARY.bos_id, VOCABULARY.eos_id, VOCABULARY.pad_id)
        if index in (VOCABULARY.text_id, VOCABULARY.speech_id):
            spans.append((TEXT if index == VOCABULARY.text_id else SPEECH, []))
            modalities.append(TEXT)
        else:
            assert (index >= VOCABULARY.first_unit_id) == (spans[-1][0] == SPEECH)
            spans[-1][1].append(index)
            modalities.append(spans[-1][0])
    assert document.modalities.tolist() == [TEXT, *modalities, TEXT]
    return spans


@settings(max_examples=300)
@given(st.integers(1, 120), configs, st.integers(0, 10**6))
def test_spans_tile_alternate_and_keep_their_limits(num_words: int, config: InterleaveConfig, seed: int) -> None:
    assert config.problems() == []
    spans = draw_spans(num_words, config, np.random.default_rng(seed))
    assert [word for span in spans for word in range(span.first_word, span.last_word)] == list(range(num_words))
    assert all(a.modality != b.modality for a, b in zip(spans, spans[1:], strict=False))  # noqa: RUF007
    most_text = max(1, min(config.text_max_words, int(config.text_max_share * num_words)))
    for place, span in enumerate(spans):
        size, is_last = span.last_word - span.first_word, place == len(spans) - 1
        # How much of a last span may have been joined to it.
        merged = max(config.merge_last_below_words - 1, 0) if is_last else 0
        assert size >= (min(config.merge_last_below_words, 2) if is_last and place else 1)
        if span.modality == TEXT:
            assert size - merged <= most_text
            assert is_last or size >= min(config.text_min_words, most_text)
        elif place == 0:
            share = config.leading_speech_max_share
            most = min(config.leading_speech_max_words, num_words if share is None else max(1, int(share * num_words)))
            assert size - merged <= most
            assert is_last or size >= min(config.speech_min_words, most)
        else:
            before = spans[place - 1].last_word - spans[place - 1].first_word
            wanted = max(config.speech_min_words, round(config.speech_ratio * before))
            rest = num_words - span.first_word
            assert size == min(wanted, rest) or (is_last and size == rest <= wanted + merged)


def test_cuts_are_spread_over_all_that_is_allowed() -> None:
    """100 words under the published settings: text of 5 to 30 words, opening speech of 2 to 15."""
    drawn = [draw_spans(100, InterleaveConfig(), np.random.default_rng(seed)) for seed in range(3_000)]
    opens_with_speech = np.mean([spans[0].modality == SPEECH for spans in drawn])
    assert abs(opens_with_speech - 0.5) < 4 * 0.5 / np.sqrt(3_000)
    texts = [span.last_word - span.first_word for spans in drawn for span in spans[:-1] if span.modality == TEXT]
    leading = [spans[0].last_word for spans in drawn if spans[0].modality == SPEECH]
    for sizes, low, high in ((texts, 5, 30), (leading, 2, 15)):
        counts = np.bincount(sizes, minlength=high + 1)
        assert counts[:low].sum() == 0
        assert len(counts) == high + 1
        expected = len(sizes) / (high - low + 1)
        # The last text spans are left out above, which makes long ones slightly rarer than short ones.
        assert np.abs(counts[low:] / expected - 1).max() < 0.35
    speech_share = np.mean(
        [sum(span.last_word - span.first_word for span in spans if span.modality == SPEECH) for spans in drawn]
    )
    print(f"{opens_with_speech:.1%} open with speech; {speech_share:.1f} of 100 words are spoken")
    assert 30 < speech_share < 42


def test_a_short_last_span_joins_the_one_before_it() -> None:
    """The published limit of three words; what is not the last span, or long enough, stays."""
    plain, merging = InterleaveConfig(), InterleaveConfig(merge_last_below_words=3)
    num_merged = 0
    for seed in range(300):
        before, after = (draw_spans(40, config, np.random.default_rng(seed)) for config in (plain, merging))
        if before[-1].last_word - before[-1].first_word < 3:
            num_merged += 1
            assert after == [*before[:-2], before[-2]._replace(last_word=40)]
        else:
            assert after == before
    assert num_merged > 20
    # An only span has none before it.
    assert len(draw_spans(2, merging, np.random.default_rng(0))) == 1


def test_a_leading_span_is_limited_by_its_utterance() -> None:
    """Six words: without the limit most leading spans take all of them, with it each length is as likely."""
    sizes = {
        share: [
            spans[0].last_word
            for seed in range(2_000)
            if (
                spans := draw_spans(
                    6, InterleaveConfig(leading_speech_max_share=share), np.random.default_rng([seed, 1])
                )
            )[0].modality
            == SPEECH
        ]
        for share in (None, 1.0, 0.5)
    }
    assert np.mean(np.array(sizes[None]) == 6) == pytest.approx(10 / 14, abs=0.05)
    assert set(sizes[1.0]) == {2, 3, 4, 5, 6}
    assert np.mean(np.array(sizes[1.0]) == 6) == pytest.approx(1 / 5, abs=0.05)
    assert set(sizes[0.5]) == {2, 3}


def test_share_of_speech_tokens_is_near_the_published_one() -> None:
    """0.77 of the tokens: at 25 units a second and 160 words a minute, a word and its pause are 9.4 units."""
    make = builder()
    documents = [
        make.interleaved(make_utterance(seed, 40, words_frames=(5, 11)), epoch)
        for seed in range(60)
        for epoch in range(3)
    ]
    units = sum(int((document.modalities == SPEECH).sum()) for document in documents)
    share = units / sum(len(document) for document in documents)
    print(f"{share:.1%} of the tokens are speech")
    assert 0.68 < share < 0.86


@given(utterances)
def test_frames_of_a_span_are_those_of_its_words_and_half_the_pauses_at_its_cuts(utterance: Utterance) -> None:
    owners = owner_of_frames(utterance)
    count = len(utterance.words)
    for first in range(0, count, 3):
        for last in range(first + 1, count + 1, 2):
            start, end = span_frames(utterance, first, last)
            owned = [frame for frame, owner in enumerate(owners) if first <= owner < last]
            assert list(range(start, end)) == owned


def test_odd_pause_is_halved_rounding_down_and_outer_pauses_stay_whole() -> None:
    words = (Word("a", 3, 5, 0.0), Word("b", 10, 12, 0.0), Word("c", 12, 14, 0.0))
    utterance = Utterance("a", "", "a b c", 1.0, np.zeros(20, np.uint16), words)
    assert span_frames(utterance, 0, 1) == (0, 7)
    assert span_frames(utterance, 1, 2) == (7, 12)
    assert span_frames(utterance, 2, 3) == (12, 20)
    assert span_frames(utterance, 0, 3) == (0, 20)


@settings(max_examples=60, deadline=None)
@given(utterances, configs, st.integers(0, 50), st.integers(0, 5))
def test_document_holds_the_words_and_units_of_its_spans(
    utterance: Utterance, config: InterleaveConfig, seed: int, epoch: int
) -> None:
    document = builder(config, seed).interleaved(utterance, epoch)
    expected = draw_spans(len(utterance.words), config, document_generator(seed, epoch, utterance.id))
    found = parse(document)
    assert [modality for modality, _ in found] == [span.modality for span in expected]
    owners = owner_of_frames(utterance)
    for (modality, ids), span in zip(found, expected, strict=True):
        if modality == TEXT:
            words = [word.text for word in utterance.words[span.first_word : span.last_word]]
            assert ids == TOKENIZER.encode(" ".join(words))
            assert TOKENIZER.decode(ids) == " ".join(words)
        else:
            units = [
                int(unit)
                for unit, owner in zip(utterance.units, owners, strict=True)
                if span.first_word <= owner < span.last_word
            ]
            assert ids == [VOCABULARY.first_unit_id + unit for unit in units]
    assert document.id == utterance.id
    assert document.final_target_id == IGNORE_ID
    assert (document.token_ids.dtype, document.modalities.dtype) == (np.int32, np.uint8)


@settings(max_examples=60, deadline=None)
@given(utterances, st.integers(0, 50))
def test_segments_tile_the_speech_tokens_and_are_cut_where_spans_are(utterance: Utterance, seed: int) -> None:
    document = builder(seed=seed).interleaved(utterance, 0)
    owners = owner_of_frames(utterance)
    labels = {
        frame: number
        for number, segment in enumerate(utterance.segments())
        for frame in range(segment.start_frame, segment.end_frame)
    }
    runs: list[list[int]] = []
    for place, span in enumerate(
        draw_spans(len(utterance.words), InterleaveConfig(), document_generator(seed, 0, utterance.id))
    ):
        if span.modality == TEXT:
            continue
        for frame, owner in enumerate(owners):
            if span.first_word <= owner < span.last_word:
                key = [place, labels[frame]]
                if not runs or runs[-1][:2] != key:
                    runs.append([*key, 0])
                runs[-1][2] += 1
    assert document.segment_lengths.tolist() == [length for _, _, length in runs]
    silent = [utterance.segments()[number].word < 0 for _, number, _ in runs]
    assert document.segment_is_silence.tolist() == silent
    assert document.segment_lengths.sum() == (document.modalities == SPEECH).sum()
    assert (document.segment_lengths > 0).all()


def test_document_is_a_function_of_seed_epoch_and_id() -> None:
    utterance = make_utterance(1, 40)
    make = builder(seed=3)
    first = make.interleaved(utterance, 2)
    make.interleaved(make_utterance(2, 40), 2)
    np.random.seed(7)
    assert np.array_equal(first.token_ids, builder(seed=3).interleaved(utterance, 2).token_ids)
    cuts = {
        (seed, epoch, name): tuple(draw_spans(40, InterleaveConfig(), document_generator(seed, epoch, name)))
        for seed in range(4)
        for epoch in range(4)
        for name in ("utt_1", "utt_2", "utt_10")
    }
    # Chance alone makes a few of the 48 equal at most.
    assert len(set(cuts.values())) >= 46


def test_each_epoch_draws_new_cuts_and_both_first_modalities() -> None:
    utterance, make = make_utterance(5, 30), builder()
    documents = [make.interleaved(utterance, epoch) for epoch in range(12)]
    assert len({document.token_ids.tobytes() for document in documents}) >= 11
    assert {int(document.token_ids[1]) for document in documents} == {VOCABULARY.text_id, VOCABULARY.speech_id}


@given(utterances)
def test_speech_and_text_documents_are_the_whole_utterance(utterance: Utterance) -> None:
    make = builder()
    ((modality, ids),) = parse(make.speech(utterance))
    assert modality == SPEECH
    assert ids == (utterance.units.astype(int) + VOCABULARY.first_unit_id).tolist()
    segments = [(segment.word < 0, segment.end_frame - segment.start_frame) for segment in utterance.segments()]
    document = make.speech(utterance)
    pairs = zip(document.segment_is_silence.tolist(), document.segment_lengths.tolist(), strict=True)
    assert list(pairs) == segments
    ((modality, ids),) = parse(make.text(utterance))
    assert modality == TEXT
    assert ids == TOKENIZER.encode(utterance.text)
    assert len(make.text(utterance).segment_lengths) == 0


def test_a_pair_is_the_utterance_twice_in_an_order_that_each_epoch_draws() -> None:
    make = builder()
    utterance = make_utterance(1, 9)
    parsed = [parse(make.paired(utterance, epoch)) for epoch in range(24)]
    for parts in parsed:
        assert dict(parts) == {
            SPEECH: (utterance.units.astype(int) + VOCABULARY.first_unit_id).tolist(),
            TEXT: TOKENIZER.encode(utterance.text),
        }
    assert {parts[0][0] for parts in parsed} == {SPEECH, TEXT}
    assert make.paired(utterance, 3).token_ids.tolist() == make.paired(utterance, 3).token_ids.tolist()


def test_written_text_needs_neither_words_nor_units() -> None:
    written = Utterance("text_1", "", "Anna slept, 😀!", 0.0, np.zeros(0, np.uint16))
    ((_, ids),) = parse(builder().text(written))
    assert TOKENIZER.decode(ids) == "anna slept, 😀!"


def test_utterance_without_words_is_speech_still() -> None:
    unaligned = Utterance("a", "", "a", 0.2, np.arange(5, dtype=np.uint16))
    document = builder().speech(unaligned)
    assert parse(document) == [(SPEECH, [VOCABULARY.first_unit_id + unit for unit in range(5)])]
    assert document.segment_is_silence.tolist() == [True]


@pytest.mark.parametrize("num_words", [1, 2, 3])
def test_shortest_utterances_make_documents(num_words: int) -> None:
    first_modalities = set()
    for seed in range(20):
        spans = parse(builder(seed=seed).interleaved(make_utterance(seed, num_words), 0))
        first_modalities.add(spans[0][0])
        assert len(spans) <= num_words
    assert first_modalities == {TEXT, SPEECH}


def test_spans_of_one_modality_that_meet_share_a_marker_and_the_end_may_be_left_open() -> None:
    utterance, make = make_utterance(4, 6), builder()
    spans = [Span(TEXT, 0, 2), Span(SPEECH, 2, 3), Span(SPEECH, 3, 6)]
    found = parse(make.from_spans(utterance, spans))
    assert [modality for modality, _ in found] == [TEXT, SPEECH]
    start, _ = span_frames(utterance, 2, 3)
    assert found[1][1] == (utterance.units[start:].astype(int) + VOCABULARY.first_unit_id).tolist()
    open_ended = make.document("a", [make.span_part(utterance, span) for span in spans], end=False)
    assert np.array_equal(open_ended.token_ids, make.from_spans(utterance, spans).token_ids[:-1])
    assert np.array_equal(open_ended.modalities, make.from_spans(utterance, spans).modalities[:-1])


@given(utterances, st.data())
def test_words_that_were_not_found_are_in_no_speech_span(utterance: Utterance, data: st.DataObject) -> None:
    """Nor is a frame of theirs; all words are still there once, in order."""
    missing = data.draw(st.sets(st.integers(0, len(utterance.words) - 1), min_size=1))
    words = tuple(word._replace(is_unaligned=place in missing) for place, word in enumerate(utterance.words))
    drawn = draw_spans_together([utterance, utterance], [0, 1], InterleaveConfig(), 0)
    spans = written_where_unaligned(drawn, [replace(utterance, words=words), utterance])
    own = spans.documents == 0
    assert [list(column[~own]) for column in spans[1:]] == [list(column[drawn.documents == 1]) for column in drawn[1:]]
    position = 0
    for modality, first, last in zip(*(column[own].tolist() for column in spans[1:]), strict=True):
        assert (first, last > first) == (position, True)
        position = last
        if modality == SPEECH:
            assert not missing & set(range(first, last))
    assert position == len(words)
    assert written_where_unaligned(drawn, [utterance, utterance]) is drawn
