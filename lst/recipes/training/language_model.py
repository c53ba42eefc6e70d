"""The module of ``lst train``: a language model over text and speech, in patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from lst.configs.schema import TrainConfig
from lst.data.batches import LoaderState
from lst.model.batch import PackedBatch
from lst.model.flops import model_flops, workload_of_batch
from lst.model.loss_config import LossConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import regrouped_state
from lst.parallel import ALONE, Ranks
from lst.recipes.training.module import TrainingModule
from lst.recipes.training.parts import Part
from lst.recipes.training.schedule import learning_rate_share
from lst.recipes.training.sources import HeldOutSize
from lst.recipes.training.strategies import cut_again
from lst.runs.formats import LanguageModelRow

# Of a batch, in errors.
MAX_SHOWN_DOCUMENTS = 20


_COUNTS = ("num_tokens", "num_patches", "num_slots", "num_speech_tokens", "num_cut")


@dataclass
class WatchedPart:
    """What names the documents of a part if its numbers are not finite.

    Attributes:
        batch_index, place, before: of the part.
        are_finite: whether its loss, and the gradient of its embeddings, are finite, bool [] each.
    """

    batch_index: int
    place: int
    before: LoaderState | None
    are_finite: list[torch.Tensor] = field(default_factory=list)

    @property
    def is_faulty(self) -> bool:
        """Whether one of them is not."""
        return not all(map(bool, self.are_finite))


class LanguageModelModule(TrainingModule):
    """Trains on the mean cross-entropy; validates by bits a speech unit and bits a text byte.

    Parts of batches come with the state that the loader had after them. Checkpoints keep the state of the last one that
    was used, because the loader is ahead of the training.

    Args:
        model: the model.
        config: options of the training.
        loss_config: weights of the loss.
        text_bytes: bytes of the text in the validation batches.
        num_text: text pieces of the vocabulary; ids from here on are no text.
        num_valid_units: units of the speech in the validation batches (a token may hold several); 0 for text alone.
        seed: of dropout.
        document_ids: the documents of the part with this number, made again from the state of a part before it.
        saved_rates: peak learning rate and weight decay that the checkpoint to go on from was written with.
        ranks: processes that train the model together.
        more_metrics: computes more of every validation, on all ranks alike.
        read_every: steps between readings of the loss.
        sources: units and bytes of text in the validation batches of each source of the data, in the order of
            ``doc_source_ids``; empty where there is one.
    """

    model: LatentSpeechTextModel
    options: TrainConfig

    def __init__(
        self,
        model: LatentSpeechTextModel,
        config: TrainConfig,
        loss_config: LossConfig,
        text_bytes: int,
        num_text: int,
        num_valid_units: int,
        seed: int = 0,
        document_ids: Callable[[LoaderState | None, int], list[str]] | None = None,
        saved_rates: tuple[float, float] | None = None,
        ranks: Ranks = ALONE,
        more_metrics: Callable[[], dict[str, float]] | None = None,
        read_every: int = 1,
        sources: Mapping[str, HeldOutSize] | None = None,
    ) -> None:
        super().__init__(
            model,
            config,
            lambda step: learning_rate_share(step, config),
            lambda step: _drawn_seed(seed, step),
            # float16's scaler would take a fused update for one that scales gradients back itself, before clipping.
            fused=config.precision != "16-mixed",
            max_skipped_updates=config.max_skipped_updates if config.on_nonfinite == "skip" else 0,
            num_parts=config.num_parts,
            ranks=ranks,
            read_every=read_every,
        )
        self.seed = seed
        self.loss_config = loss_config
        self.text_bytes, self.num_text, self.num_valid_units = text_bytes, num_text, num_valid_units
        # Shapes differ from batch to batch: static ones would be compiled anew for each.
        compiles = config.compile and config.compile_by == "loss"
        self._compiled_loss = torch.compile(model.training_loss, dynamic=True) if compiles else None
        self.loader_state: LoaderState | None = None
        self._document_ids, self._saved_rates = document_ids, saved_rates
        self._parts: list[WatchedPart] = []
        if ranks.size > 1 and not compiles:
            model.embedding.register_forward_hook(self._watch_gradient)
        # What the first rank counts for all.
        self._counted_elsewhere = [0] * len(_COUNTS)
        self.training_flops = 0.0
        self._own_counts: list[float] = []
        self.sources = sources or {}
        self.num_sources = max(1, len(self.sources))
        # Of the last step's parts: nats, then targets, in speech and in text of each source, [2, sources, 2].
        self._watched = torch.zeros(2, self.num_sources, 2)
        self._valid_nats = torch.zeros(self.num_sources, 2, dtype=torch.float64)
        self._more_metrics = more_metrics
        self._more_valid: dict[str, float] = {}

    @property
    def batch_index(self) -> int:
        """Number of the last training batch, from 1; batches that were left out count."""
        return self.loader_state.batch_index // self.num_parts if self.loader_state else 0

    def describe_batch(self) -> str:
        """The documents of the last training batch; of several ranks, those of the ranks that are at fault."""
        if self._document_ids is None:
            return ""
        if self.ranks.size == 1:
            return f" ({self._described(self._parts)})"
        own = [watched for watched in self._parts if watched.is_faulty]
        told = self.ranks.gather(self._described(own) if own else "")
        if not any(told):
            told = self.ranks.gather(self._described(self._parts))
        return f" ({'; '.join(f'rank {rank}: {ids}' for rank, ids in enumerate(told) if ids)})"

    def _described(self, parts: Sequence[WatchedPart]) -> str:
        assert self._document_ids is not None
        ids: dict[str, None] = {}
        for part in parts:
            number = (part.batch_index - 1) * self.num_parts + part.place + 1
            ids |= dict.fromkeys(self._document_ids(part.before, number))
        more = f" and {len(ids) - MAX_SHOWN_DOCUMENTS} more" if len(ids) > MAX_SHOWN_DOCUMENTS else ""
        return f"documents {', '.join(list(ids)[:MAX_SHOWN_DOCUMENTS])}{more}"

    def _watch_gradient(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        """Notes whether the gradient of the embeddings is finite: before it is mixed with those of other ranks."""
        if output.requires_grad and self._parts:
            noted = self._parts[-1].are_finite
            output.register_hook(lambda gradient: noted.append(gradient.isfinite().all()))

    def kept_of_step(self) -> tuple[list[WatchedPart], torch.Tensor, list[float]]:
        """The parts, what is watched of them on the device, and the counts of this rank so far."""
        own = zip(_totals(self.loader_state), self._counted_elsewhere, strict=True)
        return self._parts, self._watched, [*(now - elsewhere for now, elsewhere in own), self.training_flops]

    def recall(self, kept: tuple[list[WatchedPart], torch.Tensor, list[float]]) -> None:
        """Inverse of ``kept_of_step``."""
        self._parts, self._watched, self._own_counts = kept

    def step_row(self, step: int, loss: float) -> LanguageModelRow:
        """Adds what the loaders and the FLOP counters of all ranks say."""
        *counts, flops = self.ranks.sums(self._own_counts)
        tokens, patches, slots, speech_tokens, cut_documents = map(int, counts)
        watched = torch.tensor(self.ranks.sums(self._watched.flatten().tolist()), dtype=torch.float64)
        nats, num_targets = watched.view(self._watched.shape)
        (speech_nats, text_nats), (num_speech, num_text) = nats.sum(0).tolist(), num_targets.sum(0).tolist()
        row: LanguageModelRow = {
            **super().step_row(step, loss),
            "speech_loss": _mean(speech_nats, num_speech),
            "text_loss": _mean(text_nats, num_text),
            "tokens": tokens,
            "patches": patches,
            "slots": slots,
            "packing_waste": 1 - patches / slots if slots else 0.0,
            "speech_tokens": speech_tokens,
            "cut_documents": cut_documents,
            "training_flops": flops,
        }
        if self.sources:
            by_source = zip(self.sources, nats.sum(1).tolist(), num_targets.sum(1).tolist(), strict=True)
            counted = {name: (own, int(count)) for name, own, count in by_source}
            row["source_losses"] = {name: _mean(*own) for name, own in counted.items()}
            row["source_targets"] = {name: count for name, (_, count) in counted.items()}
        return row

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch; counts the FLOPs of a training batch on the host, so that no step waits for the device."""
        if isinstance(batch, Part):
            work = workload_of_batch(batch.packed, self.model.config)
            batch = replace(batch, flops=model_flops(self.model.config, self.model.vocab_size, work).training)
        return batch.to(device)

    def seed_of(self, batch: Part) -> int:
        """Of the seed, the step and the place of the part: the same on any number of devices."""
        return _drawn_seed(self.seed, self.global_step, *([batch.place] if batch.place else []))

    def batch_loss(self, batch: Part) -> torch.Tensor:
        """Weighted mean cross-entropy, in nats a target."""
        self.loader_state = batch.state
        self.training_flops += batch.flops
        if self._parts and self._parts[0].batch_index != batch.batch_index:
            self._parts = []
        if not self._parts:
            shape, device = (2, self.num_sources, 2), batch.packed.token_ids.device
            self._watched = torch.zeros(shape, dtype=torch.float64, device=device)
        watched = WatchedPart(batch.batch_index, batch.place, batch.before)
        self._parts.append(watched)
        # Here, because a compiled loss does not check.
        self.model.check_batch(batch.packed)
        loss, nats, num_targets = (self._compiled_loss or self.model.training_loss)(
            batch.packed, self.loss_config, batch.totals, self.num_sources
        )
        self._watched += torch.cat([nats, num_targets]).view(self._watched.shape)
        watched.are_finite.append(loss.detach().isfinite())
        return loss

    def on_validation_epoch_start(self) -> None:
        """Sets the sums to zero."""
        self._valid_nats.zero_()

    def validation_step(self, batch: PackedBatch, batch_idx: int) -> None:
        """Sums the nats of units and of text; markers are not counted."""
        nats = self.model.losses(batch)
        if batch_idx >= self.num_own_valid_batches:
            return
        groups_GN = batch.target_groups(self.num_sources)
        groups_GN[1::2] &= batch.target_ids < self.num_text
        for number, group_N in enumerate(groups_GN):
            self._valid_nats.view(-1)[number] += float(nats[group_N].sum())

    def on_validation_epoch_end(self) -> None:
        """Adds up the sums of all ranks, and computes what else is asked for."""
        sums = self.ranks.sums(self._valid_nats.flatten().tolist())
        self._valid_nats = torch.tensor(sums, dtype=torch.float64).view(self.num_sources, 2)
        if self._more_metrics is not None:
            with self.trainer.precision_plugin.val_step_context():
                self._more_valid = self._more_metrics()
        if self.ranks.size > 1:
            cut_again(self.model)

    def valid_metrics(self) -> dict[str, Any]:
        """Bits a speech unit and bits a text byte, where there are any; what else was asked for; and bits by source."""
        bits = self._valid_nats / math.log(2)
        speech_bits, text_bits = bits.sum(0).tolist()
        metrics: dict[str, Any] = {}
        if self.num_valid_units:
            metrics["valid_bits_per_unit"] = speech_bits / self.num_valid_units
        if self.text_bytes:
            metrics["valid_bits_per_byte"] = text_bits / self.text_bytes
        metrics |= self._more_valid
        own = list(zip(self.sources.items(), bits.tolist(), strict=False))
        if units := {name: speech / size.num_units for (name, size), (speech, _) in own if size.num_units}:
            metrics["valid_bits_per_unit_by_source"] = units
        if letters := {name: text / size.text_bytes for (name, size), (_, text) in own if size.text_bytes}:
            metrics["valid_bits_per_byte_by_source"] = letters
        return metrics

    def merged_state(self) -> LoaderState:
        """The loader's state on all ranks; every rank asks for it."""
        assert self.loader_state is not None
        first, *others = self.ranks.gather(self.loader_state)
        return first.merge(others) if others else first

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the loader's state and the FLOPs so far."""
        checkpoint["loader_state"] = self.merged_state().to_json()
        checkpoint["training_flops"] = self.ranks.sums([self.training_flops])[0]
        checkpoint["num_skipped_updates"] = self.num_skipped_updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Inverse of ``on_save_checkpoint``; the optimiser's state is put into the groups that it has now."""
        rates = (self.options.learning_rate, self.options.weight_decay)
        for state in checkpoint["optimizer_states"]:
            for group in state["param_groups"]:
                # It decides where the state is kept. Checkpoints of earlier versions say that it is not fused.
                group["fused"] = self.fused
        if self._saved_rates not in (None, rates):
            states = checkpoint["optimizer_states"]
            checkpoint["optimizer_states"] = [regrouped_state(states[0], self.model, self._saved_rates, rates)]
        self.loader_state = LoaderState.from_json(checkpoint["loader_state"])
        if self.ranks.is_first:
            self.training_flops = float(checkpoint["training_flops"])
        else:
            self._counted_elsewhere = _totals(self.loader_state)
        self.num_skipped_updates = int(checkpoint.get("num_skipped_updates", 0))


def _mean(nats: float, num_targets: float) -> float | None:
    """Nats a target; None where there is no target, or their sum is not finite."""
    return nats / num_targets if num_targets and math.isfinite(nats) else None


def _totals(state: LoaderState | None) -> list[int]:
    """The counts of a loader that rows of metrics have."""
    assert state is not None
    return [getattr(state, name) for name in _COUNTS]


def _drawn_seed(*numbers: int) -> int:
    return int(np.random.default_rng(list(numbers)).integers(2**63))
