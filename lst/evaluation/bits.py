"""Bits a speech unit and bits a byte of text on held-out utterances."""

from __future__ import annotations

import math

from lst.configs.schema import Config
from lst.data.documents import DocumentBuilder
from lst.data.utterance import Utterance
from lst.model.batch import Document
from lst.model.config import PatchingConfig
from lst.model.inference import score_documents
from lst.model.lst import LatentSpeechTextModel
from lst.runs import token_layout


def held_out_bits(
    model: LatentSpeechTextModel,
    builder: DocumentBuilder,
    utterances: list[Utterance],
    patching: PatchingConfig,
    strategy: str,
    config: Config,
) -> dict[str, float]:
    """Bits a speech unit, and bits a byte of text, over whole held-out utterances; markers and ends are not counted."""
    speech = [_content(builder.speech(utterance)) for utterance in utterances]
    text = [_content(builder.text(utterance)) for utterance in utterances]
    scores = score_documents(
        model,
        [*speech, *text],
        patching,
        strategy,
        config.train.row_patches,
        config.eval.rows_a_batch,
        token_layout(builder.vocabulary),
    )
    spoken, written = scores[: len(speech)], scores[len(speech) :]
    num_bytes = sum(len(utterance.text.encode()) for utterance in utterances)
    num_units = sum(map(builder.num_units, utterances))
    return {
        "bits_per_unit": -sum(score.sum_nats for score in spoken) / math.log(2) / num_units,
        "bits_per_byte": -sum(score.sum_nats for score in written) / math.log(2) / num_bytes,
        "num_units": num_units,
        "num_bytes": num_bytes,
    }


def _content(document: Document) -> tuple[Document, slice]:
    """All but ``<bos>``, the marker and ``<eos>``."""
    return document, slice(2, len(document) - 1)
