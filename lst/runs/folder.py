"""A run's folder: where each stage finds the files of the stages before it.

::

    RUN/data/                    see ``lst.data.prepare.prepare``; elsewhere, a URL too, with data_dir=
    RUN/data/card.html, .json    see ``lst.recipes.corpus_card.card``
    RUN/models/NAME/             settings.json, config.yaml, versions.json, metrics.jsonl, tensorboard/, checkpoints/,
                                 final/; and what patching fitted: unit_model/ or speech_bpe.model
    RUN/eval/NAME.json           accuracies and bits; NAME@FINGERPRINT.json on data that NAME was not trained on
    RUN/eval/NAME.items.jsonl    every cloze item with its scores
    RUN/eval/NAME.bits.jsonl     its bits of every held-out utterance
    RUN/eval/NAME@BENCHMARK-FINGERPRINT.benchmark.json    accuracies on a benchmark
    RUN/eval/NAME.text.json      perplexities, where the data is text alone; NAME.text.jsonl has a line a text
    RUN/eval/NAME@TASK-SPLIT-FINGERPRINT.adapted.json     error rates of an adapted model; .adapted.jsonl: each answer
    RUN/eval/ceilings.json       what the best listener could do, where the data is stories
    RUN/eval/contamination.json  which items and held-out texts occur in the training
    RUN/control.json             steps, patches, tokens and FLOPs of the arms of a quickstart
    RUN/fitted/                  what the patchings of its arms are fitted with
    RUN/voice/NAME/              stage-1/, stage-2/: trainings of a voice; style_voice.safetensors: the finished voice
    RUN/logs/                    output of the trainings of a quickstart
    RUN/commands.json            command → its words, as given; ``train NAME`` for a training
    RUN/report.html              all of it on one page
    RUN/results.json             its verdict, accuracies, comparisons and controls

``formats`` documents the JSON files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from safetensors import SafetensorError, safe_open

from lst.configs.compose import MAIN, build_config
from lst.configs.schema import CEILINGS, CONTAMINATION, Config
from lst.data.prepared import CARD_FILES, PreparedData
from lst.errors import UserError
from lst.model.checkpoint import WEIGHTS_FILE
from lst.progress import say
from lst.runs.formats import read_record, versioned
from lst.storage import Folder, absolute, clear_partial_files, is_several, write_json
from lst.storage.locks import waiting_lock
from lst.tokenizers.speech import unit_places

CARD_PAGE, CARD_JSON = CARD_FILES
BENCHMARK_SUFFIX, TEXT_SUFFIX, ADAPTED_SUFFIX = ".benchmark.json", ".text.json", ".adapted.json"
# What pages take over from a record of commands, which may come from elsewhere: options that their numbers depend on.
# None of them names a place, a host, weights or a file of the user's.
PAGE_OPTIONS = (
    "seed",
    "arms.",
    "card.",
    "data.interleave.",
    "data.mix.",
    "patching.",
    "model.",
    "loss.",
    "train.",
    "eval.",
)


class _OfData(TypedDict, total=False):
    data: str


@dataclass(frozen=True)
class RunFolder:
    """Paths below a run's folder, and the place of its prepared data (elsewhere with ``data_dir=``)."""

    root: Path
    data_dir: str | None = None

    @classmethod
    def of(cls, config: Config) -> RunFolder:
        """The folder that a command works in; raises ``UserError`` where ``data_dir`` is a list of folders."""
        if is_several(config.data_dir or ""):
            raise UserError(
                f"data_dir={config.data_dir}: one folder of prepared data is needed. To train on several corpora, "
                "prepare them together with lst prepare corpus=[NAME=PLACE,…], so that they share codebook and "
                "text pieces; corpora may be added to such data later, and data.sources.weights weighs them"
            )
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
    def results(self) -> Path:
        """What the report says, in numbers."""
        return self.root / "results.json"

    @property
    def commands(self) -> Path:
        """Record of the commands that succeeded."""
        return self.root / "commands.json"

    @property
    def control(self) -> Path:
        """Record of what the arms of a quickstart use."""
        return self.root / "control.json"

    @property
    def fitted(self) -> Path:
        """What the patchings of the arms of a quickstart are fitted with."""
        return self.root / "fitted"

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
        found = (self.root / "eval").glob(f"{name}@*.json")
        others = (BENCHMARK_SUFFIX, TEXT_SUFFIX, ADAPTED_SUFFIX)
        return sorted(path for path in found if not path.name.endswith(others))

    def eval_benchmark(self, name: str, benchmark: str, data: str) -> Path:
        """Result of a model on a benchmark: its name, and the fingerprint of its content."""
        return self.root / "eval" / f"{name}@{benchmark}-{data[:12]}{BENCHMARK_SUFFIX}"

    def eval_adapted(self, name: str, task: str, split: str, data: str) -> Path:
        """Error rates of an adapted model: the task, the split of the data, and the data's fingerprint."""
        return self.root / "eval" / f"{name}@{task}-{split}-{data[:12]}{ADAPTED_SUFFIX}"

    def eval_adapted_results(self, name: str) -> list[Path]:
        """Results of an adapted model, of all tasks, splits and data."""
        return sorted((self.root / "eval").glob(f"{name}@*{ADAPTED_SUFFIX}"))

    def eval_benchmarks(self, name: str) -> list[Path]:
        """Results of a model on benchmarks."""
        return sorted((self.root / "eval").glob(f"{name}@*{BENCHMARK_SUFFIX}"))

    def eval_items(self, name: str, other_data: str = "") -> Path:
        """Scores of each cloze item of a model's evaluation."""
        return self.eval_result(name, other_data).with_suffix(".items.jsonl")

    def eval_questions(self, name: str, other_data: str = "") -> Path:
        """Scores of each ending of the questions of a model's evaluation."""
        return self.eval_result(name, other_data).with_suffix(".questions.jsonl")

    def eval_bits(self, name: str, other_data: str = "") -> Path:
        """Bits of each held-out utterance of a model's evaluation."""
        return self.eval_result(name, other_data).with_suffix(".bits.jsonl")

    def eval_text(self, name: str, other_data: str = "") -> Path:
        """Perplexities of a model on text alone; ``other_data`` as in ``eval_result``."""
        return self.eval_result(name, other_data).with_suffix(TEXT_SUFFIX)

    def eval_text_rows(self, name: str, other_data: str = "") -> Path:
        """What a model pays for each held-out text."""
        return self.eval_text(name, other_data).with_suffix(".jsonl")

    def ceilings(self, other_data: str = "") -> Path:
        """What the best listener could do; ``other_data`` as in ``eval_result``."""
        return self.eval_result(CEILINGS, other_data)

    def contamination(self, other_data: str = "") -> Path:
        """What of the held-out data occurs in the training; ``other_data`` as in ``eval_result``."""
        return self.eval_result(CONTAMINATION, other_data)

    def eval_controls(self, name: str, other_data: str = "") -> Path:
        """What controls give each ending of the items of a model's evaluation."""
        return self.eval_result(name, other_data).with_suffix(".controls.jsonl")

    def data_of_training(self, name: str) -> str:
        """Fingerprint of the data that a model was trained on; empty where that is not known."""
        path = self.model(name) / "settings.json"
        if not path.exists():
            return ""
        remedy = f"Delete {path.parent} and train again."
        return read_record(path, _OfData, "the record of a training's settings", remedy).get("data", "")

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
        clear_partial_files(path.parent, stem=path.stem)
        write_json(path, versioned({**_recorded_commands(path), name: list(overrides)}))


def _recorded_commands(path: Path) -> dict[str, list[str]]:
    return read_record(path, dict[str, list[str]], "the record of commands", f"Delete {path}.") if path.exists() else {}


def recorded_words(folder: RunFolder) -> list[str] | None:
    """The ``key=value`` words that the run was made with; None if no command is recorded."""
    recorded = _recorded_commands(folder.commands)
    return recorded.get("quickstart", recorded.get("prepare"))


def page_config(config: Config, overrides: Sequence[str]) -> Config:
    """The configuration of a page of a run: ``overrides`` over ``PAGE_OPTIONS`` as the run was made with.

    Args:
        config: of ``overrides`` alone.
        overrides: words of the command line.

    Raises:
        UserError: recorded options are not allowed, or the data lies where only the record says.
    """
    folder = RunFolder.of(config)
    if (words := recorded_words(folder)) is None:
        return config
    own = {word.partition("=")[0] for word in overrides}
    kept = [word for word in words if _is_of_pages(word) and word.partition("=")[0] not in own]
    places = [word.removeprefix("data_dir=") for word in words if word.startswith("data_dir=")]
    if places and config.data_dir is None and not (folder.root / "data").exists():
        raise UserError(
            f"{folder.root} holds no data; its record of commands names data_dir={places[-1]!r}, and places are taken "
            "from the command line alone: add data_dir=, if you trust that place"
        )
    try:
        return build_config([*kept, *overrides])
    except UserError as error:
        raise UserError(
            f"{folder.commands} records options that are not allowed here: {error}\nDelete that file: pages are then "
            "made with the options of the command line alone"
        ) from None


def _is_of_pages(word: str) -> bool:
    """Whether pages take over a recorded word: an option of theirs, or a shipped choice of a group."""
    key, _, value = word.partition("=")
    if MAIN.is_group(key):
        return value in MAIN.groups[key]
    return any(key == option or (option.endswith(".") and key.startswith(option)) for option in PAGE_OPTIONS)


def has_finite_weights(folder: Path) -> bool:
    """Whether the weights of a model's folder are finite. That they are not is said; damage is found on opening it."""
    path = folder / WEIGHTS_FILE
    # A pipe in its place would be waited for.
    if not path.is_file():
        return True
    try:
        with safe_open(path, framework="pt") as file:
            is_finite = all(bool(file.get_tensor(name).isfinite().all()) for name in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return True
    if not is_finite:
        say(f"the weights in {folder} are not finite: this model does not count as trained; lst train trains it again")
    return is_finite


def require_models(run: RunFolder, only_finite: bool = True) -> list[str]:
    """Names of trained models; raises ``UserError`` when there is none.

    Args:
        run: the run.
        only_finite: leave out models whose weights are not finite, with a line for each.
    """
    names = [name for name in run.trained_models() if not only_finite or has_finite_weights(run.final(name))]
    if not names:
        raise UserError(f"no trained model in {run.root / 'models'}: run lst train run_dir={run.root} first")
    return names
