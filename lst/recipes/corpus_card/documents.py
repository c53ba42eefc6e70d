"""Documents of a corpus as a model reads them: tokens of each kind and patches of each strategy, in a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from lst.data.config import ADAPTATION_KINDS, DataConfig, MixConfig
from lst.data.documents import DocumentBuilder
from lst.data.documents.interleave import Request
from lst.data.utterance import Utterance
from lst.model.batch import SPEECH, Document
from lst.model.config import PatchingConfig
from lst.model.patching import patch_documents
from lst.recipes.report.statistics import add_counts, mean_length, ratio, total_length
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary

# Name of a strategy: how to cut, what to do with silences, and the level of alignment.
STRATEGIES = {
    "static": ("static", "separate", "word"),
    "aligned_sil_separate": ("aligned", "separate", "word"),
    "aligned_sil_merged": ("aligned", "merged", "word"),
    "bpe_aligned": ("aligned", "separate", "bpe"),
}
# Documents that hold an utterance twice.
_TWICE = ("paired", *ADAPTATION_KINDS)
PAPER_SPEECH_SHARE = 0.77
# Documents that are cut at a time; the counts do not depend on it.
CHUNK_DOCUMENTS = 256


def sampled_places(num_utterances: int, max_utterances: int, seed: int) -> np.ndarray:
    """Indices of a sample without repetition, int64, rising; all indices if ``max_utterances`` is 0 or large enough."""
    if max_utterances == 0 or num_utterances <= max_utterances:
        return np.arange(num_utterances)
    # A draw of its own, so that no other use of the seed is correlated with it.
    chosen = np.random.default_rng([0xCA4D, seed]).choice(num_utterances, max_utterances, replace=False)
    return np.sort(chosen)


@dataclass
class TokenCounts:
    """Number of documents of one kind, and of their tokens."""

    num_documents: int = 0
    num_tokens: int = 0
    num_speech_tokens: int = 0
    num_special_tokens: int = 0

    def numbers(self) -> dict[str, Any]:
        """``documents.KIND`` of the card."""
        text = self.num_tokens - self.num_speech_tokens - self.num_special_tokens
        return {
            **asdict(self),
            "num_text_tokens": text,
            "mean_tokens": ratio(self.num_tokens, self.num_documents),
            "speech_share": ratio(self.num_speech_tokens, self.num_tokens),
        }


@dataclass
class PatchCounts:
    """Patches of one kind of documents under one strategy; entry i of ``lengths`` counts speech patches of i units."""

    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    num_patches: int = 0
    num_tokens: int = 0

    def numbers(self, unit_rate_hz: float) -> dict[str, Any]:
        """``patches.STRATEGY.KIND`` of the card."""
        mean = mean_length(self.lengths)
        return {
            "num_speech_patches": int(self.lengths.sum()),
            "mean_units": mean,
            "mean_s": None if mean is None else mean / unit_rate_hz,
            "speech_patches_per_second": None if mean is None else unit_rate_hz / mean,
            "positions_per_token": ratio(self.num_patches, self.num_tokens),
            "length_counts": self.lengths.tolist(),
        }


class DocumentCounts:
    """Builds documents of sampled utterances as training does in its first epoch, and counts tokens and patches.

    Args:
        tokenizer: of text.
        vocabulary: ids of the documents.
        data: how documents are drawn and mixed.
        patching: sizes and limits; the strategies are all of ``STRATEGIES``.
        seed: of the documents' cuts.
    """

    def __init__(
        self, tokenizer: TextTokenizer, vocabulary: Vocabulary, data: DataConfig, patching: PatchingConfig, seed: int
    ) -> None:
        self.vocabulary, self.mix, self.patching = vocabulary, data.mix, patching
        self.builders = {
            level: DocumentBuilder(tokenizer, vocabulary, data.interleave, seed, level) for level in ("word", "bpe")
        }
        # Of the others, only those that a training sees.
        kinds = ("interleaved", "text", "speech", *(kind for kind in _TWICE if getattr(data.mix, kind)))
        self.tokens = {kind: TokenCounts() for kind in kinds}
        self.patches = {name: {kind: PatchCounts() for kind in ("interleaved", "speech")} for name in STRATEGIES}
        self.num_without_words = self._num_frames = self._num_units = 0
        self._waiting: list[Utterance] = []

    def add_spoken(self, utterance: Utterance) -> None:
        """Counts the interleaved and the speech document of an utterance. Utterances without words are only counted."""
        if not utterance.words:
            self.num_without_words += 1
            return
        self._waiting.append(utterance)
        if len(self._waiting) >= CHUNK_DOCUMENTS:
            self._count_waiting()

    def add_text(self, utterance: Utterance) -> None:
        """Counts the text document of a written text, or of a transcript where there are none."""
        self._count_tokens("text", self.builders["word"].text(utterance))

    def numbers(self) -> dict[str, Any]:
        """``documents``, ``mixture`` and ``patches`` of the card."""
        self._count_waiting()
        documents = {kind: counts.numbers() for kind, counts in self.tokens.items()}
        rate = self._rate_hz
        return {
            "documents": documents,
            "mixture": mixture_numbers(documents, self.mix),
            "patches": {
                **{
                    name: {kind: counts.numbers(rate) for kind, counts in kinds.items()}
                    for name, kinds in self.patches.items()
                },
                "mixed": {kind: self._mixed_numbers(kind) for kind in ("interleaved", "speech")},
            },
        }

    @property
    def _rate_hz(self) -> float:
        """Units a second; of the sample, where a run of one unit counts once."""
        return self.vocabulary.unit_rate_hz * (self._num_units / self._num_frames if self._num_frames else 1)

    def _mixed_numbers(self, kind: str) -> dict[str, Any]:
        """Every batch is static or aligned with equal chance, and all have equally many patches, text's among them."""
        rate = self._rate_hz
        found = [self.patches[name][kind] for name in ("static", "aligned_sil_separate")]
        speech_patches = [ratio(int(counts.lengths.sum()), counts.num_patches) or 0.0 for counts in found]
        units = [ratio(total_length(counts.lengths), counts.num_patches) or 0.0 for counts in found]
        mean = ratio(sum(units), sum(speech_patches))
        # Tokens of a batch add, each strategy's being its patches over its positions a token.
        tokens = sum(ratio(counts.num_tokens, counts.num_patches) or 0.0 for counts in found)
        return {
            "mean_units": mean,
            "mean_s": None if mean is None else mean / rate,
            "speech_patches_per_second": None if mean is None else rate / mean,
            "positions_per_token": ratio(2, tokens),
        }

    def _count_waiting(self) -> None:
        utterances, self._waiting = self._waiting, []
        self._num_frames += sum(utterance.num_frames for utterance in utterances)
        self._num_units += sum(map(self.builders["word"].num_units, utterances))
        by_level = {
            level: {
                "interleaved": [builder.interleaved(utterance, 0) for utterance in utterances],
                "speech": [builder.speech(utterance) for utterance in utterances],
            }
            for level, builder in self.builders.items()
        }
        for kind, documents in by_level["word"].items():
            for document in documents:
                self._count_tokens(kind, document)
        for kind in [kind for kind in _TWICE if kind in self.tokens]:
            for document in self.builders["word"].documents([Request(kind, one) for one in utterances]):
                self._count_tokens(kind, document)
        for name, (strategy, silence, level) in STRATEGIES.items():
            options = replace(self.patching, silence=silence, aligned_to=level)
            for kind, documents in by_level[level].items():
                self._count_patches(self.patches[name][kind], documents, strategy, options)

    def _count_tokens(self, kind: str, document: Document) -> None:
        counts, first = self.tokens[kind], self.vocabulary.num_text
        special = (document.token_ids >= first) & (document.token_ids < self.vocabulary.first_unit_id)
        counts.num_documents += 1
        counts.num_tokens += len(document)
        counts.num_speech_tokens += int((document.modalities == SPEECH).sum())
        counts.num_special_tokens += int(special.sum())

    @staticmethod
    def _count_patches(
        counts: PatchCounts, documents: Sequence[Document], strategy: str, options: PatchingConfig
    ) -> None:
        for document, patches in zip(documents, patch_documents(documents, strategy, options), strict=True):
            # Of the last token: the first one of a patch may be the marker of its span.
            kinds = document.modalities[np.cumsum(patches.lengths) - 1]
            counts.lengths = add_counts(counts.lengths, patches.lengths[kinds == SPEECH])
            counts.num_patches += len(patches)
            counts.num_tokens += len(document)


def mixture_numbers(documents: dict[str, dict[str, Any]], mix: MixConfig) -> dict[str, Any]:
    """Shares of the tokens that a training with these weights sees, computed from the mean lengths of documents.

    Args:
        documents: by kind, ``mean_tokens`` and ``speech_share``.
        mix: weights, by tokens or by documents.

    Returns:
        Per kind ``weight`` and ``token_share``; and ``speech_share`` of all tokens. A share is None where a kind that
        is wanted has no document.
    """
    weights = {kind: float(getattr(mix, kind)) for kind in documents}
    wanted = [kind for kind, weight in weights.items() if weight > 0]
    is_known = all(documents[kind]["mean_tokens"] for kind in wanted)
    # By tokens, a weight says how many tokens are taken, not how many documents.
    a_document = {kind: 1.0 if mix.by == "tokens" else documents[kind]["mean_tokens"] or 0.0 for kind in documents}
    tokens = {kind: weights[kind] * a_document[kind] for kind in documents}
    total = sum(tokens.values())
    speech = sum(tokens[kind] * (documents[kind]["speech_share"] or 0.0) for kind in documents)
    shares = {kind: ratio(part, total) if is_known else None for kind, part in tokens.items()}
    return {
        "kinds": {kind: {"weight": weights[kind], "token_share": shares[kind]} for kind in documents},
        "speech_share": ratio(speech, total) if is_known else None,
    }
