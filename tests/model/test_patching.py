"""Patching against slow references, and the properties that every strategy keeps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lst.configs.compose import build_config
from lst.model.batch import SPEECH, TEXT, Document, Patches
from lst.model.config import STRATEGIES, PatchingConfig
from lst.model.patching import (
    CAUSAL_STRATEGIES,
    FIXED_STRATEGIES,
    fit_entropy_threshold,
    inference_patching,
    inference_strategy,
    patch_document,
    patch_documents,
    strategy_of_batch,
    unpatched,
)

MARKER = 9
# Documents of a few hundred numbers each: now and then one is larger than what hypothesis keeps of it.
MANY_DOCUMENTS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.data_too_large])


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


def marker_inside_reference(ids: np.ndarray, modalities: np.ndarray, size: int) -> tuple[list[int], list[bool]]:
    """Static patches that may begin with a marker of speech, which is not the document's first token."""
    lengths: list[int] = []
    grouped: list[bool] = []
    for index, (token, modality) in enumerate(zip(ids, modalities, strict=True)):
        is_marker = token == MARKER and index > 0
        joins = modality == SPEECH and index > 0 and grouped[-1] and lengths[-1] < size
        if joins:
            lengths[-1] += 1
        else:
            lengths.append(1)
            grouped.append(bool(modality == SPEECH or is_marker))
    return lengths, [is_open and length < size for is_open, length in zip(grouped, lengths, strict=True)]


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


def entropy_reference(
    modalities: np.ndarray, entropies: np.ndarray, config: PatchingConfig
) -> tuple[list[int], list[bool]]:
    """Walks over tokens, deciding at each whether the patch so far is complete."""
    lengths: list[int] = []
    late: list[bool] = []
    above = iter((entropies > np.float32(config.entropy_threshold)).tolist())
    open_patch = False
    for modality in modalities:
        if modality != SPEECH:
            lengths.append(1)
            late.append(False)
            open_patch = False
            continue
        is_above = next(above)
        if not open_patch or (config.entropy_measure == "surprisal" and is_above):
            lengths.append(0)
            late.append(True)
        lengths[-1] += 1
        uncertain = config.entropy_measure == "entropy" and is_above
        open_patch = not uncertain and lengths[-1] != config.max_patch
        late[-1] = open_patch
    return lengths, late


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
    num_units = int((modalities == SPEECH).sum())
    entropies = draw(st.lists(st.integers(0, 9), min_size=num_units, max_size=num_units))
    return Document(
        "d",
        np.random.default_rng(draw(st.integers(0, 99))).integers(20, 23, len(modalities), np.int32),
        modalities,
        np.array(lengths, np.int32),
        np.array(silence, bool),
        entropies=np.array(entropies, np.float32),
    )


configs = st.builds(
    PatchingConfig,
    static_size=st.integers(1, 9),
    silence=st.sampled_from(["separate", "merged"]),
    max_patch=st.sampled_from([0, 1, 3, 5]),
    entropy_measure=st.sampled_from(["entropy", "surprisal"]),
    entropy_threshold=st.integers(0, 10).map(float),
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


@given(documents(), configs)
@settings(max_examples=150, deadline=None)
def test_static_equals_reference(document: Document, config: PatchingConfig) -> None:
    patches = patch_document(document, "static", config)
    size = min(config.static_size, config.max_patch or config.static_size)
    lengths, late = static_reference(document.modalities, size)
    assert patches.lengths.tolist() == lengths
    assert patches.closes_late.tolist() == late


def marked(document: Document) -> Document:
    """With the marker before every span of speech, and a last one that opens nothing yet."""
    opens = np.diff(document.modalities, append=np.uint8(SPEECH)) == 1
    ids = np.where(opens & (document.modalities == TEXT), MARKER, 0).astype(np.int32)
    return replace(document, token_ids=ids, speech_marker_id=MARKER)


@given(documents(), configs)
@settings(max_examples=150, deadline=None)
def test_a_marker_inside_counts_as_the_first_unit(document: Document, config: PatchingConfig) -> None:
    """And what comes later moves no boundary; the rest of a span is complete at once if that is wanted."""
    document, config = marked(document), replace(config, marker_inside=True)
    patches = patch_document(document, "static", config)
    lengths, late = marker_inside_reference(document.token_ids, document.modalities, config.static_patch_size)
    assert patches.lengths.tolist() == lengths
    assert patches.closes_late.tolist() == late
    at_once = patch_document(document, "static", replace(config, rest_closes_late=False))
    assert at_once.lengths.tolist() == lengths
    assert not at_once.closes_late.any()
    assert inference_patching(replace(config, rest_closes_late=False)) == config
    for num_kept in range(1, len(document), 3):
        kept = replace(document, token_ids=document.token_ids[:num_kept], modalities=document.modalities[:num_kept])
        cut = patch_document(kept, "static", config)
        ends = np.cumsum(patches.lengths)
        known = [
            {int(end) for end, late in zip(np.cumsum(p.lengths), p.closes_late, strict=True) if end + late <= num_kept}
            for p in (patches, cut)
        ]
        assert known[0] == known[1]
        assert cut.lengths.tolist() == np.diff(np.minimum(np.append(0, ends), num_kept)).tolist()[: len(cut)]


def test_the_published_first_patch_is_a_marker_and_three_units() -> None:
    ids = np.array([1, MARKER, *range(20, 29), 2], np.int32)
    document = Document("d", ids, (ids >= 20).astype(np.uint8), speech_marker_id=MARKER)
    published = build_config(["patching=published_static"]).patching
    patches = patch_document(document, "static", published)
    assert (patches.lengths.tolist(), patches.closes_late.any()) == ([1, 4, 4, 2, 1], False)
    with pytest.raises(ValueError, match="does not say which id opens speech"):
        patch_document(replace(document, speech_marker_id=None), "static", published)


@given(documents(), configs)
@MANY_DOCUMENTS
def test_aligned_equals_reference(document: Document, config: PatchingConfig) -> None:
    kept = document.segment_lengths > 0
    patches = patch_document(document, "aligned", config)
    expected = aligned_reference(
        document.modalities,
        document.segment_lengths[kept],
        document.segment_is_silence[kept],
        config.silence == "merged",
        config.max_patch,
    )
    assert patches.lengths.tolist() == expected
    assert not patches.closes_late.any()


@given(documents(), configs)
@MANY_DOCUMENTS
def test_entropy_equals_reference(document: Document, config: PatchingConfig) -> None:
    patches = patch_document(document, "entropy", config)
    lengths, late = entropy_reference(document.modalities, document.entropies, config)
    assert patches.lengths.tolist() == lengths
    assert patches.closes_late.tolist() == late


@given(documents(), configs, st.sampled_from(FIXED_STRATEGIES))
@MANY_DOCUMENTS
def test_what_holds_for_every_strategy(document: Document, config: PatchingConfig, strategy: str) -> None:
    patches = patch_document(document, strategy, config)
    assert_valid(document, patches)
    if config.max_patch:
        assert patches.lengths.max() <= config.max_patch
    opens_with_speech = document.modalities[np.cumsum(patches.lengths) - 1] == SPEECH
    assert not (patches.closes_late & ~opens_with_speech).any(), "text is complete at once"


@given(st.lists(documents(), max_size=5), configs, st.sampled_from(FIXED_STRATEGIES))
@settings(max_examples=100, deadline=None)
def test_documents_are_cut_together_as_alone(several: list[Document], config: PatchingConfig, strategy: str) -> None:
    """Also where a document ends with speech and the next one opens with it."""
    opened = Document(
        "speech",
        np.zeros(7, np.int32),
        np.full(7, SPEECH, np.uint8),
        np.array([7], np.int32),
        np.array([False]),
        entropies=np.arange(7, dtype=np.float32),
    )
    several = [*several, opened, opened]
    together = patch_documents(several, strategy, config)
    for document, patches in zip(several, together, strict=True):
        alone = patch_document(document, strategy, config)
        assert patches.lengths.tolist() == alone.lengths.tolist()
        assert patches.closes_late.tolist() == alone.closes_late.tolist()
        assert patches.lengths.dtype == np.int64
    assert patch_documents([], strategy, config) == []


@given(documents(), configs, st.data())
@settings(max_examples=150, deadline=None)
def test_what_comes_later_moves_no_earlier_boundary(
    document: Document, config: PatchingConfig, data: st.DataObject
) -> None:
    """The patches that are known to be complete at a token, and where the last one began, do not depend on the rest.

    The rest is absent, or its units and their entropies are others.
    """
    num_kept = data.draw(st.integers(1, len(document)))
    kept = document.modalities[:num_kept]
    units = int((kept == SPEECH).sum())
    changed = np.append(document.entropies[:units], 9 - document.entropies[units:])
    ids = np.append(document.token_ids[:num_kept], 42 - document.token_ids[num_kept:])
    for strategy in CAUSAL_STRATEGIES:
        whole = patch_document(document, strategy, config)
        cut = patch_document(
            Document("d", document.token_ids[:num_kept], kept, entropies=document.entropies[:units]), strategy, config
        )
        other = patch_document(Document("d", ids, document.modalities, entropies=changed), strategy, config)
        starts = [set((np.cumsum(p.lengths) - p.lengths).tolist()) for p in (whole, cut, other)]
        early = [{start for start in found if start < num_kept} for found in starts]
        assert early[0] == early[1] == early[2]
        known = [
            {int(end) for end, late in zip(np.cumsum(p.lengths), p.closes_late, strict=True) if end + late <= num_kept}
            for p in (whole, cut, other)
        ]
        assert known[0] == known[1] == known[2]


@given(documents())
@settings(max_examples=30, deadline=None)
def test_size_one_and_none_leave_tokens_alone(document: Document) -> None:
    single = patch_document(document, "static", PatchingConfig(static_size=1))
    assert single.lengths.tolist() == unpatched(len(document)).lengths.tolist()
    assert not single.closes_late.any()
    assert patch_document(document, "speech_bpe", PatchingConfig()).lengths.tolist() == single.lengths.tolist()


@pytest.mark.parametrize("measure", ["entropy", "surprisal"])
@pytest.mark.parametrize("max_patch", [0, 6])
def test_threshold_gives_the_mean_patch_that_was_asked_for(measure: str, max_patch: int) -> None:
    rng = np.random.default_rng(1)
    sequences = [rng.gamma(2.0, 1.0, int(rng.integers(0, 300))).astype(np.float32) for _ in range(40)]
    config = PatchingConfig("entropy", max_patch=max_patch, entropy_measure=measure, entropy_size=3.5)
    threshold, mean = fit_entropy_threshold(sequences, config)
    assert mean == pytest.approx(3.5, abs=0.01)
    fitted = PatchingConfig("entropy", max_patch=max_patch, entropy_measure=measure, entropy_threshold=threshold)
    cuts = [
        patch_document(Document("", np.zeros(len(x)), np.full(len(x), SPEECH), entropies=x), "entropy", fitted)
        for x in sequences
    ]
    assert sum(map(len, sequences)) / sum(map(len, cuts)) == pytest.approx(mean)
    assert np.concatenate(sequences).min() < threshold < np.concatenate(sequences).max()


def test_entropy_needs_entropies_and_a_threshold() -> None:
    document = Document("d", np.zeros(3, np.int32), np.array([TEXT, SPEECH, SPEECH], np.uint8))
    with pytest.raises(ValueError, match=r"patching\.entropy_threshold"):
        patch_document(document, "entropy", PatchingConfig("entropy"))
    with pytest.raises(ValueError, match="has 0 entropies for 2 speech units"):
        patch_document(document, "entropy", PatchingConfig("entropy", entropy_threshold=1.0))
    with pytest.raises(ValueError, match="no speech to train on"):
        fit_entropy_threshold([np.zeros(0, np.float32)], PatchingConfig("entropy"))


def test_segments_of_another_level_are_refused() -> None:
    document = Document("d", np.zeros(2, np.int32), np.array([TEXT, SPEECH]), np.array([1]), np.array([False]))
    with pytest.raises(ValueError, match=r"level 'word', but patching\.aligned_to=bpe"):
        patch_document(document, "aligned", PatchingConfig(aligned_to="bpe"))
    text = Document("t", np.zeros(2, np.int32), np.zeros(2, np.uint8))
    assert patch_document(text, "aligned", PatchingConfig(aligned_to="bpe")).lengths.tolist() == [1, 1]


def test_aligned_needs_an_alignment() -> None:
    document = Document("d", np.zeros(3, np.int32), np.array([TEXT, SPEECH, SPEECH], np.uint8))
    with pytest.raises(ValueError, match=r"sum to 0, but the document has 2 speech"):
        patch_document(document, "aligned", PatchingConfig())


def test_a_strategy_that_is_drawn_cuts_no_document() -> None:
    document = Document("d", np.zeros(1, np.int32), np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match="none, static, aligned, entropy, speech_bpe"):
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
    found = {name: inference_strategy(PatchingConfig(name)) for name in STRATEGIES}
    assert not {"aligned", "mixed", "curriculum"} & set(found.values())
    assert found == found | {
        "none": "none",
        "static": "static",
        "aligned": "static",
        "mixed": "static",
        "curriculum": "static",
        "entropy": "entropy",
        "speech_bpe": "speech_bpe",
    }


def test_problems_name_every_option() -> None:
    problems = PatchingConfig("sttic", 0, "merge", -1, 0.8, 0.2).problems()
    assert len(problems) == 5
    assert "sttic" in "".join(problems)
    others = PatchingConfig("entropy", 4, "separate", 3, 1 / 3, 2 / 3, "letter", "rarity", 0.5, -1.0, 0, 0, 0)
    assert len(others.problems()) == 7
    assert PatchingConfig("entropy", max_patch=3).problems() == [
        "patching.entropy_size=4.0: no mean can exceed patching.max_patch=3"
    ]
