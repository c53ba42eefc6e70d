"""How speech units are grouped into patches (LST paper, section 2).

Each text piece and special token is a patch of its own. Only speech units are grouped, and no patch crosses a change of
modality. Every strategy is a pure, vectorised function. The strategy of a batch is a pure function of the seed and the
batch index, so workers, prefetching and resuming cannot change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from lst.model.batch import SPEECH, Document, Patches
from lst.model.config import UNPATCHED_STRATEGIES, PatchingConfig

# Seeds the draw of strategies, so that it is independent of other draws from (seed, batch index).
_STRATEGY_STREAM = 0x9A7C

# Strategies that cut a document by themselves. The others draw one of these for each batch.
FIXED_STRATEGIES = ("none", "static", "aligned", "entropy", "speech_bpe")

# Strategies whose boundaries follow from past units alone. Trained models are scored and generate with them; those of
# other strategies get static patches.
CAUSAL_STRATEGIES = ("none", "static", "entropy", "speech_bpe")

# Of trained models: the boundary head decides where aligned patches end; see ``lst.model.inference.boundaries``.
DECODED = "decoded"


def patch_document(document: Document, strategy: str, config: PatchingConfig) -> Patches:
    """``patch_documents`` for one document."""
    return patch_documents([document], strategy, config)[0]


def patch_documents(documents: Sequence[Document], strategy: str, config: PatchingConfig) -> list[Patches]:
    """Cuts documents into patches by a fixed strategy. The cut of a document does not depend on the others.

    Patching: a marker and ten units, in patches of four.

    >>> ids = np.arange(11, dtype=np.int32)
    >>> document = Document("a", ids, np.array([0] + [1] * 10, np.uint8))
    >>> (patches,) = patch_documents([document], "static", PatchingConfig(static_size=4))
    >>> patches.lengths.tolist(), patches.closes_late.tolist()
    ([1, 4, 4, 2], [False, False, False, True])

    Args:
        documents: the documents.
        strategy: one of ``FIXED_STRATEGIES``. The tokens of ``speech_bpe`` are pieces of units already, and every token
            is a patch.
        config: sizes, limits and threshold.

    Returns:
        The patches of each document, in order.

    Raises:
        ValueError: the strategy is not a fixed one; aligned patching lacks an alignment of the level of ``config``;
            entropy patching lacks entropies or a threshold; ``marker_inside`` needs the documents' marker.
    """
    if strategy not in FIXED_STRATEGIES:
        raise ValueError(
            f"strategy {strategy!r} does not cut documents by itself; allowed are {', '.join(FIXED_STRATEGIES)}"
        )
    if strategy in UNPATCHED_STRATEGIES:
        return [unpatched(len(document)) for document in documents]
    if not documents:
        return []
    spans = _Spans(documents)
    if strategy == "static":
        opens_patch, closes_late = _cut_statically(documents, spans, config)
    elif strategy == "aligned":
        opens_patch, closes_late = _cut_by_alignment(documents, spans, config)
    else:
        opens_patch, closes_late = _cut_by_entropy(documents, spans, config)
    return _patches_of(spans, opens_patch, closes_late)


def patch_at_ends(documents: Sequence[Document], ends: Sequence[np.ndarray], max_patch: int) -> list[Patches]:
    """Cuts documents after the speech units in ``ends``, bool [n] for each document, and after ``max_patch`` units."""
    if not documents:
        return []
    spans = _Spans(documents)
    joined = np.concatenate(ends) & spans.is_speech
    return _patches_of(spans, *_cut_at_ends(spans, joined, np.zeros_like(joined), max_patch))


def _patches_of(spans: _Spans, opens_patch: np.ndarray, closes_late: np.ndarray) -> list[Patches]:
    """Patches of each document; ``closes_late[i]`` belongs to the patch that ends at token i."""
    first_tokens = np.flatnonzero(opens_patch)
    lengths = np.diff(np.append(first_tokens, len(opens_patch)))
    late = closes_late[first_tokens + lengths - 1]
    bounds = [0, *np.searchsorted(first_tokens, spans.ends).tolist()]
    return [Patches(lengths[start:end], late[start:end]) for start, end in pairwise(bounds)]


def unpatched(num_tokens: int) -> Patches:
    """One patch for each token, as in the token-level baseline."""
    return Patches(np.ones(num_tokens, np.int64), np.zeros(num_tokens, bool))


class _Spans:
    """The spans of speech in the joined tokens of some documents.

    Attributes:
        ends: int64 [documents], the token after each document's last.
        is_speech: bool [n].
        opens_span: bool [n], True at the first unit of each span. No span crosses the end of a document.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        sizes = np.array([len(document) for document in documents])
        self.ends = np.cumsum(sizes)
        self.is_speech = np.concatenate([document.modalities for document in documents]) == SPEECH
        self.opens_span = self.is_speech.copy()
        self.opens_span[1:] &= ~self.is_speech[:-1]
        document_starts = (self.ends - sizes)[sizes > 0]
        self.opens_span[document_starts] = self.is_speech[document_starts]

    def units_by_document(self) -> np.ndarray:
        """Number of speech units of each document, int64 [documents]."""
        return np.diff(np.concatenate([[0], np.cumsum(self.is_speech)])[np.concatenate([[0], self.ends])])


def _cut_statically(
    documents: Sequence[Document], spans: _Spans, config: PatchingConfig
) -> tuple[np.ndarray, np.ndarray]:
    """A patch for every ``static_patch_size`` units; with ``marker_inside`` the first one of a span counts its marker.

    Only the next token shows the end of a shorter patch at the end of a span.
    """
    size, opens_patch, grouped = config.static_patch_size, ~spans.is_speech | spans.opens_span, spans.is_speech
    if config.marker_inside:
        is_marker = _speech_markers(documents, spans)
        opens_patch[1:] &= ~(spans.opens_span[1:] & is_marker[:-1])
        grouped = grouped | is_marker
    opens_patch = _cut_long_patches(opens_patch, size)
    return opens_patch, grouped & (_units_into(opens_patch) < size - 1) & config.rest_closes_late


def _speech_markers(documents: Sequence[Document], spans: _Spans) -> np.ndarray:
    """The markers of speech, bool [n], except a document's first token, which is a patch of its own."""
    for document in documents:
        kinds = document.modalities == SPEECH
        if document.speech_marker_id is None and kinds.any() and not kinds.all():
            raise ValueError(
                f"document {document.id!r} does not say which id opens speech (speech_marker_id), but "
                "patching.marker_inside=true: set it, or patching.marker_inside=false"
            )
    found = np.concatenate([document.token_ids == document.speech_marker_id for document in documents])
    sizes = np.array([len(document) for document in documents])
    found[(spans.ends - sizes)[sizes > 0]] = False
    return found & ~spans.is_speech


def _cut_by_alignment(
    documents: Sequence[Document], spans: _Spans, config: PatchingConfig
) -> tuple[np.ndarray, np.ndarray]:
    """One patch for each word (or BPE piece). A silence is a patch of its own, or part of the segment before it.

    With merged silences, a silence that opens a span joins the segment after it. Patches longer than ``max_patch`` are
    cut into patches of up to ``max_patch`` units.
    """
    all_lengths = np.concatenate([document.segment_lengths for document in documents]).astype(np.int64)
    _check_alignment(documents, spans, all_lengths, config)
    kept = all_lengths > 0
    lengths = all_lengths[kept]
    segment_starts = np.flatnonzero(spans.is_speech)[np.cumsum(lengths) - lengths]
    opens_patch = ~spans.is_speech | spans.opens_span
    if config.silence == "merged":
        silence = np.concatenate([document.segment_is_silence for document in documents])[kept]
        after_leading_silence = np.zeros(len(silence), bool)
        after_leading_silence[1:] = (silence & spans.opens_span[segment_starts])[:-1]
        segment_starts = segment_starts[~silence & ~after_leading_silence]
    opens_patch[segment_starts] = True
    return _cut_long_patches(opens_patch, config.max_patch), np.zeros(len(opens_patch), bool)


def _check_alignment(
    documents: Sequence[Document], spans: _Spans, segment_lengths: np.ndarray, config: PatchingConfig
) -> None:
    num_segments = [len(document.segment_lengths) for document in documents]
    bounds = np.concatenate([[0], np.cumsum(num_segments)])
    tiled = np.diff(np.concatenate([[0], np.cumsum(segment_lengths)])[bounds])
    num_units = spans.units_by_document()
    if (tiled != num_units).any():
        index = int((tiled != num_units).argmax())
        raise ValueError(
            f"document {documents[index].id!r}: word and silence lengths sum to {tiled[index]}, but the document has "
            f"{num_units[index]} speech units: aligned patching needs aligned speech (patching.strategy=static needs "
            "none)"
        )
    for document, count in zip(documents, num_segments, strict=True):
        if document.segment_level != config.aligned_to and count:
            raise ValueError(
                f"document {document.id!r} is aligned to level {document.segment_level!r}, but "
                f"patching.aligned_to={config.aligned_to}: build documents at the level that they are cut at"
            )


def _cut_by_entropy(
    documents: Sequence[Document], spans: _Spans, config: PatchingConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Patches that end where the next unit is uncertain, or begin where a unit is surprising.

    As in the Byte Latent Transformer (arXiv 2412.09871, section 2.3), with a global threshold. A patch that ends by
    uncertainty or by its length is complete at its last unit. A patch that ends before a surprising unit, or at the end
    of its span, is complete only at the next token.
    """
    if config.entropy_threshold is None:
        raise ValueError("entropy patching needs a threshold: fit one, or set patching.entropy_threshold")
    num_units = spans.units_by_document()
    for document, count in zip(documents, num_units.tolist(), strict=True):
        if len(document.entropies) != count:
            raise ValueError(
                f"document {document.id!r} has {len(document.entropies)} entropies for {count} speech units: entropy "
                "patching needs one for each, from the unit model that the model was trained with"
            )
    above = np.zeros(len(spans.is_speech), bool)
    above[spans.is_speech] = np.concatenate([document.entropies for document in documents]) > np.float32(
        config.entropy_threshold
    )
    nowhere = np.zeros_like(above)
    ends, opens = (above, nowhere) if config.entropy_measure == "entropy" else (nowhere, above)
    return _cut_at_ends(spans, ends, opens, config.max_patch)


def _cut_at_ends(spans: _Spans, ends: np.ndarray, opens: np.ndarray, max_patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Patches that end with the units in ``ends`` and begin with those in ``opens``, bool [n] each.

    What ends neither so nor by its length is complete only at the next token.
    """
    opens_patch = ~spans.is_speech | spans.opens_span | opens
    opens_patch[1:] |= ends[:-1]
    opens_patch = _cut_long_patches(opens_patch, max_patch)
    closes_late = spans.is_speech & ~ends
    if max_patch:
        closes_late &= _units_into(opens_patch) < max_patch - 1
    return opens_patch, closes_late


def fit_entropy_threshold(entropies: Sequence[np.ndarray], config: PatchingConfig) -> tuple[float, float]:
    """The threshold whose patches have a mean length of ``config.entropy_size`` units.

    It is a quantile of the entropies, found by bisection over real cuts: the ends of sequences and ``max_patch`` count.

    Args:
        entropies: float32 [n] of each sequence; a sequence is one span.
        config: the measure, the wanted mean length, and the longest patch.

    Returns:
        The threshold in nats, and the mean patch length in units on these sequences.

    Raises:
        ValueError: there are no entropies.
    """
    spans = [values for values in entropies if len(values)]
    if not spans:
        raise ValueError("a threshold cannot be fitted to no entropies: there is no speech to train on")
    values = np.unique(np.concatenate(spans))
    # Half-way between neighbouring values, so that a rounding error moves no boundary.
    candidates = np.append(values[:-1] + (values[1:] - values[:-1]) / 2, values[-1])
    documents = [
        Document("", np.zeros(len(x), np.int32), np.full(len(x), SPEECH, np.uint8), entropies=x) for x in spans
    ]
    num_units = sum(len(x) for x in spans)

    def mean_patch(threshold: float) -> float:
        fixed = replace(config, entropy_threshold=threshold)
        return num_units / sum(len(patches) for patches in patch_documents(documents, "entropy", fixed))

    # Patches grow with the threshold. Take the first candidate that reaches the size, or the one before if it is
    # nearer.
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if mean_patch(float(candidates[middle])) >= config.entropy_size else (middle + 1, high)
        )
    fits = [(float(candidates[index]), mean_patch(float(candidates[index]))) for index in {max(low - 1, 0), low}]
    return min(sorted(fits), key=lambda fit: abs(fit[1] - config.entropy_size))


def strategy_of_batch(config: PatchingConfig, seed: int, batch_index: int, num_batches: int) -> str:
    """The fixed strategy of one batch: a pure function of the seed and the batch's place in training.

    ``mixed`` draws static or aligned with equal probability. ``curriculum`` draws aligned with probability 1 up to the
    share ``curriculum_start`` of the training, falling linearly to 0 at ``curriculum_end`` (LST paper, section 2).
    """
    if config.strategy in FIXED_STRATEGIES:
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


def inference_strategy(config: PatchingConfig, has_boundary_head: bool = False) -> str:
    """The strategy of a trained model in scoring and generation. It needs no aligner.

    It is the one that the training ended with: static for a curriculum. Mixed patches end with both, and static ones
    need no decision. For aligned patches the boundary head decides (``DECODED``); a model without it has static ones,
    which it never saw.
    """
    if has_boundary_head:
        return DECODED
    return config.strategy if config.strategy in CAUSAL_STRATEGIES else "static"


def is_unseen(config: PatchingConfig, has_boundary_head: bool) -> bool:
    """Whether ``inference_strategy`` names one that no batch of the training was cut by."""
    if config.strategy == "curriculum":
        return config.curriculum_start >= 1
    return not has_boundary_head and config.strategy not in ("mixed", *CAUSAL_STRATEGIES)


def inference_patching(config: PatchingConfig) -> PatchingConfig:
    """The patching of a trained model in scoring and generation, whatever the training saw.

    Whether a span ends is not known before the next token. So the rest of a span is open until then, and a likelihood
    is that of the next token alone.
    """
    return replace(config, rest_closes_late=True)


def _units_into(opens_patch: np.ndarray) -> np.ndarray:
    """Position of each token within its patch, int64 [n]."""
    first_tokens = np.flatnonzero(opens_patch)
    lengths = np.diff(np.append(first_tokens, len(opens_patch)))
    return np.arange(len(opens_patch)) - np.repeat(first_tokens, lengths)


def _cut_long_patches(opens_patch: np.ndarray, max_patch: int) -> np.ndarray:
    """Adds a cut after every ``max_patch`` tokens of a patch; 0 sets no limit."""
    return opens_patch | (_units_into(opens_patch) % max_patch == 0) if max_patch else opens_patch
