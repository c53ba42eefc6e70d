"""Where each word lies in the audio: the one door to every way of finding out.

======================  =====================================================================================
``data.align.method``   what places the words
======================  =====================================================================================
``pocketsphinx``        forced alignment with a packaged English model (the default)
``ctc``                 forced alignment with any CTC model of the wav2vec 2.0 family; knows characters too
``import``              files of another aligner: TextGrid, CTM, MFA's JSON, whisper-timestamped's JSON
``manifest``            times that the corpus itself gives: a manifest's ``words``, alignments of lhotse's cuts
``stamps``              times that the speech engine gave while it spoke; pocketsphinx where there are none
======================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lst.data.alignment.aligner import Aligner, AlignItem, AlignmentError
from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.config import AlignConfig
from lst.data.utterance import Word
from lst.errors import raise_problems
from lst.storage import files_fingerprint, fingerprint


class FilteredAligner:
    """An aligner whose words must pass the filters of the configuration, at the level that it asks for.

    Scores are comparable within one aligner only, hence one limit an aligner.
    """

    def __init__(self, aligner: Aligner, config: AlignConfig) -> None:
        self.aligner, self.config = aligner, config
        self.name = aligner_name(config)
        self.batch: int = getattr(aligner, "batch", 1)

    def align(
        self, waveform: np.ndarray, text: str, num_frames: int, frame_rate_hz: int, utterance_id: str = ""
    ) -> tuple[Word, ...]:
        """As ``Aligner.align``; what a filter leaves out is an ``AlignmentError`` too."""
        words = self.aligner.align(waveform, text, num_frames, frame_rate_hz, utterance_id)
        return self._checked(words, num_frames / frame_rate_hz)

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[tuple[Word, ...] | AlignmentError]:
        """As ``align`` of each, an error in place of words; in batches where the aligner has them."""
        many = getattr(self.aligner, "align_many", None)
        if many is None:
            found = [_words_or_error(self.aligner, item, frame_rate_hz) for item in items]
        else:
            found = many(items, frame_rate_hz)
        results: list[tuple[Word, ...] | AlignmentError] = []
        for item, words in zip(items, found, strict=True):
            if isinstance(words, AlignmentError):
                results.append(words)
                continue
            try:
                results.append(self._checked(words, item.num_frames / frame_rate_hz))
            except AlignmentError as error:
                results.append(error)
        return results

    def _checked(self, words: tuple[Word, ...], duration_s: float) -> tuple[Word, ...]:
        config = self.config
        score = sum(word.score for word in words) / max(len(words), 1)
        rate = len(words) / max(duration_s, 1e-9)
        reasons = []
        if config.min_score is not None and score < config.min_score:
            reasons.append(f"words score {score:.3f} on average, below data.align.min_score={config.min_score}")
        if rate < config.min_words_per_second:
            reasons.append(
                f"{rate:.2f} words a second, below data.align.min_words_per_second={config.min_words_per_second}"
            )
        if config.max_words_per_second is not None and rate > config.max_words_per_second:
            reasons.append(
                f"{rate:.2f} words a second, above data.align.max_words_per_second={config.max_words_per_second}"
            )
        if reasons:
            raise AlignmentError(f"filtered out: {'; '.join(reasons)}")
        if config.level == "character":
            return words
        return tuple(word._replace(character_ends=()) for word in words)


def _words_or_error(aligner: Aligner, item: AlignItem, frame_rate_hz: int) -> tuple[Word, ...] | AlignmentError:
    try:
        return aligner.align(item.waveform, item.text, item.num_frames, frame_rate_hz, item.utterance_id)
    except AlignmentError as error:
        return error


def build_aligner(config: AlignConfig) -> FilteredAligner:
    """The aligner that ``config`` names, with its filters.

    Raises:
        UserError: the configuration is faulty, or a package, a model or a file is missing.
    """
    raise_problems("data.align", config.problems(), "Change these options.")
    aligner: Aligner
    if config.method == "ctc":
        from lst.data.alignment.ctc.aligner import CtcAligner

        aligner = CtcAligner.from_config(config)
    elif config.method == "import":
        from lst.data.alignment.imported import ImportAligner

        aligner = ImportAligner(config.source, config.format)
    elif config.method == "manifest":
        from lst.data.alignment.imported import ManifestAligner

        aligner = ManifestAligner()
    elif config.method == "stamps":
        from lst.data.alignment.stamps import StampsAligner

        aligner = StampsAligner(config.source)
    else:
        aligner = PocketsphinxAligner()
    return FilteredAligner(aligner, config)


_built: dict[str, FilteredAligner] = {}


def process_aligner(config: AlignConfig) -> FilteredAligner:
    """``build_aligner``, once a process and configuration, so that a worker's model stays loaded."""
    key = fingerprint({"config": asdict(config), "files": align_files(config)})
    if key not in _built:
        _built.clear()
        _built[key] = build_aligner(config)
    return _built[key]


def align_files(config: AlignConfig) -> str | None:
    """Names the files that alignments depend on by size and time; None where there are none, or no longer."""
    depends_on = {"import": [config.source], "ctc": [config.checkpoint, config.weights]}.get(config.method, [])
    found = [files_fingerprint(str(Path(path).expanduser())) for path in depends_on if path]
    return fingerprint(found) if any(found) else None


def aligner_name(config: AlignConfig) -> str:
    """The name that records of prepared data give the aligner; nothing is loaded for it."""
    if config.method == "ctc":
        return f"ctc-{Path(config.checkpoint).name}"
    if config.method == "import":
        return f"import-{config.format}"
    return PocketsphinxAligner.name if config.method == "pocketsphinx" else config.method
