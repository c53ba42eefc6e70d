"""The endless stream of training batches, exact to resume.

What comes n-th is a pure function of the seed: the kind of the n-th document, the order of utterances in each pass, the
cuts of each document, the strategy of each batch. So the state is a few counters and the names of the documents that
wait in the packing buffer, kept as JSON; resuming makes those documents again and reads nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from lst.data.config import MixConfig
from lst.data.interleave import DocumentBuilder
from lst.data.packing import cut_document, fill_rows, rest_of_document, top_up_rows
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT, Document, PackedBatch, Patches, pack_documents
from lst.model.config import PatchingConfig
from lst.model.patching import patch_documents, strategy_of_batch

KINDS = ("interleaved", "text", "speech")
STATE_VERSION = 1
# A row takes a piece of a waiting document rather than leave a fiftieth of its slots empty.
LEAST_PIECE_SHARE = 50
# Draws of their own, so that no two uses of the seed are correlated.
_KIND_STREAM, _ORDER_STREAM = 0x51AD, 0x07DE


class DocumentKey(NamedTuple):
    """Names a document made of utterance ``number`` of its source, or the rest of one from ``first_token`` on."""

    kind: str
    epoch: int
    number: int
    first_token: int = 0


@dataclass
class StreamState:
    """Where a stream stands; JSON all through.

    Attributes:
        fingerprint: of data, settings and seed; a state continues only a stream with the same one.
        num_drawn: documents drawn so far.
        cursors: documents drawn of each kind.
        buffer: keys of the documents that wait to be packed, oldest first.
        batch_index: batches given out.
        num_slots, num_patches, num_tokens: totals given out; slots − patches is the waste of packing.
        num_cut: pieces of documents that were given out with a rest to come.
        num_speech_tokens: speech units among the tokens.
    """

    fingerprint: str
    num_drawn: int = 0
    cursors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    buffer: list[list[Any]] = field(default_factory=list)
    batch_index: int = 0
    num_slots: int = 0
    num_patches: int = 0
    num_tokens: int = 0
    num_cut: int = 0
    num_speech_tokens: int = 0
    version: int = STATE_VERSION

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> StreamState:
        if values.get("version") != STATE_VERSION:
            raise UserError(
                f"the loader's state has version {values.get('version')}, this project reads {STATE_VERSION}: "
                "start the training anew in another run_dir"
            )
        return cls(**values)


class BatchStream(Iterator[tuple[PackedBatch, StreamState]]):
    """Batches of ``num_rows`` rows of ``row_patches`` patches, each with the state after it.

    Args:
        spoken: aligned utterances of the training split.
        written: texts without speech; empty means that text documents are the transcripts of ``spoken``.
        builder: makes documents.
        mix: weights of the kinds of documents.
        patching: how documents are cut into patches.
        num_rows, row_patches: shape of a batch.
        num_batches: of the whole training; the curriculum is laid over it.
        pack_buffer: documents from which rows are filled.
        seed: of everything drawn.
        fingerprint: names data and settings, see ``StreamState``.
        state: where to go on; a new stream without.

    Raises:
        UserError: the state belongs to another stream, or a kind of document has no source.
    """

    def __init__(
        self,
        spoken: Sequence[Utterance],
        written: Sequence[Utterance],
        builder: DocumentBuilder,
        mix: MixConfig,
        patching: PatchingConfig,
        num_rows: int,
        row_patches: int,
        num_batches: int,
        pack_buffer: int,
        seed: int,
        fingerprint: str,
        state: StreamState | None = None,
    ) -> None:
        self.spoken, self.builder, self.patching = spoken, builder, patching
        self.written = written if len(written) else spoken
        self.num_rows, self.row_patches, self.num_batches = num_rows, row_patches, num_batches
        self.pack_buffer, self.seed = max(pack_buffer, num_rows), seed
        weights = np.array([getattr(mix, kind) for kind in KINDS], float)
        self._thresholds = np.cumsum(weights / weights.sum())
        if not len(self.written):
            raise UserError("there is neither speech nor text to train on: prepare a corpus with training utterances")
        if not len(spoken) and (mix.interleaved or mix.speech):
            raise UserError("the training split holds no aligned speech: set data.mix.interleaved=0 data.mix.speech=0")
        if state is not None and state.fingerprint != fingerprint:
            raise UserError(
                f"the checkpoint's loader state belongs to other data or settings ({state.fingerprint}, these are "
                f"{fingerprint}): resume with what it was started with, or start anew in another run_dir"
            )
        self.state = state if state is not None else StreamState(fingerprint)
        self._documents: dict[DocumentKey, Document] = {}
        self._cuts: dict[DocumentKey, dict[str, Patches]] = {}
        self._orders: dict[tuple[str, int], np.ndarray] = {}
        self._markers = {TEXT: builder.vocabulary.text_id, SPEECH: builder.vocabulary.speech_id}
        self._special_ids = {*self._markers.values(), builder.vocabulary.eos_id}

    def __next__(self) -> tuple[PackedBatch, StreamState]:
        state = StreamState.from_json(self.state.to_json())
        strategy = strategy_of_batch(self.patching, self.seed, state.batch_index, self.num_batches)
        keys = [DocumentKey(*key) for key in state.buffer]
        # The buffer is filled before it is cut: all documents at once are cut much faster than one by one.
        keys += [self._draw(state) for _ in range(self.pack_buffer - len(keys))]
        patches = self._cut(keys, strategy)
        # Enough for every row, whatever documents and patches are like, and as much again to choose from.
        wanted = 2 * self.num_rows * self.row_patches
        num_waiting = sum(min(len(cut), self.row_patches) for cut in patches)
        while num_waiting < wanted:
            keys.append(self._draw(state))
            patches += self._cut(keys[-1:], strategy)
            num_waiting += min(len(patches[-1]), self.row_patches)
        documents = [self._document(key) for key in keys]
        sizes = [len(cut) for cut in patches]
        rows = fill_rows([min(size, self.row_patches) for size in sizes], self.row_patches, self.num_rows)
        parts = top_up_rows(rows, sizes, self.row_patches, max(2, self.row_patches // LEAST_PIECE_SHARE))
        packed = [
            [
                (documents[index], patches[index])
                if count == sizes[index]
                else cut_document(documents[index], patches[index], count)
                for index, count in row
            ]
            for row in parts
        ]
        rests = [
            self._rest_key(keys[index], len(document))
            for row, cut_row in zip(parts, packed, strict=True)
            for (index, _), (document, _) in zip(row, cut_row, strict=True)
        ]
        taken = {index for row in parts for index, _ in row}
        waiting = [key for key in rests if key] + [key for index, key in enumerate(keys) if index not in taken]
        for index in taken:
            self._documents.pop(keys[index], None)
            self._cuts.pop(keys[index], None)
        batch = pack_documents(packed, self.row_patches)
        state.buffer = [list(key) for key in waiting]
        state.batch_index += 1
        state.num_slots += batch.num_slots
        state.num_patches += batch.num_patches
        state.num_tokens += batch.num_tokens
        state.num_cut += sum(key is not None for key in rests)
        state.num_speech_tokens += int((batch.modalities == SPEECH).sum())
        self.state = state
        return batch, state

    def _cut(self, keys: list[DocumentKey], strategy: str) -> list[Patches]:
        """Patches of documents; what waits from an earlier batch is not cut again."""
        new = [key for key in keys if strategy not in self._cuts.get(key, {})]
        cuts = patch_documents([self._document(key) for key in new], strategy, self.patching)
        for key, patches in zip(new, cuts, strict=True):
            self._cuts.setdefault(key, {})[strategy] = patches
        return [self._cuts[key][strategy] for key in keys]

    def _draw(self, state: StreamState) -> DocumentKey:
        """The key of the next document."""
        draw = np.random.default_rng([_KIND_STREAM, self.seed, state.num_drawn]).random()
        kind = KINDS[int(np.searchsorted(self._thresholds, draw, side="right"))]
        source = self.written if kind == "text" else self.spoken
        epoch, place = divmod(state.cursors[kind], len(source))
        state.num_drawn += 1
        state.cursors[kind] += 1
        return DocumentKey(kind, epoch, int(self._order(kind, epoch, len(source))[place]))

    def _order(self, kind: str, epoch: int, count: int) -> np.ndarray:
        """The order of one pass over a source; only the latest pass of each kind is kept."""
        if (kind, epoch) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[0] != kind}
            generator = np.random.default_rng([_ORDER_STREAM, self.seed, KINDS.index(kind), epoch])
            self._orders[kind, epoch] = generator.permutation(count)
        return self._orders[kind, epoch]

    def _document(self, key: DocumentKey) -> Document:
        if key not in self._documents:
            self._documents[key] = rest_of_document(self._whole(key), key.first_token, self._markers, self._special_ids)
        return self._documents[key]

    def _whole(self, key: DocumentKey) -> Document:
        if key.kind == "text":
            return self.builder.text(self.written[key.number])
        if key.kind == "speech":
            return self.builder.speech(self.spoken[key.number])
        return self.builder.interleaved(self.spoken[key.number], key.epoch)

    def _rest_key(self, key: DocumentKey, num_packed: int) -> DocumentKey | None:
        """The key of what is left of a document after its first ``num_packed`` tokens; None when nothing is."""
        left = len(self._document(key)) - num_packed
        # A rest of one token, the end, has nothing to predict.
        return key._replace(first_token=len(self._whole(key)) - left) if left > 1 else None
