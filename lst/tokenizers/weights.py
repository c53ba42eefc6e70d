"""Weights of a published model, from any of these places, by one option ``tokenizer.weights``.

::

    FOLDER                 a Hugging Face folder: config.json and model.safetensors (or pytorch_model.bin, trusted)
    FILE.safetensors       a state dict; a config.json beside it is read too
    FILE.npz               arrays by name (Whisper's encoder)
    FILE.pt .pth .bin .th  a torch file: a pickle, so tokenizer.trust=true is needed
    hub:OWNER/NAME         the Hugging Face hub, when online; kept in its cache
    bundle:HUBERT_BASE     a bundle of torchaudio, when online: a pickle as well
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch

from lst.errors import UserError
from lst.lazy import import_torchaudio
from lst.storage import FormatError, read_json
from lst.storage.arrays import read_arrays
from lst.storage.hub import HUB_PREFIX, hub_folder
from lst.storage.tensors import open_tensors
from lst.tokenizers.trusted import check_trust, read_torch_pickle

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".th")
BUNDLE_PREFIX = "bundle:"
FORMS = (
    "a Hugging Face folder (config.json, model.safetensors), a .safetensors file, hub:OWNER/NAME, or a trusted .pt file"
)


class WeightIndex(TypedDict):
    """``model.safetensors.index.json`` of Hugging Face: the file of each tensor."""

    weight_map: dict[str, str]


@dataclass(frozen=True)
class Weights:
    """Weights as they were found.

    Attributes:
        tensors: by the names of the file.
        where: the file, folder or name that they came from.
        config: the model's config.json as its publisher wrote it; empty without one.
    """

    tensors: dict[str, torch.Tensor]
    where: str
    config: dict[str, Any] = field(default_factory=dict)


def missing_weights(source: str | None) -> list[str]:
    """The problem of a local path that does not exist; empty for other sources and for None."""
    elsewhere = source is None or source == "pretrained" or source.startswith((HUB_PREFIX, BUNDLE_PREFIX))
    if elsewhere or Path(str(source)).expanduser().exists():
        return []
    return [f"tokenizer.weights={source}: there is no such file or folder"]


def check_chosen(source: str | None, named_in: str) -> None:
    """Raises ``UserError`` where a file names weights that would be fetched or unpickled: only a user chooses such.

    Args:
        source: as of ``read_weights``.
        named_in: the file that names it; empty where the command line does.
    """
    if not named_in or not source:
        return
    path = Path(source).expanduser()
    is_fetched = source == "pretrained" or source.startswith((HUB_PREFIX, BUNDLE_PREFIX)) or "://" in source
    has_pickle = path.is_dir() and not any(path.glob("model*.safetensors"))
    if is_fetched or has_pickle or path.suffix in TORCH_SUFFIXES:
        trust = "" if source.startswith(HUB_PREFIX) else " tokenizer.trust=true"
        raise UserError(
            f"{named_in} names the weights {source!r}, and what a file names is not fetched or unpickled: if you trust "
            f"whoever published them, add tokenizer.weights={source}{trust}"
        )


def read_weights(source: str | None, what: str, trust: bool, forms: str = FORMS) -> Weights:
    """Reads weights.

    Args:
        source: one of the forms at the top of this file.
        what: the model, for errors ("HuBERT").
        trust: whether pickles may be read.
        forms: the allowed forms, for errors.

    Raises:
        UserError: the source is None or missing, it is damaged, or it is a pickle and not trusted.
    """
    if not source:
        raise UserError(f"{what} units need the model's weights: give tokenizer.weights= {forms}")
    if source.startswith(HUB_PREFIX):
        return _from_hub(source, trust)
    if source.startswith(BUNDLE_PREFIX):
        return _from_bundle(source, trust)
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, str(path.resolve()), trust)
    if not path.is_file():
        raise UserError(f"tokenizer.weights={source}: there is no such file or folder. Give {forms}")
    where = str(path.resolve())
    config = path.with_name("config.json")
    values = (
        read_json(config, dict[str, Any], "the model's description", "Download it again.") if config.is_file() else {}
    )
    if path.suffix == ".safetensors":
        return Weights(_safetensors(path), where, values)
    if path.suffix == ".npz":
        return Weights(_npz(path), where, values)
    if path.suffix in TORCH_SUFFIXES:
        return Weights(state_dict_in(read_torch_pickle(path, trust), path), where, values)
    raise UserError(f"tokenizer.weights={source}: {path.suffix or 'a file without suffix'} is none of {forms}")


def state_dict_in(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The state dict in the content of a torch file: the content itself, or its entry ``model`` or ``state_dict``."""
    for key in ("model", "state_dict", "model_state_dict", "model_weight"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict")
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def weights_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """Hash of names, shapes and float32 values: equal for equal weights, whatever the format of their file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().float().contiguous().numpy().astype("<f4", copy=False)
        digest.update(json.dumps([name, list(array.shape)]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def load_tensors(model: Any, tensors: Mapping[str, torch.Tensor], where: str, what: str, forms: str) -> str:
    """Loads those tensors that a model has into it, and returns their hash.

    Args:
        model: a module.
        tensors: by the model's own names; others are ignored.
        where: where the tensors come from, for errors.
        what: the model, for errors.
        forms: the allowed forms of weights, for errors.

    Raises:
        UserError: a tensor is missing or has another shape.
    """
    kept = {name: tensors[name] for name in model.state_dict() if name in tensors}
    if missing := [name for name in model.state_dict() if name not in kept]:
        raise UserError(
            f"{where} is not a complete {what}: {len(missing)} tensors are missing, the first is {missing[0]}. "
            f"Give {forms}"
        )
    try:
        model.load_state_dict(kept)
    except RuntimeError as error:
        raise UserError(f"{where} does not fit {what}: {error}") from None
    return weights_sha256(kept)


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return open_tensors(path).read()
    except (FormatError, OSError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file (it {error}). Download it again.") from None


def _npz(path: Path) -> dict[str, torch.Tensor]:
    try:
        return {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}
    except (OSError, FormatError, TypeError) as error:
        raise UserError(f"{path} is damaged or not an .npz file of plain arrays ({error})") from None


def _from_folder(folder: Path, where: str, trust: bool) -> Weights:
    config = read_json(
        folder / "config.json", dict[str, Any], "the model's description", f"{folder} must hold config.json."
    )
    index = folder / "model.safetensors.index.json"
    parts = {"model.safetensors"} if (folder / "model.safetensors").is_file() else set()
    if not parts and index.is_file():
        parts = set(read_json(index, WeightIndex, "the index of weights", "Download it again.")["weight_map"].values())
    if parts:
        files = [_safetensors(folder / Path(part).name) for part in sorted(parts)]
        return Weights({name: x for tensors in files for name, x in tensors.items()}, where, config)
    pickled = folder / "pytorch_model.bin"
    if not pickled.is_file():
        raise UserError(f"{folder} holds no model.safetensors: give a folder with config.json and model.safetensors")
    return Weights(state_dict_in(read_torch_pickle(pickled, trust), pickled), where, config)


def _from_hub(source: str, trust: bool) -> Weights:
    patterns = ["config.json", "model*.safetensors", "model.safetensors.index.json"]
    folder = hub_folder(source, patterns, "tokenizer.weights")
    if trust and not any(folder.glob("model*.safetensors")):
        folder = hub_folder(source, [*patterns, "pytorch_model.bin"], "tokenizer.weights")
    return _from_folder(folder, source, trust)


def _from_bundle(source: str, trust: bool) -> Weights:
    torchaudio = import_torchaudio()
    name = source.removeprefix(BUNDLE_PREFIX)
    bundle = getattr(torchaudio.pipelines, name, None)
    known = sorted(key for key in dir(torchaudio.pipelines) if key.startswith(("HUBERT", "WAV2VEC2")))
    if name not in known:
        raise UserError(f"tokenizer.weights={source}: torchaudio has the bundles {', '.join(known)}")
    check_trust(f"the bundle {name} of torchaudio", trust)
    try:
        model = bundle.get_model()  # type: ignore[union-attr]
    except Exception as error:
        raise UserError(
            f"tokenizer.weights={source} cannot be downloaded ({type(error).__name__}: {error}). Download it where you "
            "are online and give the file: tokenizer.weights=FILE"
        ) from None
    # Bundles whose input is normalised wrap the model.
    return Weights(dict(getattr(model, "model", model).state_dict()), source)
