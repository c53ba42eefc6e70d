"""Loads a corpus: finds the layout of a folder or file, and reads its utterances.

    manifest         the project's own (see ``lst.data.corpora.manifest``): a file, or a folder with one
    librispeech      train-clean-100/103/1240/103-1240.trans.txt, 103-1240-0000.flac, …
    ljspeech         metadata.csv, wavs/
    vctk             txt/, wav48_silence_trimmed/ or wav48/
    common_voice     train.tsv, dev.tsv, test.tsv or validated.tsv, clips/
    mls              train|dev|test/transcripts.txt, audio/
    peoples_speech   JSON lines with training_data
    lhotse           cuts.jsonl, cuts.jsonl.gz; recordings and supervisions; shar
    nemo             JSON lines with audio_filepath; tarred sets too
    webdataset       tars of audio and text
    audiofolder      metadata.jsonl or metadata.csv with file_name, in any folder
    parquet          tables with the bytes of audio
    kaldi            wav.scp, text, segments, utt2spk
    gigaspeech       one JSON object with audios and their segments; WenetSpeech too
    text_beside      u01.wav and u01.lab or u01.txt
    audio            audio alone, where transcripts are not needed

In a folder, audio without a transcript and a transcript without audio are both problems.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lst import storage
from lst.data.config import AUTO_LAYOUT, LAYOUT_NAMES
from lst.data.corpora.layouts import LAYOUTS
from lst.data.corpora.layouts.listing import Found, Listing
from lst.data.corpora.layouts.plain_manifest import has_named_manifest
from lst.data.corpora.manifest import EXAMPLES
from lst.data.corpora.provenance import NULLS
from lst.data.corpora.remote import mirrored
from lst.data.corpora.row_languages import disagreement, in_words, named_language
from lst.data.corpora.row_table import RowTable, made_id
from lst.data.corpora.rows import ManifestProblem, ManifestRow
from lst.data.corpora.unique_ids import settled_ids
from lst.data.languages import ENGLISH
from lst.errors import UserError
from lst.storage import FileList, Location


def load_corpus(
    place: Location,
    layout: str = AUTO_LAYOUT,
    files: FileList | None = None,
    language: str | None = None,
    needs_text: bool = True,
    num_workers: int = 1,
) -> tuple[RowTable, list[ManifestProblem], str]:
    """Reads a corpus: a manifest file, or a folder in one of the layouts above.

    With ``auto``, a folder that has ``manifest.{jsonl,tsv,csv}`` is read as a manifest; any other gets the first
    layout in ``LAYOUTS`` that matches. Hidden files (``.name``) are ignored. The headers of audio files are not read:
    see ``check_rows``.

    Args:
        place: the folder or file, or its URL.
        layout: a name of ``LAYOUTS``, or ``auto``.
        files: the corpus's files, if they have been listed already.
        language: code of the transcripts' language; None takes the rows' own, else that of their folder's name, else
            English.
        needs_text: whether audio without a transcript is a problem; else it is a row without text.
        num_workers: processes that read a manifest's lines; rows do not depend on it.

    Returns:
        The rows, in a table that holds a corpus of any size; the problems of the utterances that gave none; and the
        layout's name. ``apply_on_error`` takes ``len(rows) + num_bad_rows(problems)`` as the number of utterances.

    Raises:
        UserError: the path is absent, its layout is unknown or ambiguous, or it has no utterance.
    """
    if layout not in LAYOUT_NAMES:
        raise UserError(f"layout={layout}: allowed are {', '.join(LAYOUT_NAMES)}")
    path = storage.locate(place)
    if not isinstance(path, Path):
        with mirrored(path, files) as mirror:
            rows, problems, layout = load_corpus(mirror.path, layout, None, language, needs_text, num_workers)
            # The copy lies elsewhere: names of folders tell now.
            remote = RowTable(_in_language(mirror.remote_row(row), language) for row in rows)
            return remote, [mirror.remote_problem(one) for one in problems], layout
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"corpus {path} does not exist. Name a folder of audio and transcripts, or a manifest file.")
    listing = Listing(path, files, needs_text, num_workers)
    if layout == AUTO_LAYOUT:
        layout = find_layout(listing)
    found = LAYOUTS[layout].load(listing)
    if not found.rows and not found.problems:
        raise UserError(f"corpus {path} ({layout} layout) holds no utterance: its transcripts are empty.")
    if not needs_text:
        found.keep_without_text(listing)
    rows, disagreeing = _settled(found, listing.root.absolute(), language, needs_text)
    return rows, [*found.problems, *disagreeing], layout


def _settled(
    found: Found, root: Path, language: str | None, needs_text: bool
) -> tuple[RowTable, list[ManifestProblem]]:
    """The rows that were found, with their ids, languages and words apart; a problem for each of another language.

    The rows of ``found.problems`` get ids and words apart in their places.
    """
    in_part = [number for number, problem in enumerate(found.problems) if problem.row is not None]
    partial = [row for problem in found.problems if (row := problem.row) is not None]
    ids = settled_ids(found.rows, partial, root)
    for place, (number, row) in zip(in_part, enumerate(partial, len(found.rows)), strict=True):
        own = replace(row, id=ids.get(number) or made_id(row))
        found.problems[place] = replace(found.problems[place], row=in_words(own))
    facts = found.rows.facts
    of_folders = {named for named, _ in facts.named} if language is None else set[str]()
    is_plain = facts.languages <= {""} and language in (None, ENGLISH) and of_folders <= {ENGLISH}
    if is_plain and needs_text and facts.has_made_ids and not ids:
        return found.rows, []
    rows, disagreeing = RowTable(), list[ManifestProblem]()
    for number, row in enumerate(found.rows):
        row = replace(row, id=ids.get(number) or made_id(row))
        if not needs_text and row.text.strip() in ("", *NULLS):
            row = replace(row, text="")
        if problem := disagreement(row, language):
            disagreeing.append(problem)
        else:
            rows.append(_in_language(row, language))
    return rows, disagreeing


def _in_language(row: ManifestRow, language: str | None) -> ManifestRow:
    """A row with its language, and its words apart."""
    code = row.language or language or named_language(row)
    return in_words(row if row.language == code else replace(row, language=code))


def find_layout(listing: Listing) -> str:
    """The name of a listing's layout; if none matches, ``UserError`` says what was looked for and found."""
    if has_named_manifest(listing):
        return "manifest"
    if layout := next((layout for layout in LAYOUTS.values() if layout.matches(listing)), None):
        return layout.name
    files = listing.files
    shown = [str(file.relative_to(listing.root)) for file in files[:5]]
    found = ", ".join(shown) + (f" … ({len(files):,} files)" if len(files) > len(shown) else "")
    looked_for = "; ".join(layout.looked_for for layout in reversed(list(LAYOUTS.values())))
    raise UserError(
        f"corpus {listing.root} has no known layout.",
        f"Looked for: {looked_for}.",
        f"Found: {found or 'no file at all'}",
        "Write a manifest.tsv, tab separated with a header, paths from its own folder. For example:",
        *EXAMPLES[".tsv"].split("\n"),
    )
