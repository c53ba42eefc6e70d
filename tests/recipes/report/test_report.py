"""The report: one file that needs no other, tells what the run's files say, and looks right in a browser."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import soundfile
from html_page import Page, check_self_contained, check_well_formed
from made_run import NASTY, NUM_LEFT_OUT, make_overrides, make_run

from lst.configs.compose import MAIN, build_config
from lst.configs.reads import READS, words_read_by
from lst.configs.schema import Config
from lst.data.corpora.manifest import write_manifest
from lst.data.prepared import LEFT_OUT_FILE, MANIFEST_FILE, PreparedData
from lst.data.shards import INDEX_FILE
from lst.errors import UserError
from lst.evaluation.cloze import DIRECTIONS
from lst.evaluation.results import BITS_COLUMNS, BitsColumn, RunResults
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.report.audio import audio_section
from lst.recipes.report.corpus import patches_section
from lst.recipes.report.page import Section, scientific
from lst.recipes.report.record import RunRecord, read_run
from lst.recipes.report.results import cloze_section, cost_section, results_section
from lst.recipes.report.write import report_page, reproduce_section, write_report
from lst.runs.folder import RunFolder, open_data
from lst.storage import read_json, read_jsonl, write_json, write_jsonl

SECTIONS = ("results", "cost", "curves", "patches", "items", "listen", "corpus", "reproduce")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return make_run(tmp_path_factory.mktemp("report") / "a run's <b>folder")


@pytest.fixture(scope="module")
def report(config: Config) -> Path:
    return write_report(config, make_overrides(Path(config.run_dir)))


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


@pytest.fixture
def copied(config: Config, tmp_path: Path) -> Config:
    """The same run in a folder that a test may damage; its audio stays where it was."""
    folder = tmp_path / "run"
    shutil.copytree(config.run_dir, folder)
    return dataclasses.replace(config, run_dir=str(folder))


def page_of(config: Config) -> Page:
    return Page(write_report(config, make_overrides(Path(config.run_dir))).read_text(encoding="utf-8"))


def part_of(config: Config, section: Callable[[RunRecord], Section]) -> Page:
    """One section alone, as the plots of the others take seconds."""
    run = read_run(config, make_overrides(Path(config.run_dir)))
    return Page(report_page(run, [section(run)]))


def test_a_page_needs_nothing_but_itself(page):
    check_self_contained(page)


def test_it_is_well_formed_and_every_section_is_linked(page):
    check_well_formed(page, SECTIONS)


def test_text_of_a_corpus_stays_text(page):
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags
    assert "img" not in tags
    assert "<script" not in page.raw
    words = " ".join(NASTY.split())
    for section in ("top", "items", "listen", "corpus"):
        assert words in " ".join(page.texts[section].split()), section
    assert "speaker 0 <&>" in page.texts["listen"]
    assert "a run's <b>folder" in page.texts["top"]


def test_the_main_table_tells_what_the_evaluation_says(page, config):
    results = {
        name: read_json(RunFolder(Path(config.run_dir)).eval_result(name), dict[str, Any], "", "")
        for name in ("baseline", "static")
    }
    for name, result in results.items():
        first = page.row("results", name)
        place = page.rows["results"].index(next(r for r in page.rows["results"] if r[0].strip().startswith(name)))
        second = [cell.strip() for cell in page.rows["results"][place + 1]]
        for normalisation, cells in (("mean", first[2:6]), ("sum", second[1:5])):
            for direction, cell in zip(DIRECTIONS, cells, strict=True):
                found = {key: 100 * value for key, value in result["cloze"][direction][normalisation].items()}
                assert cell.split() == [f"{found['accuracy']:.1f}", f"{found['low']:.1f}–{found['high']:.1f}"]
        assert list(BITS_COLUMNS)[:2] == ["bits_per_unit", "bits_per_byte"]
        assert first[6:] == [f"{result['bits'][key]:.3f}" for key in BITS_COLUMNS]
    text = page.texts["results"]
    for wanted in ("4 items", "chance is 50 %", "a tie counts ½", "drawn from the seed", "1,234 units"):
        assert wanted in text


def test_results_stand_beside_the_page_and_begin_it(page, config):
    run = RunFolder(Path(config.run_dir))
    found = read_json(run.results, RunResults, "the results", "")
    assert found["verdict"] in page.texts["top"]
    assert (found["items"], found["speech"]) == ("cloze", "synthesised speech")
    assert [model["name"] for model in found["models"]] == ["baseline", "static"]
    for model in found["models"]:
        result = read_json(run.eval_result(model["name"]), dict[str, Any], "", "")
        for direction, own in model["directions"].items():
            assert {key: own[key] for key in ("accuracy", "low", "high")} == result["cloze"][direction]["mean"]
    assert "This evaluation has no controls: run lst eval again" in page.texts["results"]


def test_the_best_of_each_column_is_marked_unless_all_are_equal(page):
    section = page.raw[page.raw.index('id="results"') : page.raw.index('id="cost"')]
    best = re.findall(r'<td[^>]*class="best"[^>]*>([^<]*)<', section)
    assert "4.167" in best
    assert "0.250" not in best


@pytest.mark.parametrize("do_units_differ", [False, True])
def test_a_column_says_what_it_is_and_which_value_is_best(
    copied: Config, do_units_differ: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, more_is_better in (("more", True), ("less", False)):
        column = BitsColumn(key, key, "speech", is_a_unit=True, more_is_better=more_is_better, meaning=f"{key} <b>")
        monkeypatch.setitem(BITS_COLUMNS, key, column)
    for name, value in (("baseline", 0.25), ("static", 0.75)):
        place = RunFolder(Path(copied.run_dir)).eval_result(name)
        result = read_json(place, dict[str, Any], "", "")
        result["bits"] |= {"more": value, "less": value}
        result["bits"]["num_units"] += do_units_differ and name == "static"
        write_json(place, result)
    page = part_of(copied, results_section)
    best = re.findall(r'<td[^>]*class="best"[^>]*>([^<]*)<', page.raw)
    assert best == ([] if do_units_differ else ["0.250", "4.167", "0.750"])
    assert "“more” (higher is better): more <b>. “less” (lower is better): less <b>." in page.texts["results"]


def test_the_cost_table_tells_what_the_metrics_say(page, config):
    for name in ("baseline", "static"):
        rows = read_jsonl(RunFolder(Path(config.run_dir)).model(name) / "metrics.jsonl", dict[str, Any])
        last = [row for row in rows if "training_flops" in row][-1]
        cells = [cell.split() for cell in page.row("cost", name)[2:]]
        assert cells[0] == ["60"]
        assert cells[1] == [f"{192 * 60:,}"]
        assert cells[2] == [f"{181 * 60:,}", f"{1 - 181 / 192:.1%}"]
        assert cells[3] == [f"{last['tokens']:,}", f"{last['tokens'] / last['patches']:.2f}"]
        assert cells[4] == [f"{last['speech_tokens']:,}", f"{last['speech_tokens'] / last['tokens']:.1%}"]
        assert cells[5] == ["8"]
        assert " ".join(cells[6]) == scientific(last["training_flops"])
    assert "equal steps × patches" in page.texts["cost"]


def test_parameters_are_those_of_the_models(page, config):
    for name in ("baseline", "static"):
        saved = read_json(RunFolder(Path(config.run_dir)).final(name) / "config.json", dict[str, Any], "", "")
        own = build_config([*make_overrides(Path(config.run_dir)), *config.arms[name]]).model
        model = LatentSpeechTextModel(own, saved["vocab_size"])
        assert page.row("cost", name)[1] == f"{model.num_parameters:,}"


def test_scores_of_an_item_are_those_of_its_rows(page, config):
    rows = read_jsonl(Path(config.run_dir) / "eval" / "baseline.items.jsonl", dict[str, Any])
    row = next(row for row in rows if row["direction"] == "T→T")
    true, false = row["true_nats"] / row["true_tokens"], row["false_nats"] / row["false_tokens"]
    cells = page.row("items", "baseline")
    assert cells[1:4] == [
        f"{true:.2f}".replace("-", "−"),
        f"{false:.2f}".replace("-", "−"),
        "right" if true > false else "wrong",
    ]


def test_what_was_left_out_is_listed_with_its_reasons(page, config):
    text = page.texts["corpus"]
    assert f"{NUM_LEFT_OUT} utterances or texts are not used" in text
    assert f"reason 19: {NASTY}" in text
    assert "reason 20:" not in text
    assert str(Path(config.run_dir) / "data" / LEFT_OUT_FILE) in text


def test_synthesised_speech_is_called_so_wherever_its_numbers_are(page):
    for section in ("top", *SECTIONS[:-1]):
        assert "synthesised speech" in page.texts[section], section


def test_recordings_are_not_called_synthesised(copied):
    path = Path(copied.run_dir) / "data" / INDEX_FILE
    write_json(
        path,
        {**read_json(path, dict[str, Any], "", ""), "is_synthesised": False, "description": "recordings in my-corpus"},
    )
    page = page_of(copied)
    assert "synthesised" not in "".join(page.texts.values())
    assert "recordings" in page.texts["results"]


def test_audio_can_be_decoded_and_long_audio_is_clipped(page, report):
    durations_s = []
    for source in page.attributes("src"):
        content = base64.b64decode(source.split("base64,")[1])
        samples, rate_hz = soundfile.read(io.BytesIO(content))
        durations_s.append(len(samples) / rate_hz)
        assert np.abs(samples).max() > 0.1
    # Held out and training in turn: utterances 2, 0 or 1, another held-out one, the other training one.
    assert len(durations_s) == 4
    assert max(durations_s) == pytest.approx(20, abs=0.2)
    assert min(durations_s) == pytest.approx(5, abs=0.2)
    assert "clipped: the first 20 s of 24.5 s" in page.texts["listen"]
    assert report.stat().st_size < 6_000_000


def test_wav_where_mp3_cannot_be_written(copied, monkeypatch):
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "WAV"})
    page = part_of(copied, audio_section)
    assert all(source.startswith("data:audio/wav;base64,") for source in page.attributes("src"))
    assert len(page.raw) < 6_000_000


def test_commands_can_be_pasted_and_are_those_of_quickstart(page, config):
    from lst.runs.folder import arm_overrides

    overrides = make_overrides(Path(config.run_dir))
    assert shlex.split(page.blocks[0]) == ["lst", "quickstart", *overrides]
    commands = [shlex.split(line) for line in page.blocks[1].splitlines()]
    assert [words[1] for words in commands] == ["prepare", "train", "train", "train", "eval", "report"]
    for words in (commands[0], *commands[-2:]):
        assert [words[0], *words[2:]] == ["lst", *words_read_by(words[1], overrides, MAIN.options)]
    trains = [words[2:] for words in commands[1:-2]]
    of_training = words_read_by("train", overrides, MAIN.options)
    assert trains == [arm_overrides(config, of_training, name) for name in config.arms]
    for words in commands:
        MAIN.build(words[2:], READS[words[1]])
    for words, name in zip(trains, config.arms, strict=True):
        assert build_config(words).name == name
        assert build_config(words).run_dir == config.run_dir


def test_fingerprints_versions_seed_and_configuration_are_there(page, config):
    text = page.texts["reproduce"]
    data = open_data(config)
    for wanted in (
        data.fingerprint,
        data.codec.sha256,
        data.vocabulary.fingerprint,
        "UTC",
        "baseline: 0.0.1",
        "row_patches: 96",
        metadata.version("torch"),
    ):
        assert wanted in text
    assert page.row("reproduce", "seed")[1] == "3"


def test_plots_leave_matplotlib_as_it_was(copied):
    before = dict(matplotlib.rcParams)
    part_of(copied, results_section)
    assert dict(matplotlib.rcParams) == before
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        assert pyplot.get_fignums() == []


def test_the_same_run_gives_the_same_page_but_for_the_time(page, config):
    def without_time(page: Page) -> str:
        return re.sub(r"Written [^<]*", "", page.raw)

    assert without_time(page_of(config)) == without_time(page)


def test_a_model_without_evaluation_is_named_with_the_remedy(copied):
    root = Path(copied.run_dir)
    (root / "eval" / "static.json").unlink()
    page = part_of(copied, results_section)
    assert "Trained but not evaluated: static" in page.texts["results"]
    assert (
        shlex.join(["lst", "eval", *words_read_by("eval", make_overrides(root), MAIN.options)]) in page.texts["results"]
    )
    (root / "eval" / "baseline.json").unlink()
    for path in (root / "eval").glob("*.items.jsonl"):
        path.unlink()
    assert "baseline, static" in part_of(copied, results_section).texts["results"]
    assert "run lst eval" in part_of(copied, cloze_section).texts["items"]


def test_missing_audio_and_metrics_cost_a_sentence_each(copied, tmp_path):
    run = RunFolder(Path(copied.run_dir))
    rows = [dataclasses.replace(row, path=tmp_path / "gone.wav") for row in PreparedData(run.data).manifest.values()]
    assert len(rows) == 6
    write_manifest(Path(run.data / MANIFEST_FILE), rows)
    (run.model("static") / "metrics.jsonl").unlink()
    assert "picture of an utterance is left out" in part_of(copied, patches_section).texts["patches"]
    assert "metrics.jsonl is missing" in part_of(copied, cost_section).texts["cost"]
    page = part_of(copied, audio_section)
    assert "audio of 0 could be read" in page.texts["listen"]
    assert page.attributes("src") == []


def test_no_audio_when_none_is_asked_for(copied):
    copied = dataclasses.replace(copied, report=dataclasses.replace(copied.report, num_audio=0))
    page = part_of(copied, audio_section)
    assert page.attributes("src") == []
    assert "report.num_audio=0" in page.texts["listen"]


def test_unequal_slots_are_said_to_be_unfair(copied):
    path = RunFolder(Path(copied.run_dir)).model("static") / "metrics.jsonl"
    write_jsonl(path, [row for row in read_jsonl(path, dict[str, Any]) if row["step"] <= 40])
    assert "not trained on equally many patch slots" in part_of(copied, cost_section).texts["cost"]


def test_a_model_of_other_data_is_named(copied):
    write_json(RunFolder(Path(copied.run_dir)).model("static") / "settings.json", {"data": "another"})
    assert "static: trained on other data" in part_of(copied, reproduce_section).texts["reproduce"]


def test_without_a_model_the_command_that_trains_is_named(copied):
    shutil.rmtree(Path(copied.run_dir) / "models")
    with pytest.raises(UserError, match="lst train"):
        write_report(copied, [])
