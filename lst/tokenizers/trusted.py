"""The one place where a pickle may be read, and only after the user has set ``tokenizer.trust=true``.

A pickle can run any program. Published weights and codebooks often are pickles. They are read here once and then kept
as safetensors. This project never reads a file of its own through this module.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lst.errors import UserError
from lst.lazy import import_or_explain


def check_trust(path: Path | str, trust: bool) -> None:
    """Raises ``UserError`` unless the user trusts a file in a format that can run programs."""
    if not trust:
        raise UserError(
            f"{path} is a pickle, which can run any program when it is read. Give a .safetensors, .npy or .npz file "
            "instead; or, if you trust whoever published it, add tokenizer.trust=true"
        )


def read_torch_pickle(path: Path, trust: bool) -> Any:
    """The content of a file written by ``torch.save``, on the CPU; torch's restricted reader is tried first.

    Raises:
        UserError: the file is not trusted, missing or damaged, or a package that its objects need is missing.
    """

    check_trust(path, trust)

    def load() -> Any:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception:
            return torch.load(path, map_location="cpu", weights_only=False)

    return _unpickled(path, load, "a torch file")


def read_object_pickle(path: Path, trust: bool) -> Any:
    """The content of a file written by ``joblib.dump`` or ``pickle.dump``, such as a published scikit-learn k-means.

    Raises:
        UserError: the file is not trusted, missing or damaged, or a package that its objects need is missing.
    """
    check_trust(path, trust)
    joblib = import_or_explain("joblib", "reading a scikit-learn pickle", "pip install scikit-learn")
    with warnings.catch_warnings():
        # scikit-learn warns of a pickle from another of its versions; we take the centroids only.
        warnings.simplefilter("ignore")
        return _unpickled(path, lambda: joblib.load(path), "a joblib file")


def _unpickled(path: Path, load: Callable[[], Any], what: str) -> Any:
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file")
    try:
        return load()
    except ModuleNotFoundError as error:
        raise UserError(f"{path} holds objects of the package {error.name}: install it to read them") from None
    except Exception as error:
        raise UserError(f"{path} cannot be read as {what} ({error or error.__context__})") from None
