"""Saves and loads model folders by path; see ``lst.model.pretrained`` for the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lst.errors import UserError
from lst.model.config import PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.pretrained import CONFIG_FILE, WEIGHTS_FILE
from lst.storage import write_text

CARD_FILE = "README.md"
__all__ = ["CARD_FILE", "CONFIG_FILE", "WEIGHTS_FILE", "load_model", "save_card", "save_model"]


def save_model(
    folder: Path, model: LatentSpeechTextModel, patching: PatchingConfig, vocabulary: dict[str, Any]
) -> None:
    """Writes a model folder. ``config.json`` comes last: it marks the folder as complete.

    Args:
        folder: to write to.
        model: its weights and shape are saved.
        patching: as in the training.
        vocabulary: what the ids mean, from ``Vocabulary.to_dict``.
    """
    model.patching, model.vocabulary = patching, vocabulary
    save_card(folder, model)
    model.save_pretrained(folder)


def save_card(folder: Path, model: LatentSpeechTextModel) -> None:
    """Writes the model card."""
    write_text(folder / CARD_FILE, str(model.generate_model_card()))


def load_model(folder: Path, verify: bool = True) -> tuple[LatentSpeechTextModel, PatchingConfig, dict[str, Any]]:
    """Reads a model folder. Weights that are narrower than float32 become float32, in which models are scored.

    Args:
        folder: of the model.
        verify: compare the files' hashes.

    Returns:
        The model in evaluation mode, its patching, and its vocabulary as saved.

    Raises:
        UserError: a file is missing or damaged, or weights do not fit the configuration; all of them are named.
    """
    if not folder.is_dir():
        raise UserError(f"no model in {folder}: train it with lst train, or name the right run with run_dir=FOLDER")
    model: LatentSpeechTextModel = LatentSpeechTextModel.from_pretrained(folder, verify=verify)
    if model.embedding.weight.dtype.itemsize < torch.float32.itemsize:
        model = model.float()
    return model, model.patching, model.vocabulary
