"""Hydra's sweep grammar: which values of which words are runs of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from lst.configs.compose import MAIN
from lst.configs.sweep import swept_runs
from lst.errors import ProblemsError


def values_of(*words: str) -> list[list[str]]:
    return [list(run.swept.values()) for run in swept_runs(MAIN, words)]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("train.learning_rate=1e-3,3e-3", ["0.001", "0.003"]),
        ("seed=range(3)", ["0", "1", "2"]),
        ("seed=range(1,6,2)", ["1", "3", "5"]),
        ("seed=choice(7,9)", ["7", "9"]),
        ("model=lst_tiny,lst_small", ["lst_tiny", "lst_small"]),
        ("patching=glob([stat?c,speech_b*])", ["speech_bpe", "static"]),
        ("patching=glob(*aligned,exclude=[b*,m*])", ["aligned"]),
        ("model.global_mixers=[h3],[s4d]", ["[h3]", "[s4d]"]),
        ("patching.silence=separate,merged", ["separate", "merged"]),
        ("corpus=choice('/a b','/c,d')", ["/a b", "/c,d"]),
        ("generate.text=choice('Hello, world','Bye')", ["Hello, world", "Bye"]),
        ("sort(seed)=1", None),
        ("seed=sort(3,1,2)", ["1", "2", "3"]),
    ],
)
def test_values_of_a_word(word: str, expected: list[str] | None) -> None:
    found = values_of(word)
    assert found == ([[]] if expected is None else [[value] for value in expected])


@pytest.mark.parametrize(
    "word",
    ["generate.text=Hello, world", "run_dir=a b", "arms.a=[patching=static,train.rows=3]", "run_dir=/a/[x]=c{1}"],
)
def test_words_with_one_value_stay_as_they_are(word: str) -> None:
    (run,) = swept_runs(MAIN, [word])
    assert (run.words, run.swept) == ([word], {})


def test_the_last_word_changes_fastest_and_the_flags_stay() -> None:
    runs = swept_runs(MAIN, ["--config-dir=/x,y", "seed=1,2", "train.rows=3", "name=a,b"])
    assert [run.words[1:] for run in runs] == [
        [f"seed={seed}", "train.rows=3", f"name={name}"] for seed in "12" for name in "ab"
    ]
    assert all(run.words[0] == "--config-dir=/x,y" for run in runs)
    assert runs[1].swept == {"seed": "1", "name": "b"}


def test_globs_find_the_users_files(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in ("lst_mine", "other"):
        (tmp_path / "model" / f"{name}.yaml").write_text("{}")
    assert values_of(f"--config-dir={tmp_path}", "model=glob([lst_m*,oth*])") == [["lst_mine"], ["other"]]


def test_sweeps_without_a_list_of_values_are_all_refused() -> None:
    with pytest.raises(ProblemsError) as raised:
        swept_runs(MAIN, ["train.clip_norm=interval(1,2)", "model=glob(zz*)", "seed=glob(*)", "train.rows=range(1,"])
    for part, problem in zip(
        ("interval()", "no value matches", "a group", "range(1,"), raised.value.problems, strict=True
    ):
        assert part in problem
