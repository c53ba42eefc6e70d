"""The normalisers that turn written text into text as it is read aloud, by name.

``builtin`` is ``normalise``. ``nemo`` is NVIDIA's nemo_text_processing (Apache-2.0, an extra), whose grammars know more
readings; ``normalise`` follows it, for marks and addresses that it leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from lst.data.text.normalise import NORMALISER, normalise
from lst.lazy import import_or_explain


class ReadAloud(NamedTuple):
    """A normaliser: its name with its version, for cards and fingerprints, and what it does."""

    name: str
    apply: Callable[[str], str]


@cache
def normaliser(kind: str) -> ReadAloud:
    """A normaliser by the name that options give it: ``builtin``, ``nemo`` or ``none``, which changes nothing.

    Raises:
        UserError: its package is missing.
    """
    if kind == "none":
        return ReadAloud("none", lambda text: text)
    if kind == "builtin":
        return ReadAloud(NORMALISER, normalise)
    module = import_or_explain(
        "nemo_text_processing.text_normalization.normalize",
        "the normaliser nemo",
        "pip install 'latent-speech-text[nemo]'",
    )
    grammar = module.Normalizer(input_case="cased", lang="en")
    return ReadAloud(f"nemo {_version()}, {NORMALISER}", lambda text: normalise(grammar.normalize(text)))


def _version() -> str:
    try:
        return version("nemo_text_processing")
    except PackageNotFoundError:  # A copy on the path, without its metadata.
        return "unknown"
