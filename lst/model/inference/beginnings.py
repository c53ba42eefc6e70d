"""Which documents begin alike, and how much of their beginnings is worth computing once.

Contexts that are scored with endings in either modality differ in their last patches: a unit may go on in the context's
last patch, a marker never does. Such documents share the patches that they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lst.model.batch import Document, Patches

# Documents are joined to share a beginning if that saves more tokens than this: to continue one costs time too.
_LEAST_SAVED_TOKENS = 16


@dataclass(frozen=True)
class Beginning:
    """The first patches of a document, which others may share.

    Attributes:
        document, patches: the whole document.
        num_patches, num_tokens: of the beginning.
    """

    document: Document
    patches: Patches
    num_patches: int
    num_tokens: int

    @property
    def key(self) -> bytes:
        """Equal for documents with the same beginning. In the order of the keys, similar beginnings are neighbours."""
        parts = (
            self.document.token_ids[: self.num_tokens].astype(">i4"),
            self.document.modalities[: self.num_tokens],
            self.patches.lengths[: self.num_patches],
            self.patches.closes_late[: self.num_patches],
        )
        return b"|".join(np.ascontiguousarray(part).tobytes() for part in parts)

    def first_patches(self, num_patches: int) -> Beginning:
        """A part of it."""
        return replace(self, num_patches=num_patches, num_tokens=int(self.patches.lengths[:num_patches].sum()))

    def common(self, other: Beginning) -> Beginning:
        """The patches that both begin with."""
        num_patches = min(self.num_patches, other.num_patches)
        num_tokens = min(self.num_tokens, other.num_tokens)
        differs_P = self.patches.lengths[:num_patches] != other.patches.lengths[:num_patches]
        differs_P |= self.patches.closes_late[:num_patches] != other.patches.closes_late[:num_patches]
        differs_N = self.document.token_ids[:num_tokens] != other.document.token_ids[:num_tokens]
        differs_N |= self.document.modalities[:num_tokens] != other.document.modalities[:num_tokens]
        if differs_N.any():
            num_tokens = int(differs_N.argmax())
        if differs_P.any():
            num_patches = int(differs_P.argmax())
        fitting = int(np.searchsorted(np.cumsum(self.patches.lengths), num_tokens, side="right"))
        return self.first_patches(min(num_patches, fitting))

    @property
    def alone(self) -> tuple[Document, Patches]:
        """The beginning as a document."""
        document = replace(
            self.document,
            token_ids=self.document.token_ids[: self.num_tokens],
            modalities=self.document.modalities[: self.num_tokens],
        )
        return document, Patches(self.patches.lengths[: self.num_patches], self.patches.closes_late[: self.num_patches])


def beginning_of(document: Document, patches: Patches, first_scored: int) -> Beginning:
    """The patches that end before the token whose state predicts ``first_scored``; none where there is too little."""
    ends = np.cumsum(patches.lengths)
    num_patches = int(np.searchsorted(ends, first_scored - 1, side="right"))
    return Beginning(document, patches, num_patches, int(ends[num_patches - 1]) if num_patches else 0)


@dataclass(frozen=True)
class _Group:
    """Documents at neighbouring places of an order, with the beginning that they share.

    Attributes:
        first: place of the first document.
        indices: the documents.
        shared: the beginning.
        num_tokens: of the whole beginnings of the documents.
    """

    first: int
    indices: list[int]
    shared: Beginning
    num_tokens: int

    @property
    def cost(self) -> int:
        """Tokens to compute for the beginnings: the shared ones once, the others of each document."""
        return self.num_tokens - (len(self.indices) - 1) * self.shared.num_tokens

    def joined(self, after: _Group) -> _Group:
        """This group and the one after it."""
        shared, total = self.shared.common(after.shared), self.num_tokens + after.num_tokens
        return _Group(self.first, self.indices + after.indices, shared, total)


def group_beginnings(beginnings: Sequence[Beginning]) -> list[dict[int, Beginning]]:
    """Groups of documents that share a beginning: for each its documents, by index, cut to this beginning.

    Neighbours in the order of their tokens have the most in common. Those with the longest common beginnings are joined
    first, each where that saves tokens: a group that grows shares less. Documents that share nothing are left out.
    """
    order = sorted(range(len(beginnings)), key=lambda index: beginnings[index].key)
    groups = [
        _Group(place, [index], beginnings[index], beginnings[index].num_tokens) for place, index in enumerate(order)
    ]
    commons = [beginnings[before].common(beginnings[after]).num_tokens for before, after in pairwise(order)]
    for place in np.argsort(-np.array(commons), kind="stable").tolist():
        left, right = groups[place], groups[place + 1]
        joined = left.joined(right)
        if left.cost + right.cost - joined.cost > _LEAST_SAVED_TOKENS:
            groups[joined.first : joined.first + len(joined.indices)] = [joined] * len(joined.indices)
    return [
        {index: beginnings[index].first_patches(group.shared.num_patches) for index in group.indices}
        for place, group in enumerate(groups)
        if group.first == place and len(group.indices) > 1
    ]
