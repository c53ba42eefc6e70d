"""Everything a report tells, read from a run's folder. Results that are missing are None or empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lst import storage
from lst.configs.eval_schema import EvalConfig
from lst.configs.schema import Config
from lst.data.audio import audio_exists, read_row_audio
from lst.data.prepared import LEFT_OUT_FILE, PreparedData, check_has_speech, speech_name
from lst.data.shards import INDEX_FILE, LeftOut
from lst.data.utterance import Utterance
from lst.errors import raise_problems
from lst.evaluation.results import ClozeRow, EvalResult, ItemRow, RunResults, read_result
from lst.evaluation.summary import ScoredModel, run_results
from lst.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from lst.model.config import PatchingConfig
from lst.model.pretrained import read_model_config
from lst.recipes.report.statistics import corpus_statistics
from lst.runs import RunFolder, open_data, require_models
from lst.runs.folder import page_config, recorded_words
from lst.runs.formats import LanguageModelRow, ValidationRow, read_metrics
from lst.storage import FormatError, Location, read_json, read_jsonl, sha256
from lst.storage.tensors import read_header
from lst.storage.typed import checked


@dataclass(frozen=True)
class ModelRecord:
    """A trained model and what is known of it.

    Attributes:
        name: within the run.
        colour: index of its colour in the plots.
        patching: how it was trained to cut speech.
        num_parameters: all of its weights.
        weights_sha256: hash of its weights.
        trained_on: fingerprint of the data of its training; empty where that is not known.
        versions: of the packages it was trained with.
        steps, validations: rows of ``metrics.jsonl``; none where that file is missing.
        result: ``eval/NAME.json``, or None before ``lst eval``.
        items: rows of ``eval/NAME.items.jsonl``.
        questions: rows of ``eval/NAME.questions.jsonl``; none where the data holds no questions.
        other_results: of evaluations on other data than the model was trained on.
        finished: when training ended, in UTC.
    """

    name: str
    colour: int
    patching: PatchingConfig
    num_parameters: int
    weights_sha256: str
    trained_on: str
    versions: dict[str, str]
    steps: list[LanguageModelRow]
    validations: list[ValidationRow]
    result: EvalResult | None
    items: list[ClozeRow]
    questions: list[ItemRow]
    finished: datetime
    other_results: tuple[EvalResult, ...] = ()

    @property
    def cost(self) -> LanguageModelRow | None:
        """The last training step's row, with the totals of the training; None where the metrics are gone."""
        return self.steps[-1] if self.steps else None

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
    def results(self) -> dict[str, Mapping[str, Any]]:
        """Results of the evaluated models, by name."""
        return {model.name: model.result for model in self.models if model.result is not None}

    @cached_property
    def summary(self) -> RunResults | None:
        """What ``results.json`` says; None where no model is evaluated."""
        models = [
            ScoredModel(model.result, model.questions, model.items) for model in self.models if model.result is not None
        ]
        if not models:
            return None
        index, options = self.data.index, self.config.eval
        return run_results(
            models,
            index["description"],
            self.speech,
            self.data.fingerprint,
            options.bootstrap_samples,
            self.config.seed,
        )

    @property
    def asks_questions(self) -> bool:
        """Whether the evaluated models, one or more, were asked the questions of the data."""
        return self.summary is not None and self.summary["items"] == "questions"

    @property
    def colours(self) -> dict[str, int]:
        """Index of each model's colour in the plots."""
        return {model.name: model.colour for model in self.models}

    @property
    def is_synthesised(self) -> bool:
        """Whether the speech is synthesised or simulated, not recorded."""
        return bool(self.data.index["is_synthesised"])

    @property
    def speech(self) -> str:
        """``simulated speech``, ``synthesised speech`` or ``recordings``."""
        return speech_name(self.data.index)

    @property
    def badge(self) -> str:
        """Marks sections whose numbers are of synthesised or simulated speech; empty for recordings."""
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
        return corpus_statistics(self.train, self.valid, self.data.text, self.frame_rate_hz, self.data.speech)

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
    config, overrides = page_config(config, overrides), recorded_words(folder) or overrides
    names = require_models(folder)
    data = open_data(config)
    check_has_speech(data, "report")
    arms = list(config.arms)
    names.sort(key=lambda name: arms.index(name) if name in arms else len(arms))
    models = tuple(_read_model(folder, name, place) for place, name in enumerate(names))
    if options := next((model.result["options"] for model in models if model.result), None):
        config = replace(config, eval=_eval_options(options, folder))
    return RunRecord(config, tuple(overrides), folder, data, models)


def _eval_options(options: dict[str, Any], folder: RunFolder) -> EvalConfig:
    """The options that models were evaluated with; raises ``UserError`` where the file holds values out of range."""
    try:
        found = checked(options, EvalConfig, "options")
    except FormatError as error:
        raise FormatError(f"an evaluation in {folder.root / 'eval'} {error}. Run lst eval again.") from None
    raise_problems(f"an evaluation in {folder.root / 'eval'}", found.problems(), "Run lst eval again.")
    return found


def _read_model(folder: RunFolder, name: str, colour: int) -> ModelRecord:
    final = folder.final(name)
    saved = read_model_config(final / CONFIG_FILE)
    versions = folder.model(name) / "versions.json"
    weights_sha256 = sha256(final / WEIGHTS_FILE)
    result = _result_of(folder.eval_result(name), weights_sha256)
    others = (_result_of(other, weights_sha256) for other in folder.eval_results_of_other_data(name))
    steps, validations = read_metrics(folder.model(name) / "metrics.jsonl")
    remedy = "Delete {} and run the command that makes it again."
    return ModelRecord(
        name=name,
        colour=colour,
        patching=saved.patching,
        num_parameters=read_header(final / WEIGHTS_FILE, "the model's weights are", "Train it again.").num_elements,
        weights_sha256=weights_sha256,
        trained_on=folder.data_of_training(name),
        versions=(
            read_json(versions, dict[str, str], "the record of versions", remedy.format(versions))
            if versions.exists()
            else {}
        ),
        steps=steps,
        validations=validations,
        result=result,
        items=read_jsonl(folder.eval_items(name), ClozeRow) if result else [],
        questions=read_jsonl(folder.eval_questions(name), ItemRow) if result and result.get("questions") else [],
        finished=modified(final / CONFIG_FILE),
        other_results=tuple(filter(None, others)),
    )


def _result_of(path: Path, weights_sha256: str) -> EvalResult | None:
    """An evaluation; None if there is none, if the model was trained anew since, or if it lacks a column."""
    result = read_result(path) if path.exists() else None
    return result if result is not None and result["weights_sha256"] == weights_sha256 else None


def modified(path: Location) -> datetime:
    """When a file was last written, in UTC."""
    return datetime.fromtimestamp(storage.modified_s(path), timezone.utc)
