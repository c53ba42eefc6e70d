"""Word times that other tools or the corpus give, checked against transcript and audio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lst import storage
from lst.data.alignment.aligner import AlignItem, AlignmentError, AlignResult, ScoreScale, align_each
from lst.data.alignment.formats.aligner_json import read_aligner_json, read_mfa_json, read_whisper_json
from lst.data.alignment.formats.ctm import read_ctm
from lst.data.alignment.formats.mfa_csv import read_mfa_csv
from lst.data.alignment.formats.textgrid import read_textgrid
from lst.data.alignment.names import NamedAlignments, audio_name
from lst.data.alignment.words import divided, match_words, place_words
from lst.data.config import AlignConfig, DataConfig
from lst.data.corpora import ManifestRow
from lst.data.corpora.ids import without_times
from lst.data.utterance import TimedWord, Word, time_problems
from lst.errors import ProblemsError, UserError, raise_problems
from lst.storage import fingerprint

READERS: dict[str, Callable[[bytes, str, str], list[TimedWord]]] = {
    "textgrid": read_textgrid,
    "mfa_json": read_mfa_json,
    "whisper_json": read_whisper_json,
    "json": read_aligner_json,
    "mfa_csv": read_mfa_csv,
}
SUFFIXES = {
    "textgrid": (".textgrid",),
    "mfa_json": (".json",),
    "mfa_csv": (".csv",),
    "whisper_json": (".json",),
    "ctm": (".ctm",),
}


class GivenTimesAligner(ABC):
    """Base of aligners that take given word times; a subclass looks them up in ``words_of``."""

    batch = 1
    scale: ScoreScale | None = None

    @abstractmethod
    def words_of(self, utterance_id: str, words: Sequence[TimedWord], audio_name: str) -> Sequence[TimedWord]:
        """The given times of an utterance; ``words`` are those of the corpus. Raises ``UserError`` without any."""

    def align_many(self, items: Sequence[AlignItem], frame_rate_hz: int) -> list[AlignResult]:
        """See ``Aligner.align_many``."""
        return align_each(partial(self._align, frame_rate_hz=frame_rate_hz), items)

    def _align(self, item: AlignItem, frame_rate_hz: int) -> tuple[Word, ...]:
        timed, problems = self.timed_words(
            item.utterance_id, item.text, item.duration_s, item.words, item.audio_name, item.language
        )
        if problems:
            raise AlignmentError("; ".join(problems))
        return place_words(timed, item.num_frames, frame_rate_hz)

    def timed_words(
        self,
        utterance_id: str,
        text: str,
        duration_s: float,
        words: Sequence[TimedWord] = (),
        audio_name: str = "",
        language: str = "",
    ) -> tuple[list[TimedWord], list[str]]:
        """The words of a transcript with their given times, and all problems of these, a line each."""
        try:
            timed = divided(self.words_of(utterance_id, words, audio_name), language)
        except ProblemsError as error:
            return [], [f"{utterance_id}: {problem}" for problem in error.problems]
        except UserError as error:
            return [], [str(error)]
        matched, problems = match_words(text, timed)
        problems += time_problems(timed if problems else matched, duration_s)
        return matched, [f"{utterance_id}: {problem}" for problem in problems]


class ManifestAligner(GivenTimesAligner):
    """Takes the word times that the corpus gives with each utterance."""

    def words_of(self, utterance_id: str, words: Sequence[TimedWord], audio_name: str) -> Sequence[TimedWord]:
        """The words of the corpus."""
        if not words:
            raise UserError(f"{utterance_id}: the corpus gives no times of words for it")
        return words


class ImportAligner(GivenTimesAligner):
    """Takes word times from files of another aligner. Times count from the start of the utterance's own audio.

    Args:
        source: a CTM file of all utterances, or a folder. In a folder, at any depth, an utterance's file is named
            after its id or its audio (see ``NamedAlignments``); CTM files may hold several utterances.
        file_format: textgrid, ctm, mfa_json, mfa_csv, whisper_json; ``auto`` chooses by suffix and, for JSON, by
            content.
        tier: the tier of words, where files have tiers and its name is not usual.

    Raises:
        UserError: nothing is there, two files have the same name, or a CTM file is faulty (``ProblemsError``).
    """

    def __init__(self, source: str, file_format: str = "auto", tier: str = "") -> None:
        self.source, self.file_format, self.tier = Path(source).expanduser(), file_format, tier
        self._found: dict[str, Path | list[TimedWord]] = {}
        if not self.source.exists():
            raise UserError(f"data.align.source={source}: there is no such file or folder")
        suffixes = {suffix for key, group in SUFFIXES.items() if file_format in ("auto", key) for suffix in group}
        paths = [self.source] if self.source.is_file() else sorted(self.source.rglob("*"))
        paths = [path for path in paths if path.is_file() and path.suffix.lower() in suffixes]
        problems = [problem for path in sorted(paths, key=_is_ctm) for problem in self._add(path)]
        raise_problems(f"alignments in {source}", problems, "Leave one alignment an utterance.")
        if not self._found:
            raise UserError(f"data.align.source={source}: there is no file of {', '.join(sorted(suffixes))}")
        self._names = NamedAlignments(self._found)

    def _add(self, path: Path) -> list[str]:
        """Adds the alignments of a file; returns the problems."""
        root = self.source if self.source.is_dir() else path.parent
        try:
            name = path.relative_to(root).with_suffix("").as_posix()
            own = read_ctm(_content(path), path.name) if _is_ctm(path) else {name: path}
        except ProblemsError as error:
            return [f"{path.name}, {problem}" for problem in error.problems]
        # A name in a CTM file has no folder, so that it is that of a file in any folder.
        known = {Path(key).name if _is_ctm(path) else key: found for key, found in self._found.items()}
        before = [(key, known[key]) for key in own if key in known]
        self._found |= own
        return [
            f"{key}: both {found if isinstance(found, Path) else found[0].place} and {path}" for key, found in before
        ]

    def words_of(self, utterance_id: str, words: Sequence[TimedWord], audio_name: str) -> Sequence[TimedWord]:
        """The words of the utterance's file; a piece of a recording that was cut has those of the recording's."""
        if words and without_times(utterance_id) != utterance_id and utterance_id not in self._found:
            return words
        names = self._names.find(utterance_id, audio_name)
        if len(names) == 1:
            found = self._found[names[0]]
            return self._read(found) if isinstance(found, Path) else found
        if names:
            raise UserError(f"{utterance_id}: {len(names)} alignments may be its own: {', '.join(names[:5])}")
        near = self._names.nearest(utterance_id)
        raise UserError(f"{utterance_id}: there is no alignment of it in {self.source}; the nearest name is {near!r}")

    def _read(self, path: Path) -> list[TimedWord]:
        kind = {".textgrid": "textgrid", ".csv": "mfa_csv"}.get(path.suffix.lower(), "json")
        reader = READERS[kind if self.file_format == "auto" else self.file_format]
        return reader(_content(path), path.name, self.tier)


def _content(path: Path) -> bytes:
    try:
        return storage.read_foreign(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _is_ctm(path: Path) -> bool:
    return path.suffix.lower() == ".ctm"


# One list for all rows without a fault.
_NONE: list[str] = []


def imported_faults(config: AlignConfig, rows: Sequence[ManifestRow]) -> list[list[str]] | None:
    """Problems of each row's given word times, a line each; None if ``config`` does not take given times.

    Raises:
        UserError: no times are given, or ``min_score`` is set and no word has a score.
    """
    aligner = given_times_aligner(config)
    if aligner is None:
        return None
    if config.method == "manifest" and not any(row.words for row in rows):
        raise UserError(
            "data.align.method=manifest takes the times of words that the corpus gives, and no utterance has any: "
            "add words to the manifest, or choose another data.align.method (pocketsphinx finds the times itself)"
        )
    # Speech without a transcript needs no times.
    found, has_score = list[list[str]](), False
    for row in rows:
        words, problems = timed_words(aligner, row) if row.text else ([], [])
        has_score = has_score or any(word.score for word in words)
        found.append(problems or _NONE)
    if config.min_score is not None and not has_score:
        raise UserError(
            f"data.align.min_score={config.min_score}: no word of the alignments that are taken over has a score: "
            "leave the option out"
        )
    return found


def given_times_aligner(config: AlignConfig) -> GivenTimesAligner | None:
    """What takes the times that files or the corpus give; None where words are looked for in the audio.

    Raises:
        UserError: as ``ImportAligner``.
    """
    if config.method == "import":
        return ImportAligner(config.source, config.format, config.tier)
    return ManifestAligner() if config.method == "manifest" else None


def timed_words(aligner: GivenTimesAligner, row: ManifestRow) -> tuple[list[TimedWord], list[str]]:
    """The words of a row's transcript with their given times, and all problems of these, a line each."""
    duration_s = row.duration_s or float("inf")
    return aligner.timed_words(row.id, row.text, duration_s, row.words, audio_name(row), row.language)


def given_times(config: AlignConfig) -> Callable[[ManifestRow], str] | None:
    """A function that gives a fingerprint of the word times that another tool's files hold for a row.

    None where no files are taken over; those of the corpus itself are a part of its rows.
    """
    if config.method != "import":
        return None
    aligner = ImportAligner(config.source, config.format, config.tier)

    def times_of(row: ManifestRow) -> str:
        words, problems = timed_words(aligner, row)
        return fingerprint([[word._replace(place="") for word in words], problems])

    return times_of


def check_imported(config: DataConfig, rows: Sequence[ManifestRow]) -> None:
    """Checks given word times before any work; does nothing if ``config`` does not take given times.

    Raises:
        ProblemsError: more alignments are faulty than may be left out; it names all problems.
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
