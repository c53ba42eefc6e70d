"""Corpora that may come from anywhere: what is no file, what unpacks to far more, and headers that lie."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import socket
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fuzzing import told

from lst import storage
from lst.data.audio import probe_audio, read_audio, read_row_audio
from lst.data.audio.levels import measured_faults
from lst.data.audio.places import AudioRef
from lst.data.audio.read import read_own_samples
from lst.data.corpora.load import load_corpus
from lst.data.corpora.records import MAX_LINE_BYTES, decoded_lines, read_utf8, table_cells
from lst.data.corpora.row_checks import check_rows
from lst.errors import UserError
from lst.storage import access
from tests.helpers.layout_files import audio_bytes, write, write_audio, write_tar

MIB = 1 << 20


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    # The path of a socket is at most 107 bytes long.
    here = os.getcwd()
    os.chdir(path.parent)
    server.bind(path.name)
    os.chdir(here)
    server.close()


SPECIAL: dict[str, Callable[[Path], None]] = {
    "is a FIFO": make_fifo,
    "is a socket": make_socket,
    "is a device": lambda path: path.symlink_to("/dev/zero"),
    "Is a directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "x.jsonl"
    SPECIAL[kind](place)
    for read in (storage.open_binary, storage.read_bytes, lambda path: storage.read_range(path, 0, 9), storage.sha256):
        with pytest.raises(OSError, match=kind) as raised:
            read(place)
        assert not isinstance(raised.value, UserError)
    for read in (read_utf8, lambda path: list(table_cells(path)), lambda path: list(decoded_lines(path))):
        with pytest.raises(UserError, match=f"x.jsonl cannot be read: {kind}"):
            read(place)
    with pytest.raises(UserError, match=f"cannot be read: .*{kind}"):
        storage.read_json(place, dict[str, int], "the thing", "Do so.")
    for read in (probe_audio, read_audio, lambda path: probe_audio(path, "a.wav")):
        with pytest.raises(UserError, match="not a file"):
            read(place)
    if kind != "Is a directory":
        with pytest.raises(UserError, match=kind):
            load_corpus(place)
        tar = place.rename(tmp_path / "x.tar")
        assert any(kind in str(problem) for problem in load_corpus(tar)[1])


def test_lists_and_audio_that_are_no_files_are_listed(tmp_path: Path) -> None:
    write_audio(tmp_path / "clips" / "a.mp3")
    write_audio(tmp_path / "clips" / "real.mp3")
    header = "client_id\tpath\tsentence\n"
    write(tmp_path / "train.tsv", f"{header}ann\ta.mp3\thello there\nann\tb.mp3\tgood day\nann\tc.mp3\tgood night\n")
    (tmp_path / "dev.tsv").symlink_to(tmp_path / "nowhere.tsv")
    os.mkfifo(tmp_path / "test.tsv")
    os.mkfifo(tmp_path / "clips" / "b.mp3")
    (tmp_path / "clips" / "c.mp3").symlink_to("real.mp3")
    rows, problems, layout = load_corpus(tmp_path)
    good, faults = check_rows(rows, 0.1, 10, problems)
    # A link to a regular file is read.
    assert (layout, [row.id for row in good]) == ("common_voice", ["a", "c"])
    assert [problem.place for problem in problems] == ["dev.tsv", "test.tsv"]
    assert all("no regular file" in problem.message for problem in problems)
    assert "b.mp3 does not exist or is not a file" in str(faults[0])


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that Python and numpy hold at a time while it works."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bytes])
def test_a_line_without_end_ends_the_reading(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(pack(b'{"path": "a.wav", "text": "hello"}\n'))
    with open(path, "ab") as file:
        file.write(pack(bytes(40 * MIB)))
    read: list[tuple[int, str, str]] = []
    peak = peak_bytes(lambda: read.extend(decoded_lines(path)))
    assert [(number, bool(fault)) for number, _, fault in read] == [(1, False), (2, True)]
    assert f"longer than {MAX_LINE_BYTES:,} bytes" in read[1][2]
    assert peak < 4 * MAX_LINE_BYTES


def test_a_packed_file_of_empty_lines_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * 2 * MIB))
    ((number, _, fault),) = decoded_lines(path)
    assert number < 2 * MIB
    assert "more than 200 times as many is no list" in fault


def test_tables_and_transcripts_have_a_size_and_the_option_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.tsv", "a.csv", "a.txt"):
        with open(tmp_path / name, "wb") as file:
            file.write(b"path\ttext\n" if name == "a.tsv" else b"path,text\n")
            file.truncate(5 << 30)
    for name in ("a.tsv", "a.csv"):
        with pytest.raises(UserError, match=r"line 2 is longer than 16,777,216|cannot be split into cells"):
            list(table_cells(tmp_path / name))
    monkeypatch.setenv(access.SIZE_VARIABLE, str(MIB))
    with pytest.raises(UserError, match=r"a\.txt has 1,048,577 bytes or more, at most storage.max_file_bytes=1048576"):
        read_utf8(tmp_path / "a.txt")


# ---- audio -----------------------------------------------------------------------------------------------------------


def test_hours_of_silence_in_a_few_bytes_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((40 * MIB // 8, 8), np.int16), 16_000)
    assert path.stat().st_size < MIB
    monkeypatch.setenv(access.SIZE_VARIABLE, str(16 * MIB))
    with pytest.raises(
        UserError, match=r"decodes to 20,971,520 bytes or more, at most storage.max_file_bytes=16777216"
    ):
        read_audio(path)
    # Within the limit, no more than the mean of the channels and a block of all of them are held.
    part = AudioRef(path, start_s=1, duration_s=200, is_segment=True)
    samples = read_row_audio(part)
    assert samples.shape == (200 * 16_000,)
    assert peak_bytes(lambda: read_row_audio(part)) < 2 * samples.nbytes + 4 * MIB


def test_a_header_that_names_billions_of_samples_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    content = bytearray(audio_bytes("flac"))
    content[21] |= 2  # of STREAMINFO: the number of samples grows by 2 ** 33
    path.write_bytes(content)
    row = AudioRef(path)
    for read in (read_own_samples, read_row_audio, measured_faults):
        with pytest.raises(UserError, match=r"a\.flac decodes to 34,3\d\d,\d{3},\d{3} bytes or more, at most"):
            read(row)


def wav_header(num_bytes: int, rate_hz: int = 16_000, channels: int = 1) -> bytes:
    layout = struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, min(2**32 - 1, rate_hz * 2 * channels), 2 * channels, 16)
    sizes = [struct.pack("<I", size) for size in (min(num_bytes + 36, 2**32 - 1), min(num_bytes, 2**32 - 1))]
    return b"RIFF" + sizes[0] + b"WAVEfmt " + layout + b"data" + sizes[1]


@pytest.mark.parametrize("num_bytes", [2**20, 2**31 + 4, 2**32 - 1])
def test_a_wav_that_asks_for_more_than_it_holds(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_header(num_bytes) + bytes(4000))

    # A number that writers to a pipe leave open is told from the file; any other one is an error.
    if num_bytes >= 2**31:
        assert len(read_audio(path)) == 2000
        assert peak_bytes(lambda: read_audio(path)) < MIB
    else:
        with pytest.raises(UserError, match="cut short"):
            read_audio(path)


def test_rates_that_no_recorder_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_header(1 << 33, rate_hz=1_600_000_000))
    os.truncate(path, 1 << 33)
    with pytest.raises(UserError, match=r"1600000000 Hz, allowed are up to 1000000|at most storage.max_file_bytes"):
        read_row_audio(AudioRef(path, start_s=0, duration_s=0.01, is_segment=True))


def test_an_mp3_is_counted_block_by_block(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    write_audio(path)
    whole = probe_audio(path)
    with open(path, "ab") as file:
        file.truncate(path.stat().st_size + 40 * MIB)
    with pytest.raises(UserError, match="16,777,216 bytes in a row that are no audio"):
        probe_audio(path)
    with open(tmp_path / "b.mp3", "wb") as file:
        file.write(audio_bytes("MP3"))
        file.truncate(file.tell() + 2 * MIB)
    assert peak_bytes(lambda: probe_audio(tmp_path / "b.mp3")) < 3 * MIB + MIB // 2
    assert probe_audio(tmp_path / "b.mp3") == whole


# ---- tars ------------------------------------------------------------------------------------------------------------

SOUND = audio_bytes("FLAC")


def member(name: str, content: bytes = b"", **fields: object) -> bytes:
    """A header with any fields, and the content behind it."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    header = info.tobuf(tarfile.GNU_FORMAT if "pax_headers" not in fields else tarfile.PAX_FORMAT)
    return header + content + bytes(-len(content) % 512)


def load_tar(folder: Path, content: bytes) -> tuple[list[str], list[str]]:
    folder.mkdir(exist_ok=True)
    (folder / "a.tar").write_bytes(content + bytes(1024))
    rows, problems, _ = load_corpus(folder)
    good, faults = check_rows(rows, 0.1, 10, problems)
    with pytest.raises(UserError):  # the directory has read the same headers, and there is no such member
        probe_audio(folder / "a.tar", "no such member")
    return [row.id for row in good], [str(problem) for problem in [*problems, *faults]]


PAIR = member("u1.flac", SOUND) + member("u1.txt", b"one")
SPARSE = member("u2.flac", SOUND, type=tarfile.GNUTYPE_SPARSE)
HOSTILE = {
    "negative size": (member("u2.flac", SOUND, size=-512), "leads back in the file"),
    "negative size, back to the start": (member("u2.flac", size=-(len(PAIR) + 512)), "leads back in the file"),
    "size beyond the file": (member("u2.flac", SOUND, size=2**40), "damaged or cut short"),
    "negative size of an extended header": (
        member("u2.flac", SOUND, pax_headers={"size": "-1024"}),
        "leads back in the file",
    ),
    "size of an extended header beyond the file": (
        member("u2.flac", SOUND, pax_headers={"size": str(2**60)}),
        "damaged or cut short",
    ),
    "a name of gigabytes": (member("u2", type=tarfile.GNUTYPE_LONGNAME, size=2**33), "a header asks for"),
    "a name of a megabyte": (member("x" * 500_000 + ".flac", SOUND), "a name of 500,005 characters"),
    "headers upon headers": (
        b"".join(member("x", b"11 path=ab\n", type=tarfile.XHDTYPE) for _ in range(3000)) + member("u2.flac", SOUND),
        "damaged or cut short",
    ),
    "sparse": (SPARSE + member("u2.txt", b"two"), "flac is a sparse file"),
    "sparse in an extended header": (
        member(
            "u2.flac",
            SOUND,
            pax_headers={"GNU.sparse.map": "0,100", "GNU.sparse.size": "999999999999", "GNU.sparse.numblocks": "1"},
        ),
        "flac is a sparse file",
    ),
    "symbolic link": (
        member("u2.flac", type=tarfile.SYMTYPE, linkname="u1.flac") + member("u2.txt", b"two"),
        "flac is a symbolic link",
    ),
    "link as text": (
        member("u2.flac", SOUND) + member("u2.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "txt is a symbolic link",
    ),
    "hard link": (
        member("u2.flac", type=tarfile.LNKTYPE, linkname="u1.flac") + member("u2.txt", b"two"),
        "flac is a hard link",
    ),
    "FIFO": (member("u2.flac", type=tarfile.FIFOTYPE) + member("u2.txt", b"two"), "flac is a FIFO"),
    "device": (member("u2.flac", type=tarfile.CHRTYPE) + member("u2.txt", b"two"), "flac is a device"),
    "absolute": (member("/etc/u2.flac", SOUND) + member("/etc/u2.txt", b"two"), "leads out of the tar"),
    "above": (member("../u2.flac", SOUND) + member("../u2.txt", b"two"), "leads out of the tar"),
    "text twice": (
        member("u2.flac", SOUND) + member("u2.txt", b"two") + member("u2.txt", b"other"),
        "txt is there twice",
    ),
    "audio twice": (member("u2.flac", SOUND) * 2 + member("u2.txt", b"two"), "several audio members"),
    "no header": (b"not a header".ljust(512, b"x") + PAIR.replace(b"u1", b"u2"), "where no header is"),
    "joined tars": (bytes(1024) + PAIR.replace(b"u1", b"u2"), "where no header is"),
}


DAMAGED = {*list(HOSTILE)[:8], "no header", "joined tars"}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_tars_are_told_and_nothing_else_is_lost(tmp_path: Path, kind: str) -> None:
    content, reason = HOSTILE[kind]
    good, problems = load_tar(tmp_path, PAIR + content)
    # A tar with a header that lies is not read at all; otherwise the other samples are.
    assert good == ([] if kind in DAMAGED else ["u1"])
    assert any(reason in problem for problem in problems), problems
    assert not any("\n" in problem for problem in problems)


def test_a_member_that_is_there_twice_is_not_read(tmp_path: Path) -> None:
    other = audio_bytes("FLAC", seed=1)
    (tmp_path / "a.tar").write_bytes(member("a.flac", SOUND) + member("a.flac", other) + bytes(1024))
    with pytest.raises(UserError, match=r"member 'a\.flac' is there twice"):
        read_row_audio(AudioRef(tmp_path / "a.tar", member="a.flac"))


def test_a_tar_behind_a_url_is_told_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(access.PROTOCOLS_VARIABLE, "local")
    for kind in ("symbolic link", "negative size", "sparse", "headers upon headers"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "a.tar").write_bytes(PAIR + HOSTILE[kind][0] + bytes(1024))
        assert load_corpus(f"local://{tmp_path / kind}")[1]


def test_a_sound_tar_has_no_problem(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"d/u1.flac": SOUND, "d/u1.json": json.dumps({"text": "hi"}).encode()})
    assert load_corpus(tmp_path)[1] == []
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "a.tar").read_bytes())) as tar:
        assert len(tar.getmembers()) == 2


def test_an_xz_list_that_asks_for_gigabytes_is_named(tmp_path: Path) -> None:
    """Its header states a dictionary of 4 GiB, and its sum is right."""
    packed = bytearray(lzma.compress(b'{"path": "a.wav", "text": "hello"}\n'))
    packed[packed.index(b"\x21\x01") + 2] = 40
    end = 12 + (packed[12] + 1) * 4
    packed[end - 4 : end] = zlib.crc32(packed[12 : end - 4]).to_bytes(4, "little")
    path = tmp_path / "manifest.jsonl.xz"
    path.write_bytes(packed)
    found: list[str] = []
    assert not told(lambda: found.extend(fault for _, _, fault in decoded_lines(path)), path)
    assert len(found) == 1
    assert "cannot be unpacked" in found[0]
