"""Alignments of other tools, in files or in the manifest, checked against transcript and audio."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from lst.data.alignment.aligner import ALIGNER_SAMPLE_RATE_HZ, AlignItem, AlignmentError
from lst.data.alignment.formats.aligner_json import read_mfa_json, read_whisper_json
from lst.data.alignment.formats.ctm import read_ctm
from lst.data.alignment.formats.intervals import decode_text
from lst.data.alignment.formats.textgrid import read_textgrid
from lst.data.alignment.words import match_words, place_words
from lst.data.config import AlignConfig, DataConfig
from lst.data.corpora import ManifestRow
from lst.data.utterance import TimedWord, Word, time_problems
from lst.errors import ProblemsError, UserError, raise_problems

READERS: dict[str, Callable[[bytes, str], list[TimedWord]]] = {
    "textgrid": read_textgrid,
    "mfa_json": read_mfa_json,
    "whisper_json": read_whisper_json,
}
SUFFIXES = {"textgrid": (".textgrid",), "mfa_json": (".json",), "whisper_json": (".json",), "ctm": (".ctm",)}


class ImportAligner:
    """Takes words from files of another aligner.

    Times count from the beginning of the utterance's own audio.

    Args:
        source: a CTM file of all utterances, or a folder in which an utterance's file, at whatever depth, has its id as
            name; a folder may also hold CTM files.
        file_format: textgrid, ctm, mfa_json, whisper_json; ``auto`` goes by the file's suffix and, for JSON, content.

    Raises:
        UserError: nothing is there, an utterance has two files, or a CTM file is faulty (``ProblemsError``).
    """

    def __init__(self, source: str, file_format: str = "auto") -> None:
        self.source, self.file_format = Path(source).expanduser(), file_format
        self.name = f"import-{file_format}"
        self._files: dict[str, Path] = {}
        self._ctm: dict[str, list[TimedWord]] = {}
        if not self.source.exists():
            raise UserError(f"data.align.source={source}: there is no such file or folder")
        suffixes = {suffix for key, group in SUFFIXES.items() if file_format in ("auto", key) for suffix in group}
        paths = [self.source] if self.source.is_file() else sorted(self.source.rglob("*"))
        problems: list[str] = []
        for path in paths:
            if not path.is_file() or path.suffix.lower() not in suffixes:
                continue
            if path.suffix.lower() == ".ctm":
                problems += self._add_ctm(path)
            elif path.stem in self._files:
                problems.append(f"{path.stem}: both {self._files[path.stem]} and {path}")
            else:
                self._files[path.stem] = path
        problems += [f"{key}: both {self._files[key]} and a CTM file" for key in self._ctm if key in self._files]
        raise_problems(f"alignments in {source}", problems, "Leave one alignment an utterance.")
        if not self._files and not self._ctm:
            raise UserError(f"data.align.source={source}: there is no file of {', '.join(sorted(suffixes))}")

    def _add_ctm(self, path: Path) -> list[str]:
        try:
            found = read_ctm(path.read_bytes(), path.name)
        except ProblemsError as error:
            return [f"{path.name}, {problem}" for problem in error.problems]
        twice = [key for key in found if key in self._ctm]
        self._ctm |= found
        return [f"{key}: in {path.name} and in another CTM file" for key in twice]

    def timed_words(self, utterance_id: str, text: str, duration_s: float) -> tuple[list[TimedWord], list[str]]:
        """The transcript's words with times, and all that is wrong with them, a line each."""
        try:
            timed = self._words_of(utterance_id)
        except ProblemsError as error:
            return [], [f"{utterance_id}: {problem}" for problem in error.problems]
        except UserError as error:
            return [], [str(error)]
        return _matched(utterance_id, text, timed, duration_s)

    def problems(self, items: Iterable[tuple[str, str, float]]) -> list[str]:
        """Checks utterances (id, transcript, duration in seconds) before any work; a line for each problem."""
        return [problem for item in items for problem in self.timed_words(*item)[1]]

    def align(
        self, waveform: np.ndarray, text: str, num_frames: int, frame_rate_hz: int, utterance_id: str = ""
    ) -> tuple[Word, ...]:
        """Words of ``text`` as the file of ``utterance_id`` has them; see ``Aligner.align``."""
        timed, problems = self.timed_words(utterance_id, text, len(waveform) / ALIGNER_SAMPLE_RATE_HZ)
        if problems:
            raise AlignmentError("; ".join(problems))
        return place_words(timed, num_frames, frame_rate_hz)

    def _words_of(self, utterance_id: str) -> list[TimedWord]:
        # An id may be a path (speaker/utterance); its file then has the last part as its name.
        for key in (utterance_id, utterance_id.rpartition("/")[2]):
            if key in self._ctm:
                return self._ctm[key]
            if key in self._files:
                return self._read(self._files[key])
        raise UserError(f"{utterance_id}: there is no alignment of it in {self.source}")

    def _read(self, path: Path) -> list[TimedWord]:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error}") from None
        file_format = self.file_format
        if file_format == "auto":
            file_format = "textgrid" if path.suffix.lower() == ".textgrid" else _json_format(content)
        return READERS[file_format](content, path.name)


def _json_format(content: bytes) -> str:
    """MFA's files have tiers, whisper's segments; what has neither is left to the reader's own message."""
    try:
        record = json.loads(decode_text(content))
    except (ValueError, RecursionError):
        return "whisper_json"
    return "mfa_json" if isinstance(record, dict) and "tiers" in record else "whisper_json"


class ManifestAligner:
    """Takes words from the corpus' own times, which come with each utterance."""

    name, batch = "manifest", 1

    def align(
        self, waveform: np.ndarray, text: str, num_frames: int, frame_rate_hz: int, utterance_id: str = ""
    ) -> tuple[Word, ...]:
        """Always an ``AlignmentError``: times come with an ``AlignItem`` alone."""
        (found,) = self.align_many([AlignItem(waveform, text, num_frames, utterance_id)], frame_rate_hz)
        assert isinstance(found, AlignmentError)
        raise found

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[tuple[Word, ...] | AlignmentError]:
        """Words of the items' texts at the items' times; see ``BatchAligner.align_many``."""
        made: list[tuple[Word, ...] | AlignmentError] = []
        for item in items:
            duration_s = len(item.waveform) / ALIGNER_SAMPLE_RATE_HZ
            timed, problems = words_of_corpus(item.utterance_id, item.text, item.words, duration_s)
            try:
                made.append(
                    AlignmentError("; ".join(problems))
                    if problems
                    else place_words(timed, item.num_frames, frame_rate_hz)
                )
            except AlignmentError as error:
                made.append(error)
        return made


def words_of_corpus(
    utterance_id: str, text: str, words: Sequence[TimedWord], duration_s: float
) -> tuple[list[TimedWord], list[str]]:
    """The transcript's words with the times that the corpus gives, and all that is wrong with them, a line each."""
    if not words:
        return [], [f"{utterance_id}: the corpus gives no times of words for it"]
    return _matched(utterance_id, text, list(words), duration_s)


def _matched(
    utterance_id: str, text: str, timed: list[TimedWord], duration_s: float
) -> tuple[list[TimedWord], list[str]]:
    """The transcript's words with the times that were found, and all that disagrees, a line each."""
    matched, problems = match_words(text, timed)
    problems += time_problems(matched if not problems else timed, duration_s)
    return matched, [f"{utterance_id}: {problem}" for problem in problems]


def imported_faults(config: AlignConfig, rows: Sequence[ManifestRow]) -> list[list[str]] | None:
    """What is wrong with the alignment of each row, lines each; None where alignments are made, not taken over.

    Raises:
        UserError: there is nothing to take over, or scores are asked for that nobody gave.
    """
    if config.method == "import":
        importer = ImportAligner(config.source, config.format)
        found = [importer.timed_words(row.id, row.text, row.duration_s or float("inf")) for row in rows]
    elif config.method == "manifest":
        if not any(row.words for row in rows):
            raise UserError(
                "data.align.method=manifest takes the times of words that the corpus gives, and no utterance has any: "
                "add words to the manifest, or choose another data.align.method (pocketsphinx finds the times itself)"
            )
        found = [words_of_corpus(row.id, row.text, row.words, row.duration_s or float("inf")) for row in rows]
    else:
        return None
    if config.min_score is not None and not any(word.score for words, _ in found for word in words):
        raise UserError(
            f"data.align.min_score={config.min_score}: no word of the alignments that are taken over has a score: "
            "leave the option out"
        )
    return [problems for _, problems in found]


def check_imported(config: DataConfig, rows: Sequence[ManifestRow]) -> None:
    """Before any work: raises ``ProblemsError`` where more alignments are faulty than may be left out.

    Does nothing where alignments are made, not taken over.
    """
    found = imported_faults(config.align, rows)
    num_faulty = sum(map(bool, found or []))
    if found is None or num_faulty <= min(config.max_unaligned_share * len(rows), len(rows) - 1):
        return
    enough = min(1.0, num_faulty / len(rows) + 0.005)
    leave_out = f", or leave such utterances out with data.max_unaligned_share={enough:.2f}"
    raise_problems(
        f"alignments in {config.align.source or 'the manifest'}: {num_faulty} of {len(rows)} utterances",
        [problem for problems in found for problem in problems],
        f"Mend them{leave_out if num_faulty < len(rows) else ': nothing would be left'}.",
    )
