"""The model, from documents to logits: patch encoder, backbone, patch decoder.

::

    token ids ─▶ PatchEncoder ─ patch vectors ─▶ Backbone ─ patch states ─▶ PatchDecoder ─▶ logits
                     └──────────────── token states ────────────────────────────┘

Shapes are named by suffix: B rows, N tokens (ragged, all rows joined), M patches (ragged), P patches a row, D width,
H heads, K sub-queries, V vocabulary.
"""
