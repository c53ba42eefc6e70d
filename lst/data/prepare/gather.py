"""The first stage of preparing: the lists of utterances and texts, kept in the folder for later runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from lst import storage
from lst.data.alignment import imported_faults
from lst.data.alignment.stamps import write_stamps_many
from lst.data.audio import audio_exists
from lst.data.config import AUTO_LAYOUT, DataConfig
from lst.data.corpora import (
    ManifestProblem,
    ManifestRow,
    UnitRow,
    apply_on_error,
    assign_splits,
    check_on_the_fly,
    check_rows,
    load_corpus,
    num_bad_rows,
    on_the_fly_files,
    write_manifest,
)
from lst.data.corpora.manifest import split_of
from lst.data.corpora.records import read_utf8
from lst.data.corpora.row_checks import text_faults
from lst.data.prepare.options import Origin, PrepareOptions
from lst.data.prepared import (
    MANIFEST_FILE,
    SOURCE_FILE,
    TEXT_FILE,
    TEXTS_FILE,
    UNIT_ROWS_FILE,
    UNITS_FILE,
    SpokenRow,
    WrittenText,
    list_hashes,
    read_lists,
    read_source,
)
from lst.data.shards import LeftOut, SourceRecord, UnitFacts
from lst.data.synthesis import (
    choose_engine,
    default_cache_dir,
    generate_stories,
    pseudo_speakers,
    split_sentences,
    synthesize_many,
)
from lst.errors import UserError
from lst.progress import say
from lst.storage import FileList, Folder, Location, fingerprint, locate


@dataclass(frozen=True)
class Gathered:
    """The lists that shards are made of.

    Attributes:
        rows: utterances, as recordings or as units.
        texts: written texts.
        record: the content of ``source.json``.
    """

    rows: Sequence[SpokenRow]
    texts: Sequence[WrittenText]
    record: SourceRecord


def gather(folder: Folder, options: PrepareOptions, origin: Origin) -> Gathered:
    """Utterances and texts of the corpus; kept in the folder, so that a later run uses the same lists.

    Args:
        folder: of the prepared data.
        options: what is prepared.
        origin: of these options.
    """
    marker, made_from = folder / SOURCE_FILE, fingerprint(origin.made_from)
    before = read_source(folder) if storage.exists(marker) else None
    if before is not None and (before["made_from"], before["files"]) == (made_from, list_hashes(folder)):
        kept = Gathered(*read_lists(folder), before)
        gone = _gone_files(kept.rows, origin)
        if not gone:
            return kept
        say(f"{len(gone)} audio files are gone (the first is {gone[0]}): the corpus is gathered again")
    files = on_the_fly_files(options.corpus, origin.corpus_files)
    rows, texts, facts = gather_units(files, options) if files else _gather_audio(options, origin)
    _write_lists(folder, rows, texts)
    record: SourceRecord = {
        "version": 1,
        "made_from": made_from,
        "fitted_with": origin.fitted_with,
        "files": list_hashes(folder),
        **facts,
    }
    if before is None or (record["files"], record["fitted_with"]) != (before["files"], before["fitted_with"]):
        # These were fitted with other settings or on other utterances, some of which may now be held out.
        for name in (UNITS_FILE, TEXT_FILE):
            storage.remove(folder / name)
    storage.write_json(marker, record)
    return Gathered(rows, texts, record)


def _gone_files(rows: Sequence[SpokenRow], origin: Origin) -> list[str]:
    """Audio files that are no longer there. Those that were listed just now are not looked for again."""
    listed: set[str] = set()
    if origin.corpus_files is not None:
        listed = {str(origin.corpus_files.place / name) for name, *_ in origin.corpus_files.marks or ()}
    refs = {
        row.audio_ref
        for row in rows
        if isinstance(row, ManifestRow) and isinstance(row.path, Path) and str(row.path) not in listed
    }
    return sorted(ref for ref in refs if not audio_exists(ref))


def _write_lists(folder: Folder, rows: Sequence[SpokenRow], texts: Sequence[WrittenText]) -> None:
    audio = [row for row in rows if isinstance(row, ManifestRow)]
    units = [row for row in rows if isinstance(row, UnitRow)]
    # There is one of the two; a list of an earlier corpus is removed.
    storage.remove(folder / (MANIFEST_FILE if units else UNIT_ROWS_FILE))
    if units:
        storage.write_jsonl(folder / UNIT_ROWS_FILE, [row.to_json() for row in units])
    else:
        storage.save_with(folder / MANIFEST_FILE, lambda path: write_manifest(path, audio))
    storage.write_jsonl(folder / TEXTS_FILE, [asdict(text) for text in texts])


def _gather_audio(
    options: PrepareOptions, origin: Origin
) -> tuple[Sequence[SpokenRow], Sequence[WrittenText], UnitFacts]:
    source = gather_source(
        options.corpus,
        options.text,
        options.data,
        options.seed,
        options.on_error,
        options.max_skipped_share,
        options.num_workers,
        options.layout,
        origin.corpus_files,
    )
    facts: UnitFacts = {
        "description": source.description,
        "is_synthesised": source.is_synthesised,
        "left_out": _left_out(source.problems),
    }
    return source.rows, source.texts, facts


def _left_out(problems: Sequence[ManifestProblem]) -> list[LeftOut]:
    return [{"id": problem.id or problem.place, "reason": str(problem)} for problem in problems]


def gather_units(
    files: Sequence[Location], options: PrepareOptions
) -> tuple[Sequence[SpokenRow], Sequence[WrittenText], UnitFacts]:
    """Utterances of ``.on_the_fly`` files. A file name that starts with ``train`` or ``dev`` sets the split."""
    data = options.data
    rows, problems, num_lines = check_on_the_fly(
        files, options.tokenizer.frame_rate_hz, data.min_duration_s, data.max_duration_s, data.on_the_fly_units
    )
    num_rows = num_lines if not problems else len(rows) + num_bad_rows(problems)
    apply_on_error(problems, num_rows, options.on_error, options.max_skipped_share, f"corpus {options.corpus}")
    _check_two(rows, options.corpus)
    stems = {str(file): locate(file).name.partition(".")[0] for file in files}
    named = [ManifestRow(row.id, Path(row.place), row.text, split=split_of(stems[row.place]) or "") for row in rows]
    splits = [row.split for row in assign_splits(named, data.valid_share, options.seed)]
    rows = [replace(row, split=split) for row, split in zip(rows, splits, strict=True)]
    texts, found = texts_beside(options.text, [row.text for row in rows if row.split == "valid"])
    facts: UnitFacts = {
        "description": f"speech units in {Path(str(options.corpus)).name} ({len(files)} .on_the_fly files)",
        "is_synthesised": False,
        "left_out": _left_out([*problems, *found]),
        "num_units": data.on_the_fly_units or 1 + max(row.max_unit for row in rows),
    }
    return rows, texts, facts


def _check_two(rows: Sequence[SpokenRow], corpus: Location | None) -> None:
    if len(rows) < 2:
        raise UserError(
            f"corpus {corpus} has {len(rows)} usable utterance{'s' * (len(rows) != 1)}: at least two are needed, one "
            "is held out"
        )


# Longer texts would exceed the longest utterance that is allowed by default.
MAX_SPOKEN_WORDS = 100


@dataclass(frozen=True)
class Source:
    """The content of a corpus.

    Attributes:
        rows: utterances with audio, split and duration.
        texts: written texts for training.
        problems: one for each utterance or text that is left out.
        description: one line for people.
        is_synthesised: whether the speech is a synthesiser's.
    """

    rows: list[ManifestRow]
    texts: list[WrittenText]
    problems: list[ManifestProblem]
    description: str
    is_synthesised: bool


def gather_source(
    corpus: str | None,
    text: str | None,
    config: DataConfig,
    seed: int,
    on_error: str,
    max_skipped_share: float,
    num_workers: int,
    layout: str = AUTO_LAYOUT,
    files: FileList | None = None,
) -> Source:
    """Finds or makes the utterances; every problem of a corpus is reported before work starts.

    Args:
        corpus: recordings (a folder or a manifest, or its URL), or None for synthesised speech.
        text: a text file, one document a line: read aloud without a corpus, written texts with one.
        config: options of the data.
        seed: of stories, pseudo-speakers and splits.
        on_error: ``raise`` or ``skip``.
        max_skipped_share: with ``skip``, the largest share of utterances that may be left out.
        num_workers: processes that synthesise.
        layout: of the recordings; see ``load_corpus``.
        files: the corpus's files, if they have been listed already.

    Raises:
        UserError: nothing usable was found; ``ProblemsError`` lists all problems.
    """
    if corpus is not None:
        found = load_corpus(locate(corpus), layout, files)
        return _recordings(locate(corpus), found, text, config, seed, on_error, max_skipped_share)
    if text is not None:
        return _read_aloud(Path(text), config, seed, on_error, max_skipped_share, num_workers)
    stories = generate_stories(config.num_spoken_stories + config.num_text_stories, seed)
    spoken = stories[: config.num_spoken_stories]
    rows, voice = _speak(
        [(story.id, story.text, _num_words(story.sentences[:-1])) for story in spoken], config, seed, num_workers
    )
    return Source(
        rows=rows,
        texts=[WrittenText(story.id, story.text) for story in stories[config.num_spoken_stories :]],
        problems=[],
        description=f"embedded stories, synthesised speech ({voice})",
        is_synthesised=True,
    )


def _recordings(
    path: Folder,
    found: tuple[list[ManifestRow], list[ManifestProblem], str],
    text: str | None,
    config: DataConfig,
    seed: int,
    on_error: str,
    max_skipped_share: float,
) -> Source:
    rows, problems, layout = found
    num_rows = len(rows) + num_bad_rows(problems)
    good, faults = check_rows(rows, config.min_duration_s, config.max_duration_s, problems)
    problems = [*problems, *faults]
    if problems and on_error == "raise":
        # Faults of alignments are reported together with those of rows, before work starts.
        problems += [
            ManifestProblem(row.place, row.id, fault, row.path, "alignment")
            for row, own in zip(good, imported_faults(config.align, good) or [], strict=False)
            for fault in own
        ]
    apply_on_error(problems, num_rows, on_error, max_skipped_share, f"corpus {path}")
    _check_two(good, path)
    rows = assign_splits(good, config.valid_share, seed)
    texts, held_out = texts_beside(text, [row.text for row in rows if row.split == "valid"])
    return Source(rows, texts, [*problems, *held_out], f"recordings in {path.name} ({layout})", is_synthesised=False)


def texts_beside(text: str | None, held_out_texts: Iterable[str]) -> tuple[list[WrittenText], list[ManifestProblem]]:
    """Written texts of a file, one a line. Transcripts of held-out utterances are left out and reported.

    Args:
        text: the file; None gives no texts.
        held_out_texts: the transcripts.
    """
    if text is None:
        return [], []
    held_out = set(map(_plain, held_out_texts))
    lines = _text_lines(Path(text))
    texts = [WrittenText(f"text-{n:06d}", line) for n, line in enumerate(lines) if _plain(line) not in held_out]
    left_out = len(lines) - len(texts)
    note = f"{left_out} lines are transcripts of held-out utterances"
    return texts, [ManifestProblem(text, "", note)] if left_out else []


class LinesToRead(NamedTuple):
    """The lines of a text file.

    Attributes:
        spoken: id, text and first word of the ending of each line that is read aloud.
        texts: the lines that stay text.
        problems: faulty lines, which are left out.
    """

    spoken: list[tuple[str, str, int | None]]
    texts: list[WrittenText]
    problems: list[ManifestProblem]


def lines_to_read(path: Path, num_spoken: int, on_error: str, max_skipped_share: float) -> LinesToRead:
    """Sorts the lines of a text file; raises ``UserError`` for faulty lines, or fewer than two to read aloud."""
    lines = _text_lines(path)
    problems = [
        ManifestProblem(f"line {number}", "", fault)
        for number, line in enumerate(lines, 1)
        for fault in text_faults(line)
    ]
    apply_on_error(problems, len(lines), on_error, max_skipped_share, f"text {path}")
    faulty = {problem.place for problem in problems}
    spoken: list[tuple[str, str, int | None]] = []
    texts: list[WrittenText] = []
    for number, line in enumerate(lines):
        name = f"text-{number:06d}"
        if f"line {number + 1}" in faulty:
            continue
        if len(spoken) < num_spoken and len(line.split()) <= MAX_SPOKEN_WORDS:
            sentences = split_sentences(line)
            spoken.append((name, line, _num_words(sentences[:-1]) if len(sentences) > 1 else None))
        else:
            texts.append(WrittenText(name, line))
    if len(spoken) < 2:
        raise UserError(
            f"{path} has {len(spoken)} lines of at most {MAX_SPOKEN_WORDS} words to read aloud: at least two are needed"
        )
    return LinesToRead(spoken, texts, problems)


def _read_aloud(
    path: Path, config: DataConfig, seed: int, on_error: str, max_skipped_share: float, num_workers: int
) -> Source:
    spoken, texts, problems = lines_to_read(path, config.num_spoken_stories, on_error, max_skipped_share)
    rows, voice = _speak(spoken, config, seed, num_workers)
    return Source(rows, texts, problems, f"{path.name}, synthesised speech ({voice})", is_synthesised=True)


def _speak(
    items: Sequence[tuple[str, str, int | None]], config: DataConfig, seed: int, num_workers: int
) -> tuple[list[ManifestRow], str]:
    """Reads items (id, text, first word of the ending) aloud, speakers in turn; the last share of them is held out."""
    engine = choose_engine(config.voice)
    speakers = pseudo_speakers(engine, config.num_speakers, seed)
    jobs = [(text, speakers[index % len(speakers)]) for index, (_, text, _) in enumerate(items)]
    paths = synthesize_many(jobs, default_cache_dir(), num_workers)
    if config.align.method == "stamps":
        stamps = Path(config.align.source).expanduser() if config.align.source else default_cache_dir()
        write_stamps_many(jobs, paths, stamps, num_workers)
    first_valid = len(items) - max(1, round(config.valid_share * len(items)))
    rows = [
        ManifestRow(
            id=name,
            path=path,
            text=text,
            speaker=speakers[index % len(speakers)].name,
            split="train" if index < first_valid else "valid",
            ending_start_word=ending,
        )
        for index, ((name, text, ending), path) in enumerate(zip(items, paths, strict=True))
    ]
    good, problems = check_rows(rows, config.min_duration_s, config.max_duration_s)
    apply_on_error(problems, len(rows), "raise", 0.0, "synthesised speech")
    return good, f"{engine}, {len(speakers)} pseudo-speakers"


def _text_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"text={path} is not a file: give a text file with one document a line")
    lines = [" ".join(line.split()) for line in read_utf8(path).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"text={path} holds no text: give a text file with one document a line")
    return lines


def _num_words(sentences: Sequence[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)


def _plain(text: str) -> str:
    return " ".join("".join(char for char in text.lower() if char.isalnum() or char.isspace()).split())
