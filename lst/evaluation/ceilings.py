"""What the best listener and readers could do with stories, beside which a model's results are shown.

::

    questions ──Listener, NgramReader──▶ accuracies of oracles                 the ceilings
    held-out simulated utterances ──UnitEntropy──▶ bits a unit, bits a byte    the floors
    bits of a model ──above_floor──▶ how far it lies above the floor, paired by utterance
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lst.data.prepared import PreparedData, read_source
from lst.data.synthesis.grammar import StoryGrammar, grammar
from lst.data.synthesis.simulated import SimulatedSpeech
from lst.evaluation.accuracy import direction_scores
from lst.evaluation.ceilings_results import (
    AboveFloor,
    Ceilings,
    EntropyRates,
    EntropyRow,
    Estimate,
    OracleScore,
    read_ceilings,
)
from lst.evaluation.entropy import UnitEntropy
from lst.evaluation.items import question_items
from lst.evaluation.listener import Listener
from lst.evaluation.ngrams import NgramReader
from lst.evaluation.results import BitsRow, ItemRow
from lst.runs import RunFolder

MOST_WORDS = 5
UnitKey = Literal["given_words", "at_least", "at_most", "floor"]
TextKey = Literal["text", "text_floor"]
_UNIT_KEYS: tuple[UnitKey, ...] = get_args(UnitKey)
_TEXT_KEYS: tuple[TextKey, ...] = get_args(TextKey)


@dataclass(frozen=True)
class StoryData:
    """Prepared stories of a known grammar.

    Attributes:
        data: the prepared data.
        grammar: of its stories.
        speech: that says them; None where a voice does.
    """

    data: PreparedData
    grammar: StoryGrammar
    speech: SimulatedSpeech | None

    @classmethod
    def of(cls, data: PreparedData) -> StoryData | None:
        """None where the data is of a corpus or of a text file."""
        made_from = data.index["made_from"]
        if made_from.get("corpus", "") is not None or made_from.get("text", "") is not None:
            return None
        size = dict(made_from["data"]).get("stories", "standard")
        facts = read_source(data.folder).get("simulated")
        return cls(data, grammar(str(size)), None if facts is None else SimulatedSpeech.of(facts))

    @property
    def num_known(self) -> int:
        """Stories that models are trained on: all are different."""
        return len(self.data.train) + len(self.data.text)

    def entropy_rows(self, num_utterances: int) -> Iterator[EntropyRow]:
        """A row for each of the first held-out utterances; they are random draws. None where a voice speaks."""
        if self.speech is None or not num_utterances:
            return
        entropy = UnitEntropy(self.speech, self.grammar, self.num_known)
        for index in range(min(num_utterances, len(self.data.valid))):
            yield entropy.row(self.data.valid[index])

    def oracles(
        self, num_samples: int, seed: int, advance: Callable[[int], None] = lambda _: None
    ) -> list[OracleScore]:
        """Answers to the questions; ``advance`` is told how many of them were answered."""
        if not self.data.questions:
            return []
        items = question_items(self.data.questions, {part.id: part for part in self.data.question_parts})
        listener = Listener(self.grammar, self.speech)
        ideal: list[ItemRow] = []
        of_topics: list[ItemRow] = []
        for item in items:
            for rows, own in zip((ideal, of_topics), listener.rows(item), strict=True):
                rows += own
            advance(1)
        reader = NgramReader([one.text for split in (self.data.train, self.data.text) for one in split], MOST_WORDS)
        told = " and the question's two stories" * listener.is_told
        whole = "lexicon, grammar, noise and speakers" if self.speech else "the grammar"
        found = {
            ("ideal listener", f"knows {whole}{told}"): ideal,
            ("topic alone", "knows the same, and hears the topic of a context alone"): of_topics,
        }
        for order in range(2, MOST_WORDS + 1):
            looks_back = f"counted on the training texts; looks back on {order - 1} word{'s' * (order > 2)}"
            found[f"{order}-gram", looks_back] = reader.rows(items, order)
        return [
            {"name": name, "knows": knows, "questions": direction_scores(rows, num_samples, seed)}
            for (name, knows), rows in found.items()
        ]


def entropy_rates(rows: Sequence[EntropyRow], num_samples: int, seed: int) -> EntropyRates:
    """Bits a unit and bits a byte of held-out utterances."""
    num_units, num_bytes = np.array([(row["num_units"], row["num_bytes"]) for row in rows]).T
    return {
        "num_utterances": len(rows),
        "num_units": int(num_units.sum()),
        "num_bytes": int(num_bytes.sum()),
        "is_exact": all(math.isclose(row["at_least"], row["at_most"], rel_tol=1e-9) for row in rows),
        "units": {key: _estimate([row[key] for row in rows], num_units, num_samples, seed) for key in _UNIT_KEYS},
        "bytes": {key: _estimate([row[key] for row in rows], num_bytes, num_samples, seed) for key in _TEXT_KEYS},
    }


def above_floor(
    name: str, bits: Sequence[BitsRow], floors: Sequence[EntropyRow], num_samples: int, seed: int
) -> AboveFloor | None:
    """How far a model lies above the floor. None where it has no utterance in common, or counts other units."""
    known = {row["utterance"]: row for row in floors}
    pairs = [(row, known[row["utterance"]]) for row in bits if row["utterance"] in known]
    if not pairs or any(row["num_units"] != floor["num_units"] for row, floor in pairs):
        return None
    num_units, num_bytes = np.array([(row["num_units"], row["num_bytes"]) for row, _ in pairs]).T
    units = [row["unit_bits"] - floor["floor"] for row, floor in pairs]
    text = [row["text_bits"] - floor["text_floor"] for row, floor in pairs]
    return {
        "name": name,
        "num_utterances": len(pairs),
        "units": _estimate(units, num_units, num_samples, seed),
        "bytes": _estimate(text, num_bytes, num_samples, seed),
    }


def ceilings_of(run: RunFolder, data: str) -> Ceilings | None:
    """What the best listener could do on the data with a fingerprint; None where it was not measured."""
    paths = [path for path in (run.ceilings(), run.ceilings(data)) if path.exists()]
    return next((found for found in map(read_ceilings, paths) if found["data"] == data), None)


def floors_as_text(ceilings: Ceilings) -> list[str]:
    """The entropy of held-out stories, and how far each model lies above the floor."""
    rates = ceilings["entropy"]
    if rates is None:
        return []
    units, text = rates["units"], rates["bytes"]
    at_most = "" if rates["is_exact"] else f", at most {_cell(units['at_most'])}"
    lines = [
        "",
        f"entropy of {rates['num_utterances']} held-out stories of simulated speech [95 % interval]",
        f"bits/unit: the words known {_cell(units['given_words'])}; "
        f"the grammar known {_cell(units['at_least'])}{at_most}",
        f"bits/byte: the grammar known {_cell(text['text'])}",
        f"floor, {ceilings['num_known']:,} of {ceilings['num_stories']:,} stories known from training: "
        f"{_cell(units['floor'])} bits/unit, {_cell(text['text_floor'])} bits/byte",
    ]
    for model in ceilings["models"]:
        above = f"{_cell(model['units'])} bits/unit, {_cell(model['bytes'])} bits/byte"
        lines.append(f"{model['name']}: above the floor by {above}, over {model['num_utterances']} stories")
        if min(model["units"]["high"], model["bytes"]["high"]) < 0:
            lines.append(f"{model['name']} lies below what is possible: it is told more than what came before a token")
    return lines


def _cell(estimate: Estimate) -> str:
    return f"{estimate['mean']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _estimate(totals: Sequence[float], counts: np.ndarray, num_samples: int, seed: int) -> Estimate:
    """Sum of totals over sum of counts; its interval resamples utterances."""
    bits = np.array(totals)
    chosen = np.random.default_rng([0xB007, seed]).integers(len(bits), size=(num_samples, len(bits)))
    low, high = np.percentile(bits[chosen].sum(axis=1) / counts[chosen].sum(axis=1), [2.5, 97.5])
    return {"mean": float(bits.sum() / counts.sum()), "low": float(low), "high": float(high)}
