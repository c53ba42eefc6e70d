"""Bits of held-out speech and text, by a scorer whose likelihoods are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lst.configs.compose import build_config
from lst.data.prepared import PreparedData
from lst.evaluation.bits import held_out_bits, utterance_bits
from lst.evaluation.results import BITS_COLUMNS, HeldOutBits
from lst.model.batch import SPEECH, Document
from lst.model.inference import ScoredTokens
from lst.runs.fitted_patching import plain_patching

SPEECH_NATS, TEXT_NATS = 2.0, 0.5


def test_columns_are_keys_of_the_bits_and_their_heads_fit() -> None:
    assert BITS_COLUMNS.keys() <= HeldOutBits.__annotations__.keys()
    assert [column.short for column in BITS_COLUMNS.values() if len(column.short) > 10] == []


def test_bits_are_sums_over_content_divided_by_units_and_bytes(smoke_data: Path) -> None:
    config, data = build_config(["experiment=smoke"]), PreparedData(smoke_data / "data")
    builder = plain_patching(config.patching, data).builder(config, data)
    utterances = list(data.valid)

    def score(documents: Sequence[tuple[Document, slice]]) -> list[ScoredTokens]:
        found = []
        for document, content in documents:
            is_speech = document.modalities[content] == SPEECH
            found.append(ScoredTokens(np.where(is_speech, -SPEECH_NATS, -TEXT_NATS)))
        return found

    scorer: Any = SimpleNamespace(builder=builder, score=score)
    bits = held_out_bits(utterance_bits(scorer, utterances))
    num_units = sum(utterance.num_frames for utterance in utterances)
    num_bytes = sum(len(utterance.text.encode()) for utterance in utterances)
    num_pieces = sum(len(data.tokenizer.encode(utterance.text)) for utterance in utterances)
    assert (bits["num_units"], bits["num_bytes"]) == (num_units, num_bytes)
    # Each unit is one token of speech; <bos>, the marker and <eos> are not counted.
    assert bits["bits_per_unit"] == pytest.approx(SPEECH_NATS / math.log(2))
    assert bits["bits_per_byte"] == pytest.approx(TEXT_NATS * num_pieces / math.log(2) / num_bytes)
