"""Reads the items of text benchmarks from files in the benchmarks' own formats.

===================  ===========================================================================================
benchmark            a row, as JSON lines or as a table (CSV, TSV)
===================  ===========================================================================================
hellaswag            ``ctx``, ``endings``, ``label``
story_cloze          ``InputSentence1`` … ``4``, ``RandomFifthSentenceQuiz1`` and ``2``, ``AnswerRightEnding``; or
                     ``context``, ``pos``, ``neg``
topic_story_cloze    the same, where the false ending is of another story
copa                 ``premise``, ``choice1``, ``choice2``, ``question``, ``label``; or ``query``, ``choices``, ``gold``
blimp                ``sentence_good``, ``sentence_bad``; or ``good``, ``bad``
swuggy               ``word``, ``nonword``; or ``id``, ``word``, ``correct`` with two rows a pair
items                ``id``, ``context``, ``endings``, ``label``
===================  ===========================================================================================

JSON lines may be packed by gzip or xz. BLiMP and sWUGGY have no context: a model chooses the likelier ending.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lst.configs.benchmark_schema import TEXT_BENCHMARKS
from lst.data.corpora import ManifestProblem
from lst.data.corpora.records import Record, json_records, table_cells
from lst.data.corpora.row_checks import text_faults
from lst.data.text import normalise

# About a minute, which every engine speaks in one go; and more letters than any word of a dictionary has.
MAX_WORDS, MAX_WORD_LETTERS = 150, 60


@dataclass(frozen=True)
class TextItem:
    """An item of a benchmark as its file has it.

    Attributes:
        id: unique; letters, digits, _ and -.
        stratum: the kind of item that the file names; empty without.
        context: empty where the benchmark has none.
        endings: two or more.
        label: index of the true one.
        place: its line, for messages.
        other: a context of its own to swap with; empty where that of another item is taken.
    """

    id: str
    stratum: str
    context: str
    endings: tuple[str, ...]
    label: int
    place: str
    other: str = ""

    @property
    def parts(self) -> dict[str, str]:
        """Its texts by the id of the utterance that says each."""
        named = {f"{self.id}-context": self.context, f"{self.id}-other": self.other}
        return {name: text for name, text in named.items() if text} | {
            f"{self.id}-{number}": ending for number, ending in enumerate(self.endings)
        }


class _Fields(NamedTuple):
    """What a row says of an item, before it is checked."""

    id: str
    stratum: str
    context: str
    endings: list[str]
    label: int


class _Row(NamedTuple):
    """A row with its number, and the object or what is wrong with the line."""

    number: int
    record: Record | str


def read_items(
    name: str, path: Path, read_aloud: Callable[[str], str] = normalise, is_spoken: bool = True
) -> tuple[list[TextItem], list[ManifestProblem]]:
    """The items of a file, and all problems of those that cannot be used.

    Args:
        name: one of ``TEXT_BENCHMARKS``.
        path: the file.
        read_aloud: gives the text that is said.
        is_spoken: a voice says the texts; else they may be in any script and of any length.

    Raises:
        UserError: the file cannot be read.
    """
    items: list[TextItem] = []
    problems: list[ManifestProblem] = []
    places: dict[str, str] = {}
    rows = _rows(path)
    for number, record in _pairs(rows) if name == "swuggy" else rows:
        place = f"{path.name}, line {number}"
        item_id = ""
        try:
            if isinstance(record, str):
                raise ValueError(record)
            fields = _READERS[name](record)
            item_id = re.sub(r"[^A-Za-z0-9_-]", "_", fields.id) or f"{number:06d}"
            item = TextItem(item_id, fields.stratum, fields.context, tuple(fields.endings), fields.label, place)
            faults = text_item_faults(item, read_aloud, is_spoken)
        except ValueError as error:
            faults = [str(error)]
        if item_id and item_id in places:
            faults.append(f"the id is also at {places[item_id]}; ids must be unique")
        places.setdefault(item_id, place)
        problems += [ManifestProblem(place, item_id, fault, kind="item") for fault in faults]
        if not faults:
            items.append(item)
    return _same_kind(items, problems)


def _same_kind(items: list[TextItem], problems: list[ManifestProblem]) -> tuple[list[TextItem], list[ManifestProblem]]:
    """Items without context are faulty where others have one."""
    bare = [item for item in items if not item.context]
    if not bare or len(bare) == len(items):
        return items, problems
    told = "it has no context, and other items have one"
    found = [ManifestProblem(item.place, item.id, told, kind="item") for item in bare]
    return [item for item in items if item.context], [*problems, *found]


def text_item_faults(
    item: TextItem, read_aloud: Callable[[str], str], is_spoken: bool = True, by_text: bool = True
) -> list[str]:
    """What is wrong with an item: endings, label, and texts that are empty or cannot be spoken.

    Args:
        item: the item.
        read_aloud: what is said of a text.
        is_spoken: whether its texts are synthesised.
        by_text: whether its endings differ by their texts, and not by their sound alone.
    """
    faults = []
    count = len(item.endings)
    if count < 2:
        faults.append(f"it has {count} endings: at least two are needed")
    if not 0 <= item.label < max(count, 1):
        faults.append(f"its label is {item.label}, endings are numbered from 0 to {count - 1}")
    elif by_text and _is_ambiguous(item, read_aloud, is_spoken):
        faults.append("its true ending is among the false ones, word for word")
    named = [("context", item.context)] if item.context else []
    named += [(f"ending {number}", ending) for number, ending in enumerate(item.endings)]
    for what, text in named:
        said = read_aloud(text)
        if not is_spoken:
            faults += [] if any(map(str.isalnum, said)) else [f"{what}: there is no text"]
            continue
        faults += [f"{what}: {fault.replace('the transcript', 'the text')}" for fault in text_faults(said)]
        if (num_words := len(said.split())) > MAX_WORDS:
            faults.append(f"{what}: it has {num_words} words as it is read aloud, at most {MAX_WORDS} are spoken")
        if (num_letters := max(map(len, said.split()), default=0)) > MAX_WORD_LETTERS:
            faults.append(f"{what}: it has a word of {num_letters} letters, at most {MAX_WORD_LETTERS} are spoken")
    return faults


def _is_ambiguous(item: TextItem, read_aloud: Callable[[str], str], is_spoken: bool) -> bool:
    """Whether a false ending is the true one; punctuation and case cannot be heard."""
    said = [read_aloud(ending) for ending in item.endings]
    if is_spoken:
        said = [" ".join(re.findall(r"\w+", text.casefold())) for text in said]
    return 0 <= item.label < len(said) and bool(said[item.label]) and said.count(said[item.label]) > 1


def _rows(path: Path) -> Iterator[_Row]:
    if path.suffix.lower() not in (".csv", ".tsv"):
        yield from (_Row(number, record) for number, record in json_records(path))
        return
    header: list[str] | None = None
    for number, cells in table_cells(path):
        if header is None:
            header = [cell.strip().lower() for cell in cells]
        elif len(cells) != len(header):
            yield _Row(number, f"it has {len(cells)} cells, the header has {len(header)}")
        else:
            yield _Row(number, dict(zip(header, cells, strict=True)))


# What a row of a word says of it.
_CORRECT = {"1": "word", "1.0": "word", "true": "word", "0": "nonword", "0.0": "nonword", "false": "nonword"}


def _pairs(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Pairs of words whose rows say which one is correct; other rows as they are. Voices of a pair are one."""
    pairs: dict[str, tuple[int, dict[str, str]]] = {}
    for number, record in rows:
        if isinstance(record, str) or "correct" not in record:
            yield _Row(number, record)
            continue
        name, word, said = _id(record, "id"), str(record.get("word", "")), str(record["correct"]).strip().lower()
        if not name or said not in _CORRECT:
            fault = "id is missing" if not name else f"correct must be 1 or 0, not {record['correct']!r}"
            yield _Row(number, fault)
            continue
        _, words = pairs.setdefault(name, (number, {}))
        if words.setdefault(_CORRECT[said], word) != word:
            told = f"the id {name!r} has two words with correct={said}: {words[_CORRECT[said]]!r} and {word!r}"
            yield _Row(number, told)
    for name, (number, words) in pairs.items():
        yield _Row(number, {"id": name, **words})


def _text(record: Record, *names: str) -> str:
    """The text under the first of some keys that is there."""
    found = next((record[name] for name in names if name in record), None)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"{' or '.join(names)} is missing, empty or no text")
    return " ".join(found.split())


def _number(record: Record, *names: str) -> int:
    found = next((record[name] for name in names if name in record), None)
    try:
        return int(str(found))
    except ValueError:
        raise ValueError(f"{' or '.join(names)} must be a whole number, not {found!r}") from None


def _endings(record: Record, name: str) -> list[str]:
    found = record.get(name)
    if not isinstance(found, list) or not all(isinstance(ending, str) for ending in found):
        raise ValueError(f"{name} is missing or no list of texts")
    return [" ".join(ending.split()) for ending in found]


def _id(record: Record, *names: str) -> str:
    return next((str(record[name]) for name in names if name in record), "")


def _true_and_false(name: str, stratum: str, context: str, true: str, false: str) -> _Fields:
    """An item of a true and a false ending; the true one is first for half of the texts, by their letters."""
    label = sum(map(ord, true + false)) % 2
    return _Fields(name, stratum, context, [[true, false], [false, true]][label], label)


def _hellaswag(record: Record) -> _Fields:
    stratum = _id(record, "domain", "source_id").partition("~")[0]
    return _Fields(
        _id(record, "id", "ind"), stratum, _text(record, "ctx"), _endings(record, "endings"), _number(record, "label")
    )


def _story_cloze(record: Record) -> _Fields:
    if "inputsentence1" not in record:
        context, true, false = (_text(record, name) for name in ("context", "pos", "neg"))
        return _true_and_false(_id(record, "id"), "", context, true, false)
    context = " ".join(_text(record, f"inputsentence{number}") for number in range(1, 5))
    endings = [_text(record, f"randomfifthsentencequiz{number}") for number in (1, 2)]
    return _Fields(
        _id(record, "inputstoryid", "storyid"), "", context, endings, _number(record, "answerrightending") - 1
    )


def _copa(record: Record) -> _Fields:
    if "premise" not in record:
        return _Fields(
            _id(record, "id", "idx"), "", _text(record, "query"), _endings(record, "choices"), _number(record, "gold")
        )
    question = _text(record, "question")
    if question not in ("cause", "effect"):
        raise ValueError(f"question is {question!r}: cause and effect are allowed")
    joint = "because" if question == "cause" else "therefore"
    endings = [_text(record, name) for name in ("choice1", "choice2")]
    context = f"{_text(record, 'premise').rstrip('.')}, {joint}"
    return _Fields(_id(record, "id", "idx"), question, context, endings, _number(record, "label"))


def _blimp(record: Record) -> _Fields:
    name = "-".join(_id(record, key) for key in ("uid", "pair" if "pair" in record else "pairid") if key in record)
    good, bad = _text(record, "good", "sentence_good"), _text(record, "bad", "sentence_bad")
    return _true_and_false(name, _id(record, "field"), "", good, bad)


def _swuggy(record: Record) -> _Fields:
    return _true_and_false(_id(record, "id"), "", "", _text(record, "word"), _text(record, "nonword", "non_word"))


def _own(record: Record) -> _Fields:
    context = record.get("context") or ""
    if not isinstance(context, str):
        raise ValueError("context is no text")
    return _Fields(
        _id(record, "id"),
        _id(record, "stratum"),
        " ".join(context.split()),
        _endings(record, "endings"),
        _number(record, "label"),
    )


_READERS: dict[str, Callable[[Record], _Fields]] = dict(
    zip(TEXT_BENCHMARKS, (_own, _hellaswag, _story_cloze, _story_cloze, _copa, _blimp, _swuggy), strict=True)
)
