"""Folders of the Hugging Face Hub: those files of a repository that are asked for, kept in the Hub's own cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lst.errors import UserError
from lst.lazy import import_or_explain

HUB_PREFIX = "hub:"


def hub_folder(source: str, patterns: Sequence[str], option: str) -> Path:
    """A local folder with the files of ``hub:OWNER/NAME`` that match the patterns.

    Args:
        source: ``hub:OWNER/NAME``.
        patterns: of file names, as ``config.json`` or ``*.safetensors``.
        option: that names the source, for errors.

    Raises:
        UserError: it cannot be downloaded.
    """
    hub: Any = import_or_explain("huggingface_hub", f"{option}={source}", "pip install huggingface_hub")
    try:
        return Path(hub.snapshot_download(source.removeprefix(HUB_PREFIX), allow_patterns=list(patterns)))
    # The Hub's client raises errors of its own and those of its transport.
    except Exception as error:
        raise UserError(
            f"{option}={source} cannot be downloaded ({type(error).__name__}: {str(error).splitlines()[0]}). "
            f"Download the folder where you are online and give its path: {option}=FOLDER"
        ) from None
