"""Log-likelihood of continuations given a prompt, in any mix of modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lst.errors import UserError
from lst.model.batch import Document, Patches, pack_documents
from lst.model.config import PatchingConfig
from lst.model.inference.generate import describe_weights
from lst.model.inference.token_layout import TokenLayout
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_documents


@dataclass(frozen=True)
class ScoredTokens:
    """What a model thinks of some tokens.

    Attributes:
        token_nats: float64 [n], log-likelihood of each given all before it, in nats (at most 0).
    """

    token_nats: np.ndarray

    @property
    def num_tokens(self) -> int:
        return len(self.token_nats)

    @property
    def sum_nats(self) -> float:
        """Log-likelihood of all of them."""
        return float(self.token_nats.sum())

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
    layout: TokenLayout | None = None,
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
        layout: what ids mean; with it, modalities and markers of the documents are checked.

    Returns:
        One a document, in order.

    Raises:
        ValueError: a range is empty, outside its document, or opens it; an id is outside the vocabulary; a document is
            longer than the model's context; the model's weights are not finite.
    """
    for document, tokens in items:
        check_range(document, tokens)
        if layout is not None:
            layout.check(document)
    cuts = patch_documents([document for document, _ in items], strategy, patching)
    row_patches = max([row_patches, *map(len, cuts)])
    rows = _rows_of([len(cut) for cut in cuts], row_patches)
    results: list[ScoredTokens] = []
    device = next(model.parameters()).device
    for start in range(0, len(rows), rows_a_batch):
        chosen = rows[start : start + rows_a_batch]
        packed: list[list[tuple[Document, Patches]]] = [[(items[i][0], cuts[i]) for i in row] for row in chosen]
        nats = model.losses(pack_documents(packed, row_patches).to(device)).cpu().double().numpy()
        if not np.isfinite(nats).all():
            raise UserError(f"scores are not finite: {describe_weights(model)}")
        offset = 0
        for index in (i for row in chosen for i in row):
            document, tokens = items[index]
            # The loss at a token is that of the token after it.
            results.append(ScoredTokens(-nats[offset + tokens.start - 1 : offset + tokens.stop - 1]))
            offset += len(document)
    return results


def _rows_of(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Fills rows in order: indices of the items of each."""
    rows: list[list[int]] = []
    left = 0
    for index, size in enumerate(sizes):
        if size > left:
            rows.append([])
            left = capacity
        rows[-1].append(index)
        left -= size
    return rows


def check_range(document: Document, tokens: slice) -> None:
    """Raises ``UserError`` unless ``tokens`` is a range of the document that leaves a token before it."""
    if not 1 <= tokens.start < tokens.stop <= len(document):
        raise UserError(
            f"document {document.id!r} of {len(document)} tokens: the scored range {tokens.start}:{tokens.stop} must "
            "be inside it, not empty, and leave a token before it"
        )
