"""Limits of options: one check reads them, help shows them, and no float option takes NaN or infinity."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

import pytest

from lst.cli import command_help
from lst.commands import COMMANDS, job_of
from lst.configs.compose import COMPARISON, MAIN, SCALING, SYNTHETIC, Job
from lst.configs.reads import READS
from lst.configs.schema import Config
from lst.errors import ProblemsError
from lst.options import Options, list_options, option

FLOATS = [(job, key) for job in (MAIN, SYNTHETIC) for key, item in job.options.items() if item.kind.startswith("float")]


@dataclass
class Inner(Options, prefix="inner."):
    share: float = option(0.5, "a share", above=0, below=1)
    names: list[str] = option(["a"], "names")

    def rules(self) -> list[str]:
        return ["inner: a rule"] if len(self.names) > 1 else []


@dataclass
class Outer(Options):
    count: int | None = option(2, "a count", low=1, unit="things", note="half a thing is none")
    kind: str = option("x", "a kind", choices=("x", "y"))
    size: int = option(3, "a size", low=2, high=9)
    inner: Inner = field(default_factory=Inner)


def test_limits_of_every_section_and_rules_come_together() -> None:
    wrong = Outer(0, "z", 10, Inner(1.0, ["a", "b"]))
    assert wrong.problems() == [
        "count=0: must be 1 or more (half a thing is none)",
        "kind=z: allowed are x, y",
        "size=10: allowed are 2 to 9",
        "inner.share=1.0: must be above 0 and below 1",
        "inner: a rule",
    ]
    assert Outer(None).problems() == Outer().problems() == []


def test_records_lack_options_that_earlier_versions_lacked_while_they_have_their_defaults() -> None:
    """A training that an earlier version began goes on, and its evaluation is not made anew."""
    config = Config()
    later = {
        "model": {
            "cross_residual": 2,
            "boundary_head": True,
            "decoder_keys": 2,
            "decoder_shared_projection": True,
            "global_norm": False,
            "patch_projection": "if_needed",
            "rope_scaling": "llama3",
            "rope_factor": 4.0,
            "rope_low_factor": 2.0,
            "rope_high_factor": 3.0,
            "rope_original_patches": 99,
            "global_head_dim": 8,
            "global_ffn_dim": 64,
            "attention_bias": "qkv",
            "query_key_norm": True,
            "norm_eps": 1e-6,
            "local_rate": 0.5,
            "init_from": "folder",
            "family": True,
            "depth": 8,
        },
        "loss": {"boundary_gradient": True, "boundary_weight": 0.5},
        "patching": {"marker_inside": True, "rest_closes_late": False},
        "data.interleave": {"leading_speech_max_share": 1.0, "merge_last_below_words": 3},
        "train": {
            "warmup_share": 0.2,
            "schedule": "wsd",
            "decay_share": 0.3,
            "batch_patches": 2048,
            "devices": 2,
            "num_nodes": 2,
            "strategy": "fsdp",
            "reshard": True,
            "preempt_s": 30.0,
            "watch_every": 9,
            "eval_items": 4,
            "sample_every": 5,
            "logger": "wandb",
            "recompute_every": 1,
            "compile_by": "block",
            "read_every": 3,
        },
        "eval": {
            "ceiling_utterances": 7,
            "ngram": 9,
            "benchmark": "folder",
            "task": "asr",
            "split": "train",
            "max_utterances": 3,
            "beams": 4,
            "recognise": "faster-whisper",
            "recogniser_weights": "folder",
        },
    }
    for key, published in later.items():
        section = attrgetter(key)(config)
        before = section.recorded()
        assert before == {name: value for name, value in asdict(section).items() if name not in published}
        assert replace(section, **published).recorded() == {**before, **published}
    assert config.recorded()["generate"] == asdict(config.generate)


def test_defaults_that_are_lists_are_not_shared() -> None:
    Inner().names.append("b")
    assert Inner().names == ["a"]


def test_the_prefix_of_a_section_is_its_place() -> None:
    def check(config: Options, prefix: str) -> None:
        assert config.prefix == prefix
        for item in fields(config):
            if isinstance(value := getattr(config, item.name), Options):
                check(value, f"{prefix}{item.name}.")

    check(Config(), "")
    check(SYNTHETIC.schema().task, "task.")
    check(SYNTHETIC.schema().train, "train.")
    check(SCALING.schema().fit, "fit.")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("job", [MAIN, SYNTHETIC], ids=lambda job: job.command)
def test_no_float_option_takes_nan_or_infinity(job: Job[Any], value: str) -> None:
    keys = [key for owner, key in FLOATS if owner is job]
    assert len(keys) > 5
    with pytest.raises(ProblemsError) as raised:
        job.build([f"{key}={value}" for key in keys])
    assert sorted(problem.partition("=")[0] for problem in raised.value.problems if "finite" in problem) == sorted(keys)


def test_mistakes_of_every_kind_come_at_once() -> None:
    with pytest.raises(ProblemsError) as raised:
        MAIN.build(
            ["trian.rows=1", "train.rows=x", "train.max_steps=0", "model=lst", "seed=1,2", "num_workers=(", "name=a b"]
        )
    assert len(raised.value.problems) == 6, "rules wait for values that are read"
    assert any("seed=1,2: several values need one run each: add -m" in problem for problem in raised.value.problems)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_the_ten_most_used_options_and_lists_each_once(command: str) -> None:
    text = command_help(command)
    first = text.partition("most used options (key=default):\n")[2].partition("\n\n")[0].splitlines()
    assert 2 <= len(first) <= 10
    own = text.partition("options of --multirun:")[0]
    keys = [line.split("=")[0].strip() for line in own.splitlines() if line.startswith("  ") and "=" in line[:46]]
    options = [key for key in keys if key in job_of(command).options]
    assert len(options) == len(set(options))
    assert set(options) == {key for key in job_of(command).options if READS[command].has(key)}


def test_help_shows_default_range_and_choices() -> None:
    lines = {line.split()[0]: line for line in command_help("train").splitlines() if "=" in line}
    assert lines["train.beta1=0.9"].endswith("AdamW's first decay [at least 0 and below 1]")
    assert lines["train.learning_rate=0.002"].endswith("[above 0]")
    assert lines["patching.max_patch=0"].endswith("[0 or more units; with patching.strategy!=none|speech_bpe]")
    assert lines["train.precision=32-true"].endswith("[32-true | bf16-mixed | 16-mixed | bf16-true | 64-true]")


def test_every_option_is_described() -> None:
    assert [
        item.key
        for job in (MAIN, SYNTHETIC, SCALING, COMPARISON)
        for item in list_options(job.schema())
        if not item.doc
    ] == []
