"""The one place where a pickle may be read, and only when the user has said so: what ``tokenizer.trust=true`` allows.

A pickle can run any program. Published weights and codebooks often are pickles; read once here, they are kept as
safetensors, and nothing that this project wrote is ever read through this file.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from lst.errors import UserError
from lst.lazy import import_or_explain


def check_trust(path: Path | str, trust: bool) -> None:
    """Raises ``UserError`` unless the user trusts a file whose format can run programs."""
    if not trust:
        raise UserError(
            f"{path} is a pickle, which can run any program when it is read. Give a .safetensors, .npy or .npz file "
            "instead; or, if you trust whoever published it, add tokenizer.trust=true"
        )


def read_torch_pickle(path: Path, trust: bool) -> Any:
    """What ``torch.save`` wrote, on the CPU: by torch's restricted reader where that will do.

    Raises:
        UserError: it is not trusted, missing, no such file, or made of classes that are not installed.
    """
    check_trust(path, trust)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as first:
        try:
            return torch.load(path, map_location="cpu", weights_only=False)
        except ModuleNotFoundError as error:
            raise UserError(f"{path} holds objects of the package {error.name}: install it to read them") from None
        except Exception as error:
            raise UserError(f"{path} cannot be read as a torch file ({error or first})") from None


def read_object_pickle(path: Path, trust: bool) -> Any:
    """What ``joblib.dump`` or ``pickle.dump`` wrote: a scikit-learn k-means, as fairseq and textless-lib publish it.

    Raises:
        UserError: it is not trusted, missing, or no such file.
    """
    check_trust(path, trust)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file")
    joblib = import_or_explain("joblib", "reading a scikit-learn pickle", "pip install scikit-learn")
    try:
        with warnings.catch_warnings():
            # scikit-learn warns of another version's pickle; only its centroids are taken.
            warnings.simplefilter("ignore")
            return joblib.load(path)
    except ModuleNotFoundError as error:
        raise UserError(f"{path} holds objects of the package {error.name}: install it to read them") from None
    except Exception as error:
        raise UserError(f"{path} cannot be read as a joblib file ({error})") from None
