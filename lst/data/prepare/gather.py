"""The utterances and texts of a corpus: recordings, units, texts read aloud, stories; with all their problems."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from lst.data.alignment.stamps import spoken_files
from lst.data.audio.content import AudioHashes
from lst.data.config import SIMULATED, DataConfig, SimulatedConfig
from lst.data.corpora import (
    ManifestProblem,
    ManifestRow,
    apply_on_error,
    assign_splits,
    check_on_the_fly,
    check_rows,
    num_bad_rows,
)
from lst.data.corpora.manifest import split_of
from lst.data.corpora.records import read_utf8
from lst.data.corpora.row_checks import text_faults
from lst.data.corpora.splits import choose_held_out
from lst.data.corpora.unique_ids import keep_ids
from lst.data.prepare.options import PrepareOptions
from lst.data.prepare.read_corpora import check_two, read_corpora, with_splits
from lst.data.prepare.usable import NO_HASHES, usable_rows
from lst.data.prepared import (
    SpokenRow,
    WrittenText,
)
from lst.data.questions import Question
from lst.data.shards import LeftOut, SimulatedFacts, UnitFacts
from lst.data.synthesis import (
    choose_engine,
    generate_questions,
    generate_stories,
    pseudo_speakers,
    split_sentences,
)
from lst.data.synthesis.simulated import SimulatedRow, SimulatedSpeech, mean_phones
from lst.data.synthesis.stories import StoryQuestion
from lst.data.text import spaced
from lst.data.utterance import HeldOut
from lst.errors import UserError
from lst.storage import FileList, Location, locate


def _left_out(problems: Sequence[ManifestProblem]) -> list[LeftOut]:
    return [{"id": problem.id or problem.place, "reason": str(problem)} for problem in problems]


def gather_units(
    files: Sequence[Location], options: PrepareOptions, held_out: HeldOut | None = None
) -> tuple[Sequence[SpokenRow], Sequence[WrittenText], UnitFacts]:
    """Utterances of ``.on_the_fly`` files. A file name that starts with ``train`` or ``dev`` sets the split.

    Args:
        files: of the corpus.
        options: of preparing.
        held_out: which utterances an earlier state of the corpus held out.
    """
    data = options.data
    rows, problems, num_lines = check_on_the_fly(
        files, options.tokenizer.frame_rate_hz, data.min_duration_s, data.max_duration_s, data.on_the_fly_units
    )
    num_rows = num_lines if not problems else len(rows) + num_bad_rows(problems)
    apply_on_error(problems, num_rows, options.on_error, options.max_skipped_share, f"corpus {options.corpus}")
    check_two(rows, options.corpus)
    stems = {str(file): locate(file).name.partition(".")[0] for file in files}
    named = [ManifestRow(row.id, Path(row.place), row.text, split=split_of(stems[row.place]) or "") for row in rows]
    held_out = held_out or choose_held_out(named, data.valid_share, options.seed)
    splits = [row.split for row in assign_splits(named, data.valid_share, options.seed, held_out)]
    rows = [replace(row, split=split) for row, split in zip(rows, splits, strict=True)]
    texts, found = texts_beside(options.text, [row.text for row in rows if row.split == "valid"])
    facts: UnitFacts = {
        "description": f"speech units in {Path(str(options.corpus)).name} ({len(files)} .on_the_fly files)",
        "is_synthesised": False,
        "left_out": _left_out([*problems, *found]),
        "num_units": data.on_the_fly_units or 1 + max(row.max_unit for row in rows),
    }
    if held_out is not None:
        facts["held_out"] = held_out
    return rows, texts, facts


# Longer texts would exceed the longest utterance that is allowed by default.
MAX_SPOKEN_WORDS = 100


@dataclass(frozen=True)
class Source:
    """The content of a corpus.

    Attributes:
        rows: utterances with their split; recordings have a duration.
        texts: written texts for training.
        problems: one for each utterance or text that is left out.
        description: one line for people.
        is_synthesised: whether the speech is a synthesiser's, or simulated.
        questions: about stories; their parts are rows of the split ``questions``.
        simulated: what simulated speech was drawn from; None for others.
        held_out: which utterances are, by the name of their corpus, where that does not say.
        left_out: parts of recordings that are no utterance.
        audio: hashes of recordings that were listened to.
    """

    rows: Sequence[SpokenRow]
    texts: Sequence[WrittenText]
    problems: Sequence[ManifestProblem]
    description: str
    is_synthesised: bool
    questions: Sequence[Question] = ()
    simulated: SimulatedFacts | None = None
    held_out: Mapping[str, HeldOut] = field(default_factory=dict)
    left_out: Sequence[LeftOut] = ()
    audio: AudioHashes = NO_HASHES

    @property
    def facts(self) -> UnitFacts:
        """What ``source.json`` says of it."""
        found: UnitFacts = {
            "description": self.description,
            "is_synthesised": self.is_synthesised,
            "left_out": [*_left_out(self.problems), *self.left_out],
        }
        if self.simulated is not None:
            found["num_units"] = self.simulated["options"]["num_units"]
            found["simulated"] = self.simulated
        if "" in self.held_out:
            found["held_out"] = self.held_out[""]
        elif self.held_out:
            found["held_out_by"] = dict(self.held_out)
        return found


def gather_source(
    options: PrepareOptions,
    files: Mapping[str, FileList] | None = None,
    held_out: Mapping[str, HeldOut] | None = None,
    before: Sequence[ManifestRow] = (),
    known: AudioHashes = NO_HASHES,
    is_plan: bool = False,
) -> Source:
    """Finds or makes the utterances; every problem of a corpus is reported before work starts.

    Args:
        options: ``corpus`` (recordings), ``text`` (read aloud without a corpus, written texts with one), or neither:
            stories are read aloud.
        files: the files of each corpus by its name, if they have been listed already.
        held_out: which utterances an earlier state of each corpus held out.
        before: rows of an earlier state of the corpus, whose ids stay.
        known: hashes of its audio from an earlier run.
        is_plan: nothing is listened to: long recordings stay whole.

    Raises:
        UserError: nothing usable was found; ``ProblemsError`` lists all problems.
    """
    if options.corpus is not None:
        return _recordings(options, files or {}, held_out or {}, before, known, is_plan)
    return _read_aloud(Path(options.text), options) if options.text is not None else _stories(options)


def _recordings(
    options: PrepareOptions,
    files: Mapping[str, FileList],
    held_out: Mapping[str, HeldOut],
    before: Sequence[ManifestRow],
    known: AudioHashes,
    is_plan: bool,
) -> Source:
    read = read_corpora(options, files, before)
    told = f"corpus {next(iter(map(locate, options.corpora.values())))}"
    if len(options.corpora) > 1:
        told = f"corpora {', '.join(options.corpora)}"
    rows = keep_ids(read.rows, before)
    usable = usable_rows(told, rows, read.problems, options, files, known, is_plan)
    assigned, rules = with_splits(usable.rows, options, held_out, before, is_plan)
    held_out_texts = (row.text for row in assigned if row.split == "valid")
    languages = usable.rows.facts.languages
    if len(languages) > 1:
        # Those of speech without a text say nothing of texts.
        languages = {row.language for row in usable.rows if row.text}
    of_rows = next(iter(languages)) if len(languages) == 1 else ""
    texts, same = texts_beside(options.text, held_out_texts, options.data.language or of_rows)
    return Source(
        assigned,
        texts,
        [*usable.problems, *same],
        read.description,
        is_synthesised=False,
        held_out=rules,
        left_out=usable.left_out,
        audio=usable.audio,
    )


def texts_beside(
    text: str | None, held_out_texts: Iterable[str], language: str = ""
) -> tuple[list[WrittenText], list[ManifestProblem]]:
    """Written texts of a file, one a line. Transcripts of held-out utterances are left out and reported.

    Args:
        text: the file; None gives no texts.
        held_out_texts: the transcripts.
        language: of the texts, whose words are divided as those of the transcripts; empty for English.
    """
    if text is None:
        return [], []
    held_out = set(map(_plain, held_out_texts)) - {""}
    lines = [spaced(line, language) for line in _text_lines(Path(text))]
    texts = [WrittenText(f"text-{n:06d}", line) for n, line in enumerate(lines) if _plain(line) not in held_out]
    left_out = len(lines) - len(texts)
    note = f"{left_out} lines are transcripts of held-out utterances"
    return texts, [ManifestProblem(text, "", note)] if left_out else []


@dataclass(frozen=True)
class _Said:
    """A text to be read aloud. Speakers are counted round: with two, number 5 is the second."""

    id: str
    text: str
    split: str
    speaker: int
    ending_start_word: int | None = None


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


def _read_aloud(path: Path, options: PrepareOptions) -> Source:
    spoken, texts, problems = lines_to_read(
        path, options.data.num_spoken_stories, options.on_error, options.max_skipped_share
    )
    rows, voice, simulated = _speak(_with_splits(spoken, options.data), options)
    return Source(rows, texts, problems, f"{path.name}, {voice}", is_synthesised=True, simulated=simulated)


def _stories(options: PrepareOptions) -> Source:
    config = options.data
    stories = generate_stories(config.num_spoken_stories + config.num_text_stories, options.seed, config.stories)
    spoken, written = stories[: config.num_spoken_stories], stories[config.num_spoken_stories :]
    said = _with_splits([(story.id, story.text, _num_words(story.sentences[:-1])) for story in spoken], config)
    questions: list[Question] = []
    if config.num_questions:
        known = {story.number for story in stories}
        asked = generate_questions(config.num_questions, options.seed, config.stories, known)
        heard: dict[Hashable, _Said] = {}
        for number, question in enumerate(asked):
            # Questions share what sounds alike: it is aligned once.
            parts = [heard.setdefault(_sound(part, config), part) for part in _question_parts(question, number)]
            questions.append(_question(question, number, parts))
        said += heard.values()
    rows, voice, simulated = _speak(said, options)
    return Source(
        rows,
        [WrittenText(story.id, story.text) for story in written],
        [],
        f"embedded stories, {voice}",
        is_synthesised=True,
        questions=questions,
        simulated=simulated,
    )


def _question_parts(question: StoryQuestion, speaker: int) -> list[_Said]:
    """Contexts and endings, each to be said by itself, by one speaker: nothing but content tells endings apart."""
    return [
        _Said(f"{story.id}-{kind}", text, "questions", speaker)
        for story in (question.true, question.false)
        for kind, text in (("context", story.context), ("ending", story.sentences[-1]))
    ]


def _sound(said: _Said, config: DataConfig) -> Hashable:
    """What decides how a text sounds: an engine repeats itself, simulated speech draws every utterance."""
    return said.id if config.voice == SIMULATED else (said.text, said.speaker % config.num_speakers)


def _question(question: StoryQuestion, number: int, parts: Sequence[_Said]) -> Question:
    context, true, other_context, false = (part.id for part in parts)
    # The true ending is the first and the second in turn.
    label = number % 2
    return Question(question.id, question.stratum, context, other_context, [[true, false], [false, true]][label], label)


def _with_splits(items: Sequence[tuple[str, str, int | None]], config: DataConfig) -> list[_Said]:
    """Items (id, text, first word of the ending), with speakers in turn; the last share of them is held out."""
    first_valid = len(items) - max(1, round(config.valid_share * len(items)))
    return [
        _Said(name, text, "train" if index < first_valid else "valid", index, ending)
        for index, (name, text, ending) in enumerate(items)
    ]


def _speak(said: Sequence[_Said], options: PrepareOptions) -> tuple[Sequence[SpokenRow], str, SimulatedFacts | None]:
    """Reads texts aloud or simulates it. Returns rows, who spoke, and what simulated speech was drawn from."""
    config = options.data
    if config.voice == SIMULATED:
        return _simulate(said, config.simulated, options.seed)
    engine = choose_engine(config.voice)
    speakers = pseudo_speakers(engine, config.num_speakers, options.seed)
    jobs = [(item.text, speakers[item.speaker % len(speakers)]) for item in said]
    paths = spoken_files(jobs, config.align, options.num_workers)
    rows = [
        ManifestRow(
            id=item.id,
            path=path,
            text=item.text,
            speaker=speakers[item.speaker % len(speakers)].name,
            split=item.split,
            ending_start_word=item.ending_start_word,
        )
        for item, path in zip(said, paths, strict=True)
    ]
    good, problems = check_rows(rows, config.min_duration_s, config.max_duration_s)
    apply_on_error(problems, len(rows), "raise", 0.0, "synthesised speech")
    return good, f"synthesised speech ({engine}, {len(speakers)} pseudo-speakers)", None


def _simulate(
    said: Sequence[_Said], config: SimulatedConfig, seed: int
) -> tuple[Sequence[SpokenRow], str, SimulatedFacts | None]:
    rows = [
        SimulatedRow(item.id, item.text, item.speaker % config.num_speakers, item.split, item.ending_start_word)
        for item in said
    ]
    facts: SimulatedFacts = {
        "seed": seed,
        "phones_a_word": mean_phones(item.text for item in said),
        "options": asdict(config),
    }
    # Options that cannot be are refused now, not in every worker.
    SimulatedSpeech.of(facts)
    plural = "s" * (config.num_speakers != 1)
    return rows, f"simulated speech ({config.num_units} units, {config.num_speakers} speaker{plural})", facts


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
    """Letters and digits: scripts without spaces may be divided or not."""
    return "".join(char for char in text.lower() if char.isalnum())
