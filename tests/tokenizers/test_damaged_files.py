"""Damaged and hostile files of tokenizers: one line that names the file; nothing that a file names is fetched."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import error_of
from safetensors.numpy import save_file

from lst.data.prepared import load_units
from lst.errors import UserError
from lst.tokenizers.codebooks import read_codebook
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.frames import EncoderOptions
from lst.tokenizers.imported_units import ImportedUnits
from lst.tokenizers.kmeans import Centroids, Classifier, KmeansTokenizer
from lst.tokenizers.neural_codec import CodecTokenizer
from lst.tokenizers.speech import fit_speech_tokenizer, load_speech_tokenizer
from lst.tokenizers.units_file import read_units_file
from lst.tokenizers.vocabulary import Vocabulary

VALUES: list[Any] = [None, True, "text", -1, 0, 10**9, 10**30, 1.5, math.nan, [1], {"a": 1}]
CENTROIDS = Centroids(np.ones((4, 39), np.float32), np.ones(39, np.float32))
LAYERS = Classifier(
    (np.ones((5, 39), np.float32), np.ones((4, 5), np.float32)), (np.ones(5, np.float32), np.ones(4, np.float32))
)
SPEC = {"kind": "hubert", "layer": 3, "weights_sha256": "ab", "architecture": {"width": 39}}
TOKENIZERS = {
    "mfcc": KmeansTokenizer(CENTROIDS, {"kind": "mfcc"}),
    "hubert": KmeansTokenizer(CENTROIDS, SPEC, 25, EncoderOptions("hubert", 25, "hub:someone/hubert")),
    "classifier": KmeansTokenizer(LAYERS, SPEC, 25, EncoderOptions("hubert", 25, "hub:someone/hubert")),
    "encodec": CodecTokenizer(2, "delayed", np.ones((2, 1024, 3), np.float32), "ab", "pretrained"),
    "imported": ImportedUnits(50),
}


def is_one_line(load: Callable[[], object], path: Path) -> bool:
    """Whether loading ended in an error, which then is one line with the file's name."""
    told = error_of(load)
    assert not told or (path.name in told and "\n" not in told and len(told) < 800), told
    return bool(told)


def changed(values: dict[str, Any]) -> list[dict[str, Any]]:
    found = [{key: value for key, value in values.items() if key != left_out} for left_out in values]
    found += [{**values, key: value} for key in values for value in VALUES]
    for key, inner in values.items():
        if isinstance(inner, dict):
            found += [{**values, key: other} for other in changed(inner)]
    return found


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_damaged_units_file_is_one_line(kind: str, tmp_path: Path) -> None:
    tokenizer, path = TOKENIZERS[kind], tmp_path / "units.safetensors"
    description = json.loads(json.dumps(tokenizer.description()))
    num_refused = 0
    cases = changed(description)
    for case in cases:
        save_file(tokenizer.tensors(), path, {"lst": json.dumps(case)})
        num_refused += is_one_line(lambda: load_units(path), path)
    assert num_refused > len(cases) / 3
    for text in ("", "{", "[" * 100_000, "null", "[]", '{"format": "lst-units-2", "format": "lst-units-2"}', "\x00"):
        save_file(tokenizer.tensors(), path, {"lst": text})
        assert is_one_line(lambda: load_units(path), path)
    for name in tokenizer.tensors():
        for array in (None, np.zeros(0), np.zeros((2, 2, 2, 2)), np.full_like(tokenizer.tensors()[name], np.nan)):
            tensors = {**tokenizer.tensors(), name: array}
            save_file(
                {key: value for key, value in tensors.items() if value is not None},
                path,
                {"lst": json.dumps(description)},
            )
            assert is_one_line(lambda: load_units(path), path), (name, array)


def test_every_damaged_vocabulary_is_one_line(tmp_path: Path) -> None:
    """A text for num_units passed, and ended the first training step in a TypeError."""
    path = tmp_path / "vocabulary.json"
    vocabulary = Vocabulary(300, 100, "a" * 64, "b" * 64)
    num_refused = 0
    cases = changed(vocabulary.to_dict())
    for case in cases:
        path.write_text(json.dumps(case))
        num_refused += is_one_line(lambda: Vocabulary.load(path), path)
    assert num_refused > len(cases) / 2
    path.write_text(json.dumps({**vocabulary.to_dict(), "num_units": "100"}))
    with pytest.raises(
        UserError, match=r"vocabulary\.json: the vocabulary .* num_units must be a whole number .*, not '100'"
    ):
        Vocabulary.load(path)


def npy(array: np.ndarray, **header: Any) -> bytes:
    """A file whose header may tell another story than its numbers."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file,
        {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape} | header,
    )
    return file.getvalue() + array.tobytes()


def test_arrays_that_ask_for_more_than_is_there_are_refused(tmp_path: Path) -> None:
    """No memory is asked for: 4 TB would not be had."""
    ones = np.ones((4, 3), np.float32)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(np.zeros((2_000, 2_000), np.float32)))
    contents = {
        "huge.npy": npy(ones, shape=(10**12,)),
        "huge2.npy": npy(ones, shape=(10**12, 10**12)),
        "negative.npy": npy(ones, shape=(-4, -3)),
        "objects.npy": npy(ones, descr="|O"),
        "text.npy": npy(ones, descr="<U3"),
        "cut.npy": npy(ones)[:-1],
        "empty.npy": b"",
        "nested.npy": b"\x93NUMPY\x01\x00\xf0\x01" + b"(" * 496,
        "bomb.npz": bomb.getvalue(),
        "cut.npz": bomb.getvalue()[:-30],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert is_one_line(lambda path=tmp_path / name: read_codebook(path, trust=False), tmp_path / name), name
    (tmp_path / "good.npy").write_bytes(npy(ones))
    assert read_codebook(tmp_path / "good.npy", trust=False).num_units == 4


@pytest.mark.parametrize(
    "place", ["hub:someone/model", "bundle:HUBERT_BASE", "pretrained", "https://example.org/w.pt", "w.pt", "folder"]
)
@pytest.mark.parametrize("kind", ["hubert", "encodec"])
def test_what_a_units_file_names_is_neither_fetched_nor_unpickled(
    kind: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's tokenizer.trust=true is for weights that the user names, not for those that a file names."""
    touched: list[str] = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: touched.append("hub"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: touched.append("pickle"))
    for path in (tmp_path / "w.pt", tmp_path / "folder/pytorch_model.bin", tmp_path / "folder/config.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    there = str(tmp_path / place) if (tmp_path / place).exists() else place
    tokenizer, path = TOKENIZERS[kind], tmp_path / "units.safetensors"
    save_file(tokenizer.tensors(), path, {"lst": json.dumps(tokenizer.description()), "weights": there})
    with pytest.raises(
        UserError, match=rf"units\.safetensors names the weights '{there}'.*add tokenizer\.weights={there}"
    ):
        load_speech_tokenizer(path, trust=True).prepare()
    config = TokenizerConfig(kind=kind, codebook=str(path), trust=True, frame_rate_hz=tokenizer.frame_rate_hz)
    with pytest.raises(UserError, match="what a file names is not fetched or unpickled"):
        fit_speech_tokenizer(config, [], 0).prepare()
    assert touched == []


def test_weights_that_the_user_names_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(name: str, **_: object) -> str:
        asked.append(name)
        raise OSError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    TOKENIZERS["hubert"].save(tmp_path / "units.safetensors")
    with pytest.raises(UserError, match="hub:someone/hubert cannot be downloaded"):
        load_speech_tokenizer(tmp_path / "units.safetensors", "hub:someone/hubert").prepare()
    assert asked == ["someone/hubert"]


def test_the_place_of_weights_is_kept_when_a_file_is_saved_again(tmp_path: Path) -> None:
    TOKENIZERS["hubert"].save(tmp_path / "a.safetensors")
    load_speech_tokenizer(tmp_path / "a.safetensors").save(tmp_path / "b.safetensors")
    first, again = (read_units_file(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert (again.description, again.place) == (first.description, first.place)
    assert first.place == "hub:someone/hubert"
