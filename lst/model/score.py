"""Log-likelihood of continuations given a prompt, in any mix of modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lst.model.batch import Document, Patches, pack_documents
from lst.model.config import PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document


@dataclass(frozen=True)
class ScoredTokens:
    """What a model thinks of some tokens.

    Attributes:
        sum_nats: log-likelihood of all of them, in nats (at most 0).
        num_tokens: how many.
    """

    sum_nats: float
    num_tokens: int

    @property
    def mean_nats(self) -> float:
        """Log-likelihood a token: the length-normalised score."""
        return self.sum_nats / max(self.num_tokens, 1)


@torch.inference_mode()
def score_documents(
    model: LatentSpeechTextModel,
    items: Sequence[tuple[Document, slice]],
    patching: PatchingConfig,
    strategy: str,
    row_patches: int,
    rows_a_batch: int = 8,
) -> list[ScoredTokens]:
    """Scores a range of tokens of each document, each given all tokens before it.

    Documents are packed; as nothing crosses their boundaries, a score depends neither on what a document is packed with
    nor on the order, but for rounding.

    Args:
        model: the model.
        items: documents, each with the range of its tokens that is scored; the range may not start at 0.
        patching, strategy: how documents are cut; the strategy is a fixed one.
        row_patches: patches a row; a longer document gets a row as long as itself.
        rows_a_batch: rows computed together.

    Returns:
        One a document, in order.

    Raises:
        ValueError: a range is empty, outside its document, or opens it.
    """
    for document, tokens in items:
        check_range(document, tokens)
    cuts = [patch_document(document, strategy, patching) for document, _ in items]
    row_patches = max([row_patches, *map(len, cuts)])
    rows: list[list[int]] = []
    left = 0
    for index, cut in enumerate(cuts):
        if len(cut) > left:
            rows.append([])
            left = row_patches
        rows[-1].append(index)
        left -= len(cut)
    results: list[ScoredTokens] = []
    device = next(model.parameters()).device
    for start in range(0, len(rows), rows_a_batch):
        chosen = rows[start : start + rows_a_batch]
        packed: list[list[tuple[Document, Patches]]] = [[(items[i][0], cuts[i]) for i in row] for row in chosen]
        nats = model.losses(pack_documents(packed, row_patches).to(device)).cpu().double()
        offset = 0
        for index in (i for row in chosen for i in row):
            document, tokens = items[index]
            # The loss at a token is that of the token after it.
            own = nats[offset + tokens.start - 1 : offset + tokens.stop - 1]
            results.append(ScoredTokens(-float(own.sum()), tokens.stop - tokens.start))
            offset += len(document)
    return results


def check_range(document: Document, tokens: slice) -> None:
    """Raises ``ValueError`` unless ``tokens`` is a range of the document that leaves a token before it."""
    if not 1 <= tokens.start < tokens.stop <= len(document):
        raise ValueError(
            f"document {document.id!r} of {len(document)} tokens: the scored range {tokens.start}:{tokens.stop} must "
            "be inside it, not empty, and leave a token before it"
        )
