"""Patches at inference: by a fixed strategy, or with the ends that the model's boundary head decides.

::

    documents ──cut_documents──▶ patches ──▶ scores, prompts, validation
    documents, patches of an aligner ──boundary_costs──▶ what it costs to say where these end

A decision depends on the tokens up to its unit. So a longer document is cut like its beginning, a document in any
company like alone, and a likelihood under these cuts is that of the tokens, without any cost of boundaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lst.model.batch import Document, PackedBatch, Patches, pack_documents
from lst.model.boundary import boundary_nats
from lst.model.config import PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import DECODED, inference_patching, patch_at_ends, patch_documents, unpatched

# Tokens whose boundaries are decided together.
_TOKENS_AT_ONCE = 16_384


def cut_documents(
    model: LatentSpeechTextModel, documents: Sequence[Document], strategy: str, patching: PatchingConfig
) -> list[Patches]:
    """The patches of documents at inference, in order.

    Args:
        model: in evaluation mode; decides the ends of patches under the strategy ``decoded``.
        documents: to cut.
        strategy: ``decoded``, or one of ``FIXED_STRATEGIES``.
        patching: as in the model's training.

    Raises:
        UserError: an id is outside the vocabulary.
    """
    if strategy != DECODED:
        return patch_documents(documents, strategy, inference_patching(patching))
    assert model.boundary_head is not None
    ends: list[np.ndarray] = []
    for batch, sizes in _batches([(document, unpatched(len(document))) for document in documents], model):
        # The threshold is read last: of a model that is cut among devices, the logits have gathered it.
        is_end = model.boundary_logits(batch) > model.boundary_head.threshold
        ends += np.split(is_end.cpu().numpy(), np.cumsum(sizes)[:-1])
    return patch_at_ends(documents, ends, patching.max_patch)


def boundary_costs(model: LatentSpeechTextModel, documents: Sequence[Document], cuts: Sequence[Patches]) -> list[float]:
    """−ln p of where the patches of each document end, in nats, under the model's boundary head."""
    costs = []
    for batch, sizes in _batches(list(zip(documents, cuts, strict=True)), model):
        nats = boundary_nats(model.boundary_logits(batch), batch).cpu().double().numpy()
        costs += [float(own.sum()) for own in np.split(nats, np.cumsum(sizes)[:-1])]
    return costs


def _batches(
    pairs: Sequence[tuple[Document, Patches]], model: LatentSpeechTextModel
) -> Iterator[tuple[PackedBatch, list[int]]]:
    """Batches of some documents each, with the number of tokens of each document."""
    device = model.head.weight.device
    ends = np.cumsum([len(document) for document, _ in pairs])
    start = 0
    while start < len(pairs):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + _TOKENS_AT_ONCE, side="right")), start + 1)
        chosen = pairs[start:stop]
        batch = pack_documents([list(chosen)], sum(len(cut) for _, cut in chosen)).to(device)
        yield batch, [len(document) for document, _ in chosen]
        start = stop
