"""``versions.json``: what a training ran with, so that two runs can be told apart by their code."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import lst
from lst.storage import fingerprint, sha256

PACKAGE, CODE = "latent-speech-text", "latent-speech-text code"
REPORTED_PACKAGES = (
    PACKAGE,
    "torch",
    "torchaudio",
    "lightning",
    "numpy",
    "sentencepiece",
    "pocketsphinx",
    "webdataset",
    "hydra-core",
    "safetensors",
    "scikit-learn",
    "py-nanotts",
    "fsspec",
    "ray",
)


def versions() -> dict[str, str]:
    """Content of ``versions.json``: Python, the packages that decide results, and the kind of machine."""
    found = {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu cores": str(os.cpu_count()),
        CODE: code_fingerprint(),
    }
    for package in REPORTED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code_fingerprint() -> str:
    """Fingerprint of the package's Python files: code of one version may differ."""
    root = Path(lst.__file__).parent
    files = sorted(root.rglob("*.py"))
    return fingerprint([[str(path.relative_to(root)), sha256(path)] for path in files])


def code_version(recorded: Mapping[str, str]) -> str:
    """Version of the package, and fingerprint of its files where that was recorded; empty where neither is known.

    >>> code_version({"latent-speech-text": "0.2", "latent-speech-text code": "0123456789abcdef"})
    '0.2 (01234567)'
    """
    code = recorded.get(CODE, "")
    return f"{recorded.get(PACKAGE, '')}{code and f' ({code[:8]})'}".strip()
