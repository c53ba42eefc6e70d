"""Documents, their patches, and the packed batch that the model reads.

A batch has B rows of P patch slots, and its real tokens are joined without padding. The document, patch and position of
each token and patch decide all masks, so nothing crosses a document boundary. This file imports nothing of the project:
both the data and the model build on it.

Packing: two documents share a row of 8 slots, and nothing is padded.

>>> speech = Document("a", np.array([3, 10, 11, 12, 13, 14]), np.array([0, 1, 1, 1, 1, 1]))
>>> text = Document("b", np.array([2, 5]), np.array([0, 0]))
>>> cut = Patches(np.array([1, 4, 1]), np.array([False, False, True]))
>>> batch = pack_documents([[(speech, cut), (text, Patches(np.ones(2, int), np.zeros(2, bool)))]], row_patches=8)
>>> batch.num_tokens, batch.num_patches, batch.num_slots
(8, 5, 8)
>>> batch.patch_ids.tolist()
[0, 1, 1, 1, 1, 2, 3, 4]
>>> batch.patch_doc_ids.tolist()
[[0, 0, 0, 1, 1, -1, -1, -1]]
>>> batch.target_ids.tolist()
[10, 11, 12, 13, 14, -100, 5, -100]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch

TEXT, SPEECH = 0, 1
IGNORE_ID = -100
PADDING_DOC = -1


@dataclass(frozen=True)
class Document:
    """Token ids in the joint vocabulary, with modalities and alignment.

    Attributes:
        id: name of its source, for errors.
        token_ids: int32 [n].
        modalities: uint8 [n], ``TEXT`` (pieces and special tokens) or ``SPEECH`` (units).
        segment_lengths: int32 [s], units of each word and silence, in order. They tile the speech tokens; empty for
            speech without alignment.
        segment_is_silence: bool [s]. final_target_id: the token after the last one, for a part of a longer document;
        otherwise ``IGNORE_ID``. final_target_modality: the modality of that token. segment_level: ``word``, or ``bpe``
        where the segments are pieces of words. Silences are segments in both. entropies: float32 [speech tokens], in
        nats, for entropy patching; otherwise empty. Either the entropy of the unit
            after each, or the surprisal of each, given the units before it in its span.
        speech_marker_id: the id that opens a span of speech, for patches that hold it; None where it is not known.
    """

    id: str
    token_ids: np.ndarray
    modalities: np.ndarray
    segment_lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    segment_is_silence: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    final_target_id: int = IGNORE_ID
    final_target_modality: int = TEXT
    segment_level: str = "word"
    entropies: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    speech_marker_id: int | None = None

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class Patches:
    """How a document is cut into patches.

    Attributes:
        lengths: int64 [p], positive, tiling the document; the first is 1.
        closes_late: bool [p], True where only the next token shows that the patch has ended (a short patch at the end
            of a speech span, under static patching). The decoder sees such a patch from that next token on. So the
            model stays causal, and stepwise generation equals the parallel form. All False for such patches is the
            published choice, for training alone: the last unit of a span then shows that the span ends.
    """

    lengths: np.ndarray
    closes_late: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class PackedBatch:
    """Rows of patches, and their real tokens without padding.

    Attributes:
        token_ids: int64 [N].
        target_ids: int64 [N], the next token of the document, ``IGNORE_ID`` after its last.
        modalities: uint8 [N].
        target_modalities: uint8 [N], the modality of each target; ``TEXT`` where there is none.
        doc_ids: int64 [N], the document, numbered over the batch in order.
        position_ids: int64 [N], from 0 in every document.
        patch_ids: int64 [N], the token's patch among the M real patches, in order.
        context_patch_ids: int64 [N], the last patch that is known to be complete at this token.
        patch_slots: int64 [M], the patch's place in the flattened B×P grid.
        patch_doc_ids: int64 [B, P], ``PADDING_DOC`` where the slot is empty.
        patch_position_ids: int64 [B, P], from 0 in every document.
        patch_starts: int64 [documents + 1], the first of the M patches of each document, and M.
        min_id, max_id: bounds of the token and target ids. The host knows them, so a model checks them without waiting
            for the device.
        longest_document: patches of the longest document.
        doc_source_ids: int64 [documents], the source of each document, for losses by source; None where there is one.
    """

    token_ids: torch.Tensor
    target_ids: torch.Tensor
    modalities: torch.Tensor
    target_modalities: torch.Tensor
    doc_ids: torch.Tensor
    position_ids: torch.Tensor
    patch_ids: torch.Tensor
    context_patch_ids: torch.Tensor
    patch_slots: torch.Tensor
    patch_doc_ids: torch.Tensor
    patch_position_ids: torch.Tensor
    patch_starts: torch.Tensor
    min_id: int
    max_id: int
    longest_document: int
    doc_source_ids: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        moved = {name: x.to(device, non_blocking=True) for name, x in values.items() if isinstance(x, torch.Tensor)}
        return PackedBatch(**{**values, **moved})

    def target_groups(self, num_sources: int = 1) -> torch.Tensor:
        """bool [2 · sources, N]: which targets are speech, and which text, of each source in turn."""
        groups_N = (self.target_modalities != SPEECH).long()
        if self.doc_source_ids is not None:
            groups_N = groups_N + 2 * self.doc_source_ids[self.doc_ids]
        groups_N = torch.where(self.target_ids != IGNORE_ID, groups_N, -1)
        return groups_N == torch.arange(2 * num_sources, device=groups_N.device)[:, None]

    @property
    def num_tokens(self) -> int:
        """Number of real tokens, N."""
        return int(self.token_ids.shape[0])

    @property
    def num_patches(self) -> int:
        """Number of real patches, M."""
        return int(self.patch_slots.shape[0])

    @property
    def num_slots(self) -> int:
        """Number of patch slots, B · P."""
        return self.patch_doc_ids.numel()


def check_patches(document: Document, patches: Patches) -> None:
    """Raises ``ValueError`` unless patch lengths are positive, sum to the document's tokens, and the first is 1."""
    total = int(patches.lengths.sum())
    if len(patches) == 0 or int(patches.lengths.min()) < 1 or total != len(document):
        raise ValueError(
            f"document {document.id!r}: patch lengths {patches.lengths.tolist()[:8]}… sum to {total}, but must be "
            f"positive and tile its {len(document)} tokens"
        )
    if patches.lengths[0] != 1:
        raise ValueError(
            f"document {document.id!r} opens with a patch of {patches.lengths[0]} tokens; the first patch must hold "
            "one (a marker or <bos>), so that every token has a complete patch to look at"
        )


def pack_documents(rows: Sequence[Sequence[tuple[Document, Patches]]], row_patches: int) -> PackedBatch:
    """Packs documents into one batch.

    Args:
        rows: for each row, its documents with their patches.
        row_patches: P, patch slots of a row.

    Raises:
        ValueError: there is no document, a row needs more slots, or patches do not tile their document.
    """
    items = [item for row in rows for item in row]
    if not items:
        raise ValueError("a batch needs at least one document")
    documents, cuts = [document for document, _ in items], [patches for _, patches in items]
    lengths = np.concatenate([patches.lengths for patches in cuts])
    num_tokens = np.array([len(document) for document in documents])
    num_patches = np.array([len(patches) for patches in cuts])
    _check_tiling(items, lengths, num_tokens, num_patches)
    row_ids = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    _check_rows(row_ids, num_patches, len(rows), row_patches)

    token_starts, patch_starts = np.cumsum(num_tokens) - num_tokens, np.cumsum(num_patches) - num_patches
    token_ids = np.concatenate([document.token_ids for document in documents]).astype(np.int64, copy=False)
    modalities = np.concatenate([document.modalities for document in documents]).astype(np.uint8, copy=False)
    final_ids = np.array([document.final_target_id for document in documents])
    doc_ids = np.arange(len(documents))
    patch_ids = np.repeat(np.arange(len(lengths)), lengths)
    # A patch is complete at its last token, unless only the next token shows its end.
    context_ids = patch_ids - 1
    context_ids[np.cumsum(lengths) - 1] += ~np.concatenate([patches.closes_late for patches in cuts])
    context_ids[token_starts] = patch_starts
    patch_positions = np.arange(len(lengths)) - np.repeat(patch_starts, num_patches)
    # A document's first slot: the first slot of its row, plus the patches of earlier documents of the row.
    row_starts = patch_starts[np.searchsorted(row_ids, row_ids)]
    slots = patch_positions + np.repeat(row_ids * row_patches + patch_starts - row_starts, num_patches)
    slot_doc_ids = np.full(len(rows) * row_patches, PADDING_DOC, np.int64)
    slot_positions = np.zeros(len(rows) * row_patches, np.int64)
    slot_doc_ids[slots] = np.repeat(doc_ids, num_patches)
    slot_positions[slots] = patch_positions
    # Every target is a token of its document, or the final target.
    seen = np.append(final_ids[final_ids != IGNORE_ID], [token_ids.min(), token_ids.max()])
    return PackedBatch(
        token_ids=torch.from_numpy(token_ids),
        target_ids=torch.from_numpy(_next_in_document(token_ids, token_starts, final_ids)),
        modalities=torch.from_numpy(modalities),
        target_modalities=torch.from_numpy(
            _next_in_document(modalities, token_starts, [document.final_target_modality for document in documents])
        ),
        doc_ids=torch.from_numpy(np.repeat(doc_ids, num_tokens)),
        position_ids=torch.from_numpy(np.arange(len(token_ids)) - np.repeat(token_starts, num_tokens)),
        patch_ids=torch.from_numpy(patch_ids),
        context_patch_ids=torch.from_numpy(context_ids),
        patch_slots=torch.from_numpy(slots),
        patch_doc_ids=torch.from_numpy(slot_doc_ids.reshape(len(rows), row_patches)),
        patch_position_ids=torch.from_numpy(slot_positions.reshape(len(rows), row_patches)),
        patch_starts=torch.from_numpy(np.append(patch_starts, len(lengths))),
        min_id=int(seen.min()),
        max_id=int(seen.max()),
        longest_document=int(num_patches.max()),
    )


def _next_in_document(values: np.ndarray, starts: np.ndarray, finals: Sequence[int] | np.ndarray) -> np.ndarray:
    """The next token [N] in the document of each token; ``finals`` [documents] follow the documents' last tokens."""
    following = np.empty_like(values)
    following[:-1] = values[1:]
    following[np.append(starts[1:], len(values)) - 1] = finals
    return following


def _check_tiling(
    items: Sequence[tuple[Document, Patches]], lengths: np.ndarray, num_tokens: np.ndarray, num_patches: np.ndarray
) -> None:
    """``check_patches`` of all documents at once; the first wrong document raises."""
    ends = np.cumsum(num_patches)
    sums = np.diff(np.concatenate([[0], np.cumsum(lengths)])[np.concatenate([[0], ends])])
    wrong = (num_patches == 0) | (sums != num_tokens)
    if not wrong.any() and (lengths >= 1).all() and (lengths[ends - num_patches] == 1).all():
        return
    for document, patches in items:
        check_patches(document, patches)


def _check_rows(row_ids: np.ndarray, num_patches: np.ndarray, num_rows: int, row_patches: int) -> None:
    needed = np.bincount(row_ids, num_patches, num_rows).astype(int)
    if needed.max() > row_patches:
        row = int((needed > row_patches).argmax())
        raise ValueError(
            f"row {row} needs {needed[row]} patches, but has {row_patches}: raise train.row_patches or cut the document"
        )
