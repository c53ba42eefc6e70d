"""Words after ``lst COMMAND``: those that are no options of it never end well."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import fuzzed, run
from hypothesis import given
from hypothesis import strategies as st

from lst.commands import COMMANDS, job_of
from lst.configs.compose import MAIN, SYNTHETIC

# What stands for a value in a word: right ones, and those of other types, grammars, shells and tools.
TEXTS = [
    *("", " ", "null", "true", "0", "1", "-1", "2", "3.5", "1e400", "nan", "inf", "-inf", "9" * 40, "0x10", "1_000"),
    *("[]", "[1]", "[1,[2]]", "{}", "{a:1}", "[", "]", "{", "'", '"', "\\", "a,b", "1,2", "range(3)", "choice(1,2)"),
    *("${oc.env:HOME}", "${run_dir}", "${", "???", "$HOME", "~", "/dev/null", "/dev/zero", "../..", "/nowhere/x.yaml"),
    *("\x1b[2J", "a\nb", "\0", "\ud800", "\u202e", "é", "x" * 5_000, "=", "a=b", "@", "!!python/object:os.system"),
    *("http://127.0.0.1/x", "file:///etc/passwd", "reference://a::b", "s3://", "static", "smoke", "lst_tiny", "mfcc"),
]
HABITS = ["-s", "--seed", "--lr=1", "--patching", "-h", "-V", "--dryrun", "--cfg", "-c", "job", "--", "-", "help", "-m"]
KEYS = sorted({*MAIN.options, *SYNTHETIC.options, *MAIN.groups})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "run"


def words_of(command: str) -> st.SearchStrategy[str]:
    """One word: an option with some value, half of them with one of the right kind; a key with a letter off; others."""
    options = job_of(command).options
    keys = st.sampled_from(sorted(options))
    right = keys.map(lambda key: f"{key}={options[key].value}")
    any_text = st.one_of(st.sampled_from(TEXTS), st.text(max_size=12))
    wrong = st.builds(lambda key, text: f"{key}={text}", st.sampled_from(KEYS), any_text)
    off = st.builds(lambda key, at: f"{key[: at % len(key)]}_{key[at % len(key) :]}=1", keys, st.integers(0, 40))
    return st.one_of(right, wrong, wrong, wrong, off, st.sampled_from(HABITS), any_text)


@fuzzed
@given(data=st.data())
def test_words(home: Path, data: st.DataObject) -> None:
    command = data.draw(st.sampled_from(sorted(COMMANDS)))
    words = data.draw(st.lists(words_of(command), min_size=1, max_size=3))
    ours = [] if command.startswith("tokenizer") else [f"run_dir={home}"]
    found = run([*command.split(), "--dry-run", *ours, *words])
    job = job_of(command)
    # Where help or a version is asked for, nothing else counts.
    if not {"-h", "--help", "-V", "--version"} & set(words):
        known = {*job.options, *job.groups, "jobs", "threads", "slurm"}
        keys = [word.partition("=")[0] for word in words if "=" in word and not word.startswith("-")]
        assert found.status == 2 or all(key in known or key.startswith("arms.") for key in keys), words
    assert not home.exists()
