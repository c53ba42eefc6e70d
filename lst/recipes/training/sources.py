"""The sources of the data in a training: their weights and limits, and what of them is held out.

::

    data.sources.weights, max_epochs ──weighted_corpora──▶ parts of the training split, mixed by these
    sources of the index ──told_sources──▶ losses and bits by source in metrics.jsonl
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lst.configs.schema import Config
from lst.data.batches import CorpusPart
from lst.data.prepared import PreparedData
from lst.data.shards import ShardReader, source_names
from lst.errors import nearest, raise_problems
from lst.runs import FittedPatching


class HeldOutSize(NamedTuple):
    """Units of speech and bytes of text in the validation batches."""

    num_units: int
    text_bytes: int


def told_sources(data: PreparedData) -> list[str]:
    """The sources by which losses are told apart; none where all is of one."""
    names = source_names(data.index)
    return names if len(names) > 1 else []


def weighted_corpora(config: Config, data: PreparedData) -> list[CorpusPart]:
    """The training utterances by source, where sources have weights or limits of their own; else none.

    Without weights, each has its size: of speech units, or of utterances with ``data.mix.by=documents``.

    Raises:
        UserError: ``ProblemsError`` names unknown sources, sources without a weight, and limits that leave nothing.
    """
    options = config.data.sources
    if not (options.weights or options.max_epochs):
        return []
    readers = {name: (data.train_of(name), data.speech_of(name)) for name in source_names(data.index)}
    readers = {name: own for name, own in readers.items() if any(map(len, own))}
    lengths = {name: sum(map(len, own)) for name, own in readers.items()}
    problems = _problems(options.weights, options.max_epochs, lengths)
    raise_problems(
        f"data.sources of {data.folder}",
        problems,
        f"Its sources with training utterances: {', '.join(readers) or 'none'}.",
    )
    shares = options.weights or {
        name: sum(_size(one, config.data.mix.by) for one in own) for name, own in readers.items()
    }
    limits = {name: int(options.max_epochs[name] * lengths[name]) for name in options.max_epochs}
    return [
        CorpusPart(name, spoken, shares[name], limits.get(name), speech) for name, (spoken, speech) in readers.items()
    ]


def _size(reader: ShardReader, unit: str) -> float:
    return float(sum(entry["num_units"] if unit == "tokens" else entry["num_utterances"] for entry in reader.receipts))


def _problems(weights: Mapping[str, float], max_epochs: Mapping[str, float], sizes: Mapping[str, int]) -> list[str]:
    found = [
        f"data.sources.{option}.{name}: there is no such source{nearest(name, list(sizes))}"
        for option, values in (("weights", weights), ("max_epochs", max_epochs))
        for name in values
        if name not in sizes
    ]
    if len(sizes) < 2:
        found.append("there is one source: weights and limits need several, as lst prepare corpus=[A,B] makes them")
    if weights and (missing := [name for name in sizes if name not in weights]):
        found.append(f"data.sources.weights lacks {', '.join(missing)}: give each source a weight")
    if sizes and set(sizes) <= set(max_epochs):
        found.append("data.sources.max_epochs limits every source: leave one without, so that documents do not run out")
    found += [
        f"data.sources.max_epochs.{name}={value:g} of {sizes[name]:,} utterances is less than one document"
        for name, value in max_epochs.items()
        if name in sizes and value * sizes[name] < 1
    ]
    return found


def held_out_places(valid: ShardReader, count: int) -> list[int]:
    """The held-out utterances that a validation takes: the first ones, or of several sources as many of each."""
    by_source: dict[str, list[int]] = {}
    for place in range(len(valid)):
        own = by_source.setdefault(valid.source_of(place), [])
        if len(own) < count:
            own.append(place)
    turns = (own[turn] for turn in range(count) for own in by_source.values() if turn < len(own))
    return sorted(place for place, _ in zip(turns, range(count), strict=False))


def held_out_sizes(config: Config, data: PreparedData, patching: FittedPatching) -> dict[str, HeldOutSize]:
    """What the validation batches hold of each of ``told_sources``."""
    builder, sizes = patching.builder(config, data), dict.fromkeys(told_sources(data), HeldOutSize(0, 0))
    for place in held_out_places(data.valid, config.train.eval_utterances) if sizes else ():
        utterance, (units, letters) = data.valid[place], sizes[name := data.valid.source_of(place)]
        sizes[name] = HeldOutSize(units + builder.num_units(utterance), letters + len(utterance.text.encode()))
    return sizes
