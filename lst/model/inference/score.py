"""Log-likelihood of continuations given a prompt, in any modalities.

Scoring: the last two of three tokens, by an untrained model, which is close to uniform over 20 ids.

>>> from lst.model.config import ModelConfig
>>> model = LatentSpeechTextModel(ModelConfig(global_layers=1, decoder_layers=1), vocab_size=20).eval()
>>> document = Document("a", np.array([1, 4, 7], np.int32), np.zeros(3, np.uint8))
>>> (scored,) = score_documents(model, [(document, slice(1, 3))], PatchingConfig(), "static", row_patches=8)
>>> scored.num_tokens, bool(abs(scored.mean_nats + np.log(20)) < 0.5)
(2, True)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lst.errors import UserError
from lst.model.batch import Document, Patches, pack_documents
from lst.model.config import PatchingConfig
from lst.model.inference.beginnings import Beginning, beginning_of, group_beginnings
from lst.model.inference.boundaries import cut_documents
from lst.model.inference.generate import describe_weights
from lst.model.inference.shared_beginnings import can_share, losses_of_rests
from lst.model.inference.token_layout import TokenLayout
from lst.model.lst import LatentSpeechTextModel


@dataclass(frozen=True)
class ScoredTokens:
    """The log-likelihood of some tokens.

    Attributes:
        token_nats: float64 [n], log-likelihood of each given all before it, in nats (at most 0).
    """

    token_nats: np.ndarray

    @property
    def num_tokens(self) -> int:
        """Number of tokens, n."""
        return len(self.token_nats)

    @property
    def sum_nats(self) -> float:
        """Log-likelihood of all tokens."""
        return float(self.token_nats.sum())

    @property
    def mean_nats(self) -> float:
        """Mean log-likelihood of a token: the length-normalised score."""
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
    shares_beginnings: bool = True,
) -> list[ScoredTokens]:
    """Scores a range of tokens of each document: ln p(token | all tokens before it).

    Documents are packed. Nothing crosses their boundaries, so apart from rounding a score depends neither on the other
    documents nor on the order.

    Args:
        model: in evaluation mode.
        items: documents, each with the range of its tokens to score; a range may not start at 0.
        patching, strategy: how documents are cut into patches, by a fixed strategy or ``decoded``. The rest of a span
            of speech is open until the next token, as in generation, whatever the training did.
        row_patches: patches of a row; longer documents make the rows longer.
        rows_a_batch: rows that are computed together.
        layout: what ids mean. With it, modalities and markers of the documents are checked.
        shares_beginnings: compute a beginning that documents share once; models with recurrent mixers cannot.

    Returns:
        The scores of each document, in order.

    Raises:
        UserError: a range is empty, outside its document, or starts at 0; an id is outside the vocabulary; a document
        is
            longer than the model's context; weights are not finite.
    """
    for document, tokens in items:
        check_range(document, tokens)
        if layout is not None:
            layout.check(document)
    cuts = cut_documents(model, [document for document, _ in items], strategy, patching)
    groups: list[dict[int, Beginning]] = []
    if shares_beginnings and can_share(model):
        groups = group_beginnings(
            [beginning_of(document, cut, tokens.start) for (document, tokens), cut in zip(items, cuts, strict=True)]
        )
    grouped = {index for group in groups for index in group}
    nats: dict[int, np.ndarray] = {}
    for together in _together(groups, [len(cut) for cut in cuts], row_patches * rows_a_batch):
        found = losses_of_rests(model, list(together.values()))
        for (index, beginning), own in zip(together.items(), found, strict=True):
            nats[index] = own[items[index][1].start - 1 - beginning.num_tokens :]
    alone = [index for index in range(len(items)) if index not in grouped]
    nats |= _losses_alone(model, alone, items, cuts, max([row_patches, *map(len, cuts)]), rows_a_batch)
    if not all(np.isfinite(own).all() for own in nats.values()):
        raise UserError(f"scores are not finite: {describe_weights(model)}")
    return [ScoredTokens(-nats[index][: tokens.stop - tokens.start]) for index, (_, tokens) in enumerate(items)]


def _losses_alone(
    model: LatentSpeechTextModel,
    chosen: Sequence[int],
    items: Sequence[tuple[Document, slice]],
    cuts: Sequence[Patches],
    row_patches: int,
    rows_a_batch: int,
) -> dict[int, np.ndarray]:
    """Losses from the first scored token on, of whole documents by index."""
    device = next(model.parameters()).device
    rows = [[chosen[place] for place in row] for row in _rows_of([len(cuts[index]) for index in chosen], row_patches)]
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(rows), rows_a_batch):
        together = rows[start : start + rows_a_batch]
        packed: list[list[tuple[Document, Patches]]] = [[(items[i][0], cuts[i]) for i in row] for row in together]
        nats = model.losses(pack_documents(packed, row_patches).to(device)).cpu().double().numpy()
        offset = 0
        for index in (i for row in together for i in row):
            document, tokens = items[index]
            # The loss at a token belongs to the next token.
            found[index] = nats[offset + tokens.start - 1 : offset + len(document)]
            offset += len(document)
    return found


def _together(
    groups: Sequence[dict[int, Beginning]], sizes: Sequence[int], capacity: int
) -> list[dict[int, Beginning]]:
    """Joins groups while their documents have no more than ``capacity`` patches."""
    found: list[dict[int, Beginning]] = []
    left = 0
    for group in groups:
        size = sum(sizes[index] for index in group)
        if size > left:
            found.append({})
            left = capacity
        found[-1] |= group
        left -= size
    return found


def _rows_of(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Fills rows in order; returns the indices of the items of each row."""
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
    """Raises ``UserError`` unless ``tokens`` is a range within the document that does not start at 0."""
    if not 1 <= tokens.start < tokens.stop <= len(document):
        raise UserError(
            f"document {document.id!r} of {len(document)} tokens: the scored range {tokens.start}:{tokens.stop} must "
            "be inside it, not empty, and leave a token before it"
        )
