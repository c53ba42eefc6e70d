"""Source, licence and consent: read from every layout that has them, and left alone where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.data.corpora import load_corpus
from lst.data.corpora.manifest import read_manifest, row_record, write_manifest
from lst.data.corpora.provenance import provenance_of
from lst.data.corpora.rows import ManifestRow
from lst.data.shards.formats import Stated
from lst.data.shards.provenance import SourceHours, licence_warnings, stated_counts
from lst.data.utterance import Provenance, Utterance

STATED = Provenance("", "podcast", "CC-BY-NC-4.0", "true")


def write_audio(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.zeros(16_000, np.float32), 16_000)


def manifest(folder: Path) -> None:
    write_audio(folder, "u1.wav", "u2.wav")
    rows = [
        {"path": "u1.wav", "text": "a", "Source": "podcast", "License": "CC-BY-NC-4.0", "consent": True},
        {"path": "u2.wav", "text": "b", "source": None, "license": "NaN", "consent": float("nan")},
    ]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(folder: Path) -> None:
    write_audio(folder, "u1.wav", "u2.wav")
    (folder / "manifest.tsv").write_text(
        "path\ttext\tdataset\tlicence\tspeaker_consent\nu1.wav\ta\tpodcast\tCC-BY-NC-4.0\ttrue\nu2.wav\tb\t\t\tN/A\n"
    )


def audiofolder(folder: Path) -> None:
    write_audio(folder, "train/u1.wav", "train/u2.wav")
    (folder / "train/metadata.csv").write_text(
        "file_name,transcription,source,license,consent\nu1.wav,a,podcast,CC-BY-NC-4.0,true\nu2.wav,b,,,\n"
    )


def nemo(folder: Path) -> None:
    write_audio(folder, "u1.wav", "u2.wav")
    rows = [
        {"source": "podcast", "license": "CC-BY-NC-4.0", "consent": "true"},
        {"text": "b"},
    ]
    lines = [{"audio_filepath": f"u{n}.wav", "text": "a", "duration": 1.0, **row} for n, row in enumerate(rows, 1)]
    (folder / "train.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


def gigaspeech(folder: Path) -> None:
    write_audio(folder, "u1.wav", "u2.wav")
    segment = {"sid": "u1_0", "begin_time": 0.0, "end_time": 0.5, "text_tn": "A", "consent": True}
    other = {"sid": "u2_0", "begin_time": 0.0, "end_time": 0.5, "text_tn": "B"}
    first = {"aid": "u1", "path": "u1.wav", "source": "podcast", "license": "CC-BY-NC-4.0", "segments": [segment]}
    audios = [first, {"aid": "u2", "path": "u2.wav", "segments": [other]}]
    (folder / "GigaSpeech.json").write_text(json.dumps({"audios": audios}))


def lhotse(folder: Path) -> None:
    write_audio(folder, "u1.wav", "u2.wav")
    cuts = []
    for number, (of_cut, of_text) in enumerate(
        [({"License": "CC-BY-NC-4.0", "source": "podcast"}, {"consent": True}), ({}, {})], 1
    ):
        source = {"type": "file", "channels": [0], "source": f"u{number}.wav"}
        recording = {"id": f"u{number}", "sources": [source], "sampling_rate": 16_000, "duration": 1.0}
        spoken = {"id": f"s{number}", "start": 0.0, "duration": 1.0, "channel": 0, "text": "a", "custom": of_text}
        cuts.append(
            {
                "id": f"c{number}",
                "start": 0.0,
                "duration": 1.0,
                "channel": 0,
                "recording": recording,
                "supervisions": [spoken],
                "custom": of_cut,
            }
        )
    (folder / "cuts.jsonl").write_text("".join(json.dumps(cut) + "\n" for cut in cuts))


def common_voice(folder: Path) -> None:
    write_audio(folder, "clips/u1.mp3.wav", "clips/u2.wav")
    (folder / "train.tsv").write_text(
        "client_id\tpath\tsentence\tsource\tlicense\tconsent\n"
        "x\tu1.mp3.wav\ta\tpodcast\tCC-BY-NC-4.0\ttrue\ny\tu2.wav\tb\t\t\t\n"
    )


@pytest.mark.parametrize("write", [manifest, table, audiofolder, nemo, gigaspeech, lhotse, common_voice])
def test_rows_of_every_layout_state_theirs(write, tmp_path: Path) -> None:
    write(tmp_path)
    rows, problems, layout = load_corpus(tmp_path)
    assert not problems, layout
    first, second = sorted(rows, key=lambda row: str(row.path))
    assert (first.provenance, second.provenance) == (STATED, Provenance())


def test_what_is_stated_survives_the_list_of_prepared_data(tmp_path: Path) -> None:
    stated = Provenance("talks", "a page", "CC0-1.0", "form 7")
    rows = [
        ManifestRow("u1", tmp_path / "a.wav", "a", provenance=stated),
        ManifestRow("u2", tmp_path / "b.wav", "b"),
    ]
    write_manifest(tmp_path / "list.jsonl", rows)
    assert [row.provenance for row in read_manifest(tmp_path / "list.jsonl")] == [stated, Provenance()]
    # A row that states nothing is written as before, so that its shard stays.
    assert row_record(rows[1]).keys() == {
        *("id", "path", "text", "speaker", "split", "duration_s", "ending_start_word")
    }


def test_a_value_of_another_kind_is_kept_as_text() -> None:
    assert provenance_of({"source": {"url": "x"}, "license": ["CC0"], "consent": 0}) == Provenance(
        "", '{"url": "x"}', '["CC0"]', "0"
    )


def make_utterance(number: int, provenance: Provenance) -> Utterance:
    return Utterance(f"u{number}", "s", "a", 1.5, np.zeros(3, np.uint16), provenance=provenance)


def test_a_record_gives_an_utterance_back() -> None:
    utterance = make_utterance(1, STATED)
    record = utterance.to_record()
    assert (record["source"], record["licence"], record["consent"]) == STATED[1:]
    assert "corpus" not in record
    assert Utterance.from_record(record, utterance.units).provenance == STATED
    assert not {"corpus", "source", "licence", "consent"} & make_utterance(1, Provenance()).to_record().keys()


def test_shards_add_up_licences_and_consents() -> None:
    stated = [Provenance(licence="CC0", consent=f"form {number}") for number in range(20)]
    utterances = [make_utterance(number, one) for number, one in enumerate([*stated, Provenance()])]
    assert stated_counts(utterances) == [
        Stated(licence="CC0", consent="various", num_utterances=20, duration_s=30.0),
        Stated(licence="", consent="", num_utterances=1, duration_s=1.5),
    ]
    assert stated_counts([make_utterance(1, Provenance(source="podcast"))]) == []


@pytest.mark.parametrize(
    ("licences", "said"),
    [
        (["CC-BY-4.0"], []),
        (["CC-BY-4.0", ""], ["1.00 h of 2.00 h state no licence."]),
        (["CC-BY-4.0", "CC-BY-NC-SA-4.0"], ["forbid commercial use mixed with others: CC-BY-NC-SA-4.0: 1.00 h"]),
        (["https://creativecommons.org/licenses/by-nc/4.0/"], ["forbid commercial use: https://"]),
        (["", "non-commercial"], ["state no licence", "forbid commercial use mixed"]),
    ],
)
def test_licences_that_limit_a_model_are_said(licences: list[str], said: list[str]) -> None:
    found = licence_warnings([SourceHours("a", licence, "", 1, 1.0) for licence in licences])
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))


def test_a_refused_consent_is_said() -> None:
    (found,) = licence_warnings([SourceHours("a", "CC0", "false", 1, 1.0)])
    assert "consent is stated as refused" in found
