"""Files of text alone: what they hold, where documents begin, and every fault with its file and line."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pytest

from lst.data.config import TextConfig
from lst.data.corpora.text_files import TextPart, list_texts, read_texts
from lst.errors import UserError

BOOK = " = Wonders = \none line\nand two\n\n = = Not a title\n= More =\nthree\n"


def parts(place: Path | str, **options: object) -> list[TextPart]:
    """All documents of the files that ``text=`` names."""
    return [part for file in list_texts(str(place)).files for part in read_texts(file, TextConfig(**options))]  # type: ignore[arg-type]


def texts(place: Path | str, **options: object) -> list[str]:
    found = parts(place, **options)
    assert [part.fault for part in found if part.fault] == []
    return [part.text for part in found]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("line", [" = Wonders = ", "one line", "and two", " = = Not a title", "= More =", "three"]),
        ("blank_line", [" = Wonders = \none line\nand two", " = = Not a title\n= More =\nthree"]),
        ("heading", [" = Wonders = \none line\nand two\n\n = = Not a title", "= More =\nthree"]),
        ("file", [" = Wonders = \none line\nand two\n\n = = Not a title\n= More =\nthree"]),
    ],
)
def test_where_a_document_begins(tmp_path: Path, document: str, expected: list[str]) -> None:
    (tmp_path / "a.txt").write_text(BOOK)
    assert texts(tmp_path / "a.txt", document=document) == expected


def test_the_same_text_in_every_form(tmp_path: Path) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    lines = ["a first one", "ein zweites: äöü", "third"]
    plain = "".join(f"{line}\n" for line in lines).encode()
    records = "".join(json.dumps({"body": line, "n": 1}) + "\n" for line in lines).encode()
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n"))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "c.txt.xz").write_bytes(lzma.compress(plain))
    (tmp_path / "d.jsonl").write_bytes(records)
    (tmp_path / "e.ndjson.gz").write_bytes(gzip.compress(records))
    parquet.write_table(pyarrow.table({"body": lines, "n": [1, 2, 3]}), tmp_path / "f.parquet", row_group_size=2)
    (tmp_path / "g.wav").write_bytes(b"RIFF")
    for name in ("a.txt", "b.txt.gz", "c.txt.xz", "d.jsonl", "e.ndjson.gz", "f.parquet"):
        assert texts(tmp_path / name, field="body") == lines, name
    files = list_texts(str(tmp_path))
    assert [file.name[0] for file in files.files] == list("abcdef")
    assert files.others == ["g.wav"]
    assert [file.name for file in list_texts(f"{tmp_path}/*.txt*").files] == ["a.txt", "b.txt.gz", "c.txt.xz"]
    assert [part.place for part in parts(tmp_path / "f.parquet", field="body")][-1] == "f.parquet, row 3"


def test_long_documents_come_in_parts_that_lose_no_word(tmp_path: Path) -> None:
    words = [f"wörd{number}" for number in range(300)]
    (tmp_path / "a.txt").write_text("\n".join(" ".join(words[start : start + 7]) for start in range(0, 300, 7)))
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": " ".join(words)}) + "\n" + json.dumps({"text": "x" * 200}))
    for name in ("a.txt", "b.jsonl"):
        found = parts(tmp_path / name, document="file", max_document_bytes=64)
        assert all(0 < len(part.text.encode()) <= 64 for part in found)
        long = found if name == "a.txt" else found[:-4]
        assert " ".join(part.text for part in long).split() == words
        assert [part.is_rest for part in long] == [False] + [True] * (len(long) - 1)
    assert [len(part.text) for part in found[-4:]] == [64, 64, 64, 8]


@pytest.mark.parametrize(
    ("name", "content", "place", "told"),
    [
        ("a.txt", b"good\n\xff\xfe bad\n", "a.txt, line 2", "is not UTF-8: its byte 1 is 0xff"),
        ("a.txt", b"", "a.txt", "is empty"),
        ("a.txt", b"\n \n", "a.txt", "holds no text"),
        ("a.txt.gz", b"plain text\n", "a.txt.gz", "is named .gz, and its first bytes are not"),
        ("a.txt.xz", gzip.compress(b"text\n", mtime=0), "a.txt.xz", "is named .xz, and its first bytes are not"),
        ("a.txt", b"\x28\xb5\x2f\xfd....", "a.txt", "is packed by Zstandard"),
        ("a.jsonl.zst", b"{}\n", "a.jsonl.zst", "is named .zst, which is not read"),
        ("a.txt", b"BZh91AY", "a.txt", "is packed by bzip2"),
        ("a.txt", b"PAR1....", "a.txt", "is a Parquet file: name it .parquet"),
        ("a.parquet", b"text\n", "a.parquet", "does not begin with PAR1"),
        ("a.parquet", b"PAR1 cut off", "a.parquet, row 1", "the Parquet file is damaged from here on"),
        ("a.txt.gz", gzip.compress(b"1\n" * 900, mtime=0)[:-9], "a.txt.gz, line", "is damaged or cut short from"),
        ("a.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "a.jsonl, line 2", "lacks the field 'text'; it has 'body'"),
        ("a.jsonl", b'{"text": 5}\n', "a.jsonl, line 1", "its 'text' is a int, a text is needed"),
        ("a.jsonl", b'{"text": " "}\n', "a.jsonl, line 1", "is an empty text"),
        ("a.jsonl", b'{"text": "a"}\n\n[1]\n', "a.jsonl, line 3", "not a JSON object"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl, line 1", "not JSON"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, name: str, content: bytes, place: str, told: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    faults = [part for part in parts(tmp_path / name) if part.fault]
    assert faults[0].place.startswith(place)
    assert told in faults[0].fault


def test_columns_of_parquet_that_are_no_text(tmp_path: Path) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.table({"n": [1], "text": [None]}), tmp_path / "a.parquet")
    assert "its 'text' is null" in parts(tmp_path / "a.parquet")[0].fault
    assert "its 'n' is a int" in parts(tmp_path / "a.parquet", field="n")[0].fault
    assert "lacks the column 'x'; it has 'n', 'text'" in parts(tmp_path / "a.parquet", field="x")[0].fault


def test_names_say_what_is_held_out_where_there_are_several(tmp_path: Path) -> None:
    for name in ("books_train.txt", "books_valid.txt", "a/test/x.txt", "invalid.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\n")
    held_out = {file.name for file in list_texts(str(tmp_path)).files if file.is_held_out}
    assert held_out == {"a/test/x.txt", "books_valid.txt"}
    alone = list_texts(str(tmp_path / "books_valid.txt"))
    assert not alone.says_what_is_held_out
    before = list_texts(str(tmp_path)).fingerprint
    (tmp_path / "invalid.txt").write_text("another text\n")
    assert list_texts(str(tmp_path)).fingerprint != before


def test_places_without_text(tmp_path: Path) -> None:
    assert list_texts(str(tmp_path / "absent.txt")).files == []
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"names no file of text .*has a\.wav"):
        list_texts(str(tmp_path))
    with pytest.raises(UserError, match=r"names no file of text: .*has a\.wav"):
        list_texts(f"{tmp_path}/*.txt")
