"""Corpora of other languages than English, from their rows to shards: what is refused, what is told, what is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from lst.configs.compose import build_config
from lst.data.checks.corpus import check_corpus
from lst.data.config import AlignConfig, DataConfig
from lst.data.corpora import load_corpus
from lst.data.documents.word_pieces import WordPieces
from lst.data.languages import language_name
from lst.data.prepare.gather import gather_source
from lst.data.prepare.options import find_origin
from lst.data.prepare.prepare import prepare
from lst.data.prepared import manifest_rows
from lst.data.recordings import recognisers
from lst.data.recordings.recognisers import RecogniserChoice, load_recogniser
from lst.data.shards import ShardReader
from lst.errors import UserError
from lst.tokenizers.text import TextOptions, TextTokenizer, fit_text_tokenizer
from tests.data.conftest import left_out, options

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
GERMAN = (
    "Meine Schwester liest jeden Abend ein spannendes Buch.",
    "Am 3. Mai trinkt mein Bruder gern Kaffee.",
    "Wir haben im Garten viele rote Äpfel gepflückt.",
    "Zwei Vögel singen laut im Wald.",
)


def silent(folder: Path, rows: list[dict[str, str]]) -> Path:
    """A corpus of silence, where only the rows matter."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        row["path"] = f"u{number}.wav"
        soundfile.write(folder / row["path"], np.zeros(16_000, np.float32), 16_000)
    (folder / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return folder


def test_each_row_goes_by_its_own_language(tmp_path: Path) -> None:
    texts = {"de": "Äpfel", "English": "apples", "zh-CN": "我有3个。", "": "pears", "ru": "яблоки"}
    corpus = silent(tmp_path / "c", [{"text": text, "language": code} for code, text in texts.items()])
    rows, problems, _ = load_corpus(corpus)
    assert problems == []
    assert [row.language for row in rows] == ["de", "", "zh", "", "ru"]
    assert rows[2].text == "我 有 3 个。"
    assert (
        check_corpus(corpus, "auto", 0.1, 60.0, False, 0, AlignConfig(method="ctc", checkpoint="X")).num_problems == 0
    )


def test_a_column_that_disagrees_with_the_option_is_told_row_by_row(tmp_path: Path) -> None:
    rows = [{"text": "Äpfel", "locale": "de"}, {"text": "pommes", "locale": "fr"}, {"text": "Birnen"}]
    rows.append({"text": "Birnen", "locale": "deutsh"})
    corpus = silent(tmp_path / "c", rows)
    found, problems, _ = load_corpus(corpus, language="de")
    assert [row.language for row in found] == ["de", "de"]
    told = {problem.id: problem.message for problem in problems}
    assert told["u1"].startswith("its language is fr (French), and data.language=de: correct the row")
    assert told["u3"].startswith("language 'deutsh' is no language; the nearest are")
    assert [row.language for row in load_corpus(corpus, language="en")[0]] == [""]


def test_common_voice_and_lhotse_name_their_languages(tmp_path: Path) -> None:
    clips = tmp_path / "cv" / "clips"
    clips.mkdir(parents=True)
    soundfile.write(clips / "a.wav", np.zeros(16_000, np.float32), 16_000)
    table = "client_id\tpath\tsentence\tlocale\nx\ta.wav\tBonjour\tfr\n"
    (tmp_path / "cv" / "validated.tsv").write_text(table, encoding="utf-8")
    assert [row.language for row in load_corpus(tmp_path / "cv")[0]] == ["fr"]
    cut = {
        "id": "c",
        "start": 0,
        "duration": 1.0,
        "channel": 0,
        "recording": {
            "id": "a",
            "sources": [{"type": "file", "channels": [0], "source": str(clips / "a.wav")}],
            "sampling_rate": 16_000,
            "num_samples": 16_000,
            "duration": 1.0,
        },
        "supervisions": [{"id": "s", "start": 0, "duration": 1.0, "text": "Hallo", "language": "German"}],
    }
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut) + "\n")
    assert [row.language for row in load_corpus(tmp_path / "cuts.jsonl")[0]] == ["de"]


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("mls_german", "de"),
        ("mls_english_opus", ""),
        ("facebook___voxpopuli/fr", "fr"),
        ("google/fleurs/cmn_hans_cn", "zh"),
        ("cv-corpus-17.0-2024-03-15/de", "de"),
        ("datasets--facebook--multilingual_librispeech/snapshots/0a1b2c/polish", "pl"),
        ("voxpopuli/data", ""),
        ("recordings/de", ""),
    ],
)
def test_folders_of_published_corpora_name_their_language(tmp_path: Path, folder: str, code: str) -> None:
    corpus = silent(tmp_path / folder, [{"text": "eins zwei"}, {"text": "drei vier", "language": "ru"}])
    assert [row.language for row in load_corpus(corpus)[0]] == [code, "ru"]
    ctc = AlignConfig(method="ctc", checkpoint="X")
    notes = "; ".join(check_corpus(corpus, "auto", 0.1, 60.0, False, 0, ctc).notes)
    if not code:
        assert "as their folder's name says" not in notes
        return
    assert f"1 utterances are taken to be {language_name(code)} ({code}), as their folder's name says" in notes
    assert f"whose name says {language_name(code)} ({code}), and they are Russian: check which is right" in notes
    # What the user says counts, and the disagreement is told.
    (row,) = load_corpus(corpus, language="it")[0]
    assert row.language == "it"
    told = "; ".join(check_corpus(corpus, "auto", 0.1, 60.0, False, 0, ctc, language="it").notes)
    assert f"whose name says {language_name(code)} ({code}), and data.language=it is given" in told


@pytest.mark.parametrize(
    ("name", "top", "audio", "code"),
    [
        ("GigaSpeech", {"language": "EN"}, {}, ""),
        ("other", {"dataset": "x", "language": "de"}, {}, "de"),
        ("other", {"language": "de"}, {"language": "FR"}, "fr"),
        ("WenetSpeech", {}, {}, "zh"),
    ],
)
def test_lists_of_audios_name_their_language(
    tmp_path: Path, name: str, top: dict[str, str], audio: dict[str, str], code: str
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000, np.float32), 16_000)
    segments = [{"sid": "s", "begin_time": 0, "end_time": 1, "text": "ein Wort"}]
    content = {**top, "audios": [{"path": "a.wav", "segments": segments, **audio}]}
    (tmp_path / f"{name}.json").write_text(json.dumps(content))
    rows, problems, layout = load_corpus(tmp_path)
    assert (layout, problems, [row.language for row in rows]) == ("gigaspeech", [], [code])
    _, (problem,), _ = load_corpus(tmp_path, language="it") if code else ((), ("",), "")
    assert not code or "and data.language=it" in problem.message  # type: ignore[union-attr]


def test_numbers_of_classes_name_no_language(tmp_path: Path) -> None:
    corpus = silent(
        tmp_path / "c", [{"text": "eins", "language": "3"}, {"text": "zwei", "language": "Mandarin Chinese"}]
    )
    rows, problems, _ = load_corpus(corpus)
    assert (problems, [row.language for row in rows]) == ([], ["", "zh"])


def test_transcripts_of_other_scripts_need_their_language(tmp_path: Path) -> None:
    corpus = silent(tmp_path / "c", [{"text": "Это дом"}, {"text": "Мир"}])
    report = check_corpus(corpus, "auto", 0.1, 60.0, False, 0, AlignConfig(method="ctc", checkpoint="X"))
    assert "say so with data.language=CODE" in report.examples["transcript"][-1]
    fixed = AlignConfig(method="ctc", checkpoint="X")
    assert check_corpus(corpus, "auto", 0.1, 60.0, False, 0, fixed, language="ru").num_problems == 0


def test_german_with_the_english_aligner_is_still_told(tmp_path: Path) -> None:
    corpus = silent(tmp_path / "c", [{"text": f"{text} {number}"} for number in range(3) for text in GERMAN])
    report = check_corpus(corpus, "auto", 0.1, 60.0, False, 0)
    assert "are not English" in report.examples["language"][0]
    assert "data.language=CODE" in report.examples["language"][0]
    german = check_corpus(corpus, "auto", 0.1, 60.0, False, 0, AlignConfig(method="ctc", checkpoint="X"), language="de")
    assert german.num_problems == 0


def test_the_language_chooses_the_aligner() -> None:
    def composed(*words: str) -> DataConfig:
        return build_config(["corpus=/none", *words]).data

    assert composed().align.method == "pocketsphinx"
    assert composed("data.language=en").align.method == "pocketsphinx"
    german = composed("data.language=German")
    assert (german.language, german.align.method, german.align.checkpoint) == ("de", "ctc", "MMS_FA")
    own = composed("data.language=de", "data.align.checkpoint=mine")
    assert (own.align.method, own.align.checkpoint) == ("ctc", "mine")
    assert composed("data.language=de", "data.align.method=pocketsphinx").align.method == "pocketsphinx"
    with pytest.raises(UserError, match=r"data.language=dee: 'dee' is no language; the nearest are de \(German\)"):
        composed("data.language=dee")


def test_english_is_recorded_as_without_the_option(tmp_path: Path) -> None:
    corpus = silent(tmp_path / "c", [{"text": "a dog"}, {"text": "a cat", "language": "en"}])
    plain, named = find_origin(options(corpus)), find_origin(options(corpus, language="en"))
    assert plain.made_from == named.made_from
    assert "language" not in plain.made_from["data"]
    assert find_origin(options(corpus, language="de")).made_from != plain.made_from


@needs_espeak
def test_german_becomes_shards_whose_text_comes_back(tmp_path: Path) -> None:
    corpus = tmp_path / "c"
    corpus.mkdir()
    for number, text in enumerate(GERMAN):
        file = corpus / f"u{number}.wav"
        subprocess.run(["espeak-ng", "-v", "de+f2", "-w", file, "--stdin"], input=text.encode(), check=True)
    lines = [f"u{number}.wav\t{text}\tde" for number, text in enumerate(GERMAN)]
    (corpus / "manifest.tsv").write_text("\n".join(["path\ttext\tlanguage", *lines]) + "\n", encoding="utf-8")
    folder = tmp_path / "data"
    prepare(folder, options(corpus, text_vocab_size=310, lowercase=False, normalization="identity"))
    assert left_out(folder) == []
    assert {row.language for row in manifest_rows(folder).values()} == {"de"}
    found = [one for split in ("train", "valid") for one in ShardReader(folder, split)]
    assert {one.text for one in found} == set(GERMAN)
    tokenizer = TextTokenizer.load(folder / "text.model")
    for one in found:
        assert " ".join(word.text for word in one.words) == one.text
        assert tokenizer.decode(tokenizer.encode(one.text)) == one.text
        assert [segment.end_frame for segment in one.segments()][-1] == one.num_frames


def test_text_pieces_give_every_character_back() -> None:
    texts = ["naïve Äpfel, Straße", "Привет мир", "我 有 苹 果。", "नमस्ते दुनिया", "שלום עולם", "e\u0301te\u0301 ISI ısı"]
    exact = fit_text_tokenizer(texts, 500, lowercase=False, options=TextOptions(normalization="identity"))
    usual = fit_text_tokenizer(texts, 500)
    for text in texts:
        assert exact.decode(exact.encode(text)) == text
        assert WordPieces(exact).encode([text]).ids.tolist() == exact.encode(text)
        assert WordPieces(usual).encode([text]).ids.tolist() == usual.encode(text)
    assert usual.decode(usual.encode("Straße 果。")) == "straße 果。"


def test_yaml_reads_the_code_of_norwegian_as_false(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\ncorpus: /x\ndata: {language: no}\n")
    assert build_config([f"--config-dir={tmp_path}", "--config-name=mine"]).data.language == "nb"


def test_a_language_without_a_way_to_say_it_is_told_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lst.data.alignment.known_languages.espeak_problem", lambda code: "no espeak-ng")
    corpus = silent(tmp_path / "c", [{"text": "Birnen"}, {"text": "Äpfel"}])
    given = options(corpus, language="de")
    for is_plan in (True, False):
        with pytest.raises(UserError, match="2 of 2 transcripts are in German: no espeak-ng"):
            gather_source(given, is_plan=is_plan)
    # What has no transcript needs no words.
    rows = [{"text": "", "language": "de"}, {"text": " ", "language": "de"}, {"text": "a dog"}, {"text": "a cat"}]
    found = gather_source(options(silent(tmp_path / "d", rows), transcribe="none"))
    assert [(row.split == "speech", row.text) for row in found.rows] == [
        *((True, ""), (True, ""), (False, "a dog"), (False, "a cat"))
    ]


def test_recognisers_hear_the_language_of_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Whisper:
        supported_languages = ("en", "de", "no")

        def __init__(self, folder: str, **named: object) -> None:
            heard.append("loaded")

        def transcribe(self, waveform: np.ndarray, language: str, **named: object) -> tuple[list[object], None]:
            heard.append(language)
            return [SimpleNamespace(text=" Straße", start=0.0, end=1.0, avg_logprob=-0.1)], None

    monkeypatch.setattr(recognisers, "import_or_explain", lambda *told: SimpleNamespace(WhisperModel=Whisper))
    monkeypatch.setattr(recognisers, "version", lambda name: "1")
    monkeypatch.setenv("LST_CACHE_DIR", str(tmp_path / "cache"))
    load_recogniser.cache_clear()
    (tmp_path / "model.bin").write_bytes(b"x")
    texts = [{"text": "", "language": code} for code in ("de", "nb", "")]
    corpus = silent(tmp_path / "c", [*texts, {"text": "a dog"}, {"text": "a cat"}])
    config = {"transcribe": "faster-whisper", "transcribe_weights": str(tmp_path)}
    with pytest.raises(UserError, match="does not hear French"):
        load_recogniser(RecogniserChoice("faster-whisper", str(tmp_path), "fr"))
    found = gather_source(options(corpus, align=AlignConfig(method="manifest"), **config, on_error="skip"))
    assert heard == ["loaded", "de", "no", "en"]
    assert [row.text for row in found.rows if row.language] == ["Straße", "Straße"]
    with pytest.raises(UserError, match="pocketsphinx hears English alone, and recordings are in German"):
        load_recogniser(RecogniserChoice("pocketsphinx", "", "de"))
    (told,) = DataConfig(transcribe="pocketsphinx", language="de").rules()
    assert "pocketsphinx hears English alone, not data.language=de" in told


@pytest.mark.parametrize("language", [None, "zh"])
def test_held_out_chinese_is_no_text_for_training(language: str | None, tmp_path: Path) -> None:
    rows = [{"text": text, "language": "zh"} for text in ("我喝水。", "我们去学校", "天气很好")]
    corpus = silent(tmp_path / "c", rows)
    text = tmp_path / "text.txt"
    text.write_text("我喝水。\n我们去学校\n天气很好\n新的一行\n", encoding="utf-8")
    aligner = AlignConfig(method="ctc", checkpoint="X")
    found = gather_source(options(corpus, text, language=language, align=aligner), is_plan=True)
    held_out = {row.text for row in found.rows if row.split == "valid"}
    assert len(held_out) == 1
    assert {one.text for one in found.texts} == {*(row.text for row in found.rows), "新 的 一 行"} - held_out


def test_the_language_of_texts_is_that_of_rows_with_a_text(tmp_path: Path) -> None:
    """Speech without a text, in no stated language, stands beside them."""
    rows = [{"text": text, "language": "zh"} for text in ("我喝水。", "我们去学校", "天气很好")]
    corpus = silent(tmp_path / "c", [*rows, {"text": ""}])
    text = tmp_path / "text.txt"
    text.write_text("我喝水。\n我们去学校\n天气很好\n新的一行\n", encoding="utf-8")
    aligner = AlignConfig(method="ctc", checkpoint="X")
    found = gather_source(options(corpus, text, align=aligner, transcribe="none"), is_plan=True)
    assert "新 的 一 行" in {one.text for one in found.texts}
