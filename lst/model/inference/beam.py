"""The likeliest continuation of prompts, each within a limit of its own: greedily, or by beam search.

::

    prompts, limits ──search──▶ continuations
                      live beams ──likeliest next tokens──▶ beams that go on, and beams that stopped

A beam stops at ``<eos>``, or at the marker of the other modality. A prompt is done when as many beams have stopped as
are followed. The best one has the largest mean log-probability a token, the one that ended it included. A beam that did
not stop within its limit counts only where none did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document
from lst.model.config import PatchingConfig
from lst.model.inference.boundaries import cut_documents
from lst.model.inference.generate import Continuation, describe_weights, with_marker
from lst.model.inference.incremental import DecodingState
from lst.model.inference.patch_stepper import PatchStepper, UnitMeasure
from lst.model.inference.token_layout import TokenLayout
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_strategy


@dataclass(frozen=True)
class SearchOptions:
    """What is looked for.

    Attributes:
        modality: ``text`` or ``speech``.
        num_beams: continuations of a prompt that are followed at a time; 1 is greedy.

    Raises:
        UserError: a value is not allowed.
    """

    modality: str
    num_beams: int = 1

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.modality not in ("text", "speech") or self.num_beams < 1:
            raise UserError(
                f"search: modality={self.modality!r}, num_beams={self.num_beams}: allowed are text or speech, and 1 or "
                "more beams"
            )


@dataclass(frozen=True)
class _Beam:
    """A continuation so far: its tokens, and the log-probability of each."""

    token_ids: tuple[int, ...] = ()
    token_nats: tuple[float, ...] = ()

    def then(self, token_id: int, nats: float) -> _Beam:
        return _Beam((*self.token_ids, token_id), (*self.token_nats, nats))


@dataclass
class _Beams:
    """The beams of one prompt.

    Attributes:
        limit: tokens at most.
        live: those that go on.
        stopped: score and beam.
        unfinished: those that reached the limit or the end of the context, and by which.
    """

    limit: int
    live: list[_Beam] = field(default_factory=lambda: [_Beam()])
    stopped: list[tuple[float, _Beam]] = field(default_factory=list)
    unfinished: list[tuple[float, _Beam, str]] = field(default_factory=list)

    def advance(
        self, nats_KV: torch.Tensor, ends: Sequence[int], num_beams: int, is_full: Sequence[bool]
    ) -> list[tuple[int, int]]:
        """Adds a token to the beams.

        Args:
            nats_KV: float64, log-probability of the next token of each live beam; −∞ where it is not allowed.
            ends: tokens that stop a beam.
            num_beams: to follow.
            is_full: whether the context of each live beam is full with one more token.

        Returns:
            For each beam that goes on, the number of the beam that it was, and its new token.
        """
        sums_KV = nats_KV + torch.tensor([sum(beam.token_nats) for beam in self.live], dtype=torch.float64)[:, None]
        best = sums_KV.flatten().topk(min(2 * num_beams, sums_KV.numel()))
        going: list[tuple[int, int, _Beam]] = []
        for rank, (total, place) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            parent, token = divmod(place, nats_KV.shape[1])
            before = self.live[parent]
            if total == float("-inf"):
                break
            if token not in ends:
                going.append((parent, token, before.then(token, float(nats_KV[parent, token]))))
            elif rank < num_beams:
                self.stopped.append((total / (len(before.token_ids) + 1), before))
        going = going[:num_beams] if len(self.stopped) < num_beams else []
        kept = []
        for parent, token, beam in going:
            if is_full[parent] or len(beam.token_ids) == self.limit:
                mean = sum(beam.token_nats) / len(beam.token_ids)
                self.unfinished.append((mean, beam, "context" if is_full[parent] else "length"))
            else:
                kept.append((parent, token, beam))
        self.live = [beam for _, _, beam in kept]
        return [(parent, token) for parent, token, _ in kept]

    def continuation(self, modality: int) -> Continuation:
        """The best beam."""
        if self.stopped:
            beam, ended_by = max(self.stopped, key=lambda one: one[0])[1], "stop"
        else:
            _, beam, ended_by = max(self.unfinished, key=lambda one: one[0])
        ids = np.array(beam.token_ids, np.int32)
        return Continuation(ids, np.full(len(ids), modality, np.uint8), np.array(beam.token_nats, np.float64), ended_by)


@torch.inference_mode()
def search(
    model: LatentSpeechTextModel,
    prompts: Sequence[Document],
    limits: Sequence[int],
    patching: PatchingConfig,
    layout: TokenLayout,
    options: SearchOptions,
    unit_measure: UnitMeasure | None = None,
) -> list[Continuation]:
    """The likeliest continuation of each prompt; prompts of any lengths go together.

    Args:
        model: in evaluation mode.
        prompts: as of ``generate``; the marker of the modality is added.
        limits: tokens of each continuation at most, 1 or more.
        patching, layout, unit_measure: as of ``generate``.
        options: modality and number of beams.

    Raises:
        UserError: as of ``generate``.
    """
    if not prompts:
        return []
    for prompt in prompts:
        layout.check(prompt)
    prompts = [with_marker(prompt, layout, options.modality) for prompt in prompts]
    has_head = model.config.boundary_head
    patches = cut_documents(model, prompts, inference_strategy(patching, has_head), patching)
    steppers = [PatchStepper(patching, layout.first_unit_id, unit_measure, layout.speech_id, has_head) for _ in prompts]
    for stepper, prompt, cut in zip(steppers, prompts, patches, strict=True):
        stepper.begin(prompt, cut)
    state = DecodingState(model, prompts, patches, steppers)
    modality = SPEECH if options.modality == "speech" else TEXT
    found = [_Beams(limit) for limit in limits]
    _follow(model, state, found, layout, options, modality)
    return [beams.continuation(modality) for beams in found]


def _follow(
    model: LatentSpeechTextModel,
    state: DecodingState,
    found: Sequence[_Beams],
    layout: TokenLayout,
    options: SearchOptions,
    modality: int,
) -> None:
    """Adds tokens until every prompt is done."""
    ends = (layout.eos_id, layout.marker_id(TEXT if modality == SPEECH else SPEECH))
    allowed_V = torch.zeros(model.vocab_size, dtype=torch.bool)
    allowed_V[slice(layout.first_unit_id, None) if modality == SPEECH else slice(layout.num_text)] = True
    allowed_V[list(ends)] = True
    active = list(found)
    while True:
        logits_SV = state.logits.detach().double().cpu()
        if not bool(torch.isfinite(logits_SV).all()):
            raise UserError(f"the logits are not finite: {describe_weights(model)}")
        nats_SV = logits_SV.log_softmax(dim=-1).masked_fill(~allowed_V, float("-inf"))
        is_open = np.array([stepper.num_open > 0 for stepper in state.steppers])
        is_full = (state.num_patches + is_open >= model.config.max_patches).tolist()
        first, chosen, tokens = 0, [], []
        for beams in active:
            last = first + len(beams.live)
            going = beams.advance(nats_SV[first:last], ends, options.num_beams, is_full[first:last])
            chosen += [first + parent for parent, _ in going]
            tokens += [token for _, token in going]
            first = last
        active = [beams for beams in active if beams.live]
        if not active:
            return
        if chosen != list(range(state.num_sequences)):
            state.keep(chosen)
        state.step(np.array(tokens), np.full(len(tokens), modality))
