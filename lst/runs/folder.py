"""A run's folder: where each stage finds the files of the stages before it.

::

    RUN/data/                    see ``lst.data.prepare.prepare``; elsewhere, a URL too, with data_dir=
    RUN/data/card.html, .json    see ``lst.recipes.corpus_card.card``
    RUN/models/NAME/             settings.json, config.yaml, versions.json, metrics.jsonl, tensorboard/, checkpoints/,
                                 final/; and what patching fitted: unit_model/ or speech_bpe.model
    RUN/eval/NAME.json           accuracies and bits; NAME@FINGERPRINT.json on data that NAME was not trained on
    RUN/eval/NAME.items.jsonl    every cloze item with its scores
    RUN/commands.json            command → its words, as given; ``train NAME`` for a training
    RUN/report.html              all of it on one page

``formats`` documents the JSON files.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.errors import UserError
from lst.runs.formats import read_record, versioned
from lst.storage import Folder, absolute, write_json
from lst.storage.locks import waiting_lock
from lst.tokenizers.speech import unit_places

CARD_PAGE, CARD_JSON = "card.html", "card.json"
REPORTED_PACKAGES = (
    "latent-speech-text",
    "torch",
    "torchaudio",
    "lightning",
    "numpy",
    "sentencepiece",
    "pocketsphinx",
    "webdataset",
    "hydra-core",
    "safetensors",
    "scikit-learn",
    "py-nanotts",
    "fsspec",
    "ray",
)


@dataclass(frozen=True)
class RunFolder:
    """Paths below a run's folder, and the place of its prepared data (elsewhere with ``data_dir=``)."""

    root: Path
    data_dir: str | None = None

    @classmethod
    def of(cls, config: Config) -> RunFolder:
        """The folder that a command works in."""
        return cls(Path(config.run_dir), config.data_dir)

    @property
    def data(self) -> Folder:
        """Folder of the prepared data."""
        return self.root / "data" if self.data_dir is None else absolute(self.data_dir)

    @property
    def report(self) -> Path:
        """Page of the run's report."""
        return self.root / "report.html"

    @property
    def commands(self) -> Path:
        """Record of the commands that succeeded."""
        return self.root / "commands.json"

    def model(self, name: str) -> Path:
        """Folder of a training."""
        return self.root / "models" / name

    def final(self, name: str) -> Path:
        """Folder of a trained model."""
        return self.model(name) / "final"

    def eval_result(self, name: str, other_data: str = "") -> Path:
        """Result of a model's evaluation; ``other_data`` is the fingerprint of data that it was not trained on."""
        return self.root / "eval" / f"{name}{other_data and f'@{other_data[:12]}'}.json"

    def eval_results_of_other_data(self, name: str) -> list[Path]:
        """Results of a model's evaluations on data that it was not trained on."""
        return sorted((self.root / "eval").glob(f"{name}@*.json"))

    def eval_items(self, name: str, other_data: str = "") -> Path:
        """Scores of each cloze item of a model's evaluation."""
        return self.eval_result(name, other_data).with_suffix(".items.jsonl")

    def trained_models(self) -> list[str]:
        """Names of the models whose training has finished, oldest first."""
        finished = (self.root / "models").glob("*/final/config.json")
        return [path.parent.parent.name for path in sorted(finished, key=lambda path: path.stat().st_mtime)]


def arm_overrides(config: Config, overrides: Sequence[str], name: str) -> list[str]:
    """The options of one arm: the user's, then the arm's own."""
    return [*overrides, *config.arms[name], f"name={name}"]


def open_data(config: Config) -> PreparedData:
    """Opens the run's prepared data; raises ``UserError`` if it is absent or damaged."""
    return PreparedData(RunFolder.of(config).data, config.data.verify == "hash", unit_places(config.tokenizer))


def record_command(config: Config, command: str, overrides: Sequence[str]) -> None:
    """Records the words of a command that succeeded, so that the report can name the commands that made the run."""
    path = RunFolder.of(config).commands
    name = f"train {config.name}" if command == "train" else command
    # Trainings of one run may end at the same time.
    with waiting_lock(path.with_suffix(".lock")):
        write_json(path, versioned({**_recorded_commands(path), name: list(overrides)}))


def _recorded_commands(path: Path) -> dict[str, list[str]]:
    return read_record(path, dict[str, list[str]], "the record of commands", f"Delete {path}.") if path.exists() else {}


def recorded_words(folder: RunFolder) -> list[str] | None:
    """The ``key=value`` words that the run was made with; None if no command is recorded."""
    recorded = _recorded_commands(folder.commands)
    return recorded.get("quickstart", recorded.get("prepare"))


def versions() -> dict[str, str]:
    """Content of ``versions.json``: Python, the packages that decide results, and the kind of machine."""
    found = {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu cores": str(os.cpu_count()),
    }
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
