"""Patching against slow references, and the properties that every strategy keeps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.model.batch import SPEECH, TEXT, Document, Patches
from lst.model.config import PatchingConfig
from lst.model.patching import (
    aligned_patches,
    inference_strategy,
    patch_document,
    static_patches,
    strategy_of_batch,
    unpatched,
)


def static_reference(modalities: np.ndarray, size: int) -> tuple[list[int], list[bool]]:
    lengths: list[int] = []
    speech: list[bool] = []
    for index, modality in enumerate(modalities):
        joins = modality == SPEECH and index > 0 and modalities[index - 1] == SPEECH and lengths[-1] < size
        if joins:
            lengths[-1] += 1
        else:
            lengths.append(1)
            speech.append(modality == SPEECH)
    return lengths, [is_speech and length < size for is_speech, length in zip(speech, lengths, strict=True)]


def aligned_reference(modalities, segment_lengths, is_silence, merge: bool, max_patch: int) -> list[int]:
    """Walks over tokens, each unit labelled by its segment."""
    labels = [(i, s) for i, (n, s) in enumerate(zip(segment_lengths, is_silence, strict=True)) for _ in range(n)]
    lengths: list[int] = []
    unit, previous, opened_by_silence = 0, None, False
    for index, modality in enumerate(modalities):
        if modality != SPEECH:
            lengths.append(1)
            previous = None
            continue
        segment, silence = labels[unit]
        unit += 1
        opens_span = index == 0 or modalities[index - 1] != SPEECH
        if opens_span:
            new, opened_by_silence = True, silence
        elif segment == previous:
            new = False
        elif merge:
            new = not silence and not opened_by_silence
            opened_by_silence = False
        else:
            new = True
        previous = segment
        if new or (max_patch and lengths[-1] == max_patch):
            lengths.append(1)
        else:
            lengths[-1] += 1
    return lengths


@st.composite
def documents(draw: st.DrawFn) -> Document:
    spans = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 25)), min_size=1, max_size=6))
    modalities = np.array([m for text, speech in spans for m in [TEXT] * text + [SPEECH] * speech], np.uint8)
    # Segments end with their span, as the interleaver cuts them.
    lengths: list[int] = []
    for _, speech in spans:
        left = speech
        while left:
            lengths.append(min(draw(st.integers(0, 12)), left))
            left -= lengths[-1]
    silence = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    return Document(
        "d", np.zeros(len(modalities), np.int32), modalities, np.array(lengths, np.int32), np.array(silence, bool)
    )


def assert_valid(document: Document, patches: Patches) -> None:
    assert (patches.lengths > 0).all()
    assert patches.lengths.sum() == len(document)
    assert patches.lengths[0] == 1
    ends = np.cumsum(patches.lengths)
    for start, end in zip(ends - patches.lengths, ends, strict=True):
        kinds = set(document.modalities[start:end].tolist())
        assert len(kinds) == 1, "a patch crosses a change of modality"
        assert kinds == {SPEECH} or end - start == 1, "text is a patch of one token"


@given(documents(), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_static_equals_reference(document: Document, size: int) -> None:
    patches = static_patches(document.modalities, size)
    lengths, late = static_reference(document.modalities, size)
    assert patches.lengths.tolist() == lengths
    assert patches.closes_late.tolist() == late
    assert_valid(document, patches)


@given(documents(), st.booleans(), st.sampled_from([0, 1, 3, 5]))
@settings(max_examples=200, deadline=None)
def test_aligned_equals_reference(document: Document, merge: bool, max_patch: int) -> None:
    kept = document.segment_lengths > 0
    patches = aligned_patches(
        document.modalities, document.segment_lengths, document.segment_is_silence, merge, max_patch
    )
    expected = aligned_reference(
        document.modalities, document.segment_lengths[kept], document.segment_is_silence[kept], merge, max_patch
    )
    assert patches.lengths.tolist() == expected
    assert_valid(document, patches)


@given(documents())
@settings(max_examples=30, deadline=None)
def test_size_one_and_none_leave_tokens_alone(document: Document) -> None:
    assert static_patches(document.modalities, 1).lengths.tolist() == unpatched(len(document)).lengths.tolist()
    assert not static_patches(document.modalities, 1).closes_late.any()


def test_aligned_needs_an_alignment() -> None:
    document = Document("d", np.zeros(3, np.int32), np.array([TEXT, SPEECH, SPEECH], np.uint8))
    with pytest.raises(ValueError, match=r"sum to 0, but the document has 2 speech"):
        patch_document(document, "aligned", PatchingConfig())


def test_a_strategy_that_is_drawn_cuts_no_document() -> None:
    document = Document("d", np.zeros(1, np.int32), np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match="none, static, aligned"):
        patch_document(document, "curriculum", PatchingConfig())


def test_curriculum_is_aligned_then_mixed_then_static() -> None:
    config = PatchingConfig("curriculum")
    drawn = [strategy_of_batch(config, 3, index, 3000) for index in range(3000)]
    assert set(drawn[:1000]) == {"aligned"}
    assert set(drawn[2000:]) == {"static"}
    shares = [np.mean([s == "aligned" for s in drawn[a:b]]) for a, b in pairwise(range(1000, 2001, 200))]
    # The probability falls linearly: 0.9, 0.7, … in the five fifths of the middle third; four standard errors.
    np.testing.assert_allclose(shares, [0.9, 0.7, 0.5, 0.3, 0.1], atol=0.14)


def test_strategy_is_a_pure_function_of_seed_and_index() -> None:
    config = PatchingConfig("mixed")
    forwards = [strategy_of_batch(config, 5, index, 100) for index in range(100)]
    backwards = [strategy_of_batch(config, 5, index, 100) for index in reversed(range(100))][::-1]
    assert forwards == backwards
    assert set(forwards) == {"aligned", "static"}
    assert forwards != [strategy_of_batch(config, 6, index, 100) for index in range(100)]


def test_curriculum_of_no_width_switches_at_once() -> None:
    config = PatchingConfig("curriculum", curriculum_start=0.5, curriculum_end=0.5)
    drawn = [strategy_of_batch(config, 0, index, 10) for index in range(10)]
    assert drawn == ["aligned"] * 5 + ["static"] * 5


def test_inference_needs_no_aligner() -> None:
    assert [inference_strategy(PatchingConfig(s)) for s in ("none", "static", "aligned", "mixed", "curriculum")] == [
        "none", "static", "static", "static", "static",
    ]  # fmt: skip


def test_problems_name_every_option() -> None:
    problems = PatchingConfig("sttic", 0, "merge", -1, 0.8, 0.2).problems()
    assert len(problems) == 5
    assert "sttic" in problems[0]
