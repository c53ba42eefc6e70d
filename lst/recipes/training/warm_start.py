"""A training that begins with the weights of another model, ``model.init_from``, instead of random ones.

::

    text model      config.json ─▶ shape of the backbone (``lst.configs.text_models``), when the options are read
                    tokenizer ───▶ must be the one that the data was prepared with: its ids are rows of embeddings
                    weights ─────▶ backbone, text embeddings, head, at step 0
    trained model   config.json ─▶ shape and patching (``lst.configs.trained_models``)
                    vocabulary ──▶ must be that of the data
                    unit_model/, speech_bpe.model ─▶ the training's folder
                    weights ─────▶ all weights, at step 0
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from lst.configs.text_models import TEXT_CONFIG_FILE, read_text_config, text_model_folder
from lst.configs.trained_models import is_own_model
from lst.data.prepared import TEXT_FILE, UNITS_FILE, PreparedData
from lst.errors import ProblemsError, UserError
from lst.model.checkpoint import load_model
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.hashes import HASHES_FILE
from lst.model.lst import LatentSpeechTextModel
from lst.model.text_weights import WEIGHT_PATTERNS, load_text_weights
from lst.progress import say
from lst.runs.fitted_patching import SPEECH_BPE_FILE, UNIT_MODEL_FOLDER, adopt_parts, load_patching
from lst.storage import fingerprint, sha256
from lst.tokenizers.text import JSON_FILE, SENTENCEPIECE_FILE
from lst.tokenizers.vocabulary import Vocabulary, check_same_vocabulary


def source_folder(source: str) -> Path:
    """The local folder of ``model.init_from`` with all files that are read."""
    fitted = (f"{UNIT_MODEL_FOLDER}/*", SPEECH_BPE_FILE, HASHES_FILE)
    return text_model_folder(source, *WEIGHT_PATTERNS, JSON_FILE, SENTENCEPIECE_FILE, *fitted)


def recorded_source(source: str) -> str:
    """What a training records of ``model.init_from``: a fingerprint of the files, wherever they lie.

    Raises:
        UserError: there is no such folder, or it holds no weights.
    """
    folder = source_folder(source)
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise UserError(f"model.init_from={source}: {folder} holds no model.safetensors. Pickles are not read")
    return fingerprint([sha256(path) for path in [folder / TEXT_CONFIG_FILE, *files]])


def check_source(source: str, patching: PatchingConfig, data: PreparedData) -> None:
    """Raises ``UserError`` unless the ids of the data are those of the model that the training begins with."""
    if is_own_model(source):
        _check_own_model(source, patching, data)
    else:
        _check_text_model(source, data.vocabulary)


def _check_own_model(source: str, patching: PatchingConfig, data: PreparedData) -> None:
    folder = source_folder(source)
    found = Vocabulary.from_dict(load_model(folder)[2], str(folder))
    try:
        ids = load_patching(folder, patching, data).vocabulary
        check_same_vocabulary(ids, found, "the prepared data", f"model.init_from={source}")
    except UserError as error:
        raise UserError(
            *(error.problems if isinstance(error, ProblemsError) else [str(error)]),
            f"Prepare the data with tokenizer.codebook={folder / UNITS_FILE} "
            f"tokenizer.text_model={folder / TEXT_FILE}, and leave the options of patching out",
        ) from None


def adopt_fitted(source: str, training: Path) -> None:
    """Copies what patching fitted for the model that a training begins with; what the training has stays."""
    adopt_parts(source_folder(source), training)


def _check_text_model(source: str, vocabulary: Vocabulary) -> None:
    folder = source_folder(source)
    found = [path for path in (folder / JSON_FILE, folder / SENTENCEPIECE_FILE) if path.is_file()]
    if vocabulary.text_sha256 not in map(sha256, found):
        names = " or ".join(path.name for path in found) or f"{JSON_FILE}, which {folder} lacks"
        raise UserError(
            f"model.init_from={source}: the data was prepared with another text tokenizer than its {names}. Prepare it "
            f"with lst prepare tokenizer.text_model={source}"
        )
    num_ids = read_text_config(source)["vocab_size"]
    if num_ids < vocabulary.num_text:
        raise UserError(
            f"model.init_from={source}: its vocab_size is {num_ids}, and its tokenizer has {vocabulary.num_text} "
            "pieces: give a folder whose tokenizer belongs to its weights"
        )


def build_model(
    config: ModelConfig, vocabulary: Vocabulary, seed: int, begins: bool, is_cut: bool = False
) -> LatentSpeechTextModel:
    """The model at the beginning of a training.

    Args:
        config: its shape. What it begins with is no part of the shape, and is not kept.
        vocabulary: of its tokens.
        seed: of the initial weights.
        begins: read the model of ``model.init_from``; a training that goes on has weights in its checkpoint.
        is_cut: the ranks will share it out: without ``model.init_from`` it stays on the meta device until then.
    """
    own = replace(config, init_from=None)
    if is_cut and config.init_from is None:
        with torch.device("meta"):
            return LatentSpeechTextModel(own, vocabulary.size, seed)
    model = LatentSpeechTextModel(own, vocabulary.size, seed)
    if config.init_from is not None and begins and is_own_model(config.init_from):
        model.load_state_dict(load_model(source_folder(config.init_from))[0].state_dict())
        say(f"begins as {config.init_from}, with all of its weights")
    elif config.init_from is not None and begins:
        load_text_weights(model, source_folder(config.init_from), vocabulary.num_text)
        say(
            f"begins as {config.init_from}: its {config.global_layers} layers of width {config.global_dim} are the "
            f"backbone, and the embeddings of {vocabulary.num_text:,} text pieces are kept"
        )
    return model
