"""Documents that switch between text and speech at word boundaries.

::

    utterance ──draw_spans──▶ spans ──DocumentBuilder──▶ token ids, modalities, word lengths

Every draw comes from (seed, epoch, utterance id), so that any document can be made again anywhere.
"""

from lst.data.documents.interleave import DocumentBuilder, DocumentPart
from lst.data.documents.spans import document_generator, draw_spans, span_frames

__all__ = ["DocumentBuilder", "DocumentPart", "document_generator", "draw_spans", "span_frames"]
