"""Cloze: items, documents in four directions, credits and intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lst.configs.compose import build_config
from lst.configs.eval_schema import EvalConfig
from lst.data.documents.interleave import DocumentBuilder
from lst.data.prepared import PreparedData
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from lst.evaluation.cloze import (
    DIRECTIONS,
    bootstrap_interval,
    cloze_accuracies,
    cloze_document,
    cloze_items,
    ending_start,
    item_credits,
)
from lst.model.batch import SPEECH
from lst.runs.fitted_patching import plain_patching


@pytest.fixture(scope="module")
def data(smoke_data: Path) -> PreparedData:
    return PreparedData(smoke_data / "data")


@pytest.fixture(scope="module")
def builder(data: PreparedData) -> DocumentBuilder:
    config = build_config(["experiment=smoke"])
    return plain_patching(config.patching, data).builder(config, data)


def test_false_endings_are_another_utterances_by_the_same_speaker(data: PreparedData) -> None:
    items = cloze_items(list(data.valid), EvalConfig(), seed=0)
    assert len(items) == len(data.valid)
    for item in items:
        assert item.utterance.id != item.other.id
        assert item.utterance.speaker == item.other.speaker
        # The last of five sentences: the word before it ends one.
        assert item.utterance.words[item.ending_start - 1].text.endswith(".")
        assert sum(word.text.endswith(".") for word in item.utterance.words[item.ending_start :]) == 1
    false_endings = [item.other.id for item in items]
    assert sorted(false_endings) == sorted(item.utterance.id for item in items), "each ending is false exactly once"
    again = cloze_items(list(data.valid), EvalConfig(), seed=0)
    assert [item.other.id for item in items] == [item.other.id for item in again]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_documents_hold_context_and_ending(direction: str, data: PreparedData, builder: DocumentBuilder) -> None:
    item = cloze_items(list(data.valid), EvalConfig(), seed=0)[0]
    true, true_range = cloze_document(builder, item, direction, true_ending=True)
    false, false_range = cloze_document(builder, item, direction, true_ending=False)
    assert true.token_ids[: true_range.start].tolist() == false.token_ids[: false_range.start].tolist()
    assert true_range.stop == len(true)
    ending = true.modalities[true_range]
    assert (ending == (SPEECH if direction[-1] == "S" else 0)).all()
    if direction == "S→S":
        units = true.token_ids[true.modalities == SPEECH] - builder.vocabulary.first_unit_id
        assert units.tolist() == item.utterance.units.tolist(), "context and ending join to the utterance"
    if direction[-1] == "T":
        said = builder.tokenizer.decode(true.token_ids[true_range].tolist())
        expected = " ".join(word.text for word in item.utterance.words[item.ending_start :])
        assert said == expected.lower()
    # A marker stands where the modality changes, and nowhere else.
    markers = {builder.vocabulary.text_id, builder.vocabulary.speech_id}
    changes = 2 if direction in ("S→T", "T→S") else 1
    assert sum(int(token) in markers for token in true.token_ids) == changes


def test_no_sentence_known_takes_a_share_of_the_words() -> None:
    words = tuple(Word(f"w{i}", 2 * i, 2 * i + 2, 0.0) for i in range(10))
    utterance = Utterance("u", "s", "x", 1.0, np.zeros(20, np.uint16), words)
    assert ending_start(utterance, 0.6) == 6
    assert ending_start(utterance, 0.01) == 1
    assert ending_start(utterance, 0.99) == 9


def test_credits_give_half_for_a_tie() -> None:
    rows = [
        {"true_nats": -4.0, "true_tokens": 4, "false_nats": -3.0, "false_tokens": 1},
        {"true_nats": -4.0, "true_tokens": 2, "false_nats": -4.0, "false_tokens": 2},
        {"true_nats": -1.0, "true_tokens": 1, "false_nats": -3.0, "false_tokens": 9},
    ]
    assert item_credits(rows, "sum").tolist() == [0.0, 0.5, 1.0]
    assert item_credits(rows, "mean").tolist() == [1.0, 0.5, 0.0]
    table = cloze_accuracies([{**row, "direction": d} for row in rows for d in DIRECTIONS], 200, 0)
    assert table["S→T"]["sum"]["accuracy"] == 0.5
    assert table["S→T"]["num_items"] == 3


def test_intervals_cover_the_truth_about_95_times_in_a_hundred() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval((rng.random(100) < 0.7).astype(float), 500, trial)
        hits += low <= 0.7 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_too_few_utterances_are_said(data: PreparedData) -> None:
    with pytest.raises(UserError, match=r"data\.valid_share"):
        cloze_items([data.valid[0]], EvalConfig(), seed=0)
