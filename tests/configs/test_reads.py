"""Options that have no effect are refused; what the commands declare to read is what they read."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from made_run import make_run

from lst.cli import main
from lst.commands import COMMANDS, job_of
from lst.configs.compose import HABITS, MAIN, build_config
from lst.configs.reads import READS, reads_of, words_read_by
from lst.errors import ProblemsError, UserError
from lst.options import Options, list_options, needed_keys


def problems_of(command: str, *words: str) -> list[str]:
    with pytest.raises(ProblemsError) as raised:
        job_of(command).build(words, READS[command])
    return raised.value.problems


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("eval name=nosuch", "lst eval does not read name; it takes every trained model of run_dir="),
        ("report name=x", "lst report does not read name"),
        ("eval train.accelerator=gpu", "lst eval does not read train.accelerator"),
        ("eval arms.x=[model=lst_tiny]", "lst eval does not read arms.x; lst quickstart reads it"),
        ("eval model=lst_tiny", "lst eval does not read model; a trained model keeps what it was trained with"),
        ("train generate.text=hello", "lst train does not read generate.text; lst generate reads it"),
        ("train corpus=x", "lst train does not read corpus; lst check, lst prepare, lst quickstart and others read it"),
        ("train tokenizer.num_units=5", "lst train does not read tokenizer.num_units; prepared data has its tokeniz"),
        ("generate model.max_patches=9000", "lst generate does not read model.max_patches; a trained model keeps"),
        ("train out=x.wav", "lst train does not read out"),
        ("generate hub=x", "lst generate does not read hub; lst export reads it"),
        ("generate text=hello", "lst generate does not read text (did you mean generate.text?); lst prepare"),
        ("check address=auto", "lst check does not read address"),
        ("export out=x", "lst export does not read out; write export.folder=FOLDER"),
        ("prepare train.rows=3", "lst prepare does not read train.rows; lst train, lst quickstart read it"),
        ("quickstart part=0/2", "lst quickstart does not read part; make the parts with lst prepare"),
        ("quickstart arms.a=[run_dir=x]", "lst quickstart arms.NAME does not read run_dir; all arms share it"),
        ("tokenizer fit-text run_dir=x", "lst tokenizer fit-text does not read run_dir"),
        ("tokenizer show out=x", "lst tokenizer show does not read out"),
    ],
)
def test_options_that_a_command_does_not_read_are_refused(words: str, expected: str) -> None:
    *command, word = words.split()
    found = problems_of(" ".join(command), word)
    assert any(expected in problem for problem in found)


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        (
            "prepare",
            ["data.align.window_s=20"],
            "no effect with data.align.method=stamps; it is read with data.a",
        ),
        ("prepare", ["corpus=a", "data.voice=flite"], "no effect with corpus=a; it is read without corpus="),
        ("prepare", ["text=a", "data.num_text_stories=9"], "it is read without corpus= and without text="),
        ("prepare", ["layout=vctk"], "no effect with corpus=null; it is read with corpus="),
        ("prepare", ["on_error=skip"], "it is read with corpus= or text="),
        ("prepare", ["corpus=a", "max_skipped_share=1"], "no effect with on_error=raise"),
        ("prepare", ["tokenizer.num_codebooks=2"], "no effect with tokenizer.kind=mfcc"),
        ("prepare", ["tokenizer.codebook=u", "tokenizer.num_units=9"], "tokenizer.codebook=u; it is read with"),
        ("prepare", ["tokenizer.text_model=m", "tokenizer.lowercase=false"], "read without tokenizer.text_model="),
        ("check", ["check.decode=true"], "it is read with corpus="),
        ("train", ["patching=static", "patching.silence=merged"], "no effect with patching.strategy=static"),
        ("train", ["model.shift_taps=8"], "no effect with model.global_mixers=['attention']"),
        ("train", ["model=baseline_tiny", "patching=none", "model.sub_queries=1"], "with model.encoder_layers=0"),
        ("generate", ["generate.temperature=0", "generate.top_k=4"], "no effect with generate.temperature=0"),
        ("synthetic", ["model.ssm_modes=8"], "no effect with model.global_mixers"),
        ("quickstart", ["patching.unit_context=3"], "patching.unit_context=3: has no effect"),
        ("quickstart", ["arms.a=[patching=static,patching.entropy_size=3]"], "arms.a: patching.entropy_size=3: has no"),
    ],
)
def test_options_without_effect_beside_others_are_refused(command: str, words: list[str], expected: str) -> None:
    (problem,) = problems_of(command, *words)
    assert expected in problem


def test_numbers_by_name_whose_braces_a_shell_took_are_told() -> None:
    """bash makes two words of ``{read:2,talks:1}``."""
    found = problems_of("train", "data.sources.weights=read:2", "data.sources.weights=talks:1")
    assert "data.sources.weights=talks:1: numbers by name are needed: write data.sources.weights.NAME=2" in found[-1]
    job_of("train").build(["data.sources.weights={read: 2, talks: 1}"], READS["train"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("prepare", ["data.align.method=ctc", "data.align.checkpoint=MMS_FA", "data.align.window_s=20"]),
        ("prepare", ["experiment=smoke", "corpus=a", "on_error=skip", "max_skipped_share=1", "part=plan"]),
        ("train", ["model.global_mixers=[h3_hybrid]", "model.shift_taps=8", "--config-name=config"]),
        ("quickstart", ["patching.static_size=6", "model.local_heads=3", "train.max_steps=90", "eval.min_words=3"]),
        ("generate", ["experiment=smoke", "generate.text=a", "generate.top_p=0.9", "storage.allow_hosts=[a.b]"]),
        ("card", ["patching.static_size=6", "card.title=a"]),
        ("check", ["corpus=a", "data.language=de", "data.align.method=pocketsphinx"]),
        ("train", ["patching=aligned", "model.boundary_head=true", "loss.boundary_weight=2"]),
        ("train", ["model=family", "model.depth=3"]),
    ],
)
def test_options_with_an_effect_are_taken(command: str, words: list[str]) -> None:
    job_of(command).build(words, READS[command])


def test_mistakes_and_options_without_effect_come_at_once() -> None:
    found = problems_of("eval", "eval.max_itms=3", "eval.min_words=1", "name=x", "seed=x")
    assert [problem.partition("=")[0].partition(" (")[0] for problem in found] == [
        "unknown option 'eval.max_itms'",
        "seed",
        "eval.min_words",
        "name",
    ]


def test_a_plan_of_a_training_takes_the_sizes_of_a_vocabulary(capsys: pytest.CaptureFixture[str]) -> None:
    MAIN.build(["tokenizer.num_units=50"], reads_of("train", is_dry_run=True))
    assert main(["train", "tokenizer.num_units=50", "--cfg", "job"]) == 2
    assert "See lst train --help" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["plan.price_an_hour=2", "plan.device_tflops=989"])
def test_options_of_a_plan_are_refused_where_nothing_is_planned(word: str) -> None:
    MAIN.build([word], reads_of("train", is_dry_run=True))
    for command, words in (("train", [word]), ("quickstart", [f"arms.a=[{word}]"]), ("prepare", [word])):
        with pytest.raises(UserError, match=r"plan\.\w+"):
            job_of(command).build(words, reads_of(command))
    with pytest.raises(UserError, match=r"does not read plan\.price_an_hour; lst train --dry-run does"):
        MAIN.build(["plan.price_an_hour=2"], reads_of("train"))


def test_every_command_declares_what_it_reads_and_every_option_is_read() -> None:
    assert set(READS) == set(COMMANDS)
    for command, reads in READS.items():
        keys = set(job_of(command).options)
        for place in reads.places:
            assert any(key == place or key.startswith(f"{place}.") for key in keys), (command, place)
        assert all(reads.has(key) for key in COMMANDS[command].first.split()), command
    unread = [key for key in MAIN.options if not any(reads.has(key) for reads in READS.values())]
    assert unread == []


def test_conditions_name_options() -> None:
    for item in list_options(MAIN.schema()):
        assert not item.limits.needs or set(needed_keys(item.limits.needs)) <= set(MAIN.options), item.key


def test_shorter_commands_take_the_words_of_quickstart_that_they_read() -> None:
    words = ["experiment=smoke", "train.max_steps=9", "corpus=a", "eval.min_words=3", "run_dir=r"]
    assert words_read_by("eval", words, MAIN.options) == ["experiment=smoke", "eval.min_words=3", "run_dir=r"]
    assert words_read_by("train", words, MAIN.options) == ["experiment=smoke", "train.max_steps=9", "run_dir=r"]


def watch(config: Options, seen: set[str], prefix: str = "") -> None:
    """Notes every option that is read from a configuration from now on."""
    base = type(config)
    names = {item.name for item in fields(config)}

    def read(self: Any, name: str) -> Any:
        value = base.__getattribute__(self, name)
        if name in names and not isinstance(value, Options):
            seen.add(prefix + name)
        return value

    for name in names:
        if isinstance(value := getattr(config, name), Options):
            watch(value, seen, f"{prefix}{name}.")
    config.__class__ = type(base.__name__, (base,), {"__getattribute__": read})


@pytest.mark.parametrize("command", ["eval", "export", "check", "generate"])
def test_what_a_command_reads_is_what_it_declares(command: str, tmp_path: Path) -> None:
    make_run(tmp_path)
    shutil.rmtree(tmp_path / "eval")
    words = [f"run_dir={tmp_path}", "generate.text=the lake", "name=static", f"export.folder={tmp_path}/out"]
    config, seen = build_config(words_read_by(command, words, MAIN.options)), set[str]()
    watch(config, seen)
    COMMANDS[command].run(config, words)
    # Documents of whole utterances draw nothing, so how spans are drawn has no effect on them.
    undeclared = {key for key in seen if not READS[command].has(key) and not key.startswith("data.interleave")}
    assert undeclared == (
        {"tokenizer.weights", "tokenizer.device", "tokenizer.trust"} & seen if command in ("eval", "check") else set()
    )


def test_what_other_tools_call_an_option_names_one_that_is_there() -> None:
    assert not [key for key in HABITS.values() if key not in MAIN.options]


def test_check_reads_what_the_rows_of_a_corpus_depend_on(tmp_path: Path) -> None:
    words = ["corpus=x", "data.language=de", "data.transcribe=faster-whisper", f"data.transcribe_weights={tmp_path}"]
    assert job_of("check").build(words, reads_of("check")).data.language == "de"
