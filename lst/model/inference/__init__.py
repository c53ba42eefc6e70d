"""Inference with a trained model: scores of given documents, and generation token by token.

::

    documents ──score_documents──▶ log-likelihood of each token
    prompt ──generate──▶ drawn tokens;  prompt ──search──▶ the likeliest tokens, greedily or by beams
    DecodingState holds the caches, PatchStepper closes the patches

Stepping gives the same numbers as the parallel form; tests compare the two.
"""

from lst.model.inference.beam import SearchOptions, search
from lst.model.inference.boundaries import boundary_costs, cut_documents
from lst.model.inference.generate import Continuation, SamplingOptions, generate
from lst.model.inference.incremental import DecodingState
from lst.model.inference.patch_stepper import PatchStepper
from lst.model.inference.score import ScoredTokens, score_documents
from lst.model.inference.token_layout import TokenLayout

__all__ = [
    "Continuation",
    "DecodingState",
    "PatchStepper",
    "SamplingOptions",
    "ScoredTokens",
    "SearchOptions",
    "TokenLayout",
    "boundary_costs",
    "cut_documents",
    "generate",
    "score_documents",
    "search",
]
