"""Scores of trained models and of speech units on held-out utterances.

::

    held-out utterances ──cloze_items──▶ items ──score_cloze──▶ log-likelihoods ──cloze_accuracies──▶ accuracy, interval
    held-out utterances ──held_out_bits──▶ bits a speech unit, bits a byte
    units and phones ──score_units──▶ purity and mutual information
"""

from lst.evaluation.bits import held_out_bits
from lst.evaluation.cloze import DIRECTIONS, cloze_accuracies, cloze_items, score_cloze
from lst.evaluation.unit_scores import ScoredUtterance, score_units

__all__ = [
    "DIRECTIONS",
    "ScoredUtterance",
    "cloze_accuracies",
    "cloze_items",
    "held_out_bits",
    "score_cloze",
    "score_units",
]
