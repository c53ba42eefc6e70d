"""A run's folder: where each stage finds what the stage before it left.

::

    RUN/data/                    see ``lst.data.prepare``; elsewhere, a URL too, with data_dir=
    RUN/data/card.html, .json    see ``lst.recipes.corpus_card``
    RUN/models/NAME/             config.yaml, metrics.jsonl, tensorboard/, checkpoints/, final/; and what patching
                                 fitted: unit_model/ or speech_bpe.model
    RUN/eval/NAME.json           accuracies and bits
    RUN/eval/NAME.items.jsonl    every cloze item with its scores
    RUN/commands.json            the words of the commands that made all this
    RUN/report.html              all of it on one page
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from lst.configs.schema import Config
from lst.data.artefacts import TEXT_FILE, UNITS_FILE, VOCABULARY_FILE, artefact_path, check_artefacts, load_units
from lst.data.interleave import DocumentBuilder
from lst.data.manifest import ManifestRow
from lst.data.prepare import PrepareOptions, manifest_rows
from lst.data.shards import ShardReader, load_index
from lst.errors import UserError
from lst.model.token_layout import TokenLayout
from lst.storage import Folder, Location, absolute, fingerprint, locate, read_json, write_json
from lst.tokenizers.speech import encoder_options, unit_places
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary

CARD_PAGE, CARD_JSON = "card.html", "card.json"
REPORTED_PACKAGES = (
    "latent-speech-text", "torch", "torchaudio", "lightning", "numpy", "sentencepiece", "pocketsphinx", "webdataset",
    "hydra-core", "safetensors", "scikit-learn", "py-nanotts", "fsspec", "ray",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Paths below a run's folder, and where its prepared data lies."""

    root: Path
    data_dir: str | None = None

    @classmethod
    def of(cls, config: Config) -> RunFolder:
        """The folder that a command works in."""
        return cls(Path(config.run_dir), config.data_dir)

    @property
    def data(self) -> Folder:
        return self.root / "data" if self.data_dir is None else absolute(self.data_dir)

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def commands(self) -> Path:
        return self.root / "commands.json"

    def model(self, name: str) -> Path:
        return self.root / "models" / name

    def final(self, name: str) -> Path:
        return self.model(name) / "final"

    def eval_result(self, name: str) -> Path:
        return self.root / "eval" / f"{name}.json"

    def trained_models(self) -> list[str]:
        """Names of the models whose training has finished, oldest first."""
        finished = [path.parent.parent for path in (self.root / "models").glob("*/final/config.json")]
        return [
            path.name for path in sorted(finished, key=lambda path: (path / "final" / "config.json").stat().st_mtime)
        ]


class PreparedData:
    """What ``lst prepare`` left, opened for reading and checked for agreement.

    Args:
        folder: of the prepared data.
        verify_hash: compare the hashes of shards as they are read.
        places: where a speech model's weights are now, as ``unit_places``; else where they were.

    Raises:
        UserError: preparing has not finished, a shard is damaged, or codebook, tokenizer and vocabulary are not those
            that the shards were made with.
    """

    def __init__(self, folder: Location, verify_hash: bool = True, places: Mapping[str, Any] | None = None) -> None:
        self.folder, self.verify_hash = locate(folder), verify_hash
        self.index: dict[str, Any] = load_index(self.folder)
        check_artefacts(self.folder, self.index)
        self.tokenizer = TextTokenizer.load(artefact_path(self.folder, TEXT_FILE))
        self.codec = load_units(artefact_path(self.folder, UNITS_FILE), places)
        self.vocabulary = Vocabulary.load(artefact_path(self.folder, VOCABULARY_FILE))

    @cached_property
    def train(self) -> ShardReader:
        return self._reader("train")

    @cached_property
    def valid(self) -> ShardReader:
        return self._reader("valid")

    @cached_property
    def text(self) -> ShardReader:
        return self._reader("text")

    @cached_property
    def manifest(self) -> dict[str, ManifestRow]:
        """The recordings by utterance id: where the audio lies, which shards do not know."""
        return manifest_rows(self.folder)

    def _reader(self, split: str) -> ShardReader:
        return ShardReader(self.folder, split, self.verify_hash, self.index)

    @property
    def fingerprint(self) -> str:
        """Names the content of all shards and what made them."""
        hashes = [receipt["sha256"] for group in self.index["splits"].values() for receipt in group]
        return fingerprint([hashes, self.vocabulary.fingerprint])

    def builder(self, config: Config) -> DocumentBuilder:
        """Makes documents for patching that fits nothing; see ``lst.recipes.fitted_patching`` for the others."""
        return DocumentBuilder(
            self.tokenizer, self.vocabulary, config.data.interleave, config.seed, config.patching.aligned_to
        )


def token_layout(vocabulary: Vocabulary) -> TokenLayout:
    """What a vocabulary's ids mean to the model."""
    return TokenLayout(
        vocabulary.num_text, vocabulary.first_unit_id, vocabulary.text_id, vocabulary.speech_id, vocabulary.eos_id
    )


def prepare_options(config: Config) -> PrepareOptions:
    """The part of a configuration that preparing depends on; raises ``UserError`` for weights that it cannot use."""
    encoder_options(config.tokenizer)
    return PrepareOptions(
        corpus=config.corpus,
        text=config.text,
        seed=config.seed,
        on_error=config.on_error,
        max_skipped_share=config.max_skipped_share,
        num_workers=config.num_workers,
        executor=config.executor,
        address=config.address,
        part=config.part,
        data=config.data,
        tokenizer=config.tokenizer,
        layout=config.layout,
    )


def arm_overrides(config: Config, overrides: Sequence[str], name: str) -> list[str]:
    """The options of one arm: the user's, then the arm's own."""
    return [*overrides, *config.arms[name], f"name={name}"]


def open_data(config: Config) -> PreparedData:
    return PreparedData(RunFolder.of(config).data, config.data.verify == "hash", unit_places(config.tokenizer))


def record_command(config: Config, command: str, overrides: Sequence[str]) -> None:
    """Keeps the words of a command that has succeeded, so that the report can repeat what was really run."""
    path = RunFolder.of(config).commands
    name = f"train {config.name}" if command == "train" else command
    write_json(path, {**recorded_commands(path), name: list(overrides)})


def recorded_commands(path: Path) -> dict[str, list[str]]:
    """The words of each command that has run, by its name (``train NAME`` for a training)."""
    recorded: dict[str, list[str]] = {}
    if path.exists():
        recorded = read_json(path, "the record of commands", f"Delete {path}.")
    return recorded


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results, and the kind of machine."""
    found = {"python": sys.version.split()[0], "platform": f"{platform.system()} {platform.machine()}",
             "cpu cores": str(os.cpu_count())}  # fmt: skip
    for package in REPORTED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def require_models(run: RunFolder) -> list[str]:
    """Names of trained models; raises ``UserError`` when there is none."""
    names = run.trained_models()
    if not names:
        raise UserError(f"no trained model in {run.root / 'models'}: run lst train run_dir={run.root} first")
    return names
