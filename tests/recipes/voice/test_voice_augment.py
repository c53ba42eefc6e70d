"""``data.augment.voices``: which recordings are converted into whose voices, what is written, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_voices import hum, random_voice

from lst.cli import main
from lst.data.corpora.manifest import read_manifest, write_manifest
from lst.data.corpora.rows import ManifestRow
from lst.data.prepare import PrepareOptions
from lst.data.prepared import UNITS_FILE
from lst.data.shards import INDEX_FILE
from lst.data.utterance import Provenance
from lst.errors import UserError
from lst.recipes import prepare
from lst.recipes.voice import augment
from lst.recipes.voice.augment import conversions, unit_distance
from lst.tokenizers.kmeans import Centroids, KmeansTokenizer
from lst.tokenizers.units import NUM_FEATURES

pytest.importorskip("pyworld", reason="the extra voice is not installed")


def codec() -> KmeansTokenizer:
    draw = np.random.default_rng(0)
    centroids = Centroids(draw.normal(size=(7, NUM_FEATURES)).astype(np.float32), np.ones(NUM_FEATURES, np.float32))
    return KmeansTokenizer(centroids, {"kind": "mfcc"})


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two hums of each of three speakers, the last of which is held out."""
    rows = []
    for number in range(6):
        path = tmp_path / "corpus" / f"u{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, hum(0.7, pitch_hz=100 + 20 * number), 16_000)
        split = "dev" if number % 3 == 2 else "train"
        stated = Provenance(licence="CC BY-NC 4.0", consent=f"form {number % 3}")
        rows.append(ManifestRow(f"u{number}", path, "one two", f"s{number % 3}", split, 0.7, provenance=stated))
    write_manifest(tmp_path / "corpus" / "manifest.jsonl", rows)
    return tmp_path / "corpus"


def test_references_are_other_training_speakers() -> None:
    rows = [
        ManifestRow(f"u{number}", "a.wav", "text", f"s{number % 4}", "train" if number % 4 else "valid", 2.0)
        for number in range(20)
    ]
    pairs = conversions(rows, 2, seed=0)
    assert len(pairs) == 15 * 2
    assert all(source.speaker != reference.speaker for source, reference in pairs)
    assert all("valid" not in (source.split, reference.split) for source, reference in pairs)
    assert len({(source.id, reference.speaker) for source, reference in pairs}) == 30
    assert len(conversions(rows, 50, seed=0)) == 15 * 2, "there are two others"
    assert conversions(rows, 2, seed=0) == pairs != conversions(rows, 2, seed=1)
    assert not conversions(rows[1::4], 2, seed=0)


def test_equal_recordings_have_no_distance(corpus: Path) -> None:
    rows = read_manifest(corpus / "manifest.jsonl")
    assert unit_distance(codec(), [(rows[0], rows[0])]) == 0
    assert unit_distance(codec(), [(rows[0], rows[5])]) > 0


def test_converted_recordings_are_prepared_with_the_others(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared: list[PrepareOptions] = []

    def prepare(folder: Path, options: PrepareOptions) -> None:
        prepared.append(options)
        codec().save(folder / UNITS_FILE)

    monkeypatch.setattr(augment, "prepare", prepare)
    monkeypatch.setattr(augment, "fit_units", lambda *_: codec())
    random_voice().save(tmp_path / "voice")
    command = ["prepare", f"run_dir={tmp_path / 'run'}", f"corpus={corpus}", "card.after_prepare=false"]
    command += ["data.augment.voices=1", f"data.augment.voice={tmp_path / 'voice'}"]
    assert main([*command, "--dry-run"]) == 0
    assert "into 1 other voices" in capsys.readouterr().out
    assert main(command) == 0
    rows = read_manifest(tmp_path / "run" / "augmented" / "manifest.jsonl")
    assert prepared[0].corpus == str(tmp_path / "run" / "augmented" / "manifest.jsonl")
    assert [row.split for row in rows] == ["train", "train", "valid"] * 2 + ["train"] * 4
    for row in rows[6:]:
        assert row.speaker in ("converted-s0", "converted-s1")
        assert row.provenance.licence == "CC BY-NC 4.0", "a conversion is under the licence of its words"
        with soundfile.SoundFile(row.path) as file:
            assert "converted by LST" in file.comment
            assert file.frames == 11_200
    found = json.loads((tmp_path / "run" / "augmented" / "distances.json").read_text())
    assert found["before"] == found["after"] > 0
    assert found["num_converted"] == 4
    assert "recordings in other voices" in capsys.readouterr().err
    monkeypatch.setattr(augment, "_voice", lambda path: pytest.fail("what is there is not converted again"))
    assert main(command) == 0


def test_what_was_held_out_stays_so_when_the_corpus_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a recording that the model is judged on would be converted, and trained on."""
    monkeypatch.setattr(augment, "prepare", lambda folder, options: codec().save(folder / UNITS_FILE))
    monkeypatch.setattr(augment, "fit_units", lambda *_: codec())
    monkeypatch.setattr(augment, "_converted", lambda *given: replace(given[-1][0], id=f"{given[-1][0].id}-c"))
    random_voice().save(tmp_path / "voice")
    folder, held_out = tmp_path / "corpus", list[set[str]]()
    folder.mkdir()
    command = ["prepare", f"run_dir={tmp_path / 'run'}", f"corpus={folder}", "card.after_prepare=false"]
    command += ["data.valid_share=0.3", "data.augment.voices=1", f"data.augment.voice={tmp_path / 'voice'}"]
    for count in (10, 30):
        rows = [ManifestRow(f"u{n}", folder / f"u{n}.wav", "one two", f"s{n % 2}") for n in range(count)]
        for row in rows:
            soundfile.write(row.path, hum(0.6), 16_000)
        write_manifest(folder / "manifest.jsonl", rows)
        assert main(command) == 0
        made = read_manifest(tmp_path / "run" / "augmented" / "manifest.jsonl")
        held_out.append({row.id for row in made if row.split == "valid"})
    first, second = held_out
    assert len(first) == 3
    assert {name for name in second if int(name[1:]) < 10} == first


def test_what_is_missing_is_said_before(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["prepare", f"run_dir={tmp_path / 'run'}", f"corpus={corpus}", "data.augment.voices=2"]
    assert main(command) == 2
    assert "name the voice that converts, data.augment.voice=FILE" in capsys.readouterr().err
    random_voice().save(tmp_path / "voice")
    assert main([*command, f"data.augment.voice={tmp_path / 'voice'}", "part=plan"]) == 2
    assert "prepare in one call" in capsys.readouterr().err
    random_voice(has_student=False).save(tmp_path / "deaf")
    assert main([*command, f"data.augment.voice={tmp_path / 'deaf'}", "--dry-run"]) == 2
    assert "this voice converts nothing" in capsys.readouterr().err


def test_data_of_the_corpus_alone_is_refused_before_anything_is_converted(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(folder: Path, options: PrepareOptions) -> None:
        assert options.corpus == str(tmp_path / "run" / "augmented" / "manifest.jsonl")
        raise UserError("it was made from another corpus")

    for module in (augment, prepare):
        monkeypatch.setattr(module, "check_preparing", refuse)
    monkeypatch.setattr(augment, "_converted", lambda *_: pytest.fail("it is refused before"))
    random_voice().save(tmp_path / "voice")
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / INDEX_FILE).write_text("{}")
    command = ["prepare", f"run_dir={tmp_path / 'run'}", f"corpus={corpus}", "data.augment.voices=1"]
    command.append(f"data.augment.voice={tmp_path / 'voice'}")
    for more in ([], ["--dry-run"]):
        assert main([*command, *more]) == 2
        assert "made from another corpus" in capsys.readouterr().err
