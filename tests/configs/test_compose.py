"""Configuration: every shipped file parses, every mistake is reported at once, values survive any sign."""

from __future__ import annotations

import dataclasses

import pytest

from lst.configs.compose import COMPARISON, MAIN, SYNTHETIC, Job, build_config, to_yaml
from lst.configs.schema import Config
from lst.errors import ProblemsError, UserError
from lst.options import list_options


@pytest.mark.parametrize("choice", [f"{g}={n}" for g, names in MAIN.groups.items() for n in names])
def test_every_shipped_file_composes(choice: str) -> None:
    extra = ["patching=none"] if choice.startswith(("model=baseline", "model=h3_")) else []
    if choice in ("tokenizer=encodec", "tokenizer=hubert_kmeans", "tokenizer=whisper_kmeans"):
        # A model's weights are the user's to name.
        extra = ["tokenizer.weights=weights.safetensors"]
    assert isinstance(build_config([choice, *extra]), Config)


def test_every_option_says_what_it_does() -> None:
    silent = [option.key for option in list_options(Config()) if not option.doc]
    assert silent == []


def test_arms_of_the_default_job_compose() -> None:
    config = build_config([])
    assert list(config.arms) == ["baseline", "static"]
    for name, overrides in config.arms.items():
        arm = build_config([*overrides, f"name={name}"])
        assert arm.model.global_dim == config.model.global_dim, "arms share the backbone"
        assert arm.model.global_layers == config.model.global_layers


def test_all_mistakes_in_keys_are_reported_together_with_the_nearest() -> None:
    with pytest.raises(ProblemsError) as raised:
        build_config(["trian.max_steps=3", "learning_rate=1", "patching=statc", "nonsense"])
    text = str(raised.value)
    assert len(raised.value.problems) == 4
    for part in (
        "did you mean train.max_steps?",
        "did you mean train.learning_rate?",
        "did you mean static?",
        "not of the form key=value",
    ):
        assert part in text


def test_all_wrong_types_are_reported_together() -> None:
    with pytest.raises(ProblemsError) as raised:
        build_config(["train.max_steps=abc", "seed=xx", "data.mix.text=q"])
    assert len(raised.value.problems) == 3


def test_all_impossible_values_are_reported_together() -> None:
    with pytest.raises(ProblemsError) as raised:
        build_config(["train.rows=0", "patching.static_size=0", "data.voice=siri", "on_error=ignore", "name=a/b"])
    assert len(raised.value.problems) == 5


def options_that_are_lists(schema: type) -> list[str]:
    """Found by the types that the fields are declared with."""

    def below(kind: type, prefix: str) -> list[str]:
        found = []
        for item in dataclasses.fields(kind):
            value = getattr(kind(), item.name)
            if dataclasses.is_dataclass(value):
                found += below(type(value), f"{prefix}{item.name}.")
            elif str(item.type).startswith("list["):
                found.append(prefix + item.name)
        return found

    return below(schema, "")


LISTS = [(job, key) for job in (MAIN, SYNTHETIC) for key in options_that_are_lists(job.schema)]


@pytest.mark.parametrize(("job", "key"), [*LISTS, (MAIN, "arms.mine")], ids=lambda x: getattr(x, "command", x))
def test_a_list_without_brackets_is_answered_with_the_list(job: Job, key: str) -> None:
    assert {key for _, key in LISTS} == {
        "model.global_mixers",
        "seeds",
        "storage.allow_protocols",
        "storage.allow_hosts",
        "benchmark.voices",
        "train.skip_batches",
        "train.keep_at",
        "generate.stop",
    }
    for given, remedy in {
        "h3": "write {}=[h3]",
        "7": "write {}=[7]",
        "3,4": "write {}=[3,4]",
        "[h3": "write {}=[h3]",
        "h3]": "write {}=[h3]",
        "": "such as {}=[",
        "null": "such as {}=[",
        "{a:1}": "such as {}=[",
        "train.rows=[3]": "write {}=[train.rows=[3]]",
    }.items():
        with pytest.raises(ProblemsError) as raised:
            job.build([f"{key}={given}", "nonsense=1"])
        assert len(raised.value.problems) == 2, "with all others"
        assert f"{key}={given}: a list is needed" in str(raised.value)
        assert remedy.format(key) in str(raised.value)


def test_lists_in_brackets_are_taken() -> None:
    assert SYNTHETIC.build(["seeds=[3, 4]", "model.global_mixers=[h3]"]).seeds == [3, 4]
    assert build_config(["model.global_layers=2", "model.global_mixers=[h3,attention]"]).model.mixers == [
        "h3",
        "attention",
    ]
    for given, words in {
        "[patching=static, train.rows=3]": ["patching=static", "train.rows=3"],
        "[model.global_mixers=[h3,s4d],train.rows=3]": ["model.global_mixers=[h3,s4d]", "train.rows=3"],
        "['patching=static',\"train.rows=3\"]": ["patching=static", "train.rows=3"],
        "[train.rows=3,'model.global_mixers=[h3,s4d]']": ["train.rows=3", "model.global_mixers=[h3,s4d]"],
        "[]": [],
    }.items():
        assert build_config([f"arms.mine={given}"]).arms["mine"] == words
    for folders in (["runs=a", "runs=b"], ["runs=[a, 'b']"]):
        assert COMPARISON.build(folders).runs == ["a", "b"]


def test_a_precision_that_does_not_train_is_reported_with_those_that_do() -> None:
    with pytest.raises(ProblemsError) as raised:
        build_config(["train.precision=bf17", "train.rows=0"])
    assert len(raised.value.problems) == 2
    allowed = "32-true, bf16-mixed, 16-mixed, bf16-true, 64-true"
    assert f"train.precision=bf17: allowed are {allowed}" in str(raised.value)
    for precision in allowed.split(", "):
        assert build_config([f"train.precision={precision}"]).train.precision == precision


def test_a_baseline_cannot_be_patched() -> None:
    with pytest.raises(UserError, match="without local modules"):
        build_config(["model=baseline_debug", "patching=static"])
    assert build_config(["model=baseline_debug", "patching=speech_bpe"]).patching.strategy == "speech_bpe"


def test_patching_choices_and_a_threshold() -> None:
    assert build_config(["patching=bpe_aligned"]).patching.aligned_to == "bpe"
    assert build_config(["patching=entropy"]).patching.entropy_threshold is None
    assert build_config(["patching=entropy", "patching.entropy_threshold=1.5"]).patching.entropy_threshold == 1.5
    with pytest.raises(UserError, match=r"entropy_measure=rarity: allowed are entropy, surprisal"):
        build_config(["patching=entropy", "patching.entropy_measure=rarity"])


@pytest.mark.parametrize(
    "value",
    [
        "/a b/c=d.txt",
        "Hello, world: it's (fine)!",
        'say "yes" [now]',
        "50% {off} \\ ok",
        "é ’ “ — 中 ~ < > ^ `",
        "[a",
        "1e3",
        "1_000",
        "${seed} $x",
        "'quoted'",
        "a\\",
    ],
)
def test_values_may_hold_any_sign(value: str) -> None:
    assert build_config([f"generate.text={value}"]).generate.text == value


def test_overrides_beat_the_experiment_and_the_experiment_beats_the_default() -> None:
    assert build_config(["experiment=smoke"]).model.global_dim == 32
    assert build_config(["experiment=smoke"]).run_dir == "runs/smoke"
    config = build_config(["experiment=smoke", "train.max_steps=5", "model=lst_quickstart"])
    assert (config.train.max_steps, config.train.rows, config.model.global_dim) == (
        5,
        2,
        build_config([]).model.global_dim,
    )


def test_yaml_round_trip() -> None:
    text = to_yaml(build_config(["seed=7"]))
    assert "seed: 7" in text
    assert all(key.split(".")[-1] in text for key in MAIN.options)


def test_a_name_of_another_tool_is_answered_with_the_option_of_this_one() -> None:
    with pytest.raises(ProblemsError, match=r"unknown option 'train\.lr' \(did you mean train\.learning_rate\?\)"):
        build_config(["train.lr=1"])
