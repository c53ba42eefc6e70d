"""``lst export``: writes prepared data in another format, a file or folder for each split; or a model.

With ``hub=`` the model is written with its card; ``export.format=llama`` writes it as a text model, see
``lst.runs.text_model``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from lst.api import fit_voice, model_folder, voice_of
from lst.api.publishing import ModelFacts, check_new, push, write_public
from lst.configs.schema import Config
from lst.data.alignment.formats.ctm import write_ctm
from lst.data.alignment.formats.textgrid import write_textgrids
from lst.data.corpora import write_on_the_fly
from lst.data.corpora.on_the_fly import SUFFIX
from lst.data.prepared import RECORDINGS, PreparedData, speech_name
from lst.data.shards import (
    INDEX_FILE,
    Index,
    ShardReader,
    hours_by,
    hours_by_source,
    hours_text,
    licence_warnings,
)
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.evaluation.results import RunResults, read_result
from lst.progress import say
from lst.runs import RunFolder, TrainedModel, WholeModel, open_data, open_trained, open_whole, require_models
from lst.runs.folder import CARD_JSON
from lst.runs.text_model import save_text_model, text_model_values
from lst.storage import Folder, absolute, exists, is_url, read_json
from lst.tokenizers.speech import unit_places
from lst.tokenizers.weights import HUB_PREFIX

# By format: the suffix of a split's file or folder, and its writer, which returns how many utterances it wrote.
_WRITERS: dict[str, tuple[str, Callable[[Folder, Iterable[Utterance], float], int]]] = {
    "on_the_fly": (SUFFIX, lambda place, utterances, _: write_on_the_fly(place, utterances)),
    "textgrid": ("", write_textgrids),
    "ctm": (".ctm", write_ctm),
}


class _CorpusCard(TypedDict, total=False):
    licence: str | None


def export(config: Config) -> str:
    """Writes the spoken utterances of a run's prepared data, or a model; returns a line for each place written.

    ``on_the_fly`` and ``ctm`` write a file for each split, ``textgrid`` a folder with a file for each utterance.

    Raises:
        UserError: the data is not prepared or damaged, has no speech, or has a word or id that cannot be written.
    """
    if config.hub is not None:
        return _export_model(config, config.hub)
    if config.export.format == "llama":
        return _export_text_model(config)
    data = open_data(config)
    write = _WRITERS[config.export.format][1]
    lines = []
    for place, reader in places_to_write(config, data):
        try:
            count = write(place, reader, data.vocabulary.unit_rate_hz)
        except (
            FileExistsError,
            FileNotFoundError,
            IsADirectoryError,
            NotADirectoryError,
            PermissionError,
        ) as error:
            raise _not_writable(place, error.strerror) from error
        lines.append(f"{place}: {count:,} utterances")
        if count < len(reader):
            say(f"{len(reader) - count:,} utterances of {reader.split} have no aligned words and are left out")
    if num_texts := len(data.text):
        say(f"{num_texts:,} written texts are left out: the format is of words and their times")
    return "\n".join(lines)


def export_plan(config: Config) -> list[str]:
    """Plan of ``lst export``, as lines of text; raises ``UserError`` for what the command itself would refuse."""
    if config.hub is not None:
        whole = _whole(config, config.hub)
        return [f"export: would write {whole.name}, {whole.model.num_parameters:,} parameters, to {config.hub}"]
    if config.export.format == "llama":
        return _text_model_plan(config)
    folder = RunFolder.of(config).data
    if not exists(folder / INDEX_FILE):
        return [f"export: it waits for prepared data in {folder}: run lst prepare"]
    places = places_to_write(config, open_data(config))
    return [f"export: would write {place} of {len(reader):,} utterances" for place, reader in places]


def _export_text_model(config: Config) -> str:
    """Writes the model ``name`` as a text model; returns what was written."""
    trained = _model(config)
    save_text_model(Path(config.export.folder).expanduser(), trained)
    return f"{config.export.folder}: {trained.name}, {trained.model.num_parameters:,} parameters"


def _text_model_plan(config: Config) -> list[str]:
    run = RunFolder.of(config)
    if not run.trained_models():
        return [f"export: it waits for trained models in {run.root / 'models'}: none yet, run lst train"]
    trained = _model(config)
    kind = text_model_values(trained)["architectures"][0]
    return [f"export: would write {trained.name} as {kind} into {config.export.folder}"]


def _model(config: Config) -> TrainedModel:
    """The model that is exported; raises ``UserError`` where it is not trained, or the place is not of this machine."""
    run = RunFolder.of(config)
    if is_url(config.export.folder):
        raise UserError(
            f"export.folder={config.export.folder} is a URL: a model is written to a folder of this machine"
        )
    names = require_models(run)
    if config.name not in names:
        raise UserError(f"no trained model {config.name!r} in {run.root}; there are {', '.join(names)}: set name=NAME")
    return open_trained(run, config.name, open_data(config))


def places_to_write(config: Config, data: PreparedData) -> list[tuple[Folder, ShardReader]]:
    """The file or folder of each split that has speech, and its utterances.

    Raises:
        UserError: there is no speech, or something else is at a place; all such places are named.
    """
    folder, suffix = absolute(config.export.folder), _WRITERS[config.export.format][0]
    places = [(folder / f"{reader.split}{suffix}", reader) for reader in (data.train, data.valid) if len(reader)]
    if not places or data.is_text_alone:
        raise UserError(f"{data.folder} holds no speech to export: the format is of words and their times")
    for place, _ in places:
        if isinstance(place, Path) and place.exists() and place.is_dir() == bool(suffix):
            raise _not_writable(place, "is a folder" if suffix else "is a file")
    return places


def _whole(config: Config, place: str) -> WholeModel:
    """The model that is exported; raises ``UserError`` where it is not trained, or its place is taken."""
    if not place.startswith(HUB_PREFIX):
        check_new(Path(place))
    run = RunFolder.of(config)
    folder = model_folder(run.root, config.name)
    return open_whole(folder, unit_places(config.tokenizer), config.verify_models, run.data)


def _export_model(config: Config, place: str) -> str:
    whole = _whole(config, place)
    has_data = exists(RunFolder.of(config).data / INDEX_FILE)
    data = open_data(config) if has_data else None
    voice = voice_of(whole) or (fit_voice(data) if data else None)
    facts = _facts(config, whole, data)
    if not place.startswith(HUB_PREFIX):
        write_public(whole, voice, facts, Path(place))
        return f"{place}: {whole.name} with its card; lst.load({place!r}) opens it"
    with TemporaryDirectory() as folder:
        write_public(whole, voice, facts, Path(folder) / "model")
        return f"{push(Path(folder) / 'model', place.removeprefix(HUB_PREFIX))}: {whole.name} with its card"


def _facts(config: Config, whole: WholeModel, data: PreparedData | None) -> ModelFacts:
    """What the card states of data, licence and figures; figures of other weights are left out."""
    run = RunFolder.of(config)
    licence = ""
    if data is not None and exists(run.data / CARD_JSON):
        remedy = f"Delete {run.data / CARD_JSON}: lst card makes it again."
        licence = read_json(run.data / CARD_JSON, _CorpusCard, "the corpus card", remedy).get("licence") or ""
    facts = ModelFacts(
        config.export.licence,
        data.index["description"] if data else "",
        speech_name(data.index) if data else "",
        licence,
        *(_row_licences(data.index, licence) if data is not None else ("", ())),
    )
    result = read_result(run.eval_result(whole.name)) if run.eval_result(whole.name).exists() else None
    if result is None or result["weights_sha256"] != whole.weights_sha256 or not run.results.exists():
        say(f"{whole.name} has no results of these weights in {run.results}: run lst eval and lst report first")
        return facts
    results = read_json(run.results, RunResults, "the run's results", "Run lst report again.")
    own = next((model for model in results["models"] if model["name"] == whole.name), None)
    if own is None:
        return facts
    return replace(
        facts,
        figures={**own["directions"]},
        items=results["items"],
        chance=results["chance"],
        bits_per_unit=result["bits"]["bits_per_unit"],
    )


def _row_licences(index: Index, licence: str) -> tuple[str, list[str]]:
    """Hours by licence as utterances state them, and what to know of these; ``licence`` is that of the whole corpus."""
    hours = hours_by_source(index)
    if any(row.licence for row in hours):
        return hours_text(hours_by(hours, "licence")), licence_warnings(hours)
    is_recorded = speech_name(index) == RECORDINGS and bool(hours)
    return "", licence_warnings(hours) if is_recorded and not licence else []


def _not_writable(place: Folder, reason: str | None) -> UserError:
    return UserError(f"{place} cannot be written ({reason}): give another folder with export.folder=FOLDER")
