"""Imports made where they are used, with an error that says how to mend the installation."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from lst.errors import UserError


def import_torchaudio() -> Any:
    """Imports torchaudio with its functional, transforms modules.

    Raises:
        UserError: it is missing, or built for another torch (its extension then fails to load).
    """
    try:
        torchaudio = importlib.import_module("torchaudio")
        importlib.import_module("torchaudio.functional")
        importlib.import_module("torchaudio.transforms")
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"torchaudio does not load ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "This happens when the builds of torch and torchaudio differ (a CPU-only torch with a CUDA torchaudio, "
            "say). Install a matching pair from one index in one command: "
            "pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'"
        ) from error
    return torchaudio


def import_or_explain(module: str, purpose: str, install: str) -> ModuleType:
    """Imports ``module``; when absent, raises ``UserError`` saying what needs it and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{purpose} needs the package {module}: {install}") from error
