"""``lst.load``: a folder anywhere is a whole model; runs, the hub, and folders of earlier versions."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

import lst
from lst.api import SpeechTextModel, open_model
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.model.checkpoint import load_model, save_model
from lst.tokenizers.text import fit_text_tokenizer

Spoken = list[tuple[Utterance, Path]]


def scores_of(model: SpeechTextModel, spoken: Spoken) -> list[Any]:
    (first, audio), (second, other) = spoken[:2]
    endings = [second.text, other, [first.text, other]]
    return [model.score([first.text, audio], endings), model.generate(audio, modality="any", seed=3)]


@pytest.mark.parametrize("name", ["static", "single", "speech_bpe", "entropy"])
def test_a_copied_folder_is_a_whole_model(name: str, run: Path, spoken: Spoken, tmp_path: Path) -> None:
    """Its run is gone, and scores and draws are the same bit by bit."""
    own = shutil.copytree(run, tmp_path / "run")
    audio = [(utterance, Path(shutil.copy(path, tmp_path))) for utterance, path in spoken[:2]]
    model = lst.load(own, name)
    expected, units = scores_of(model, audio), model.units(audio[0][1])
    shutil.copytree(own / "models" / name / "final", tmp_path / "copied")
    shutil.rmtree(own)
    copied = lst.load(tmp_path / "copied")
    found = scores_of(copied, audio)
    assert found[0] == expected[0]
    assert (str(found[1]), found[1].ended_by) == (str(expected[1]), expected[1].ended_by)
    assert (copied.units(audio[0][1]) == units).all()
    assert (copied.sound(units).samples == model.sound(units).samples).all()
    assert copied.whole.name == "copied"


def test_lst_load_takes_what_open_model_takes() -> None:
    assert inspect.signature(lst.load).parameters.keys() == inspect.signature(open_model).parameters.keys()


def test_a_run_names_its_models(run: Path, tmp_path: Path) -> None:
    assert lst.load(str(run), "static").whole.folder == run / "models/static/final"
    with pytest.raises(UserError, match="has the models entropy, single, speech_bpe, static: say which"):
        lst.load(run)
    with pytest.raises(UserError, match="no trained model 'nosuch'"):
        lst.load(run, "nosuch")
    with pytest.raises(UserError, match="neither a model's folder nor a run"):
        lst.load(tmp_path)
    for place in (tmp_path / "nosuch", "./no/such", "nosuch", "a/b/c"):
        with pytest.raises(UserError, match="there is no such folder"):
            lst.load(place)
    with pytest.raises(UserError, match="device=tpu: allowed are cpu"):
        lst.load(run, "static", device="tpu")


def test_a_model_of_the_hub_is_fetched_whole(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is a function here that hands out a folder, as a download would."""
    asked = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        final = run / "models/entropy/final"
        inside = {str(path.relative_to(final)) for path in final.rglob("*") if path.is_file()}
        wanted = {name for name in inside if any(Path(name).match(pattern) for pattern in allow_patterns)}
        assert inside == wanted, "all of a model is fetched"
        return str(final)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert lst.load("someone/speech", revision="v1").whole.strategy == "entropy"
    assert lst.load("hub:someone/speech").whole.strategy == "entropy"
    assert asked == [("someone/speech", "v1"), ("someone/speech", None)]


def test_a_model_that_the_hub_has_not_is_named() -> None:
    with pytest.raises(UserError, match=r"no model 'someone/nothing': .* cannot be fetched"):
        lst.load("someone/nothing")


def test_a_folder_of_an_earlier_version_opens_in_its_run(
    run: Path, spoken: Spoken, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, patching, vocabulary = load_model(run / "models/static/final")
    shutil.copytree(run / "data", tmp_path / "run/data")
    final = tmp_path / "run/models/old/final"
    save_model(final, model, patching, vocabulary)
    old, whole = lst.load(final), lst.load(run, "static")
    assert capfd.readouterr().err.count("has no tokenizers of its own") == 1
    assert old.score("Anna", ["went", spoken[0][1]]) == whole.score("Anna", ["went", spoken[0][1]])
    shutil.copytree(final, tmp_path / "elsewhere/a/b")
    with pytest.raises(UserError, match="has no tokenizers beside it"):
        lst.load(tmp_path / "elsewhere/a/b")
    assert lst.load(tmp_path / "elsewhere/a/b", data_dir=run / "data").whole.name == "b"


def test_tokenizers_of_another_model_are_refused(run: Path, tmp_path: Path) -> None:
    final = shutil.copytree(run / "models/static/final", tmp_path / "model")
    fit_text_tokenizer(["some other words"] * 9, 300).save(final / "text.model")
    with pytest.raises(UserError, match=r"text\.model was altered"):
        lst.load(final)
    (final / "hashes.json").unlink()
    with pytest.raises(UserError, match="text_sha256"):
        lst.load(final)
    (final / "text.model").unlink()
    with pytest.raises(UserError, match="the text tokenizer is missing"):
        lst.load(final)


def test_nothing_of_a_folder_leads_out_of_it(run: Path) -> None:
    """No path of the machine that trained it, where units need no weights."""
    for path in (run / "models/static/final").iterdir():
        assert str(run).encode() not in path.read_bytes(), path.name
    recorded = json.loads((run / "models/static/final/hashes.json").read_text())["files"]
    assert {"text.model", "units.safetensors", "voice.safetensors", "model.safetensors"} <= set(recorded)


def test_what_it_says_of_itself_fits_a_screen(run: Path, spoken: Spoken) -> None:
    model = lst.load(run, "entropy")
    audio = spoken[0][1]
    continued = model.generate(audio, max_new_tokens=200)
    shown = [model, model.score(None, ["a", "b"]), continued, continued.sound, model.voice, model.whole]
    for one in shown:
        lines = repr(one).splitlines()
        assert len(lines) <= 24, type(one)
        assert all(len(line) <= 320 for line in lines), type(one)
    assert "entropy (trained with entropy)" in repr(model)
    assert continued.sound._repr_html_().startswith("<audio controls")
    assert isinstance(continued.units, np.ndarray)
