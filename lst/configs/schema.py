"""Every option, its type, its default and what it does. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from lst.data.config import EXECUTORS, LAYOUT_NAMES, DataConfig, parse_part
from lst.model.config import LossConfig, ModelConfig, PatchingConfig, patching_problems
from lst.storage import is_url
from lst.tokenizers.config import TokenizerConfig

EXPORT_FORMATS = ("on_the_fly", "textgrid", "ctm")
# Lightning's, without those that need layers of another library, and without 16-true: AdamW's ε is 0 in float16.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true")


@dataclass
class TrainConfig:
    rows: int = field(default=2, metadata={"doc": "rows of a batch"})
    row_patches: int = field(default=512, metadata={"doc": "patches of a row; tokens, for the baseline"})
    max_steps: int = field(default=360, metadata={"doc": "optimiser steps"})
    learning_rate: float = field(default=3e-3, metadata={"doc": "peak learning rate"})
    warmup_steps: int = field(default=36, metadata={"doc": "steps of linear warm-up"})
    final_rate_share: float = field(default=0.01, metadata={"doc": "share of the peak rate at the end of the cosine"})
    beta1: float = field(default=0.9, metadata={"doc": "AdamW's first decay"})
    beta2: float = field(default=0.95, metadata={"doc": "AdamW's second decay"})
    weight_decay: float = field(default=0.1, metadata={"doc": "AdamW's weight decay, of matrices only"})
    clip_norm: float = field(default=1.0, metadata={"doc": "gradients are scaled down to this norm"})
    eval_every: int = field(default=90, metadata={"doc": "steps between losses on held-out documents"})
    eval_utterances: int = field(default=48, metadata={"doc": "held-out utterances for those losses"})
    checkpoint_every: int = field(default=90, metadata={"doc": "steps between checkpoints"})
    keep_checkpoints: int = field(default=2, metadata={"doc": "latest checkpoints that are kept"})
    accelerator: str = field(default="auto", metadata={"doc": "Lightning's accelerator: auto, cpu, gpu, …"})
    compile: bool = field(default=False, metadata={"doc": "torch.compile the loss: takes minutes at first"})
    precision: str = field(default="32-true", metadata={"doc": f"Lightning's precision: {', '.join(PRECISIONS)}"})

    def problems(self) -> list[str]:
        found = []
        for name in (
            "rows",
            "row_patches",
            "max_steps",
            "eval_every",
            "eval_utterances",
            "checkpoint_every",
            "keep_checkpoints",
        ):
            if getattr(self, name) < 1:
                found.append(f"train.{name}={getattr(self, name)}: must be 1 or more")
        if not 0 <= self.warmup_steps <= self.max_steps:
            found.append(
                f"train.warmup_steps={self.warmup_steps}: must lie between 0 and train.max_steps={self.max_steps}"
            )
        if self.learning_rate <= 0 or self.clip_norm <= 0:
            found.append(f"train.learning_rate={self.learning_rate}, clip_norm={self.clip_norm}: both must be above 0")
        if not 0 <= self.final_rate_share <= 1:
            found.append(f"train.final_rate_share={self.final_rate_share}: must lie between 0 and 1")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            found.append(f"train.beta1={self.beta1}, beta2={self.beta2}: must be at least 0 and below 1")
        if self.row_patches < 8:
            found.append(f"train.row_patches={self.row_patches}: must be 8 or more")
        if self.precision not in PRECISIONS:
            found.append(f"train.precision={self.precision}: allowed are {', '.join(PRECISIONS)}")
        return found


@dataclass
class EvalConfig:
    max_items: int = field(default=500, metadata={"doc": "cloze items at most; 0 takes every held-out utterance"})
    context_share: float = field(
        default=0.6, metadata={"doc": "share of the words that is context, where no sentence end is known"}
    )
    min_words: int = field(default=6, metadata={"doc": "utterances with fewer words make no cloze item"})
    bootstrap_samples: int = field(default=2000, metadata={"doc": "resamples for the 95 % intervals"})
    rows_a_batch: int = field(default=8, metadata={"doc": "rows scored together"})

    def problems(self) -> list[str]:
        found = []
        if self.max_items < 0:
            found.append(f"eval.max_items={self.max_items}: must be 0 (all) or more")
        if not 0 < self.context_share < 1:
            found.append(f"eval.context_share={self.context_share}: must lie between 0 and 1")
        if self.min_words < 2:
            found.append(f"eval.min_words={self.min_words}: must be 2 or more")
        if self.bootstrap_samples < 100 or self.rows_a_batch < 1:
            found.append(
                f"eval.bootstrap_samples={self.bootstrap_samples}, rows_a_batch={self.rows_a_batch}: "
                "must be at least 100 and 1"
            )
        return found


@dataclass
class GenerateConfig:
    text: str | None = field(default=None, metadata={"doc": "written prompt"})
    audio: str | None = field(default=None, metadata={"doc": "spoken prompt, an audio file"})
    modality: str = field(
        default="same",
        metadata={"doc": "what to continue with: same as the prompt, text, speech, or any (it may switch)"},
    )
    max_new_tokens: int = field(default=50, metadata={"doc": "new tokens at most"})
    temperature: float = field(default=0.8, metadata={"doc": "0 takes the likeliest token"})
    top_k: int = field(default=0, metadata={"doc": "draw from the k likeliest only; 0 sets no limit"})
    top_p: float = field(
        default=1.0, metadata={"doc": "draw from the likeliest that together have this probability; 1 sets no limit"}
    )

    def problems(self) -> list[str]:
        found = []
        if self.modality not in ("same", "text", "speech", "any"):
            found.append(f"generate.modality={self.modality}: allowed are same, text, speech, any")
        if self.max_new_tokens < 1:
            found.append(f"generate.max_new_tokens={self.max_new_tokens}: must be 1 or more")
        if self.temperature < 0:
            found.append(f"generate.temperature={self.temperature}: must be 0 (the likeliest token) or more")
        if self.top_k < 0:
            found.append(f"generate.top_k={self.top_k}: must be 0 (no limit) or more")
        if not 0 < self.top_p <= 1:
            found.append(f"generate.top_p={self.top_p}: must be above 0 and at most 1 (no limit)")
        return found


@dataclass
class ReportConfig:
    num_audio: int = field(default=4, metadata={"doc": "utterances to listen to in the report"})

    def problems(self) -> list[str]:
        return [f"report.num_audio={self.num_audio}: must be 0 or more"] if self.num_audio < 0 else []


@dataclass
class CardConfig:
    title: str = field(
        default="", metadata={"doc": "name of the corpus on its card; empty takes what it was made from"}
    )
    licence: str = field(default="", metadata={"doc": "licence of the corpus, as its card states it"})
    max_utterances: int = field(
        default=2000, metadata={"doc": "utterances sampled for documents and patches; 0 takes all of training"}
    )
    after_prepare: bool = field(default=True, metadata={"doc": "write the card at the end of lst prepare"})

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        if self.max_utterances < 0:
            return [f"card.max_utterances={self.max_utterances}: must be 0 (all) or more"]
        return []


@dataclass
class ExportConfig:
    format: str = field(
        default="on_the_fly",
        metadata={"doc": "on_the_fly (words and units), textgrid (a file an utterance) or ctm (words and times)"},
    )
    folder: str = field(default="export", metadata={"doc": "folder or URL that the files go into"})

    def problems(self) -> list[str]:
        allowed = ", ".join(EXPORT_FORMATS)
        found = [] if self.format in EXPORT_FORMATS else [f"export.format={self.format}: allowed are {allowed}"]
        return found + ([] if self.folder else ["export.folder= is empty: give a folder"])


@dataclass
class CheckConfig:
    examples: int = field(default=5, metadata={"doc": "examples of each kind of problem that are shown; 0 shows all"})
    decode: bool = field(
        default=False, metadata={"doc": "decode all audio of corpus=, which finds damage behind a sound header"}
    )
    json: str | None = field(default=None, metadata={"doc": "file to write the whole report to, as JSON"})

    def problems(self) -> list[str]:
        return [f"check.examples={self.examples}: must be 0 (all) or more"] if self.examples < 0 else []


@dataclass
class StorageConfig:
    allow_protocols: list[str] = field(
        default_factory=list, metadata={"doc": "protocols that URLs may have beside file, http, s3, gs and abfs"}
    )
    allow_hosts: list[str] = field(
        default_factory=list,
        metadata={"doc": "the only HTTP hosts that a corpus may name (NAME or *.NAME); empty allows all public ones"},
    )

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        found = [
            f"storage.allow_protocols: {name!r} is no protocol: letters and digits, such as sftp"
            for name in self.allow_protocols
            if not re.fullmatch(r"[a-z][a-z0-9+.-]*", name)
        ]
        found += [
            f"storage.allow_hosts: {name!r} is no host: write data.example.org or *.example.org, without http://"
            for name in self.allow_hosts
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9.:_-]+", name)
        ]
        return found


@dataclass
class Config:
    run_dir: str = field(default="runs/quickstart", metadata={"doc": "folder of the run"})
    name: str = field(default="curriculum", metadata={"doc": "name of the model within the run"})
    seed: int = field(default=0, metadata={"doc": "seed of everything that is drawn"})
    corpus: str | None = field(
        default=None,
        metadata={"doc": "your recordings: a folder or a manifest, or its URL; without, stories are synthesised"},
    )
    text: str | None = field(
        default=None, metadata={"doc": "text file, a document a line: read aloud, or with corpus= used as written text"}
    )
    layout: str = field(default="auto", metadata={"doc": f"how corpus= is laid out: {', '.join(LAYOUT_NAMES)}"})
    out: str | None = field(default=None, metadata={"doc": "file that lst tokenizer writes"})
    on_error: str = field(default="raise", metadata={"doc": "faulty utterances: raise, or skip (they are listed)"})
    max_skipped_share: float = field(default=0.05, metadata={"doc": "share that on_error=skip may leave out"})
    num_workers: int = field(default=2, metadata={"doc": "processes that prepare"})
    data_dir: str | None = field(
        default=None, metadata={"doc": "where prepared data lies, a folder or a URL (s3://…); without, RUN_DIR/data"}
    )
    executor: str = field(default="local", metadata={"doc": "what prepares: local (processes here), or ray"})
    address: str | None = field(
        default=None, metadata={"doc": "Ray cluster (auto, ray://HOST:PORT); without, Ray is started here"}
    )
    part: str | None = field(
        default=None, metadata={"doc": "prepare in parts, of a job array: plan, then i/n each, then without part"}
    )
    arms: dict[str, list[str]] = field(
        default_factory=dict, metadata={"doc": "models that quickstart trains: name and options"}
    )
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    patching: PatchingConfig = field(default_factory=PatchingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    card: CardConfig = field(default_factory=CardConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    check: CheckConfig = field(default_factory=CheckConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)

    def problems(self) -> list[str]:
        """Everything that is wrong with these values, a line each."""
        found = []
        for name in ("run_dir", "corpus", "text", "data_dir", "out"):
            if getattr(self, name) == "" or (name == "run_dir" and not self.run_dir):
                found.append(f"{name}= is empty: give a path, or leave the option out")
        found += self._path_problems()
        if self.executor not in EXECUTORS:
            found.append(f"executor={self.executor}: allowed are {', '.join(EXECUTORS)}")
        if self.address is not None and self.executor != "ray":
            found.append(f"address={self.address} is of a Ray cluster: add executor=ray, or leave it out")
        if self.part not in (None, "plan"):
            try:
                parse_part(self.part)
            except ValueError as error:
                found.append(f"part={self.part}: {error}; or plan")
        if self.layout not in LAYOUT_NAMES:
            found.append(f"layout={self.layout}: allowed are {', '.join(LAYOUT_NAMES)}")
        if self.on_error not in ("raise", "skip"):
            found.append(f"on_error={self.on_error}: allowed are raise, skip")
        if not 0 <= self.max_skipped_share <= 1:
            found.append(f"max_skipped_share={self.max_skipped_share}: must lie between 0 and 1")
        if self.num_workers < 1:
            found.append(f"num_workers={self.num_workers}: must be 1 or more")
        if self.seed < 0:
            found.append(f"seed={self.seed}: must be 0 or more")
        if not self.name or set(self.name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"):
            found.append(f"name={self.name!r}: allowed are letters, digits, _ and -")
        for section in fields(self):
            value = getattr(self, section.name)
            if is_dataclass(value):
                found += getattr(value, "problems")()  # noqa: B009
        if self.train.row_patches > self.model.max_patches >= 1:
            found.append(
                f"train.row_patches={self.train.row_patches}: a document may fill a row, and model.max_patches="
                f"{self.model.max_patches}: lower the one or raise the other"
            )
        return found + patching_problems(self.model, self.patching.strategy)

    def _path_problems(self) -> list[str]:
        """URLs where only a path of this machine will do, folders in place of files, files in place of folders."""
        align, units = self.data.align, self.tokenizer
        folders = {"run_dir": self.run_dir, "export.folder": self.export.folder}
        single_files = {"out": self.out, "check.json": self.check.json, "text": self.text}
        others = {
            "data.align.source": align.source,
            "data.align.weights": align.weights,
            "tokenizer.weights": units.weights,
            "tokenizer.codebook": units.codebook,
            "tokenizer.text_model": units.text_model,
        }
        found = []
        for key, value in {**folders, **single_files, **others}.items():
            if is_url(value) and key != "export.folder":
                instead = "; for prepared data there is data_dir=" if key == "run_dir" else ""
                found.append(f"{key}={value} is a URL: a path of this machine is needed{instead}")
            elif value and key in single_files and os.path.isdir(value):
                found.append(f"{key}={value} is a folder: name a file in it")
            elif value and key in folders and os.path.isfile(value):
                found.append(f"{key}={value} is a file: name a folder")
        return found


def describe_fields(instance: Any, prefix: str = "") -> list[tuple[str, Any, str]]:
    """(key, default, what it does) of every option below a configuration, depth first."""
    rows: list[tuple[str, Any, str]] = []
    for item in fields(instance):
        value = getattr(instance, item.name)
        if is_dataclass(value):
            rows += describe_fields(value, f"{prefix}{item.name}.")
        else:
            rows.append((prefix + item.name, value, item.metadata.get("doc", "")))
    return rows
