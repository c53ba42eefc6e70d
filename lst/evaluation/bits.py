"""Bits a speech unit and bits a byte of text on held-out utterances."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lst.data.utterance import Utterance
from lst.evaluation.results import BitsRow, HeldOutBits, JointCost
from lst.evaluation.scorer import Scorer
from lst.model.batch import Document
from lst.model.inference import boundary_costs
from lst.model.patching import patch_documents


def utterance_bits(scorer: Scorer, utterances: Sequence[Utterance]) -> list[BitsRow]:
    """Bits of whole utterances, spoken and, where they have a text, written.

    Markers, ``<bos>`` and ``<eos>`` are not counted.
    """
    builder = scorer.builder
    with_text = [utterance for utterance in utterances if utterance.text]
    documents = [*map(builder.speech, utterances), *map(builder.text, with_text)]
    bits = [-score.sum_nats / math.log(2) for score in scorer.score([content_of(document) for document in documents])]
    written = dict(zip([utterance.id for utterance in with_text], bits[len(utterances) :], strict=True))
    return [
        {
            "utterance": utterance.id,
            "num_units": builder.num_units(utterance),
            "num_bytes": len(utterance.text.encode()),
            "unit_bits": unit_bits,
            "text_bits": written.get(utterance.id, 0.0),
        }
        for utterance, unit_bits in zip(utterances, bits[: len(utterances)], strict=True)
    ]


def held_out_bits(rows: Sequence[BitsRow]) -> HeldOutBits:
    """Bits over all units and bytes of some utterances."""
    num_units, num_bytes = (
        sum(counts) for counts in zip(*((r["num_units"], r["num_bytes"]) for r in rows), strict=True)
    )
    return {
        "bits_per_unit": sum(row["unit_bits"] for row in rows) / num_units,
        "bits_per_byte": sum(row["text_bits"] for row in rows) / num_bytes if num_bytes else None,
        "num_units": num_units,
        "num_bytes": num_bytes,
    }


def joint_cost(scorer: Scorer, utterances: Sequence[Utterance]) -> JointCost:
    """Bits a unit of held-out speech on the aligner's own patches, and of saying where these end.

    With aligned patches a unit's likelihood knows where words end before it is heard. Only with the cost of the
    boundaries is it the code length of something: of units and boundaries together. A patch ends, or not, after every
    unit: all of these decisions are counted.
    """
    trained, builder = scorer.trained, scorer.builder
    documents = [*map(builder.speech, utterances)]
    on_aligned = scorer.score([content_of(document) for document in documents], "aligned")
    cuts = patch_documents(documents, "aligned", trained.patching.config)
    num_units = sum(map(builder.num_units, utterances))
    units, boundaries = (
        nats / math.log(2) / num_units
        for nats in (
            -sum(score.sum_nats for score in on_aligned),
            sum(boundary_costs(trained.model, documents, cuts)),
        )
    )
    return {
        "bits_per_unit": units,
        "boundary_bits_per_unit": boundaries,
        "joint_bits_per_unit": units + boundaries,
    }


def content_of(document: Document) -> tuple[Document, slice]:
    """A document with the range of its tokens between its first marker and ``<eos>``."""
    return document, slice(2, len(document) - 1)
