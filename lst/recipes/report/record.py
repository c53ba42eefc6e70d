"""Everything a report tells, read from a run's folder. Results that are missing are None or empty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from lst import storage
from lst.configs.compose import build_config
from lst.configs.schema import Config, EvalConfig
from lst.data.audio import audio_exists, read_row_audio
from lst.data.prepared import LEFT_OUT_FILE, PreparedData
from lst.data.shards import INDEX_FILE, Index, LeftOut
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.evaluation.results import BITS_COLUMNS
from lst.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from lst.model.config import PatchingConfig
from lst.recipes.report.statistics import corpus_statistics
from lst.runs import RunFolder, open_data, require_models
from lst.runs.folder import recorded_words
from lst.storage import Location, read_json, read_jsonl, sha256


@dataclass(frozen=True)
class ModelRecord:
    """A trained model and what is known of it.

    Attributes:
        name: within the run.
        colour: index of its colour in the plots.
        shape: the model's own configuration.
        patching: how it was trained to cut speech.
        num_parameters: all of its weights.
        settings: of its training, from ``settings.json``; empty where that file is missing.
        versions: of the packages it was trained with.
        metrics: rows of ``metrics.jsonl``.
        result: ``eval/NAME.json``, or None before ``lst eval``.
        items: rows of ``eval/NAME.items.jsonl``.
        other_results: of evaluations on other data than the model was trained on.
        finished: when training ended, in UTC.
    """

    name: str
    colour: int
    shape: dict[str, Any]
    patching: PatchingConfig
    num_parameters: int
    settings: dict[str, Any]
    versions: dict[str, str]
    metrics: list[dict[str, Any]]
    result: dict[str, Any] | None
    items: list[dict[str, Any]]
    finished: datetime
    other_results: tuple[dict[str, Any], ...] = ()

    @property
    def cost(self) -> dict[str, Any] | None:
        """The last training step's row, with the totals of the training; None where the metrics are gone."""
        return next((row for row in reversed(self.metrics) if "training_flops" in row), None)

    @property
    def patching_text(self) -> str:
        """How speech is cut in training, in a few words."""
        cut = self.patching
        static = f"static, {cut.static_patch_size} units"
        aligned = ("aligned to words" if cut.aligned_to == "word" else "aligned to BPE pieces") + (
            ", silences merged" if cut.silence == "merged" else ""
        )
        text = {
            "none": "no patches: a token each",
            "static": static,
            "aligned": aligned,
            "mixed": f"{aligned} or {static}",
            "curriculum": f"{aligned}, then {static}",
            "entropy": f"where {cut.entropy_measure} exceeds {cut.entropy_threshold or 0:.2f} nats",
            "speech_bpe": "no patches: a piece of units each",
        }.get(cut.strategy, cut.strategy)
        return f"{text}; repeated units read once" if cut.deduplicate else text


@dataclass(frozen=True)
class RunRecord:
    """A run: its configuration, prepared data and models."""

    config: Config
    overrides: tuple[str, ...]
    folder: RunFolder
    data: PreparedData
    models: tuple[ModelRecord, ...]

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.folder.root.resolve().name

    @property
    def evaluated(self) -> list[ModelRecord]:
        """Models that have a result."""
        return [model for model in self.models if model.result is not None]

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Results of the evaluated models, by name."""
        return {model.name: model.result for model in self.models if model.result is not None}

    @property
    def colours(self) -> dict[str, int]:
        """Index of each model's colour in the plots."""
        return {model.name: model.colour for model in self.models}

    @property
    def is_synthesised(self) -> bool:
        """Whether the speech is synthesised, not recorded."""
        return bool(self.data.index["is_synthesised"])

    @property
    def speech(self) -> str:
        """``synthesised speech`` or ``recordings``."""
        return speech_name(self.data.index)

    @property
    def badge(self) -> str:
        """Marks sections whose numbers are of synthesised speech; empty for recordings."""
        return self.speech if self.is_synthesised else ""

    @property
    def frame_rate_hz(self) -> int:
        """Speech units a second."""
        return self.data.vocabulary.unit_rate_hz

    @cached_property
    def train(self) -> list[Utterance]:
        """Spoken training utterances."""
        return list(self.data.train)

    @cached_property
    def valid(self) -> list[Utterance]:
        """Held-out utterances."""
        return list(self.data.valid)

    @cached_property
    def statistics(self) -> dict[str, dict[str, Any]]:
        """Numbers of each split; see ``corpus_statistics``."""
        return corpus_statistics(self.train, self.valid, self.data.text, self.frame_rate_hz)

    @property
    def left_out_path(self) -> Location:
        """The list of utterances that are not used."""
        return self.folder.data / LEFT_OUT_FILE

    @cached_property
    def left_out(self) -> list[LeftOut]:
        """``id`` and ``reason`` of each utterance that is not used."""
        return read_jsonl(self.left_out_path, LeftOut)

    @property
    def prepared(self) -> datetime:
        """When the data was prepared, in UTC."""
        return modified(self.folder.data / INDEX_FILE)

    def has_audio(self, utterance: Utterance) -> bool:
        """Whether an utterance's audio is where the manifest says."""
        row = self.data.manifest.get(utterance.id)
        return row is not None and audio_exists(row.audio_ref)

    def waveform_of(self, utterance: Utterance) -> npt.NDArray[np.float32]:
        """The audio of an utterance, float32 [num_samples] at 16 kHz; raises ``UserError`` where it cannot be read."""
        return read_row_audio(self.data.manifest[utterance.id])


def read_run(config: Config, overrides: Sequence[str]) -> RunRecord:
    """Reads a run; models in the order of ``arms``, others after them.

    Raises:
        UserError: no model is trained, or the data is not prepared or damaged.
    """
    folder = RunFolder.of(config)
    config, overrides = _as_run(folder, config, overrides)
    folder = RunFolder.of(config)
    names = require_models(folder)
    data = open_data(config)
    arms = list(config.arms)
    names.sort(key=lambda name: arms.index(name) if name in arms else len(arms))
    models = tuple(_read_model(folder, name, place) for place, name in enumerate(names))
    options = next((model.result["options"] for model in models if model.result and "options" in model.result), None)
    if options is not None:
        config = replace(config, eval=EvalConfig(**options))
    return RunRecord(config, tuple(overrides), folder, data, models)


def _as_run(folder: RunFolder, config: Config, overrides: Sequence[str]) -> tuple[Config, Sequence[str]]:
    """The configuration that the run was made with, where its commands are recorded; the report's own options stay."""
    words = recorded_words(folder)
    if words is None:
        return config, overrides
    made = build_config(words)
    data_dir = config.data_dir or made.data_dir
    return replace(made, run_dir=config.run_dir, data_dir=data_dir, report=config.report), words


def speech_name(index: Index) -> str:
    """``synthesised speech`` or ``recordings``: what pages call the speech of prepared data."""
    return "synthesised speech" if index["is_synthesised"] else "recordings"


def _read_model(folder: RunFolder, name: str, colour: int) -> ModelRecord:
    final = folder.final(name)
    saved = read_json(final / CONFIG_FILE, dict[str, Any], "the model's configuration", "Train it again.")
    path, weights_sha256 = folder.eval_result(name), sha256(final / WEIGHTS_FILE)
    result = _result_of(path, weights_sha256)
    others = (_result_of(other, weights_sha256) for other in folder.eval_results_of_other_data(name))
    return ModelRecord(
        name=name,
        colour=colour,
        shape=saved["model"],
        patching=PatchingConfig(**saved["patching"]),
        num_parameters=_num_weights(final / WEIGHTS_FILE),
        settings=_optional_json(folder.model(name) / "settings.json"),
        versions=_optional_json(folder.model(name) / "versions.json"),
        metrics=read_jsonl(folder.model(name) / "metrics.jsonl", dict[str, Any]),
        result=result or None,
        items=read_jsonl(path.with_name(f"{name}.items.jsonl"), dict[str, Any]) if result else [],
        finished=modified(final / CONFIG_FILE),
        other_results=tuple(filter(None, others)),
    )


def _result_of(path: Path, weights_sha256: str) -> dict[str, Any]:
    """An evaluation; empty if the model was trained anew since, or a column was added."""
    result = _optional_json(path)
    is_other_model = result.get("weights_sha256") not in (None, weights_sha256)
    return {} if is_other_model or BITS_COLUMNS.keys() - result.get("bits", {}).keys() else result


def _optional_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    remedy = f"Delete {path} and run the command that makes it again."
    return read_json(path, dict[str, Any], "a record of the run", remedy)


def _num_weights(path: Path) -> int:
    """Weights in a model's file, counted from its header."""
    try:
        with safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (FileNotFoundError, SafetensorError) as error:
        raise UserError(f"the model's weights cannot be read: {path} ({error}). Train it again.") from None


def modified(path: Location) -> datetime:
    """When a file was last written, in UTC."""
    return datetime.fromtimestamp(storage.modified_s(path), timezone.utc)
