"""What a command would do: sizes, FLOPs, disk and time, without doing it (``--dry-run``)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from lst import storage
from lst.configs.compose import SYNTHETIC, build_config
from lst.configs.schema import Config
from lst.data.corpora import load_corpus
from lst.data.on_the_fly import on_the_fly_files
from lst.data.prepare import BYTES_A_SHARD_UTTERANCE, BYTES_A_SPOKEN_STORY
from lst.data.row_checks import apply_on_error, check_rows, num_bad_rows
from lst.data.shards import INDEX_FILE
from lst.data.speech_synthesis import choose_engine
from lst.errors import UserError
from lst.model.flops import model_flops, typical_workload
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.fitted_patching import FITTED_STRATEGIES
from lst.recipes.run import CARD_JSON, CARD_PAGE, RunFolder, arm_overrides, open_data
from lst.recipes.synthetic import plan
from lst.recipes.train import build_loader
from lst.recipes.unit_tools import plan as unit_plan
from lst.tokenizers.vocabulary import SPECIALS

# Seconds of one core for a second of speech, measured on two AVX2 cores: synthesis, features twice, alignment.
SYNTHESIS_RTF, FEATURES_RTF, ALIGNMENT_RTF = 0.011, 0.004, 0.02
STORY_S = 11.5
# Share of the matrix-product peak that a training step of the small models reaches on a CPU.
TRAINING_EFFICIENCY = 0.3
BYTES_A_CHECKPOINT_PARAMETER = 12
# Where nothing is prepared: tokens a patch and patches a document of the embedded stories.
ASSUMED_TOKENS_A_PATCH = {"none": 1.0, "static": 2.4, "aligned": 3.0, "mixed": 2.7, "curriculum": 2.7,
                          "entropy": 2.4, "speech_bpe": 1.0}  # fmt: skip
ASSUMED_DOCUMENT_PATCHES = 80.0


def describe(command: str, overrides: Sequence[str]) -> str:
    """The plan of a command as text; a faulty configuration or corpus raises as the command itself would."""
    lines = [f"lst {command} --dry-run: nothing is written"]
    if command == "synthetic":
        return "\n".join([*lines, *plan(SYNTHETIC.build(overrides))])
    config = build_config(overrides)
    if command.startswith("tokenizer "):
        return "\n".join([*lines, *unit_plan(command.removeprefix("tokenizer "), config)])
    if command in ("prepare", "quickstart"):
        lines += _prepare_plan(config)
    if command == "train":
        lines += _train_plan(config, _peak_flops())
    elif command == "quickstart":
        peak = _peak_flops()
        for name in config.arms:
            lines += _train_plan(build_config(arm_overrides(config, overrides, name)), peak)
    elif command == "card":
        data = RunFolder.of(config).data
        lines.append(f"card: would read {data} and write {data / CARD_PAGE} and {data / CARD_JSON}")
    elif command in ("eval", "report", "generate"):
        names = RunFolder.of(config).trained_models()
        lines.append(f"{command}: would read {config.run_dir}; trained models there: {', '.join(names) or 'none yet'}")
    return "\n".join(lines)


def _prepare_plan(config: Config) -> list[str]:
    folder = RunFolder.of(config).data
    if storage.exists(folder / INDEX_FILE):
        return [f"prepare: {folder} is prepared, nothing to do"]
    if files := on_the_fly_files(config.corpus):
        count, speech_s, disk = 0, 0.0, sum(map(storage.size, files))
        what, rtf = f"{len(files)} .on_the_fly files of {disk / 1e6:,.1f} MB", 0.0
    elif config.corpus is not None:
        rows, problems, layout = load_corpus(config.corpus, config.layout)
        num_rows = len(rows) + num_bad_rows(problems)
        good, found = check_rows(rows, config.data.min_duration_s, config.data.max_duration_s, problems)
        apply_on_error(
            [*problems, *found], num_rows, config.on_error, config.max_skipped_share, f"corpus {config.corpus}"
        )
        count, speech_s = len(good), sum(row.duration_s or 0.0 for row in good)
        what, rtf = f"{count:,} recordings ({layout} layout)", FEATURES_RTF + ALIGNMENT_RTF
        disk = count * BYTES_A_SHARD_UTTERANCE
    else:
        count = config.data.num_spoken_stories
        speech_s = count * STORY_S
        source = f"lines of {config.text}" if config.text else "stories"
        what = f"up to {count:,} {source} read aloud by {choose_engine(config.data.voice)}"
        rtf = SYNTHESIS_RTF + FEATURES_RTF + ALIGNMENT_RTF
        disk = count * (BYTES_A_SHARD_UTTERANCE + BYTES_A_SPOKEN_STORY)
    seconds = speech_s * rtf / config.num_workers
    units_a_frame = config.tokenizer.num_codebooks if config.tokenizer.kind == "encodec" else 1
    return [
        f"prepare: {what}, {speech_s / 3600:.2f} h of speech, "
        f"about {speech_s * config.tokenizer.frame_rate_hz * units_a_frame:,.0f} units",
        f"  into {folder}; disk about {disk / 1e6:,.0f} MB (audio cache included); time about {seconds:,.0f} s "
        f"with {config.num_workers} processes",
    ]  # fmt: skip


def _train_plan(config: Config, peak_flops: float) -> list[str]:
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
        tokens = slots * ASSUMED_TOKENS_A_PATCH[strategy]
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


def _peak_flops(size: int = 1024) -> float:
    """Float32 matrix-product rate of this CPU, operations a second, by a probe of a fraction of a second."""
    a = torch.randn(size, size)
    a @ a
    rates = []
    for _ in range(5):
        started_s = time.perf_counter()
        a @ a
        rates.append(2 * size**3 / (time.perf_counter() - started_s))
    return max(rates)
