"""Imports packages where they are used, with an error that says how to repair the installation."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from lst.errors import UserError


def import_torchaudio() -> Any:
    """Imports torchaudio with its modules ``functional`` and ``transforms``.

    Raises:
        UserError: torchaudio is missing, or built for another torch (its extension then fails to load).
    """
    try:
        for module in ("torchaudio.functional", "torchaudio.transforms"):
            importlib.import_module(module)
        return importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"torchaudio does not load ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "This happens when the builds of torch and torchaudio differ (for example, a CPU-only torch with a CUDA "
            "torchaudio). Install a matching pair from one index in one command: "
            "pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'"
        ) from error


def import_or_explain(module: str, purpose: str, install: str) -> ModuleType:
    """Imports ``module``; if it is absent, raises ``UserError`` with what needs it and how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{purpose} needs the package {module}: {install}") from error
