"""How speech units are grouped into patches (LST paper, section 2).

Text pieces and special tokens are always patches of one token; only spans of speech units are grouped, and no patch
crosses a change of modality. All strategies are pure, vectorised functions; the strategy of a batch is a pure function
of (seed, batch index), so workers, prefetch and resume cannot change it. This file imports nothing of the project but
the batch and the options that it shares.
"""

from __future__ import annotations

import numpy as np

from lst.model.batch import SPEECH, Document, Patches
from lst.model.config import PatchingConfig

# A draw of its own, so that no other use of (seed, batch index) can be correlated with it.
_STRATEGY_STREAM = 0x9A7C


def patch_document(document: Document, strategy: str, config: PatchingConfig) -> Patches:
    """Cuts one document by a fixed strategy: ``none``, ``static`` or ``aligned``.

    Raises:
        ValueError: the strategy is not a fixed one, or aligned patching lacks an alignment.
    """
    if strategy == "none":
        return unpatched(len(document))
    if strategy == "static":
        return static_patches(document.modalities, config.static_size)
    if strategy == "aligned":
        return aligned_patches(
            document.modalities,
            document.segment_lengths,
            document.segment_is_silence,
            merge_silence=config.silence == "merged",
            max_patch=config.max_patch,
        )
    raise ValueError(f"strategy {strategy!r} does not say how to cut a document; allowed are none, static, aligned")


def unpatched(num_tokens: int) -> Patches:
    """Every token a patch of its own: the token-level baseline."""
    return Patches(np.ones(num_tokens, np.int64), np.zeros(num_tokens, bool))


def static_patches(modalities: np.ndarray, size: int) -> Patches:
    """Every ``size`` units a patch; the rest of a span is a shorter one, whose end only the next token reveals.

    Args:
        modalities: uint8 [n].
        size: units a patch.
    """
    is_speech = modalities == SPEECH
    opens_patch = ~is_speech | (_units_into_span(is_speech) % size == 0)
    lengths, first_tokens = _lengths(opens_patch)
    return Patches(lengths, is_speech[first_tokens] & (lengths < size))


def aligned_patches(
    modalities: np.ndarray,
    segment_lengths: np.ndarray,
    segment_is_silence: np.ndarray,
    merge_silence: bool = False,
    max_patch: int = 0,
) -> Patches:
    """One patch a word; silences are patches of their own, or part of the word before them.

    Args:
        modalities: uint8 [n].
        segment_lengths: int32 [s], units of each word and silence; zero is allowed.
        segment_is_silence: bool [s].
        merge_silence: silences join the preceding word; one that opens a span joins the word after it.
        max_patch: longer patches are cut into pieces of at most this many units; 0 sets no limit.

    Raises:
        ValueError: the segments do not tile the speech tokens.
    """
    is_speech = modalities == SPEECH
    num_units = int(is_speech.sum())
    if int(segment_lengths.sum()) != num_units:
        raise ValueError(
            f"word and silence lengths sum to {int(segment_lengths.sum())}, but the document has {num_units} speech "
            "units: aligned patching needs aligned speech (patching.strategy=static needs none)"
        )
    kept = segment_lengths > 0
    lengths, silence = segment_lengths[kept].astype(np.int64), segment_is_silence[kept]
    speech_tokens = np.flatnonzero(is_speech)
    segment_starts = speech_tokens[np.cumsum(lengths) - lengths] if num_units else speech_tokens
    into_span = _units_into_span(is_speech)
    opens_patch = ~is_speech | (into_span == 0)
    if merge_silence:
        opens_span = into_span[segment_starts] == 0
        after_leading_silence = np.zeros(len(silence), bool)
        after_leading_silence[1:] = (silence & opens_span)[:-1]
        segment_starts = segment_starts[~silence & ~after_leading_silence]
    opens_patch[segment_starts] = True
    if max_patch:
        into_patch = np.arange(len(opens_patch)) - np.maximum.accumulate(
            np.where(opens_patch, np.arange(len(opens_patch)), 0)
        )
        opens_patch |= into_patch % max_patch == 0
    patch_lengths, _ = _lengths(opens_patch)
    return Patches(patch_lengths, np.zeros(len(patch_lengths), bool))


def strategy_of_batch(config: PatchingConfig, seed: int, batch_index: int, num_batches: int) -> str:
    """The fixed strategy of one batch: a pure function of the seed and the batch's place in training.

    ``mixed`` draws static or aligned with equal chance. ``curriculum`` is aligned with a probability of 1 up to
    ``curriculum_start`` of the training, falling linearly to 0 at ``curriculum_end``.
    """
    if config.strategy in ("none", "static", "aligned"):
        return config.strategy
    if config.strategy == "mixed":
        aligned_probability = 0.5
    else:
        progress = batch_index / max(num_batches, 1)
        width = config.curriculum_end - config.curriculum_start
        left = (config.curriculum_end - progress) / width if width > 0 else float(progress < config.curriculum_end)
        aligned_probability = min(max(left, 0.0), 1.0)
    draw = np.random.default_rng([_STRATEGY_STREAM, seed, batch_index]).random()
    return "aligned" if draw < aligned_probability else "static"


def inference_strategy(config: PatchingConfig) -> str:
    """The strategy that needs no aligner: what a trained model is scored and generates with."""
    return "none" if config.strategy == "none" else "static"


def _units_into_span(is_speech: np.ndarray) -> np.ndarray:
    """For each token, int64 [n], how many speech tokens of its span come before it."""
    index = np.arange(len(is_speech))
    last_other = np.maximum.accumulate(np.where(is_speech, -1, index))
    return index - last_other - 1


def _lengths(opens_patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Patch lengths and first tokens from the mask of tokens that open a patch."""
    first_tokens = np.flatnonzero(opens_patch)
    return np.diff(np.append(first_tokens, len(opens_patch))), first_tokens
