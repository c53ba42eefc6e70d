"""The formats of prepared data: what version 0.1 wrote opens, and files that are damaged end in one line."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webdataset
from repository import ROOT
from small_shards import same

from lst.data.checks import check_prepared
from lst.data.config import DataConfig
from lst.data.prepare import PrepareOptions, prepare
from lst.data.prepared import PreparedData, read_lists, read_source
from lst.data.shards import entries_of, load_index, verify_shards
from lst.data.shards.formats import Index, LeftOut, MadeFrom, SourceRecord, WholeReceipt
from lst.data.shards.samples import write_samples
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.storage import fingerprint, parse_json, read_jsonl
from lst.tokenizers.config import TokenizerConfig

VERSION_0_1 = ROOT / "tests/data/shards/version_0_1"


def wanted() -> PrepareOptions:
    """The options that the data of version 0.1 was prepared with; its corpus is gone."""
    return PrepareOptions(
        corpus="/corpus/manifest.jsonl",
        text="/corpus/texts.txt",
        seed=0,
        on_error="raise",
        max_skipped_share=0.05,
        num_workers=1,
        data=DataConfig(valid_share=0.25, shard_utterances=2, max_unaligned_share=0.5),
        tokenizer=TokenizerConfig(
            num_units=16, text_vocab_size=300, normalization="identity", lowercase=False, strip_punctuation=False
        ),
    )


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return shutil.copytree(VERSION_0_1, tmp_path / "data")


def test_data_of_version_0_1_opens(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = PreparedData(old)
    assert [len(reader) for reader in (data.train, data.valid, data.text)] == [2, 1, 2]
    assert {item.text for item in data.text} == {"A line that nobody says.", "Another line."}
    for item in (*data.train, *data.valid):
        assert item.num_frames > 20
        assert " ".join(word.text for word in item.words) == item.text
    assert len(data.manifest) == 4
    verify_shards(old, entries_of(data.index), full=True)
    report = check_prepared(old, full=True, max_examples=0)
    assert (report.num_problems, report.examples) == (0, {})
    # Preparing again finds it whole: the record of its settings still says the same.
    assert prepare(old, wanted()) == data.index
    assert "nothing to do" in capsys.readouterr().err


def test_each_file_of_version_0_1_is_of_its_documented_format(old: Path) -> None:
    assert parse_json((old / "index.json").read_bytes(), Index)["num_left_out"] == 1
    assert parse_json((old / "made_from.json").read_bytes(), MadeFrom)["seed"] == 0
    record = parse_json((old / "source.json").read_bytes(), SourceRecord)
    assert (record, record["left_out"]) == (read_source(old), [])
    assert [row["id"] for row in read_jsonl(old / "left_out.jsonl", LeftOut)] == ["utt_1"]
    rows, texts = read_lists(old)
    assert (len(rows), len(texts)) == (4, 2)
    for path in (old / "shards").glob("*.json"):
        receipt = parse_json(path.read_bytes(), WholeReceipt)
        assert receipt["check"] == fingerprint({key: value for key, value in receipt.items() if key != "check"})


def test_the_same_utterances_give_the_bytes_that_version_0_1_gave(old: Path) -> None:
    data = PreparedData(old)
    for path in sorted((old / "shards").glob("*.tar")):
        reader = {"train": data.train, "valid": data.valid, "text": data.text}[path.name.partition("-")[0]]
        first = 0 if path.stem.endswith("0") else reader.shard_sizes[0]
        part = reader[first : first + reader.shard_sizes[int(path.stem[-1])]]
        file = io.BytesIO()
        table = write_samples(file, part)
        assert file.getvalue() == path.read_bytes()
        assert table.to_json() == json.loads(path.with_suffix(".json").read_text())["samples"]


def test_plain_webdataset_reads_what_the_guide_says(old: Path) -> None:
    """The code of the guide, run as it stands but for the folder."""
    guide = (ROOT / "docs/guides/shards.md").read_text()
    code = guide.partition("```python\n")[2].partition("```")[0]
    assert "webdataset.WebDataset(" in code
    found: dict[str, Any] = {}
    exec(
        code.replace("runs/mine/data/shards/train-{000000..000003}.tar", f"{old}/shards/train-{{000000..000001}}.tar"),
        found,
    )
    data = PreparedData(old)
    assert all(same(left, right) for left, right in zip(found["utterances"], data.train, strict=True))
    samples = list(webdataset.WebDataset(str(old / "shards/text-000000.tar"), shardshuffle=False).decode())
    texts = [Utterance.from_record(sample["json"], sample["units.npy"]) for sample in samples]
    assert all(same(left, right) for left, right in zip(texts, data.text, strict=True))


def changed(path: Path, change: Callable[[Any], Any]) -> bytes:
    return json.dumps(change(json.loads(path.read_text()))).encode()


def with_value(*keys: str | int, value: Any) -> Callable[[Path], bytes]:
    """JSON with another value at a place."""

    def change(content: Any) -> Any:
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        return content

    return lambda path: changed(path, change)


def without(*keys: str) -> Callable[[Path], bytes]:
    return lambda path: changed(path, lambda content: {k: v for k, v in content.items() if k not in keys})


ANY_FILE: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "null": lambda _: b"null",
    "a list": lambda _: b"[1, 2]",
    "a number": lambda _: b"3",
    "an empty object": lambda _: b'{"version": 2}',
    "not UTF-8": lambda path: path.read_bytes().replace(b"a", b"\xff", 3),
    "UTF-16": lambda path: path.read_text().encode("utf-16"),
    "deep": lambda _: b"[" * 200_000,
    "deep within limits of JSON": lambda _: b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}",
    "a huge number": lambda _: b"9" * 10_000,
    "NUL bytes": lambda path: bytes(path.stat().st_size),
}
INDEX: dict[str, Callable[[Path], bytes]] = {
    "splits of null": with_value("splits", value=None),
    "split of an object": with_value("splits", "train", value={}),
    "entry of a text": with_value("splits", "train", value=["train-000000"]),
    "entry without its name": with_value("splits", "train", 0, value={"num_bytes": 3}),
    "a text for bytes": with_value("splits", "train", 0, "num_bytes", value="10"),
    "negative count": with_value("splits", "train", 0, "num_utterances", value=-1),
    "absurd count": with_value("splits", "train", 0, "num_utterances", value=10**30),
    "infinite duration": with_value("splits", "valid", 0, "duration_s", value=float("inf")),
    "hash of a number": with_value("units_sha256", value=5),
    "made from nothing": with_value("made_from", value=None),
    "no aligner": without("aligner"),
    "nothing but a version": lambda _: b'{"version": 2}',
}


def one_line(error: UserError) -> None:
    assert "\n" not in str(error)
    assert "index.json" in str(error)
    assert str(error).endswith("Run lst prepare (again) first.")


@pytest.mark.parametrize("case", [*ANY_FILE, *INDEX])
def test_a_damaged_index_is_one_line_wherever_it_is_read(
    old: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (ANY_FILE | INDEX)[case](old / "index.json")
    (old / "index.json").write_bytes(content)
    for read in (load_index, PreparedData):
        with pytest.raises(UserError, match=r"is damaged|has version") as raised:
            read(old)
        if "has version" not in str(raised.value):
            one_line(raised.value)
    report = check_prepared(old, full=True, max_examples=0)
    assert report.counts["index"] == report.num_problems == 1


OF_OTHER_FILES: list[tuple[str, str]] = [
    (name, case)
    for name in ("source.json", "made_from.json", "left_out.jsonl", "texts.jsonl", "manifest.jsonl", "unit_rows.jsonl")
    for case in ANY_FILE
]


@pytest.mark.parametrize(("name", "case"), OF_OTHER_FILES)
def test_any_damaged_list_or_record_ends_without_a_traceback(old: Path, name: str, case: str) -> None:
    """The commands that read it go on, or tell of it."""
    path = old / name
    if not path.exists():
        path.write_text('{"id": "a", "text": "a"}\n')
    path.write_bytes(ANY_FILE[case](path))
    report = check_prepared(old, full=False, max_examples=0)
    assert set(report.counts) <= {"left out"}
    assert isinstance(PreparedData(old).manifest, dict)
    (old / "index.json").unlink()
    with pytest.raises(UserError) as raised:
        prepare(old, wanted())
    what = {"source.json": "the source's record", "made_from.json": "the record of what the data was made from"}.get(
        name
    )
    if what is not None and case != "cut":
        assert "\n" not in str(raised.value)
        other_version = f"{path} has version 2, this project reads 1: use the release "
        assert str(raised.value).startswith((f"{what} is damaged: {path} ", other_version))
        assert str(raised.value).endswith((f"Delete {path}.", f"Delete {old} and prepare again.", "another run_dir"))


@pytest.mark.parametrize("case", ANY_FILE)
@pytest.mark.parametrize("is_known_to_index", [False, True])
def test_a_damaged_receipt_is_named(old: Path, case: str, is_known_to_index: bool) -> None:
    """Even one whose hash the index has."""
    path = old / "shards/train-000000.json"
    content = ANY_FILE[case](path)
    path.write_bytes(content)
    if is_known_to_index:
        index = json.loads((old / "index.json").read_text())
        index["splits"]["train"][0]["receipt_sha256"] = hashlib.sha256(content).hexdigest()
        (old / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"the receipt of a shard was altered: .*train-000000\.json") as raised:
        PreparedData(old).train[0]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        with_value("samples", "key", value=["a"]),
        with_value("samples", "json_offset", value=[1.5, 2]),
        with_value("samples", "json_offset", value=[1, 2, 3]),
        with_value("samples", "units_bytes", value=[2**70]),
        with_value("samples", "sha256", value=["no", "hex"]),
        with_value("samples", "sha256", value=["ab"]),
        with_value("samples", value=[]),
    ],
)
def test_a_table_of_samples_that_is_none_is_named(old: Path, change: Callable[[Path], bytes]) -> None:
    path = old / "shards/text-000000.json"
    path.write_bytes(content := change(path))
    index = json.loads((old / "index.json").read_text())
    index["splits"]["text"][0]["receipt_sha256"] = hashlib.sha256(content).hexdigest()
    (old / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"the receipt of a shard was altered: .*text-000000\.json"):
        PreparedData(old).text[0]
