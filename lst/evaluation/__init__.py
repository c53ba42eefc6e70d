"""Scores of trained models and of speech units on held-out utterances.

::

    held-out utterances ──cloze_items──▶ items ──score_cloze──▶ log-likelihoods ──cloze_accuracies──▶ accuracy, interval
    questions ──question_items──▶ items ──score_items──▶ log-likelihoods ──direction_scores──▶ accuracy by stratum
    both ──usable_utterances, usable_items──▶ those that a model can read; the others are listed
    held-out utterances ──utterance_bits, held_out_bits──▶ bits a speech unit, bits a byte
    stories ──StoryData──▶ accuracies of the best listener and readers, entropy; above_floor compares a model
    items and their audio ──control_rows──▶ what is chosen without content ──control_scores──▶ accuracy, interval
    results of several models ──run_results──▶ comparisons, a verdict: ``results.json``
    units and phones ──score_units──▶ purity and mutual information

``Scorer`` gives log-likelihoods of a trained model; ``results`` documents the files of an evaluation.
"""

from lst.evaluation.accuracy import HEADLINE, direction_scores, mcnemar, paired_difference
from lst.evaluation.bits import held_out_bits, joint_cost, utterance_bits
from lst.evaluation.ceilings import StoryData, above_floor, entropy_rates, floors_as_text
from lst.evaluation.cloze import DIRECTIONS, cloze_accuracies, cloze_items, score_cloze
from lst.evaluation.items import Item, question_items
from lst.evaluation.likelihoods import score_items
from lst.evaluation.results import Accuracy, ClozeRow, ClozeScore, DirectionScore, EvalResult, HeldOutBits, ItemRow
from lst.evaluation.scorer import Scorer
from lst.evaluation.unit_scores import ScoredUtterance, score_units
from lst.evaluation.usable import usable_items, usable_questions, usable_utterances

__all__ = [
    "DIRECTIONS",
    "HEADLINE",
    "Accuracy",
    "ClozeRow",
    "ClozeScore",
    "DirectionScore",
    "EvalResult",
    "HeldOutBits",
    "Item",
    "ItemRow",
    "ScoredUtterance",
    "Scorer",
    "StoryData",
    "above_floor",
    "cloze_accuracies",
    "cloze_items",
    "direction_scores",
    "entropy_rates",
    "floors_as_text",
    "held_out_bits",
    "joint_cost",
    "mcnemar",
    "paired_difference",
    "question_items",
    "score_cloze",
    "score_items",
    "score_units",
    "usable_items",
    "usable_questions",
    "usable_utterances",
    "utterance_bits",
]
