"""``lst benchmark build`` and ``lst eval eval.benchmark=``: a small benchmark, spoken, scored, damaged and mended."""

from __future__ import annotations

import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from html_page import Page, check_self_contained, check_well_formed

from lst.cli import main
from lst.configs.compose import build_config
from lst.data.audio import read_audio
from lst.data.recordings import recognisers as recognise
from lst.data.shards import load_index
from lst.errors import UserError
from lst.evaluation.benchmark import open_benchmark
from lst.evaluation.results import DIRECTIONS
from lst.model.checkpoint import save_model
from lst.model.lst import LatentSpeechTextModel
from lst.runs import RunFolder, open_data

pytestmark = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")

ROWS = [
    {"ind": 4, "ctx": "[header] How to rest [step] Sit", "endings": ["down.", "on 2 hats.", "up."], "label": 0},
    {"ind": 5, "ctx": "A dog", "endings": ["barks.", "sings.", "up."], "label": 0},
]


def files_of(folder: Path) -> dict[str, str]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture(scope="module")
def run(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke data with a model that was never trained."""
    root = tmp_path_factory.mktemp("benchmark") / "run"
    shutil.copytree(smoke_data, root)
    config = build_config([f"run_dir={root}", "model=lst_debug", "patching=static"])
    vocabulary = open_data(config).vocabulary
    model = LatentSpeechTextModel(config.model, vocabulary.size, 0)
    save_model(RunFolder(root).final("static"), model, config.patching, vocabulary.to_dict())
    return root


def build(run: Path, name: str, items: Path, out: Path, *words: str) -> int:
    own = ["num_workers=1", "data.voice=flite", "data.shard_utterances=5", *words]
    return main(["benchmark", "build", name, f"items={items}", f"out={out}", f"run_dir={run}", *own])


@pytest.fixture(scope="module")
def items(run: Path) -> Path:
    path = run.parent / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def built(run: Path, items: Path) -> Path:
    assert build(run, "hellaswag", items, run.parent / "spoken") == 0
    return run.parent / "spoken"


def test_a_benchmark_has_units_words_audio_hashes_and_a_card(built: Path) -> None:
    benchmark = open_benchmark(str(built))
    first, second = benchmark.items
    assert first.context.text == "How to rest. Sit"
    assert [part.text for part in first.endings] == ["down.", "on two hats.", "up."]
    assert first.other_context == second.context
    assert all(len(part.utterance.units) for part in (first.context, *first.endings))
    clips = [json.loads(line) for line in (built / "clips.jsonl").read_text().splitlines()]
    assert len(clips) == 8
    assert len({clip["path"] for clip in clips}) == 7 + (clips[3]["speaker"] != clips[7]["speaker"])
    assert {clip["speaker"] for clip in clips[:4]} == {clips[0]["speaker"]}, "all of an item by one voice"
    assert all(clip["fault"] == "" for clip in clips)
    card = benchmark.card
    assert (card["num_items"], card["num_endings"], card["chance"]) == (2, [3], pytest.approx(1 / 3))
    assert "Spoken hellaswag" in (built / "README.md").read_text()
    assert all(row.path.exists() for row in benchmark.manifest.values())  # type: ignore[union-attr]


def test_a_build_that_was_stopped_goes_on_to_the_same_bytes(
    run: Path, items: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy)
    assert build(run, "hellaswag", items, copy) == 0
    assert "nothing to do" in capsys.readouterr().err
    for name in ("index.json", "benchmark.json", "questions.jsonl", "shards/questions-000001.json"):
        (copy / name).unlink()
    next((copy / "audio").iterdir()).write_bytes(b"half")
    (copy / "audio/stray.flac").write_bytes(b"x")
    assert build(run, "hellaswag", items, copy) == 0
    assert files_of(copy) == files_of(built)
    (copy / "clips.jsonl").write_text("")
    assert build(run, "hellaswag", items, copy) == 0
    assert files_of(copy) == files_of(built)
    assert build(run, "hellaswag", items, copy, "seed=7") == 2
    assert "made from other items" in capsys.readouterr().err


def test_every_model_is_scored_in_four_directions_apart_from_the_own_results(
    run: Path, built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", f"run_dir={run}", f"eval.benchmark={built}", "eval.bootstrap_samples=100"]
    assert main([*words, "--dry-run"]) == 0
    assert main(words) == 0
    told = capsys.readouterr()
    assert "the context of another item, drawn by seed=0" in told.err, "named before scoring"
    assert "chance is 33.3" in told.out
    (place,) = (run / "eval").glob("static@hellaswag-*.benchmark.json")
    assert not (run / "eval/static.json").exists()
    assert RunFolder(run).eval_results_of_other_data("static") == []
    result = json.loads(place.read_text())
    rows = [json.loads(line) for line in place.with_suffix(".items.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 4 * 3
    assert list(result["directions"]) == list(DIRECTIONS)
    assert result["chance"] == pytest.approx(1 / 3)
    assert result["controls"]["level"]["strata"]["all"]["num_items"] == 2, "audio of the benchmark is heard"
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_endings_without_context_are_scored_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "blimp.jsonl"
    path.write_text(json.dumps({"uid": "x", "pair": "0", "field": "syntax", "good": "He is.", "bad": "He are."}) + "\n")
    assert build(run, "blimp", path, tmp_path / "blimp") == 0
    assert main(["eval", f"run_dir={run}", f"eval.benchmark={tmp_path / 'blimp'}", "eval.bootstrap_samples=100"]) == 0
    (place,) = (run / "eval").glob("static@blimp-*.benchmark.json")
    result = json.loads(place.read_text())
    assert {name: score["headline"] for name, score in result["directions"].items()} == {"S→S": "mean", "T→T": "mean"}
    assert result["controls"]["join_repeat"]["strata"] == {}, "there is no cut"
    assert "S→S by mean, T→T by mean" in capsys.readouterr().out


class Deaf:
    """A recogniser that hears the same in every clip."""

    name = "deaf 1.0"

    def transcribe(self, waveform: np.ndarray) -> str:
        return "a dog barks"


def test_every_voice_says_every_item_and_a_recogniser_hears_it(
    run: Path, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recognise, "Pocketsphinx", Deaf)
    recognise.load_recogniser.cache_clear()
    words = ["benchmark.voices=[flite:slt,flite:rms]", "benchmark.recognise=pocketsphinx", "benchmark.max_wer=0.9"]
    out = tmp_path / "out"
    assert build(run, "hellaswag", items, out, *words) == 0
    recognise.load_recogniser.cache_clear()
    benchmark = open_benchmark(str(out))
    assert [item.id for item in benchmark.items] == [f"{n}--flite-{voice}" for n in (4, 5) for voice in ("slt", "rms")]
    for item in benchmark.items:
        assert item.context.utterance.speaker == item.other_context.utterance.speaker
        assert item.context.text != item.other_context.text
    card = benchmark.card
    assert (card["num_voices"], card["recogniser"], card["licences"]) == (2, "deaf 1.0", {"flite": "BSD-like"})
    clips = {clip["id"]: clip for clip in map(json.loads, (out / "clips.jsonl").read_text().splitlines())}
    assert (clips["5--flite-slt-context"]["num_word_errors"], clips["5--flite-slt-0"]["num_word_errors"]) == (1, 2)
    assert clips["4--flite-slt-1"]["num_words"] == 3
    assert card["voices"]["flite-rms"]["num_misheard"] == 7, "of eight; the context of the second has half its words"
    listed = [json.loads(line) for line in (out / "misheard.jsonl").read_text().splitlines()]
    assert len(listed) == 14
    assert "heard 'a dog barks'" in listed[0]["reason"]
    assert "What deaf 1.0 heard" in (out / "README.md").read_text()
    check_card_of_two_voices(Page((out / "card.html").read_text()))
    assert main(["eval", f"run_dir={run}", f"eval.benchmark={out}", "eval.bootstrap_samples=100"]) == 0
    told = capsys.readouterr()
    assert "items/s" in told.err
    assert "flite-rms" in told.out
    (place,) = (run / "eval").glob(f"static@hellaswag-{benchmark.fingerprint[:12]}.benchmark.json")
    result = json.loads(place.read_text())
    assert result["directions"]["S→S"]["strata"]["all"]["num_items"] == 2, "two voices are no further items"
    assert list(result["voices"]) == ["flite-slt", "flite-rms"]
    check_items_are_heard_where_runs_are_compared(run, out, place, tmp_path)


def check_card_of_two_voices(page: Page) -> None:
    """The card says what was counted and heard, and plays every part of the items that it shows."""
    check_self_contained(page)
    check_well_formed(page, ("facts", "clips", "failures", "items"))
    assert "4 items of 3 endings (a text that 2 voices say counts 2 times)" in page.texts["top"].replace("\n", " ")
    assert page.row("clips", "flite-rms")[1:3] == ["8", "0"]
    assert "14 clips have more word errors than 90 %" in page.texts["failures"]
    assert page.texts["failures"].count("a dog barks") == 14
    assert sum(tag == "audio" for tag, _ in page.tags) == 4 * 4


def check_items_are_heard_where_runs_are_compared(run: Path, benchmark: Path, result: Path, out: Path) -> None:
    """Items of the benchmark have players while its folder is where it was scored; else the page says why not."""

    def compared() -> str:
        assert main(["compare", str(run), f"out={out / 'page.html'}", "num_items=3", "bootstrap_samples=100"]) == 0
        return (out / "page.html").read_text()

    page = Page(compared())
    check_self_contained(page)
    players = [attributes["aria-label"] for tag, attributes in page.tags if tag == "audio"]
    assert sum("--flite-" in (name or "") for name in players) == 3 * 4
    assert any("3 of 4 items, drawn from the seed" in text for text in page.texts.values())
    moved = benchmark.rename(benchmark.with_name("moved"))
    told = " ".join(Page(compared()).texts.values())
    assert "No single items are shown" in told
    assert str(benchmark) in told
    assert main(["eval", f"run_dir={run}", f"eval.benchmark={moved}", "eval.bootstrap_samples=100"]) == 0
    assert json.loads(result.read_text())["folder"] == str(moved), "nothing is scored again"
    assert any("3 of 4 items, drawn from the seed" in text for text in Page(compared()).texts.values())


def test_text_alone_gives_the_scores_that_it_gives_beside_speech(run: Path, items: Path, built: Path) -> None:
    out = run.parent / "written"
    assert main(["benchmark", "build", "hellaswag", f"items={items}", f"out={out}", "benchmark.speech=false"]) == 0
    assert sorted(files_of(out)) == [
        "README.md",
        "benchmark.json",
        "card.html",
        "left_out.jsonl",
        "questions.jsonl",
        "texts.jsonl",
    ]
    benchmark = open_benchmark(str(out))
    assert benchmark.items[0].endings[1].text == "on two hats."
    for folder in (out, built):
        assert main(["eval", f"run_dir={run}", f"eval.benchmark={folder}", "eval.bootstrap_samples=100"]) == 0
    rows = {}
    for folder in (out, built):
        name = f"static@hellaswag-{open_benchmark(str(folder)).fingerprint[:12]}.benchmark"
        found = map(json.loads, (run / "eval" / f"{name}.items.jsonl").read_text().splitlines())
        rows[folder] = [row for row in found if row["direction"] == "T→T"]
    assert len(rows[out]) == 6
    for key in rows[out][0]:
        own, spoken = ([row[key] for row in rows[folder]] for folder in (out, built))
        assert own == (pytest.approx(spoken, rel=1e-4) if "nats" in key else spoken), key
    before = files_of(out)
    (out / "texts.jsonl").write_text("")
    assert main(["eval", f"run_dir={run}", f"eval.benchmark={out}"]) == 2
    assert main(["benchmark", "build", "hellaswag", f"items={items}", f"out={out}", "benchmark.speech=false"]) == 0
    assert files_of(out) == before


def test_recordings_and_voices_that_change_are_scored_by_sound_alone(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("1_0", "1_1", "2_0", "2_1"):
        path = tmp_path / "pairs" / f"sample_{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 12_000), 16_000)
    assert build(run, "pairs", tmp_path / "pairs", tmp_path / "recorded") == 0
    words = ["out=" + str(tmp_path / "voices"), f"run_dir={run}", "data.voice=flite", "benchmark.max_items=3"]
    assert main(["benchmark", "build", "consistency", *words, "num_workers=1"]) == 0
    for folder, score in (("recorded", "mean"), ("voices", "swap")):
        benchmark = open_benchmark(str(tmp_path / folder))
        assert benchmark.card["headlines"] == {"S→S": score}
        assert (
            main(["eval", f"run_dir={run}", f"eval.benchmark={tmp_path / folder}", "eval.bootstrap_samples=100"]) == 0
        )
        (place,) = (run / "eval").glob(f"static@*-{benchmark.fingerprint[:12]}.benchmark.json")
        assert list(json.loads(place.read_text())["directions"]) == ["S→S"]
    kinds = {item.stratum: item for item in benchmark.items}
    assert set(kinds) == {"gain", "speaker", "gender"}
    for item in kinds.values():
        context, other = item.context.utterance, item.other_context.utterance
        assert context.text == other.text
        assert context.speaker == item.endings[item.label].utterance.speaker
        assert other.speaker == item.endings[1 - item.label].utterance.speaker != context.speaker
    recorded = open_benchmark(str(tmp_path / "recorded"))
    assert [len(part.utterance.units) for part in recorded.items[0].endings] == [19, 19], "all of 0.75 s"


def test_a_recogniser_hears_a_clip_alike_whatever_it_heard_before(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hear = recognise.Pocketsphinx()
    first, second = (read_audio(path) for path in sorted((built / "audio").iterdir())[:2])
    before = hear.transcribe(first)
    hear.transcribe(second)
    assert hear.transcribe(first) == before
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(UserError, match=r"pip install 'latent-speech-text\[whisper\]'"):
        recognise.load_recogniser(recognise.RecogniserChoice("faster-whisper", str(built)))
    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace())
    with pytest.raises(UserError, match=r"holds no model.bin"):
        recognise.load_recogniser(recognise.RecogniserChoice("faster-whisper", str(built)))


def test_options_that_contradict_each_other_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark.recognise=faster-whisper", "benchmark.normaliser=none", "benchmark.voices=[flite,flite]"]
    assert main(["benchmark", "build", "copa", "items=x", "out=y", *words]) == 2
    told = capsys.readouterr().err
    for fault in ("benchmark.recogniser_weights=FOLDER", "add benchmark.speech=false", "each voice may be there once"):
        assert fault in told
    assert main(["benchmark", "build", "consistency", "out=y", "benchmark.speech=false"]) == 2
    assert "is of sound" in capsys.readouterr().err


def test_what_cannot_be_built_or_scored_is_refused_first(
    run: Path, items: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({**ROWS[0], "label": 9}) + "\n" + json.dumps({**ROWS[1], "endings": []}) + "\n")
    assert build(run, "hellaswag", bad, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "line 1" in told
    assert "line 2" in told
    assert not (tmp_path / "out").exists()
    voices = "benchmark.voices=[flite:nobody,flite:slt,nobody]"
    assert build(run, "hellaswag", items, tmp_path / "out", voices) == 2
    told = capsys.readouterr().err
    assert "flite:nobody: the speech engine flite has no voice 'nobody' here" in told
    assert "nobody: there is no speech engine 'nobody'" in told
    config = json.loads((run / "models/static/final/config.json").read_text())
    config["model"]["max_patches"] = 8
    short = tmp_path / "short"
    (short / "models/tiny/final").mkdir(parents=True)
    (short / "models/tiny/final/config.json").write_text(json.dumps(config))
    words = [f"run_dir={short}", f"data_dir={run / 'data'}", "--dry-run"]
    assert build(run, "hellaswag", items, tmp_path / "out", *words) == 0
    assert "about 1 of 2 items are longer than the context of tiny, 8 patches" in capsys.readouterr().out
    assert build(run, "hellaswag", items, tmp_path / "out", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "8 clips" in told
    assert "longer" not in told
    assert not (tmp_path / "out").exists()
    other = tmp_path / "other"
    shutil.copytree(built, other)
    card = json.loads((other / "benchmark.json").read_text())
    (other / "benchmark.json").write_text(json.dumps({**card, "units_sha256": "0" * 64}))
    assert main(["eval", f"run_dir={run}", f"eval.benchmark={other}"]) == 2
    assert "units of another tokenizer" in capsys.readouterr().err
    (other / "benchmark.json").write_text(json.dumps(card))
    next((other / "audio").iterdir()).unlink()
    assert main(["eval", f"run_dir={run}", f"eval.benchmark={other}"]) == 2
    assert "is missing" in capsys.readouterr().err
    assert load_index(built)["description"].startswith("hellaswag (2 items)")
