"""A training that begins with the weights of a text model, ``model.init_from``, instead of random ones.

::

    config.json ─▶ shape of the backbone (``lst.configs.text_models``), when the options are read
    tokenizer ───▶ must be the one that the data was prepared with: its ids are the rows of the embeddings
    weights ─────▶ backbone, text embeddings, head, at step 0
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lst.configs.text_models import TEXT_CONFIG_FILE, read_text_config, text_model_folder
from lst.errors import UserError
from lst.model.config import ModelConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.text_weights import WEIGHT_PATTERNS, load_text_weights
from lst.progress import say
from lst.storage import fingerprint, sha256
from lst.tokenizers.text import JSON_FILE, SENTENCEPIECE_FILE
from lst.tokenizers.vocabulary import Vocabulary


def text_model(source: str) -> Path:
    """The local folder of ``model.init_from`` with all files that are read."""
    return text_model_folder(source, *WEIGHT_PATTERNS, JSON_FILE, SENTENCEPIECE_FILE)


def recorded_source(source: str) -> str:
    """What a training records of ``model.init_from``: a fingerprint of the files, wherever they lie.

    Raises:
        UserError: there is no such folder, or it holds no weights.
    """
    folder = text_model(source)
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise UserError(f"model.init_from={source}: {folder} holds no model.safetensors. Pickles are not read")
    return fingerprint([sha256(path) for path in [folder / TEXT_CONFIG_FILE, *files]])


def check_text_model(source: str, vocabulary: Vocabulary) -> None:
    """Raises ``UserError`` unless the ids of the data's text are those of the text model."""
    folder = text_model(source)
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


def build_model(config: ModelConfig, vocabulary: Vocabulary, seed: int, begins: bool) -> LatentSpeechTextModel:
    """The model at the beginning of a training.

    Args:
        config: its shape. What it begins with is no part of the shape, and is not kept.
        vocabulary: of its tokens.
        seed: of the initial weights.
        begins: read the text model of ``model.init_from``; a training that goes on has weights in its checkpoint.
    """
    model = LatentSpeechTextModel(replace(config, init_from=None), vocabulary.size, seed)
    if config.init_from is not None and begins:
        load_text_weights(model, text_model(config.init_from), vocabulary.num_text)
        say(
            f"begins as {config.init_from}: its {config.global_layers} layers of width {config.global_dim} are the "
            f"backbone, and the embeddings of {vocabulary.num_text:,} text pieces are kept"
        )
    return model
