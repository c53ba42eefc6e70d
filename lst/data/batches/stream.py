"""An endless stream of training batches that resumes exactly.

Everything is a pure function of the seed and a counter: the source of the n-th document, the order of utterances in
each pass, the cuts of each document, the strategy of each batch. So the state is a few counters and the keys of the
documents in the packing buffer, as JSON. A resumed stream makes those documents again and reads nothing else.

A training draws from V streams in turn (``lst.data.batches.loader``): batch n is a batch of stream n modulo V. Stream v
takes places v, v + V, v + 2V … of every pass, so that together the streams take each utterance once.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from lst.data.batches.mixing import MixSource, Mixture
from lst.data.batches.order import PassOrder
from lst.data.batches.packing import cut_document, fill_rows, rest_of_document, top_up_rows
from lst.data.config import ADAPTATION_KINDS
from lst.data.documents import DocumentBuilder
from lst.data.documents.interleave import Request
from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document, PackedBatch, Patches, pack_documents
from lst.model.config import PatchingConfig
from lst.model.patching import patch_documents, strategy_of_batch

STATE_VERSION = 2
# A state as JSON; the dataclass that reads it documents the fields.
Record: TypeAlias = dict[str, Any]
# A row with more than a fiftieth of its slots empty is filled with a piece of a waiting document.
LEAST_PIECE_SHARE = 50
# Documents of a source that are made together, which is much faster than one by one. A stream begins with few, so that
# a resumed training gets its first batch soon.
FIRST_DOCUMENTS_AT_ONCE, MOST_DOCUMENTS_AT_ONCE = 32, 512
# Added to the seed, so that these draws do not correlate with other uses of it.
_ORDER_STREAM = 0x07DE


class DocumentKey(NamedTuple):
    """Identifies a document: utterance ``number`` of a source in a pass (epoch); its rest from ``first_token`` on."""

    source: str
    epoch: int
    number: int
    first_token: int = 0


@dataclass
class StreamState:
    """The position of a stream. As JSON, an object with these fields.

    Attributes:
        fingerprint: of data, settings and seed; only a stream with the same fingerprint can go on from the state.
        cursors: number of documents drawn from each source.
        source_tokens: number of tokens of these documents, with special tokens, before any cut.
        buffer: keys of the documents that wait to be packed, oldest first; in JSON, lists.
        batch_index: number of batches given out.
        num_slots, num_patches, num_tokens: totals of these batches; slots − patches is the waste of packing.
        num_cut: pieces of documents whose rest comes later.
        num_speech_tokens: speech units among the tokens.
        version: of the format.
    """

    fingerprint: str
    cursors: dict[str, int] = field(default_factory=dict)
    source_tokens: dict[str, int] = field(default_factory=dict)
    buffer: list[DocumentKey] = field(default_factory=list)
    batch_index: int = 0
    num_slots: int = 0
    num_patches: int = 0
    num_tokens: int = 0
    num_cut: int = 0
    num_speech_tokens: int = 0
    version: int = STATE_VERSION

    @property
    def num_drawn(self) -> int:
        """Documents drawn so far."""
        return sum(self.cursors.values())

    def to_json(self) -> Record:
        """The fields by name."""
        return {**asdict(self), "buffer": [list(key) for key in self.buffer]}

    @classmethod
    def from_json(cls, values: Record) -> StreamState:
        """Inverse of ``to_json``; ``UserError`` for another version of the format."""
        check_state_version(values)
        return cls(**{**values, "buffer": [DocumentKey(*key) for key in values["buffer"]]})


def check_state_version(values: Record) -> None:
    """Raises ``UserError`` if a state as JSON has another version."""
    if values.get("version") != STATE_VERSION:
        raise UserError(
            f"the loader's state has version {values.get('version')}, this project reads {STATE_VERSION}: "
            "start the training anew in another run_dir"
        )


def check_state_fingerprint(found: str, expected: str) -> None:
    """Raises ``UserError`` if a state belongs to other data or settings."""
    if found != expected:
        raise UserError(
            f"the checkpoint's loader state belongs to other data or settings ({found}, these are {expected}): resume "
            "with what it was started with, or start anew in another run_dir"
        )


@dataclass(frozen=True)
class StreamPlan:
    """The settings that decide all batches of a training. Picklable, for worker processes.

    Attributes:
        sources: the mix, see ``lst.data.batches.mixing.mix_sources``.
        builder: makes documents.
        patching: how documents are cut into patches.
        num_rows, row_patches: shape of a batch.
        num_batches: of the whole training; the curriculum spans them.
        pack_buffer: number of documents from which rows are filled.
        seed: of all random draws.
        fingerprint: of data and settings, see ``StreamState``.
        mix_by: unit of the weights, ``tokens`` or ``documents``.
        shuffle_shards: number of shards that are shuffled together, 0 for all; see ``lst.data.batches.order``.
        num_streams: V, the number of streams that give batches in turn.
        told_sources: by which losses are told apart, in order; none where there is one.
    """

    sources: Sequence[MixSource]
    builder: DocumentBuilder
    patching: PatchingConfig
    num_rows: int
    row_patches: int
    num_batches: int
    pack_buffer: int
    seed: int
    fingerprint: str
    mix_by: str = "tokens"
    shuffle_shards: int = 0
    num_streams: int = 1
    told_sources: Sequence[str] = ()

    @property
    def source_names(self) -> list[str]:
        """Names of the sources, in order."""
        return [source.name for source in self.sources]

    @property
    def first_state(self) -> StreamState:
        """The state of a stream that has given no batch."""
        cursors, source_tokens = dict.fromkeys(self.source_names, 0), dict.fromkeys(self.source_names, 0)
        return StreamState(self.fingerprint, cursors, source_tokens)


def _check_position(state: StreamState, plan: StreamPlan) -> None:
    """Raises ``UserError`` if a state counts other sources than the plan has, or waits for utterances that it lacks."""
    sizes = {source.name: len(source.utterances) for source in plan.sources}
    outside = [key for key in state.buffer if not 0 <= key.number < sizes.get(key.source, 0) or key.epoch < 0]
    if outside or state.cursors.keys() != sizes.keys() or state.source_tokens.keys() != sizes.keys():
        raise UserError("the loader's state in the checkpoint counts utterances or sources that the data has not")


@dataclass(slots=True)
class _Item:
    """A document, or the rest of one; tokens of the whole document; patches of the (rest) document by strategy."""

    document: Document
    num_whole: int
    cuts: dict[str, Patches] = field(default_factory=dict)


class BatchStream(Iterator[tuple[PackedBatch, StreamState]]):
    """Endless iterator of (batch, state after it); batches have ``num_rows`` rows of ``row_patches`` patches.

    Args:
        plan: the settings.
        stream: number of this stream, from 0 to ``plan.num_streams`` − 1.
        state: where to go on; None starts a new stream.

    Raises:
        UserError: the state belongs to other data or settings.

    Attributes:
        document_ids: names of the documents of the last batch, in order.
    """

    def __init__(self, plan: StreamPlan, stream: int = 0, state: StreamState | None = None) -> None:
        self.plan, self.stream = plan, stream
        self.document_ids: list[str] = []
        self.pack_buffer = max(plan.pack_buffer, plan.num_rows)
        names = plan.source_names
        if state is not None:
            check_state_fingerprint(state.fingerprint, plan.fingerprint)
            _check_position(state, plan)
        self.state = state or plan.first_state
        self._mix = Mixture(plan.sources, plan.mix_by, plan.seed, stream, plan.num_streams)
        self._told = {name: number for number, name in enumerate(plan.told_sources)}
        self._sources = {source.name: source for source in plan.sources}
        self._items: dict[DocumentKey, _Item] = {}
        self._ahead: dict[str, deque[DocumentKey]] = {name: deque() for name in names}
        self._at_once = dict.fromkeys(names, FIRST_DOCUMENTS_AT_ONCE)
        self._orders: dict[str, tuple[int, PassOrder]] = {}
        vocabulary = plan.builder.vocabulary
        self._markers = {TEXT: vocabulary.text_id, SPEECH: vocabulary.speech_id}
        self._special_ids = {*self._markers.values(), vocabulary.eos_id}
        self._strategy = ""

    def __next__(self) -> tuple[PackedBatch, StreamState]:
        plan = self.plan
        state = replace(self.state, cursors=dict(self.state.cursors), source_tokens=dict(self.state.source_tokens))
        batch_index = state.batch_index * plan.num_streams + self.stream
        strategy = strategy_of_batch(plan.patching, plan.seed, batch_index, plan.num_batches)
        keys = list(state.buffer)
        self._make(keys)
        # Those ahead were cut when they were drawn; all together where another strategy follows.
        ahead = self._ahead.values() if strategy != self._strategy else ()
        self._cut([*keys, *itertools.chain.from_iterable(ahead)], strategy)
        self._strategy = strategy
        sizes = [len(self._items[key].cuts[strategy]) for key in keys]
        self._draw(state, strategy, keys, sizes)
        rows = fill_rows([min(size, plan.row_patches) for size in sizes], plan.row_patches, plan.num_rows)
        # Words that are cut off their speech would teach to write without listening.
        fills = not any(source.kind in ADAPTATION_KINDS for source in plan.sources)
        least_piece = max(2, plan.row_patches // LEAST_PIECE_SHARE) if fills else plan.row_patches + 1
        parts = top_up_rows(rows, sizes, plan.row_patches, least_piece)
        rests: list[DocumentKey] = []
        packed = [[self._take(keys[index], count, strategy, rests) for index, count in row] for row in parts]
        given = [keys[index] for row in parts for index, _ in row]
        taken = {index for row in parts for index, _ in row}
        batch = pack_documents(packed, plan.row_patches)
        if self._told:
            own = [self._told[self._sources[key.source].source_of(key.number)] for key in given]
            batch = replace(batch, doc_source_ids=torch.tensor(own))
        self.document_ids = [document.id for row in packed for document, _ in row]
        self.state = replace(
            state,
            buffer=rests + [key for index, key in enumerate(keys) if index not in taken],
            batch_index=state.batch_index + 1,
            num_slots=state.num_slots + batch.num_slots,
            num_patches=state.num_patches + batch.num_patches,
            num_tokens=state.num_tokens + batch.num_tokens,
            num_cut=state.num_cut + len(rests),
            num_speech_tokens=state.num_speech_tokens + int((batch.modalities == SPEECH).sum()),
        )
        return batch, self.state

    def _take(self, key: DocumentKey, count: int, strategy: str, rests: list[DocumentKey]) -> tuple[Document, Patches]:
        """Takes the first ``count`` patches of a waiting document; appends the key of its rest to ``rests``."""
        item = self._items.pop(key)
        patches = item.cuts[strategy]
        if count == len(patches):
            return item.document, patches
        piece, kept = cut_document(item.document, patches, count)
        left = len(item.document) - len(piece)
        # A rest of one token, <eos>, has nothing to predict.
        if left > 1:
            rest_key = key._replace(first_token=item.num_whole - left)
            rest = rest_of_document(item.document, len(piece), self._markers, self._special_ids)
            self._items[rest_key] = _Item(rest, item.num_whole)
            rests.append(rest_key)
        return piece, kept

    def _cut(self, keys: Iterable[DocumentKey], strategy: str) -> None:
        """Cuts documents into patches, all together; documents that were cut before are left as they are."""
        new = [item for item in (self._items[key] for key in keys) if strategy not in item.cuts]
        cuts = patch_documents([item.document for item in new], strategy, self.plan.patching)
        for item, patches in zip(new, cuts, strict=True):
            item.cuts[strategy] = patches

    def _draw(self, state: StreamState, strategy: str, keys: list[DocumentKey], sizes: list[int]) -> None:
        """Draws documents until there are enough to pack; appends their keys and sizes in patches to the lists."""
        row_patches = self.plan.row_patches
        # Enough for every row, and as much again to choose from.
        wanted = 2 * self.plan.num_rows * row_patches
        num_waiting = sum(min(size, row_patches) for size in sizes)
        names, num_tokens = list(state.cursors), list(state.source_tokens.values())
        num_drawn = list(state.cursors.values())
        while len(keys) < self.pack_buffer or num_waiting < wanted:
            number = self._mix.next_source(num_drawn, num_tokens)
            ahead = self._ahead[names[number]]
            if not ahead:
                ahead.extend(self._next_keys(names[number], num_drawn[number]))
                self._make(ahead)
                self._cut(ahead, strategy)
            key = ahead.popleft()
            item = self._items[key]
            size = len(item.cuts[strategy].lengths)
            if size > row_patches and (kind := self._sources[key.source].kind) in ADAPTATION_KINDS:
                raise UserError(
                    f"utterance {item.document.id!r} as a document of data.mix.{kind} has {size} patches, and a "
                    f"row has {row_patches}: raise train.row_patches, or prepare with a smaller data.max_duration_s"
                )
            num_drawn[number] += 1
            num_tokens[number] += item.num_whole
            num_waiting += min(size, row_patches)
            keys.append(key)
            sizes.append(size)
        state.cursors = dict(zip(names, num_drawn, strict=True))
        state.source_tokens = dict(zip(names, num_tokens, strict=True))

    def _next_keys(self, name: str, cursor: int) -> list[DocumentKey]:
        """Keys of the next documents of a source, from ``cursor`` on, within one pass over it."""
        count = len(self._sources[name].utterances)
        at_once = self._at_once[name]
        self._at_once[name] = min(2 * at_once, MOST_DOCUMENTS_AT_ONCE)
        places = np.arange(cursor, cursor + at_once) * self.plan.num_streams + self.stream
        epoch = int(places[0]) // count
        places = places[places < (epoch + 1) * count] - epoch * count
        return [DocumentKey(name, epoch, number) for number in self._order(name, epoch)[places].tolist()]

    def _order(self, name: str, epoch: int) -> PassOrder:
        """The order of one pass over a source; only the latest pass of each source is kept."""
        if self._orders.get(name, (-1,))[0] != epoch:
            utterances = self._sources[name].utterances
            # Of the name, not the number: a source keeps its order in any mix.
            named = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
            seed = [_ORDER_STREAM, self.plan.seed, named, epoch]
            sizes = getattr(utterances, "shard_sizes", ()) if self.plan.shuffle_shards else ()
            self._orders[name] = epoch, PassOrder(len(utterances), seed, self.plan.shuffle_shards, sizes)
        return self._orders[name][1]

    def _make(self, keys: Iterable[DocumentKey]) -> None:
        """Makes the documents of keys that have not been made yet."""
        new = [key for key in keys if key not in self._items]
        sources = [self._sources[key.source] for key in new]
        requests = [
            Request(source.kind, source.utterance(key.number, key.epoch), key.epoch)
            for source, key in zip(sources, new, strict=True)
        ]
        for key, whole in zip(new, self.plan.builder.documents(requests), strict=True):
            rest = rest_of_document(whole, key.first_token, self._markers, self._special_ids)
            self._items[key] = _Item(rest, len(whole))
