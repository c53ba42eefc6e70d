"""Model folders: ``model.safetensors`` and ``config.json``, never a pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from lst.errors import UserError, raise_problems
from lst.files import read_json, write_bytes, write_json
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
VERSION = 1


def save_model(
    folder: Path, model: LatentSpeechTextModel, patching: PatchingConfig, vocabulary: dict[str, Any]
) -> None:
    """Writes a model folder; ``config.json`` comes last and says that it is whole."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / WEIGHTS_FILE, save(weights))
    config = {
        "version": VERSION,
        "model": asdict(model.config),
        "patching": asdict(patching),
        "vocab_size": model.vocab_size,
        "vocabulary": vocabulary,
    }
    write_json(folder / CONFIG_FILE, config)


def load_model(folder: Path) -> tuple[LatentSpeechTextModel, PatchingConfig, dict[str, Any]]:
    """Reads a model folder.

    Returns:
        The model in evaluation mode, its patching, and the vocabulary it was trained with.

    Raises:
        UserError: a file is missing or damaged, or the weights do not fit the configuration; all misfits are named.
    """
    remedy = "Train it with lst train, or name the right run with run_dir=FOLDER name=MODEL."
    config = read_json(folder / CONFIG_FILE, "the model's configuration", remedy)
    if config.get("version") != VERSION:
        raise UserError(f"{folder / CONFIG_FILE} has version {config.get('version')}, this project reads {VERSION}")
    model = LatentSpeechTextModel(ModelConfig(**config["model"]), config["vocab_size"])
    path = folder / WEIGHTS_FILE
    try:
        weights = load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"the model's weights are missing: {path}. {remedy}") from None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"the model's weights are damaged: {path} ({error}). {remedy}") from None
    check_weights(model, weights, str(path))
    model.load_state_dict(weights)
    return model.eval(), PatchingConfig(**config["patching"]), config["vocabulary"]


def check_weights(model: LatentSpeechTextModel, weights: dict[str, torch.Tensor], where: str) -> None:
    """Raises one ``UserError`` naming every tensor that is missing, unknown, misshapen or not finite."""
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is unknown to this model" for name in weights if name not in expected]
    for name in expected.keys() & weights.keys():
        if weights[name].shape != expected[name].shape:
            problems.append(f"{name} has shape {list(weights[name].shape)}, needed is {list(expected[name].shape)}")
        elif not bool(torch.isfinite(weights[name]).all()):
            problems.append(f"{name} holds values that are not finite")
    raise_problems(f"weights in {where}", sorted(problems), "Use the config.json that was written with these weights.")
