"""``lst check``: every problem of a corpus and of prepared data at once, by kind, and an exit status that tells."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lst.cli import main
from lst.data.checks.corpus import check_corpus
from lst.data.checks.prepared import check_prepared, word_faults
from lst.data.checks.report import CheckReport
from lst.data.shards import load_index, write_index
from lst.data.utterance import Utterance, Word
from lst.errors import UserError
from lst.model.checkpoint import save_model
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel


def write_audio(path: Path, duration_s: float = 1.0, rate_hz: int = 16_000, num_channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (round(duration_s * rate_hz), num_channels))
    soundfile.write(path, samples, rate_hz)
    return path


def faulty_corpus(folder: Path) -> Path:
    write_audio(folder / "good.wav")
    write_audio(folder / "low.wav", rate_hz=8_000, num_channels=2)
    write_audio(folder / "odd.wav", rate_hz=96_001)
    damaged = bytearray(write_audio(folder / "damaged.flac").read_bytes())
    damaged[5_000:5_050] = bytes(50)
    (folder / "damaged.flac").write_bytes(damaged)
    rows = [
        {"id": "good", "path": "good.wav", "text": "hello there", "speaker": "ann", "split": "train"},
        {"id": "low", "path": "low.wav", "text": "good morning", "channel": 1, "split": "dev"},
        {"id": "part", "path": "good.wav", "text": "hello", "start_s": 0.25, "duration_s": 0.5},
        {"id": "good", "path": "good.wav", "text": "again"},
        {"id": "no.dots", "path": "good.wav", "text": "again"},
        {"id": "mute", "path": "good.wav", "text": " "},
        {"id": "gone", "path": "gone.wav", "text": "hello"},
        {"id": "odd", "path": "odd.wav", "text": "hello"},
        {"id": "late", "path": "good.wav", "text": "hello", "start_s": 0.9, "duration_s": 0.5},
        {"id": "right", "path": "good.wav", "text": "hello", "channel": 1},
        {"id": "stated", "path": "good.wav", "text": "hello", "duration_s": 3},
        {"id": "timed", "path": "good.wav", "text": "a b", "words": [["a", 0.5, 0.6], ["b", 0.1, 0.2]]},
        {"id": "damaged", "path": "damaged.flac", "text": "hello"},
        {"id": "fast", "path": "good.wav", "text": "one two three four five six seven eight nine"},
        "not json",
    ]
    lines = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    (folder / "manifest.jsonl").write_text(lines)
    return folder


def test_every_problem_of_a_corpus_is_there_by_kind(tmp_path: Path) -> None:
    folder = faulty_corpus(tmp_path / "corpus")
    write_audio(folder / "extra.wav")
    report = check_corpus(folder, "auto", 0.2, 60.0, decode=False, max_examples=0)
    assert dict(report.counts) == {
        "id": 2,
        "transcript": 1,
        "missing audio": 1,
        "sample rate": 1,
        "segment or channel": 2,
        "duration": 1,
        "timed words": 1,
        "row": 1,
        "missing transcript": 1,
    }
    assert report.statistics["utterances"] == 14
    assert report.statistics["good utterances"] == 5
    assert report.statistics["hours"] * 3600 == pytest.approx(1 + 1 + 0.5 + 1 + 1)
    assert report.statistics["splits"] == {"none": 12, "train": 1, "valid": 1}
    assert report.statistics["sample rates (Hz)"] == {"16000": 11, "8000": 1, "96001": 1}
    assert any("1 at 8,000 Hz" in note for note in report.notes)
    assert any("1 utterances have fewer" in note for note in report.notes)
    decoded = check_corpus(folder, "auto", 0.2, 60.0, decode=True, max_examples=1)
    assert decoded.counts == report.counts + type(report.counts)({"unreadable audio": 1})
    assert "damaged.flac" in decoded.examples["unreadable audio"][0]
    assert "… and 1 more" in decoded.as_text()


def test_the_command_prints_writes_and_exits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = faulty_corpus(tmp_path / "corpus")
    written = tmp_path / "out" / "report.json"
    assert main(["check", f"corpus={folder}", f"check.json={written}", "check.examples=1"]) == 1
    out = capsys.readouterr().out
    assert "10 problems:" in out
    assert "id: 2" in out
    assert "segment or channel: 2" in out
    record = json.loads(written.read_text())
    assert record["num_problems"] == record["reports"][0]["num_problems"] == 10
    assert record["reports"][0]["problems"]["id"]["count"] == 2
    assert len(record["reports"][0]["problems"]["id"]["examples"]) == 1
    sound = tmp_path / "sound"
    write_audio(sound / "a.wav")
    (sound / "manifest.tsv").write_text("path\ttext\na.wav\thello\n")
    assert main(["check", f"corpus={sound}"]) == 0
    assert "no problem found" in capsys.readouterr().out
    # What cannot be read at all is a problem of the corpus, a wrong option the user's mistake.
    assert main(["check", f"corpus={tmp_path / 'absent'}"]) == 1
    assert "does not exist" in capsys.readouterr().out
    assert main(["check", f"corpus={sound}", "layout=vtck"]) == 2
    assert "layout=vtck: allowed are auto, manifest" in capsys.readouterr().err
    assert main(["check", f"corpus={sound}", "layout=vctk"]) == 1
    assert "VCTK is a folder with txt/" in capsys.readouterr().out
    assert main(["check", f"corpus={sound}", f"run_dir={tmp_path / 'run'}"]) == 1
    assert "index" in capsys.readouterr().out


def test_help_explains_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("check.examples=5", "check.decode=False", "check.json=null", "layout=auto", "corpus=null"):
        assert option in out


def test_segments_of_one_file_are_one_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 32_000), 16_000)
    rows = [{"path": "a.wav", "text": "hello there", "start_s": start, "duration_s": 0.5} for start in (0, 0.5, 1)]
    (tmp_path / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    statistics = check_corpus(tmp_path, "auto", 0.1, 10, decode=False, max_examples=5).statistics
    assert (statistics["utterances"], statistics["files"]) == (3, {"wav": 1})


# Prepared data


def test_what_was_prepared_has_no_problem(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_prepared(prepared, full=True, max_examples=5)
    assert (dict(report.counts), report.examples) == ({}, {})
    assert sum(report.statistics[split]["utterances"] for split in ("train", "valid")) == 8
    assert report.statistics["units in use"].endswith("of 16")
    assert main(["check", f"run_dir={prepared.parent}"]) == 0
    assert "no problem found" in capsys.readouterr().out


Members = dict[str, bytes]


def alter(folder: Path, name: str, change: Callable[[list[tuple[str, bytes]]], None]) -> None:
    """Changes members of a shard and makes the index agree, as a faulty program that had written it would."""
    path = folder / "shards" / f"{name}.tar"
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    change(members)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member_name, content in members:
            info = tarfile.TarInfo(member_name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(buffer.getvalue())
    index = json.loads((folder / "index.json").read_text())
    for entries in index["splits"].values():
        for entry in entries:
            if entry["name"] == name:
                entry["num_bytes"] = len(buffer.getvalue())
                entry["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    (folder / "index.json").write_text(json.dumps(index))


def in_record(**changes: Any) -> Callable[[list[tuple[str, bytes]]], None]:
    """A change of the first sample's record: values, or functions of the present ones."""

    def change(members: list[tuple[str, bytes]]) -> None:
        place = next(n for n, (name, _) in enumerate(members) if name.endswith(".json"))
        name, content = members[place]
        record = json.loads(content)
        columns = ("words", "word_starts", "word_ends", "word_scores")
        # A word at a time here, in columns there.
        record["words"] = [list(word) for word in zip(*(record[column] for column in columns), strict=True)]
        for key, value in changes.items():
            record[key] = value(record[key]) if callable(value) else value
        if all(isinstance(word, list) for word in record["words"]):
            record |= {column: [word[n] for word in record["words"]] for n, column in enumerate(columns)}
        members[place] = (name, json.dumps(record).encode())

    return change


def in_units(edit: Callable[[np.ndarray], np.ndarray]) -> Callable[[list[tuple[str, bytes]]], None]:
    def change(members: list[tuple[str, bytes]]) -> None:
        place = next(n for n, (name, _) in enumerate(members) if name.endswith(".npy"))
        name, content = members[place]
        buffer = io.BytesIO()
        np.save(buffer, edit(np.load(io.BytesIO(content))))
        members[place] = (name, buffer.getvalue())

    return change


def rename(members: list[tuple[str, bytes]]) -> None:
    """Gives the first sample the second one's key."""
    keys = list(dict.fromkeys(name.partition(".")[0] for name, _ in members))
    for place, (name, content) in enumerate(members):
        if name.startswith(f"{keys[0]}."):
            members[place] = (name.replace(keys[0], keys[1], 1), content)


CASES: dict[str, tuple[Callable[[list[tuple[str, bytes]]], None], dict[str, str]]] = {
    "unit outside": (in_units(lambda units: units + np.uint16(16)), {"units": "outside the codebook of 16"}),
    "units of floats": (in_units(lambda units: units.astype(np.float32)), {"units": "units are float32"}),
    "other count": (in_units(lambda units: units[:-1]), {"sample": "units are recorded"}),
    "duration": (in_record(duration_s=lambda value: value * 2), {"number of units": "but"}),
    "duration of NaN": (in_record(duration_s=float("nan")), {"number of units": "the duration is nan s"}),
    "empty text": (in_record(text=""), {"text": "the text is empty"}),
    "another text": (in_record(text=lambda text: f"so {text}"), {"text": "the words do not give the text: at word 0"}),
    "no words": (in_record(words=[]), {"words": "has speech, but no words"}),
    "words that are none": (in_record(words=[3]), {"sample": "cannot be read"}),
    "another id": (in_record(id="else-where"), {"id": "another than the key"}),
    "missing field": (in_record(speaker=lambda _: None, id=lambda _: None), {"id": "id None is not made of"}),
    "not json": (lambda members: members.__setitem__(0, (members[0][0], b"{")), {"sample": "cannot be read"}),
    "one member": (lambda members: members.pop(0), {"sample": "json and units.npy are needed"}),
    "same key twice": (rename, {"sample": "", "id": ""}),
    "a sample fewer": (
        lambda members: members.__delitem__(slice(0, 2)),
        {"index": "the index says", "left out": "is in no shard"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_faulty_samples_are_named(copy: Path, case: str) -> None:
    change, expected = CASES[case]
    with tarfile.open(copy / "shards" / "train-000000.tar") as tar:
        if case in ("not json", "one member") and not tar.getnames()[0].endswith(".json"):
            pytest.skip("the first member is another")
    alter(copy, "train-000000", change)
    report = check_prepared(copy, full=True, max_examples=0)
    for kind, reason in expected.items():
        if case == "same key twice" and kind == "sample":
            continue
        assert kind in report.counts, (case, dict(report.counts))
        assert any(reason in example for example in report.examples[kind]), report.examples
        assert any("train-000000" in example for examples in report.examples.values() for example in examples)


def test_many_kinds_of_damage_are_all_there(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(copy, "train-000000", in_units(lambda units: units + np.uint16(100)))
    content = bytearray((copy / "shards" / "train-000001.tar").read_bytes())
    content[600] ^= 1
    (copy / "shards" / "train-000001.tar").write_bytes(content)
    whole = (copy / "shards" / "train-000002.tar").read_bytes()
    (copy / "shards" / "train-000002.tar").write_bytes(whole[:1_000])
    (copy / "shards" / "valid-000000.tar").unlink()
    (copy / "text.model").write_bytes((copy / "text.model").read_bytes() + b"x")
    report = check_prepared(copy, full=True, max_examples=0)
    assert {"units", "shard hash", "shard file", "left out", "codebook, tokenizer or vocabulary"} <= set(report.counts)
    assert any("valid-000000.tar is missing" in example for example in report.examples["shard file"])
    assert any("train-000002.tar has 1,000 bytes" in example for example in report.examples["shard file"])
    without_hashes = check_prepared(copy, full=False, max_examples=0)
    assert "shard hash" not in without_hashes.counts
    (copy / "vocabulary.json").unlink()
    assert "vocabulary.json" in str(check_prepared(copy, full=False, max_examples=0).examples)
    assert main(["check", f"run_dir={copy.parent}"]) == 1
    assert "shard hash: 1" in capsys.readouterr().out


def test_an_index_that_is_no_index_is_one_problem(copy: Path) -> None:
    index = json.loads((copy / "index.json").read_text())
    for content in ("", "{", "[1]", json.dumps({**index, "splits": 5}), json.dumps({**index, "version": 99})):
        (copy / "index.json").write_text(content)
        assert check_prepared(copy, full=True, max_examples=5).counts["index"] == 1
    broken = {**index, "splits": {"train": [{"name": "train-000000"}]}}
    (copy / "index.json").write_text(json.dumps(broken))
    assert check_prepared(copy, full=True, max_examples=5).counts["index"] >= 1


def words_of(*words: tuple[Any, ...]) -> Utterance:
    text = " ".join(str(word[0]) for word in words)
    return Utterance("u", "ann", text, 0.4, np.zeros(10, np.uint16), tuple(Word(*word) for word in words))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([("a", 0, 4, -1.0), ("b", 4, 10, 0)], ""),
        ([("a", 2, 4, -1.0), ("b", 6, 8, 0)], ""),
        ([("a", 4, 6, -1.0), ("b", 2, 4, 0)], "begins before the one before it ends (frame 6)"),
        ([("a", 0, 5, -1.0), ("b", 4, 8, 0)], "begins before the one before it ends (frame 5)"),
        ([("a", 0, 11, -1.0)], "is not within the 10 frames"),
        ([("a", -1, 4, -1.0)], "is not within the 10 frames"),
        ([("a", 4, 4, -1.0)], "has no length"),
        ([("a", 5, 4, -1.0)], "has no length"),
        ([(" ", 0, 4, -1.0)], "has an empty text"),
        ([("a", 0, 4, float("nan"))], "has the score nan"),
        ([("a", 0, 4, None)], "has the score None"),
        ([("a", 0.5, 4, 0.0)], "must be a text and two whole numbers"),
        ([(1, 0, 4, 0.0)], "must be a text and two whole numbers"),
    ],
)
def test_words_and_their_faults(words: list[tuple[Any, ...]], reason: str) -> None:
    faults = [message for _, message in word_faults(words_of(*words))]
    assert len(faults) == bool(reason), faults
    assert all(reason in fault for fault in faults)


def test_words_of_no_frame_where_the_source_has_them() -> None:
    utterance = words_of(("a", 0, 4, 0.0), ("b", 4, 4, 0.0), ("c", 4, 10, 0.0))
    assert word_faults(utterance, allows_empty_words=True) == []


def test_a_report_keeps_as_many_examples_as_asked_for() -> None:
    report = CheckReport("x", 2)
    report.extend("kind", ("one", "two", "three"), "place")
    assert report.examples == {"kind": ["place: one", "place: two"]}
    assert report.to_record()["problems"] == {"kind": {"count": 3, "examples": ["place: one", "place: two"]}}
    assert "… and 1 more (check.examples=0 shows all)" in report.as_text()


def test_units_without_audio_are_checked_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = '{"file_id": "%s", "interleaved": "<LST MODE SEP>TEXT so<LST MODE SEP>HUBERT 1 2 3 4 5 6 7 8"}'
    (tmp_path / "train.on_the_fly").write_text(f"{good % 'a'}\n{good % 'b'}\n")
    assert main(["check", f"corpus={tmp_path}"]) == 0
    assert "no problem found" in capsys.readouterr().out
    (tmp_path / "train.on_the_fly").write_text(f"{good % 'a'}\n{{\n{good % 'a'}\n")
    assert main(["check", f"corpus={tmp_path / 'train.on_the_fly'}"]) == 1
    out = capsys.readouterr().out
    assert "line 2" in out
    assert "line 3" in out


def test_texts_and_shards_that_the_index_does_not_know_are_missed(prepared: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(prepared, copy)
    index = json.loads((copy / "index.json").read_text())
    gone = [entry["name"] for entry in index["splits"].pop("valid")]
    (copy / "index.json").write_text(json.dumps(index))
    (copy / "texts.jsonl").write_text('{"id": "text-000000", "text": "so it is"}\n')
    report = check_prepared(copy, full=True, max_examples=0)
    assert gone
    assert set(report.examples["shard file"]) == {f"{name}.tar is no shard of the index" for name in gone}
    missed = report.examples["left out"]
    assert sum("of manifest.jsonl is in no shard" in problem for problem in missed) == len(missed) - 1 > 0
    assert sum("'text-000000' of texts.jsonl is in no shard" in problem for problem in missed) == 1


FILES = ["manifest.jsonl", "texts.jsonl", "left_out.jsonl", "source.json", "made_from.json", "vocabulary.json"]
FILES += ["units.safetensors", "text.model", "card.html", "card.json"]


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_was_cut_emptied_altered_or_removed_is_reported(
    copy: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / name
    whole = path.read_bytes() if path.exists() else b""
    if name.startswith("card"):
        assert main(["card", f"run_dir={copy.parent}", "seed=0"]) == 0
        whole = path.read_bytes()
    assert main(["check", f"run_dir={copy.parent}"]) == 0
    for content in (whole[:-1], b"", whole[:3] + b"~" + whole[3:], None):
        path.unlink() if content is None else path.write_bytes(content)
        if content == whole:
            continue
        assert main(["check", f"run_dir={copy.parent}"]) == 1
        shown = capsys.readouterr().out
        assert (f"{name} is missing" if content is None else f"{name} was altered") in shown, (content, shown)
    path.write_bytes(whole)
    assert main(["check", f"run_dir={copy.parent}"]) == 0


def test_an_altered_index_is_reported_and_not_opened(copy: Path) -> None:
    """One count, or another description: the shards' own hashes say nothing of them."""
    path = copy / "index.json"
    whole = json.loads(path.read_text())
    for change in ({"description": "other"}, {"num_unaligned": 7}, {"files": {}}):
        path.write_text(json.dumps({**whole, **change}))
        assert check_prepared(copy, full=True, max_examples=0).examples["index"][0].startswith("index.json was altered")
        with pytest.raises(UserError, match=r"was altered: .*index\.json does not fit its check"):
            load_index(copy)


def test_an_index_names_no_file_elsewhere(copy: Path) -> None:
    """Neither a shard nor a file whose hash is compared: ``lst check`` reads nothing outside its folder."""
    path = copy / "index.json"
    whole = load_index(copy)
    (copy.parent / "secret.json").write_text("{}")
    write_index(copy, {**whole, "files": {**whole["files"], "../secret.json": "0" * 64}})
    assert "which is no file of prepared data" in check_prepared(copy, full=True, max_examples=0).examples["file"][0]
    entry = {**whole["splits"]["train"][0], "name": "../../secret"}
    path.write_text(json.dumps({**whole, "splits": {"train": [entry]}}))
    with pytest.raises(UserError, match=r"index\.json names the shard '\.\./\.\./secret', which is no plain name"):
        load_index(copy)


def test_an_index_of_an_earlier_version_is_read_with_a_note(copy: Path) -> None:
    path = copy / "index.json"
    index = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("files", "check")}
    path.write_text(json.dumps(index))
    report = check_prepared(copy, full=True, max_examples=0)
    assert report.num_problems == 0
    assert "the index has no hashes of lists, records and card" in report.notes[0]
    load_index(copy)


def test_altered_models_of_a_run_are_reported(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final = copy.parent / "models/small/final"
    shape = ModelConfig(global_dim=8, global_layers=1, global_heads=2, local_dim=8, local_heads=2, ffn_multiple_of=8)
    save_model(final, LatentSpeechTextModel(shape, 60), PatchingConfig(), {})
    assert main(["check", f"run_dir={copy.parent}"]) == 0
    weights = bytearray((final / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (final / "model.safetensors").write_bytes(weights)
    assert main(["check", f"run_dir={copy.parent}"]) == 1
    assert "small: model.safetensors was altered: its SHA-256 is" in capsys.readouterr().out
