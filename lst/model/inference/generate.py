"""Continues prompts token by token, in text, in speech, or in both.

Generation: an untrained model continues ``<bos> <speech>`` and two units, greedily. Ids 0 … 9 are text, 10 … 14 are
special tokens, units start at 15.

>>> from lst.model.config import ModelConfig
>>> model = LatentSpeechTextModel(ModelConfig(global_layers=1, decoder_layers=1), vocab_size=20).eval()
>>> layout = TokenLayout(num_text=10, first_unit_id=15, text_id=13, speech_id=14, eos_id=12)
>>> prompt = Document("a", np.array([11, 14, 15, 16], np.int32), np.array([TEXT, TEXT, SPEECH, SPEECH], np.uint8))
>>> greedy = SamplingOptions(max_new_tokens=3, temperature=0, modality="speech")
>>> (continued,) = generate(model, [prompt], PatchingConfig("static"), layout, greedy)
>>> continued.ended_by in ("length", "stop"), bool((continued.token_ids >= 15).all())
(True, True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch

from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document
from lst.model.config import PatchingConfig
from lst.model.inference.boundaries import cut_documents
from lst.model.inference.incremental import DecodingState
from lst.model.inference.patch_stepper import PatchStepper, UnitMeasure
from lst.model.inference.token_layout import TokenLayout
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_strategy
from lst.progress import Progress

MODALITIES = ("text", "speech", "any")


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is drawn, and when a sequence ends.

    Attributes:
        max_new_tokens: upper bound of the new tokens.
        temperature: divides the logits; 0 takes the most likely token (greedy).
        top_k: draws from the k most likely tokens; 0 sets no limit.
        top_p: draws from the fewest most likely tokens whose probabilities sum to this share; 1 sets no limit.
        modality: ``text`` or ``speech`` continues in that modality, and a marker of the other one ends the sequence.
            A prompt that ends in the other modality gets the marker first. ``any`` lets the model switch by markers.
        stop_ids: further ids that end a sequence, besides ``<eos>``.
        seed: of the draws. The draws of a prompt depend on the seed and the prompt's number alone.
        no_repeat_units: so many units in a row never occur twice in a span of speech; so no unit goes on for longer
            either. 0 sets no limit.

    Raises:
        UserError: a value is not allowed; all problems are named.
    """

    max_new_tokens: int = 50
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    modality: str = "any"
    stop_ids: tuple[int, ...] = ()
    seed: int = 0
    no_repeat_units: int = 0

    def __post_init__(self) -> None:
        """Checks the values."""
        wrong = {
            f"max_new_tokens={self.max_new_tokens} must be 1 or more": self.max_new_tokens < 1,
            f"temperature={self.temperature} must be 0 (the most likely token) or more": not (
                self.temperature >= 0 and math.isfinite(self.temperature)
            ),
            f"top_k={self.top_k} must be 0 (no limit) or more": self.top_k < 0,
            f"top_p={self.top_p} must be above 0 and at most 1 (no limit)": not 0 < self.top_p <= 1,
            f"no_repeat_units={self.no_repeat_units} must be 0 (no limit) or more": self.no_repeat_units < 0,
            f"modality={self.modality!r} must be one of {', '.join(MODALITIES)}": self.modality not in MODALITIES,
        }
        if any(wrong.values()):
            raise UserError(f"sampling: {'; '.join(problem for problem, is_wrong in wrong.items() if is_wrong)}")


@dataclass(frozen=True)
class Continuation:
    """The new tokens of a prompt.

    Attributes:
        token_ids: int32 [n], markers included, without the token that ended the sequence.
        modalities: uint8 [n].
        token_nats: float64 [n], log-probability of each under the model, before masks and temperature.
        ended_by: ``stop`` (``<eos>``, a stop id, or an unwanted marker), ``length`` (``max_new_tokens``) or ``context``
            (the model's ``max_patches``).
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
    numbers: Sequence[int] | None = None,
    ends: Callable[[int, int], bool] | None = None,
) -> list[Continuation]:
    """Continues prompts of any lengths together. Apart from rounding, a prompt does not affect the others.

    Args:
        model: in evaluation mode.
        prompts: each starts with a token that is a patch of its own, such as ``<bos>``. Entropy patching needs their
            entropies.
        patching: as in the model's training. Strategies that need an aligner become static, unless the model has a
            boundary head. The rest of a span of speech is open until the next token is known.
        layout: what ids mean.
        options: how to draw.
        unit_measure: for entropy patching, the unit model's ``next_entropy`` (or ``last_surprisal``).
        numbers: of the prompts, which decide their draws; by default 0, 1, ….
        ends: is told each new token as it is drawn, by the prompt's place and the id; where it returns true, the
            sequence ends with this token.

    Returns:
        The continuation of each prompt, in order.

    Raises:
        UserError: a prompt is empty, too long, has ids outside the vocabulary or a span without a marker; or weights
            are not finite.
    """
    if not prompts:
        return []
    if unknown := [token for token in options.stop_ids if not 0 <= token < model.vocab_size]:
        raise UserError(f"sampling: stop_ids={unknown} are outside the vocabulary of 0 to {model.vocab_size - 1}")
    if options.modality == "speech" and layout.first_unit_id >= model.vocab_size:
        raise UserError("modality=speech: the model's vocabulary has no speech, it was trained on text alone")
    for prompt in prompts:
        layout.check(prompt)
    prompts = [with_marker(prompt, layout, options.modality) for prompt in prompts]
    has_head = model.config.boundary_head
    patches = cut_documents(model, prompts, inference_strategy(patching, has_head), patching)
    steppers = []
    for prompt, cut in zip(prompts, patches, strict=True):
        steppers.append(PatchStepper(patching, layout.first_unit_id, unit_measure, layout.speech_id, has_head))
        steppers[-1].begin(prompt, cut)
    state = DecodingState(model, prompts, patches, steppers)
    writers = [
        _Writer(place, number, prompt, layout, options, model.vocab_size, ends)
        for place, (number, prompt) in enumerate(zip(numbers or range(len(prompts)), prompts, strict=True))
    ]
    # Whoever is told the tokens shows them.
    with nullcontext() if ends else Progress(options.max_new_tokens, "generate", unit="token") as progress:
        _write(model, state, writers, progress)
    return [writer.continuation() for writer in writers]


def _write(
    model: LatentSpeechTextModel, state: DecodingState, active: list[_Writer], progress: Progress | None
) -> None:
    """Draws a token for each active writer at a time, until all have ended."""
    while True:
        for writer, logits_V in zip(active, state.logits.detach().double().cpu(), strict=True):
            writer.draw(logits_V, model)
        going = [place for place, writer in enumerate(active) if writer.ended_by is None]
        for place in list(going):
            # The next token may open one more patch.
            if state.num_patches[place] + (state.steppers[place].num_open > 0) >= model.config.max_patches:
                active[place].ended_by = "context"
                going.remove(place)
        if progress is not None:
            progress.advance()
        if not going:
            return
        if len(going) < len(active):
            state.keep(going)
            active = [active[place] for place in going]
        state.step(
            np.array([writer.token_ids[-1] for writer in active]),
            np.array([writer.modalities[-1] for writer in active]),
        )


def with_marker(prompt: Document, layout: TokenLayout, modality: str) -> Document:
    """The prompt, followed by the marker of the wanted modality, unless it ends in that already."""
    prompt = replace(prompt, speech_marker_id=layout.speech_id)
    if modality == "any" or not len(prompt):
        return prompt
    wanted = SPEECH if modality == "speech" else TEXT
    if _open_modality(prompt, layout) == wanted:
        return prompt
    return replace(
        prompt,
        token_ids=np.append(prompt.token_ids, np.int32(layout.marker_id(wanted))),
        modalities=np.append(prompt.modalities, np.uint8(TEXT)),
    )


def _open_modality(prompt: Document, layout: TokenLayout) -> int | None:
    """The modality of the last span of a document; None before the first marker."""
    markers = np.flatnonzero((prompt.token_ids == layout.text_id) | (prompt.token_ids == layout.speech_id))
    if not len(markers):
        return None
    return SPEECH if prompt.token_ids[markers[-1]] == layout.speech_id else TEXT


class _Writer:
    """One growing continuation: the allowed next tokens, and the draws."""

    def __init__(
        self,
        place: int,
        number: int,
        prompt: Document,
        layout: TokenLayout,
        options: SamplingOptions,
        vocab_size: int,
        ends: Callable[[int, int], bool] | None,
    ) -> None:
        self.layout, self.options, self.vocab_size = layout, options, vocab_size
        self.place, self.ends = place, ends
        self.modality = _open_modality(prompt, layout)
        seed = int(np.random.default_rng([options.seed, number]).integers(2**63))
        self.generator = torch.Generator().manual_seed(seed)
        self.token_ids: list[int] = []
        self.modalities: list[int] = []
        self.token_nats: list[float] = []
        self.ended_by: str | None = None
        self._allowed: dict[int | None, torch.Tensor] = {}

    def allowed(self) -> torch.Tensor:
        """Boolean [V], True for the allowed next tokens."""
        if self.modality not in self._allowed:
            layout, mask = self.layout, torch.zeros(self.vocab_size, dtype=torch.bool)
            if self.modality == TEXT:
                mask[: layout.num_text] = True
            elif self.modality == SPEECH:
                mask[layout.first_unit_id :] = True
            mask[[layout.eos_id, layout.text_id, layout.speech_id, *self.options.stop_ids]] = True
            if self.modality is not None:
                # Within a span its own marker is not allowed.
                mask[layout.marker_id(self.modality)] = False
            self._allowed[self.modality] = mask
        return self._allowed[self.modality]

    def draw(self, logits_V: torch.Tensor, model: LatentSpeechTextModel) -> None:
        """Draws the next token from float64 logits [V], and records whether it ends the sequence."""
        if not bool(torch.isfinite(logits_V).all()):
            raise UserError(f"the logits are not finite: {describe_weights(model)}")
        allowed_V = logits_V.masked_fill(~self.allowed(), float("-inf"))
        allowed_V[repeating(self.token_ids, self.options.no_repeat_units, self.layout.first_unit_id)] = float("-inf")
        token = draw_token(allowed_V, self.options, self.generator)
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
        if self.ends is not None and self.ends(self.place, token):
            self.ended_by = "stop"
        elif len(self.token_ids) == self.options.max_new_tokens:
            self.ended_by = "length"

    def continuation(self) -> Continuation:
        """All tokens so far, after the end."""
        assert self.ended_by is not None
        return Continuation(
            np.array(self.token_ids, np.int32),
            np.array(self.modalities, np.uint8),
            np.array(self.token_nats, np.float64),
            self.ended_by,
        )


def repeating(token_ids: Sequence[int], num_units: int, first_unit_id: int) -> list[int]:
    """The units that would repeat ``num_units`` units in a row of the last span of speech; none for 0.

    >>> repeating([21, 20, 22, 23, 20, 22], num_units=3, first_unit_id=20)
    [23]
    """
    if not num_units:
        return []
    start = next((place + 1 for place in reversed(range(len(token_ids))) if token_ids[place] < first_unit_id), 0)
    span = token_ids[start:]
    last = span[len(span) - num_units + 1 :]
    return [
        span[place + num_units - 1]
        for place in range(len(span) - num_units + 1)
        if span[place : place + num_units - 1] == last
    ]


def draw_token(logits_V: torch.Tensor, options: SamplingOptions, generator: torch.Generator) -> int:
    """Draws a token from logits [V].

    >>> draw_token(torch.tensor([0.0, 2.0, 1.0]), SamplingOptions(temperature=0), torch.Generator())
    1

    Args:
        logits_V: minus infinity for tokens that are not allowed.
        options: temperature, top_k and top_p.
        generator: of the draw.
    """
    if options.temperature == 0:
        return int(logits_V.argmax())
    logits_V = logits_V / options.temperature
    if options.top_k:
        least = logits_V.topk(min(options.top_k, len(logits_V))).values[-1]
        logits_V = logits_V.masked_fill(logits_V < least, float("-inf"))
    weights_V = logits_V.softmax(dim=-1)
    if options.top_p < 1:
        ordered = weights_V.sort(descending=True, stable=True)
        # A token stays if the tokens before it do not reach the share. So the most likely one always stays.
        beyond = ordered.values.cumsum(dim=0) - ordered.values >= options.top_p
        weights_V = weights_V.index_fill(0, ordered.indices[beyond], 0.0)
    return int(torch.multinomial(weights_V, 1, generator=generator))


def describe_weights(model: torch.nn.Module) -> str:
    """Names the weights that are not finite, for an error."""
    broken = [name for name, tensor in model.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        return (
            f"{', '.join(broken[:3])}{' …' if len(broken) > 3 else ''} hold NaN or infinity; load an earlier checkpoint"
        )
    return "all weights are finite, so values overflow in between, as in half precision: compute in float32"
