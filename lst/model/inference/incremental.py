"""The model one token at a time, with caches in all three modules. The backbone steps only when a patch is complete.

The result equals the parallel form: the same layers run on the same keys and values, but these come from caches.
Sequences of different lengths step together, each with its own positions and patches.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from lst.model.backbone import RECURRENT
from lst.model.batch import Document, Patches, pack_documents
from lst.model.inference.caches import KeyValueCache, RotationTable, StateCache
from lst.model.inference.compiled_layers import (
    MOST_ROWS,
    CompiledStack,
    Places,
    compile_head,
    compile_layers,
    compile_stack,
)
from lst.model.inference.patch_stepper import PatchStepper
from lst.model.layers import AttentionCore, Block, CrossAttention, Recorder

if TYPE_CHECKING:
    from lst.model.config import ModelConfig
    from lst.model.lst import LatentSpeechTextModel


def cached_windows(config: ModelConfig) -> dict[str, list[int | None]]:
    """Upper bound of the positions that a query sees, for each attention layer, by the names of ``Recorder``.

    None stands for no fixed bound.
    """
    global_windows = {"attention": None, "window_attention": config.global_window_patches}
    windows = {"backbone": [global_windows[mixer] for mixer in config.mixers if mixer not in RECURRENT]}
    if config.has_local_modules:
        windows["encoder.tokens"] = [config.window_tokens] * config.encoder_layers
        # The window is a number of patches; their number of tokens varies.
        windows["encoder.reads"] = [None] * config.encoder_layers
        windows["decoder.tokens"] = [config.window_tokens] * config.decoder_layers
        windows["decoder.reads"] = [config.decoder_window_patches * config.decoder_keys] * config.decoder_layers
    return windows


class DecodingState:
    """The caches of some documents: prompts are computed in parallel, and then continued token by token.

    Args:
        model: in evaluation mode.
        documents: prompts, each with a first token that is a patch of its own.
        patches: of each document; a last patch that closes late counts as open.
        steppers: of each document, at its end.

    Attributes:
        logits: float [S, V], of the token after each document.
        num_global_steps: steps of the backbone since the prompts, summed over sequences.
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
        compiled = compile_layers(model.modules())
        self._compiled = {layer: CompiledStack([own]) for layer, own in compiled.items()}
        self._compiled_backbone = compile_stack(model.backbone.blocks, compiled)
        decoder_layers = [] if model.decoder is None else model.decoder.layers()
        self._compiled_decoder = compile_stack(itertools.chain.from_iterable(decoder_layers), compiled)
        self._last_norm = model.norm if self.config.has_local_modules else model.backbone.norm
        self._compiled_head = compile_head(self._last_norm, model.head.weight)
        rotaries = {"backbone": model.backbone.rotary}
        if model.encoder is not None and model.decoder is not None:
            rotaries |= {"encoder": model.encoder.rotary, "decoder": model.decoder.rotary}
        self._rotations = {name: RotationTable(r, self.device) for name, r in rotaries.items() if r is not None}
        count = len(documents)
        mixers = self.config.mixers
        # A layer of the backbone has a state, or keys and values.
        self.states = [
            StateCache(block.mixer)
            for mixer, block in zip(mixers, model.backbone.blocks, strict=True)
            if mixer in RECURRENT
        ]
        self.caches = {
            name: [KeyValueCache(count, window) for window in windows]
            for name, windows in cached_windows(self.config).items()
        }
        # The first token of each patch, including the next one. Lists on the host, which sampling waits for anyway.
        self.patch_starts = [np.append(0, np.cumsum(cut.lengths)).tolist() for cut in patches]
        for starts, cut in zip(self.patch_starts, patches, strict=True):
            if cut.closes_late[-1]:
                starts.pop()
        self.positions = np.array([len(document) for document in documents])
        self._read_prompts(documents, patches)

    @property
    def num_sequences(self) -> int:
        """Number of sequences, S."""
        return len(self.steppers)

    @property
    def num_patches(self) -> np.ndarray:
        """Number of complete patches of each sequence, int64 [S]."""
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
        patch_starts = patch_ends - [len(cut) for cut in patches]
        # A last patch that closes late is not complete yet.
        of_patch = zip(patch_starts, patch_starts + self.num_patches, strict=True)
        spans = {True: list(of_patch), False: list(zip(token_ends - self.positions, token_ends, strict=True))}
        for name, recorded in recorder.keys_values.items():
            of_patches = name in ("backbone", "decoder.reads")
            for cache, (key, value) in zip(self.caches[name], recorded, strict=True):
                for sequence in range(self.num_sequences):
                    start, end = spans[of_patches][sequence]
                    if name == "decoder.reads":
                        start, end = start * self.config.decoder_keys, end * self.config.decoder_keys
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
        """Adds a token to every sequence, and returns the logits [S, V] of the next one.

        Args:
            token_ids: int [S].
            modalities: int [S].
        """
        decisions = [
            stepper.push(int(token), int(modality))
            for stepper, token, modality in zip(self.steppers, token_ids, modalities, strict=True)
        ]
        had_ended, complete = (np.array(column) for column in zip(*decisions, strict=True))
        states_SD = self.model.embedding(torch.from_numpy(np.asarray(token_ids, np.int64)).to(self.device))
        if self.model.encoder is None or self.model.decoder is None:
            self.positions += 1
            self.logits = self._head(self._step_backbone(states_SD, np.arange(self.num_sequences)))
            return self.logits
        self._close_patches(np.flatnonzero(had_ended))
        states_SD = self._step_encoder(states_SD)
        if (head := self.model.boundary_head) is not None:
            ends = (head(states_SD) > head.threshold).cpu().numpy()
            complete |= [stepper.decide(bool(end)) for stepper, end in zip(self.steppers, ends, strict=True)]
        self.positions += 1
        self._close_patches(np.flatnonzero(complete))
        self.logits = self._head(self._step_decoder(states_SD))
        return self.logits

    def _head(self, states_SD: torch.Tensor) -> torch.Tensor:
        """Logits [S, V] of states before the last norm."""
        if self._compiled_head is not None and len(states_SD) <= MOST_ROWS:
            return self._compiled_head.run(states_SD)
        return self.model.head(self._last_norm(states_SD))

    def _core(self, cache: KeyValueCache, places: Places, stores: bool) -> AttentionCore:
        """Attention of queries [n, H, D] or [n, K, H, D] to the positions of their sequences.

        With ``stores``, the keys and values of the last position are stored before.
        """
        sequences, first, last = places.sequences, places.first, places.last

        def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            if stores:
                cache.put(sequences, last, first, key, value)
            of_sequence = query if query.ndim == 4 else query[:, None]
            return cache.attend(of_sequence, sequences, first, last).view(query.shape)

        return attend

    def _run(
        self, layer: Block | CrossAttention, x: torch.Tensor, cache: KeyValueCache, places: Places
    ) -> torch.Tensor:
        """A layer over the positions of its cache; a block stores those of the last before."""
        compiled = self._compiled.get(layer)
        if compiled is not None and len(x) <= MOST_ROWS:
            return compiled.run(x, [cache], [places])
        core = self._core(cache, places, stores=isinstance(layer, Block))
        if isinstance(layer, CrossAttention):
            return layer.read(x, x, x, core)
        return layer(x, places.rotation, core)

    def _first_reads(self, sequences: np.ndarray) -> np.ndarray:
        """The first token that the encoder's queries of the open patch see, int64 [n], for some sequences."""
        starts = [self.patch_starts[sequence] for sequence in sequences]
        return np.array([own[max(len(own) - self.config.encoder_window_patches, 0)] for own in starts])

    def _step_encoder(self, states_SD: torch.Tensor) -> torch.Tensor:
        encoder = self.model.encoder
        assert encoder is not None
        everyone = np.arange(self.num_sequences)
        opens = np.array([starts[-1] for starts in self.patch_starts]) == self.positions
        first = np.maximum(self.positions - self.config.window_tokens + 1, 0)
        places = Places(everyone, first, self.positions, self._rotations["encoder"](self.positions))
        first_read = self._first_reads(everyone)
        for layer, (block, reader) in enumerate(encoder.layers()):
            cache = self.caches["encoder.tokens"][layer]
            states_SD = self._run(block, states_SD, cache, places)
            if layer == 0:
                opens_S1 = torch.from_numpy(opens).to(self.device)[:, None]
                self.pooled = torch.where(opens_S1, states_SD, torch.maximum(self.pooled, states_SD))
            self.caches["encoder.reads"][layer].put(
                everyone, self.positions, first_read, *reader.keys_values(states_SD)
            )
        return states_SD

    def _close_patches(self, sequences: np.ndarray) -> None:
        """Closes the open patch of some sequences at their last token: runs the encoder's queries and the backbone."""
        encoder, decoder = self.model.encoder, self.model.decoder
        if not len(sequences):
            return
        assert encoder is not None
        assert decoder is not None
        queries_nKD = encoder.first_queries(self.pooled[torch.from_numpy(sequences).to(self.device)])
        first = self._first_reads(sequences)
        places = Places(sequences, first, self.positions[sequences] - 1, num_queries=queries_nKD.shape[1])
        for layer, (_, reader) in enumerate(encoder.layers()):
            cache = self.caches["encoder.reads"][layer]
            queries_nKD = self._run(reader, queries_nKD, cache, places)
        out_nD = self._step_backbone(encoder.to_global(queries_nKD.flatten(1)), sequences)
        out_nD = self.model.backbone.norm(out_nD)
        first, last = self._context_keys(self.num_patches[sequences])
        states, num_keys = decoder.read_states(out_nD), self.config.decoder_keys
        for (reader, _), cache in zip(decoder.layers(), self.caches["decoder.reads"], strict=True):
            key, value = (x.unflatten(0, (-1, num_keys)) for x in reader.keys_values(states))
            for number in range(num_keys):
                cache.put(sequences, last - num_keys + 1 + number, first, key[:, number], value[:, number])

    def _context_keys(self, num_patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and last key, int64 [n] each, that the decoder reads where documents have ``num_patches`` [n]."""
        num_keys = self.config.decoder_keys
        first = np.maximum(num_patches - self.config.decoder_window_patches, 0)
        return num_keys * first, num_keys * num_patches - 1

    def _step_backbone(self, patches_nD: torch.Tensor, sequences: np.ndarray) -> torch.Tensor:
        """One step of the backbone without its last norm.

        A patch of each of some sequences goes through it, which ends before the current position.
        """
        backbone = self.model.backbone
        last = self.num_patches[sequences]
        rotation = None if backbone.rotary is None else self._rotations["backbone"](last)
        if backbone.positions is not None:
            patches_nD = patches_nD + backbone.positions(torch.from_numpy(last).to(self.device))
        windows = {"attention": last + 1, "window_attention": self.config.global_window_patches}
        places = {
            mixer: Places(sequences, np.maximum(last - window + 1, 0), last, rotation)
            for mixer, window in windows.items()
        }
        for sequence in sequences:
            self.patch_starts[sequence].append(int(self.positions[sequence]))
        self.num_global_steps += len(sequences)
        if self._compiled_backbone is not None and len(patches_nD) <= MOST_ROWS:
            of_layers = [places[mixer] for mixer in backbone.mixers]
            return self._compiled_backbone.run(patches_nD, self.caches["backbone"], of_layers)
        caches, states = iter(self.caches["backbone"]), iter(self.states)
        for mixer, block in zip(backbone.mixers, backbone.blocks, strict=True):
            if mixer in RECURRENT:
                patches_nD = block(patches_nD, partial(next(states).step, sequences))
            else:
                patches_nD = self._run(cast("Block", block), patches_nD, next(caches), places[mixer])
        return patches_nD

    def _step_decoder(self, states_SD: torch.Tensor) -> torch.Tensor:
        decoder = self.model.decoder
        assert decoder is not None
        everyone, last = np.arange(self.num_sequences), self.positions - 1
        first = np.maximum(last - self.config.window_tokens + 1, 0)
        of_tokens = Places(everyone, first, last, self._rotations["decoder"](last))
        of_reads = Places(everyone, *self._context_keys(self.num_patches))
        if self._compiled_decoder is not None and len(states_SD) <= MOST_ROWS:
            pairs = zip(self.caches["decoder.reads"], self.caches["decoder.tokens"], strict=True)
            of_layers = [of_reads, of_tokens] * len(self.caches["decoder.reads"])
            return self._compiled_decoder.run(states_SD, list(itertools.chain.from_iterable(pairs)), of_layers)
        for layer, (reader, block) in enumerate(decoder.layers()):
            reads, tokens = self.caches["decoder.reads"][layer], self.caches["decoder.tokens"][layer]
            states_SD = self._run(reader, states_SD, reads, of_reads)
            states_SD = self._run(block, states_SD, tokens, of_tokens)
        return states_SD

    def keep(self, sequences: Sequence[int]) -> None:
        """Drops all other sequences."""
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
