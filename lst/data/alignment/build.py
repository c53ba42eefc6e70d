"""Builds the aligner that ``data.align.method`` names, with the filters of the configuration.

======================  =====================================================================================
``data.align.method``   how words are aligned
======================  =====================================================================================
``pocketsphinx``        forced alignment with a packaged English model (the default)
``ctc``                 forced alignment with any CTC model of the wav2vec 2.0 family; aligns characters too
``import``              files of another aligner: TextGrid, CTM, MFA's JSON, whisper-timestamped's JSON
``manifest``            word times of the corpus: a manifest's ``words``, alignments of lhotse's cuts
``stamps``              word times that the speech engine reported while it spoke; pocketsphinx where it did not
======================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from functools import lru_cache
from pathlib import Path
from typing import Any

from lst.data.alignment.aligner import (
    MAX_UNALIGNED_SHARE,
    Aligner,
    AlignItem,
    AlignmentError,
    AlignResult,
    MisfitError,
    align_each,
)
from lst.data.alignment.causes import cause
from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.alignment.imported import ImportAligner, ManifestAligner
from lst.data.alignment.stamps import StampsAligner
from lst.data.alignment.words import mean_score
from lst.data.config import AlignConfig
from lst.data.utterance import Word
from lst.errors import raise_problems
from lst.storage import files_fingerprint, fingerprint


class FilteredAligner:
    """Wraps an aligner: words must pass the filters of the configuration and have the detail that it asks for.

    Without ``min_score``, an utterance must score as the aligner's right utterances do at least (``ScoreScale``), and
    two thirds of its words must be found.

    Attributes:
        scale: of the aligner's scores where ``min_score`` is not set; None where they say nothing.
    """

    def __init__(self, aligner: Aligner, config: AlignConfig) -> None:
        self.aligner, self.config = aligner, config
        self.name, self.batch = aligner_name(config), aligner.batch
        self.scale = aligner.scale if config.min_score is None else None

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[AlignResult]:
        """See ``Aligner.align_many``; an utterance that a filter rejects gives an ``AlignmentError`` too."""

        def filtered(pair: tuple[AlignItem, AlignResult]) -> tuple[Word, ...]:
            item, found = pair
            if isinstance(found, MisfitError) and self.aligner.scale is not None:
                raise AlignmentError(cause(item, (), str(found), self._is_english))
            if isinstance(found, AlignmentError):
                raise found
            self._check_fits(item, found)
            return self._filtered(found, item.num_frames / frame_rate_hz)

        return align_each(filtered, zip(items, self.aligner.align_many(items, frame_rate_hz), strict=True))

    @property
    def _is_english(self) -> bool:
        return self.config.method != "ctc"

    def _check_fits(self, item: AlignItem, words: tuple[Word, ...]) -> None:
        """Raises ``AlignmentError`` with the cause where the text is not that of the audio."""
        missing, score = sum(word.is_unaligned for word in words), mean_score(words)
        lowest = float("-inf") if self.scale is None else self.scale.lowest_of(item.language)
        if missing > MAX_UNALIGNED_SHARE * len(words):
            if self.config.method in ("import", "manifest"):
                raise AlignmentError(f"{missing} of {len(words)} words have no times")
            why = f"{missing} of {len(words)} words were not found in the audio"
        elif score < lowest:
            why = f"words score {score:.1f} on average, right texts above {lowest:g} (data.align.min_score)"
        else:
            return
        # Words that fit where the others are missing may be chance: only well-fitting ones tell where a file ends.
        raise AlignmentError(cause(item, words, why, self._is_english, score >= lowest))

    def _filtered(self, words: tuple[Word, ...], duration_s: float) -> tuple[Word, ...]:
        config = self.config
        score = mean_score(words)
        rate = len(words) / max(duration_s, 1e-9)
        reasons = []
        if config.min_score is not None and score < config.min_score:
            reasons.append(f"words score {score:.3f} on average, below data.align.min_score={config.min_score}")
        least, most = config.min_words_per_second, config.max_words_per_second
        if rate < least:
            reasons.append(f"{rate:.2f} words a second, below data.align.min_words_per_second={least}")
        if most is not None and rate > most:
            reasons.append(f"{rate:.2f} words a second, above data.align.max_words_per_second={most}")
        if reasons:
            raise AlignmentError(f"filtered out: {'; '.join(reasons)}")
        return words if config.level == "character" else tuple(word._replace(character_ends=()) for word in words)


def build_aligner(config: AlignConfig) -> FilteredAligner:
    """The aligner that ``config`` names, with its filters.

    Raises:
        UserError: the configuration is faulty, or a package, a model or a file is missing.
    """
    raise_problems("data.align", config.problems(), "Change these options.")
    return FilteredAligner(_unfiltered(config), config)


def _unfiltered(config: AlignConfig) -> Aligner:
    if config.method == "ctc":
        # Imported here because torch takes seconds to import.
        from lst.data.alignment.ctc.aligner import CtcAligner

        return CtcAligner.from_config(config)
    if config.method == "import":
        return ImportAligner(config.source, config.format, config.tier)
    if config.method == "manifest":
        return ManifestAligner()
    if config.method == "stamps":
        return StampsAligner(config.source)
    return PocketsphinxAligner(config.brackets())


def process_aligner(config: AlignConfig) -> FilteredAligner:
    """``build_aligner``, but the process keeps its last aligner, so that its model stays loaded."""
    return _kept_aligner(align_files(config), *astuple(config))


@lru_cache(maxsize=1)
def _kept_aligner(files: str | None, *options: Any) -> FilteredAligner:
    return build_aligner(AlignConfig(*options))


def align_places(config: AlignConfig) -> list[str]:
    """Files and folders that alignments depend on."""
    places = {"import": [config.source], "ctc": [config.checkpoint, config.weights]}.get(config.method, [])
    return [str(Path(place).expanduser()) for place in places if place]


def align_files(config: AlignConfig) -> str | None:
    """Fingerprint of the files that alignments depend on, by size and time; None if there are none."""
    found = [files_fingerprint(place) for place in align_places(config)]
    return fingerprint(found) if any(found) else None


def aligner_name(config: AlignConfig) -> str:
    """The aligner's name in the records of prepared data; loads nothing."""
    if config.method == "ctc":
        return f"ctc-{Path(config.checkpoint).name}"
    if config.method == "import":
        return f"import-{config.format}"
    return PocketsphinxAligner.name if config.method == "pocketsphinx" else config.method
