"""Documents made together, against each made alone by plain loops over frames, words and pieces."""

from __future__ import annotations

import dataclasses
import io
import random

import numpy as np
import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.data.batches.packing import fill_rows
from lst.data.config import InterleaveConfig
from lst.data.documents.draws import Generators, seed_words, uniform_draws
from lst.data.documents.interleave import KINDS, DocumentBuilder, Request, split_words
from lst.data.documents.spans import Span, _draw, document_generator, draw_spans, draw_spans_together, span_frames
from lst.data.documents.word_pieces import WordPieces, encodes_by_words
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document, PackedBatch, pack_documents
from lst.model.config import PatchingConfig
from lst.model.patching import patch_documents
from lst.recipes.benchmarks.data_reference import loop_document, loop_pipeline
from lst.tokenizers.speech import deduplicate, reduplicate
from lst.tokenizers.speech_bpe import fit_speech_bpe
from lst.tokenizers.text import TextTokenizer, fit_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary

NAMES = "anna ben the warm bread garden small key unbelievably green don't re-read Zoë 中 ½ x — 10".split()  # noqa: SIM905
TOKENIZER = fit_text_tokenizer([" ".join(NAMES[i:] + NAMES[:i]) for i in range(len(NAMES))], 360)
NUM_UNITS = 40
VOCABULARY = Vocabulary(TOKENIZER.vocab_size, NUM_UNITS, TOKENIZER.sha256, "u")
# Words that are none, several, or join what is beside them once they are normalised.
ODD = ["", " ", "a  b", "hello —", "\u0301x", "\u200b", "\t", "a▁b", "▁", "ﷺ", "İ", "\u1fc1", "😀", "<0x41>", "\x07"]

configs = st.builds(
    lambda least, more, share, ratio, speech, leading, *others: InterleaveConfig(
        least, least + more, share, ratio, speech, speech + leading, *others
    ),
    st.integers(1, 6),
    st.integers(0, 30),
    st.floats(0.01, 1.0),
    st.floats(0.05, 3.0),
    st.integers(1, 4),
    st.integers(0, 20),
    st.sampled_from([None, 1.0, 0.3]),
    st.sampled_from([0, 0, 3, 9]),
)


def make_utterance(seed: int, num_words: int, odd_share: float = 0.1) -> Utterance:
    """Words of 0 to 8 frames, pauses of 0 to 5, texts of every kind."""
    generator = np.random.default_rng(seed)
    words, position = [], int(generator.integers(0, 6))
    for _ in range(num_words):
        end = position + int(generator.integers(0, 9))
        text = str(generator.choice(ODD if generator.random() < odd_share else NAMES))
        words.append(Word(text, position, end, -5.0))
        position = end + int(generator.integers(0, 6)) * int(generator.random() < 0.4)
    units = generator.integers(0, NUM_UNITS, position + int(generator.integers(0, 6))).astype(np.uint16)
    text = " ".join(word.text for word in words)
    return Utterance(f"utt_{seed}", "s", text, len(units) / 25, units, tuple(words))


def of_long_runs(utterance: Utterance) -> Utterance:
    """The same with three units, of which mostly one goes on: runs cross words, and cover some."""
    held = np.maximum.accumulate(np.where(utterance.units % 4 == 0, np.arange(len(utterance.units)), 0))
    return dataclasses.replace(utterance, units=utterance.units[held] % 3)


utterances = st.builds(make_utterance, st.integers(0, 10**6), st.integers(1, 40))


def reference(builder: DocumentBuilder, utterance: Utterance, spans: list[Span]) -> Document:
    """A document of spans, by loops."""
    vocabulary, previous = builder.vocabulary, None
    ids, modalities = [vocabulary.bos_id], [TEXT]
    lengths: list[int] = []
    silences: list[bool] = []
    for span in spans:
        if span.modality != previous:
            ids.append(vocabulary.text_id if span.modality == TEXT else vocabulary.speech_id)
            modalities.append(TEXT)
        previous = span.modality
        if span.modality == TEXT:
            text = " ".join(word.text for word in utterance.words[span.first_word : span.last_word])
            ids += builder.tokenizer.encode(text)
            modalities += [TEXT] * len(builder.tokenizer.encode(text))
            continue
        start, end = span_frames(utterance, span.first_word, span.last_word)
        kept = [1] * (end - start)
        if vocabulary.deduplicated:
            before = ids[-1] - vocabulary.first_unit_id  # of the span before; a marker's is below 0
            for place, unit in enumerate(utterance.units[start:end].tolist()):
                kept[place] = int(unit != before)
                before = unit
        units = utterance.units[start:end][np.array(kept, bool)]
        tokens = units if builder.speech_bpe is None else builder.speech_bpe.encode(units)
        ids += [vocabulary.first_unit_id + int(token) for token in tokens]
        modalities += [SPEECH] * len(tokens)
        for segment in utterance.segments() if builder.speech_bpe is None else []:
            if segment.end_frame <= start or segment.start_frame >= end:
                continue
            length = min(segment.end_frame, end) - max(segment.start_frame, start)
            parts = [length]
            if builder.segment_level == "bpe" and segment.word >= 0:
                word = utterance.words[segment.word]
                (pieces,) = builder.tokenizer.piece_characters([word.text])
                pieces = pieces or [0]
                known = getattr(word, "character_ends", ())
                known = np.array(known) if known and len(known) == sum(pieces) else None
                parts = split_words(np.array([length]), np.array([len(pieces)]), np.array(pieces), known).tolist()
            position = max(segment.start_frame, start) - start
            for part in parts:
                lengths.append(sum(kept[position : position + part]))
                position += part
            silences += [segment.word < 0] * len(parts)
    return Document(
        utterance.id,
        np.array([*ids, vocabulary.eos_id], np.int32),
        np.array([*modalities, TEXT], np.uint8),
        np.array(lengths, np.int32),
        np.array(silences, bool),
        segment_level=builder.segment_level,
        speech_marker_id=vocabulary.speech_id,
    )


def assert_same_document(found: Document, expected: Document) -> None:
    for item in dataclasses.fields(Document):
        left, right = getattr(found, item.name), getattr(expected, item.name)
        if isinstance(right, np.ndarray):
            assert left.dtype == right.dtype, item.name
            assert left.tolist() == right.tolist(), item.name
        else:
            assert left == right, item.name


def same_batch(left: PackedBatch, right: PackedBatch) -> bool:
    pairs = [(getattr(left, item.name), getattr(right, item.name)) for item in dataclasses.fields(PackedBatch)]
    return all(a.dtype == b.dtype and torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), utterances, st.integers(0, 3)), max_size=6),
    configs,
    st.sampled_from(["word", "bpe"]),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_documents_made_together_equal_those_of_plain_loops(
    wanted: list[tuple[str, Utterance, int]], config: InterleaveConfig, level: str, seed: int, deduplicated: bool
) -> None:
    if deduplicated:
        wanted = [(kind, of_long_runs(utterance), epoch) for kind, utterance, epoch in wanted]
    vocabulary = dataclasses.replace(VOCABULARY, deduplicated=deduplicated)
    builder = DocumentBuilder(TOKENIZER, vocabulary, config, seed, level)
    found = builder.documents([Request(*request) for request in wanted])
    assert len(found) == len(wanted)
    for document, (kind, utterance, epoch) in zip(found, wanted, strict=True):
        spans = draw_spans(len(utterance.words), config, document_generator(seed, epoch, utterance.id))
        whole = {modality: Span(modality, 0, len(utterance.words)) for modality in (TEXT, SPEECH)}
        if kind == "paired":
            first = document_generator(seed ^ 0x9A12, epoch, utterance.id).random() < 0.5
            spans = [whole[SPEECH], whole[TEXT]] if first else [whole[TEXT], whole[SPEECH]]
        elif kind in ("asr", "tts"):
            spans = [whole[SPEECH], whole[TEXT]] if kind == "asr" else [whole[TEXT], whole[SPEECH]]
        elif kind != "interleaved":
            spans = [whole[TEXT if kind == "text" else SPEECH]]
        assert_same_document(document, reference(builder, utterance, spans))


@settings(max_examples=40, deadline=None)
@given(utterances, st.data(), st.booleans())
def test_spans_in_any_order_are_joined_as_given(utterance: Utterance, data: st.DataObject, deduplicated: bool) -> None:
    utterance = of_long_runs(utterance) if deduplicated else utterance
    vocabulary = dataclasses.replace(VOCABULARY, deduplicated=deduplicated)
    count = len(utterance.words)
    bounds = st.tuples(st.integers(0, count), st.integers(0, count)).map(sorted).filter(lambda pair: pair[0] < pair[1])
    modalities = st.sampled_from([TEXT, SPEECH])
    spans = [Span(modality, *pair) for modality, pair in data.draw(st.lists(st.tuples(modalities, bounds), max_size=5))]
    builder = DocumentBuilder(TOKENIZER, vocabulary, InterleaveConfig(), 0)
    together = builder.from_spans(utterance, spans)
    assert_same_document(together, reference(builder, utterance, spans))
    if spans:
        parts = builder.document(utterance.id, [builder.span_part(utterance, span) for span in spans])
        assert_same_document(parts, together)
    for span in spans:
        part, alone = builder.span_part(utterance, span), reference(builder, utterance, [span])
        assert part.token_ids.tolist() == alone.token_ids[2:-1].tolist()
        assert part.marker_id == alone.token_ids[1]


def test_unaligned_speech_is_deduplicated_as_aligned_speech_is() -> None:
    builder = DocumentBuilder(TOKENIZER, dataclasses.replace(VOCABULARY, deduplicated=True), InterleaveConfig(), 0)
    for seed in range(20):
        utterance = of_long_runs(make_utterance(seed, 12))
        units, durations = deduplicate(utterance.units)
        assert len(units) < 0.7 * len(utterance.units)
        part, document = builder.speech_part(utterance.units), builder.speech(utterance)
        assert (part.token_ids - VOCABULARY.first_unit_id).tolist() == units.tolist()
        assert document.token_ids[2:-1].tolist() == part.token_ids.tolist()
        assert int(document.segment_lengths.sum()) == len(units)
        assert reduplicate(units, durations).tolist() == utterance.units.tolist()


@pytest.mark.parametrize("deduplicated", [False, True])
def test_speech_bpe_joins_the_units_of_each_span(deduplicated: bool) -> None:
    several = [make_utterance(seed, 20) for seed in range(30)]
    several = [of_long_runs(utterance) for utterance in several] if deduplicated else several
    speech_bpe = fit_speech_bpe([utterance.units for utterance in several], NUM_UNITS, 60)
    vocabulary = dataclasses.replace(VOCABULARY, deduplicated=deduplicated)
    builder = DocumentBuilder(
        TOKENIZER,
        vocabulary.of_pieces(speech_bpe.num_pieces, speech_bpe.sha256),
        InterleaveConfig(),
        3,
        speech_bpe=speech_bpe,
    )
    found = builder.documents([Request("interleaved", utterance, 1) for utterance in several])
    for document, utterance in zip(found, several, strict=True):
        spans = draw_spans(len(utterance.words), builder.config, document_generator(3, 1, utterance.id))
        assert_same_document(document, reference(builder, utterance, spans))


def test_entropies_of_documents_made_together_are_those_of_each_alone() -> None:
    def entropies(units: np.ndarray, span_starts: np.ndarray) -> np.ndarray:
        before = np.concatenate([[0], units])[:-1]
        before[span_starts] = 0
        return ((units * 31 + before * 17) % 101).astype(np.float32)

    builder = DocumentBuilder(TOKENIZER, VOCABULARY, InterleaveConfig(), 3, entropies=entropies)
    requests = [Request(KINDS[seed % 3], make_utterance(seed, 15), 2) for seed in range(30)]
    for request, document in zip(requests, builder.documents(requests), strict=True):
        (alone,) = builder.documents([request])
        assert_same_document(document, alone)
        assert len(alone.entropies) == (alone.modalities == SPEECH).sum()
    assert builder.documents([]) == []


def test_times_of_characters_are_taken_where_an_aligner_knows_them() -> None:
    """Only some words have them, and one has more than its pieces have characters: that one's is estimated."""

    text = "wonderfully"
    ends = (1, 1, 2, 2, 3, 3, 30, 31, 32, 33, 36)
    words = (Word(text, 2, 38, -1.0), Word(text, 40, 76, -1.0, ends), Word(text, 76, 112, -1.0, (*ends, 36)))
    utterance = Utterance("u", "s", " ".join([text] * 3), 4.6, np.zeros(115, np.uint16), words)
    builder = DocumentBuilder(TOKENIZER, VOCABULARY, InterleaveConfig(), 0, "bpe")
    document = builder.speech(utterance)
    assert_same_document(document, reference(builder, utterance, [Span(SPEECH, 0, 3)]))
    (pieces,) = TOKENIZER.piece_characters([text])
    assert len(pieces) > 1
    spoken = document.segment_lengths[~document.segment_is_silence].reshape(3, len(pieces)).tolist()
    assert spoken[0] == spoken[2] != spoken[1]
    assert np.cumsum(spoken[1]).tolist() == [ends[done - 1] for done in np.cumsum(pieces)]


def test_cuts_fall_between_frames_of_several_units() -> None:
    """Each word and each silence is of whole frames of three units; so is each span, though silences are halved."""
    vocabulary = dataclasses.replace(VOCABULARY, units_a_frame=3)
    builder = DocumentBuilder(TOKENIZER, vocabulary, InterleaveConfig(), 0)
    rng = np.random.default_rng(0)
    bounds = 3 * np.cumsum(rng.integers(1, 6, 80))
    words = tuple(Word("soft", int(bounds[2 * n]), int(bounds[2 * n + 1]), -1.0) for n in range(40))
    utterance = Utterance("u", "s", " ".join(["soft"] * 40), 9.0, np.arange(bounds[-1]).astype(np.uint16) % 3, words)
    num_starts = 0
    for epoch in range(20):
        document = builder.interleaved(utterance, epoch)
        speech = np.flatnonzero(document.modalities == SPEECH)
        starts = speech[np.diff(speech, prepend=-2) > 1]
        assert (document.token_ids[starts] == vocabulary.first_unit_id).all()
        num_starts += len(starts)
    assert num_starts > 40
    assert span_frames(utterance, 1, 2, 3) == tuple(
        (words[n].end_frame + words[n + 1].start_frame) // 6 * 3 for n in (0, 1)
    )


def test_utterance_without_words_cannot_be_interleaved() -> None:
    unaligned = Utterance("no_words", "", "a", 0.2, np.arange(5, dtype=np.uint16))
    with pytest.raises(UserError, match=r"'no_words' has no aligned words.*data\.mix\.interleaved=0"):
        DocumentBuilder(TOKENIZER, VOCABULARY, InterleaveConfig(), 0).interleaved(unaligned, 0)


def test_loops_of_the_benchmark_give_the_same_batch() -> None:
    several = [make_utterance(seed, 4 + seed % 30, odd_share=0.02) for seed in range(150)]
    config = InterleaveConfig()
    builder = DocumentBuilder(TOKENIZER, VOCABULARY, config, 5)
    documents = builder.documents([Request("interleaved", utterance, 2) for utterance in several])
    for document, utterance in zip(documents, several, strict=True):
        assert_same_document(document, loop_document(utterance, 2, 5, config, TOKENIZER, VOCABULARY))
    for size in (1, 4):
        cuts = patch_documents(documents, "static", PatchingConfig("static", size))
        rows = fill_rows([len(patches) for patches in cuts], 600, 3)
        found = pack_documents([[(documents[index], cuts[index]) for index in row] for row in rows], 600)
        assert found.num_patches > 1700
        assert same_batch(found, loop_pipeline(several, 2, 5, config, TOKENIZER, VOCABULARY, size, 3, 600))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 80), max_size=20), configs, st.integers(0, 2**70))
def test_spans_drawn_together_are_those_drawn_alone(counts: list[int], config: InterleaveConfig, seed: int) -> None:
    several = [
        Utterance(f"utt_{index}", "", "", 0.0, np.zeros(0, np.uint16), (Word("a", 0, 1, 0.0),) * count)
        for index, count in enumerate(counts)
    ]
    epochs = [index % 3 + (index % 2) * 2**33 for index in range(len(several))]
    found = draw_spans_together(several, epochs, config, seed)
    assert (np.diff(found.documents) >= 0).all()
    for index, (utterance, epoch) in enumerate(zip(several, epochs, strict=True)):
        own = np.flatnonzero(found.documents == index)
        spans = zip(found.modalities[own], found.first_words[own], found.last_words[own], strict=True)
        expected = draw_spans(len(utterance.words), config, document_generator(seed, epoch, utterance.id))
        assert [Span(*(int(x) for x in span)) for span in spans] == expected


@pytest.mark.parametrize(
    "seeds", [[[0, 0, 7], [0, 1, 2**32 - 1]], [[2**40, 3, 2**63 + 5]] * 3, [[9]], [[1, 2, 3, 4, 5, 2**90]]]
)
def test_draws_are_numpys(seeds: list[list[int]]) -> None:
    mine = Generators(np.array([seed_words(seed) for seed in seeds], np.uint32).T)
    theirs = [np.random.default_rng(seed) for seed in seeds]
    everyone = np.arange(len(seeds))
    # Ranges of more than half of 2³² are drawn again about as often as not.
    for low, high in ((0, 1), (3, 3), (2, 15), (-5, 2**31 + 2**30), (0, 2**32 - 2)) * 4:
        lows, highs = np.full(len(seeds), low), np.full(len(seeds), high)
        expected = [int(generator.integers(low, high + 1)) for generator in theirs]
        assert mine.integers(lows, highs, everyone).tolist() == expected
        assert mine.random().tolist() == [generator.random() for generator in theirs]


def test_utterance_whose_hash_has_a_zero_high_word_draws_as_numpy_seeds_it() -> None:
    words = np.array([seed_words([3, 1, 77])], np.uint32).T
    assert words.shape == (3, 1)
    found = _draw(np.array([30]), InterleaveConfig(), Generators(words))
    spans = [Span(*map(int, span)) for span in zip(found.modalities, found.first_words, found.last_words, strict=True)]
    assert spans == draw_spans(30, InterleaveConfig(), np.random.default_rng([3, 1, 77]))


def test_uniform_draws_are_the_first_of_numbered_generators() -> None:
    for first in (0, 12_345, 2**32 - 4):
        expected = [np.random.default_rng([7, 2**35, first + index]).random() for index in range(9)]
        assert uniform_draws([7, 2**35], first, 9).tolist() == expected


def train(text: list[str], **options: object) -> TextTokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=400,
        byte_fallback=True,
        minloglevel=2,
        hard_vocab_limit=False,
        **options,
    )
    return TextTokenizer(model.getvalue())


LINES = [" ".join(NAMES[i:] + NAMES[:i]) for i in range(len(NAMES))] * 3
MODELS = {
    "folded BPE": (TOKENIZER, True),
    "plain BPE": (fit_text_tokenizer(LINES, 360, lowercase=False), True),
    # As Llama-2's: nothing is normalised, spaces stay as they are.
    "identity": (
        train(LINES, model_type="bpe", normalization_rule_name="identity", remove_extra_whitespaces=False),
        True,
    ),
    "unigram": (train(LINES, model_type="unigram"), False),
    "across spaces": (train(LINES, model_type="bpe", split_by_whitespace=False), False),
    "space as suffix": (train(LINES, model_type="bpe", treat_whitespace_as_suffix=True), None),
    "no space before": (train(LINES, model_type="bpe", add_dummy_prefix=False), None),
}


@pytest.mark.parametrize("name", MODELS)
def test_pieces_by_words_are_those_of_the_whole_text(name: str) -> None:
    tokenizer, by_words = MODELS[name]
    if by_words is not None:
        assert encodes_by_words(tokenizer) == by_words
    chooser, pieces = random.Random(0), WordPieces(tokenizer)
    texts = [
        " ".join(chooser.choice(ODD if chooser.random() < 0.1 else NAMES) for _ in range(chooser.randint(0, 12)))
        for _ in range(600)
    ]
    found = pieces.encode(texts)
    expected = [tokenizer.encode(text) for text in texts]
    assert found.lengths.tolist() == [len(ids) for ids in expected]
    assert found.ids.tolist() == [index for ids in expected for index in ids]
    remembered = sum(ids is not None for ids in pieces._ids.values())
    assert remembered >= (len(NAMES) - 1 if by_words else 0)


def test_remembered_words_are_forgotten_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lst.data.documents.word_pieces.MAX_CACHED_WORDS", 12)
    pieces = WordPieces(TOKENIZER)
    for start in range(0, 40, 3):
        text = " ".join(f"w{start + index}" for index in range(10))
        assert pieces.encode([text]).ids.tolist() == TOKENIZER.encode(text)
        assert pieces.characters(text.split()) == TOKENIZER.piece_characters(text.split())
        assert len(pieces._ids) <= 12
        assert len(pieces._characters) <= 12
