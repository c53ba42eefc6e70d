"""``.on_the_fly`` files: read as a corpus, written from one, and every fault of a line told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lst.cli import main
from lst.data.config import InterleaveConfig
from lst.data.corpora.on_the_fly import (
    check_on_the_fly,
    format_line,
    on_the_fly_files,
    parse_line,
    read_row,
    write_on_the_fly,
)
from lst.data.documents.interleave import DocumentBuilder
from lst.data.prepare.prepare import prepare
from lst.data.prepared import PreparedData
from lst.data.shards import ShardReader
from lst.data.utterance import Utterance, Word
from lst.errors import ProblemsError, UserError
from lst.model.batch import SPEECH
from lst.model.config import PatchingConfig
from lst.model.patching import patch_documents
from tests.data.conftest import hashes, left_out, options

SEP = "<LST MODE SEP>"
EXAMPLE = (
    f"{SEP}TEXT [SIL]{SEP}HUBERT 12 7{SEP}TEXT Hello,{SEP}HUBERT 500 7 7{SEP}TEXT a{SEP}TEXT wide – "
    f"{SEP}HUBERT {SEP}TEXT world{SEP}HUBERT 0{SEP}TEXT [SIL]{SEP}HUBERT 9 9"
)


def line(file_id: Any = "utt_1", interleaved: Any = EXAMPLE, **more: Any) -> bytes:
    return json.dumps({"file_id": file_id, "interleaved": interleaved, **more}).encode()


def equal(left: Utterance, right: Utterance) -> bool:
    """But for what the format does not hold."""
    return (
        left.id == right.id
        and np.array_equal(left.units, right.units)
        and [word[:3] for word in left.words] == [word[:3] for word in right.words]
    )


def test_the_format_is_read_as_it_stands() -> None:
    found = parse_line(line("dir/a.b-1.flac", extra=1), 25)
    assert found.id == "dir_a_b-1_flac"
    assert (found.text, found.duration_s) == ("Hello, a wide – world", 0.32)
    assert found.units.tolist() == [12, 7, 500, 7, 7, 0, 9, 9]
    assert found.units.dtype == np.uint16
    assert [word[:3] for word in found.words] == [("Hello,", 2, 5), ("a", 5, 5), ("wide –", 5, 5), ("world", 5, 6)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "Expecting"),
        (b"[]", "is not an object with the texts file_id and interleaved"),
        (line(file_id=None), "is not an object with"),
        (line(file_id=""), "file_id is empty"),
        (line(interleaved="hello"), "begins with 'hello', not with <LST MODE SEP>"),
        (line(interleaved=f"{SEP}HUBERT 1"), "does not follow the word"),
        (line(interleaved=f"{SEP}TEXT a{SEP}HUBERT 1{SEP}HUBERT 2"), "does not follow the word"),
        (line(interleaved=f"{SEP}TEXT {SEP}HUBERT 1"), "holds no word"),
        (line(interleaved=f"{SEP}MIMI 4"), "opens with 'MIMI'; allowed are TEXT, HUBERT"),
        (
            line(interleaved=f"{SEP}TEXT a{SEP}HUBERT 1 x"),
            "'x' is not a unit: a unit is a whole number from 0 to 65535",
        ),
        (line(interleaved=f"{SEP}TEXT a{SEP}HUBERT 65536"), "'65536' is not a unit"),
        (line(interleaved=f"{SEP}TEXT a{SEP}HUBERT -1"), "'-1' is not a unit"),
        (b'{"file_id": "a", "interleaved": "\\ud800"}', "surrogates not allowed"),
    ],
)
def test_faulty_lines_say_what_is_wrong(content: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_line(content, 25)


texts = st.text("abcé–,.", min_size=1, max_size=5)


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    words, position = [], 0
    for pause, size in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=8)):
        words.append(Word(draw(texts), position + pause, position + pause + size, 0.0))
        position += pause + size
    num_frames = position + draw(st.integers(0, 2))
    units = draw(st.lists(st.integers(0, 65_535), min_size=num_frames, max_size=num_frames))
    return Utterance(
        "utt", "", " ".join(w.text for w in words), num_frames / 25, np.array(units, np.uint16), tuple(words)
    )


@given(utterances())
def test_what_is_written_is_read_back(utterance: Utterance) -> None:
    assert equal(parse_line(format_line(utterance), 25), utterance)


@pytest.mark.parametrize("word", ["[SIL]", f"a{SEP}b", "", " a"])
def test_words_that_the_format_cannot_hold_are_refused(word: str) -> None:
    with pytest.raises(UserError, match=r"utterance 'u': the word .* cannot be written"):
        format_line(Utterance("u", "", word, 0.04, np.zeros(1, np.uint16), (Word(word, 0, 1, 0.0),)))


def test_all_problems_of_all_files_are_told(tmp_path: Path) -> None:
    good = f"{SEP}TEXT a{SEP}HUBERT {' '.join(['3'] * 10)}"
    first = [line("a", good), b"", b"{", line("b", f"{SEP}TEXT b"), line("c", f"{SEP}TEXT c{SEP}HUBERT 1")]
    second = [line("a", good), line("d", good.replace("3", "30")), line("e", f"{SEP}TEXT [SIL]{SEP}HUBERT 1 1 1 1 1")]
    (tmp_path / "one.on_the_fly").write_bytes(b"\n".join(first) + b"\n")
    (tmp_path / "two.on_the_fly").write_bytes(b"\r\n".join(second))
    files = on_the_fly_files(str(tmp_path))
    assert [Path(file).name for file in files] == ["one.on_the_fly", "two.on_the_fly"]
    rows, problems, num_lines = check_on_the_fly(files, 25, 0.2, 60.0, 20)
    assert [row.id for row in rows] == ["a"]
    assert num_lines == 7
    assert [(problem.place, str(problem).partition(": ")[2][:38]) for problem in problems] == [
        ("one.on_the_fly, line 3", "Expecting property name enclosed in do"),
        ("one.on_the_fly, line 4", "holds no unit"),
        ("one.on_the_fly, line 5", "is too short: 0.04 s, allowed are 0.2 "),
        ("two.on_the_fly, line 1", "the id is also at one.on_the_fly, line"),
        ("two.on_the_fly, line 2", "unit 30 is outside the codebook of dat"),
        ("two.on_the_fly, line 3", "holds no word"),
    ]
    assert read_row(rows[0], 25).units.tolist() == [3] * 10
    (tmp_path / "one.on_the_fly").write_bytes(line("b", good))
    with pytest.raises(UserError, match=r"one\.on_the_fly, byte 0: utterance 'a' is no longer there"):
        read_row(rows[0], 25)


@pytest.fixture(scope="module")
def spoken() -> list[Utterance]:
    generator = np.random.default_rng(3)
    made = []
    for number in range(12):
        words, position = [], 2
        for word in range(int(generator.integers(12, 20))):
            size = int(generator.integers(0, 6))
            words.append(Word(f"word{word % 7}", position, position + size, 0.0))
            position += size + int(generator.integers(0, 3))
        units = generator.integers(0, 31, position + 3).astype(np.uint16)
        made.append(Utterance(f"utt-{number}", "", " ".join(w.text for w in words), 0.0, units, tuple(words)))
    return made


def test_units_go_through_prepare_and_export_and_come_back(
    spoken: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    write_on_the_fly(corpus / "train.on_the_fly", spoken[:9])
    write_on_the_fly(corpus / "dev-clean.on_the_fly", spoken[9:])
    (tmp_path / "texts.txt").write_text(f"A text of its own.\n{spoken[10].text}\n")
    words = [
        f"run_dir={tmp_path / 'run'}",
        f"corpus={corpus}",
        f"text={tmp_path / 'texts.txt'}",
        "num_workers=1",
        "data.shard_utterances=4",
        "tokenizer.text_vocab_size=300",
    ]
    assert main(["prepare", *words]) == 0
    data = PreparedData(tmp_path / "run/data")
    assert data.vocabulary.num_units == 1 + max(int(item.units.max()) for item in spoken)
    assert all(equal(found, item) for found, item in zip(data.train, spoken[:9], strict=True))
    assert all(
        equal(found, item) for found, item in zip(data.valid, sorted(spoken[9:], key=lambda item: item.id), strict=True)
    )
    assert [item.text for item in data.text] == ["A text of its own."]
    assert len(left_out(tmp_path / "run/data")) == 1
    assert data.index["aligner"] == "as in the .on_the_fly files"
    with pytest.raises(UserError, match="the model that made them is not known: audio cannot be encoded"):
        data.codec.encode(np.zeros(100, np.float32))
    assert main(["export", f"run_dir={tmp_path / 'run'}", f"export.folder={tmp_path / 'out'}"]) == 0
    told = capsys.readouterr()
    assert "train.on_the_fly: 9 utterances" in told.out
    assert "1 written texts are left out" in told.err
    # Utterances lie in the order of their ids.
    for name, own in (("train", "train"), ("valid", "dev-clean")):
        lines = (corpus / f"{own}.on_the_fly").read_bytes().splitlines()
        assert (tmp_path / f"out/{name}.on_the_fly").read_bytes().splitlines() == sorted(lines)


def test_one_file_is_split_by_the_seed_and_made_alike_by_any_number_of_workers(
    spoken: list[Utterance], tmp_path: Path
) -> None:
    file = tmp_path / "all.on_the_fly"
    write_on_the_fly(file, spoken)
    for name, num_workers in (("one", 1), ("two", 2)):
        prepare(tmp_path / name, options(file, num_workers=num_workers, on_the_fly_units=501))
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    readers = {split: list(ShardReader(tmp_path / "one", split)) for split in ("train", "valid")}
    assert sorted(item.id for group in readers.values() for item in group) == sorted(item.id for item in spoken)
    assert 1 <= len(readers["valid"]) <= 6
    assert PreparedData(tmp_path / "one").vocabulary.num_units == 501
    with pytest.raises(ProblemsError, match=r"outside the codebook of data\.on_the_fly_units=30"):
        prepare(tmp_path / "three", options(file, on_the_fly_units=30))


def test_words_without_units_make_documents_and_aligned_patches(spoken: list[Utterance], tmp_path: Path) -> None:
    file = tmp_path / "all.on_the_fly"
    write_on_the_fly(file, spoken)
    prepare(tmp_path / "data", options(file))
    data = PreparedData(tmp_path / "data")
    assert any(word.start_frame == word.end_frame for item in data.train for word in item.words)
    builder = DocumentBuilder(data.tokenizer, data.vocabulary, InterleaveConfig(), 0, "word")
    documents = [builder.interleaved(item, epoch) for item in data.train for epoch in range(20)]
    documents += [builder.speech(item) for item in data.train]
    for document in documents:
        assert document.segment_lengths.sum() == (document.modalities == SPEECH).sum()
    for silence in ("separate", "merged"):
        cuts = patch_documents(documents, "aligned", PatchingConfig(strategy="aligned", silence=silence))
        for document, cut in zip(documents, cuts, strict=True):
            assert cut.lengths.sum() == len(document)
            assert cut.lengths.min() > 0


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.on_the_fly does not exist"):
        on_the_fly_files(str(tmp_path / "absent.on_the_fly"))


def test_a_folder_of_units_and_recordings_is_no_guess(tmp_path: Path) -> None:
    (tmp_path / "train.on_the_fly").touch()
    (tmp_path / "manifest.tsv").touch()
    with pytest.raises(UserError, match=r"1 \.on_the_fly files beside audio or lists \(manifest\.tsv\): name one"):
        on_the_fly_files(str(tmp_path))
    assert on_the_fly_files(str(tmp_path / "train.on_the_fly")) == [tmp_path / "train.on_the_fly"]
