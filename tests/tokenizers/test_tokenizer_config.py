"""Options of tokenizers: each mistake is named with what is allowed, all of them at once."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from lst.cli import command_help, describe
from lst.configs.compose import build_config
from lst.errors import ProblemsError, UserError
from lst.runs.preparing import prepare_options
from lst.tokenizers.config import KINDS, MODEL_KINDS, TokenizerConfig
from lst.tokenizers.speech import encoder_options


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"kind": "wavlm"}, f"tokenizer.kind=wavlm: allowed are {', '.join(KINDS)}"),
        ({"num_units": 1}, "allowed are 2 to 65535"),
        ({"num_units": 65_536, "fit_max_frames": 70_000}, "allowed are 2 to 65535"),
        ({"frame_rate_hz": 30}, "must divide 100"),
        ({"kind": "whisper", "weights": "w", "layer": 2, "frame_rate_hz": 20}, "must divide 50"),
        ({"kind": "encodec", "weights": "w"}, "EnCodec gives 75 a second"),
        ({"kind": "hubert", "layer": 6}, "needs tokenizer.weights="),
        ({"kind": "hubert", "weights": "w"}, "needs tokenizer.layer=N"),
        ({"kind": "hubert", "weights": "w", "layer": 0}, "the first layer is 1"),
        ({"codebook": ""}, "tokenizer.codebook= is empty"),
        ({"num_codebooks": 33}, "allowed are 1 to 32"),
        ({"codebook_pattern": "woven"}, "allowed are flattened, delayed"),
        ({"device": "tpu"}, "allowed are cpu, cuda"),
        ({"fit_max_frames": 5}, "must be at least tokenizer.num_units"),
        ({"text_vocab_size": 200}, "must be 300 or more"),
        ({"text_model_type": "word"}, "allowed are bpe, unigram"),
        ({"character_coverage": 0.5}, "allowed are 0.9 to 1"),
        ({"normalization": "nfd"}, "allowed are nmt_nfkc, nfkc, identity"),
        ({"normalization": "identity"}, "set tokenizer.lowercase=false"),
        ({"normalization": "identity", "lowercase": False, "strip_punctuation": True}, "strip_punctuation=false"),
        ({"text_max_lines": 0}, "must be 1 or more"),
    ],
)
def test_each_mistake_is_named_alone(values: dict[str, Any], expected: str) -> None:
    problems = TokenizerConfig(**values).problems()
    assert len(problems) == 1
    assert expected in problems[0]


def test_defaults_and_shipped_groups_are_sound() -> None:
    assert TokenizerConfig().problems() == []
    for group in ("mfcc_kmeans", "log_mel_kmeans", "hubert_kmeans", "whisper_kmeans", "encodec"):
        kind = group.removesuffix("_kmeans")
        places = ["codebook", "weights"] if kind in MODEL_KINDS else ["codebook"]
        for place in places:
            config = build_config([f"tokenizer={group}", f"tokenizer.{place}=there"]).tokenizer
            assert config.kind == kind
            # Weights of a group's would beat those that a units file names.
            assert (config.weights, config.codebook) == (("there", None) if place == "weights" else (None, "there"))
        if kind in MODEL_KINDS:
            with pytest.raises(UserError, match=f"kind={kind} needs tokenizer.weights="):
                build_config([f"tokenizer={group}"])


@pytest.mark.parametrize("kind", ["mfcc", "log_mel"])
def test_weights_for_units_without_are_refused_where_units_are_made(kind: str) -> None:
    with pytest.raises(UserError, match=f"tokenizer.weights=w: {kind} units have no weights"):
        encoder_options(TokenizerConfig(kind=kind, weights="w"))
    with pytest.raises(UserError, match=f"tokenizer.weights=w: {kind} units have no weights"):
        prepare_options(build_config([f"tokenizer.kind={kind}", "tokenizer.weights=w"]))


def test_all_mistakes_come_together_and_paths_may_hold_any_sign() -> None:
    with pytest.raises(ProblemsError) as raised:
        build_config(["tokenizer.kind=hubert", "tokenizer.device=tpu", "tokenizer.text_model_type=word", "out="])
    assert len(raised.value.problems) == 5
    path = "/a b/[x]=c{1}.npz"
    config = build_config(["tokenizer.kind=whisper", "tokenizer.layer=2", f"tokenizer.weights={path}", f"out={path}"])
    assert config.tokenizer.weights == config.out == path
    assert build_config(["tokenizer.weights=null"]).tokenizer.weights is None


def test_help_lists_choices_in_words() -> None:
    text = command_help("tokenizer fit-text")
    (model_type,) = (line for line in text.splitlines() if "tokenizer.text_model_type=" in line)
    (normalization,) = (line for line in text.splitlines() if "tokenizer.normalization=" in line)
    assert model_type.endswith(" [bpe | unigram; without tokenizer.text_model=]")
    assert normalization.endswith(" [nmt_nfkc | nfkc | identity; without tokenizer.text_model=]")
    assert "('" not in text


def test_a_dry_run_counts_the_units_of_every_codebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("lst.data.prepare.prepare")
    monkeypatch.setattr(module, "given_tokenizer", lambda _: "as if the weights were there")
    words = [f"run_dir={tmp_path}", "data.num_spoken_stories=8", "tokenizer=encodec", "tokenizer.weights=there"]
    counts = []
    for num_codebooks in (1, 4):
        text = describe("prepare", [*words, f"tokenizer.num_codebooks={num_codebooks}"])
        (count,) = re.findall(r"about ([\d,]+) units", text)
        counts.append(int(count.replace(",", "")))
    assert counts[1] == 4 * counts[0] > 0
