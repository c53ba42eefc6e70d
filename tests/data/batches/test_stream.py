"""The stream of batches: a function of its seed, exact to resume, fair to every utterance, and counted."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from lst.data.batches.mixing import mix_sources
from lst.data.batches.stream import STATE_VERSION, BatchStream, DocumentKey, StreamPlan, StreamState
from lst.data.config import InterleaveConfig, MixConfig
from lst.data.documents.interleave import KINDS, DocumentBuilder
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from lst.model.batch import IGNORE_ID, SPEECH, Document, PackedBatch
from lst.model.patching import PatchingConfig
from lst.tokenizers.text import fit_text_tokenizer
from lst.tokenizers.vocabulary import Vocabulary

NAMES = "anna ben warm bread garden small key dog slept all day rain green hill boat push"
TOKENIZER = fit_text_tokenizer([NAMES, NAMES[::-1]], 310)
UNITS_EACH = 1_000
NUM_SPOKEN = 12
VOCABULARY = Vocabulary(TOKENIZER.vocab_size, 20 * UNITS_EACH, TOKENIZER.sha256, "u")
NUM_BATCHES = 12
STRATEGIES = ("none", "static", "aligned", "curriculum", "mixed", "entropy")


def entropies(units: np.ndarray, span_starts: np.ndarray) -> np.ndarray:
    """As a unit model gives them: of each unit and the one before it in the span."""
    before = np.concatenate([[0], units])[:-1]
    before[span_starts] = 0
    return ((units * 31 + before * 17) % 101).astype(np.float32)


def make_utterance(index: int) -> Utterance:
    """Random words and pauses; its units count up from ``index · 1000``, so that every token tells where it is from."""
    generator = np.random.default_rng(index)
    words, position = [], int(generator.integers(0, 4))
    for _ in range(int(generator.integers(6, 16))):
        end = position + int(generator.integers(2, 9))
        words.append(Word(str(generator.choice(NAMES.split())), position, end, -5.0))
        position = end + int(generator.integers(0, 4)) * int(generator.random() < 0.5)
    units = (np.arange(position + int(generator.integers(0, 4))) + index * UNITS_EACH).astype(np.uint16)
    text = " ".join(word.text for word in words)
    return Utterance(f"utt_{index}", "s", text, len(units) / 25, units, tuple(words))


SPOKEN = [make_utterance(index) for index in range(NUM_SPOKEN)]
WRITTEN = [
    Utterance(f"text_{index}", "", " ".join(NAMES.split()[index : index + 7]), 0.0, np.zeros(0, np.uint16))
    for index in range(8)
]


def make_plan(**changes: Any) -> StreamPlan:
    """Batches of two rows of 40 patches; ``mix`` as (interleaved, text, speech), weights of documents."""
    seed = changes.setdefault("seed", 0)
    mix = MixConfig(*changes.pop("mix", (1.0, 1.0, 1.0)))
    strategy = changes.pop("strategy", "static")
    sources = mix_sources(changes.pop("spoken", SPOKEN), changes.pop("written", WRITTEN), mix)
    values: dict[str, Any] = {
        "num_rows": 2,
        "row_patches": 40,
        "num_batches": NUM_BATCHES,
        "pack_buffer": 8,
        "mix_by": "documents",
        "fingerprint": "data and settings",
        **changes,
    }
    builder = DocumentBuilder(TOKENIZER, VOCABULARY, InterleaveConfig(), seed, entropies=entropies)
    return StreamPlan(sources, builder, PatchingConfig(strategy, entropy_threshold=75.0), **values)


def make_stream(state: StreamState | None = None, **changes: Any) -> BatchStream:
    return BatchStream(make_plan(**changes), state=state)


def through_json(state: StreamState) -> StreamState:
    return StreamState.from_json(json.loads(json.dumps(state.to_json())))


def same(left: PackedBatch, right: PackedBatch) -> bool:
    pairs = [(getattr(left, field.name), getattr(right, field.name)) for field in dataclasses.fields(PackedBatch)]
    return all(a.dtype == b.dtype and torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def pieces_of(batch: PackedBatch) -> list[tuple[list[int], int]]:
    """Token ids of each piece of a document in a batch, with what its last token is to predict."""
    places = [batch.doc_ids == number for number in range(int(batch.doc_ids.max()) + 1)]
    return [(batch.token_ids[place].tolist(), int(batch.target_ids[place][-1])) for place in places]


def drawn(num_documents: int, **changes: Any) -> dict[tuple[str, int, int], Document]:
    """The first documents in the order in which they are drawn, whole, by kind, epoch and number."""
    stream = make_stream(**changes)
    keys: list[DocumentKey] = []
    while len(keys) < num_documents:
        stream.pack_buffer = len(keys) + 1
        # As if rows were full already: one document a call.
        stream._draw(stream.state, "none", keys, [10**9] * len(keys))
    return {key[:3]: stream._items[key].document for key in keys}


def drawn_ids(num_documents: int, **changes: Any) -> list[list[int]]:
    return [document.token_ids.tolist() for document in drawn(num_documents, **changes).values()]


def piece_between(document: Document, first: int, last: int) -> tuple[list[int], int]:
    """What ``pieces_of`` gives for a part of a document: behind the marker of its span, if it begins inside one."""
    ids = document.token_ids.tolist()
    is_marked = first == 0 or ids[first] in (VOCABULARY.text_id, VOCABULARY.speech_id, VOCABULARY.eos_id)
    marker = VOCABULARY.speech_id if document.modalities[first] == SPEECH else VOCABULARY.text_id
    return [marker] * (not is_marked) + ids[first:last], ids[last] if last < len(ids) else IGNORE_ID


def source_of(document: list[int]) -> int:
    """The number of the utterance whose units, or else whose text, a document holds."""
    units = [index - VOCABULARY.first_unit_id for index in document if index >= VOCABULARY.first_unit_id]
    if units:
        return units[0] // UNITS_EACH
    text = TOKENIZER.decode([index for index in document if index < VOCABULARY.num_text])
    (number,) = [index for index, utterance in enumerate(SPOKEN) if utterance.text == text]
    return number


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batches_are_a_function_of_the_seed(strategy: str) -> None:
    first = list(islice(make_stream(strategy=strategy, seed=3), 6))
    np.random.seed(1)
    torch.manual_seed(1)
    second = list(islice(make_stream(strategy=strategy, seed=3), 6))
    assert all(same(a, b) and s == t for (a, s), (b, t) in zip(first, second, strict=True))
    other = list(islice(make_stream(strategy=strategy, seed=4), 6))
    assert not any(same(a, b) for (a, _), (b, _) in zip(first, other, strict=True))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("row_patches", [40, 16])
def test_resuming_after_any_batch_goes_on_as_if_nothing_had_happened(strategy: str, row_patches: int) -> None:
    """Rows of 16 patches cut most documents, those of 40 some; so rests wait in the buffer too."""
    uninterrupted = list(islice(make_stream(strategy=strategy, row_patches=row_patches), NUM_BATCHES))
    assert any(DocumentKey(*key).first_token for _, state in uninterrupted for key in state.buffer)
    for num_done in (0, 1, 4, 7, 11):
        stream = make_stream(strategy=strategy, row_patches=row_patches)
        for _ in range(num_done):
            next(stream)
        resumed = make_stream(strategy=strategy, row_patches=row_patches, state=through_json(stream.state))
        for batch, state in uninterrupted[num_done:]:
            found, found_state = next(resumed)
            assert same(found, batch)
            assert found_state == state


def test_states_given_out_do_not_change_afterwards() -> None:
    stream = make_stream()
    states = [state for _, state in islice(stream, 3)]
    kept = [json.dumps(state.to_json()) for state in states]
    next(stream)
    assert [json.dumps(state.to_json()) for state in states] == kept


def test_a_state_that_is_continued_is_left_alone() -> None:
    _, state = next(make_stream())
    before = json.dumps(state.to_json())
    resumed = make_stream(state=state)
    list(islice(resumed, 3))
    assert json.dumps(state.to_json()) == before


def test_state_of_other_data_or_settings_is_refused() -> None:
    _, state = next(make_stream(fingerprint="these"))
    with pytest.raises(UserError, match=r"other data or settings \(these, these are\s+those\).*another run_dir"):
        make_stream(fingerprint="those", state=state)


def test_state_of_another_version_is_refused() -> None:
    _, state = next(make_stream())
    values = {**state.to_json(), "version": STATE_VERSION + 1}
    with pytest.raises(UserError, match=rf"version {STATE_VERSION + 1}, this project reads {STATE_VERSION}"):
        StreamState.from_json(values)


@pytest.mark.parametrize("kind", KINDS)
def test_every_utterance_comes_once_an_epoch_in_a_new_order(kind: str) -> None:
    mix = tuple(float(kind == other) for other in KINDS)
    # Documents of recognition and of reading aloud are not cut.
    own = drawn_ids(4 * NUM_SPOKEN, mix=mix, written=[], row_patches=200)
    sources = [source_of(document) for document in own]
    epochs = [tuple(sources[start : start + NUM_SPOKEN]) for start in range(0, len(sources), NUM_SPOKEN)]
    assert all(sorted(epoch) == list(range(NUM_SPOKEN)) for epoch in epochs)
    assert len(set(epochs)) == 4


def test_interleaved_documents_are_cut_anew_each_epoch() -> None:
    documents = drawn_ids(3 * NUM_SPOKEN, mix=(1.0, 0.0, 0.0))
    by_source: dict[int, set[tuple[int, ...]]] = {}
    for document in documents:
        by_source.setdefault(source_of(document), set()).add(tuple(document))
    assert np.mean([len(different) for different in by_source.values()]) > 2


def test_each_kind_keeps_its_own_epochs_whatever_the_others_do() -> None:
    alone = drawn_ids(30, mix=(0.0, 0.0, 1.0))
    mixed = drawn_ids(60, mix=(0.0, 2.0, 1.0))
    spoken = [document for document in mixed if VOCABULARY.speech_id in document]
    assert NUM_SPOKEN < len(spoken) <= 30
    assert spoken == alone[: len(spoken)]


def test_weights_of_the_mix_are_kept() -> None:
    for four in ((1.0, 1.0, 1.0, 0.0), (1.0, 2.0, 0.0, 0.0), (0.5, 0.0, 4.5, 0.0), (1.0, 0.0, 1.0, 2.0)):
        mix = (*four, 0.0, 0.0)
        stream = make_stream(mix=mix, row_patches=600, pack_buffer=60)
        *_, (_, state) = islice(stream, 40)
        assert sum(state.cursors.values()) == state.num_drawn > 800
        for kind, weight in zip(KINDS, mix, strict=True):
            share = weight / sum(mix)
            deviation = np.sqrt(share * (1 - share) / state.num_drawn)
            found = state.cursors.get(kind, 0) / state.num_drawn
            print(f"{kind}: {found:.3f}, wanted {share:.3f} ± {deviation:.3f}")
            assert abs(found - share) <= 4 * deviation


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("num_rows", "row_patches", "pack_buffer"), [(1, 8, 1), (2, 24, 8), (3, 40, 1)])
def test_batches_hold_what_the_buffer_gives_up_and_nothing_else(
    strategy: str, num_rows: int, row_patches: int, pack_buffer: int
) -> None:
    """By the buffer before and after a batch, its pieces are known to the token; together they make the documents."""
    shape = {"num_rows": num_rows, "row_patches": row_patches, "pack_buffer": pack_buffer}
    stream = make_stream(strategy=strategy, **shape)
    whole = drawn(100, strategy=strategy, **shape)
    before: dict[tuple[str, int, int], int] = {}
    num_drawn = num_cut = 0
    num_pieces: Counter[tuple[str, int, int]] = Counter()
    while num_drawn - len(before) < 20:
        batch, state = next(stream)
        before |= dict.fromkeys(list(whole)[num_drawn : state.num_drawn], 0)
        num_drawn = state.num_drawn
        after = {(kind, epoch, number): first_token for kind, epoch, number, first_token in state.buffer}
        assert len(after) == len(state.buffer)
        assert after.keys() <= before.keys()
        found = pieces_of(batch)
        for name, first in before.items():
            document = whole[name]
            last = after.get(name, len(document))
            assert first <= last
            if first < last:
                piece = piece_between(document, first, last)
                if name not in after and piece not in found:
                    # The end is predicted by the token before it, and left out where it found no room.
                    piece = piece_between(document, first, last - 1)
                assert piece in found
                found.remove(piece)
                num_pieces[name] += 1
                num_cut += name in after
        assert found == []
        assert state.num_cut == num_cut
        before = after
    assert num_cut >= 5
    assert max(num_pieces.values()) >= (4 if row_patches == 8 else 2)


@pytest.mark.parametrize("strategy", ["none", "static", "aligned", "mixed", "entropy"])
def test_no_unit_is_lost_or_repeated_and_each_predicts_the_next(strategy: str) -> None:
    """Speech alone in rows of 16: what came out and what waits are all units of all documents drawn."""
    stream = make_stream(strategy=strategy, mix=(0.0, 0.0, 1.0), row_patches=16)
    counts: Counter[int] = Counter()
    for batch, _ in islice(stream, 40):
        spoken = batch.modalities == SPEECH
        units = (batch.token_ids[spoken] - VOCABULARY.first_unit_id).tolist()
        counts.update(units)
        for unit, target in zip(units, batch.target_ids[spoken].tolist(), strict=True):
            is_last = unit % UNITS_EACH == SPOKEN[unit // UNITS_EACH].num_frames - 1
            assert target == (VOCABULARY.eos_id if is_last else VOCABULARY.first_unit_id + unit + 1)
        without_target = batch.token_ids[batch.target_ids == IGNORE_ID]
        assert (without_target == VOCABULARY.eos_id).all()
        assert len(without_target) == (batch.token_ids == VOCABULARY.eos_id).sum()
    state, num_drawn = stream.state, []
    for index, utterance in enumerate(SPOKEN):
        waiting = [first_token for _, _, number, first_token in state.buffer if number == index]
        # <bos> and <speech> come before the units.
        totals = {
            counts[index * UNITS_EACH + frame] + sum(first_token <= frame + 2 for first_token in waiting)
            for frame in range(utterance.num_frames)
        }
        assert len(totals) == 1
        num_drawn += totals
    assert sum(num_drawn) == state.num_drawn
    assert max(num_drawn) - min(num_drawn) <= 1
    assert state.num_cut > 5


def test_documents_begun_and_ended_are_counted_in_any_mix() -> None:
    """Every document's end is predicted once; alone in a rest it is left out, for it predicts nothing."""
    stream = make_stream(strategy="curriculum", row_patches=24)
    ids: list[int] = []
    targets: list[int] = []
    for batch, _ in islice(stream, NUM_BATCHES):
        assert all(len(piece) > 1 for piece, _ in pieces_of(batch))
        ids += batch.token_ids.tolist()
        targets += batch.target_ids.tolist()
    state = stream.state
    assert ids.count(VOCABULARY.bos_id) + sum(key[3] == 0 for key in state.buffer) == state.num_drawn
    assert targets.count(VOCABULARY.eos_id) + len(state.buffer) == state.num_drawn
    assert 0 < targets.count(VOCABULARY.eos_id) - ids.count(VOCABULARY.eos_id) < state.num_cut
    assert targets.count(IGNORE_ID) == ids.count(VOCABULARY.eos_id)
    assert VOCABULARY.pad_id not in ids


def test_totals_of_the_state_are_those_of_the_batches() -> None:
    slots = patches = tokens = speech = 0
    for number, (batch, state) in enumerate(islice(make_stream(strategy="mixed", row_patches=24), 15), 1):
        assert batch.patch_doc_ids.shape == (2, 24)
        slots += 48
        patches += int((batch.patch_doc_ids >= 0).sum())
        tokens += len(batch.token_ids)
        speech += int((batch.token_ids >= VOCABULARY.first_unit_id).sum())
        counted = (state.num_slots, state.num_patches, state.num_tokens, state.num_speech_tokens, state.batch_index)
        assert counted == (slots, patches, tokens, speech, number)


def test_state_stays_small() -> None:
    sizes = []
    for _, state in islice(make_stream(row_patches=24), 120):
        assert len(state.buffer) <= 8
        sizes.append(len(json.dumps(state.to_json())))
    assert max(sizes) < 800


def test_curriculum_is_aligned_at_first_and_static_at_last() -> None:
    curriculum = make_stream(strategy="curriculum")
    aligned, static = make_stream(strategy="aligned"), make_stream(strategy="static")
    for _ in range(NUM_BATCHES // 3):
        assert same(next(curriculum)[0], next(aligned)[0])
    while curriculum.state.batch_index < 2 * NUM_BATCHES // 3:
        next(curriculum)
    static = make_stream(strategy="static", state=through_json(curriculum.state))
    for _ in range(NUM_BATCHES // 3):
        assert same(next(curriculum)[0], next(static)[0])


def test_text_documents_are_the_written_texts_or_else_the_transcripts() -> None:
    for written, expected in ((WRITTEN, WRITTEN), ([], SPOKEN)):
        documents = drawn_ids(len(expected), mix=(0.0, 1.0, 0.0), written=written)
        texts = {TOKENIZER.decode([i for i in document if i < VOCABULARY.num_text]) for document in documents}
        assert texts == {utterance.text for utterance in expected}
        assert not any(VOCABULARY.speech_id in document for document in documents)


def test_text_alone_needs_no_speech_but_speech_does() -> None:
    batch, _ = next(make_stream(mix=(0.0, 1.0, 0.0), spoken=[]))
    assert int(batch.doc_ids.max()) >= 2
    assert int(batch.token_ids.max()) < VOCABULARY.speech_id
    assert not batch.modalities.any()
    for mix, kind in (((1.0, 1.0, 0.0), "interleaved"), ((0.0, 1.0, 1.0), "speech")):
        with pytest.raises(UserError, match=rf"no aligned speech: set data\.mix\.{kind}=0$"):
            make_stream(mix=mix, spoken=[])


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="neither speech nor text to train on: prepare a corpus"):
        make_stream(mix=(0.0, 1.0, 0.0), spoken=[], written=[])


@pytest.mark.parametrize(("num_rows", "row_patches", "pack_buffer"), [(6, 40, 1), (2, 400, 8), (4, 4_096, 128)])
def test_batch_has_its_rows_and_a_document_in_each(num_rows: int, row_patches: int, pack_buffer: int) -> None:
    stream = make_stream(num_rows=num_rows, row_patches=row_patches, pack_buffer=pack_buffer)
    for batch, _ in islice(stream, 4):
        assert batch.patch_doc_ids.shape == (num_rows, row_patches)
        assert (batch.patch_doc_ids[:, 0] >= 0).all()


@pytest.mark.parametrize("strategy", ["none", "static"])
@pytest.mark.parametrize(
    ("num_rows", "row_patches", "pack_buffer"), [(4, 4_096, 128), (2, 400, 8), (2, 100, 1), (16, 100, 1)]
)
def test_batch_is_full_whatever_the_length_of_documents(
    num_rows: int, row_patches: int, pack_buffer: int, strategy: str
) -> None:
    stream = make_stream(strategy=strategy, num_rows=num_rows, row_patches=row_patches, pack_buffer=pack_buffer)
    *_, (_, state) = islice(stream, 5)
    waste = 1 - state.num_patches / (5 * num_rows * row_patches)
    print(f"{num_rows} × {row_patches} from {pack_buffer} documents: {waste:.1%} wasted")
    assert waste < 0.02
