"""Packing against a walk over single tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.model.batch import IGNORE_ID, PADDING_DOC, TEXT, Document, PackedBatch, Patches, pack_documents
from lst.model.config import PatchingConfig
from lst.model.patching import patch_document, unpatched

ROW_PATCHES = 64


def pack_reference(rows: list[list[tuple[Document, Patches]]]) -> dict[str, Any]:
    """Every field of the batch as lists."""
    names = [field.name for field in dataclasses.fields(PackedBatch) if field.type == "torch.Tensor"]
    found: dict[str, Any] = {name: [] for name in names}
    found["patch_doc_ids"] = [[PADDING_DOC] * ROW_PATCHES for _ in rows]
    found["patch_position_ids"] = [[0] * ROW_PATCHES for _ in rows]
    num_documents = num_patches = 0
    for row_index, row in enumerate(rows):
        slot = 0
        for document, patches in row:
            first_patch, position, complete = num_patches, 0, num_patches
            found["patch_starts"].append(first_patch)
            for place, (length, late) in enumerate(zip(patches.lengths, patches.closes_late, strict=True)):
                for token in range(length):
                    # The first token of a patch shows that every patch before it has ended.
                    ended = token == length - 1 and (not late or place == 0)
                    complete = first_patch + place - (not ended)
                    last = position == len(document) - 1
                    found["token_ids"].append(document.token_ids[position])
                    found["modalities"].append(document.modalities[position])
                    found["target_ids"].append(document.final_target_id if last else document.token_ids[position + 1])
                    found["target_modalities"].append(
                        document.final_target_modality if last else document.modalities[position + 1]
                    )
                    found["doc_ids"].append(num_documents)
                    found["position_ids"].append(position)
                    found["patch_ids"].append(first_patch + place)
                    found["context_patch_ids"].append(complete)
                    position += 1
                found["patch_slots"].append(row_index * ROW_PATCHES + slot)
                found["patch_doc_ids"][row_index][slot] = num_documents
                found["patch_position_ids"][row_index][slot] = place
                slot += 1
                num_patches += 1
            num_documents += 1
    found["patch_starts"].append(num_patches)
    ids = [*found["token_ids"], *(index for index in found["target_ids"] if index != IGNORE_ID)]
    return {
        **found,
        "min_id": min(ids),
        "max_id": max(ids),
        "longest_document": max(len(patches) for row in rows for _, patches in row),
    }


@given(
    st.lists(st.lists(st.integers(0, 10**6), max_size=4), min_size=1, max_size=4),
    st.sampled_from(["none", "static", "aligned"]),
    st.sampled_from([IGNORE_ID, 3, 900]),
)
@settings(max_examples=60, deadline=None)
def test_every_field_equals_the_reference(
    make_document: Callable[..., Document], seeds: list[list[int]], strategy: str, final_id: int
) -> None:
    rows = []
    for row_seeds in [*seeds, [0]]:
        row = []
        for seed in row_seeds:
            document = dataclasses.replace(make_document(seed), final_target_id=final_id, final_target_modality=TEXT)
            row.append((document, patch_document(document, strategy, PatchingConfig())))
        # As many documents as a row holds.
        while sum(len(patches) for _, patches in row) > ROW_PATCHES:
            row.pop()
        rows.append(row)
    if not any(rows):
        return
    batch = pack_documents(rows, ROW_PATCHES)
    for name, expected in pack_reference(rows).items():
        value = getattr(batch, name)
        if isinstance(value, torch.Tensor):
            assert value.dtype == (torch.uint8 if "modalities" in name else torch.int64), name
            value = value.tolist()
        assert value == expected, name


def test_faults_name_the_document_or_the_row(make_document: Callable[..., Document]) -> None:
    good = make_document(1, 20)
    with pytest.raises(ValueError, match="at least one document"):
        pack_documents([[], []], 8)
    with pytest.raises(ValueError, match=r"row 1 needs 40 patches, but has 30: raise train\.row_patches"):
        pack_documents([[(good, unpatched(20))], [(good, unpatched(20))] * 2], 30)
    for lengths, message in (
        ([1, 18], "must be positive and tile its 20"),
        ([2, 18], "opens with a patch of 2"),
        ([1, 20, -1], "must be positive"),
        ([], "must be positive"),
    ):
        bad = Patches(np.array(lengths, np.int64), np.zeros(len(lengths), bool))
        with pytest.raises(ValueError, match=f"document 'doc-7'.*{message}"):
            pack_documents([[(good, unpatched(20))], [(make_document(7, 20), bad)]], 30)
