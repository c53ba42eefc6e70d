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

from lst.data.alignment.aligner import Aligner, AlignItem, AlignmentError, AlignResult, align_each
from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.alignment.imported import ImportAligner, ManifestAligner
from lst.data.alignment.stamps import StampsAligner
from lst.data.config import AlignConfig
from lst.data.utterance import Word
from lst.errors import raise_problems
from lst.storage import files_fingerprint, fingerprint


class FilteredAligner:
    """Wraps an aligner: words must pass the filters of the configuration and have the detail that it asks for.

    Scores of different aligners are not comparable, so ``min_score`` has no common default.
    """

    def __init__(self, aligner: Aligner, config: AlignConfig) -> None:
        self.aligner, self.config = aligner, config
        self.name, self.batch = aligner_name(config), aligner.batch

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[AlignResult]:
        """See ``Aligner.align_many``; an utterance that a filter rejects gives an ``AlignmentError`` too."""

        def filtered(pair: tuple[AlignItem, AlignResult]) -> tuple[Word, ...]:
            item, found = pair
            if isinstance(found, AlignmentError):
                raise found
            return self._filtered(found, item.num_frames / frame_rate_hz)

        return align_each(filtered, zip(items, self.aligner.align_many(items, frame_rate_hz), strict=True))

    def _filtered(self, words: tuple[Word, ...], duration_s: float) -> tuple[Word, ...]:
        config = self.config
        score = sum(word.score for word in words) / max(len(words), 1)
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
    return PocketsphinxAligner()


def process_aligner(config: AlignConfig) -> FilteredAligner:
    """``build_aligner``, but the process keeps its last aligner, so that its model stays loaded."""
    return _kept_aligner(align_files(config), *astuple(config))


@lru_cache(maxsize=1)
def _kept_aligner(files: str | None, *options: Any) -> FilteredAligner:
    return build_aligner(AlignConfig(*options))


def align_files(config: AlignConfig) -> str | None:
    """Fingerprint of the files that alignments depend on, by size and time; None if there are none."""
    depends_on = {"import": [config.source], "ctc": [config.checkpoint, config.weights]}.get(config.method, [])
    found = [files_fingerprint(str(Path(path).expanduser())) for path in depends_on if path]
    return fingerprint(found) if any(found) else None


def aligner_name(config: AlignConfig) -> str:
    """The aligner's name in the records of prepared data; loads nothing."""
    if config.method == "ctc":
        return f"ctc-{Path(config.checkpoint).name}"
    if config.method == "import":
        return f"import-{config.format}"
    return PocketsphinxAligner.name if config.method == "pocketsphinx" else config.method
