"""What a training would cost: parameters, FLOPs, disk and time, for ``lst train --dry-run``."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from lst.configs.schema import Config
from lst.errors import UserError
from lst.model.flops import model_flops, typical_workload
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.training.batches import build_loader
from lst.runs import open_data
from lst.runs.fitted_patching import FITTED_STRATEGIES
from lst.tokenizers.vocabulary import SPECIALS

# Share of the matrix-product peak that a training step of the small models reaches on a CPU.
TRAINING_EFFICIENCY = 0.3
BYTES_A_CHECKPOINT_PARAMETER = 12
# Where nothing is prepared: tokens a patch and patches a document of the embedded stories.
ASSUMED_TOKENS_A_PATCH = {
    "none": 1.0,
    "static": 2.4,
    "aligned": 3.0,
    "mixed": 2.7,
    "curriculum": 2.7,
    "entropy": 2.4,
    "speech_bpe": 1.0,
}
ASSUMED_DOCUMENT_PATCHES = 80.0


def train_plan(config: Config, peak_flops: float) -> list[str]:
    """What a training would cost, as lines of text; ``peak_flops`` as ``peak_flops`` measures it."""
    train = config.train
    slots = train.rows * train.row_patches
    strategy = config.patching.strategy
    num_units = config.tokenizer.num_units
    try:
        data = open_data(config)
        num_units = data.vocabulary.num_units
        if strategy in FITTED_STRATEGIES:
            raise UserError("patching is fitted by the training itself")
        with build_loader(replace(config, data=replace(config.data, num_loader_workers=0)), data, "dry-run") as loader:
            for _ in range(3):
                next(loader)
        state = loader.state
        vocab_size, tokens = data.vocabulary.size, state.num_tokens / state.batch_index
        documents = max((state.num_drawn - state.num_waiting) / state.batch_index, 1.0)
        source = "measured on the first batches"
    except UserError:
        num_ids = max(config.patching.speech_bpe_size, num_units) if strategy == "speech_bpe" else num_units
        vocab_size = config.tokenizer.text_vocab_size + len(SPECIALS) + num_ids
        tokens = slots * ASSUMED_TOKENS_A_PATCH.get(strategy, ASSUMED_TOKENS_A_PATCH["static"])
        documents = slots / ASSUMED_DOCUMENT_PATCHES
        source = (
            f"assumed: {strategy} is fitted first"
            if strategy in FITTED_STRATEGIES
            else "assumed: no data is prepared yet"
        )
    with torch.device("meta"):
        num_parameters = LatentSpeechTextModel(config.model, vocab_size).num_parameters
    flops = model_flops(config.model, vocab_size, typical_workload(config.model, tokens, slots, slots / documents))
    total = flops.training * train.max_steps
    disk = num_parameters * (BYTES_A_CHECKPOINT_PARAMETER * train.keep_checkpoints + 4)
    return [
        f"train {config.name}: {num_parameters:,} parameters, vocabulary {vocab_size:,}, patching {strategy}",
        f"  {train.max_steps:,} steps × {slots:,} patches, about {tokens:,.0f} tokens a step ({source})",
        f"  {flops.training / 1e9:,.1f} GFLOP a step (forward: encoder {flops.encoder / flops.forward:.0%}, backbone "
        f"{flops.backbone / flops.forward:.0%}, decoder {flops.decoder / flops.forward:.0%}, head "
        f"{flops.head / flops.forward:.0%}), {total:.3g} FLOPs in all",
        f"  disk about {disk / 1e6:,.0f} MB; time about {total / (peak_flops * TRAINING_EFFICIENCY) / 60:,.1f} minutes "
        f"on this CPU ({peak_flops / 1e9:,.0f} GFLOP/s in matrix products just now)",
    ]


def peak_flops(size: int = 1024) -> float:
    """Float32 matrix-product rate of this CPU, operations a second, by a probe of a fraction of a second."""
    a = torch.randn(size, size)
    a @ a
    rates = []
    for _ in range(5):
        started_s = time.perf_counter()
        a @ a
        rates.append(2 * size**3 / (time.perf_counter() - started_s))
    return max(rates)
