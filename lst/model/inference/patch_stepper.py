"""Patching token by token: the cuts of ``patch_documents``, as a document grows."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np

from lst.errors import UserError
from lst.model.batch import SPEECH, Document, Patches
from lst.model.config import UNPATCHED_STRATEGIES, PatchingConfig
from lst.model.patching import DECODED, inference_strategy, patch_document

# Strategies with a step form of their own. Of the others, the span so far is cut anew with each of its units.
_STEPPED = ("static", "entropy", DECODED)

# From the units of a span so far to the entropy of the next unit, or the surprisal of the last one, in nats.
UnitMeasure = Callable[[np.ndarray], float]


class PatchStepper:
    """Tells which patches of one growing document are complete.

    >>> stepper = PatchStepper(PatchingConfig("static", static_size=2), first_unit_id=10)
    >>> [stepper.push(token, modality) for token, modality in ((3, 0), (10, 1), (11, 1), (12, 1), (4, 0))]
    [(False, True), (False, False), (False, True), (False, False), (True, True)]

    Args:
        patching: as in the model's training. Strategies that need an aligner become static.
        first_unit_id: the id of speech unit 0.
        measure: for entropy patching, the unit model's ``next_entropy`` or ``last_surprisal``.
        speech_marker_id: the id that opens speech, for ``patching.marker_inside``.
        has_boundary_head: the model decides where patches end, by ``decide`` after each ``push``.

    Attributes:
        num_open: tokens of the open patch; 0 if all patches are complete.

    Raises:
        UserError: entropy patching lacks its unit model or threshold, or ``marker_inside`` its marker.
    """

    def __init__(
        self,
        patching: PatchingConfig,
        first_unit_id: int,
        measure: UnitMeasure | None = None,
        speech_marker_id: int | None = None,
        has_boundary_head: bool = False,
    ) -> None:
        self.strategy = inference_strategy(patching, has_boundary_head)
        if self.strategy == "entropy" and (measure is None or patching.entropy_threshold is None):
            raise UserError(
                "entropy patching needs the unit model and the threshold that the model was trained with: pass "
                "unit_measure= and a patching with entropy_threshold set"
            )
        holds_marker = self.strategy == "static" and patching.marker_inside
        if holds_marker and speech_marker_id is None:
            raise UserError("patching.marker_inside=true: pass speech_marker_id=, the id that opens speech")
        self.patching, self.first_unit_id, self.measure = patching, first_unit_id, measure
        # A token that opens a patch and is no unit.
        self.opener_id = speech_marker_id if holds_marker else None
        self.longest = patching.static_patch_size if self.strategy == "static" else patching.max_patch
        self.num_open = 0
        self._span: list[int] = []

    def begin(self, document: Document, patches: Patches) -> None:
        """Continues a document from its end, given its patches."""
        self.num_open = int(patches.lengths[-1]) if patches.closes_late[-1] else 0
        others = np.flatnonzero(document.modalities != SPEECH)
        first = int(others[-1]) + 1 if len(others) else 0
        self._span = (document.token_ids[first:] - self.first_unit_id).tolist()

    def copy(self) -> PatchStepper:
        """Another stepper at the same place, which goes its own way from here."""
        copied = copy(self)
        copied._span = list(self._span)
        return copied

    def push(self, token_id: int, modality: int) -> tuple[bool, bool]:
        """Adds a token.

        Returns:
            Whether the patch before it had ended, and whether its own patch is complete with it.
        """
        if self.strategy in UNPATCHED_STRATEGIES:
            return False, True
        if modality != SPEECH:
            had_ended = self.num_open > 0
            self.num_open, self._span = int(token_id == self.opener_id and self.longest > 1), []
            return had_ended, self.num_open == 0
        self._span.append(token_id - self.first_unit_id)
        had_ended, complete = False, False
        if self.strategy == "entropy":
            had_ended, complete = self._measured()
        elif self.strategy not in _STEPPED:
            had_ended, complete = self._cut_anew()
        self.num_open = 1 if had_ended else self.num_open + 1
        complete = complete or self.num_open == self.longest
        if complete:
            self.num_open = 0
        return had_ended, complete

    def decide(self, ends: bool) -> bool:
        """Whether the open patch is complete with the last token because the boundary head says that it ``ends``."""
        closes = ends and self.strategy == DECODED and self.num_open > 0
        if closes:
            self.num_open = 0
        return closes

    def _cut_anew(self) -> tuple[bool, bool]:
        """``push`` for the last unit of the span, for any strategy that looks at no more than the span."""
        ids = np.array(self._span, np.int32) + np.int32(self.first_unit_id)
        patches = patch_document(Document("", ids, np.full(len(ids), SPEECH, np.uint8)), self.strategy, self.patching)
        return self.num_open > 0 and int(patches.lengths[-1]) == 1, not patches.closes_late[-1]

    def _measured(self) -> tuple[bool, bool]:
        """``push`` for the last unit of the span, by the unit model."""
        assert self.measure is not None
        assert self.patching.entropy_threshold is not None
        above = np.float32(self.measure(np.array(self._span))) > np.float32(self.patching.entropy_threshold)
        if self.patching.entropy_measure == "entropy":
            return False, bool(above)
        return bool(above) and self.num_open > 0, False
