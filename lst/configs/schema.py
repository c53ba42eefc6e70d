"""Every option, its type, its default and what it does. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import attrgetter

from lst.configs.benchmark_schema import BenchmarkConfig
from lst.configs.eval_schema import EvalConfig
from lst.configs.family import RULES, family_values
from lst.configs.plan_schema import PlanConfig
from lst.configs.quick_voice_schema import QuickVoiceConfig
from lst.configs.text_models import with_shape_of
from lst.configs.trained_models import begun_as, is_own_model
from lst.data.config import (
    EXECUTORS,
    LAYOUT_NAMES,
    NO_VOICE,
    SIMULATED,
    DataConfig,
    parse_part,
)
from lst.model.config import (
    FAMILY_DEPTHS,
    UNPATCHED_STRATEGIES,
    ModelConfig,
    PatchingConfig,
    patching_problems,
)
from lst.model.loss_config import LossConfig
from lst.options import Options, option
from lst.storage import is_url, place_list_problems
from lst.tokenizers.config import TokenizerConfig

EXPORT_FORMATS = ("on_the_fly", "textgrid", "ctm", "llama")
# Lightning's, without those that need layers of another library, and without 16-true: AdamW's ε is 0 in float16.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true")
CONTROLS = ("steps", "compute", "data", "flops")
SCHEDULES = ("cosine", "linear", "constant", "wsd")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
STRATEGIES = ("auto", "ddp", "fsdp", "hsdp")


# Beside the results of models lie files of these names.
CEILINGS, CONTAMINATION = "ceilings", "contamination"


def name_problems(name: str) -> list[str]:
    """What is wrong with the name of a model: it becomes a folder's."""
    if name in (CEILINGS, CONTAMINATION):
        return [f"name={name}: results of lst eval have a file of this name; choose another"]
    return [] if re.fullmatch(r"[A-Za-z0-9_-]+", name) else [f"name={name!r}: allowed are letters, digits, _ and -"]


@dataclass
class TrainConfig(Options, prefix="train."):
    """Options of training."""

    rows: int = option(2, "rows that a device computes at a time", low=1)
    row_patches: int = option(512, "patches of a row; tokens, for the baseline", low=8)
    batch_patches: int | None = option(
        None,
        "patch slots of a step's batch, over all devices: gradients of several rounds of rows are added up; null takes "
        "one round on each device",
        low=8,
        is_later=True,
    )
    max_steps: int = option(360, "optimiser steps", low=1)
    learning_rate: float = option(3e-3, "peak learning rate", above=0)
    warmup_steps: int | None = option(None, "steps of linear warm-up; null takes warmup_share", low=0)
    warmup_share: float = option(
        0.1,
        "share of the steps that is linear warm-up",
        low=0,
        high=1,
        needs="train.warmup_steps=null",
        is_later=True,
    )
    schedule: str = option(
        "cosine",
        "the rate after the warm-up: cosine, linear, constant, or wsd (constant, then linear)",
        choices=SCHEDULES,
        is_later=True,
    )
    decay_share: float = option(
        0.2, "share of the steps in which wsd decays", above=0, high=1, needs="train.schedule=wsd", is_later=True
    )
    final_rate_share: float = option(
        0.01, "share of the peak rate at the last step", low=0, high=1, needs="train.schedule!=constant"
    )
    beta1: float = option(0.9, "AdamW's first decay", low=0, below=1)
    beta2: float = option(0.95, "AdamW's second decay", low=0, below=1)
    weight_decay: float = option(0.1, "AdamW's weight decay, of matrices only", low=0)
    clip_norm: float = option(1.0, "gradients are scaled down to this norm", above=0)
    eval_every: int = option(90, "steps between losses on held-out documents", low=1)
    eval_utterances: int = option(48, "held-out utterances for those losses", low=1)
    eval_items: int = option(
        0,
        "held-out cloze items that are scored with those losses, in every direction; 0 scores none",
        low=0,
        is_later=True,
    )
    sample_every: int = option(
        0,
        "steps between texts with which the model goes on from a held-out prompt (samples.jsonl); 0 draws none",
        low=0,
        is_later=True,
    )
    checkpoint_every: int = option(90, "steps between checkpoints", low=1)
    read_every: int | None = option(
        None, "steps between readings of the loss; null is 10 on a GPU, which waits then, else 1", low=1, is_later=True
    )
    watch_every: int = option(
        50, "steps between rows of speed.jsonl: tokens/s, share of the device's peak, memory", low=1, is_later=True
    )
    logger: str = option(
        "none",
        "where the numbers go besides metrics.jsonl, speed.jsonl and TensorBoard: none, or wandb",
        choices=("none", "wandb"),
        is_later=True,
    )
    keep_checkpoints: int = option(2, "latest checkpoints that are kept", low=1)
    keep_at: list[int] = option([], "steps whose checkpoints are written and stay, besides the latest", low=1)
    verify_checkpoints: bool = option(True, "compare hashes of a checkpoint before resuming from it")
    on_nonfinite: str = option(
        "raise",
        "a loss or gradient that is not finite: raise ends the training before the update, skip leaves the update out",
        choices=("raise", "skip"),
    )
    max_skipped_updates: int = option(10, "updates at most that train.on_nonfinite=skip leaves out", low=0)
    skip_batches: list[int] = option([], "numbers of batches that are left out, from 1")
    resume_from: str | None = option(
        None, "checkpoint to go on from with other rates: a step, or a folder of another training", path="folder"
    )
    branch_from: str | None = option(
        None,
        "checkpoint of the stable phase of another wsd training, a folder: this one goes on from it and decays",
        path="folder",
        needs="train.schedule=wsd",
    )
    accelerator: str = option("auto", "Lightning's accelerator", choices=ACCELERATORS)
    devices: int = option(1, "devices of each machine", low=1, is_later=True)
    num_nodes: int = option(1, "machines, on which torchrun or srun starts lst train", low=1, is_later=True)
    strategy: str = option(
        "auto",
        "on several devices: ddp (each has the whole model), fsdp (each has a part of it), hsdp (each machine has the "
        "whole, each device a part); auto is ddp",
        choices=STRATEGIES,
        is_later=True,
    )
    reshard: bool = option(False, "go on from a checkpoint that another number of processes wrote", is_later=True)
    preempt_s: float | None = option(
        None,
        "seconds from a signal to stop until the checkpoint must be written, else the training ends without it; null "
        "sets no limit",
        above=0,
        unit="s",
        is_later=True,
    )
    recompute_every: int = option(
        0,
        "every n-th block computes its activations again in the backward pass and keeps none: 1 is every block, 0 none",
        low=0,
        is_later=True,
    )
    compile: bool = option(False, "torch.compile the loss: takes minutes at first")
    compile_by: str = option(
        "loss",
        "what torch.compile takes as a whole: the loss, or each block; fsdp and recompute_every need block",
        choices=("loss", "block"),
        needs="train.compile=true",
        is_later=True,
    )
    precision: str = option("32-true", "Lightning's precision", choices=PRECISIONS)

    @property
    def num_processes(self) -> int:
        """Processes that train together, one for each device."""
        return self.devices * self.num_nodes

    @property
    def rounds(self) -> int:
        """Times that each device computes its rows for one step."""
        return max(1, (self.batch_patches or 0) // (self.rows * self.row_patches * self.num_processes))

    @property
    def num_parts(self) -> int:
        """Parts of a step's batch that are computed one by one: rounds of all devices."""
        return self.rounds * self.num_processes

    @property
    def step_patches(self) -> int:
        """Patch slots of a step's batch."""
        return self.num_parts * self.rows * self.row_patches

    @property
    def num_warmup_steps(self) -> int:
        """Steps of linear warm-up."""
        return round(self.warmup_share * self.max_steps) if self.warmup_steps is None else self.warmup_steps

    @property
    def num_decay_steps(self) -> int:
        """Steps in which ``wsd`` decays."""
        return round(self.decay_share * self.max_steps)

    @property
    def first_decay_step(self) -> int:
        """Steps after which ``wsd`` decays."""
        return max(self.num_warmup_steps, self.max_steps - self.num_decay_steps)

    def rules(self) -> list[str]:
        """Steps lie within the training, batches are numbered from 1, and it starts from one checkpoint."""
        found = []
        if self.warmup_steps is not None and self.warmup_steps > self.max_steps:
            found.append(
                f"train.warmup_steps={self.warmup_steps}: must lie between 0 and train.max_steps={self.max_steps}"
            )
        if self.skip_batches and min(self.skip_batches) < 1:
            found.append(f"train.skip_batches={list(self.skip_batches)}: batches are numbered from 1")
        if self.keep_at and max(self.keep_at) > self.max_steps:
            found.append(f"train.keep_at={list(self.keep_at)}: there are train.max_steps={self.max_steps} steps")
        if self.branch_from is not None and self.resume_from is not None:
            found.append("train.branch_from and train.resume_from each name where the training starts: leave one out")
        return found + self._device_rules()

    def _device_rules(self) -> list[str]:
        """A batch is divided evenly, and the strategy has what it needs."""
        found = []
        unit = self.rows * self.row_patches * self.num_processes
        if self.batch_patches is not None and unit > 0 and self.batch_patches % unit:
            below = self.batch_patches // unit * unit
            nearest = [below, below + unit] if below else [unit]
            found.append(
                f"train.batch_patches={self.batch_patches}: {self.num_processes} devices compute train.rows="
                f"{self.rows} × train.row_patches={self.row_patches} at a time, {unit} patches together, and a batch "
                f"is a multiple of that: the nearest are {' and '.join(map(str, nearest))}; or change train.rows"
            )
        is_sharded = self.strategy in ("fsdp", "hsdp")
        if is_sharded and self.precision == "16-mixed":
            found.append(f"train.strategy={self.strategy} has no 16-mixed: take train.precision=bf16-mixed")
        if self.strategy == "hsdp" and self.num_nodes == 1:
            found.append("train.strategy=hsdp needs several machines (train.num_nodes): on one, take fsdp")
        if is_sharded and self.sample_every:
            found.append(
                f"train.sample_every with train.strategy={self.strategy}: no device holds the whole model to draw "
                "from: take ddp, or leave it out"
            )
        if self.compile and self.compile_by == "loss" and (is_sharded or self.recompute_every):
            found.append("train.compile_by=loss with fsdp, hsdp or train.recompute_every: take train.compile_by=block")
        return found


@dataclass
class GenerateConfig(Options, prefix="generate."):
    """Options of continuing a prompt."""

    text: str | None = option(None, "written prompt; with generate.audio=, what is read first", is_prose=True)
    audio: str | None = option(None, "spoken prompt, an audio file", path="file", url_allowed=True)
    prompts: str | None = option(
        None,
        "prompts as JSON lines of id, text, audio, in place of one; their results go to the folder out=",
        path="file",
    )
    model: str | None = option(
        None,
        "a model's folder, such as a copy of final/, or hub:OWNER/NAME, in place of run_dir= and name=",
        path="folder",
    )
    modality: str = option(
        "same",
        "what to continue with: the same as the prompt's end (speech with out=FILE.wav), or any (it may switch)",
        choices=("same", "text", "speech", "any"),
    )
    max_new_tokens: int = option(50, "new tokens at most", low=1)
    temperature: float = option(0.8, "0 takes the likeliest token", low=0)
    top_k: int = option(0, "draw from the k likeliest only; 0 sets no limit", low=0, needs="generate.temperature!=0")
    top_p: float = option(
        1.0,
        "draw from the likeliest that together have this probability; 1 sets no limit",
        above=0,
        high=1,
        needs="generate.temperature!=0",
    )
    stop: list[str] = option([], "texts at which it ends; they are cut off")
    no_repeat_units: int = option(
        0, "so many units in a row never occur twice, nor one unit for longer; 0 sets no limit", low=0
    )
    stream: bool = option(False, "print text and units as they are drawn", needs="generate.prompts=null")


@dataclass
class ReportConfig(Options, prefix="report."):
    """Options of the report."""

    num_audio: int = option(4, "utterances to listen to in the report", low=0)
    num_questions: int = option(12, "questions to read and listen to in the report, drawn from the seed", low=0)
    continuation_s: float = option(
        3.0, "seconds of speech that each model adds to a spoken prompt; 0 adds none", low=0, high=20, unit="s"
    )


@dataclass
class CardConfig(Options, prefix="card."):
    """Options of the corpus card."""

    title: str = option("", "name of the corpus on its card; empty takes what it was made from", is_prose=True)
    licence: str = option("", "licence of the corpus, as its card states it", is_prose=True)
    max_utterances: int = option(2000, "utterances sampled for documents and patches; 0 takes all of training", low=0)
    after_prepare: bool = option(True, "write the card at the end of lst prepare")


@dataclass
class ExportConfig(Options, prefix="export."):
    """Options of the export."""

    format: str = option(
        "on_the_fly",
        "on_the_fly (words and units), textgrid (a file an utterance), ctm (words and times); or llama: the model "
        "name=, a token baseline, as a Hugging Face folder",
        choices=EXPORT_FORMATS,
    )
    folder: str = option("export", "folder or URL that the files go into", path="folder", url_allowed=True)
    licence: str = option("", "licence of the model, as its card states it", is_prose=True, needs="hub!=null")


@dataclass
class CheckConfig(Options, prefix="check."):
    """Options of the check of a corpus or of prepared data."""

    examples: int = option(5, "examples of each kind of problem that are shown; 0 shows all", low=0)
    decode: bool = option(
        False, "decode all audio of corpus=, which finds damage behind a sound header", needs="corpus!=null"
    )
    json: str | None = option(None, "file to write the whole report to, as JSON", path="file")


@dataclass
class StorageConfig(Options, prefix="storage."):
    """Places that files may name."""

    allow_protocols: list[str] = option([], "protocols that URLs may have beside file, http, s3, gs and abfs")
    allow_hosts: list[str] = option(
        [], "the only HTTP hosts that a corpus may name (NAME or *.NAME); empty allows all public ones"
    )
    max_file_bytes: int = option(
        256 << 20, "larger transcripts, tables and decoded recordings are refused", low=1 << 20, unit="bytes"
    )

    def rules(self) -> list[str]:
        """Protocols and hosts are written as URLs have them."""
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
class Config(Options):
    """All options but those of ``lst synthetic``."""

    run_dir: str = option(
        "runs/quickstart", "folder of the run", path="folder", note="for prepared data there is data_dir="
    )
    name: str = option("curriculum", "name of the model within the run")
    seed: int = option(0, "seed of everything that is drawn", low=0)
    corpus: str | None = option(
        None,
        "your recordings: a folder or a manifest, or its URL; several as [NAME=PLACE,…]; or simulated, which is short "
        "for data.voice=simulated; or none: no speech, text= alone; without, stories are synthesised",
        path="file or folder",
        url_allowed=True,
    )
    text: str | None = option(
        None,
        "text file, a document a line: read aloud, or with corpus= used as written text; with corpus=none also a "
        "folder, names with *, or a URL of text, JSON lines or Parquet",
        path="file or folder",
        url_allowed=True,
    )
    layout: str = option("auto", "how corpus= is laid out", choices=LAYOUT_NAMES, needs="corpus!=null")
    items: str | None = option(
        None,
        "file of a benchmark's items, hub:NAME@REVISION:FILE of a data set, or for pairs a folder; swuggy and "
        "consistency make their own without it",
        path="file or folder",
    )
    out: str | None = option(
        None,
        "what is written: a file of lst tokenizer, the folder of a benchmark, sound of lst generate (FILE.wav)",
        path="file or folder",
    )
    hub: str | None = option(
        None,
        "where lst export writes the model name= with its card: a new folder, or hub:OWNER/NAME to push it",
        path="folder",
    )
    on_error: str = option(
        "raise",
        "faulty utterances: raise, or skip (they are listed)",
        choices=("raise", "skip"),
        needs="corpus!=null or text!=null",
    )
    max_skipped_share: float = option(
        0.05, "share that on_error=skip may leave out", low=0, high=1, needs="on_error=skip"
    )
    num_workers: int = option(2, "processes that prepare", low=1)
    data_dir: str | None = option(
        None,
        "where prepared data lies, a folder or a URL (s3://…); without, RUN_DIR/data",
        path="folder",
        url_allowed=True,
    )
    verify_models: bool = option(True, "compare the SHA-256 of a model's files when it is opened; false is quicker")
    executor: str = option("local", "what prepares: local (processes here), or ray", choices=EXECUTORS)
    address: str | None = option(None, "Ray cluster (auto, ray://HOST:PORT); without, Ray is started here")
    part: str | None = option(None, "prepare in parts, of a job array: plan, then i/n each, then without part")
    arms: dict[str, list[str]] = option({}, "models that quickstart trains: name and options")
    control: str = option(
        "steps",
        "what the arms have in common with the first: steps, compute (steps × patches), data (tokens) or flops; the "
        "steps of the others follow",
        choices=CONTROLS,
    )
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    patching: PatchingConfig = field(default_factory=PatchingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    voice: QuickVoiceConfig = field(default_factory=QuickVoiceConfig)
    card: CardConfig = field(default_factory=CardConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    check: CheckConfig = field(default_factory=CheckConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)

    def settle(self, given: Collection[str]) -> None:
        """``corpus=simulated`` and ``corpus=none`` are short for voices; the aligner follows from the corpus.

        With ``model=family``, sizes and rates that were not given follow from the depth. ``model.init_from`` gives the
        backbone, or the whole model and its patching, their shape.

        Raises:
            UserError: the model of ``model.init_from`` cannot be read, or does not fit.
        """
        if self.model.init_from is not None and is_own_model(self.model.init_from):
            self.model, self.patching = begun_as(self.model, self.patching, self.model.init_from, given)
        elif self.model.init_from is not None:
            self.model = with_shape_of(self.model, self.model.init_from)
        if self.corpus is not None and self.corpus in (SIMULATED, NO_VOICE):
            self.data.voice, self.corpus = self.corpus, None
        self.data.settle(given)
        if self.data.align.method == "auto":
            self.data.align.method = "stamps" if self.corpus is None else "pocketsphinx"
        if self.model.family and FAMILY_DEPTHS[0] <= self.model.depth <= FAMILY_DEPTHS[1]:
            own = {key: attrgetter(key)(self) for key in RULES if key in given}
            is_patched = self.patching.strategy not in UNPATCHED_STRATEGIES
            for key, value in family_values(self.model.depth, is_patched, own).items():
                section, _, name = key.partition(".")
                setattr(getattr(self, section), name, value)

    def rules(self) -> list[str]:
        """Options of different sections agree."""
        found = name_problems(self.name) + place_list_problems("corpus", self.corpus or "", (SIMULATED, NO_VOICE))
        if self.address is not None and self.executor != "ray":
            found.append(f"address={self.address} is of a Ray cluster: add executor=ray, or leave it out")
        if self.data.voice == NO_VOICE and self.text is None:
            found.append("corpus=none: there is no speech, so name the text with text=FILE, FOLDER or URL")
        if self.text is not None and self.data.voice != NO_VOICE and (is_url(self.text) or os.path.isdir(self.text)):
            found.append(f"text={self.text}: a file of this machine is needed; folders and URLs are for corpus=none")
        if self.part not in (None, "plan"):
            try:
                parse_part(self.part)
            except ValueError as error:
                found.append(f"part={self.part}: {error}; or plan")
        if self.data.num_streams % max(1, self.train.num_processes):
            found.append(
                f"data.num_streams={self.data.num_streams}: each of the {self.train.num_processes} processes (devices "
                f"× machines) needs streams of its own: take a multiple of {self.train.num_processes}"
            )
        if self.train.row_patches > self.model.max_patches >= 1:
            found.append(
                f"train.row_patches={self.train.row_patches}: a document may fill a row, and model.max_patches="
                f"{self.model.max_patches}: lower the one or raise the other"
            )
        return found + patching_problems(self.model, self.patching.strategy)
