"""The joint vocabulary: ranges of ids, files, and what is said when two of them differ."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lst.errors import ProblemsError, UserError
from lst.storage import fingerprint
from lst.tokenizers.vocabulary import SPECIALS, Vocabulary, check_same_vocabulary

VOCABULARY = Vocabulary(300, 100, "a" * 64, "b" * 64)
sizes = st.builds(Vocabulary, st.integers(1, 70_000), st.integers(1, 65_535), st.just("t"), st.just("u"))


@given(sizes)
def test_text_specials_and_units_tile_the_ids(vocabulary: Vocabulary) -> None:
    specials = [vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.text_id, vocabulary.speech_id]
    assert specials == list(range(vocabulary.num_text, vocabulary.num_text + len(SPECIALS)))
    assert vocabulary.first_unit_id == specials[-1] + 1
    assert vocabulary.size == vocabulary.first_unit_id + vocabulary.num_units


@given(sizes, st.data())
def test_units_and_ids_cross_over_and_back(vocabulary: Vocabulary, data: st.DataObject) -> None:
    units = np.array(data.draw(st.lists(st.integers(0, vocabulary.num_units - 1))), np.uint16)
    ids = vocabulary.unit_ids(units)
    assert ids.dtype == np.int32
    assert ids.tolist() == [vocabulary.num_text + len(SPECIALS) + unit for unit in units.tolist()]
    assert ids.max(initial=0) < vocabulary.size
    assert vocabulary.is_unit(ids).all()


def test_only_units_are_units() -> None:
    ids = np.arange(VOCABULARY.size)
    assert VOCABULARY.is_unit(ids).tolist() == [False] * 305 + [True] * 100


def test_pieces_take_the_place_of_units_and_name_what_they_are_made_of() -> None:
    pieces = VOCABULARY.of_pieces(250, "p")
    assert (pieces.num_units, pieces.size) == (250, 555)
    assert (pieces.num_text, pieces.text_sha256) == (VOCABULARY.num_text, VOCABULARY.text_sha256)
    others = [
        VOCABULARY,
        VOCABULARY.of_pieces(250, "q"),
        dataclasses.replace(VOCABULARY, units_sha256="c").of_pieces(250, "p"),
    ]
    assert pieces.units_sha256 not in {other.units_sha256 for other in others}
    assert pieces == VOCABULARY.of_pieces(250, "p")


@pytest.mark.parametrize("unit", [100, 101, 65_535])
def test_unit_outside_the_codebook_is_refused(unit: int) -> None:
    with pytest.raises(ValueError, match=rf"speech unit {unit} is outside the codebook of 100 units"):
        VOCABULARY.unit_ids(np.array([0, unit, 1], np.uint16))


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    VOCABULARY.save(path)
    assert Vocabulary.load(path) == VOCABULARY
    assert Vocabulary.load(path).fingerprint == VOCABULARY.fingerprint
    assert json.loads(path.read_text())["specials"] == list(SPECIALS)


def test_files_of_version_1_are_read_and_keep_their_fingerprint(tmp_path: Path) -> None:
    """The dictionary that version 1 wrote and hashed, and the fingerprint that its shards recorded."""
    first = {
        "version": 1,
        "specials": list(SPECIALS),
        "num_text": 300,
        "num_units": 100,
        "text_sha256": "a" * 64,
        "units_sha256": "b" * 64,
        "frame_rate_hz": 25,
    }
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(first))
    loaded = Vocabulary.load(path)
    assert loaded == VOCABULARY
    assert loaded.fingerprint == fingerprint(first) == VOCABULARY.fingerprint
    assert (loaded.unit_kind, loaded.units_a_frame, loaded.deduplicated) == ("mfcc", 1, False)
    named = dataclasses.replace(VOCABULARY, unit_name="mfcc-kmeans-100-25hz")
    check_same_vocabulary(named, loaded, "the data", "the model")
    named.save(path)
    assert json.loads(path.read_text())["version"] == 2
    assert Vocabulary.load(path).unit_name == "mfcc-kmeans-100-25hz"


def test_fingerprint_differs_where_ids_would_mean_other_things() -> None:
    changes = [
        {"num_text": 301},
        {"num_units": 101},
        {"text_sha256": "c" * 64},
        {"units_sha256": "c" * 64},
        {"frame_rate_hz": 50},
        {"num_text": 100, "num_units": 300},
        {"unit_kind": "hubert"},
        {"units_a_frame": 2},
        {"deduplicated": True},
    ]
    others = [dataclasses.replace(VOCABULARY, **change) for change in changes]
    assert len({VOCABULARY.fingerprint, *(other.fingerprint for other in others)}) == 10
    assert dataclasses.replace(VOCABULARY).fingerprint == VOCABULARY.fingerprint


@pytest.mark.parametrize(
    "change",
    [{"version": 3}, {"version": None}, {"specials": [*SPECIALS, "<sil>"]}, {"specials": list(SPECIALS[::-1])}],
)
def test_another_version_or_other_specials_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps({**VOCABULARY.to_dict(), **change}))
    with pytest.raises(UserError, match=r"vocabulary\.json: vocabulary version .*Prepare the data again"):
        Vocabulary.load(path)


@pytest.mark.parametrize("content", [*sorted(Vocabulary.__dataclass_fields__), "[]", "null"])
def test_incomplete_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vocabulary.json"
    values = VOCABULARY.to_dict()
    path.write_text(
        content if content in ("[]", "null") else json.dumps({k: v for k, v in values.items() if k != content})
    )
    with pytest.raises(UserError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing: .*vocabulary\.json.*lst prepare"):
        Vocabulary.load(tmp_path / "vocabulary.json")
    VOCABULARY.save(tmp_path / "vocabulary.json")
    content = (tmp_path / "vocabulary.json").read_bytes()
    (tmp_path / "vocabulary.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"damaged: .*vocabulary\.json.*lst prepare"):
        Vocabulary.load(tmp_path / "vocabulary.json")


def test_difference_names_every_field_that_differs_and_no_other() -> None:
    other = dataclasses.replace(VOCABULARY, num_units=50, units_sha256="c" * 64, unit_kind="encodec", units_a_frame=2)
    with pytest.raises(ProblemsError, match="the vocabulary of the model differs from that of the data") as raised:
        check_same_vocabulary(VOCABULARY, other, "the data", "the model")
    assert raised.value.problems == [
        "num_units: the model has 50, the data has 100",
        f"units_sha256: the model has {'c' * 64}, the data has {'b' * 64}",
        "unit_kind: the model has encodec, the data has mfcc",
        "units_a_frame: the model has 2, the data has 1",
    ]
    check_same_vocabulary(VOCABULARY, dataclasses.replace(VOCABULARY), "the data", "the model")
