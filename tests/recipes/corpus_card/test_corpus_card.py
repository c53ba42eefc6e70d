"""The corpus card's page, when a card is made anew, and what it says of samples, left-out utterances and damage."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page, check_self_contained, check_well_formed
from made_run import NASTY, NUM_LEFT_OUT, NUM_UNALIGNED, make_utterance, write_data

from lst.cli import main
from lst.configs.compose import build_config
from lst.configs.schema import Config
from lst.data.documents.interleave import DocumentBuilder
from lst.data.prepared import LEFT_OUT_FILE
from lst.data.shards import SHARD_FOLDER, load_index, write_index
from lst.data.utterance import Utterance
from lst.recipes.corpus_card.card import (
    NUM_EXAMPLES,
    card_after_prepare,
    card_fingerprint,
    card_numbers,
    card_of_run,
    left_out_numbers,
    reason_kind,
    write_card,
)
from lst.recipes.corpus_card.documents import sampled_places
from lst.recipes.corpus_card.page import card_page
from lst.runs.folder import CARD_JSON, CARD_PAGE, RunFolder, open_data
from lst.storage import read_json, write_jsonl

SECTIONS = ("sizes", "durations", "units", "alignment", "patches", "text", "provenance")


@pytest.fixture(scope="module")
def page(smoke_data: Path) -> Page:
    return Page((smoke_data / "data" / CARD_PAGE).read_text(encoding="utf-8"))


@pytest.fixture
def copied(smoke_data: Path, tmp_path: Path) -> Path:
    return shutil.copytree(smoke_data, tmp_path / "run")


def test_a_sample_is_without_repetition_seeded_and_called_so(config, card):
    assert sampled_places(5, 0, 1).tolist() == sampled_places(5, 9, 1).tolist() == [0, 1, 2, 3, 4]
    draws = {tuple(sampled_places(1000, 10, seed).tolist()) for seed in range(20)}
    assert len(draws) == 20
    assert all(list(draw) == sorted(set(draw)) and len(draw) == 10 for draw in draws)

    small = replace(config, card=replace(config.card, max_utterances=2))
    data = open_data(small)
    numbers = card_numbers(small, data)
    builder = DocumentBuilder(data.tokenizer, data.vocabulary, config.data.interleave, config.seed)
    chosen = sampled_places(len(data.train), 2, config.seed).tolist()
    assert numbers["documents"]["speech"]["num_tokens"] == sum(len(builder.speech(data.train[i])) for i in chosen)
    assert numbers["splits"] == card["splits"]
    assert numbers["sample"] == {
        "num_utterances": 2,
        "of": len(data.train),
        "is_whole": False,
        "num_texts": 2,
        "of_texts": 40,
        "texts_are_transcripts": False,
        "seed": 0,
        "num_without_words": 0,
    }
    found = Page(card_page(numbers))
    for section in ("patches", "text"):
        assert f"a sample: 2 of the {len(data.train)} training utterances" in found.texts[section]
    assert "a sample of 2 of the 40 written texts" in found.texts["text"]


def test_the_page_is_well_formed_and_needs_nothing_but_itself(page):
    check_well_formed(page, SECTIONS)
    check_self_contained(page)


def test_synthesised_speech_is_called_so_wherever_its_numbers_are(page):
    for section in ("top", *SECTIONS):
        assert "synthesised" in page.texts[section], section


def test_the_page_shows_the_numbers_of_the_json(page, card):
    train, valid = card["splits"]["train"], card["splits"]["valid"]
    assert page.row("sizes", "words")[1:3] == [f"{train['num_words']:,}", f"{valid['num_words']:,}"]
    assert page.row("sizes", "silence")[1] == f"{train['silence_share']:.1%}"
    assert page.row("sizes", "units a second, rep")[1] == f"{train['units_per_second_deduplicated']:.2f}"
    assert page.row("units", "entropy")[1] == f"{train['unit_entropy_bits']:.3f}"
    assert page.row("patches", "aligned, sil-merged")[1] == (
        f"{card['patches']['aligned_sil_merged']['interleaved']['mean_units']:.2f}"
    )
    assert page.row("text", "interleaved")[3] == f"{card['documents']['interleaved']['speech_share']:.1%}"
    for key in ("units_sha256", "text_sha256", "aligner", "data"):
        assert card["provenance"][key] in page.texts["provenance"]


def test_prepare_writes_the_card_once_and_lst_card_the_same_bytes(copied, smoke_data):
    files = [copied / "data" / name for name in (CARD_PAGE, CARD_JSON)]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    words = ["experiment=smoke", f"run_dir={copied}", "num_workers=1"]
    assert main(["prepare", *words]) == 0
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before
    # With the options that the run was prepared with, which are on record.
    assert main(["card", f"run_dir={copied}"]) == 0
    assert [path.read_bytes() for path in files] == [content for content, _ in before]
    assert str(copied) not in files[1].read_text()
    for path in files:
        path.unlink()
    assert main(["prepare", *words, "card.after_prepare=false"]) == 0
    assert not any(path.exists() for path in files)


def test_title_and_licence_are_shown_as_text_and_make_another_card(copied, config):
    data = copied / "data"
    write_index(data, {**load_index(data), "is_synthesised": False, "description": "recordings in my-corpus"})
    words = [f"card.title={NASTY}", f"card.licence={NASTY} 4.0", "data.mix.speech=0", "data.mix.paired=2"]
    here = replace(config, run_dir=str(copied))
    written = card_of_run(here, [f"run_dir={copied}", *words])
    found = Page(written.read_text(encoding="utf-8"))
    check_self_contained(found)
    assert found.faults == []
    assert "<script" not in found.raw
    assert found.texts["top"].count(NASTY) == 3  # in the window's title too
    assert page_mixture(found, "speech alone") == ["0", "0.0%"]
    assert page_mixture(found, "spoken and written")[0] == "2"
    assert found.row("provenance", "licence")[1] == f"{NASTY} 4.0"
    # Recordings are not called synthesised.
    assert "recordings in my-corpus" in found.texts["top"]
    assert "synthesised" not in found.raw
    # With other options the next preparing makes another card.
    numbers = read_json(copied / "data" / CARD_JSON, dict[str, Any], "", "")
    assert numbers["fingerprint"] != card_fingerprint(here, open_data(here))


def page_mixture(found: Page, kind: str) -> list[str]:
    return found.row("text", kind)[4:6]


def test_reasons_are_grouped_by_what_they_have_in_common():
    rows = [
        {"id": f"utt_{n}", "reason": f"the audio does not fit the text: {n} of 12 words were found"} for n in (3, 4)
    ]
    rows.append({"id": "b", "reason": "/data/a b/m.jsonl, line 7 (id 'b'): audio lasts 0.1 s, 0.2 s or more is needed"})
    rows.append({"id": "c", "reason": "utt.wav (id 'c'): audio lasts 0.15 s, 0.2 s or more is needed"})
    rows.append({"id": "d", "reason": "audio lasts 0.03 s, 0.2 s or more is needed"})
    found = left_out_numbers(rows, {"num_unaligned": 2}, {"train": 5, "valid": 3, "text": 10})
    assert found["reasons"] == [
        {"reason": "audio lasts … s, … s or more is needed", "count": 3, "examples": ["b", "c", "d"]},
        {
            "reason": "the audio does not fit the text: … of … words were found",
            "count": 2,
            "examples": ["utt_3", "utt_4"],
        },
    ]
    assert found["share"] == pytest.approx(5 / 23)
    assert found["unaligned_share"] == pytest.approx(2 / 10)
    assert reason_kind("it isn't 'so' and can't be x-17 at s3://b/x-17.flac: no", "x-17") == (
        "it isn't … and can't be … at …: no"
    )


def test_many_kinds_of_reasons_are_cut_and_the_rest_is_counted():
    rows = [{"id": f"u{n}", "reason": "because " + "x" * (n % 40 + 1)} for n in range(80)]
    found = left_out_numbers(rows, {"num_unaligned": 0}, {"train": 0, "valid": 0, "text": 0})
    assert sum(row["count"] for row in found["reasons"]) == found["num"] == 80
    assert found["reasons"][-1]["reason"] == "10 other kinds of reasons"
    assert found["reasons"][-1]["count"] == 20
    assert all(len(row["examples"]) <= NUM_EXAMPLES for row in found["reasons"])
    assert found["unaligned_share"] is None


def made(root: Path, splits: dict[str, list[Utterance]]) -> tuple[Config, Page]:
    """The card of a corpus made by hand."""
    run = RunFolder(root)
    run.data.mkdir(parents=True)
    write_data(run, splits)
    config = build_config(["experiment=smoke", f"run_dir={root}"])
    return config, Page(write_card(config, open_data(config)).read_text(encoding="utf-8"))


def test_left_out_utterances_are_told_with_their_reasons(tmp_path):
    texts = [Utterance("t", "", "some words to read alone", 0.0, np.zeros(0, np.uint16))]
    _, found = made(
        tmp_path / "run", {"train": [make_utterance(0, tmp_path, "one two", 3.0)], "valid": [], "text": texts}
    )
    check_well_formed(found, SECTIONS)
    assert f"{NUM_LEFT_OUT} utterances or texts are not used" in found.texts["alignment"]
    assert f"{NUM_UNALIGNED} of them" in found.texts["alignment"]
    assert found.row("alignment", str(NUM_LEFT_OUT))[2] == "bad-0, bad-1, bad-2"
    assert "<script" not in found.raw


@pytest.mark.parametrize("has_speech", [True, False])
def test_a_corpus_without_words_or_without_speech_has_a_card(tmp_path, has_speech):
    spoken = [replace(make_utterance(n, tmp_path, "one two", 3.0), words=()) for n in range(2)] if has_speech else []
    texts = [Utterance("t", "", "some words to read alone", 0.0, np.zeros(0, np.uint16))]
    config, found = made(tmp_path / "run", {"train": spoken, "valid": [], "text": texts})
    assert found.faults == []
    assert "There is no aligned speech to cut" in found.texts["patches"]
    assert ("There is no speech" in found.texts["durations"]) != has_speech
    numbers = read_json(Path(config.run_dir) / "data" / CARD_JSON, dict[str, Any], "", "")
    assert numbers["sample"]["num_without_words"] == len(spoken)
    assert numbers["mixture"]["speech_share"] is None
    assert numbers["splits"]["train"]["num_units"] == 150 * has_speech


def test_damaged_or_missing_data_is_said_in_a_line(copied, tmp_path, capsys):
    path = next((copied / "data" / SHARD_FOLDER).glob("train-*.tar"))
    path.write_bytes(path.read_bytes()[:-512])
    assert main(["card", f"run_dir={copied}"]) == 2
    err = capsys.readouterr().err
    assert path.name in err
    assert "Traceback" not in err
    assert main(["card", f"run_dir={tmp_path / 'none'}"]) == 2
    assert "Run lst prepare" in capsys.readouterr().err
    assert main(["card", "card.max_utterances=-1"]) == 2
    assert "card.max_utterances=-1" in capsys.readouterr().err


def test_a_broken_card_is_made_again(copied, config):
    here = replace(config, run_dir=str(copied))
    before = read_json(copied / "data" / CARD_JSON, dict[str, Any], "", "")
    (copied / "data" / CARD_JSON).write_text("{")
    write_jsonl(copied / "data" / LEFT_OUT_FILE, [{"id": "x", "reason": "another"}])
    card_after_prepare(here)
    after = read_json(copied / "data" / CARD_JSON, dict[str, Any], "", "")
    assert after["fingerprint"] != before["fingerprint"] == card_fingerprint(config, open_data(config))
    assert after["left_out"]["num"] == 1
    assert after["splits"] == before["splits"]
