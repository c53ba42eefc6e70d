"""The files beside the shards that give ids their meaning: codebook, text tokenizer, vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lst.data.shards import INDEX_FILE
from lst.errors import UserError, raise_problems
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.units import UnitCodec
from lst.tokenizers.vocabulary import Vocabulary

UNITS_FILE, TEXT_FILE, VOCABULARY_FILE = "units.safetensors", "text.model", "vocabulary.json"


def check_artefacts(folder: Path, index: dict[str, Any]) -> None:
    """Raises one error naming each of codebook, tokenizer and vocabulary that is not what the shards were made with."""
    raise_problems(
        f"prepared data in {folder}",
        [problem for problem in _artefact_problems(folder, index).values() if problem],
        "Put the original files back, run lst prepare again with the same settings, or prepare in another run_dir.",
    )


def _artefact_problems(folder: Path, index: dict[str, Any]) -> dict[str, str]:
    """What is wrong with each artefact's file; an empty text where nothing is."""
    if not index:
        return {}
    readers: dict[str, tuple[str, Any]] = {
        UNITS_FILE: (index["units_sha256"], lambda: UnitCodec.load(folder / UNITS_FILE).sha256),
        TEXT_FILE: (index["text_sha256"], lambda: TextTokenizer.load(folder / TEXT_FILE).sha256),
        VOCABULARY_FILE: (index["vocabulary"], lambda: Vocabulary.load(folder / VOCABULARY_FILE).fingerprint),
    }
    problems = {}
    for name, (recorded, read_hash) in readers.items():
        try:
            found = read_hash()
            same = found == recorded
            problems[name] = (
                "" if same else f"{name} has hash {found[:12]}…, the shards were made with {recorded[:12]}…"
            )
        except UserError as error:
            problems[name] = str(error)
    return problems


def remove_damaged(folder: Path, index: dict[str, Any]) -> None:
    """Takes away the index and damaged artefacts; damaged shards are found by their receipts."""
    (folder / INDEX_FILE).unlink()
    for name, problem in _artefact_problems(folder, index).items():
        if problem:
            (folder / name).unlink(missing_ok=True)
