"""A small language model of speech units: its entropies show where the next unit is uncertain (entropy patching).

The Byte Latent Transformer (arXiv 2412.09871) uses a small transformer. Here it is a feed-forward network over the last
few units of a span. Its output depends on those units alone, so it is the same in training, in any packing, and unit by
unit in generation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import numpy as np
import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from lst.errors import UserError
from lst.model.weights import load_weights
from lst.progress import Progress, say
from lst.storage import Between, read_json, write_bytes, write_json
from lst.storage.tensors import read_header

WEIGHTS_FILE, CONFIG_FILE = "weights.safetensors", "config.json"
FORMAT: Literal["lst-unit-model-1"] = "lst-unit-model-1"
EMBEDDING_DIM, HIDDEN_DIM = 16, 128
BATCH_UNITS, MAX_STEPS, MAX_EPOCHS = 512, 2500, 20
LEARNING_RATE, WEIGHT_DECAY = 4e-3, 0.05
HELD_OUT_SHARE, MAX_HELD_OUT_UNITS, NUM_CHECKS = 0.05, 20_000, 10
# Distributions that are in memory at once: 0.5 MB for 500 units in float64, which fits a cache.
_ROWS_AT_ONCE = 128
_REMEDY = "Delete the folder and run lst train again: it is fitted anew."


# Beyond any codebook and any width that is fitted here: a model of such sizes is not built.
_Size = Annotated[int, Between(1, 2**20)]


class UnitModelConfig(TypedDict):
    """``config.json`` of a unit model. ``format`` names its version; the bits are null before it is fitted."""

    format: Literal["lst-unit-model-1"]
    num_units: _Size
    context: _Size
    embedding_dim: _Size
    hidden_dim: _Size
    held_out_bits: float | None
    unigram_bits: float | None


class UnitModel(nn.Module):
    """The distribution of the next unit, from the ``context`` units before it in its span.

    Args:
        num_units: size of the codebook, K.
        context: how many earlier units it reads. A filler takes the place of missing units at the start of a span.
        embedding_dim, hidden_dim: width of a unit and of the hidden layer.
        seed: of the initial weights; None draws none.

    Attributes:
        held_out_bits, unigram_bits: bits a unit on held-out units, of the model and of unit frequencies alone; NaN
        until
            it is fitted.
    """

    def __init__(
        self,
        num_units: int,
        context: int,
        embedding_dim: int = EMBEDDING_DIM,
        hidden_dim: int = HIDDEN_DIM,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.num_units, self.context = num_units, context
        self.embedding_dim, self.hidden_dim = embedding_dim, hidden_dim
        self.embedding = nn.Embedding(num_units + 1, embedding_dim)
        self.hidden = nn.Linear(context * embedding_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, num_units)
        self.held_out_bits = self.unigram_bits = math.nan
        if seed is None:
            return
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.embedding.weight, std=1.0, generator=generator)
        nn.init.normal_(self.hidden.weight, std=(context * embedding_dim) ** -0.5, generator=generator)
        nn.init.normal_(self.output.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.hidden.bias)
        nn.init.zeros_(self.output.bias)

    @property
    def filler(self) -> int:
        """The id that takes the place of missing units at the start of a span."""
        return self.num_units

    def forward(self, contexts: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Log-probabilities [N, K], nats, of the unit after each context, int64 [N, context], oldest unit first."""
        states = self.embedding.weight.to(dtype)[contexts].flatten(1)
        states = functional.gelu(functional.linear(states, self.hidden.weight.to(dtype), self.hidden.bias.to(dtype)))
        return functional.linear(states, self.output.weight.to(dtype), self.output.bias.to(dtype)).log_softmax(dim=-1)

    def entropies(self, units: np.ndarray, span_starts: np.ndarray | None = None) -> np.ndarray:
        """Entropy of the distribution of the unit after each unit.

        Args:
            units: int [n], one or several whole spans.
            span_starts: int [s], increasing from 0, where each span begins; None for one span.

        Returns:
            float32 [n], in nats. It is computed in float64, so batching does not change it.

        Raises:
            ValueError: a unit is outside the codebook.
        """
        return self._measured(self._windows(units, span_starts))

    def surprisals(self, units: np.ndarray, span_starts: np.ndarray | None = None) -> np.ndarray:
        """Surprisal −ln p of each unit, given those before it in the span; arguments and result as ``entropies``."""
        return self._measured(self._windows(units, span_starts, before=True), self._checked(units))

    def next_entropy(self, units: np.ndarray) -> float:
        """The last of ``entropies(units)``, computed from the last ``context`` units of the span.

        Args:
            units: int [n], n ≥ 1, the span so far, or the last ``context`` or more units of it.
        """
        return float(self._measured(self._windows(units[-self.context :])[-1:])[0])

    def last_surprisal(self, units: np.ndarray) -> float:
        """The last of ``surprisals(units)``, computed from the last ``context + 1`` units of the span."""
        windows = self._windows(units[-self.context - 1 :], before=True)
        return float(self._measured(windows[-1:], self._checked(units[-1:]))[0])

    def measure(self, units: np.ndarray, span_starts: np.ndarray | None = None, name: str = "entropy") -> np.ndarray:
        """``entropies`` or ``surprisals``, by the name in ``patching.entropy_measure``."""
        return (self.entropies if name == "entropy" else self.surprisals)(units, span_starts)

    def _checked(self, units: np.ndarray) -> np.ndarray:
        if units.size and not 0 <= int(units.min()) <= int(units.max()) < self.num_units:
            raise ValueError(
                f"speech unit {int(units.max())} is outside the unit model's codebook of {self.num_units} units"
            )
        return units.astype(np.int64)

    def _windows(self, units: np.ndarray, span_starts: np.ndarray | None = None, before: bool = False) -> np.ndarray:
        """Contexts, int64 [n, context], that end with each unit, or with the unit ``before`` it."""
        starts = np.zeros(1, np.int64) if span_starts is None else span_starts
        num_fillers = self.context * np.searchsorted(starts, np.arange(len(units)), side="right")
        places = np.arange(len(units)) + num_fillers
        padded = np.full(len(units) + self.context * (len(starts) + 1), self.filler, np.int64)
        padded[places] = self._checked(units)
        first_places = places - self.context + (not before)
        return np.lib.stride_tricks.sliding_window_view(padded, self.context)[first_places]

    @torch.inference_mode()
    def _measured(self, windows: np.ndarray, units: np.ndarray | None = None) -> np.ndarray:
        """float32 [n]: entropies after the contexts, or surprisals of the units that follow them."""
        found = np.zeros(len(windows), np.float32)
        for start in range(0, len(windows), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            log_probs = self(torch.from_numpy(windows[rows]), torch.float64)
            if units is None:
                found[rows] = -(log_probs.exp() * log_probs).sum(dim=-1).numpy()
            else:
                found[rows] = -log_probs.gather(1, torch.from_numpy(units[rows])[:, None])[:, 0]
        return found

    @property
    def sha256(self) -> str:
        """Hash of the weights."""
        return hashlib.sha256(self._to_bytes()).hexdigest()

    def _to_bytes(self) -> bytes:
        return save({name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()})

    def save(self, folder: Path) -> None:
        """Writes ``weights.safetensors``, then ``config.json``, which marks the folder as complete."""
        write_bytes(folder / WEIGHTS_FILE, self._to_bytes())
        record: UnitModelConfig = {
            "format": FORMAT,
            "num_units": self.num_units,
            "context": self.context,
            "embedding_dim": self.embedding_dim,
            "hidden_dim": self.hidden_dim,
            "held_out_bits": _finite(self.held_out_bits),
            "unigram_bits": _finite(self.unigram_bits),
        }
        write_json(folder / CONFIG_FILE, record)

    @classmethod
    def load(cls, folder: Path, num_units: int | None = None) -> UnitModel:
        """Reads a unit model.

        Args:
            folder: written by ``save``.
            num_units: size of the codebook that it must fit; None for any.

        Raises:
            UserError: a file is missing or damaged, weights do not fit, or the codebook has another size.
        """
        path = folder / CONFIG_FILE
        config = read_json(path, UnitModelConfig, "the unit model's configuration", _REMEDY)
        if num_units is not None and config["num_units"] != num_units:
            raise UserError(
                f"the unit model in {folder} knows {config['num_units']} units, the data has {num_units}: use the "
                "data and the model of one run, or train a new model on this data"
            )
        weights = read_header(folder / WEIGHTS_FILE, "the unit model's weights are", _REMEDY)
        # Nothing is allocated, and nothing is drawn: the weights are those of the file.
        with torch.device("meta"):
            model = cls(config["num_units"], config["context"], config["embedding_dim"], config["hidden_dim"], None)
        load_weights(model, weights, "unit model", _REMEDY)
        bits = (config["held_out_bits"], config["unigram_bits"])
        model.held_out_bits, model.unigram_bits = (math.nan if found is None else found for found in bits)
        return model.eval()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class _Windows:
    """Contexts and targets of some sequences by index, without a copy of each context."""

    def __init__(self, sequences: Sequence[np.ndarray], model: UnitModel) -> None:
        fillers = np.full(model.context, model.filler, np.int64)
        joined = np.concatenate([part for units in sequences for part in (fillers, model._checked(units))])
        self.units = torch.from_numpy(joined)
        self.places = torch.from_numpy(np.flatnonzero(joined != model.filler))
        self.offsets = torch.arange(-model.context, 0)

    def __len__(self) -> int:
        return len(self.places)

    def losses(self, model: UnitModel, chosen: torch.Tensor) -> torch.Tensor:
        """Cross-entropy in nats, float32 [b], of the chosen units [b]."""
        places = self.places[chosen]
        log_probs = model(self.units[places[:, None] + self.offsets])
        return -log_probs.gather(1, self.units[places][:, None])[:, 0]


def fit_unit_model(
    sequences: Sequence[np.ndarray], num_units: int, context: int, seed: int, max_steps: int = MAX_STEPS
) -> UnitModel:
    """Fits a unit model by AdamW, and reports its bits a unit on held-out sequences.

    Args:
        sequences: int [n] units each; a sequence is one span. A twentieth of them, one or more, is held out.
        num_units: size of the codebook.
        context: how many earlier units it reads.
        seed: of the weights, of the held-out sequences, and of the batches.
        max_steps: steps of 512 units; fewer if that is more than 20 passes over the data.

    Returns:
        The model of the check with the lowest held-out loss.

    Raises:
        UserError: there are fewer than two sequences.
    """
    spoken = [units for units in sequences if len(units)]
    if len(spoken) < 2:
        raise UserError(
            f"the unit model of entropy patching needs two spoken utterances to train on, there are {len(spoken)}: add "
            "speech or choose another patching"
        )
    order = np.random.default_rng([seed, 0x0E17]).permutation(len(spoken))
    num_held_out = max(1, int(HELD_OUT_SHARE * len(spoken)))
    model = UnitModel(num_units, context, seed=seed)
    held_out, training = (
        _Windows([spoken[index] for index in part], model) for part in (order[:num_held_out], order[num_held_out:])
    )
    counts = torch.bincount(training.units[training.places], minlength=num_units).double() + 1
    unigram = (counts / counts.sum()).log()
    with torch.no_grad():
        # The training starts from the unit frequencies.
        model.output.bias.copy_(unigram)
    looked_at = torch.arange(min(len(held_out), MAX_HELD_OUT_UNITS))
    targets = held_out.units[held_out.places[looked_at]]
    model.unigram_bits = float(-unigram[targets].mean()) / math.log(2)
    num_steps = min(max_steps, max(100, MAX_EPOCHS * len(training) // BATCH_UNITS))
    _descend(model, training, held_out, looked_at, num_steps, seed)
    say(
        f"unit model: {model.held_out_bits:.3f} bits a unit on {len(looked_at):,} held-out units "
        f"(unit frequencies alone: {model.unigram_bits:.3f})"
    )
    return model.eval()


def _descend(
    model: UnitModel, training: _Windows, held_out: _Windows, looked_at: torch.Tensor, num_steps: int, seed: int
) -> None:
    """Trains in place, and ends with the weights of the lowest held-out loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    generator = torch.Generator().manual_seed(seed)
    best_bits, best_weights = math.inf, {}
    with Progress(num_steps, "fit unit model", unit="step") as progress:
        for step in range(num_steps + 1):
            if step % max(num_steps // NUM_CHECKS, 1) == 0 or step == num_steps:
                bits = _mean_bits(model, held_out, looked_at)
                if bits < best_bits:
                    best_bits = bits
                    best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            if step == num_steps:
                break
            chosen = torch.randint(len(training), (BATCH_UNITS,), generator=generator)
            optimizer.zero_grad()
            training.losses(model, chosen).mean().backward()
            optimizer.step()
            schedule.step()
            progress.advance(note=f"{best_bits:.3f} bits a held-out unit")
    model.load_state_dict(best_weights)
    model.held_out_bits = best_bits


@torch.inference_mode()
def _mean_bits(model: UnitModel, windows: _Windows, chosen: torch.Tensor) -> float:
    nats = sum(float(windows.losses(model, part).double().sum()) for part in chosen.split(4 * BATCH_UNITS))
    return nats / len(chosen) / math.log(2)
