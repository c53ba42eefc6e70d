"""Tars: corpora of samples, and the shards of prepared data."""

from __future__ import annotations

import contextlib
import json

import pytest
from damage import BYTE_EDITS, TAR_EDITS, Damage, Pristine, damages, edits
from fuzzing import fuzzed, told
from hypothesis import given
from hypothesis import strategies as st
from layout_files import audio_bytes, write_tar
from small_shards import same, seal, tar_path, utterance, write_data

from lst.data.audio import read_row_audio
from lst.data.checks import check_corpus, check_prepared
from lst.data.corpora.load import load_corpus
from lst.data.corpora.row_checks import check_rows
from lst.data.shards import ShardReader, load_index, write_index


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    members = {
        "a.flac": audio_bytes("flac"),
        "a.txt": b"hello there",
        "b/b.wav": audio_bytes("wav", 0.5, 1),
        "b/b.json": json.dumps({"text": "good day", "speaker": "ann", "duration": 0.5, "split": "dev"}).encode(),
    }
    return Pristine(write_tar(tmp_path_factory.mktemp("fuzz") / "corpus" / "train.tar", members).parent)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    folder = tmp_path_factory.mktemp("fuzz") / "data"
    write_data(folder)
    # As prepared data has it: without its own check, an index may leave out shards.
    write_index(folder, load_index(folder))
    return Pristine(folder)


@fuzzed
@given(data=st.data())
def test_corpora(corpus: Pristine, data: st.DataObject) -> None:
    damage = data.draw(damages(corpus.names, corpus.contents))
    path = corpus.folder / data.draw(st.sampled_from(["", "train.tar"]))
    decode = data.draw(st.booleans())
    try:
        damage.do(corpus.folder)
        assert not told(lambda: check_corpus(path, "auto", 0.1, 60, decode, 5), corpus.folder), "check lists all"

        def read() -> None:
            rows, problems, _ = load_corpus(path)
            for row in check_rows(rows, 0.1, 60, problems)[0]:
                read_row_audio(row)

        told(read, corpus.folder)
    finally:
        corpus.restore()


@fuzzed
@given(data=st.data())
def test_shards(shards: Pristine, data: st.DataObject) -> None:
    """A sealed shard has right hashes: then its samples' contents must tell, or be samples."""
    is_sealed = data.draw(st.booleans())
    if is_sealed:
        change = data.draw(st.lists(edits((*TAR_EDITS, *BYTE_EDITS)), min_size=1, max_size=2))
    else:
        damage = data.draw(damages(shards.names, shards.contents))
    try:
        if is_sealed:
            path = tar_path(shards.folder, 0)
            content = path.read_bytes()
            for edit in change:
                content = edit.apply(content)
            path.write_bytes(content)
            with contextlib.suppress(Exception):
                seal(shards.folder, 0)
        else:
            damage.do(shards.folder)
        read: list[object] = []
        error = told(lambda: read.extend(ShardReader(shards.folder, "train")), shards.folder)
        reports: list[object] = []
        check_error = told(lambda: reports.append(check_prepared(shards.folder, True, 5)), shards.folder)
        if not is_sealed and not error:
            assert len(read) == 8
            assert all(same(one, utterance(index)) for index, one in enumerate(read))
        assert not check_error, "check lists all"
    finally:
        shards.restore()


@pytest.mark.parametrize("place", ["folder", "loop"])
def test_a_receipt_that_is_no_file_is_listed(shards: Pristine, place: str) -> None:
    try:
        Damage("shards/train-000000.json", place=place).do(shards.folder)
        report = check_prepared(shards.folder, True, 5)
        assert "train-000000.json" in report.as_text()
    finally:
        shards.restore()


def test_a_link_that_leads_to_itself_is_listed(corpus: Pristine) -> None:
    try:
        Damage("train.tar", place="loop").do(corpus.folder)
        assert "train.tar" in check_corpus(corpus.folder, "auto", 0.1, 60, False, 5).as_text()
    finally:
        corpus.restore()
