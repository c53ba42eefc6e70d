"""Interleaving, patching and packing token by token in plain Python: the reference of ``make bench-data``.

Written to be obviously right. A test checks that the fast path gives the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lst.data.batches import fill_rows
from lst.data.config import InterleaveConfig
from lst.data.documents import document_generator, draw_spans, span_frames
from lst.data.utterance import Utterance
from lst.model.batch import IGNORE_ID, PADDING_DOC, SPEECH, TEXT, Document, PackedBatch, Patches
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary


def loop_document(
    utterance: Utterance,
    epoch: int,
    seed: int,
    config: InterleaveConfig,
    tokenizer: TextTokenizer,
    vocabulary: Vocabulary,
) -> Document:
    """One interleaved document."""
    tokens = [(vocabulary.bos_id, TEXT)]
    segments: list[tuple[int, bool]] = []
    for span in draw_spans(len(utterance.words), config, document_generator(seed, epoch, utterance.id)):
        if span.modality == TEXT:
            tokens.append((vocabulary.text_id, TEXT))
            words = [word.text for word in utterance.words[span.first_word : span.last_word]]
            for piece in tokenizer.encode(" ".join(words)):
                tokens.append((piece, TEXT))
            continue
        tokens.append((vocabulary.speech_id, TEXT))
        start, end = span_frames(utterance, span.first_word, span.last_word)
        for frame in range(start, end):
            tokens.append((vocabulary.first_unit_id + int(utterance.units[frame]), SPEECH))
        for segment in utterance.segments():
            if segment.end_frame > start and segment.start_frame < end:
                length = min(segment.end_frame, end) - max(segment.start_frame, start)
                segments.append((length, segment.word < 0))
    tokens.append((vocabulary.eos_id, TEXT))
    return Document(
        utterance.id,
        np.array([token_id for token_id, _ in tokens], np.int32),
        np.array([modality for _, modality in tokens], np.uint8),
        np.array([length for length, _ in segments], np.int32),
        np.array([is_silence for _, is_silence in segments], bool),
        speech_marker_id=vocabulary.speech_id,
    )


def loop_static_patches(document: Document, size: int) -> Patches:
    """Static patches of ``size`` units; a text token is a patch of its own."""
    lengths: list[int] = []
    closes_late: list[bool] = []
    previous = TEXT
    for modality in document.modalities.tolist():
        if modality == SPEECH and previous == SPEECH and lengths[-1] < size:
            lengths[-1] += 1
            closes_late[-1] = lengths[-1] < size
        else:
            lengths.append(1)
            closes_late.append(modality == SPEECH and size > 1)
        previous = modality
    return Patches(np.array(lengths, np.int64), np.array(closes_late, bool))


def loop_batch(rows: Sequence[Sequence[tuple[Document, Patches]]], row_patches: int) -> PackedBatch:
    """Packs rows; the reference of ``lst.model.batch.pack_documents``."""
    tokens: list[tuple[int, ...]] = []
    patch_slots: list[int] = []
    patch_starts = [0]
    patch_doc_ids = [[PADDING_DOC] * row_patches for _ in rows]
    patch_position_ids = [[0] * row_patches for _ in rows]
    longest = 0
    for row_number, row in enumerate(rows):
        slot = 0
        for document, patches in row:
            doc, first_patch = len(patch_starts) - 1, len(patch_slots)
            ids, kinds = document.token_ids.tolist(), document.modalities.tolist()
            token = 0
            for place, (length, late) in enumerate(
                zip(patches.lengths.tolist(), patches.closes_late.tolist(), strict=True)
            ):
                patch = len(patch_slots)
                for within in range(length):
                    is_last = token == len(ids) - 1
                    target_id = document.final_target_id if is_last else ids[token + 1]
                    target_modality = document.final_target_modality if is_last else kinds[token + 1]
                    is_complete = within == length - 1 and not late
                    context = patch if token == 0 or is_complete else patch - 1
                    tokens.append((ids[token], target_id, kinds[token], target_modality, doc, token, patch, context))
                    token += 1
                patch_slots.append(row_number * row_patches + slot)
                patch_doc_ids[row_number][slot] = doc
                patch_position_ids[row_number][slot] = place
                slot += 1
            longest = max(longest, len(patch_slots) - first_patch)
            patch_starts.append(len(patch_slots))
    token_ids, target_ids, modalities, target_modalities, *others = zip(*tokens, strict=True)
    doc_ids, position_ids, patch_ids, context_patch_ids = others
    seen = [index for index in [*token_ids, *target_ids] if index != IGNORE_ID]
    return PackedBatch(
        token_ids=torch.tensor(token_ids),
        target_ids=torch.tensor(target_ids),
        modalities=torch.tensor(modalities, dtype=torch.uint8),
        target_modalities=torch.tensor(target_modalities, dtype=torch.uint8),
        doc_ids=torch.tensor(doc_ids),
        position_ids=torch.tensor(position_ids),
        patch_ids=torch.tensor(patch_ids),
        context_patch_ids=torch.tensor(context_patch_ids),
        patch_slots=torch.tensor(patch_slots),
        patch_doc_ids=torch.tensor(patch_doc_ids),
        patch_position_ids=torch.tensor(patch_position_ids),
        patch_starts=torch.tensor(patch_starts),
        min_id=min(seen),
        max_id=max(seen),
        longest_document=longest,
    )


def loop_pipeline(
    utterances: Sequence[Utterance],
    epoch: int,
    seed: int,
    config: InterleaveConfig,
    tokenizer: TextTokenizer,
    vocabulary: Vocabulary,
    static_size: int,
    num_rows: int,
    row_patches: int,
) -> PackedBatch:
    """Makes one batch of utterances; ``fill_rows`` chooses the documents of each row, as in the fast path."""
    documents = [loop_document(item, epoch, seed, config, tokenizer, vocabulary) for item in utterances]
    items = [(document, loop_static_patches(document, static_size)) for document in documents]
    rows = fill_rows([len(patches) for _, patches in items], row_patches, num_rows)
    return loop_batch([[items[index] for index in row] for row in rows], row_patches)
