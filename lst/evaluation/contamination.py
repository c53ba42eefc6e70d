"""Contamination: which evaluation items and held-out texts occur in the texts and transcripts of the training.

A text is an item's context and true ending, or a held-out utterance. It counts as *seen whole* where all of its words
follow one another in one text of the training, and as *sharing* where ``eval.ngram`` of its words do (13 unless said
otherwise); a text of fewer words shares only as a whole. Case, punctuation and forms of characters do not count. False
endings are not looked for: to have seen them helps no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, TypedDict

from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.errors import LstError
from lst.evaluation.cloze import cloze_items
from lst.evaluation.items import Item, question_items
from lst.evaluation.overlap import Overlaps
from lst.progress import Progress
from lst.runs import RunFolder
from lst.runs.formats import read_record, versioned
from lst.storage import Count, Location, fingerprint, write_json

# Raised when the same texts would give other counts.
VERSION = 1
MAX_EXAMPLES = 5
TextKind = Literal["held_out", "cloze", "questions", "benchmark"]
# By kind and id.
Texts = Mapping[TextKind, Mapping[str, str]]
KINDS: dict[TextKind, str] = {
    "held_out": "held-out texts",
    "cloze": "cloze items",
    "questions": "questions",
    "benchmark": "benchmark items",
}


class OverlapExample(TypedDict):
    """A text that occurs in the training.

    Keys:
        item: its id.
        source: id of an utterance or text of the training that has the words.
        words: that both have: the whole text, or one n-gram.
        is_whole: whether they are the whole text.
    """

    item: str
    source: str
    words: str
    is_whole: bool


class Overlap(TypedDict):
    """Counts of one kind of texts.

    Keys:
        num_items: that were looked for.
        num_whole: that were seen whole.
        num_shared: that share an n-gram, those seen whole among them.
        num_short: of fewer words than an n-gram has.
        examples: a few of them, those seen whole first.
    """

    num_items: Count
    num_whole: Count
    num_shared: Count
    num_short: Count
    examples: list[OverlapExample]


class Contamination(TypedDict):
    """``eval/contamination.json``, and ``eval/contamination@….json`` of other data and of benchmarks.

    Keys:
        made_from: fingerprint of the texts and the options; equal ones are not looked for again.
        data, trained_on: fingerprints of what the texts are of, and of the data of the training.
        missing: why nothing was looked for; empty where it was.
        ngram: words of an n-gram.
        num_texts, num_words: of the training, that were looked through.
        kinds: counts of ``held_out``, ``cloze``, ``questions`` or ``benchmark``.
    """

    made_from: str
    data: str
    trained_on: str
    missing: str
    ngram: Count
    num_texts: Count
    num_words: Count
    kinds: dict[TextKind, Overlap]


def item_text(item: Item) -> str:
    """Context and true ending of an item."""
    return " ".join(filter(None, (item.context.text, item.endings[item.label].text)))


def check_contamination(config: Config, run: RunFolder, data: PreparedData, names: Sequence[str]) -> None:
    """Counts the items and held-out texts of prepared data that occur in the training of some models of a run.

    Nothing is done with ``eval.ngram=0``, or where nothing has a text.
    """
    held_out = {utterance.id: utterance.text for utterance in data.valid if utterance.text}
    if not config.eval.ngram or not (held_out or data.questions):
        return
    cloze = {item.utterance.id for item in cloze_items(list(data.valid), config.eval, config.seed)}
    parts = {part.id: part for part in data.question_parts} if data.questions else {}
    texts: Texts = {
        "held_out": held_out,
        "cloze": {name: text for name, text in held_out.items() if name in cloze},
        "questions": {item.id: item_text(item) for item in question_items(data.questions, parts)},
    }
    others = {run.data_of_training(name) not in ("", data.fingerprint) for name in names}
    path = run.contamination("" if False in others else data.fingerprint)
    write_contamination(path, data.fingerprint, training_data(run, names, data), texts, config.eval.ngram)


def contamination_of(run: RunFolder, data: str) -> Contamination | None:
    """What of the data with a fingerprint occurs in the training; None where it was not looked for."""
    paths = [path for path in (run.contamination(), run.contamination(data)) if path.exists()]
    return next((found for found in map(read_contamination, paths) if found["data"] == data), None)


def training_data(run: RunFolder, names: Sequence[str], data: PreparedData) -> tuple[PreparedData | None, str]:
    """The data that models of a run were trained on, and why it cannot be told or opened; one of both is empty.

    Args:
        run: of the models.
        names: of the models.
        data: that is open already.
    """
    trained_on = {run.data_of_training(name) or data.fingerprint for name in names}
    if trained_on == {data.fingerprint}:
        return data, ""
    if len(trained_on) > 1:
        return None, "the models of this run were trained on different data"
    try:
        own = PreparedData(run.root / "data", data.verify_hash)
    except LstError as error:
        return None, f"the data of the training is not at hand: {error}"
    is_it = own.fingerprint in trained_on
    return (own, "") if is_it else (None, f"{own.folder} is not the data that the models were trained on")


def write_contamination(
    path: Path,
    data: str,
    training: tuple[PreparedData | None, str],
    texts: Texts,
    ngram: int,
) -> Contamination:
    """Looks for texts in the data of a training, unless that was done before, and writes what was found.

    Args:
        path: of the JSON file.
        data: fingerprint of what the texts are of.
        training: the data, or why it is not there, as ``training_data`` gives them.
        texts: by kind and id; a text may be of several kinds.
        ngram: words of an n-gram.
    """
    trained, missing = training
    trained_on = trained.fingerprint if trained else ""
    made_from = fingerprint([VERSION, trained_on, missing, ngram, texts])
    if path.exists():
        before = read_contamination(path)
        if before["made_from"] == made_from:
            return before
    every = {text: text for own in texts.values() for text in own.values()}
    overlaps = Overlaps(every, ngram)
    if trained is not None:
        overlaps.scan(_training_texts(trained))
    found: Contamination = {
        "made_from": made_from,
        "data": data,
        "trained_on": trained_on,
        "missing": missing,
        "ngram": ngram,
        "num_texts": overlaps.num_texts,
        "num_words": overlaps.num_words,
        "kinds": {kind: _overlap(own, overlaps) for kind, own in texts.items() if own} if trained else {},
    }
    write_json(path, versioned(found))
    return found


def _training_texts(data: PreparedData) -> Iterator[tuple[str, str]]:
    """Ids and texts of all that is trained on, spoken or written, one at a time."""
    with Progress(len(data.train) + len(data.text), "look for contamination", unit="text") as progress:
        for utterance in chain(data.train, data.text):
            yield utterance.id, utterance.text
            progress.advance()


def _overlap(texts: Mapping[str, str], found: Overlaps) -> Overlap:
    whole = {name: found.whole[text] for name, text in texts.items() if text in found.whole}
    shared = {name: found.shared[text] for name, text in texts.items() if text in found.shared}
    parts = {name: seen for name, seen in shared.items() if name not in whole}
    examples: list[OverlapExample] = [
        {"item": name, "source": seen.source, "words": seen.words, "is_whole": own is whole}
        for own in (whole, parts)
        for name, seen in own.items()
    ]
    return {
        "num_items": len(texts),
        "num_whole": len(whole),
        "num_shared": len(shared),
        "num_short": sum(found.lengths[text] < found.ngram for text in texts.values()),
        "examples": examples[:MAX_EXAMPLES],
    }


def read_contamination(place: Location) -> Contamination:
    """Reads ``eval/contamination.json``; raises ``UserError`` where it is absent or damaged."""
    return read_record(place, Contamination, "the record of contamination", f"Delete {place} and run lst eval again.")


def contamination_as_text(found: Contamination) -> list[str]:
    """Lines about the counts, with examples."""
    if found["missing"]:
        return ["", f"contamination is not known: {found['missing']}"]
    size = f"{found['num_texts']:,} texts, {found['num_words']:,} words"
    lines = ["", f"contamination: what occurs in the texts and transcripts of the training ({size})"]
    for kind, own in found["kinds"].items():
        lines.append(
            f"  {own['num_items']:,} {KINDS[kind]}: {own['num_whole']:,} seen whole, {own['num_shared']:,} share "
            f"{found['ngram']} words or, if shorter ({own['num_short']:,}), are seen whole"
        )
        lines += [
            f"    {example['item']} {'whole in' if example['is_whole'] else 'shares with'} {example['source']}: "
            f"{shortened(example['words'])}"
            for example in own["examples"][:2]
        ]
    return lines


def shortened(words: str, most: int = 100) -> str:
    """The beginning of some words, for one line."""
    return words if len(words) <= most else f"{words[:most].rpartition(' ')[0]} …"
