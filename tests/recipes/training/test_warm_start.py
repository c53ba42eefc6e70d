"""``model.init_from``: a training begins with a text model, here with one that this project exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_trainings import overrides

from lst.cli import main
from lst.configs.compose import build_config
from lst.recipes.training.train import train

TINY = ["train.max_steps=1", "train.warmup_steps=0", "train.learning_rate=1e-12", "train.eval_utterances=1"]
BASELINE = ["model=baseline_debug", "patching=none"]


@pytest.fixture
def text_model(run: Path) -> Path:
    """A token baseline of the run, exported."""
    train(build_config(overrides(run, "name=text", *BASELINE, *TINY)))
    folder = run / "llama"
    assert main(["export", f"run_dir={run}", "name=text", "export.format=llama", f"export.folder={folder}"]) == 0
    return folder


def test_backbone_and_embeddings_are_those_of_the_text_model(
    run: Path, text_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = load_file(text_model / "model.safetensors")
    files = {path.name for path in text_model.iterdir()}
    assert files == {"config.json", "model.safetensors", "tokenizer.model"}
    for name, words in (("again", BASELINE), ("patches", ["model=lst_debug", "patching=static"])):
        command = overrides(run, f"name={name}", *words, *TINY, f"model.init_from={text_model}")
        assert main(["train", *command]) == 0
        final = run / "models" / name / "final"
        taken = load_file(final / "model.safetensors")
        torch.testing.assert_close(taken["backbone.norm.weight"], given["model.norm.weight"], rtol=0, atol=1e-9)
        queries = given["model.layers.0.self_attn.q_proj.weight"]
        found = taken["backbone.blocks.0.mixer.query_key_value.weight"][: len(queries)]
        torch.testing.assert_close(found, queries, rtol=0, atol=1e-9)
        config = json.loads((final / "config.json").read_text())
        assert (config["model"]["init_from"], config["model"]["global_dim"]) == (None, queries.shape[1])
        assert f"begins as {text_model}" in capsys.readouterr().err
    taken = load_file(run / "models" / "again" / "final" / "model.safetensors")
    num_text = json.loads((run / "data" / "vocabulary.json").read_text())["num_text"]
    table = given["model.embed_tokens.weight"][:num_text]
    torch.testing.assert_close(taken["embedding.weight"][:num_text], table, rtol=0, atol=1e-9)
    moved = text_model.rename(run / "elsewhere")
    again = overrides(run, "name=again", *BASELINE, *TINY)
    assert main(["train", *again, f"model.init_from={moved}"]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert main(["train", *again]) == 2
    assert "model.init_from" in capsys.readouterr().err


def test_what_does_not_go_together_is_refused_before_work(
    run: Path, text_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = overrides(run, "name=m", *BASELINE, *TINY, f"model.init_from={text_model}")
    for words, told in (
        (["model.global_dim=96"], "model.global_dim=96: has no effect with model.init_from="),
        (["model.norm_eps=1e-4", "model.tied_head=true"], "model.tied_head=true: has no effect"),
        (["model.init_from=nowhere"], "is missing: nowhere/config.json"),
        (["model.init_from=hub:a/b"], "model.init_from=hub:a/b cannot be downloaded"),
    ):
        assert main(["train", *command, *words]) == 2
        assert told in capsys.readouterr().err
    config = json.loads((text_model / "config.json").read_text())
    (text_model / "config.json").write_text(json.dumps({**config, "vocab_size": 9}))
    assert main(["train", *command]) == 2
    assert "its vocab_size is 9" in capsys.readouterr().err
    (text_model / "tokenizer.model").rename(text_model / "other.model")
    assert main(["train", *command]) == 2
    assert f"lst prepare tokenizer.text_model={text_model}" in capsys.readouterr().err
    (text_model / "model.safetensors").unlink()
    (text_model / "other.model").rename(text_model / "tokenizer.model")
    (text_model / "config.json").write_text(json.dumps(config))
    assert main(["train", *command]) == 2
    assert "holds no model.safetensors" in capsys.readouterr().err
    assert not (run / "models" / "m").exists()


def test_only_a_token_baseline_is_exported(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = ["export", f"run_dir={run}", "export.format=llama", f"export.folder={run / 'out'}", "name=p"]
    assert main([*export, "--dry-run"]) == 0
    assert "it waits for trained models" in capsys.readouterr().out
    train(build_config(overrides(run, "name=p", "patching=static", *TINY)))
    for more in ([], ["--dry-run"]):
        assert main([*export, *more]) == 2
        assert "only a token baseline is a text model" in capsys.readouterr().err
    assert not (run / "out").exists()
