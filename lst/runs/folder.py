"""A run's folder: where each stage finds what the stage before it left.

::

    RUN/data/                    see ``lst.data.prepare.prepare``; elsewhere, a URL too, with data_dir=
    RUN/data/card.html, .json    see ``lst.recipes.corpus_card.card``
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
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lst.configs.schema import Config
from lst.data.prepared import PreparedData
from lst.errors import UserError
from lst.storage import Folder, absolute, read_json, write_json
from lst.storage.locks import waiting_lock
from lst.tokenizers.speech import unit_places


def recorded_words(folder: RunFolder) -> list[str] | None:
    """The ``key=value`` words that a run was made with; None where no command is recorded."""
    recorded = recorded_commands(folder.commands)
    return recorded.get("quickstart", recorded.get("prepare"))


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


def arm_overrides(config: Config, overrides: Sequence[str], name: str) -> list[str]:
    """The options of one arm: the user's, then the arm's own."""
    return [*overrides, *config.arms[name], f"name={name}"]


def open_data(config: Config) -> PreparedData:
    return PreparedData(RunFolder.of(config).data, config.data.verify == "hash", unit_places(config.tokenizer))


def record_command(config: Config, command: str, overrides: Sequence[str]) -> None:
    """Keeps the words of a command that has succeeded, so that the report can repeat what was really run."""
    path = RunFolder.of(config).commands
    name = f"train {config.name}" if command == "train" else command
    # Trainings of one run may end at the same time.
    with waiting_lock(path.with_suffix(".lock")):
        write_json(path, {**recorded_commands(path), name: list(overrides)})


def recorded_commands(path: Path) -> dict[str, list[str]]:
    """The words of each command that has run, by its name (``train NAME`` for a training)."""
    recorded: dict[str, list[str]] = {}
    if path.exists():
        recorded = read_json(path, "the record of commands", f"Delete {path}.")
    return recorded


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results, and the kind of machine."""
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
