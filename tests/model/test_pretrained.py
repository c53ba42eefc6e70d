"""Model folders: what is written comes back, what does not fit is refused and named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lst.errors import UserError
from lst.model.batch import Document, pack_documents
from lst.model.checkpoint import load_model, save_model
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document

CONFIG = ModelConfig(global_dim=24, global_layers=2, global_heads=2, local_dim=16, local_heads=2, ffn_multiple_of=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "m", LatentSpeechTextModel(CONFIG, 60, seed=3), PatchingConfig("static", 3), {"num_text": 40})
    return tmp_path / "m"


def test_round_trip(folder: Path, make_document: Callable[..., Document]) -> None:
    model, patching, vocabulary = load_model(folder)
    assert (patching, vocabulary) == (PatchingConfig("static", 3), {"num_text": 40})
    document = make_document(1, 40)
    batch = pack_documents([[(document, patch_document(document, "static", patching))]], 60)
    torch.testing.assert_close(model(batch), LatentSpeechTextModel(CONFIG, 60, seed=3)(batch), rtol=0, atol=0)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".md"}


def test_a_folder_of_an_earlier_version_opens(folder: Path) -> None:
    """Its configuration lacks the options of the published choices: they have their defaults."""
    config = json.loads((folder / "config.json").read_text())
    for section, kind in (("model", ModelConfig), ("patching", PatchingConfig)):
        earlier = kind().recorded()
        assert len(earlier) < len(config[section])
        config[section] = {key: value for key, value in config[section].items() if key in earlier}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "hashes.json").unlink()
    model, patching, _ = load_model(folder)
    assert (model.config, patching) == (CONFIG, PatchingConfig("static", 3))


def test_every_misfit_is_named_at_once(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["head.weight"]
    weights["norm.weight"] = torch.ones(5)
    weights["surplus"] = torch.ones(1)
    weights["embedding.weight"][3, 3] = float("nan")
    save_file(weights, folder / "model.safetensors")
    (folder / "hashes.json").unlink()
    with pytest.raises(UserError) as raised:
        load_model(folder)
    for part in (
        "4 problems",
        "head.weight is missing",
        "norm.weight has shape [5], needed is [16]",
        "surplus is unknown",
        "embedding.weight holds values that are not finite",
    ):
        assert part in str(raised.value)


def test_damaged_and_missing_files_are_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not a header at all")
    with pytest.raises(UserError, match="weights are damaged"):
        load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="weights are missing"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load_model(folder)


def test_another_vocabulary_is_called_that(folder: Path) -> None:
    save_file(LatentSpeechTextModel(CONFIG, 61).state_dict(), folder / "model.safetensors")
    (folder / "hashes.json").unlink()
    with pytest.raises(
        UserError, match=r"head\.weight has shape \[61, 16\], needed is \[60, 16\] \(another vocabulary\)"
    ):
        load_model(folder)


def test_one_line_loads_a_folder_and_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub is a function here that hands out the folder's files, as a download would."""
    local = LatentSpeechTextModel.from_pretrained(folder)
    asked = []

    def download(repo_id: str, name: str, **options: object) -> str:
        asked.append((repo_id, name, options["revision"]))
        return str(folder / name)

    monkeypatch.setattr("lst.model.pretrained.hf_hub_download", download)
    remote = LatentSpeechTextModel.from_pretrained("someone/speech-text", revision="v1")
    assert asked == [
        ("someone/speech-text", name, "v1") for name in ("config.json", "model.safetensors", "hashes.json")
    ]
    assert not remote.training
    for a, b in zip(local.state_dict().values(), remote.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UserError, match="unknown options revison; allowed are dtype, verify, revision"):
        LatentSpeechTextModel.from_pretrained(folder, revison="v1")


def test_a_name_that_is_neither_folder_nor_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model 'runs/no/such/folder': there is no such folder"):
        LatentSpeechTextModel.from_pretrained("runs/no/such/folder")
    with pytest.raises(UserError, match=r"no model in .*train it with lst train"):
        load_model(tmp_path / "missing")


def test_a_saved_model_is_saved_again_with_all_it_knows(folder: Path, tmp_path: Path) -> None:
    LatentSpeechTextModel.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    _, patching, vocabulary = load_model(tmp_path / "copy")
    assert (patching, vocabulary) == (PatchingConfig("static", 3), {"num_text": 40})
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "license" not in card
    assert "library_name: latent-speech-text" in card
    assert "LatentSpeechTextModel.from_pretrained" in card


def test_options_of_another_version_are_named(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["model"] |= {"colour": 1, "global_heads": 5}
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"unknown option model\.colour"):
        load_model(folder)
    del config["model"]["colour"]
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"model\.global_dim=24: must be an even multiple of model\.global_heads=5"):
        load_model(folder)
    path.write_text(json.dumps({**config, "version": 1}))
    with pytest.raises(UserError, match="has version 1, this project reads 3"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_an_altered_file_is_named(folder: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One bit of one weight, or another value of the configuration that fits the weights as well."""
    content = bytearray((folder / name).read_bytes())
    if name == "config.json":
        content = bytearray(content.replace(b'"static_size": 3', b'"static_size": 5'))
    else:
        content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(
        UserError, match=rf"is not as it was saved(?s:.*){name} was altered: its SHA-256 is .* recorded"
    ):
        load_model(folder)
    LatentSpeechTextModel.from_pretrained(folder, verify=False)
    assert f"{folder}: the hashes of the model's files are not compared, as asked" in capfd.readouterr().err


def test_a_folder_of_an_earlier_version_is_read_with_a_warning(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "hashes.json").unlink()
    model = LatentSpeechTextModel.from_pretrained(folder)
    warnings = [line for line in capfd.readouterr().err.splitlines() if "hashes.json" in line]
    assert len(warnings) == 1
    assert "its files are not verified" in warnings[0]
    model.save_pretrained(folder)
    load_model(folder)
    assert "hashes" not in capfd.readouterr().err


def test_the_configuration_is_written_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose writing was stopped is not taken for a model, and is whole after the next writing."""
    written: list[str] = []
    replace = os.replace

    def note(source: str, target: str) -> None:
        written.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr("os.replace", note)
    model = LatentSpeechTextModel(CONFIG, 60)
    model.save_pretrained(folder.parent / "new")
    assert written == ["README.md", "model.safetensors", "hashes.json", "config.json"]
    hashes = json.loads((folder.parent / "new/hashes.json").read_text())
    assert hashes["version"] == 1
    assert sorted(hashes["files"]) == ["config.json", "model.safetensors"]


def test_files_without_a_hash_beside_others_are_named(folder: Path) -> None:
    """Weights that were added, or a record from which a hash was taken."""
    (folder / "notes.json").write_text("{}")
    load_model(folder)
    shutil.copy(folder / "model.safetensors", folder / "more.safetensors")
    with pytest.raises(UserError, match=r"more\.safetensors is not recorded"):
        load_model(folder)
    (folder / "more.safetensors").unlink()
    (folder / "hashes.json").write_text('{"version": 1, "files": {}}')
    with pytest.raises(UserError, match=r"(?s)config\.json is not recorded.*model\.safetensors is not recorded"):
        load_model(folder)


def test_hashes_name_no_file_outside(folder: Path) -> None:
    """A record is no list of files to read: a name that leads out of the folder is a missing file."""
    record = json.loads((folder / "hashes.json").read_text())
    for name in ("../secret.json", str(folder.parent / "secret.json"), "link.json"):
        (folder.parent / "secret.json").write_text("{}")
        (folder / "link.json").unlink(missing_ok=True)
        (folder / "link.json").symlink_to(folder.parent / "secret.json")
        files = {**record["files"], name: hashlib.sha256(b"{}").hexdigest()}
        (folder / "hashes.json").write_text(json.dumps({**record, "files": files}))
        with pytest.raises(UserError, match=rf"{name} is missing"):
            load_model(folder)


def test_weights_keep_the_type_that_they_were_saved_in(folder: Path, tmp_path: Path) -> None:
    wide = LatentSpeechTextModel(CONFIG, 60, seed=3).double()
    wide.embedding.weight.data[0, 0] = 1 + 2**-40
    wide.save_pretrained(tmp_path / "wide")
    loaded = LatentSpeechTextModel.from_pretrained(tmp_path / "wide")
    for name, tensor in wide.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.embedding.weight.dtype == torch.float64
    for dtype in (torch.float32, torch.bfloat16):
        model = LatentSpeechTextModel.from_pretrained(tmp_path / "wide", dtype=dtype)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    LatentSpeechTextModel.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(tmp_path / "narrow")
    assert LatentSpeechTextModel.from_pretrained(tmp_path / "narrow").embedding.weight.dtype == torch.bfloat16
    assert load_model(tmp_path / "narrow")[0].embedding.weight.dtype == torch.float32
