"""The pages and the notebook for Python users run as they are written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import soundfile
from repository import ROOT

from lst.data.utterance import Utterance


@pytest.fixture
def folder(run: Path, spoken: list[tuple[Utterance, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the run and the recording that the pages name."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/quickstart").symlink_to(run)
    soundfile.write(tmp_path / "prompt.wav", *soundfile.read(spoken[0][1]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["guides/python.md", "guides/voice.md"])
def test_the_code_of_a_page_runs(page: str, folder: Path) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(compile(block, page, "exec"), {})
    assert blocks
    script = max(blocks, key=len)
    assert len([line for line in script.splitlines() if line]) <= 22


def test_the_notebook_runs(folder: Path) -> None:
    notebook = json.loads((ROOT / "docs/notebooks/load_score_generate.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), names)
    assert len(cells) >= 6


def test_the_card_of_an_export_says_how_it_is_loaded(run: Path, folder: Path) -> None:
    """The first lines of the card's code run on the folder itself."""
    from lst.api import SpeechTextModel, open_model
    from lst.api.publishing import ModelFacts, model_card

    model: SpeechTextModel = open_model(shutil.copytree(run / "models/static/final", folder / "mine"))
    card = model_card(model.whole, model.voice, ModelFacts(licence="apache-2.0", corpus="a|b <c>"))
    code = card.partition("```python\n")[2].partition("```")[0].replace("FOLDER_OR_REPOSITORY", "mine")
    exec(compile("\n".join(code.splitlines()[:4]), "card", "exec"), {})
    assert "| data | a\\|b &lt;c> |" in card
