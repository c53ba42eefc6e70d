"""Where utterances and texts come from: embedded stories, a text file that is read aloud, or recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lst.data.align_import import imported_faults
from lst.data.align_stamps import write_stamps_many
from lst.data.config import AUTO_LAYOUT, DataConfig
from lst.data.corpora import assign_splits, load_corpus
from lst.data.manifest import ManifestProblem, ManifestRow
from lst.data.records import read_utf8
from lst.data.row_checks import apply_on_error, check_rows, num_bad_rows, text_faults
from lst.data.speech_synthesis import choose_engine, default_cache_dir, pseudo_speakers, synthesize_many
from lst.data.stories import generate_stories, split_sentences
from lst.errors import UserError
from lst.storage import Folder, locate

# A spoken text of more words would be longer than the longest utterance allowed by default.
MAX_SPOKEN_WORDS = 100


@dataclass(frozen=True)
class WrittenText:
    """A text that is not spoken."""

    id: str
    text: str


@dataclass(frozen=True)
class Source:
    """What a corpus is made of.

    Attributes:
        rows: utterances with audio, split and duration.
        texts: written texts for training.
        problems: what was left out, and why.
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

    Raises:
        UserError: nothing usable was found; ``ProblemsError`` lists all problems.
    """
    if corpus is not None:
        return _recordings(locate(corpus), layout, text, config, seed, on_error, max_skipped_share)
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
    path: Folder, layout: str, text: str | None, config: DataConfig, seed: int, on_error: str, max_skipped_share: float
) -> Source:
    rows, problems, layout = load_corpus(path, layout)
    num_rows = len(rows) + num_bad_rows(problems)
    good, found = check_rows(rows, config.min_duration_s, config.max_duration_s, problems)
    problems = [*problems, *found]
    if problems and on_error == "raise":
        # All at once: what would be told next, when these are mended.
        problems += [
            ManifestProblem(row.place, row.id, fault, row.path, "alignment")
            for row, faults in zip(good, imported_faults(config.align, good) or [], strict=False)
            for fault in faults
        ]
    apply_on_error(problems, num_rows, on_error, max_skipped_share, f"corpus {path}")
    if len(good) < 2:
        raise UserError(
            f"corpus {path} has {len(good)} usable utterance{'s' * (len(good) != 1)}: at least two are needed, one is "
            "held out"
        )
    rows = assign_splits(good, config.valid_share, seed)
    texts, found = texts_beside(text, [row.text for row in rows if row.split == "valid"])
    problems += found
    return Source(rows, texts, problems, f"recordings in {path.name} ({layout})", is_synthesised=False)


def texts_beside(text: str | None, held_out_texts: Iterable[str]) -> tuple[list[WrittenText], list[ManifestProblem]]:
    """Written texts of a file, a line each, without those that are transcripts of held-out utterances; these are told.

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


def _read_aloud(
    path: Path, config: DataConfig, seed: int, on_error: str, max_skipped_share: float, num_workers: int
) -> Source:
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
        if len(spoken) < config.num_spoken_stories and len(line.split()) <= MAX_SPOKEN_WORDS:
            sentences = split_sentences(line)
            spoken.append((name, line, _num_words(sentences[:-1]) if len(sentences) > 1 else None))
        else:
            texts.append(WrittenText(name, line))
    if len(spoken) < 2:
        raise UserError(
            f"{path} has {len(spoken)} lines of at most {MAX_SPOKEN_WORDS} words to read aloud: at least two are needed"
        )
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
