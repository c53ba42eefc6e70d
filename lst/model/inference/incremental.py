"""The model one token at a time, with caches in all three modules; the backbone steps only when a patch closes.

What it gives equals the parallel form: the same layers run, on the same keys and values, which are kept instead of
being computed anew. Sequences of different lengths step together; each has its own positions and its own patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lst.model.backbone import RECURRENT
from lst.model.batch import Document, Patches, pack_documents
from lst.model.inference.caches import KeyValueCache, StateCache
from lst.model.inference.patch_stepper import PatchStepper
from lst.model.layers import AttentionCore, Recorder
from lst.model.state_space import Recurrence

if TYPE_CHECKING:
    from lst.model.config import ModelConfig
    from lst.model.lst import LatentSpeechTextModel


def cached_windows(config: ModelConfig) -> dict[str, list[int | None]]:
    """How many places a query of each attention layer sees at most, by the names of ``Recorder``; None: no fixed
    number."""
    global_windows = {"attention": None, "window_attention": config.global_window_patches}
    windows = {"backbone": [global_windows[mixer] for mixer in config.mixers if mixer not in RECURRENT]}
    if config.has_local_modules:
        windows["encoder.tokens"] = [config.window_tokens] * config.encoder_layers
        # A fixed number of patches, of as many tokens as they come to.
        windows["encoder.reads"] = [None] * config.encoder_layers
        windows["decoder.tokens"] = [config.window_tokens] * config.decoder_layers
        windows["decoder.reads"] = [config.decoder_window_patches] * config.decoder_layers
    return windows


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
        mixers = self.config.mixers
        # A layer of the backbone keeps keys and values, or a state.
        self.states = [
            StateCache(block.mixer)
            for mixer, block in zip(mixers, model.backbone.blocks, strict=True)
            if mixer in RECURRENT
        ]
        self.caches = {
            name: [KeyValueCache(count, window) for window in windows]
            for name, windows in cached_windows(self.config).items()
        }
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
        recorder = Recorder(torch.from_numpy(self.num_patches).to(self.device))
        hidden_ND = self.model.hidden(batch, recorder)
        token_ends = np.cumsum(self.positions)
        self.logits = self.model.head(hidden_ND[torch.from_numpy(token_ends - 1).to(self.device)])
        patch_ends = np.cumsum([len(cut) for cut in patches])
        first_reads = self._first_reads(np.arange(self.num_sequences))
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
                    first = int(first_reads[sequence]) if name == "encoder.reads" else 0
                    cache.fill(sequence, key[start:end], value[start:end], first)
        for states, recurrent in zip(self.states, recorder.recurrent, strict=True):
            states.fill(recurrent)
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
            cache.put(sequences, places, first, key, value)
            return cache.attend(query[:, None], sequences, first, places)[:, 0]

        return attend

    def _recurrence(self, states: StateCache, sequences: np.ndarray) -> Recurrence:
        """The step form of recurrent mixers."""

        def recur(_mixer: Any, *inputs: torch.Tensor) -> torch.Tensor:
            return states.step(sequences, *inputs)

        return recur

    def _reading_core(
        self, cache: KeyValueCache, sequences: np.ndarray, first: np.ndarray, last: np.ndarray
    ) -> AttentionCore:
        """Attention of queries [n, H, D] or [n, K, H, D] to what is stored."""

        def attend(query: torch.Tensor, _key: torch.Tensor, _value: torch.Tensor) -> torch.Tensor:
            of_sequence = query if query.ndim == 4 else query[:, None]
            return cache.attend(of_sequence, sequences, first, last).view(query.shape)

        return attend

    def _first_reads(self, sequences: np.ndarray) -> np.ndarray:
        """The first token that the encoder's readers see when the open patch closes, int64 [n], of some sequences."""
        starts = [self.patch_starts[sequence] for sequence in sequences]
        return np.array([own[max(len(own) - self.config.encoder_window_patches, 0)] for own in starts])

    def _step_encoder(self, states_SD: torch.Tensor) -> torch.Tensor:
        encoder = self.model.encoder
        assert encoder is not None
        everyone = np.arange(self.num_sequences)
        opens = np.array([starts[-1] for starts in self.patch_starts]) == self.positions
        rotation = encoder.rotary(torch.from_numpy(self.positions).to(self.device))
        first = np.maximum(self.positions - self.config.window_tokens + 1, 0)
        first_read = self._first_reads(everyone)
        for layer, (block, reader) in enumerate(encoder.layers()):
            core = self._core(self.caches["encoder.tokens"][layer], everyone, self.positions, first)
            states_SD = block(states_SD, rotation, core)
            if layer == 0:
                opens_S1 = torch.from_numpy(opens).to(self.device)[:, None]
                self.pooled = torch.where(opens_S1, states_SD, torch.maximum(self.pooled, states_SD))
            self.caches["encoder.reads"][layer].put(
                everyone, self.positions, first_read, *reader.keys_values(states_SD)
            )
        return states_SD

    def _close_patches(self, sequences: np.ndarray) -> None:
        """Runs encoder readers and backbone for the open patch of some sequences, which ends at their last token."""
        encoder, decoder = self.model.encoder, self.model.decoder
        if not len(sequences):
            return
        assert encoder is not None
        assert decoder is not None
        queries_nKD = encoder.first_queries(self.pooled[torch.from_numpy(sequences).to(self.device)])
        first = self._first_reads(sequences)
        last = self.positions[sequences] - 1
        for layer, (_, reader) in enumerate(encoder.layers()):
            core = self._reading_core(self.caches["encoder.reads"][layer], sequences, first, last)
            queries_nKD = reader.read(queries_nKD, queries_nKD, queries_nKD, core)
        out_nD = self._step_backbone(encoder.to_global(queries_nKD.flatten(1)), sequences)
        places = self.num_patches[sequences] - 1
        first = np.maximum(places - self.config.decoder_window_patches + 1, 0)
        for (reader, _), cache in zip(decoder.layers(), self.caches["decoder.reads"], strict=True):
            cache.put(sequences, places, first, *reader.keys_values(out_nD))

    def _step_backbone(self, patches_nD: torch.Tensor, sequences: np.ndarray) -> torch.Tensor:
        """One patch of each of some sequences, which ends before the current position."""
        backbone = self.model.backbone
        places = self.num_patches[sequences]
        patches_nD, rotation = backbone.place(patches_nD, torch.from_numpy(places).to(self.device))
        windows = {"attention": places + 1, "window_attention": self.config.global_window_patches}
        caches, states = iter(self.caches["backbone"]), iter(self.states)
        for mixer, block in zip(backbone.mixers, backbone.blocks, strict=True):
            if mixer in RECURRENT:
                patches_nD = block(patches_nD, self._recurrence(next(states), sequences))
            else:
                first = np.maximum(places - windows[mixer] + 1, 0)
                patches_nD = block(patches_nD, rotation, self._core(next(caches), sequences, places, first))
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
        for states in self.states:
            states.keep(index)
        self.steppers = [self.steppers[s] for s in sequences]
        self.patch_starts = [self.patch_starts[s] for s in sequences]
        self.positions = self.positions[list(sequences)]
        self.logits = self.logits[index]
        if self.config.has_local_modules:
            self.pooled = self.pooled[index]
