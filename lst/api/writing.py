"""Reads a continuation's tokens: as they are drawn, for a terminal and stop texts, and as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lst.runs import FittedPatching
from lst.tokenizers.text import TextTokenizer

# What SentencePiece makes of bytes that are no character yet.
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TokenReader:
    """Takes the tokens of one continuation as they are drawn.

    Args:
        patching: of the model; says what ids mean.
        tokenizer: of text.
        stop: texts at which it ends.
        on_new: is given each new bit of text, or unit number; None for nobody.
    """

    def __init__(
        self,
        patching: FittedPatching,
        tokenizer: TextTokenizer,
        stop: Sequence[str],
        on_new: Callable[[str], object] | None,
    ) -> None:
        self._patching, self._tokenizer, self._stop, self._on_new = patching, tokenizer, stop, on_new
        self._ids: list[int] = []
        self._shown = ""

    def take(self, token_id: int) -> bool:
        """Takes the next token; returns whether a stop text is complete."""
        layout = self._patching.vocabulary
        if layout.num_text <= token_id < layout.first_unit_id:
            self.finish()
            self._ids, self._shown = [], ""
            self._tell(f" <{'speech' if token_id == layout.speech_id else 'text'}> ")
        elif token_id >= layout.first_unit_id:
            for unit in self._patching.units_of(np.array([token_id])).tolist():
                self._tell(f"{unit} ")
        else:
            self._ids.append(token_id)
            return self._read()
        return False

    def finish(self) -> None:
        """Gives the text that was held back: the beginning of a stop text, or half a character."""
        self._show(self._text())

    def _text(self) -> str:
        return until_stop(self._tokenizer.decode(self._ids), self._stop)

    def _read(self) -> bool:
        text = self._tokenizer.decode(self._ids)
        kept = until_stop(text, self._stop)
        # The end of the text may be the beginning of a stop text.
        held = max((len(part) for stop in self._stop for part in _beginnings(stop) if kept.endswith(part)), default=0)
        if not text.endswith(_UNFINISHED):
            self._show(kept[: len(kept) - held])
        return kept != text

    def _show(self, text: str) -> None:
        self._tell(text[len(self._shown) :])
        self._shown = max(self._shown, text, key=len)

    def _tell(self, text: str) -> None:
        if text and self._on_new is not None:
            self._on_new(text)


def _beginnings(text: str) -> list[str]:
    return [text[:end] for end in range(1, len(text))]


def until_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stop texts.

    >>> until_stop("Anna went. Then she", [".", "Then"])
    'Anna went'
    """
    return text[: min((place for one in stop if (place := text.find(one)) >= 0), default=len(text))]


def spans_of(
    patching: FittedPatching,
    tokenizer: TextTokenizer,
    token_ids: np.ndarray,
    modalities: np.ndarray,
    stop: Sequence[str] = (),
) -> tuple[str | np.ndarray, ...]:
    """The stretches of a continuation: text, or units, int64 [n]; markers are left out.

    Args:
        patching: of the model; says what ids mean.
        tokenizer: of text.
        token_ids, modalities: int32 and uint8 [n], as ``generate`` returns them.
        stop: texts at which the last stretch of text is cut.
    """
    layout = patching.vocabulary
    bounds = np.flatnonzero(np.diff(modalities.astype(int)) != 0) + 1
    spans: list[str | np.ndarray] = []
    for ids in np.split(token_ids, bounds):
        content = ids[(ids < layout.num_text) | (ids >= layout.first_unit_id)]
        if len(content) and content[0] >= layout.first_unit_id:
            spans.append(patching.units_of(content).astype(np.int64))
        elif len(content):
            spans.append(until_stop(tokenizer.decode(content.tolist()), stop))
    return tuple(spans)
