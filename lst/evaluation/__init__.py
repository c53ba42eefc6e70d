"""Scores of trained models and of speech units on held-out utterances.

::

    held-out utterances ──cloze_items──▶ items ──score_cloze──▶ log-likelihoods ──cloze_accuracies──▶ accuracy, interval
    both ──usable_utterances, usable_items──▶ those that a model can read; the others are listed
    held-out utterances ──held_out_bits──▶ bits a speech unit, bits a byte
    units and phones ──score_units──▶ purity and mutual information

``Scorer`` gives log-likelihoods of a trained model; ``results`` documents the files of an evaluation.
"""

from lst.evaluation.bits import held_out_bits
from lst.evaluation.cloze import DIRECTIONS, cloze_accuracies, cloze_items, score_cloze
from lst.evaluation.results import Accuracy, ClozeRow, ClozeScore, EvalResult, HeldOutBits
from lst.evaluation.scorer import Scorer
from lst.evaluation.unit_scores import ScoredUtterance, score_units
from lst.evaluation.usable import usable_items, usable_utterances

__all__ = [
    "DIRECTIONS",
    "Accuracy",
    "ClozeRow",
    "ClozeScore",
    "EvalResult",
    "HeldOutBits",
    "ScoredUtterance",
    "Scorer",
    "cloze_accuracies",
    "cloze_items",
    "held_out_bits",
    "score_cloze",
    "score_units",
    "usable_items",
    "usable_utterances",
]
