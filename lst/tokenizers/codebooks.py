"""Reads codebooks in the formats that others publish; they are then kept as units files.

::

    .npy                     centroids [k, D] of any k-means
    .npz                     cluster_centers or centroids, or the only array of two dimensions
    .safetensors             the same
    .km .pkl .bin            a pickled scikit-learn k-means (fairseq, textless-lib)           needs trust
    .pt .pth                 a torch file: cluster_centers, or a classifier of units          needs trust

The published codebook at 25 Hz has 500 units, or 501 if the blank of its CTC loss counts. The blank is kept as the last
unit, 500; ``lst.tokenizers.kmeans.Classifier`` replaces blank frames.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lst.errors import UserError
from lst.storage import FormatError
from lst.storage.arrays import read_arrays
from lst.tokenizers.kmeans import Centroids, Classifier, Quantiser
from lst.tokenizers.trusted import check_trust, read_object_pickle, read_torch_pickle
from lst.tokenizers.units_file import MAX_UNITS, read_units_file

CENTRE_NAMES = ("cluster_centers", "cluster_centers_", "centroids", "codebook", "km", "C")
PICKLE_SUFFIXES, TORCH_SUFFIXES = (".km", ".pkl", ".bin"), (".pt", ".pth")
ALLOWED = f".npy, .npz, .safetensors, and with tokenizer.trust=true {', '.join(PICKLE_SUFFIXES + TORCH_SUFFIXES)}"


def read_codebook(path: Path, trust: bool) -> Quantiser:
    """The quantiser in a published file. It does not scale features.

    Args:
        path: a file in one of the formats at the top of this module.
        trust: whether a pickle may be read.

    Raises:
        UserError: the file is missing, damaged, of another format, a pickle that is not trusted, or holds no codebook.
    """
    if not path.is_file():
        raise UserError(f"tokenizer.codebook={path}: there is no such file; allowed are {ALLOWED}")
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz", ".safetensors"):
        return _centroids(_plain(path, suffix), path)
    if suffix in PICKLE_SUFFIXES:
        check_trust(path, trust)
        # Newer torch files are zip archives, and some have these suffixes.
        if zipfile.is_zipfile(path):
            return _from_torch(read_torch_pickle(path, trust), path)
        model = read_object_pickle(path, trust)
        return _centroids(getattr(model, "cluster_centers_", model), path)
    if suffix in TORCH_SUFFIXES:
        return _from_torch(read_torch_pickle(path, trust), path)
    raise UserError(f"tokenizer.codebook={path}: {suffix or 'no suffix'} is not one of {ALLOWED}")


def _plain(path: Path, suffix: str) -> Any:
    try:
        if suffix == ".safetensors":
            return _foreign_tensors(path)
        arrays = read_arrays(path)
        return arrays.get("", arrays)
    except FormatError as error:
        raise UserError(
            f"{path} is damaged or holds more than plain arrays (it {error}): save the centroids with numpy.save"
        ) from None
    except OSError as error:
        raise UserError(f"{path} is damaged or cannot be read ({error})") from None


def _foreign_tensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a safetensors file; a units file is refused, because its scale of features would be lost."""
    found = read_units_file(path)
    if found.description or "feature_scale" in found.tensors:
        raise UserError(f"{path} is a units file already: use it with tokenizer.codebook=, without converting it")
    return found.tensors


def _from_torch(content: Any, path: Path) -> Quantiser:
    if isinstance(content, Mapping) and "model_weight" in content:
        content = content["model_weight"]
    if isinstance(content, Mapping):
        layers = sorted({int(name.split(".")[-2]) for name in map(str, content) if _is_layer(name)})
        if layers:
            return _classifier(content, layers, path)
    return _centroids(getattr(content, "cluster_centers_", content), path)


def _is_layer(name: str) -> bool:
    parts = name.split(".")
    return len(parts) >= 2 and parts[-1] == "weight" and parts[-2].isdigit()


def _classifier(content: Mapping[str, Any], layers: list[int], path: Path) -> Classifier:
    by_end = {".".join(str(name).split(".")[-2:]): value for name, value in content.items()}
    try:
        weights = tuple(_array(by_end[f"{index}.weight"]) for index in layers)
        biases = tuple(_array(by_end[f"{index}.bias"]) for index in layers)
    except KeyError as error:
        raise UserError(f"{path} holds layers, but {error.args[0]} is missing") from None
    for weight, bias, following in zip(weights, biases, [*weights[1:], None], strict=True):
        fits = following is None or following.shape[1] == weight.shape[0]
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or not fits:
            raise UserError(f"{path}: layers of shapes {[w.shape for w in weights]} do not form a classifier of units")
    return Classifier(weights, biases)


def _centroids(content: Any, path: Path) -> Centroids:
    if isinstance(content, Mapping):
        named = [content[name] for name in CENTRE_NAMES if name in content]
        square = [value for value in content.values() if getattr(value, "ndim", 0) == 2]
        if not named and len(square) != 1:
            raise UserError(f"{path} holds {', '.join(map(str, content)) or 'nothing'}, none of which is a codebook")
        content = (named or square)[0]
    if not isinstance(content, (np.ndarray, torch.Tensor)):
        raise UserError(f"{path} holds a {type(content).__name__}, not centroids")
    centroids = _array(content)
    if centroids.ndim != 2 or not 2 <= len(centroids) <= MAX_UNITS or not np.isfinite(centroids).all():
        raise UserError(
            f"{path} holds an array of shape {centroids.shape}: a codebook has 2 to {MAX_UNITS} rows of finite numbers"
        )
    return Centroids(centroids, np.ones(centroids.shape[1], np.float32))


def _array(value: Any) -> np.ndarray:
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return np.ascontiguousarray(array, dtype=np.float32)
