"""Items made by rule, pairs of recordings, word errors, and the places that items come from."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.text import normaliser, pronouncing_dictionary
from lst.errors import UserError
from lst.evaluation.benchmark.build import questions_of
from lst.evaluation.benchmark.consistency import QUIETER, consistency_items
from lst.evaluation.benchmark.listed import gather_items, items_file
from lst.evaluation.benchmark.nonwords import packaged_words, read_lexicon, runs_of, word_pairs
from lst.evaluation.benchmark.pairs import read_pairs
from lst.evaluation.benchmark.recognise import spoken_keys, word_errors
from lst.evaluation.benchmark.text_items import TextItem

NEEDS_FLITE = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")


def recording(path: Path, seconds: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(16_000 * seconds), 0.1), 16_000)
    return path


def test_non_words_have_the_shape_of_their_word_and_are_no_words() -> None:
    words = packaged_words()
    assert {"people", "would"} < set(words), "the likeliest words come first"
    pairs = word_pairs(words, 40, seed=3)
    assert len(pairs) == len({nonword for _, nonword in pairs}) == 40
    dictionary = pronouncing_dictionary()
    for word, nonword in pairs:
        assert nonword not in dictionary
        ours, theirs = runs_of(word), runs_of(nonword)
        assert [len(run) for run in ours] == [len(run) for run in theirs]
        assert sum(one != other for one, other in zip(ours, theirs, strict=True)) == 1
    assert word_pairs(words, 40, seed=3) == pairs
    assert word_pairs(words, 40, seed=4) != pairs


def test_a_lexicon_of_ones_own_names_lines_that_it_cannot_use(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("Strange\nit\nstrange\ntwo words\nwindow\n")
    words, problems = read_lexicon(path)
    assert words == ["strange", "window"]
    assert [str(problem).partition(":")[0] for problem in problems] == [f"words.txt, line {n}" for n in (2, 3, 4)]


@NEEDS_FLITE
def test_a_voice_changes_in_the_middle_or_not_and_neither_is_always_the_true_one() -> None:
    config = build_config(["benchmark.name=consistency", "data.voice=flite"])
    items, speakers = consistency_items(config, None, 60)
    assert {item.stratum for item in items} == {"gain", "speaker", "gender"}
    for item in items:
        assert item.endings[0] == item.endings[1], "only the sound tells them apart"
        assert item.context == item.other
        same, changed = (speakers[f"{item.id}-{part}"] for part in (item.label, 1 - item.label))
        assert (speakers[f"{item.id}-context"], speakers[f"{item.id}-other"]) == (same, changed)
        if item.stratum == "gain":
            assert same.voice == changed.voice
            assert changed.gain / same.gain == pytest.approx(QUIETER) or same.gain / changed.gain == pytest.approx(
                QUIETER
            )
        else:
            women = [speaker.voice == "slt" for speaker in (same, changed)]
            assert (women[0] == women[1]) == (item.stratum == "speaker")
    assert {item.label for item in items} == {0, 1}
    assert all(one.other_context == f"{one.id}-other" for one in questions_of(items, 0))


def test_pairs_of_a_table_are_matched_by_id_and_voice(tmp_path: Path) -> None:
    rows = ["id,filename,voice,word,correct"]
    for number, (word, nonword) in enumerate([("brick", "blick"), ("snap", "snup")]):
        for voice in ("A", "B"):
            # Names say nothing, and their order is the wrong one.
            for is_word, text in ((0, nonword), (1, word)):
                name = recording(tmp_path / "dev" / f"{is_word}{number}{voice}.wav").stem
                rows.append(f"{number},{name},{voice},{text},{is_word}")
    (tmp_path / "dev" / "gold.csv").write_text("\n".join(rows) + "\n")
    found = read_pairs(tmp_path)
    assert found.problems == []
    assert found.num_voices == 2
    assert {(item.id, item.endings[item.label]) for item in found.items} == {
        (f"dev-{number}--{voice}", word) for number, word in enumerate(["brick", "snap"]) for voice in "AB"
    }
    true = [found.recordings[f"{item.id}-{item.label}"].stem for item in found.items]
    assert all(name.startswith("1") for name in true)
    assert {item.label for item in found.items} == {0, 1}


def test_pairs_of_names_are_matched_by_part_and_number(tmp_path: Path) -> None:
    for part in ("gain", "speaker"):
        for number in (2, 10):
            for ending in (0, 1):
                recording(tmp_path / "salmon" / part / f"sample_{number}_{ending}.wav")
    found = read_pairs(tmp_path / "salmon")
    assert found.problems == []
    assert sorted((item.id, item.stratum) for item in found.items) == [
        (f"{part}-{number}", part) for part in ("gain", "speaker") for number in (10, 2)
    ]
    for name in ("3_a_incorrect", "3_b_correct", "20_z_correct", "20_a_incorrect"):
        recording(tmp_path / "slamkit" / f"{name}.wav")
    found = read_pairs(tmp_path / "slamkit")
    true = {item.id: found.recordings[f"{item.id}-{item.label}"].stem for item in found.items}
    assert true == {"3": "3_b_correct", "20": "20_z_correct"}


def test_recordings_that_make_no_pair_are_all_named_by_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c", "stray"):
        recording(tmp_path / f"{name}.wav")
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    rows = ["1,a,1", "1,gone,0", "2,b,1", "2,b,0", "3,c,1", "3,broken,0", "4,,"]
    (tmp_path / "gold.csv").write_text("\n".join(["id,filename,correct", *rows]) + "\n")
    report = tmp_path / "report.json"
    assert main(["check", f"items={tmp_path}", "benchmark.name=pairs", f"check.json={report}"]) == 1
    told = capsys.readouterr().out
    for fault in ("gone.wav is missing", "b is listed twice", "1 true and 0 false", "broken.wav", "does not list it"):
        assert fault in told, fault
    assert json.loads(report.read_text())["reports"][0]["statistics"] == {"items": 0, "recordings": 0}
    assert main(["check", f"items={tmp_path / 'none'}", "benchmark.name=pairs"]) == 1
    assert "is no folder" in capsys.readouterr().out
    for name in ("1_x", "2_y"):
        recording(tmp_path / "silent" / f"{name}.wav")
    assert len(read_pairs(tmp_path / "silent").problems) == 2, "nothing says which is the true one"


def test_word_errors_are_counted_in_words_as_they_are_said() -> None:
    assert spoken_keys("Well-known: 2 hats, $5.") == ["well", "known", "two", "hats", "five", "dollars"]
    assert word_errors([], ["a", "b"]) == 2
    assert word_errors(["a", "b", "c"], ["b", "c"]) == 1
    assert word_errors("kitten", "sitting") == 3


def test_items_of_the_hub_have_a_revision_and_a_clear_error_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="40 digits of a revision"):
        items_file("hub:owner/name:dev.jsonl")
    place = f"hub:owner/name@{'a' * 40}:data/dev.jsonl"

    def offline(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=offline))
    with pytest.raises(UserError, match=r"no route.*download the file and give its path"):
        items_file(place)
    asked: list[Any] = []

    def fetched(*given: Any, **named: Any) -> str:
        asked.append((given, named))
        return str(tmp_path / "dev.jsonl")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=fetched))
    assert items_file(place) == tmp_path / "dev.jsonl"
    assert asked == [(("owner/name", "data/dev.jsonl"), {"repo_type": "dataset", "revision": "a" * 40})]


def test_nemo_reads_first_and_the_builtin_normaliser_what_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    class Normalizer:
        def __init__(self, input_case: str, lang: str) -> None:
            assert (input_case, lang) == ("cased", "en")

        def normalize(self, text: str) -> str:
            return text.replace("2", "two")

    name = "nemo_text_processing.text_normalization.normalize"
    normaliser.cache_clear()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'latent-speech-text\[nemo\]'"):
        normaliser("nemo")
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(Normalizer=Normalizer))
    monkeypatch.setitem(sys.modules, "nemo_text_processing", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "nemo_text_processing.text_normalization", SimpleNamespace())
    assert normaliser("nemo").apply("[header] 2 & 3") == "two and three"
    normaliser.cache_clear()


def test_swuggy_without_items_is_made_by_rule() -> None:
    config = build_config(["benchmark.name=swuggy", "benchmark.max_items=6"])
    listed = gather_items(config, str)
    assert [item.label for item in listed.items] == [1, 0, 1, 0, 1, 0]
    assert all(item.endings[item.label] in pronouncing_dictionary() for item in listed.items)
    with pytest.raises(UserError, match="items=FILE is missing"):
        gather_items(build_config(["benchmark.name=copa"]), str)


def test_each_voice_swaps_with_a_context_of_its_own() -> None:
    items = [
        TextItem(f"{number}--{voice}", "", f"Context {number}", ("a", "b"), 0, "")
        for number in range(5)
        for voice in ("slt", "rms")
    ]
    for question in questions_of(items, 0, num_voices=2):
        assert question.other_context.split("--")[1] == question.context.split("--")[1]
        assert question.other_context != question.context
