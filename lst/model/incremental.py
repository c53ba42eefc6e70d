"""The model one token at a time, with caches in all three modules; the backbone steps only when a patch closes.

What it gives equals the parallel form: the same layers run, on the same keys and values, which are kept instead of
being computed anew. Sequences of different lengths step together; each has its own positions and its own patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from lst.model.batch import Document, Patches, pack_documents
from lst.model.layers import AttentionCore, Recorder
from lst.model.patch_stepper import PatchStepper

if TYPE_CHECKING:
    from lst.model.lst import LatentSpeechTextModel

_LEAST_CAPACITY = 64


class KeyValueCache:
    """Keys and values of one layer, [S, G, capacity, D], which grow as they fill up; sequence s begins at 0."""

    def __init__(self, num_sequences: int) -> None:
        self.num_sequences = num_sequences
        self.key: torch.Tensor | None = None
        self.value: torch.Tensor | None = None

    def _reserve(self, wanted: int, like: torch.Tensor) -> None:
        capacity = 0 if self.key is None else self.key.shape[2]
        if wanted <= capacity:
            return
        shape = (self.num_sequences, like.shape[-2], max(wanted, 2 * capacity, _LEAST_CAPACITY), like.shape[-1])
        for name in ("key", "value"):
            grown = like.new_zeros(shape)
            if capacity:
                grown[:, :, :capacity] = getattr(self, name)
            setattr(self, name, grown)

    def fill(self, sequence: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Sets the first n places of a sequence, from [n, G, D]."""
        self._reserve(len(key), key)
        assert self.key is not None
        assert self.value is not None
        self.key[sequence, :, : len(key)] = key.transpose(0, 1)
        self.value[sequence, :, : len(key)] = value.transpose(0, 1)

    def put(self, sequences: np.ndarray, places: np.ndarray, key: torch.Tensor, value: torch.Tensor) -> None:
        """Sets one place of each of some sequences, from [n, G, D]."""
        self._reserve(int(places.max()) + 1, key)
        assert self.key is not None
        assert self.value is not None
        if len(sequences) == self.num_sequences and (places == places[0]).all():
            # Everyone at one place: a plain slice, which costs a fraction of an indexed write.
            self.key[:, :, places[0]], self.value[:, :, places[0]] = key, value
            return
        rows, columns = (torch.from_numpy(index).to(key.device) for index in (sequences, places))
        self.key[rows, :, columns], self.value[rows, :, columns] = key, value

    def attend(self, query: torch.Tensor, sequences: np.ndarray, first: np.ndarray, last: np.ndarray) -> torch.Tensor:
        """Queries [n, Q, H, D], one group a sequence, see its places ``first`` … ``last`` (inclusive)."""
        assert self.key is not None
        assert self.value is not None
        low, high = int(first.min()), int(last.max()) + 1
        key, value = self.key[:, :, low:high], self.value[:, :, low:high]
        if len(sequences) < self.num_sequences:
            rows = torch.from_numpy(sequences).to(query.device)
            key, value = key[rows], value[rows]
        # Written out: on the CPU a fused attention spends more on its threads than on one query.
        num_queries, head_dim = query.shape[1], query.shape[3]
        grouped = query.view(len(query), num_queries, key.shape[1], -1, head_dim).transpose(1, 2)
        scores = grouped.reshape(len(query), key.shape[1], -1, head_dim) @ key.transpose(-1, -2)
        scores *= head_dim**-0.5
        if (first > low).any() or (last < high - 1).any():
            places = np.arange(low, high)
            unseen = (places < first[:, None]) | (places > last[:, None])
            scores.masked_fill_(torch.from_numpy(unseen[:, None, None]).to(query.device), float("-inf"))
        out = (scores.softmax(dim=-1) @ value).view(len(query), key.shape[1], num_queries, -1, head_dim)
        return out.transpose(1, 2).reshape(query.shape)

    def keep(self, sequences: torch.Tensor) -> None:
        """Drops all other sequences."""
        self.num_sequences = len(sequences)
        if self.key is not None and self.value is not None:
            self.key, self.value = self.key[sequences], self.value[sequences]


class DecodingState:
    """Some documents, computed in parallel so far, that go on token by token.

    Args:
        model: in evaluation mode.
        documents: prompts, each opening with a token that is a patch of its own.
        patches: of each document; a last patch that closes late counts as open.
        steppers: of each document, at its end.

    Attributes:
        logits: float [S, V], of the token after each document.
        num_global_steps: patches that the backbone has stepped through since the prompts.
    """

    def __init__(
        self,
        model: LatentSpeechTextModel,
        documents: Sequence[Document],
        patches: Sequence[Patches],
        steppers: Sequence[PatchStepper],
    ) -> None:
        self.model, self.config, self.steppers = model, model.config, list(steppers)
        self.device = model.head.weight.device
        self.num_global_steps = 0
        count = len(documents)
        layers = {"backbone": self.config.global_layers}
        if self.config.has_local_modules:
            layers |= dict.fromkeys(("encoder.tokens", "encoder.reads"), self.config.encoder_layers)
            layers |= dict.fromkeys(("decoder.tokens", "decoder.reads"), self.config.decoder_layers)
        self.caches = {name: [KeyValueCache(count) for _ in range(depth)] for name, depth in layers.items()}
        # The first token of each patch, the one that comes next included: host lists, which sampling needs anyway.
        self.patch_starts = [np.append(0, np.cumsum(cut.lengths)).tolist() for cut in patches]
        for starts, cut in zip(self.patch_starts, patches, strict=True):
            if cut.closes_late[-1]:
                starts.pop()
        self.positions = np.array([len(document) for document in documents])
        self._read_prompts(documents, patches)

    @property
    def num_sequences(self) -> int:
        return len(self.steppers)

    @property
    def num_patches(self) -> np.ndarray:
        """Complete patches of each sequence, int64 [S]."""
        return np.array([len(starts) - 1 for starts in self.patch_starts])

    @torch.no_grad()
    def _read_prompts(self, documents: Sequence[Document], patches: Sequence[Patches]) -> None:
        rows = [[pair] for pair in zip(documents, patches, strict=True)]
        batch = pack_documents(rows, max(map(len, patches))).to(self.device)
        recorder = Recorder()
        hidden_ND = self.model.hidden(batch, recorder)
        token_ends = np.cumsum(self.positions)
        self.logits = self.model.head(hidden_ND[torch.from_numpy(token_ends - 1).to(self.device)])
        patch_ends = np.cumsum([len(cut) for cut in patches])
        for name, recorded in recorder.keys_values.items():
            of_patches = name in ("backbone", "decoder.reads")
            for cache, (key, value) in zip(self.caches[name], recorded, strict=True):
                for sequence in range(self.num_sequences):
                    if of_patches:
                        start = patch_ends[sequence] - len(patches[sequence])
                        end = start + self.num_patches[sequence]
                    else:
                        end = token_ends[sequence]
                        start = end - self.positions[sequence]
                    cache.fill(sequence, key[start:end], value[start:end])
        if self.config.has_local_modules:
            first_ND = recorder.states["encoder.first"]
            self.pooled = first_ND.new_zeros(self.num_sequences, first_ND.shape[1])
            for sequence, (end, length) in enumerate(zip(token_ends, self.positions, strict=True)):
                open_from = end - length + self.patch_starts[sequence][-1]
                if open_from < end:
                    self.pooled[sequence] = first_ND[open_from:end].amax(dim=0)

    @torch.no_grad()
    def step(self, token_ids: np.ndarray, modalities: np.ndarray) -> torch.Tensor:
        """Adds a token, int [S], to every sequence; gives the logits [S, V] of the one after it."""
        decisions = [
            stepper.push(int(token), int(modality))
            for stepper, token, modality in zip(self.steppers, token_ids, modalities, strict=True)
        ]
        had_ended, complete = (np.array(column) for column in zip(*decisions, strict=True))
        states_SD = self.model.embedding(torch.from_numpy(np.asarray(token_ids, np.int64)).to(self.device))
        if self.model.encoder is None or self.model.decoder is None:
            self.positions += 1
            self.logits = self.model.head(self._step_backbone(states_SD, np.arange(self.num_sequences)))
            return self.logits
        self._close_patches(np.flatnonzero(had_ended))
        states_SD = self._step_encoder(states_SD)
        self.positions += 1
        self._close_patches(np.flatnonzero(complete))
        self.logits = self.model.head(self.model.norm(self._step_decoder(states_SD)))
        return self.logits

    def _core(
        self, cache: KeyValueCache, sequences: np.ndarray, places: np.ndarray, first: np.ndarray
    ) -> AttentionCore:
        """Attention that first stores the keys and values of one place of each sequence."""

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            cache.put(sequences, places, key, value)
            return cache.attend(query[:, None], sequences, first, places)[:, 0]

        return attend

    def _reading_core(
        self, cache: KeyValueCache, sequences: np.ndarray, first: np.ndarray, last: np.ndarray
    ) -> AttentionCore:
        """Attention of queries [n, H, D] or [n, K, H, D] to what is stored."""

        def attend(query: torch.Tensor, _key: torch.Tensor, _value: torch.Tensor) -> torch.Tensor:
            of_sequence = query if query.ndim == 4 else query[:, None]
            return cache.attend(of_sequence, sequences, first, last).view(query.shape)

        return attend

    def _step_encoder(self, states_SD: torch.Tensor) -> torch.Tensor:
        encoder = self.model.encoder
        assert encoder is not None
        everyone = np.arange(self.num_sequences)
        opens = np.array([starts[-1] for starts in self.patch_starts]) == self.positions
        rotation = encoder.rotary(torch.from_numpy(self.positions).to(self.device))
        first = np.maximum(self.positions - self.config.window_tokens + 1, 0)
        for layer, (block, reader) in enumerate(encoder.layers()):
            core = self._core(self.caches["encoder.tokens"][layer], everyone, self.positions, first)
            states_SD = block(states_SD, rotation, core)
            if layer == 0:
                opens_S1 = torch.from_numpy(opens).to(self.device)[:, None]
                self.pooled = torch.where(opens_S1, states_SD, torch.maximum(self.pooled, states_SD))
            self.caches["encoder.reads"][layer].put(everyone, self.positions, *reader.keys_values(states_SD))
        return states_SD

    def _close_patches(self, sequences: np.ndarray) -> None:
        """Runs encoder readers and backbone for the open patch of some sequences, which ends at their last token."""
        encoder, decoder = self.model.encoder, self.model.decoder
        if not len(sequences):
            return
        assert encoder is not None
        assert decoder is not None
        queries_nKD = encoder.first_queries(self.pooled[torch.from_numpy(sequences).to(self.device)])
        window = self.config.encoder_window_patches
        first = np.array([self.patch_starts[s][max(len(self.patch_starts[s]) - window, 0)] for s in sequences])
        last = self.positions[sequences] - 1
        for layer, (_, reader) in enumerate(encoder.layers()):
            core = self._reading_core(self.caches["encoder.reads"][layer], sequences, first, last)
            queries_nKD = reader.read(queries_nKD, queries_nKD, queries_nKD, core)
        out_nD = self._step_backbone(encoder.to_global(queries_nKD.flatten(1)), sequences)
        for (reader, _), cache in zip(decoder.layers(), self.caches["decoder.reads"], strict=True):
            cache.put(sequences, self.num_patches[sequences] - 1, *reader.keys_values(out_nD))

    def _step_backbone(self, patches_nD: torch.Tensor, sequences: np.ndarray) -> torch.Tensor:
        """One patch of each of some sequences, which ends before the current position."""
        backbone = self.model.backbone
        places = self.num_patches[sequences]
        rotation = backbone.rotary(torch.from_numpy(places).to(self.device))
        for block, cache in zip(backbone.blocks, self.caches["backbone"], strict=True):
            patches_nD = block(patches_nD, rotation, self._core(cache, sequences, places, np.zeros_like(places)))
        for sequence in sequences:
            self.patch_starts[sequence].append(int(self.positions[sequence]))
        self.num_global_steps += len(sequences)
        return backbone.norm(patches_nD)

    def _step_decoder(self, states_SD: torch.Tensor) -> torch.Tensor:
        decoder = self.model.decoder
        assert decoder is not None
        everyone, places = np.arange(self.num_sequences), self.positions - 1
        rotation = decoder.rotary(torch.from_numpy(places).to(self.device))
        first = np.maximum(places - self.config.window_tokens + 1, 0)
        last_patch = self.num_patches - 1
        first_patch = np.maximum(last_patch - self.config.decoder_window_patches + 1, 0)
        for layer, (reader, block) in enumerate(decoder.layers()):
            reading = self._reading_core(self.caches["decoder.reads"][layer], everyone, first_patch, last_patch)
            states_SD = reader.read(states_SD, states_SD, states_SD, reading)
            states_SD = block(
                states_SD, rotation, self._core(self.caches["decoder.tokens"][layer], everyone, places, first)
            )
        return states_SD

    def keep(self, sequences: Sequence[int]) -> None:
        """Goes on with these sequences alone."""
        index = torch.tensor(list(sequences), device=self.device)
        for caches in self.caches.values():
            for cache in caches:
                cache.keep(index)
        self.steppers = [self.steppers[s] for s in sequences]
        self.patch_starts = [self.patch_starts[s] for s in sequences]
        self.positions = self.positions[list(sequences)]
        self.logits = self.logits[index]
        if self.config.has_local_modules:
            self.pooled = self.pooled[index]
