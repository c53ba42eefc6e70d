"""A thousand malformed manifests: each line is a row or a problem with its place, or the file's error names it.

Half are files of every format with bytes flipped, cut, joined and recoded; half are records whose cells hold anything
that JSON can hold. No exception but ``UserError`` may come out, of the parsing or of the checks behind it.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import math
import random
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lst.data.corpora.load import load_corpus
from lst.data.corpora.manifest import parse_record, row_record
from lst.data.corpora.records import encoding_of
from lst.data.corpora.row_checks import check_rows
from lst.data.corpora.rows import ManifestProblem, ManifestRow
from lst.errors import UserError

NUM_EXAMPLES = 1_000
QUIET = settings(
    max_examples=NUM_EXAMPLES // 2,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
Record = dict[str, Any]


def plain(number: int) -> Record:
    return {
        "id": f"u{number}",
        "path": "a.wav",
        "text": f"words of {number}",
        "speaker": "ann",
        "duration_s": 0.5,
        "start_s": 0.25 * number,
        "channel": 0,
        "split": "train",
        "words": [["words", 0.0, 0.2, -1.0]],
    }


def nemo(number: int) -> Record:
    return {"audio_filepath": "a.wav", "offset": 0.1 * number, "duration": 0.5, "text": "words", "speaker": number}


def nemo_tarred(number: int) -> Record:
    return {"audio_filepath": "a-sub1.wav", "duration": 1.0, "text": f"words of {number}", "shard_id": 0}


def lhotse(number: int) -> Record:
    recording = {
        "id": "r",
        "sampling_rate": 16_000,
        "num_samples": 16_000,
        "duration": 1.0,
        "channel_ids": [0],
        "transforms": [],
        "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
    }
    supervision = {
        "id": f"s{number}",
        "start": 0.0,
        "duration": 0.5,
        "channel": 0,
        "text": "words",
        "speaker": "ann",
        "alignment": {"word": [["words", 0.1, 0.2, None]]},
    }
    return {
        "id": f"c{number}",
        "start": 0.1 * number,
        "duration": 0.5,
        "channel": 0,
        "type": "MonoCut",
        "supervisions": [supervision, {**supervision, "id": f"t{number}"}],
        "recording": recording,
    }


def peoples_speech(number: int) -> Record:
    data = {"duration_ms": [1000, 1000], "label": ["words", "more"], "name": ["a.wav", f"b{number}.wav"]}
    return {
        "audio_document_id": f"d{number}",
        "identifier": f"i{number}",
        "text_document_id": "t",
        "training_data": data,
    }


MAKERS: dict[str, Callable[[int], Record]] = {
    "manifest.jsonl": plain,
    "nemo.json": nemo,
    "tarred.json": nemo_tarred,
    "cuts.jsonl": lhotse,
    "cuts.jsonl.gz": lhotse,
    "clean.json": peoples_speech,
}
TABLES = {
    "manifest.tsv": "id\tpath\ttext\tduration\toffset\nu1\ta.wav\tone\t0.5\t0\n"
    'u2\ta.wav\ttwo\t1\t\n\nu3\ta.wav\t"three\t\t\n',
    "manifest.csv": 'id,path,text,channel\nu1,a.wav,"one, two",0\nu2,a.wav,"say ""no""",\nu3,b.wav,three,1\n',
    "metadata.csv": "u1|one|one\nu2|two\nu3|three|3|x\n",
    "cv/train.tsv": "client_id\tpath\tsentence\tage\nc1\ta.mp3\tone\t\nc2\tb\ttwo\t\nc3\t\tthree\t\n",
    "mls/train/transcripts.txt": "1_2_3\tone two\n1_2_4\tthree\n1_2_5\tfour\n",
    "mls/train/segments.txt": "1_2_3\thttp://x\t1.0\t2.0\n1_2_4\thttp://x\t5\t6\n",
}
WHOLE_FOLDER = {"cv/train.tsv": "cv", "mls/train/transcripts.txt": "mls", "mls/train/segments.txt": "mls"}


def lines_of(records: list[Any]) -> bytes:
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Audio for each format, of one second; the manifests are written beside it by every example."""
    root = tmp_path_factory.mktemp("malformed")
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    for name in ("a.wav", "wavs/u1.wav", "wavs/u2.wav", "cv/clips/a.mp3", "mls/train/audio/1/2/1_2_3.flac"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, sound, 16_000)
    with tarfile.open(root / "audio_0.tar", "w") as tar:
        tar.add(root / "a.wav", "a.wav")
    (root / "mls" / "train" / "transcripts.txt").write_text(TABLES["mls/train/transcripts.txt"])
    return root


def read(folder: Path, name: str, content: bytes) -> tuple[list[ManifestRow], list[ManifestProblem]] | UserError:
    """What reading and checking gives; everything that comes out is looked at."""
    path = folder / name
    path.write_bytes(content)
    try:
        rows, problems, _ = load_corpus(folder / WHOLE_FOLDER[name] if name in WHOLE_FOLDER else path)
    except UserError as error:
        return error
    finally:
        if name.startswith("mls"):
            (folder / "mls" / "train" / "segments.txt").unlink(missing_ok=True)
            (folder / name).write_text(TABLES["mls/train/transcripts.txt"]) if name.endswith("scripts.txt") else None
    good, faults = check_rows(rows, 0.05, 60.0, problems)
    for problem in [*problems, *faults]:
        assert problem.place
        assert problem.message
        str(problem).encode()  # can be written to a log
    told = {(item.place, item.id) for item in [*good, *faults]}
    assert all((row.place, row.id) in told for row in rows)
    for row in good:
        assert row.duration_s is not None
        assert math.isfinite(row.duration_s)
        assert parse_record(json.loads(json.dumps(row_record(row))), "", folder) == (row, [])
    return rows, problems


def line_number(place: str) -> int | None:
    found = re.search(r"line (\d+)", place)
    return int(found.group(1)) if found else None


def assert_every_line_is_told(name: str, content: bytes, outcome: Any) -> None:
    """Each line of JSON that is not blank gave a row or a problem with its number, or the error says what is wrong."""
    if isinstance(outcome, UserError):
        assert name in str(outcome) or "no utterance" in str(outcome)
        return
    rows, problems = outcome
    told = {line_number(item.place) for item in [*rows, *problems]}
    # Behind damage of a gzip file nothing can be told: that is what its problem says.
    unpacked = [line_number(problem.place) for problem in problems if "gzip" in problem.message]
    # UTF-16 is read as such; what is no character there becomes a byte that is told.
    encoding = encoding_of(io.BytesIO(content))
    lines = content.split(b"\n")
    if encoding != "utf-8-sig":
        lines = [line.encode() for line in content.decode(encoding, "replace").split("\n")]
    for number, line in enumerate(lines[: unpacked[0] if unpacked else len(lines)], 1):
        # A byte-order mark is no sign of the first line.
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        holds_nothing = b'"training_data": []' in line or b'"label": [], "name": []' in line
        assert not line.strip() or holds_nothing or number in told, (number, line, told)


def damaged(content: bytes, seed: int) -> bytes:
    """A few random faults of the kinds that files suffer."""
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(max(1, len(content)))
        kind = draw.randrange(9)
        if kind == 0 and content:
            content = content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]
        elif kind == 1:
            content = content[:place]
        elif kind == 2:
            content = content[:place] + draw.randbytes(draw.randint(1, 6)) + content[place:]
        elif kind == 3:
            content = content[:place] + content[place + draw.randint(1, 30) :]
        elif kind == 4:
            content = content + content[place:]
        elif kind == 5:
            junk = (
                b"NaN",
                b"-1e999",
                b"1" * 5000,
                b"[" * 3000,
                b"\\ud800",
                b"null",
                b'"',
                b"\t\t",
                b"\0",
                b",,",
                b"true",
            )
            content = content[:place] + draw.choice(junk) + content[place:]
        elif kind == 6:
            content = content.replace(b"\n", draw.choice([b"\r\n", b"\r", b"\n\n", b" \n", b""]))
        elif kind == 7:
            encoding = draw.choice(["utf-16", "utf-8-sig", "cp1252"])
            content = content.decode("latin-1").encode(encoding, "replace")
        else:
            content = draw.choice([b"", b"\n", b"\xef\xbb\xbf", b"\x1f\x8b", b"caf\xe9\n"]) + content
    return content


@QUIET
@given(name=st.sampled_from([*MAKERS, *TABLES]), seed=st.integers(0, 2**32))
def test_damaged_files(folder: Path, name: str, seed: int) -> None:
    if name in TABLES:
        read(folder, name, damaged(TABLES[name].encode(), seed))
        return
    content = lines_of([MAKERS[name](number) for number in range(4)])
    if name.endswith(".gz"):
        read(folder, name, damaged(gzip.compress(content, mtime=0), seed))
        return
    content = damaged(content, seed)
    assert_every_line_is_told(name, content, read(folder, name, content))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            "",
            " ",
            "\0",
            "\ud800",
            "../" * 20,
            "x" * 5_000,
            "nan",
            "-1",
            "1e999",
            "a.wav",
            "memory://b/a.wav",
            -1,
            -0.5,
            1e308,
            math.nan,
            math.inf,
            "train",
            "é",
            "/",
            ".",
            [],
            {},
            [[]],
            [{}],
            [None],
            {"a": {}},
        ]
    ),
    st.lists(st.one_of(st.none(), st.floats(), st.text(max_size=3), st.integers()), max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def places_in(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a record."""
    found = [prefix] if prefix else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places_in(item, (*prefix, key))
    return found


@QUIET
@given(name=st.sampled_from(list(MAKERS)), data=st.data())
def test_records_of_anything(folder: Path, name: str, data: st.DataObject) -> None:
    records: list[Any] = [MAKERS[name](number) for number in range(3)]
    for _ in range(data.draw(st.integers(1, 3))):
        record = records[data.draw(st.integers(0, 2))]
        way = data.draw(st.sampled_from(places_in(record) or [()]))
        if not way:
            continue
        for key in way[:-1]:
            record = record[key]
        if isinstance(record, dict) and data.draw(st.booleans()):
            del record[way[-1]]
        else:
            record[way[-1]] = data.draw(JUNK)
    records.insert(data.draw(st.integers(0, 3)), data.draw(JUNK))
    content = lines_of(records)
    if name.endswith(".gz"):
        read(folder, name, gzip.compress(content, mtime=0))
        return
    assert_every_line_is_told(name, content, read(folder, name, content))


def test_damaged_tars(folder: Path) -> None:
    sound = (folder / "a.wav").read_bytes()[:4_000]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(3):
            members = {f"u{number}.wav": sound, f"u{number}.txt": b"words", f"u{number}.json": b'{"speaker": "ann"}'}
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    for seed in range(60):
        read(folder, "samples.tar", damaged(buffer.getvalue(), seed))
