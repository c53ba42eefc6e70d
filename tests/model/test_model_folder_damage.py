"""Damaged model folders: whatever is wrong ends in one line that names the file, before memory is asked for."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import error_of
from safetensors.torch import load_file, save_file

from lst.errors import UserError
from lst.model.checkpoint import load_model, save_model
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.unit_model import UnitModel

CONFIG = ModelConfig(global_dim=24, global_layers=2, global_heads=2, local_dim=16, local_heads=2, ffn_multiple_of=8)
DEEP = "[" * 100_000 + "]" * 100_000
VALUES: list[Any] = [None, True, "text", -1, 10**9, 10**30, math.nan, [1], {"a": 1}]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "m"
    save_model(folder, LatentSpeechTextModel(CONFIG, 60, seed=3), PatchingConfig("entropy", 3), {"num_text": 40})
    UnitModel(30, 4).save(folder / "unit_model")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy, as an earlier version saved it: without hashes, so that damage is not found by these."""
    shutil.copytree(saved, tmp_path / "m")
    (tmp_path / "m/hashes.json").unlink()
    return tmp_path / "m"


def places(value: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, item in value.items():
        yield (*way, key)
        if isinstance(item, dict):
            yield from places(item, (*way, key))


def changed_configs(path: Path) -> Iterator[str]:
    """The file with each key dropped, and with each value replaced by every other kind of value."""
    for place in places(json.loads(path.read_text())):
        for value in [..., *VALUES]:
            whole = json.loads(path.read_text())
            holder = whole
            for key in place[:-1]:
                holder = holder[key]
            if value is ...:
                del holder[place[-1]]
            else:
                holder[place[-1]] = value
            yield json.dumps(whole)


def assert_one_line(load: Callable[[], object], path: Path) -> bool:
    """Whether it could be loaded; an error names the file, and is short and in one line or a list of problems."""
    told = error_of(load)
    assert not told or path.parent.name in told, told
    assert len(told) < 3_000
    return not told


def damaged_contents(path: Path) -> list[bytes]:
    whole = path.read_bytes()
    return [
        b"",
        whole[: len(whole) // 2],
        whole[:-1],
        whole + b"\0",
        b"\xff" + whole[1:],
        DEEP.encode(),
        b"[1]",
        b"null",
    ]


def test_every_damaged_configuration_is_one_line(folder: Path) -> None:
    """No weights are read here: a configuration of 10⁹ layers or words must be refused before."""
    path = folder / "config.json"
    whole, num_loaded = path.read_text(), 0
    cases = [*changed_configs(path), whole.replace('"version"', '"vocab_size": 60, "version"', 1)]
    assert len(cases) > 400
    for content in cases:
        path.write_text(content)
        num_loaded += assert_one_line(lambda: load_model(folder), path)
    # A key that is dropped has its default, and many options of the shape change no weight.
    assert num_loaded < len(cases) / 2


def test_every_damaged_unit_model_is_one_line(folder: Path) -> None:
    path = folder / "unit_model" / "config.json"
    whole, num_loaded = path.read_text(), 0
    for content in changed_configs(path):
        path.write_text(content)
        num_loaded += assert_one_line(lambda: UnitModel.load(path.parent), path)
    path.write_text(whole)
    assert num_loaded <= 8, "only bits may be changed, to null or numbers"


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "unit_model/config.json", "unit_model/weights.safetensors"]
)
def test_every_damaged_file_is_one_line(folder: Path, name: str) -> None:
    path = folder / name
    load = (lambda: UnitModel.load(path.parent)) if "unit_model" in name else (lambda: load_model(folder))
    for content in damaged_contents(path):
        path.write_bytes(content)
        is_json = name.endswith("json")
        assert not assert_one_line(load, path) or (is_json and content.endswith(b"}")), content[:40]
    path.unlink()
    assert not assert_one_line(load, path)
    path.mkdir()
    assert not assert_one_line(load, path)
    path.rmdir()
    os.mkfifo(path)
    assert not assert_one_line(load, path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert not assert_one_line(load, path)


def test_every_damaged_header_is_one_line(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    random = np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(0, 8 + length, random.integers(1, 4)):
            content[place] = random.integers(32, 127)
        path.write_bytes(bytes(content))
        assert_one_line(lambda: load_model(folder), path)
    for shape in ([10**9, 10**9], [2**63, 2**63, 0], [60, 16, 1], []):
        header = json.loads(whole[8 : 8 + length])
        header["head.weight"]["shape"] = shape
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
        assert not assert_one_line(lambda: load_model(folder), path)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool])
def test_weights_that_are_no_fractions_are_named(folder: Path, dtype: torch.dtype) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["head.weight"] = weights["head.weight"].to(dtype)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"head\.weight is of type (int32|bool), weights are floating-point numbers"):
        load_model(folder)


def test_loading_takes_the_memory_of_the_weights_alone(saved: Path, tmp_path: Path) -> None:
    """A model of 100 MB takes 120 MB at most; 10⁹ words or layers, 64 GB, are refused where 4 GB may be had."""
    code = """
import json, re, resource, sys
from pathlib import Path
import torch
from lst.model.lst import LatentSpeechTextModel
from lst.model.unit_model import UnitModel
from lst.errors import UserError
folder = Path(sys.argv[1])
whole = json.loads((folder / "config.json").read_text())
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
# What is imported and compiled on the way is no memory of the weights.
LatentSpeechTextModel.from_pretrained(folder, verify=False)
before, num_bytes = peak(), (folder.parent / "large/model.safetensors").stat().st_size
large = LatentSpeechTextModel.from_pretrained(folder.parent / "large")
print((peak() - before) * 1024 / num_bytes)
limit = 4 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
def said(load):
    try:
        load()
    except UserError as error:
        print(str(error).replace("\\n", " "))
for change in ({"vocab_size": 10**9}, {"model": {**whole["model"], "global_layers": 10**9}},
               {"model": {**whole["model"], "encoder_layers": 10**9}},
               {"model": {**whole["model"], "global_dim": 2**40}}):
    (folder / "config.json").write_text(json.dumps({**whole, **change}))
    said(lambda: LatentSpeechTextModel.from_pretrained(folder, verify=False))
unit = folder / "unit_model/config.json"
unit.write_text(json.dumps({**json.loads(unit.read_text()), "hidden_dim": 2**20, "context": 2**20}))
said(lambda: UnitModel.load(unit.parent))
"""
    shutil.copytree(saved, tmp_path / "m")
    save_model(tmp_path / "large", LatentSpeechTextModel(CONFIG, 800_000), PatchingConfig(), {})
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "m"], capture_output=True, text=True, check=True)
    share, *lines = done.stdout.splitlines()
    assert 0.9 < float(share) < 1.2
    assert len(lines) == 5, done.stderr
    assert "needed is [1000000000, 16]" in lines[0]
    assert "it asks for 1000000000 layers of the backbone, the weights hold 2" in lines[1]
    assert "it asks for 1000000000 layers of the encoder, the weights hold 1" in lines[2]
    assert all(str(tmp_path) in line for line in lines)
