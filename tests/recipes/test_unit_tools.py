"""``lst tokenizer`` as a user meets it: units are fitted, shown, scored and converted, text pieces trained."""

from __future__ import annotations

import gzip
import json
import lzma
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_models import WIDTH, hubert_model, save_hubert

from lst.cli import main
from lst.data.alignment.hmm import PhoneAligner, phones_of_units
from lst.data.audio.read import read_audio
from lst.data.corpora.manifest import read_manifest
from lst.errors import UserError
from lst.evaluation.unit_scores import ScoredUtterance, score_units
from lst.recipes.tokenizer import text_lines
from lst.storage import sha256
from lst.tokenizers.speech import load_speech_tokenizer
from lst.tokenizers.text import TextTokenizer, fit_text_tokenizer

SMALL = ["tokenizer.num_units=20", "num_workers=1"]


@pytest.fixture(scope="module")
def corpus(smoke_data: Path) -> str:
    """The utterances of a prepared run, with their splits."""
    return f"corpus={smoke_data / 'data' / 'manifest.jsonl'}"


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["tokenizer", *words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["tokenizer", *words]) == 2
    return capsys.readouterr().err


def test_fitted_units_are_those_that_prepare_fits(
    smoke_data: Path, corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "units.safetensors"
    text = shown(capsys, "fit-units", corpus, f"out={out}", *SMALL)
    assert sha256(out) == sha256(smoke_data / "data" / "units.safetensors")
    described = json.loads(text.partition("\n")[2])
    assert described["name"] == "mfcc-kmeans-20-25hz"
    assert described["sha256"] == sha256(out)
    assert json.loads(shown(capsys, "show", f"tokenizer.codebook={out}")) == described


def test_scores_are_those_of_the_held_out_utterances(
    smoke_data: Path, corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    units, out = smoke_data / "data" / "units.safetensors", tmp_path / "scores.json"
    text = shown(capsys, "score-units", corpus, f"tokenizer.codebook={units}", f"out={out}", *SMALL[1:])
    result = json.loads(out.read_text())
    tokenizer, aligner = load_speech_tokenizer(units), PhoneAligner()
    utterances = []
    for row in read_manifest(smoke_data / "data" / "manifest.jsonl"):
        if row.split == "valid":
            waveform = read_audio(row.path)
            (encoded,) = tokenizer.encode([waveform], 16_000)
            phones = phones_of_units(aligner.phones(waveform, row.text), len(encoded), 25)
            utterances.append(ScoredUtterance(encoded, phones, row.speaker))
    expected = score_units(utterances, 20, 25)
    assert {key: result[key] for key in expected} == expected
    assert result["num_utterances"] == result["num_aligned"] == len(utterances)
    assert result["units_sha256"] == tokenizer.sha256
    assert 0 < expected["phone_normalised_mi"] < 1
    assert f"{expected['phone_normalised_mi']:.3f}" in text
    assert f" {expected['units_used']} of 20\n" in text


def test_segments_of_long_files_are_scored_as_the_files_that_they_are_of(
    smoke_data: Path, corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_manifest(smoke_data / "data" / "manifest.jsonl")
    sounds = [read_audio(row.path) for row in rows]
    soundfile.write(tmp_path / "all.wav", np.concatenate(sounds), 16_000, subtype="FLOAT")
    starts = np.cumsum([0] + [len(sound) for sound in sounds]) / 16_000
    records = [
        {
            "id": row.id,
            "path": "all.wav",
            "text": row.text,
            "speaker": row.speaker,
            "split": row.split,
            "start_s": float(start),
            "duration_s": len(sound) / 16_000,
        }
        for row, sound, start in zip(rows, sounds, starts, strict=False)
    ]
    (tmp_path / "segments.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    results = []
    for name, source in (("whole", corpus), ("segments", f"corpus={tmp_path / 'segments.jsonl'}")):
        units, out = smoke_data / "data" / "units.safetensors", tmp_path / f"{name}.json"
        shown(capsys, "score-units", source, f"tokenizer.codebook={units}", f"out={out}", *SMALL[1:])
        results.append({key: value for key, value in json.loads(out.read_text()).items() if key != "corpus"})
    assert results[0] == results[1]


def test_a_published_codebook_is_converted_and_a_pickle_needs_trust(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    centroids = np.random.default_rng(0).normal(size=(9, WIDTH)).astype(np.float32)
    (tmp_path / "km.km").write_bytes(pickle.dumps({"cluster_centers": centroids}))
    weights, out = save_hubert(tmp_path / "hubert", hubert_model()), tmp_path / "units.safetensors"
    words = [
        "convert-units",
        "tokenizer=hubert_kmeans",
        f"tokenizer.codebook={tmp_path / 'km.km'}",
        f"tokenizer.weights={weights}",
        "tokenizer.layer=2",
        f"out={out}",
    ]
    assert "km.km is a pickle" in refused(capsys, *words)
    assert not out.exists()
    assert '"name": "hubert-layer2-kmeans-9-25hz"' in shown(capsys, *words, "tokenizer.trust=true")
    tokenizer = load_speech_tokenizer(out)
    assert tokenizer.num_units == 9
    assert len(tokenizer.encode([np.zeros(16_000, np.float32)], 16_000)[0]) == 25


def test_text_pieces_are_trained_on_a_file_or_on_transcripts(
    smoke_data: Path, corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["Anna ate the warm bread.", "", "Ben found a small key."] * 4
    (tmp_path / "lines.txt.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    out = tmp_path / "text.model"
    text = shown(capsys, "fit-text", f"text={tmp_path / 'lines.txt.xz'}", "tokenizer.text_vocab_size=310", f"out={out}")
    assert TextTokenizer.load(out).sha256 == fit_text_tokenizer(lines, 310).sha256
    assert json.loads(text.partition("\n")[2]) == json.loads(shown(capsys, "show", f"tokenizer.text_model={out}"))
    shown(capsys, "fit-text", corpus, "tokenizer.text_vocab_size=320", f"out={out}")
    rows = read_manifest(smoke_data / "data" / "manifest.jsonl")
    expected = fit_text_tokenizer([row.text for row in rows if row.split == "train"], 320)
    assert TextTokenizer.load(out).sha256 == expected.sha256


def test_text_files_plain_and_packed_and_what_cannot_be_read(tmp_path: Path) -> None:
    content = "one\ntwo é\n".encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    (tmp_path / "a.xz").write_bytes(lzma.compress(content))
    assert all(list(text_lines(tmp_path / name)) == ["one", "two é"] for name in ("a.txt", "a.gz", "a.xz"))
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "cut.xz").write_bytes(lzma.compress(content)[:-9])
    (tmp_path / "cut.gz").write_bytes(gzip.compress(content)[:-4])
    for name, expected in (
        ("latin.txt", "not UTF-8"),
        ("cut.xz", "cannot be read"),
        ("cut.gz", "cannot be read"),
        ("none.txt", "cannot be read"),
    ):
        with pytest.raises(UserError, match=rf"{name} .*{expected}|{name} is {expected}"):
            list(text_lines(tmp_path / name))


def test_mistakes_say_what_to_give(corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        ([], "fit-units | score-units | convert-units | fit-text | show"),
        (["fit-unit"], "did you mean tokenizer fit-units?"),
        (["fit-units", corpus], "out=units.safetensors"),
        (["fit-text", corpus], "out=text.model"),
        (["score-units", corpus], "needs tokenizer.codebook="),
        (["convert-units", "out=x"], "needs tokenizer.codebook="),
        (["show"], "tokenizer.codebook=FILE (units) or tokenizer.text_model=FILE (text)"),
        (["score-units", corpus, f"tokenizer.codebook={tmp_path / 'none'}"], "none: there is no such file"),
        (["fit-units", "corpus=/no/such", "out=x"], "/no/such"),
        (["fit-units", corpus, "out=x", "tokenizer.kind=whisper"], "needs tokenizer.weights="),
        (["fit-units", corpus, f"out={tmp_path}"], "is a folder: name a file in it"),
        (["fit-units", "out=x"], "fit-units needs corpus="),
        (["fit-units", "out=x", "--dry-run"], "fit-units needs corpus="),
        (["fit-text", "out=x"], "fit-text needs corpus= (or text="),
        (["score-units", f"tokenizer.codebook={tmp_path / 'none'}"], "score-units needs corpus="),
        (["show", f"tokenizer.codebook={tmp_path}"], "is a folder, not a file"),
        (
            [
                "fit-units",
                corpus,
                "tokenizer.kind=whisper",
                "tokenizer.layer=1",
                "tokenizer.weights=/no/w",
                "--dry-run",
            ],
            "tokenizer.weights=/no/w: there is no such file or folder",
        ),
        (["convert-units", "tokenizer.codebook=/no/km.npy", "--dry-run"], "codebook=/no/km.npy: there is no such file"),
        (["fit-units", corpus, "out=x", "layout=vctk"], "VCTK is a folder with"),
    ):
        err = refused(capsys, *words)
        assert expected in err, (words, err)
        assert "Traceback" not in err


def test_dry_runs_tell_the_plan_and_write_nothing(
    smoke_data: Path, corpus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, units = tmp_path / "units.safetensors", smoke_data / "data" / "units.safetensors"
    assert "20 mfcc units at 25 Hz, from 4 utterances" in shown(
        capsys, "fit-units", corpus, f"out={out}", *SMALL, "--dry-run"
    )
    assert "4 utterances" in shown(capsys, "score-units", corpus, f"tokenizer.codebook={units}", "--dry-run")
    assert "bpe of 768 pieces" in shown(capsys, "fit-text", corpus, f"out={out}", "--dry-run")
    assert str(units) in shown(capsys, "show", f"tokenizer.codebook={units}", "--dry-run")
    assert list(tmp_path.iterdir()) == []


def test_help_of_an_action_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "fit-units", "--help")
    assert "lst tokenizer fit-units: " in text
    assert all(key in text for key in ("tokenizer.weights=", "tokenizer.layer=", "hubert_kmeans", "out="))
