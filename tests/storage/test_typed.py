"""JSON held to a type: what fits is read as it is, and whatever is wrong ends in one line with its place."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest

from lst import storage
from lst.errors import UserError
from lst.storage import Between, Count, FormatError, OtherVersionError, parse_json, read_json, read_jsonl
from lst.storage import typed as module


class Item(TypedDict):
    name: str
    num: Count


class Optionals(TypedDict, total=False):
    note: str | None
    share: Annotated[float, Between(0, 1)]


class Whole(Optionals):
    version: Literal[2]
    kind: Literal["a", "b"]
    is_done: bool
    seconds: float
    items: dict[str, list[Item]]
    counts: list[int]
    free: dict[str, Any]
    either: int | str


@dataclass(frozen=True)
class Row:
    id: str
    num: Annotated[int, Between(1, 9)] = 1
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.id == "bad":
            raise ValueError("id must not be bad")


WHOLE = {
    "version": 2,
    "kind": "a",
    "is_done": False,
    "seconds": 3,
    "items": {"x": [{"name": "é", "num": 0}]},
    "counts": [1, -2],
    "free": {"any": [1, None, {"deep": 1.5}]},
    "either": "text",
    "of a later version": 1,
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in WHOLE.items() if key != name}


@pytest.mark.parametrize("change", [{}, {"note": None}, {"note": "n", "share": 1}, {"either": 3}, {"items": {}}])
def test_what_fits_is_read_as_it_is(tmp_path: Path, change: dict[str, Any]) -> None:
    storage.write_json(tmp_path / "a.json", {**WHOLE, **change})
    found = read_json(tmp_path / "a.json", Whole, "it", "")
    assert found == {**WHOLE, **change}
    assert list(found) == list({**WHOLE, **change})
    assert type(found["seconds"]) is int  # numbers are not converted: written again, the file has the same bytes


DAMAGED: dict[str, tuple[Any, str]] = {
    "a list": ([1], r"it must be an object, not a list"),
    "null": (None, "it must be an object, not null"),
    "a number": (3, "it must be an object, not 3"),
    "missing key": (without("counts"), "counts is missing"),
    "null for a text": ({**WHOLE, "kind": None}, "kind must be 'a' or 'b', not null"),
    "another literal": ({**WHOLE, "kind": "c"}, "kind must be 'a' or 'b', not 'c'"),
    "number for true": ({**WHOLE, "is_done": 0}, "is_done must be true or false, not 0"),
    "true for a number": ({**WHOLE, "seconds": True}, "seconds must be a number, not True"),
    "text for a number": ({**WHOLE, "seconds": "3"}, "seconds must be a number, not '3'"),
    "NaN": ({**WHOLE, "seconds": float("nan")}, "seconds must be a number, not nan"),
    "infinite": ({**WHOLE, "seconds": float("inf")}, "seconds must be a number, not inf"),
    "integer beyond a float": ({**WHOLE, "seconds": 10**400}, r"seconds must be a number, not 10000"),
    "integer beyond 64 bits": ({**WHOLE, "counts": [2**63]}, r"counts\[0\] must be a whole number, not 9223372036"),
    "fraction": ({**WHOLE, "counts": [1, 2.0]}, r"counts\[1\] must be a whole number, not 2\.0"),
    "list for an object": ({**WHOLE, "items": []}, "items must be an object, not a list"),
    "object for a list": ({**WHOLE, "counts": {}}, "counts must be a list, not an object"),
    "deep in it": (
        {**WHOLE, "items": {"x": [{"name": "n", "num": -1}]}},
        r"items\.x\[0\]\.num must be a whole number of",
    ),
    "odd key": ({**WHOLE, "items": {"a b": 3}}, r"items\.'a b' must be a list, not 3"),
    "out of bounds": ({**WHOLE, "share": 1.5}, r"share must be a number from 0 to 1, not 1\.5"),
    "neither": ({**WHOLE, "either": 1.5}, r"either must be a whole number, not 1\.5"),
    "many at once": (
        {**WHOLE, "kind": 1, "seconds": [], "counts": [None, None]},
        r"kind must .*; seconds must be a number, not a list; counts\[0\] must be a whole number, not null; and 1 more",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path: Path, case: str) -> None:
    value, told = DAMAGED[case]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    told = rf"the thing is damaged: .*a\.json is not as it must be: {told}.* Do so\.$"
    with pytest.raises(FormatError, match=told) as e:
        read_json(path, Whole, "the thing", "Do so.")
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 500


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON .*can't decode byte 0xff"),
        (b'{"a": "\xe9"}', "is not JSON .*can't decode"),
        ("{}".encode("utf-16"), "is not JSON"),
        (b'{"a": "\\ud800"}', "is not JSON .*surrogates not allowed"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a": ' + b"[" * 80 + b"]" * 80 + b"}", "is not as it must be: a is nested more than 64 levels deep"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "is not JSON"),
        (b"{} {}", "is not JSON .*Extra data"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', r"is not JSON \(the key 'c' is there twice\)"),
        (b'{"a": [1, NaN]}', "is not as it must be: a holds a number that is not finite"),
        (b'{"a": {"b": -Infinity}}', "is not as it must be: a holds a number that is not finite"),
        (b'{"a": 1e999}', "is not as it must be: a holds a number that is not finite"),
    ],
)
def test_absurd_content_is_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=rf"the thing is damaged: .*a\.json {told}.*Do so\.$") as raised:
        read_json(path, dict[str, Any], "the thing", "Do so.")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    (tmp_path / "a.json").write_text('{"a": "0123456789"}')
    with pytest.raises(FormatError, match=r"a\.json has 19 bytes, at most 10 are allowed\. Do so\."):
        read_json(tmp_path / "a.json", dict[str, Any], "it", "Do so.")


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the thing is missing: .*a\.json\. Do so\."):
        read_json(tmp_path / "a.json", Whole, "the thing", "Do so.")
    with pytest.raises(UserError, match=r"the thing cannot be read: .*\(Is a directory\)\. Do so\."):
        read_json(tmp_path, Whole, "the thing", "Do so.")


@pytest.mark.parametrize("version", [1, 3, None, "2", 2.5, [2]])
def test_another_version_is_told_before_all_else(tmp_path: Path, version: Any) -> None:
    storage.write_json(tmp_path / "a.json", {"version": version})
    told = r"a\.json has version .*, this project reads 2: use the release of .* that wrote it, or make the thing again"
    with pytest.raises(OtherVersionError, match=told):
        read_json(tmp_path / "a.json", Whole, "the thing", "")


def test_a_file_without_a_version_is_of_the_first() -> None:
    class First(TypedDict, total=False):
        version: Literal[1]

    assert parse_json(b"{}", First) == {}
    with pytest.raises(OtherVersionError, match="has version 1, this project reads 2"):
        parse_json(json.dumps(without("version")).encode(), Whole)


def test_dataclasses_are_made_with_their_defaults() -> None:
    assert parse_json(b'{"id": "a", "later": 3}', Row) == Row("a")
    assert parse_json(b'[{"id": "a", "num": 9, "tags": ["t"]}]', list[Row]) == [Row("a", 9, ["t"])]
    for content, told in (
        (b"{}", "id is missing"),
        (b'{"id": "a", "num": 10}', "num must be a whole number from 1 to 9, not 10"),
        (b'{"id": "bad"}', "it: id must not be bad"),
        (b'[{"id": "bad"}]', "it must be an object, not a list"),
    ):
        with pytest.raises(FormatError, match=told):
            parse_json(content, Row)


def test_lines_are_read_up_to_one_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert read_jsonl(path, Row) == []
    path.write_bytes('{"id": "a"}\n\n{"id": "b"}\n{"id": "é'.encode()[:-1])
    assert read_jsonl(path, Row) == [Row("a"), Row("b")]
    for content, told in (
        (b'{"id": "a"}\n{"id\n{"id": "b"}\n', r"a\.jsonl, line 2 is not JSON: '\{\"id'"),
        (b'{"id": "a"}\n\xff\n{"id": "b"}\n', r"a\.jsonl, line 2 is not JSON: "),
        (b'{"id": "a"}\n[1]', r"a\.jsonl, line 2 is not as it must be: it must be an object, not a list"),
        (b'{"id": 3}\n', r"a\.jsonl, line 1 is not as it must be: id must be a text, not 3"),
    ):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=told) as raised:
            read_jsonl(path, Row)
        assert "\n" not in str(raised.value)


def test_a_pipe_or_a_device_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name, kind in (("pipe.json", "FIFO"), ("zero.json", "device")):
        said = rf"{name} cannot be read: is a {kind}, a regular file is needed"
        with pytest.raises(FormatError, match=rf"the thing is damaged: .*{said}"):
            read_json(tmp_path / name, Whole, "the thing", "")
        with pytest.raises(FormatError, match=said):
            read_jsonl(tmp_path / name, Row)
    with pytest.raises(FormatError, match=r"cannot be read \(Is a directory\)"):
        read_jsonl(tmp_path, Row)


def test_a_line_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 30)
    (tmp_path / "a.jsonl").write_text('{"id": "a"}\n{"id": "' + "b" * 40 + '"}\n')
    with pytest.raises(FormatError, match=r"a\.jsonl, line 2 has more than 30 bytes"):
        read_jsonl(tmp_path / "a.jsonl", Row)


def test_what_a_type_does_not_name_is_held_to_depth_and_finite_numbers() -> None:
    for content in (b'{"id": "a", "later": NaN}', b'{"id": "a", "later": ' + b"[" * 80 + b"]" * 80 + b"}"):
        with pytest.raises(FormatError, match=r"later (holds a number that is not finite|is nested more than 64)"):
            parse_json(content, Row)


def test_another_format_is_told_like_another_version() -> None:
    class Named(TypedDict):
        format: Literal["a-2"]
        num: int

    with pytest.raises(OtherVersionError, match="has format 'a-1', this project reads a-2"):
        parse_json(b'{"format": "a-1"}', Named)
