"""Rows as full as the documents allow, and long documents in pieces that lose nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lst.data.batches.packing import cut_document, fill_rows, rest_of_document, top_up_rows
from lst.data.batches.stream import LEAST_PIECE_SHARE
from lst.data.config import DataConfig
from lst.model.batch import IGNORE_ID, SPEECH, TEXT, Document, pack_documents
from lst.model.patching import PatchingConfig, patch_document

BOS, EOS, TEXT_MARKER, SPEECH_MARKER, FIRST_UNIT = 1, 2, 3, 4, 1_000
MARKERS = {TEXT: TEXT_MARKER, SPEECH: SPEECH_MARKER}
SPECIAL_IDS = {TEXT_MARKER, SPEECH_MARKER, EOS}


def make_document(seed: int, num_spans: int) -> Document:
    """<bos>, alternating spans behind their markers, <eos>; ids are all different within text and within speech."""
    generator = np.random.default_rng(seed)
    ids, modalities, lengths, silences = [BOS], [TEXT], [], []
    modality = int(generator.integers(0, 2))
    for _ in range(num_spans):
        ids.append(MARKERS[modality])
        modalities.append(TEXT)
        if modality == TEXT:
            size = int(generator.integers(1, 12))
            ids += [10 + len(ids) + offset for offset in range(size)]
        else:
            parts = [int(generator.integers(1, 12)) for _ in range(int(generator.integers(1, 6)))]
            size = sum(parts)
            ids += [FIRST_UNIT + len(ids) + offset for offset in range(size)]
            lengths += parts
            silences += [bool(generator.random() < 0.3) for _ in parts]
        modalities += [modality] * size
        modality = SPEECH if modality == TEXT else TEXT
    return Document(
        f"doc_{seed}",
        np.array([*ids, EOS], np.int32),
        np.array([*modalities, TEXT], np.uint8),
        np.array(lengths, np.int32),
        np.array(silences, bool),
    )


documents = st.builds(make_document, st.integers(0, 10**6), st.integers(1, 7))
cuttings = st.builds(
    lambda strategy, size, silence, longest: (strategy, PatchingConfig(strategy, size, silence, longest)),
    st.sampled_from(["none", "static", "aligned"]),
    st.integers(1, 6),
    st.sampled_from(["separate", "merged"]),
    st.sampled_from([0, 3]),
)


def segment_of_units(document: Document) -> list[tuple[int, bool]]:
    """For each speech token, the number of its segment and whether that is a silence."""
    return [
        (number, bool(is_silence))
        for number, (length, is_silence) in enumerate(
            zip(document.segment_lengths, document.segment_is_silence, strict=True)
        )
        for _ in range(length)
    ]


def pieces_of(document: Document, strategy: str, config: PatchingConfig, max_patches: int) -> list[Document]:
    """A document in pieces of at most ``max_patches`` patches, as the stream cuts it."""
    pieces, first_token = [], 0
    while first_token < len(document):
        rest = rest_of_document(document, first_token, MARKERS, SPECIAL_IDS)
        patches = patch_document(rest, strategy, config)
        if len(patches) > max_patches:
            left_before = len(rest)
            rest, patches = cut_document(rest, patches, max_patches)
            first_token = len(document) - (left_before - len(rest))
        else:
            first_token = len(document)
        pack_documents([[(rest, patches)]], max_patches)  # checks that patches tile the piece and fit
        pieces.append(rest)
    return pieces


@settings(max_examples=300)
@given(st.lists(st.integers(1, 20), max_size=40), st.integers(1, 8))
def test_rows_hold_what_fits_and_each_item_once(sizes: list[int], num_rows: int) -> None:
    rows = fill_rows(sizes, 20, num_rows)
    placed = [index for row in rows for index in row]
    assert len(placed) == len(set(placed))
    assert all(sum(sizes[index] for index in row) <= 20 for row in rows)
    assert len(rows) == num_rows or len(placed) == len(sizes)
    taken: set[int] = set()
    for row in rows:
        assert row == sorted(row)
        assert row[0] == min(set(range(len(sizes))) - taken)
        taken |= set(row)


@settings(max_examples=150)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=9))
def test_row_is_the_fullest_there_is_and_prefers_older_items(sizes: list[int]) -> None:
    ((opener, *others),) = fill_rows(sizes, 30, 1)
    assert opener == 0
    subsets = [
        subset
        for count in range(len(sizes))
        for subset in combinations(range(1, len(sizes)), count)
        if sizes[0] + sum(sizes[index] for index in subset) <= 30
    ]
    fullest = max(sum(sizes[index] for index in subset) for subset in subsets)
    # Among equals, the one that spares the youngest item, then the next youngest, and so on.
    best = min(
        (subset for subset in subsets if sum(sizes[index] for index in subset) == fullest),
        key=lambda subset: sorted(subset, reverse=True),
    )
    assert tuple(others) == best


def test_no_items_fill_no_row() -> None:
    assert fill_rows([], 10, 3) == []
    assert fill_rows([4], 10, 0) == []
    assert fill_rows([10, 10], 10, 3) == [[0], [1]]


@settings(max_examples=300)
@given(st.lists(st.integers(1, 70), max_size=40), st.integers(1, 8), st.integers(2, 6))
def test_topped_up_rows_hold_what_they_held_and_at_most_one_piece_more(
    sizes: list[int], num_rows: int, least_piece: int
) -> None:
    """Items of up to three and a half rows; a piece fills its row and leaves the item a rest."""
    rows = fill_rows([min(size, 20) for size in sizes], 20, num_rows)
    waiting = [index for index in range(len(sizes)) if not any(index in row for row in rows)]
    before = [list(row) for row in rows]
    filled = top_up_rows(rows, sizes, 20, least_piece)
    assert rows == before
    assert len(filled) == len(rows)
    for row, parts in zip(rows, filled, strict=True):
        kept, added = parts[: len(row)], parts[len(row) :]
        assert kept == [(index, min(sizes[index], 20)) for index in row]
        left = 20 - sum(size for _, size in kept)
        # The oldest that waits, for any that fits whole is in a row by now.
        expected = [(waiting.pop(0), left)] if left >= least_piece and waiting else []
        assert added == expected
        assert all(sizes[index] > size for index, size in added)
    placed = [index for parts in filled for index, _ in parts]
    assert len(placed) == len(set(placed))


@settings(max_examples=200)
@given(st.lists(st.integers(1, 400), min_size=60, max_size=90), st.integers(1, 8))
def test_less_than_a_fiftieth_of_a_row_stays_empty_while_enough_waits(sizes: list[int], num_rows: int) -> None:
    rows = fill_rows([min(size, 200) for size in sizes], 200, num_rows)
    assume(len(sizes) - sum(map(len, rows)) >= num_rows)
    filled = top_up_rows(rows, sizes, 200, 200 // LEAST_PIECE_SHARE)
    used = [sum(size for _, size in parts) for parts in filled]
    assert len(used) == num_rows
    assert all(200 - 200 / 50 < size <= 200 for size in used)


def test_rows_are_topped_up_with_the_oldest_item_that_waits() -> None:
    # What a row has left, each waiting item once, in order.
    assert top_up_rows([[0], [1], [2]], [7, 10, 6, 9, 8], 10, 2) == [[(0, 7), (3, 3)], [(1, 10)], [(2, 6), (4, 4)]]
    # Nothing is left to wait; too little is left; the long ones fill their rows.
    assert top_up_rows([[0], [1]], [7, 6], 10, 2) == [[(0, 7)], [(1, 6)]]
    assert top_up_rows([[0]], [8, 9], 10, 3) == [[(0, 8)]]
    assert top_up_rows([[0], [1]], [35, 11, 9], 10, 2) == [[(0, 10)], [(1, 10)]]
    # What would not be cut is no piece.
    assert top_up_rows([[0]], [7, 3, 2, 4], 10, 2) == [[(0, 7), (3, 3)]]
    assert top_up_rows([], [7], 10, 2) == []


def simulated_waste(draw: Callable[[np.random.Generator], int], row_patches: int, num_rows: int) -> float:
    """Share of empty slots over 60 batches of the default buffer, filled, topped up and cut as the stream does."""
    generator = np.random.default_rng(0)
    buffer: list[int] = []
    used = 0
    for _ in range(60):
        buffer += [draw(generator) for _ in range(DataConfig().pack_buffer - len(buffer))]
        rows = fill_rows([min(size, row_patches) for size in buffer], row_patches, num_rows)
        assert len(rows) == num_rows
        parts = [
            part for row in top_up_rows(rows, buffer, row_patches, row_patches // LEAST_PIECE_SHARE) for part in row
        ]
        used += sum(size for _, size in parts)
        # A rest opens with a marker of its own.
        rests = [buffer[index] - size + 1 for index, size in parts if buffer[index] > size]
        taken = {index for index, _ in parts}
        buffer = rests + [size for index, size in enumerate(buffer) if index not in taken]
    return 1 - used / (60 * num_rows * row_patches)


def story_patches(generator: np.random.Generator, units_a_patch: int) -> int:
    """A story of 35 to 55 words of 8 units, as interleaved, text or speech in equal parts."""
    num_words, kind = int(generator.integers(35, 56)), generator.integers(0, 3)
    spoken = [num_words / 3, 0, num_words][kind]
    return int(3 + 1.5 * (num_words - spoken) + 8 * spoken / units_a_patch)


@pytest.mark.parametrize(
    ("num_rows", "row_patches", "units_a_patch"),
    [(8, 256, 4), (8, 256, 6), (4, 512, 1), (4, 512, 4), (4, 512, 6), (2, 1024, 1), (2, 1024, 4)],
)
def test_less_than_two_per_cent_is_wasted_on_stories(num_rows: int, row_patches: int, units_a_patch: int) -> None:
    waste = simulated_waste(lambda generator: story_patches(generator, units_a_patch), row_patches, num_rows)
    print(f"{num_rows} × {row_patches}, {units_a_patch} units a patch: {waste:.2%} wasted")
    assert waste < 0.02


@pytest.mark.parametrize(("low", "high", "most_waste"), [(10, 200, 0.001), (50, 1_500, 0.005), (260, 500, 0.005)])
def test_waste_on_documents_of_other_lengths(low: int, high: int, most_waste: float) -> None:
    """Rows of 512: short documents fill the gaps; where all are longer than half a row, pieces do."""
    waste = simulated_waste(lambda generator: int(generator.integers(low, high)), 512, 4)
    print(f"documents of {low} to {high} patches: {waste:.2%} wasted")
    assert waste < most_waste


@settings(max_examples=150, deadline=None)
@given(documents, cuttings, st.integers(2, 25))
def test_pieces_hold_every_token_once_and_predict_across_the_cut(
    document: Document, cutting: tuple[str, PatchingConfig], max_patches: int
) -> None:
    pieces = pieces_of(document, *cutting, max_patches)
    joined: list[int] = []
    for number, piece in enumerate(pieces):
        ids, modalities = piece.token_ids.tolist(), piece.modalities.tolist()
        start = len(joined)
        whole = document.token_ids.tolist()
        if number and whole[start] not in SPECIAL_IDS:
            # The piece begins inside a span, so that span's marker stands before it once more.
            assert ids[0] == MARKERS[document.modalities[start]]
            assert modalities[0] == TEXT
            ids, modalities = ids[1:], modalities[1:]
        end = start + len(ids)
        assert ids == whole[start:end]
        assert modalities == document.modalities[start:end].tolist()
        assert piece.final_target_id == (IGNORE_ID if number == len(pieces) - 1 else whole[end])
        assert piece.id == document.id
        joined += ids
    assert joined == document.token_ids.tolist()


@settings(max_examples=150, deadline=None)
@given(documents, cuttings, st.integers(2, 25))
def test_segments_of_pieces_are_those_of_the_document_with_the_cuts_added(
    document: Document, cutting: tuple[str, PatchingConfig], max_patches: int
) -> None:
    expected = segment_of_units(document)
    done = 0
    for piece in pieces_of(document, *cutting, max_patches):
        found = segment_of_units(piece)
        own = expected[done : done + len(found)]
        assert len(found) == (piece.modalities == SPEECH).sum()
        assert (piece.segment_lengths > 0).all()
        assert [is_silence for _, is_silence in found] == [is_silence for _, is_silence in own]
        assert [a[0] != b[0] for a, b in pairwise(found)] == [a[0] != b[0] for a, b in pairwise(own)]
        done += len(found)
    assert done == len(expected)


def test_cut_falls_between_patches_and_keeps_them() -> None:
    document = make_document(3, 5)
    config = PatchingConfig("static", 4)
    patches = patch_document(document, "static", config)
    for max_patches in range(1, len(patches)):
        piece, kept = cut_document(document, patches, max_patches)
        assert kept.lengths.tolist() == patches.lengths[:max_patches].tolist()
        assert kept.closes_late.tolist() == patches.closes_late[:max_patches].tolist()
        assert len(piece) == kept.lengths.sum()
        batch = pack_documents([[(piece, kept)]], max_patches)
        targets = document.token_ids[1 : len(piece) + 1].tolist()
        assert batch.target_ids.tolist() == targets


def test_piece_of_a_piece_keeps_the_last_target() -> None:
    document = make_document(5, 4)
    patches = patch_document(document, "none", PatchingConfig("none"))
    piece, _ = cut_document(document, patches, 20)
    rest = rest_of_document(piece, 12, MARKERS, SPECIAL_IDS)
    assert rest.final_target_id == document.token_ids[20]
    assert rest_of_document(document, 0, MARKERS, SPECIAL_IDS) is document


def test_cutting_changes_nothing_in_the_document() -> None:
    document = make_document(8, 6)
    before = [array.copy() for array in (document.token_ids, document.modalities, document.segment_lengths)]
    pieces_of(document, "aligned", PatchingConfig("aligned"), 5)
    after = (document.token_ids, document.modalities, document.segment_lengths)
    assert all(np.array_equal(left, right) for left, right in zip(before, after, strict=True))


def test_written_and_unaligned_speech_can_be_cut_without_segments() -> None:
    text = Document("a", np.arange(10, 30, dtype=np.int32), np.zeros(20, np.uint8))
    pieces = pieces_of(text, "none", PatchingConfig("none"), 6)
    assert [len(piece.segment_lengths) for piece in pieces] == [0] * len(pieces)
    unaligned = Document(
        "b",
        np.array([BOS, SPEECH_MARKER, *range(1_000, 1_040), EOS], np.int32),
        np.array([TEXT, TEXT, *[SPEECH] * 40, TEXT], np.uint8),
    )
    pieces = pieces_of(unaligned, "static", PatchingConfig("static", 4), 6)
    assert sum((piece.modalities == SPEECH).sum() for piece in pieces) == 40


@settings(max_examples=60, deadline=None)
@given(documents, st.integers(2, 25))
def test_pieces_keep_the_level_of_segments_and_the_entropies_of_units(document: Document, max_patches: int) -> None:
    units = int((document.modalities == SPEECH).sum())
    document = replace(document, segment_level="bpe", entropies=np.arange(units, dtype=np.float32))
    config = PatchingConfig("entropy", aligned_to="bpe", entropy_threshold=3.0, max_patch=4)
    for strategy in ("aligned", "entropy"):
        pieces = pieces_of(document, strategy, config, max_patches)
        assert {piece.segment_level for piece in pieces} == {"bpe"}
        assert np.concatenate([piece.entropies for piece in pieces]).tolist() == list(range(units))
        assert all(len(piece.entropies) == (piece.modalities == SPEECH).sum() for piece in pieces)
