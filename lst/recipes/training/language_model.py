"""The module of ``lst train``: a language model over text and speech, in patches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lst.configs.schema import TrainConfig
from lst.data.batches import LoaderState
from lst.model.batch import IGNORE_ID, SPEECH, PackedBatch
from lst.model.config import LossConfig
from lst.model.flops import model_flops, workload_of_batch
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import regrouped_state
from lst.recipes.training.module import TrainingModule
from lst.recipes.training.schedule import learning_rate_share
from lst.runs.formats import LanguageModelRow

# Of a batch, in errors.
MAX_SHOWN_DOCUMENTS = 20


class LanguageModelModule(TrainingModule):
    """Trains on the mean cross-entropy; validates by bits a speech unit and bits a text byte.

    Batches come with the state that the loader had after them. Checkpoints keep the state of the last batch that was
    used, because the loader is ahead of the training.

    Args:
        model: the model.
        config: options of the training.
        loss_config: weights of the loss.
        text_bytes: bytes of the text in the validation batches.
        num_text: text pieces of the vocabulary; ids from here on are no text.
        num_valid_units: units of the speech in the validation batches (a token may hold several); 0 for text alone.
        seed: of dropout.
        document_ids: the documents of the batch with this number, made again from the state of a batch before it.
        saved_rates: peak learning rate and weight decay that the checkpoint to go on from was written with.
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
    ) -> None:
        super().__init__(
            model,
            config,
            lambda step: learning_rate_share(step, config),
            lambda step: int(np.random.default_rng([seed, step]).integers(2**63)),
            max_skipped_updates=config.max_skipped_updates if config.on_nonfinite == "skip" else 0,
        )
        self.loss_config = loss_config
        self.text_bytes, self.num_text, self.num_valid_units = text_bytes, num_text, num_valid_units
        # Shapes differ from batch to batch: static ones would be compiled anew for each.
        self._loss = torch.compile(model.loss, dynamic=True) if config.compile else model.loss
        self.loader_state: LoaderState | None = None
        self._state_before: LoaderState | None = None
        self._document_ids, self._saved_rates = document_ids, saved_rates
        self.training_flops = 0.0
        self._valid_nats: dict[str, float] = {}

    @property
    def batch_index(self) -> int:
        """Number of the last training batch, from 1; batches that were left out count."""
        return self.loader_state.batch_index if self.loader_state else 0

    def describe_batch(self) -> str:
        """The documents of the last training batch."""
        if self._document_ids is None:
            return ""
        ids = list(dict.fromkeys(self._document_ids(self._state_before, self.batch_index)))
        more = f" and {len(ids) - MAX_SHOWN_DOCUMENTS} more" if len(ids) > MAX_SHOWN_DOCUMENTS else ""
        return f" (documents {', '.join(ids[:MAX_SHOWN_DOCUMENTS])}{more})"

    def step_row(self, step: int, loss: float) -> LanguageModelRow:
        """Adds what the loader and the FLOP counter say."""
        state = self.loader_state
        assert state is not None
        return {
            **super().step_row(step, loss),
            "tokens": state.num_tokens,
            "patches": state.num_patches,
            "slots": state.num_slots,
            "packing_waste": state.waste,
            "speech_tokens": state.num_speech_tokens,
            "cut_documents": state.num_cut,
            "training_flops": self.training_flops,
        }

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch; counts the FLOPs of a training batch on the host, so that no step waits for the device."""
        if isinstance(batch, PackedBatch):
            return batch.to(device)
        packed, state = batch
        work = workload_of_batch(packed, self.model.config)
        return packed.to(device), state, model_flops(self.model.config, self.model.vocab_size, work).training

    def batch_loss(self, batch: tuple[PackedBatch, LoaderState, float]) -> torch.Tensor:
        """Weighted mean cross-entropy, in nats a target."""
        self._state_before = self.loader_state
        packed, self.loader_state, flops = batch
        self.training_flops += flops
        # Here, because a compiled loss does not check.
        self.model.check_batch(packed)
        return self._loss(packed, self.loss_config)

    def on_validation_epoch_start(self) -> None:
        """Sets the sums to zero."""
        self._valid_nats = {"speech": 0.0, "text": 0.0}

    def validation_step(self, batch: PackedBatch, batch_idx: int) -> None:
        """Sums the nats of units and of text; markers are not counted."""
        nats = self.model.losses(batch)
        has_target = batch.target_ids != IGNORE_ID
        to_unit = has_target & (batch.target_modalities == SPEECH)
        to_text = has_target & ~to_unit & (batch.target_ids < self.num_text)
        self._valid_nats["speech"] += float(nats[to_unit].sum())
        self._valid_nats["text"] += float(nats[to_text].sum())

    def valid_metrics(self) -> dict[str, float]:
        """Bits a speech unit and bits a text byte; of text alone the latter."""
        bits_per_byte = self._valid_nats["text"] / math.log(2) / max(self.text_bytes, 1)
        if not self.num_valid_units:
            return {"valid_bits_per_byte": bits_per_byte}
        return {
            "valid_bits_per_unit": self._valid_nats["speech"] / math.log(2) / self.num_valid_units,
            "valid_bits_per_byte": bits_per_byte,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the loader's state and the FLOPs so far."""
        assert self.loader_state is not None
        checkpoint["loader_state"] = self.loader_state.to_json()
        checkpoint["training_flops"] = self.training_flops
        checkpoint["num_skipped_updates"] = self.num_skipped_updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Inverse of ``on_save_checkpoint``; the optimiser's state is put into the groups that it has now."""
        rates = (self.options.learning_rate, self.options.weight_decay)
        if self._saved_rates not in (None, rates):
            states = checkpoint["optimizer_states"]
            checkpoint["optimizer_states"] = [regrouped_state(states[0], self.model, self._saved_rates, rates)]
        self.loader_state = LoaderState.from_json(checkpoint["loader_state"])
        self.training_flops = float(checkpoint["training_flops"])
        self.num_skipped_updates = int(checkpoint.get("num_skipped_updates", 0))
