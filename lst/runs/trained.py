"""A trained model with everything that belongs to it: patching, vocabulary and tokenizers.

::

    RUN/models/NAME/final, prepared data ──open_trained──▶ TrainedModel
    FOLDER, anywhere ──open_whole──▶ WholeModel
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lst.configs.schema import Config
from lst.data.documents import DocumentBuilder
from lst.data.prepared import TEXT_FILE, UNITS_FILE, PreparedData, artefact_path, load_units
from lst.errors import LstError, StorageError, UserError
from lst.model.checkpoint import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, load_model, save_card, save_model
from lst.model.inference import TokenLayout
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_strategy, is_unseen
from lst.progress import say
from lst.runs.fitted_patching import FittedPatching, load_patching
from lst.runs.folder import RunFolder, has_finite_weights
from lst.runs.model_tokenizers import ModelTokenizers
from lst.storage import Folder, exists, sha256
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary, check_same_vocabulary

R = TypeVar("R")


@dataclass(frozen=True, repr=False)
class WholeModel:
    """A trained model with all that it needs to read and write text and speech.

    Attributes:
        name: of the model.
        folder: of its weights.
        model: in evaluation mode.
        patching: with everything that was fitted for it.
        tokenizers: of text and of speech.
    """

    name: str
    folder: Path
    model: LatentSpeechTextModel
    patching: FittedPatching
    tokenizers: ModelTokenizers

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.model.num_parameters:,} parameters, {self.folder})"

    @property
    def strategy(self) -> str:
        """Patching strategy at inference."""
        return inference_strategy(self.patching.config, self.model.config.boundary_head)

    @property
    def patching_note(self) -> str:
        """What the patches at inference have that those of the training had not; empty if both are alike."""
        config = self.patching.config
        if not is_unseen(config, self.model.config.boundary_head):
            return ""
        return f"scored on {self.strategy} patches, which its training (patching.strategy={config.strategy}) never saw"

    @property
    def vocabulary(self) -> Vocabulary:
        """Joint vocabulary of the model's tokens."""
        return self.patching.vocabulary

    @property
    def layout(self) -> TokenLayout:
        """Ranges and markers of the model's token ids."""
        ids = self.vocabulary
        return TokenLayout(ids.num_text, ids.first_unit_id, ids.text_id, ids.speech_id, ids.eos_id)

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights' file."""
        return sha256(self.folder / WEIGHTS_FILE)

    def builder(self, config: Config) -> DocumentBuilder:
        """Makes documents that the model reads."""
        return self.patching.builder(config, self.tokenizers)


@dataclass(frozen=True, repr=False)
class TrainedModel(WholeModel):
    """A trained model of a run, opened on prepared data.

    Attributes:
        data: prepared data with the model's vocabulary.
    """

    data: PreparedData


def open_trained(run: RunFolder, name: str, data: PreparedData, verify: bool = True) -> TrainedModel:
    """Opens the trained model ``name`` of a run; ``verify`` compares the hashes of its files.

    Raises:
        UserError: a file is absent, damaged or altered, or the model's vocabulary is not that of the data.
    """
    folder = run.final(name)
    model, patching, vocabulary = load_model(folder, verify)
    fitted = load_patching(folder, patching, data)
    check_same_vocabulary(
        fitted.vocabulary, Vocabulary.from_dict(vocabulary, str(folder)), "the prepared data", f"model {name}"
    )
    return TrainedModel(name, folder, model, fitted, ModelTokenizers.of(data), data)


def each_trained(
    run: RunFolder, names: Sequence[str], data: PreparedData, verify: bool, work: Callable[[TrainedModel], R]
) -> tuple[dict[str, R], list[str]]:
    """Opens some trained models of a run one after the other, and does the same with each.

    Args:
        run, names: which models.
        data: that they read.
        verify: compare the hashes of their files.
        work: what is done with each.

    Returns:
        What ``work`` returned, by name, and a line for each model that could not be opened, or on which it failed.

    Raises:
        StorageError: what one model could not read or write, the others could not either.
    """
    found: dict[str, R] = {}
    failed: list[str] = []
    for name in names:
        try:
            found[name] = work(open_trained(run, name, data, verify))
        except StorageError:
            raise
        except LstError as error:
            failed.append(f"{name}: {' '.join(str(error).split())}")
            say(f"not evaluated: {failed[-1]}")
    return found, failed


def open_whole(
    folder: Path, places: Mapping[str, Any] | None = None, verify: bool = True, data: Folder | None = None
) -> WholeModel:
    """Opens the model in a folder, which may be a copy far from its run.

    Args:
        folder: of the model.
        places: where a speech model's weights are now, as ``unit_places``; None if they were not moved.
        verify: compare the hashes of its files.
        data: prepared data, for a folder without tokenizers, as earlier versions saved it; None looks in its run.

    Raises:
        UserError: a file is absent, damaged or altered, or the tokenizers are not those of the model.
    """
    model, patching, vocabulary = load_model(folder, verify)
    tokenizers, owner = _tokenizers(folder, places, data)
    fitted = load_patching(folder, patching, tokenizers)
    of_model = Vocabulary.from_dict(vocabulary, str(folder))
    check_same_vocabulary(fitted.vocabulary, of_model, owner, f"the model in {folder}")
    return WholeModel(model_name(folder), folder, model, fitted, tokenizers)


def _tokenizers(folder: Path, places: Mapping[str, Any] | None, data: Folder | None) -> tuple[ModelTokenizers, str]:
    """The tokenizers of a model's folder, or else of its run's data; and whose they are."""
    if ModelTokenizers.are_in(folder):
        return ModelTokenizers.load(folder, places), "its tokenizers"
    # RUN/models/NAME/final
    run_data = folder.resolve().parents[2] / "data" if len(folder.resolve().parents) > 2 else folder
    data = data or run_data
    if not exists(data / TEXT_FILE):
        raise UserError(
            f"the model in {folder} has no tokenizers beside it, as an earlier version saved it, and {data} is no "
            "prepared data: open it within its run, and write it whole with lst export hub=FOLDER"
        )
    say(
        f"{folder} has no tokenizers of its own, as an earlier version saved it: those of {data} are taken; "
        "lst export hub=FOLDER writes a whole model"
    )
    text = TextTokenizer.load(artefact_path(data, TEXT_FILE))
    return ModelTokenizers(text, load_units(artefact_path(data, UNITS_FILE), places)), f"the data in {data}"


def model_name(folder: Path) -> str:
    """What a model's folder is called: ``NAME`` of ``RUN/models/NAME/final``, or else the folder's own name."""
    path = folder.resolve()
    return path.parent.name if path.name == "final" else path.name


def is_trained(folder: Path) -> bool:
    """Whether a folder holds a whole trained model. A missing card is made up.

    Weights that are not finite are no trained model; that is said.
    """
    if not all((folder / name).exists() for name in (CONFIG_FILE, WEIGHTS_FILE)) or not has_finite_weights(folder):
        return False
    # Earlier releases wrote it after the file that marks the folder as complete.
    if not (folder / CARD_FILE).exists():
        save_card(folder, load_model(folder)[0])
    return True


def save_trained(
    folder: Path, model: LatentSpeechTextModel, patching: FittedPatching, tokenizers: ModelTokenizers
) -> None:
    """Writes a trained model with its patching, vocabulary and tokenizers; ``open_whole`` opens it anywhere.

    The model comes last: when it is there, the folder is complete and has the hashes of all files.
    """
    patching.save(folder)
    tokenizers.save(folder)
    save_model(folder, model, patching.config, patching.vocabulary.to_dict())
