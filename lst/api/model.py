"""A trained model to work with in Python: scores, continuations, transcripts, speech."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lst.api.prompts import Piece, Prompt, prompt_parts, units_of
from lst.api.results import Continued, EndingScore, Sound
from lst.api.writing import TokenReader, spans_of
from lst.configs.schema import Config
from lst.data.documents import DocumentPart
from lst.errors import UserError, raise_problems
from lst.evaluation import Scorer
from lst.evaluation.adapted import most_units, transcribed
from lst.model.batch import SPEECH, Document
from lst.model.inference import SamplingOptions, generate
from lst.runs import WholeModel
from lst.voice.vocoders import Vocoder

# Prompts that are continued together.
_PROMPTS_AT_ONCE = 16


@dataclass(frozen=True, repr=False)
class SpeechTextModel:
    """A trained model with its tokenizers and its voice; ``lst.load`` opens one.

    A prompt is text, the path of an audio file (``Path``, or a ``str`` with the suffix of one), a pair ``(samples,
    sample_rate_hz)``, or a list of such pieces, which follow one another.

    Attributes:
        whole: the model with its patching and tokenizers.
        voice: makes sound of units; None where the model's folder has no voice.
    """

    whole: WholeModel
    voice: Vocoder | None = None

    def __repr__(self) -> str:
        whole, codec = self.whole, self.whole.tokenizers.codec
        config = whole.model.config
        return "\n".join(
            [
                f"SpeechTextModel {whole.name!r} ({whole.model.num_parameters:,} parameters)",
                f"  folder    {whole.folder}",
                f"  text      {whole.tokenizers.tokenizer.vocab_size:,} pieces",
                f"  speech    {codec.num_units:,} units at {codec.frame_rate_hz} Hz ({codec.name})",
                f"  patching  {whole.strategy} (trained with {whole.patching.config.strategy})",
                f"  context   {config.max_patches:,} patches",
                f"  voice     {self.voice.name if self.voice else 'none'}",
            ]
        )

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer.of(self.whole, Config())

    def _parts(self, prompt: Prompt) -> list[DocumentPart]:
        return prompt_parts(prompt, self._scorer.builder, self.whole.tokenizers.codec)

    def score(self, context: Prompt | None, endings: Sequence[Prompt]) -> list[EndingScore]:
        """How likely each ending is after the context; ``lst eval`` scores its items in the same way.

        Args:
            context: what comes before; None for endings that stand alone.
            endings: one or more, each a prompt; written and spoken ones may be mixed.

        Returns:
            The score of each ending, in order.

        Raises:
            UserError: a prompt is empty or cannot be read, or is longer than the model's context; all are named.
        """
        if isinstance(endings, (str, tuple)) or not len(endings):
            raise UserError("endings is a list of one or more: write [ending]")
        builder, before = self._scorer.builder, [] if context is None else self._parts(context)
        documents: list[tuple[Document, slice]] = []
        for ending in endings:
            own = self._parts(ending)
            for parts in (before, []):
                document = builder.document("ending", [*parts, *own], end=False)
                documents.append((document, slice(self._num_before(parts, own), len(document))))
        faults = [(place // 2 + 1, self._scorer.fault(one)) for place, one in enumerate(documents)]
        named = dict.fromkeys(f"ending {number}: {fault}" for number, fault in faults if fault)
        raise_problems("the model cannot score these endings", list(named))
        scores = self._scorer.score(documents)
        return [EndingScore.of(own, alone) for own, alone in zip(scores[::2], scores[1::2], strict=True)]

    def _num_before(self, before: list[DocumentPart], own: list[DocumentPart]) -> int:
        """Tokens before the first one of ``own``: ``<bos>``, the parts before, and the marker that opens it."""
        if not before:
            return 2
        given = self._scorer.builder.document("context", before, end=False)
        return len(given) + (before[-1].modality != own[0].modality)

    def generate(
        self,
        prompt: Prompt,
        *,
        modality: str = "same",
        max_new_tokens: int = 50,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        no_repeat_units: int = 0,
        on_new: Callable[[str], object] | None = None,
    ) -> Continued:
        """Continues a prompt.

        Args:
            prompt: text, audio, or a list of both.
            modality: ``text``, ``speech``, ``any`` (the model may switch), or ``same`` as the prompt's last piece.
            max_new_tokens, temperature, top_k, top_p, seed, no_repeat_units: see ``SamplingOptions``.
            stop: texts at which it ends; they are cut off.
            on_new: is given each new bit of text, or unit number, as soon as it is drawn.

        Raises:
            UserError: the prompt is empty or cannot be read, or an option is not allowed.
        """
        sampling = SamplingOptions(
            max_new_tokens, temperature, top_k, top_p, seed=seed, no_repeat_units=no_repeat_units
        )
        return self.generate_all([prompt], sampling, modality, stop, on_new)[0]

    def generate_all(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingOptions,
        modality: str = "same",
        stop: Sequence[str] = (),
        on_new: Callable[[str], object] | None = None,
    ) -> list[Continued]:
        """Continues several prompts together; a prompt draws by its number in the list.

        Args:
            prompts: each as for ``generate``.
            sampling: how to draw; its ``modality`` is not read.
            modality, stop, on_new: as for ``generate``; ``on_new`` wants one prompt.
        """
        if isinstance(stop, str) or not all(stop):
            raise UserError("stop is a list of texts that are not empty: write [text]")
        return self._after([self._parts(prompt) for prompt in prompts], sampling, modality, stop, on_new)

    def _after(
        self,
        parts: Sequence[list[DocumentPart]],
        sampling: SamplingOptions,
        modality: str,
        stop: Sequence[str] = (),
        on_new: Callable[[str], object] | None = None,
    ) -> list[Continued]:
        """Continues prompts as parts: those of one modality together, some at a time."""
        builder = self._scorer.builder
        wanted = [
            modality if modality != "same" else "speech" if own[-1].modality == SPEECH else "text" for own in parts
        ]
        found: dict[int, Continued] = {}
        for kind in dict.fromkeys(wanted):
            numbers = [number for number, own in enumerate(wanted) if own == kind]
            for start in range(0, len(numbers), _PROMPTS_AT_ONCE):
                chosen = numbers[start : start + _PROMPTS_AT_ONCE]
                documents = [builder.document("prompt", parts[number], end=False) for number in chosen]
                own = self._continued(documents, chosen, replace(sampling, modality=kind), stop, on_new)
                found.update(zip(chosen, own, strict=True))
        return [found[number] for number in range(len(parts))]

    def _continued(
        self,
        documents: Sequence[Document],
        numbers: Sequence[int],
        sampling: SamplingOptions,
        stop: Sequence[str],
        on_new: Callable[[str], object] | None,
    ) -> list[Continued]:
        whole, tokenizer = self.whole, self.whole.tokenizers.tokenizer
        readers = [TokenReader(whole.patching, tokenizer, stop, on_new) for _ in documents]
        continued = generate(
            whole.model,
            documents,
            whole.patching.config,
            whole.layout,
            sampling,
            whole.patching.unit_measure,
            numbers,
            (lambda place, token: readers[place].take(token)) if stop or on_new else None,
        )
        for reader in readers:
            reader.finish()
        is_deduplicated = whole.vocabulary.deduplicated and whole.patching.speech_bpe is None
        return [
            Continued(
                spans_of(whole.patching, tokenizer, one.token_ids, one.modalities, stop),
                len(one.token_ids),
                one.ended_by,
                is_deduplicated,
                self.voice,
            )
            for one in continued
        ]

    def continue_units(self, units: np.ndarray, *, max_new_tokens: int = 50, seed: int = 0) -> Continued:
        """Continues speech that is units already, int [n], in speech."""
        return self.generate_all([np.asarray(units)], SamplingOptions(max_new_tokens, seed=seed), "speech")[0]

    def transcribe(self, audio: Piece, *, num_beams: int = 1, max_new_tokens: int | None = None) -> str:
        """What the model writes after hearing ``audio``: text of the same words, if it has learned that.

        A model that was adapted to recognition (``experiment=asr``) reads ``<bos> <speech> units <text>`` and goes on
        with the words. Others mostly go on with the story in text instead of writing what was said; small models write
        words that sound right at best.

        Args:
            audio: an audio file, or ``(samples, sample_rate_hz)``.
            num_beams: answers that are followed at a time; 1 takes the likeliest token.
            max_new_tokens: by default what the fastest speaker could say in this time.
        """
        limits = None if max_new_tokens is None else [max_new_tokens]
        return transcribed(self.whole, self._scorer.builder, [self.units(audio)], num_beams, limits)[0].text

    def speak(
        self,
        text: str,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.8,
        top_p: float = 1.0,
        seed: int = 0,
        no_repeat_units: int = 0,
    ) -> Sound:
        """What the model says after reading ``text``: the same words, if it has learned that; see ``transcribe``.

        A model that was not adapted to reading aloud mostly goes on with the story in speech. The sound is the voice's:
        see ``lst.voice.vocoders``.

        Args:
            text: a few words.
            max_new_tokens: by default what the slowest speaker would need.
            temperature, top_p, seed, no_repeat_units: see ``SamplingOptions``.

        Raises:
            UserError: the model says nothing, or has no voice.
        """
        return self.read_aloud(
            text,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            no_repeat_units=no_repeat_units,
        ).sound

    def read_aloud(
        self,
        text: str,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.8,
        top_p: float = 1.0,
        seed: int = 0,
        no_repeat_units: int = 0,
    ) -> Continued:
        """The units of ``speak``, which need no voice."""
        if max_new_tokens is None:
            max_new_tokens = most_units(self.whole, text)
        return self.generate(
            text,
            modality="speech",
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            no_repeat_units=no_repeat_units,
        )

    def units(self, audio: Piece) -> np.ndarray:
        """Speech units of an audio file or of ``(samples, sample_rate_hz)``, uint16 [n]."""
        return units_of(audio, self.whole.tokenizers.codec)

    def sound(self, units: np.ndarray) -> Sound:
        """The sound of units, int [n], such as ``units`` returns; raises ``UserError`` where the model has no voice."""
        return Continued((np.asarray(units, np.int64),), len(units), "stop", voice=self.voice).sound
