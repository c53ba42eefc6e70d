"""Makes documents that switch between text and speech at word boundaries.

::

    utterance ──draw_spans──▶ spans ──DocumentBuilder──▶ token ids, modalities, word lengths

All random draws come from (seed, epoch, utterance id): any process can make a document again.
"""

from lst.data.documents.interleave import DocumentBuilder, DocumentPart
from lst.data.documents.spans import document_generator, draw_spans, span_frames

__all__ = ["DocumentBuilder", "DocumentPart", "document_generator", "draw_spans", "span_frames"]
