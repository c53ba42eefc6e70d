"""Continues prompts token by token, in text, in speech, or switching between the two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document
from lst.model.config import PatchingConfig
from lst.model.inference.incremental import DecodingState
from lst.model.inference.patch_stepper import PatchStepper, UnitMeasure
from lst.model.inference.token_layout import TokenLayout
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_strategy, patch_documents
from lst.progress import Progress

MODALITIES = ("text", "speech", "any")


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn, and when to stop.

    Attributes:
        max_new_tokens: tokens at most.
        temperature: divides the logits; 0 takes the likeliest token (greedy).
        top_k: only the k likeliest are drawn from; 0 sets no limit.
        top_p: only the likeliest that together have this probability are drawn from; 1 sets no limit.
        modality: ``text`` or ``speech`` continues in that modality, a marker of the other one ends it; ``any`` lets the
            model switch by markers. A prompt that stands in the other modality is given the marker first.
        stop_ids: ids that end a sequence, beside ``<eos>``.
        seed: of the draws; each prompt has draws of its own, which depend on the seed and its number alone.
    """

    max_new_tokens: int = 50
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    modality: str = "any"
    stop_ids: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        if self.max_new_tokens < 1:
            problems.append(f"max_new_tokens={self.max_new_tokens} must be 1 or more")
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            problems.append(f"temperature={self.temperature} must be 0 (the likeliest token) or more")
        if self.top_k < 0:
            problems.append(f"top_k={self.top_k} must be 0 (no limit) or more")
        if not 0 < self.top_p <= 1:
            problems.append(f"top_p={self.top_p} must be above 0 and at most 1 (no limit)")
        if self.modality not in MODALITIES:
            problems.append(f"modality={self.modality!r} must be one of {', '.join(MODALITIES)}")
        if problems:
            raise UserError(f"sampling: {'; '.join(problems)}")


@dataclass(frozen=True)
class Continuation:
    """What a prompt was continued with.

    Attributes:
        token_ids: int32 [n], markers within it included; what ended it is not.
        modalities: uint8 [n].
        token_nats: float64 [n], log-probability of each under the model, whatever was forbidden or tempered.
        ended_by: ``stop`` (``<eos>``, a stop id, or a marker of a modality not wanted), ``length`` (``max_new_tokens``)
            or ``context`` (the model's ``max_patches``).
    """

    token_ids: np.ndarray
    modalities: np.ndarray
    token_nats: np.ndarray
    ended_by: str


@torch.inference_mode()
def generate(
    model: LatentSpeechTextModel,
    prompts: Sequence[Document],
    patching: PatchingConfig,
    layout: TokenLayout,
    options: SamplingOptions,
    unit_measure: UnitMeasure | None = None,
) -> list[Continuation]:
    """Continues prompts of any lengths together; what each becomes depends on no other, but for rounding.

    Args:
        model: the model.
        prompts: each opens with one token that is a patch of its own, ``<bos>`` say; entropy patching needs their
            entropies.
        patching: as the model was trained; what needs an aligner is static here.
        layout: what ids mean.
        options: how to draw.
        unit_measure: of entropy patching, the unit model's ``next_entropy`` (or ``last_surprisal``).

    Returns:
        One a prompt, in order.

    Raises:
        ValueError: a prompt is empty, too long, has ids outside the vocabulary or a span without marker; or the
            weights are not finite.
    """
    if not prompts:
        return []
    if unknown := [token for token in options.stop_ids if not 0 <= token < model.vocab_size]:
        raise UserError(f"sampling: stop_ids={unknown} are outside the vocabulary of 0 to {model.vocab_size - 1}")
    for prompt in prompts:
        layout.check(prompt)
    prompts = [_with_marker(prompt, layout, options.modality) for prompt in prompts]
    patches = patch_documents(prompts, inference_strategy(patching), patching)
    steppers = []
    for prompt, cut in zip(prompts, patches, strict=True):
        steppers.append(PatchStepper(patching, layout.first_unit_id, unit_measure))
        steppers[-1].begin(prompt, cut)
    state = DecodingState(model, prompts, patches, steppers)
    writers = [_Writer(number, prompt, layout, options, model.vocab_size) for number, prompt in enumerate(prompts)]
    active = writers
    with Progress(options.max_new_tokens, "generate", unit="token") as progress:
        while True:
            for writer, logits_V in zip(active, state.logits.detach().double().cpu(), strict=True):
                writer.draw(logits_V, model)
            going = [place for place, writer in enumerate(active) if writer.ended_by is None]
            for place in list(going):
                # The next token may open one more patch than there are, complete or not.
                if state.num_patches[place] + (state.steppers[place].num_open > 0) >= model.config.max_patches:
                    active[place].ended_by = "context"
                    going.remove(place)
            progress.advance()
            if not going:
                break
            if len(going) < len(active):
                state.keep(going)
                active = [active[place] for place in going]
            state.step(
                np.array([writer.token_ids[-1] for writer in active]),
                np.array([writer.modalities[-1] for writer in active]),
            )
    return [writer.continuation() for writer in writers]


def _with_marker(prompt: Document, layout: TokenLayout, modality: str) -> Document:
    """The prompt, with the marker of a wanted modality at its end if it stands in the other one."""
    if modality == "any" or not len(prompt):
        return prompt
    wanted = SPEECH if modality == "speech" else TEXT
    if _open_modality(prompt, layout) == wanted:
        return prompt
    return Document(
        prompt.id,
        np.append(prompt.token_ids, np.int32(layout.marker_id(wanted))),
        np.append(prompt.modalities, np.uint8(TEXT)),
        prompt.segment_lengths,
        prompt.segment_is_silence,
        segment_level=prompt.segment_level,
        entropies=prompt.entropies,
    )


def _open_modality(prompt: Document, layout: TokenLayout) -> int | None:
    """The modality of the span that a document ends in; none before the first marker."""
    markers = np.flatnonzero((prompt.token_ids == layout.text_id) | (prompt.token_ids == layout.speech_id))
    if not len(markers):
        return None
    return SPEECH if prompt.token_ids[markers[-1]] == layout.speech_id else TEXT


class _Writer:
    """One growing continuation: what may come next, and the draws."""

    def __init__(
        self, number: int, prompt: Document, layout: TokenLayout, options: SamplingOptions, vocab_size: int
    ) -> None:
        self.layout, self.options, self.vocab_size = layout, options, vocab_size
        self.modality = _open_modality(prompt, layout)
        seed = int(np.random.default_rng([options.seed, number]).integers(2**63))
        self.generator = torch.Generator().manual_seed(seed)
        self.token_ids: list[int] = []
        self.modalities: list[int] = []
        self.token_nats: list[float] = []
        self.ended_by: str | None = None
        self._allowed: dict[int | None, torch.Tensor] = {}

    def allowed(self) -> torch.Tensor:
        """Boolean [V], True where a token may come next."""
        if self.modality not in self._allowed:
            layout, mask = self.layout, torch.zeros(self.vocab_size, dtype=torch.bool)
            if self.modality == TEXT:
                mask[: layout.num_text] = True
            elif self.modality == SPEECH:
                mask[layout.first_unit_id :] = True
            mask[[layout.eos_id, layout.text_id, layout.speech_id, *self.options.stop_ids]] = True
            if self.modality is not None:
                # A span goes on without its own marker.
                mask[layout.marker_id(self.modality)] = False
            self._allowed[self.modality] = mask
        return self._allowed[self.modality]

    def draw(self, logits_V: torch.Tensor, model: LatentSpeechTextModel) -> None:
        """Draws the next token from float64 logits, and notes whether it ends the sequence."""
        if not bool(torch.isfinite(logits_V).all()):
            raise UserError(f"the logits are not finite: {describe_weights(model)}")
        token = draw_token(logits_V.masked_fill(~self.allowed(), float("-inf")), self.options, self.generator)
        layout = self.layout
        markers = {layout.text_id: TEXT, layout.speech_id: SPEECH}
        if (
            token == layout.eos_id
            or token in self.options.stop_ids
            or (token in markers and self.options.modality != "any")
        ):
            self.ended_by = "stop"
            return
        self.modality = markers.get(token, self.modality)
        self.token_ids.append(token)
        self.modalities.append(layout.modality_of(token))
        self.token_nats.append(float(logits_V[token] - logits_V.logsumexp(dim=0)))
        if len(self.token_ids) == self.options.max_new_tokens:
            self.ended_by = "length"

    def continuation(self) -> Continuation:
        assert self.ended_by is not None
        return Continuation(
            np.array(self.token_ids, np.int32),
            np.array(self.modalities, np.uint8),
            np.array(self.token_nats, np.float64),
            self.ended_by,
        )


def draw_token(logits_V: torch.Tensor, options: SamplingOptions, generator: torch.Generator) -> int:
    """One token from logits [V]; minus infinity is never drawn."""
    if options.temperature == 0:
        return int(logits_V.argmax())
    logits_V = logits_V / options.temperature
    if options.top_k:
        least = logits_V.topk(min(options.top_k, len(logits_V))).values[-1]
        logits_V = logits_V.masked_fill(logits_V < least, float("-inf"))
    weights_V = logits_V.softmax(dim=-1)
    if options.top_p < 1:
        ordered = weights_V.sort(descending=True, stable=True)
        # A token stays if those before it do not reach the share yet: the likeliest always stays.
        beyond = ordered.values.cumsum(dim=0) - ordered.values >= options.top_p
        weights_V = weights_V.index_fill(0, ordered.indices[beyond], 0.0)
    return int(torch.multinomial(weights_V, 1, generator=generator))


def describe_weights(model: torch.nn.Module) -> str:
    """Which weights are not finite, for an error."""
    broken = [name for name, tensor in model.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        return (
            f"{', '.join(broken[:3])}{' …' if len(broken) > 3 else ''} hold NaN or infinity; load an earlier checkpoint"
        )
    return "all weights are finite, so they overflow on the way, as half precision can: compute in float32"
