"""``lst train --dry-run``: parameters, FLOPs, disk, memory and time of a training."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple

import torch

from lst import storage
from lst.configs.family import RULES
from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.data.shards import INDEX_FILE
from lst.model.flops import model_flops, typical_workload
from lst.model.lst import LatentSpeechTextModel
from lst.parallel import check_one_process
from lst.progress import size_text
from lst.recipes.training.batches import build_loader
from lst.recipes.training.checkpoints import step_of
from lst.recipes.training.cluster_plan import cluster_lines, cluster_of
from lst.recipes.training.train import check_training
from lst.runs import RunFolder, open_data
from lst.runs.fitted_patching import FITTED_STRATEGIES
from lst.tokenizers.vocabulary import SPECIALS

BYTES_A_CHECKPOINT_PARAMETER = 12
# Used if no data is prepared: tokens a patch and patches a document of the embedded stories.
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


class Expected(NamedTuple):
    """Sizes of a training that the data decides: of a step's tokens and documents, and where they are from."""

    vocab_size: int
    tokens: float
    documents: float
    source: str


def train_plan(config: Config, peak: float | None = None) -> list[str]:
    """Cost of a training, as lines of text, on a CPU of ``peak`` operations a second: measured now where not given.

    Sizes are assumed where no data is prepared yet, and the last line says so.

    Raises:
        UserError: what ``train`` would refuse before its first step.
    """
    check_one_process("lst train")
    train, strategy = config.train, config.patching.strategy
    slots = train.rows * train.row_patches
    is_prepared = storage.exists(RunFolder.of(config).data / INDEX_FILE)
    named = None
    if is_prepared:
        data = open_data(config)
        named = check_training(config, data).named
        expected = _measured(config, data)
    else:
        num_ids = max(config.patching.speech_bpe_size, config.tokenizer.num_units)
        num_units = num_ids if strategy == "speech_bpe" else config.tokenizer.num_units
        vocab_size = config.tokenizer.text_vocab_size + len(SPECIALS) + num_units
        expected = _assumed(config, vocab_size, "assumed: no data is prepared yet")
    with torch.device("meta"):
        model = LatentSpeechTextModel(config.model, expected.vocab_size)
    num_parameters, tokens = model.num_parameters, expected.tokens
    workload = typical_workload(config.model, tokens, slots, slots / expected.documents)
    flops = model_flops(config.model, expected.vocab_size, workload)
    step_tokens, step_flops = tokens * train.num_parts, flops.training * train.num_parts
    cluster = cluster_of(config, model, step_flops, step_tokens, peak)
    disk = num_parameters * (BYTES_A_CHECKPOINT_PARAMETER * (train.keep_checkpoints + len(train.keep_at)) + 4)
    return [
        f"train {config.name}: {num_parameters:,} parameters, vocabulary {expected.vocab_size:,}, patching {strategy}",
        *_family_lines(config),
        *([f"  goes on from step {step_of(named)} of {named.parent.parent}"] if named else []),
        f"  {train.max_steps:,} steps × {train.step_patches:,} patches, about {step_tokens:,.0f} tokens a step "
        f"({expected.source})",
        f"  {step_flops / 1e9:,.1f} GFLOP a step (forward: encoder {flops.encoder / flops.forward:.0%}, backbone "
        f"{flops.backbone / flops.forward:.0%}, decoder {flops.decoder / flops.forward:.0%}, head "
        f"{flops.head / flops.forward:.0%}), {step_flops * train.max_steps:.3g} FLOPs in all",
        f"  disk about {size_text(disk)}",
        *cluster_lines(config, cluster),
        *([] if is_prepared else [f"  it waits for prepared data in {RunFolder.of(config).data}: run lst prepare"]),
    ]


def _family_lines(config: Config) -> list[str]:
    """What follows from the depth of ``model=family``; nothing for other models."""
    if not config.model.family:
        return []
    values = [f"{key.partition('.')[2]}={attrgetter(key)(config)}" for key in RULES]
    half = len(values) // 2
    return [f"  depth {config.model.depth}: {', '.join(values[:half])},", f"  {', '.join(values[half:])}"]


def _measured(config: Config, data: PreparedData) -> Expected:
    """Sizes of the first batches; assumed for strategies that the training fits."""
    if config.patching.strategy in FITTED_STRATEGIES:
        num_units = data.vocabulary.num_units
        more = max(0, config.patching.speech_bpe_size - num_units) if config.patching.strategy == "speech_bpe" else 0
        source = f"assumed: {config.patching.strategy} is fitted first"
        return _assumed(config, data.vocabulary.size + more, source)
    in_this_process = replace(config, data=replace(config.data, num_loader_workers=0))
    with build_loader(in_this_process, data, "dry-run") as loader:
        for _ in range(3):
            next(loader)
    state = loader.state
    documents = max((state.num_drawn - state.num_waiting) / state.batch_index, 1.0)
    return Expected(
        data.vocabulary.size, state.num_tokens / state.batch_index, documents, "measured on the first batches"
    )


def _assumed(config: Config, vocab_size: int, source: str) -> Expected:
    slots = config.train.rows * config.train.row_patches
    a_patch = ASSUMED_TOKENS_A_PATCH.get(config.patching.strategy, ASSUMED_TOKENS_A_PATCH["static"])
    return Expected(vocab_size, slots * a_patch, slots / ASSUMED_DOCUMENT_PATCHES, source)
