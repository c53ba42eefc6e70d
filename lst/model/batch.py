"""Documents, and the packed batch that the model reads.

A batch is B rows of P patch slots. Its real tokens are joined without padding; every mask is derived from the document,
patch and position of each token and patch, so nothing crosses a document boundary. This file imports nothing of the
project: data and model both build on it.
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
    """Token ids in the joint vocabulary, with what patching needs to know.

    Attributes:
        id: where it came from.
        token_ids: int32 [n].
        modalities: uint8 [n], ``TEXT`` (pieces and special tokens) or ``SPEECH`` (units).
        segment_lengths: int32 [s], units of each word and silence, in order; they tile the speech tokens. Empty where
            the speech was not aligned.
        segment_is_silence: bool [s].
        final_target_id: what follows the last token (a piece of a longer document has one), or ``IGNORE_ID``.
        final_target_modality: the modality of that token.
    """

    id: str
    token_ids: np.ndarray
    modalities: np.ndarray
    segment_lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    segment_is_silence: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    final_target_id: int = IGNORE_ID
    final_target_modality: int = TEXT

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class Patches:
    """How a document is cut into patches.

    Attributes:
        lengths: int64 [p], positive, tiling the document; the first is 1.
        closes_late: bool [p], True where only the token after a patch tells that the patch has ended (the short rest of
            a speech span under static patching). Such a patch is visible to the decoder from that next token on, which
            keeps the model causal and stepwise generation equal to the parallel form.
    """

    lengths: np.ndarray
    closes_late: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class PackedBatch:
    """Rows of patches, with their real tokens joined.

    Attributes:
        token_ids: int64 [N].
        target_ids: int64 [N], the next token of the document, ``IGNORE_ID`` after its last.
        modalities: uint8 [N].
        target_modalities: uint8 [N], the modality of each target; ``TEXT`` where there is none.
        doc_ids: int64 [N], unique over the batch, rising.
        position_ids: int64 [N], from 0 in every document.
        patch_ids: int64 [N], the token's patch among the M real ones, rising by at most 1.
        context_patch_ids: int64 [N], the last patch known to be complete once this token is seen.
        patch_slots: int64 [M], the patch's place in the flattened B×P grid.
        patch_doc_ids: int64 [B, P], ``PADDING_DOC`` where the slot is empty.
        patch_position_ids: int64 [B, P], from 0 in every document.
        min_id, max_id: least and greatest of the token and target ids; known on the host, so that a model checks them
            without waiting for the device.
        longest_document: patches of the longest document.
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
    min_id: int
    max_id: int
    longest_document: int

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        moved = {name: x.to(device, non_blocking=True) for name, x in values.items() if isinstance(x, torch.Tensor)}
        return PackedBatch(**{**values, **moved})

    @property
    def num_tokens(self) -> int:
        return int(self.token_ids.shape[0])

    @property
    def num_patches(self) -> int:
        return int(self.patch_slots.shape[0])

    @property
    def num_slots(self) -> int:
        return self.patch_doc_ids.numel()


def check_patches(document: Document, patches: Patches) -> None:
    """Raises ``ValueError`` unless the patches are positive, tile the document and open with a single token."""
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
    """Joins documents into one batch.

    Args:
        rows: the documents of each row with their patches.
        row_patches: P, patch slots a row; a row's documents may not need more.

    Raises:
        ValueError: a row is too long, or patches do not tile their document.
    """
    token_ids, targets, modalities, target_modalities, doc_ids, positions, patch_ids, contexts, slots = (
        [] for _ in range(9)
    )
    patch_doc_ids = np.full((len(rows), row_patches), PADDING_DOC, np.int64)
    patch_positions = np.zeros((len(rows), row_patches), np.int64)
    num_documents = num_patches = longest = 0
    for row_index, row in enumerate(rows):
        used = 0
        for document, patches in row:
            check_patches(document, patches)
            length, count = len(document), len(patches)
            if used + count > row_patches:
                raise ValueError(
                    f"row {row_index} needs {used + count} patches or more, but has {row_patches}: raise "
                    "train.row_patches or cut the document"
                )
            local_ids = np.repeat(np.arange(count), patches.lengths)
            # A patch counts as complete at its own last token, unless only the next token reveals its end.
            ends = np.cumsum(patches.lengths) - 1
            complete = np.zeros(length, bool)
            complete[ends] = ~patches.closes_late
            token_ids.append(document.token_ids)
            targets.append(np.append(document.token_ids[1:], document.final_target_id))
            modalities.append(document.modalities)
            target_modalities.append(np.append(document.modalities[1:], np.uint8(document.final_target_modality)))
            doc_ids.append(np.full(length, num_documents))
            positions.append(np.arange(length))
            patch_ids.append(local_ids + num_patches)
            contexts.append(np.where(complete, local_ids, np.maximum(local_ids - 1, 0)) + num_patches)
            slots.append(np.arange(count) + row_index * row_patches + used)
            patch_doc_ids[row_index, used : used + count] = num_documents
            patch_positions[row_index, used : used + count] = np.arange(count)
            used += count
            num_patches += count
            num_documents += 1
            longest = max(longest, count)
    if not num_documents:
        raise ValueError("a batch needs at least one document")

    def joined(parts: list[np.ndarray], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(dtype)

    ids, target_ids = joined(token_ids), joined(targets)
    real_targets = target_ids[target_ids != IGNORE_ID]
    seen = torch.cat([ids, real_targets])
    return PackedBatch(
        token_ids=ids,
        target_ids=target_ids,
        modalities=joined(modalities, torch.uint8),
        target_modalities=joined(target_modalities, torch.uint8),
        doc_ids=joined(doc_ids),
        position_ids=joined(positions),
        patch_ids=joined(patch_ids),
        context_patch_ids=joined(contexts),
        patch_slots=joined(slots),
        patch_doc_ids=torch.from_numpy(patch_doc_ids),
        patch_position_ids=torch.from_numpy(patch_positions),
        min_id=int(seen.min()),
        max_id=int(seen.max()),
        longest_document=longest,
    )
