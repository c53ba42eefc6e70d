"""Files of items, and folders of benchmarks that are read back: every problem is named, or they are scored."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from damage import BYTE_EDITS, JSON_EDITS, VALUES, Damage, Pristine, damages, edits
from fuzzing import run, sampled, shorter, told
from hypothesis import given
from hypothesis import strategies as st

from lst.cli import main
from lst.configs.benchmark_schema import TEXT_BENCHMARKS
from lst.configs.compose import MAIN
from lst.configs.reads import reads_of
from lst.configs.schema import Config
from lst.data.shards.files import write_index
from lst.errors import UserError
from lst.evaluation.benchmark import open_benchmark
from lst.recipes.benchmark import build_plan
from lst.recipes.evaluate_benchmark import benchmark_plan
from lst.storage import read_bytes, sha256, write_json

CELLS = {
    "id": ["a", "b", "a"],
    "ctx": ["A dog", "The rain"],
    "context": ["A dog", ""],
    "endings": [["barks.", "sings."], ["falls.", "stands up."]],
    "label": [0, 1, "1"],
    "premise": ["It rained."],
    "question": ["cause", "effect"],
    "choice1": ["It was wet."],
    "choice2": ["It was dry."],
    "pos": ["He is."],
    "neg": ["He are."],
    "good": ["He is."],
    "bad": ["He are."],
    "word": ["cat"],
    "nonword": ["cak"],
    "correct": [0, 1],
}


@pytest.fixture(scope="module")
def written(made: Pristine) -> Pristine:
    """A benchmark of text alone."""
    folder = made.folder.parent / "written"
    items = folder.with_name("items.jsonl")
    rows = [
        {"ctx": f"A dog {word}", "endings": ["barks.", "sings."], "label": 0}
        for word in ("sits and", "runs and", "eats and")
    ]
    items.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    words = ["hellaswag", f"items={items}", f"out={folder}", "benchmark.speech=false", f"run_dir={made.folder}"]
    assert main(["benchmark", "build", *words]) == 0
    return Pristine(folder)


@pytest.fixture(scope="module")
def spoken(made: Pristine) -> Pristine:
    """A benchmark of recordings."""
    folder = made.folder.parent / "spoken"
    recorded = folder.with_name("recorded")
    recorded.mkdir()
    generator = np.random.default_rng(0)
    for name in ("1_0", "1_1", "2_0", "2_1"):
        soundfile.write(recorded / f"sample_{name}.wav", generator.normal(0, 0.1, 8_000), 16_000)
    words = [f"items={recorded}", f"out={folder}", f"run_dir={made.folder}", "num_workers=1"]
    assert main(["benchmark", "build", "pairs", *words]) == 0
    return Pristine(folder)


@pytest.fixture(scope="module")
def config() -> Config:
    """Changed by each example."""
    return MAIN.build(["out=/nowhere", "benchmark.speech=false", "items=x"], reads_of("benchmark build", True))


def seal(folder: Path) -> None:
    """Makes all hashes agree with the damage."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if (folder / "index.json").is_file():
            index = json.loads(read_bytes(folder / "index.json"))
            for entry in (entry for entries in index["splits"].values() for entry in entries):
                tar = folder / "shards" / f"{entry['name']}.tar"
                entry["num_bytes"], entry["sha256"] = tar.stat().st_size, sha256(tar)
                entry["receipt_sha256"] = sha256(tar.with_suffix(".json"))
            write_index(folder, index)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        card = json.loads(read_bytes(folder / "benchmark.json"))
        card["files"] = {name: sha256(folder / name) for name in card["files"]}
        write_json(folder / "benchmark.json", card)


def opened(folder: Path) -> None:
    """Reads all of a benchmark that scoring and pages read."""
    benchmark = open_benchmark(str(folder))
    for item in benchmark.items:
        benchmark.question_of(item.id)
    assert benchmark.fingerprint
    assert benchmark.clips is not None
    assert benchmark.manifest is not None


@shorter
@given(data=st.data())
def test_damaged_benchmarks(
    made: Pristine, written: Pristine, spoken: Pristine, config: Config, data: st.DataObject
) -> None:
    benchmark = data.draw(st.sampled_from([written, spoken]))
    one = damages(benchmark.names, benchmark.contents)
    found: list[Damage] = data.draw(st.lists(one, min_size=1, max_size=2, unique_by=lambda damage: damage.file))
    is_sealed = data.draw(st.booleans())
    config.run_dir, config.eval.benchmark = str(made.folder), str(benchmark.folder)
    try:
        for damage in found:
            damage.do(benchmark.folder)
        if is_sealed:
            seal(benchmark.folder)
        error = told(lambda: opened(benchmark.folder), benchmark.folder)
        told(lambda: benchmark_plan(config), benchmark.folder)
        others = [name for name in benchmark.names if name not in ("benchmark.json", "clips.jsonl", "index.json")]
        hashed = [name for name in others if name not in ("README.md", "card.html") and "audio/" not in name]
        if not is_sealed and any(benchmark.is_changed(name) for name in hashed):
            assert error
    finally:
        benchmark.restore()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "../../../outside"}, "name must be of"),
        ({"files": {"../../secret": "0" * 64}}, "is no name of a file in it"),
        ({"files": {"/dev/zero": "0" * 64}}, "is no name of a file in it"),
        ({"files": {}}, r"files does not name questions\.jsonl; files does not name texts\.jsonl"),
        ({"headlines": {}}, "headlines is empty"),
        ({"headlines": {"A→B": "mean"}}, "headlines must be of"),
        ({"headlines": {"T→T": "luck"}}, "their scores must be of"),
    ],
)
def test_a_card_that_no_benchmark_has_is_refused(written: Pristine, changes: dict[str, object], said: str) -> None:
    path = written.folder / "benchmark.json"
    try:
        write_json(path, {**json.loads(path.read_bytes()), **changes})
        with pytest.raises(UserError, match=f"benchmark.json.*{said}"):
            open_benchmark(str(written.folder), verify_hash=False)
    finally:
        written.restore()


@pytest.mark.parametrize(("endings", "label"), [(["a", "b"], 2), (["a", "b"], -1), (["a"], 0), (["a", ""], 0)])
def test_a_question_whose_label_counts_no_ending_is_named(written: Pristine, endings: list[str], label: int) -> None:
    path = written.folder / "questions.jsonl"
    try:
        first, *others = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps({**json.loads(first), "endings": endings, "label": label}), *others]))
        seal(written.folder)
        with pytest.raises(UserError, match=r"questions\.jsonl, line 1 .*two endings or more are needed"):
            opened(written.folder)
    finally:
        written.restore()


def test_a_clip_outside_of_the_folder_is_not_read(spoken: Pristine, tmp_path: Path) -> None:
    secret = tmp_path / "secret.flac"
    secret.write_bytes(b"secret")
    path = spoken.folder / "clips.jsonl"
    try:
        first, *others = path.read_text().splitlines()
        clip = {**json.loads(first), "path": str(secret), "sha256": sha256(secret)}
        path.write_text("\n".join([json.dumps(clip), *others, ""]))
        seal(spoken.folder)
        with pytest.raises(UserError, match=r"secret\.flac' is no name of a file in it"):
            open_benchmark(str(spoken.folder))
    finally:
        spoken.restore()


def test_a_plan_finds_a_cut_shard(spoken: Pristine, config: Config, made: Pristine) -> None:
    config.run_dir, config.eval.benchmark = str(made.folder), str(spoken.folder)
    tar = next((spoken.folder / "shards").glob("*.tar"))
    try:
        tar.write_bytes(tar.read_bytes()[:-512])
        with pytest.raises(UserError, match=tar.name):
            benchmark_plan(config)
    finally:
        spoken.restore()


@sampled
@given(data=st.data())
def test_whole_commands_on_damaged_benchmarks(made: Pristine, written: Pristine, data: st.DataObject) -> None:
    names = ["benchmark.json", "questions.jsonl", "texts.jsonl"]
    damage = data.draw(damages(names, written.contents))
    try:
        damage.do(written.folder)
        seal(written.folder)
        run(["eval", f"run_dir={made.folder}", f"eval.benchmark={written.folder}", "eval.bootstrap_samples=100"])
    finally:
        written.restore()
        made.restore()


def rows() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of items that are good at first, in which some values are others."""

    def value(name: str) -> st.SearchStrategy[Any]:
        right = st.sampled_from(CELLS[name])
        return st.one_of(right, right, right, st.sampled_from(VALUES))

    return st.lists(st.fixed_dictionaries({name: value(name) for name in CELLS}), min_size=1, max_size=4)


@shorter
@given(
    name=st.sampled_from(TEXT_BENCHMARKS),
    suffix=st.sampled_from([".jsonl", ".csv", ".tsv", ".jsonl.gz"]),
    found=rows(),
    changes=st.lists(edits((*BYTE_EDITS, *JSON_EDITS)), max_size=2),
    on_error=st.sampled_from(["raise", "skip"]),
)
def test_items(
    config: Config,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    suffix: str,
    found: list[dict[str, Any]],
    changes: list[Any],
    on_error: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz_items{suffix}"
    mark = "\t" if suffix == ".tsv" else ","
    if suffix in (".csv", ".tsv"):
        lines = [mark.join(CELLS), *(mark.join(str(row[key]) for key in CELLS) for row in found)]
        content = "\n".join(lines).encode(errors="surrogatepass")
    else:
        content = "".join(f"{json.dumps(row)}\n" for row in found).encode()
    for change in changes:
        content = change.apply(content)
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    config.benchmark.name, config.items, config.on_error = name, str(path), on_error
    told(lambda: build_plan(config), path.name)
