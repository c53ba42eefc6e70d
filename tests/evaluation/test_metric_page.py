"""The metric that docs/extend/metric.md adds: its changes fit today's files, and its number is right."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from documentation import changed_by
from made_run import make_run
from repository import ROOT

from lst.evaluation import Scorer
from lst.evaluation.bits import content_of
from lst.model.batch import pack_documents
from lst.model.inference import cut_documents
from lst.runs import RunFolder, TrainedModel, open_data, open_trained

GUESSES, BITS, RESULTS = (f"lst/evaluation/{name}.py" for name in ("guesses", "bits", "results"))


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The modules as the page changes them."""
    sources = changed_by(ROOT / "docs/extend/metric.md")
    found: dict[str, Any] = {}
    for place in (RESULTS, GUESSES, BITS):
        name = place.removesuffix(".py").replace("/", ".")
        found[place] = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, found[place])
        exec(compile(sources.pop(place), place, "exec"), vars(found[place]))
    assert not sources
    return found


@pytest.mark.parametrize("name", ["baseline", "static"])
def test_the_metric_of_the_page_is_right(name: str, changed: dict[str, Any], tmp_path: Path) -> None:
    config = make_run(tmp_path / "run")
    trained = open_trained(RunFolder(tmp_path / "run"), name, open_data(config))
    scorer, utterances = Scorer.of(trained, config), list(trained.data.valid)
    rows = changed[BITS].utterance_bits(scorer, utterances)
    found = changed[BITS].held_out_bits(rows)
    assert {*rows[0]} == {*changed[RESULTS].BitsRow.__annotations__}
    assert {*found} == {*changed[RESULTS].HeldOutBits.__annotations__}
    assert {*changed[RESULTS].BITS_COLUMNS} < {*found}
    assert found["units_guessed"] == sum(row["num_guessed"] for row in rows) / found["num_units"]
    document, content = content_of(scorer.builder.speech(utterances[0]))
    some = slice(content.start + 10, content.start + 40)
    guesses = []
    for stop in range(some.start, some.stop):
        guesses.append(likeliest_after(trained, document, stop))
        if stop % 2:  # every second token is what the model guesses
            document.token_ids[stop] = guesses[-1]
    num_right = int((document.token_ids[some] == guesses).sum())
    assert changed[GUESSES].num_guessed(scorer, document, some) == num_right
    assert 15 <= num_right < 30


def likeliest_after(trained: TrainedModel, document: Any, stop: int) -> int:
    """The likeliest token after the first ``stop`` ones of a document, which alone are read."""
    beginning = dataclasses.replace(
        document, token_ids=document.token_ids[:stop], modalities=document.modalities[:stop]
    )
    (cut,) = cut_documents(trained.model, [beginning], trained.strategy, trained.patching.config)
    with torch.inference_mode():
        return int(trained.model(pack_documents([[(beginning, cut)]], len(cut)))[-1].argmax())
