"""Corpora as they are found on disk: which layout a folder has, its utterances, and what is held out of training.

    a manifest file, or a folder with one         id, path, text, … a row (see ``lst.data.manifest``)
    LibriSpeech   train-clean-100/103/1240/       103-1240.trans.txt ("ID TEXT" a line), 103-1240-0000.flac, …
    LJSpeech      metadata.csv, wavs/             "ID|text|normalized text" a line, no quoting; wavs/ID.wav

In a folder, audio without a transcript and a transcript without audio are both problems.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lst.data.audio import AUDIO_SUFFIXES
from lst.data.manifest import (
    EXAMPLES,
    MANIFEST_SUFFIXES,
    ManifestProblem,
    ManifestRow,
    parse_manifest,
    read_utf8,
    split_of,
)
from lst.errors import UserError

MANIFEST, LIBRISPEECH, LJSPEECH = "manifest", "librispeech", "ljspeech"
TRANSCRIPT_SUFFIX = ".trans.txt"
LJSPEECH_TABLE, LJSPEECH_AUDIO, LJSPEECH_SPEAKER = "metadata.csv", "wavs", "lj"
MIN_SPEAKERS_TO_HOLD_OUT = 5
# A corpus's own folder gives the split only when LibriSpeech named it: "test-recordings" is a name like any other.
_LIBRISPEECH_PART = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")

Found = tuple[list[ManifestRow], list[ManifestProblem]]


def load_corpus(path: Path) -> tuple[list[ManifestRow], list[ManifestProblem], str]:
    """Reads a corpus: a manifest file, or a folder in one of the layouts above.

    A folder is taken for the first of: ``manifest.{jsonl,tsv,csv}``, LibriSpeech, LJSpeech, any one table at its top.
    Hidden files (``.name``) belong to no corpus. Headers of audio files are not read: see ``check_rows``.

    Returns:
        The rows, the problems of those utterances that gave none, and ``"manifest"``, ``"librispeech"`` or
        ``"ljspeech"``. For ``apply_on_error``, utterances are ``len(rows) + num_bad_rows(problems)``.

    Raises:
        UserError: the path is absent, its layout is unknown or ambiguous, or it holds no utterance.
    """
    path = path.expanduser()
    if path.is_dir():
        rows, problems, layout = _load_folder(path)
    elif not path.exists():
        raise UserError(f"corpus {path} does not exist. Name a folder of audio and transcripts, or a manifest file.")
    elif _is_ljspeech(path):
        rows, problems, layout = *_load_ljspeech(path), LJSPEECH
    else:
        rows, problems, layout = *parse_manifest(path), MANIFEST
    if not rows and not problems:
        raise UserError(f"corpus {path} ({layout} layout) holds no utterance: its transcripts are empty.")
    return rows, problems, layout


def _load_folder(folder: Path) -> tuple[list[ManifestRow], list[ManifestProblem], str]:
    """Decides a folder's layout and reads it."""
    files = list(_walk_files(folder))
    tables = [file for file in files if file.parent == folder and file.suffix.lower() in MANIFEST_SUFFIXES]
    ljspeech_tables = [table for table in tables if _is_ljspeech(table)]
    tables = [table for table in tables if table not in ljspeech_tables]
    manifest = _only([table for table in tables if table.stem.lower() == "manifest"], folder)
    if manifest is None:
        transcripts = [file for file in files if file.name.endswith(TRANSCRIPT_SUFFIX)]
        if transcripts:
            return *_load_librispeech(folder, transcripts, files), LIBRISPEECH
        if ljspeech_tables:
            return *_load_ljspeech(ljspeech_tables[0]), LJSPEECH
        manifest = _only(tables, folder)
    if manifest is None:
        raise _unknown_layout(folder, files)
    rows, problems = parse_manifest(manifest)
    used = [row.path for row in rows] + [problem.path for problem in problems if problem.path is not None]
    remedy = f"{manifest.name} has no row for it; to use that file's rows alone, name {manifest} as the corpus"
    return rows, problems + _audio_without_transcript(folder, files, used, remedy), MANIFEST


def _only(tables: list[Path], folder: Path) -> Path | None:
    """The only table; None when there is none, ``UserError`` when there are several."""
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise UserError(f"corpus {folder} holds several tables: {names}. Name one of them as the corpus: {tables[0]}")
    return tables[0] if tables else None


def _unknown_layout(folder: Path, files: Sequence[Path]) -> UserError:
    shown = [str(file.relative_to(folder)) for file in files[:5]]
    found = ", ".join(shown) + (f" … ({len(files):,} files)" if len(files) > len(shown) else "")
    return UserError(
        f"corpus {folder} has no layout that is known here.\n"
        f"Looked for: a table at its top (*{', *'.join(MANIFEST_SUFFIXES)}); LibriSpeech (*{TRANSCRIPT_SUFFIX} in any "
        f"folder, audio beside); LJSpeech ({LJSPEECH_TABLE} with id|text|normalized text, audio in "
        f"{LJSPEECH_AUDIO}/).\nFound: {found or 'no file at all'}\n"
        f"Write a manifest.tsv, tab separated with a header, paths from its own folder. For example:\n"
        f"{EXAMPLES['.tsv']}"
    )


def _walk_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder in a fixed order, through links to folders too, but each folder once."""
    seen: set[str] = set()
    for current, subfolders, names in os.walk(folder, followlinks=True, onerror=_raise_unreadable):
        real = os.path.realpath(current)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(current, name)
            try:
                str(file).encode()
            except UnicodeEncodeError:
                raise UserError(f"corpus {folder}: the file name {str(file)!a} is not UTF-8. Rename it.") from None
            yield file


def _raise_unreadable(error: OSError) -> None:
    raise UserError(f"folder {error.filename} cannot be read: {error.strerror}.") from None


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers."""
    lines = enumerate(read_utf8(path).split("\n"), 1)
    return [(number, content.removesuffix("\r")) for number, content in lines if content.strip()]


def _audio_by_stem(files: Iterable[Path]) -> dict[Path, Path]:
    """Audio files by their path without suffix; of ``a.flac`` and ``a.wav`` the one first in AUDIO_SUFFIXES counts."""
    audio = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
    audio.sort(key=lambda file: AUDIO_SUFFIXES.index(file.suffix.lower()), reverse=True)
    return {file.with_suffix(""): file for file in audio}


def _audio_without_transcript(
    folder: Path, files: Sequence[Path], used_files: Iterable[Path], remedy: str
) -> list[ManifestProblem]:
    """A problem for each audio file that is not among ``used_files``, however either path is written."""
    used = [os.path.abspath(file) for file in used_files]
    stems = {os.path.splitext(name)[0] for name in used}
    left = [file for stem, file in _audio_by_stem(files).items() if os.path.abspath(stem) not in stems]
    if left:
        real_names = {os.path.realpath(name) for name in used}
        left = sorted(file for file in left if os.path.realpath(file) not in real_names)
    return [
        ManifestProblem(str(file.relative_to(folder)), file.stem, f"audio without transcript: {remedy}", file)
        for file in left
    ]


def _transcript_without_audio(place: str, utterance_id: str, stem: str) -> ManifestProblem:
    message = f"transcript without audio: no {stem} with one of {' '.join(AUDIO_SUFFIXES)}"
    return ManifestProblem(place, utterance_id, message)


def _load_librispeech(folder: Path, transcripts: Sequence[Path], files: Sequence[Path]) -> Found:
    """LibriSpeech: the id's first field is the speaker, the first folder named train…, dev… or test… the split."""
    audio = _audio_by_stem(files)
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    for transcript in transcripts:
        own_name = folder.resolve().name
        parts = [own_name] if _LIBRISPEECH_PART.fullmatch(own_name) else []
        parts += transcript.relative_to(folder).parts[:-1]
        split = next(filter(None, map(split_of, parts)), "")
        for line, content in _lines(transcript):
            utterance_id, _, text = content.strip().partition(" ")
            place = f"{transcript.relative_to(folder)} line {line}"
            path = audio.get(transcript.parent / utterance_id)
            if path is None:
                problems.append(_transcript_without_audio(place, utterance_id, utterance_id))
            else:
                speaker = utterance_id.split("-")[0]
                rows.append(ManifestRow(utterance_id, path, text.strip(), speaker, split, place=place))
    remedy = f"no *{TRANSCRIPT_SUFFIX} beside it names it"
    return rows, problems + _audio_without_transcript(folder, files, [row.path for row in rows], remedy)


def _is_ljspeech(table: Path) -> bool:
    """Whether a file is LJSpeech's metadata.csv, which is no CSV: its first line is cut by pipes."""
    if table.name.lower() != LJSPEECH_TABLE:
        return False
    return "|" in next((content for _, content in _lines(table)), "")


def _load_ljspeech(table: Path) -> Found:
    """LJSpeech: one speaker, no splits; the normalized text counts where there is one."""
    audio_folder = table.parent / LJSPEECH_AUDIO
    if not audio_folder.is_dir():
        raise UserError(f"corpus {table.parent}: {table.name} is LJSpeech's, but there is no folder {audio_folder}.")
    files = list(_walk_files(audio_folder))
    audio = _audio_by_stem(files)
    rows: list[ManifestRow] = []
    problems: list[ManifestProblem] = []
    for line, content in _lines(table):
        cells = [cell.strip() for cell in content.split("|")]
        place = f"{table.name} line {line}"
        if not 2 <= len(cells) <= 3:
            message = f"has {len(cells)} cells between pipes; allowed are id|text and id|text|normalized text"
            problems.append(ManifestProblem(place, cells[0], message, audio.get(audio_folder / cells[0])))
            continue
        path = audio.get(audio_folder / cells[0])
        if path is None:
            problems.append(_transcript_without_audio(place, cells[0], f"{LJSPEECH_AUDIO}/{cells[0]}"))
        else:
            rows.append(ManifestRow(cells[0], path, cells[-1] or cells[1], LJSPEECH_SPEAKER, place=place))
    used = [row.path for row in rows] + [problem.path for problem in problems if problem.path is not None]
    remedy = f"{table.name} has no line for it"
    return rows, problems + _audio_without_transcript(table.parent, files, used, remedy)


def assign_splits(rows: Sequence[ManifestRow], valid_share: float, seed: int) -> list[ManifestRow]:
    """Gives every row a split, ``"train"`` or ``"valid"``, the same whatever the rows' order.

    A corpus with a ``"valid"`` row keeps its splits, and rows without one become ``"train"``. In any other, about
    ``valid_share`` of the utterances are held out by a seeded hash: among the rows without a split, or among all where
    the corpus calls every row ``"train"``. With five or more speakers that no training row shares, whole speakers are
    held out, as many as ``valid_share`` has room for, and the one with fewest utterances where it has room for none.
    Else single utterances are, at least one.

    Args:
        rows: the rows, of unique ids.
        valid_share: share of utterances to hold out, from 0 (none at all) to below 1.
        seed: another seed, another choice.

    Returns:
        The rows in their order.

    Raises:
        UserError: ``valid_share`` is out of its range, or a single utterance is all there is.
    """
    if not 0 <= valid_share < 1:
        raise UserError(f"valid_share={valid_share} must be from 0 to below 1.")
    if rows and all(row.split == "valid" for row in rows):
        # A development set alone (LibriSpeech's dev-clean, say): something must train.
        rows = [replace(row, split="") for row in rows]
    candidates = [row for row in rows if not row.split] or list(rows)
    held_out: set[str] = set()
    if valid_share > 0 and rows and not any(row.split == "valid" for row in rows):
        if len(rows) < 2:
            raise UserError("the corpus has one usable utterance: nothing can be held out. Add more, or valid_share=0.")
        held_out = _held_out_ids(rows, candidates, valid_share, seed)
    return [replace(row, split="valid" if row.id in held_out else row.split or "train") for row in rows]


def _held_out_ids(
    rows: Sequence[ManifestRow], candidates: Sequence[ManifestRow], valid_share: float, seed: int
) -> set[str]:
    """Ids of the candidates to hold out: of whole speakers where five are free to choose from, else single ones."""

    def draw(kind: str, name: str) -> str:
        return hashlib.sha256(f"{seed}:{kind}:{name}".encode()).hexdigest()

    num_wanted = valid_share * len(rows)
    candidate_ids = {row.id for row in candidates}
    train_speakers = {row.speaker for row in rows if row.id not in candidate_ids}
    num_by_speaker = Counter(row.speaker for row in candidates if row.speaker not in train_speakers)
    if len(num_by_speaker) < MIN_SPEAKERS_TO_HOLD_OUT:
        ids = sorted(candidate_ids, key=lambda utterance_id: draw("id", utterance_id))
        return set(ids[: max(1, min(round(num_wanted), len(rows) - 1))])
    held_out: set[str] = set()
    num_held_out = 0
    speakers = sorted(num_by_speaker, key=lambda speaker: draw("speaker", speaker))
    for speaker in speakers:
        if num_held_out + num_by_speaker[speaker] <= num_wanted:
            held_out.add(speaker)
            num_held_out += num_by_speaker[speaker]
    held_out = held_out or {min(speakers, key=lambda speaker: num_by_speaker[speaker])}
    return {row.id for row in candidates if row.speaker in held_out}
