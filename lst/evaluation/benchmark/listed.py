"""The items of a benchmark, from a file, a data set of the hub, or made by rule, and all that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lst.configs.schema import Config
from lst.data.corpora import ManifestProblem, apply_on_error, num_bad_rows
from lst.data.synthesis.voices import PseudoSpeaker
from lst.errors import UserError
from lst.evaluation.benchmark.consistency import consistency_items
from lst.evaluation.benchmark.nonwords import packaged_words, read_lexicon, word_pairs
from lst.evaluation.benchmark.pairs import read_pairs
from lst.evaluation.benchmark.text_items import TextItem, read_items, text_item_faults
from lst.lazy import import_or_explain
from lst.storage import expanded, fingerprint, sha256

MADE_BY_RULE = ("swuggy", "consistency")
# Without benchmark.max_items.
NUM_MADE = 500
_HUB = re.compile(r"hub:([\w.-]+/[\w.-]+)@([0-9a-f]{40}):(.+)")


@dataclass(frozen=True)
class ItemList:
    """Items and where they are from.

    Attributes:
        items: without faults, in order.
        problems: of all others.
        source: the file's name, or how they were made.
        sha256: of the file, or of what decides the items.
        speakers: who says an utterance, where the item decides that.
        recordings: files of utterances that are not spoken but recorded.
        num_voices: how many say each item; ids of items then end in ``--VOICE``.
    """

    items: list[TextItem]
    problems: list[ManifestProblem]
    source: str
    sha256: str
    speakers: Mapping[str, PseudoSpeaker] = field(default_factory=dict)
    recordings: Mapping[str, Path] = field(default_factory=dict)
    num_voices: int = 1


def list_items(config: Config, read_aloud: Callable[[str], str]) -> ItemList:
    """Reads or makes the items, and decides whether work may go on without the faulty ones.

    Args:
        config: of the command.
        read_aloud: gives the text that is said.

    Raises:
        UserError: no file is given, it cannot be read, or items are faulty; all of them are named.
    """
    listed = gather_items(config, read_aloud)
    num_rows = len(listed.items) + num_bad_rows(listed.problems)
    if not num_rows:
        raise UserError(f"{listed.source} holds no items")
    apply_on_error(
        listed.problems, num_rows, config.on_error, config.max_skipped_share, f"items {listed.source}", "item"
    )
    return listed


def gather_items(config: Config, read_aloud: Callable[[str], str]) -> ItemList:
    """The items and their problems, whatever these are; see ``list_items``."""
    options, name = config.benchmark, config.benchmark.name
    path = None if config.items is None else items_file(config.items)
    if name == "consistency":
        return _made(config, path, read_aloud)
    if path is None and name != "swuggy":
        raise UserError("items=FILE is missing: a file of items in the benchmark's own format")
    if name == "pairs":
        assert path is not None
        found = read_pairs(path)
        items = found.items[: options.max_items or None]
        return ItemList(items, found.problems, path.name, found.sha256, {}, found.recordings, found.num_voices)
    if name == "swuggy" and (path is None or path.suffix.lower() == ".txt"):
        return _made(config, path, read_aloud)
    assert path is not None
    if path.is_dir():
        raise UserError(f"items={config.items} is a folder: give a file of items, or build pairs of its recordings")
    items, problems = read_items(name, path, read_aloud, options.speech)
    return ItemList(items[: options.max_items or None], problems, path.name, sha256(path))


def _made(config: Config, path: Path | None, read_aloud: Callable[[str], str]) -> ItemList:
    """Items by rule: pairs of a word and a non-word, or sentences whose voice changes."""
    count = config.benchmark.max_items or NUM_MADE
    digest = "" if path is None else sha256(path)
    if config.benchmark.name == "consistency":
        items, speakers = consistency_items(config, path, count)
        faulty = {item.id: text_item_faults(item, read_aloud, by_text=False) for item in items}
        problems = [ManifestProblem(one.place, one.id, fault, kind="item") for one in items for fault in faulty[one.id]]
        source = f"sentences of {'stories' if path is None else path.name}"
        digest = fingerprint([digest, [item.parts for item in items]])
        return ItemList([item for item in items if not faulty[item.id]], problems, source, digest, speakers)
    words, problems = (packaged_words(), []) if path is None else read_lexicon(path)
    pairs = word_pairs(words, count, config.seed)
    items = [
        TextItem(f"{word}-{nonword}", "", "", (word, nonword) if place % 2 else (nonword, word), 1 - place % 2, "rule")
        for place, (word, nonword) in enumerate(pairs)
    ]
    source = f"words of {'the packaged dictionary' if path is None else path.name}, and non-words by rule"
    return ItemList(items, problems, source, fingerprint([digest, pairs]))


def items_file(place: str) -> Path:
    """The local file of ``items=``; a data set's file is downloaded from the hub, at a fixed revision, and kept.

    Raises:
        UserError: the place does not say file and revision, or the hub cannot be reached.
    """
    if not place.startswith("hub:"):
        return Path(expanded(place))
    found = _HUB.fullmatch(place)
    if found is None:
        raise UserError(
            f"items={place}: write hub:OWNER/NAME@REVISION:FILE, with the 40 digits of a revision, so that the items "
            "stay the same"
        )
    hub = import_or_explain("huggingface_hub", "items of the hub", "pip install huggingface_hub")
    name, revision, file = found.groups()
    try:
        return Path(hub.hf_hub_download(name, file, repo_type="dataset", revision=revision))
    except (OSError, ValueError) as error:  # All of the hub's own errors are among them.
        raise UserError(
            f"items={place} cannot be fetched ({type(error).__name__}: {str(error).splitlines()[0]}): check the name "
            "and the network, or download the file and give its path"
        ) from error
