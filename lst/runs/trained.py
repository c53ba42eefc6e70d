"""A trained model with everything that belongs to it: patching, vocabulary and the data's tokenizers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lst.configs.schema import Config
from lst.data.documents import DocumentBuilder
from lst.data.prepared import PreparedData
from lst.model.checkpoint import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, load_model, save_card, save_model
from lst.model.inference import TokenLayout
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_strategy, is_unseen
from lst.runs.fitted_patching import FittedPatching, load_patching
from lst.runs.folder import RunFolder, has_finite_weights
from lst.storage import sha256
from lst.tokenizers.vocabulary import Vocabulary, check_same_vocabulary


@dataclass(frozen=True)
class TrainedModel:
    """A trained model of a run, opened on prepared data.

    Attributes:
        name: within the run.
        folder: of its weights.
        model: in evaluation mode.
        patching: with everything that was fitted for it.
        data: prepared data with the model's vocabulary; gives the tokenizers.
    """

    name: str
    folder: Path
    model: LatentSpeechTextModel
    patching: FittedPatching
    data: PreparedData

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
        return self.patching.builder(config, self.data)


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
    return TrainedModel(name, folder, model, fitted, data)


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


def save_trained(folder: Path, model: LatentSpeechTextModel, patching: FittedPatching) -> None:
    """Writes a trained model with its patching and vocabulary; ``open_trained`` opens it.

    The patching comes first: the model's folder is complete, and has the hashes of all files, when the model is there.
    """
    patching.save(folder)
    save_model(folder, model, patching.config, patching.vocabulary.to_dict())
