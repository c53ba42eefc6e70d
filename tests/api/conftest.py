"""A run of the smoke data with models of several patchings, and one of its recordings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from whole_models import save_whole

from lst.data.prepared import PreparedData
from lst.data.utterance import Utterance

PATCHINGS = {
    "static": ["patching=static"],
    "single": ["patching=static", "patching.deduplicate=true"],
    "speech_bpe": ["model=baseline_debug", "patching=speech_bpe", "patching.speech_bpe_size=24"],
    "entropy": ["patching=entropy"],
}


@pytest.fixture(scope="session")
def run(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(smoke_data, root)
    for name, words in PATCHINGS.items():
        save_whole(root, name, *words)
    return root


@pytest.fixture(scope="session")
def spoken(run: Path) -> list[tuple[Utterance, Path]]:
    """Held-out utterances and their audio files."""
    data = PreparedData(run / "data")
    return [(utterance, Path(data.manifest[utterance.id].path)) for utterance in data.valid]
