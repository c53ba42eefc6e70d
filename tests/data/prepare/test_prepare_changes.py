"""A corpus that changes after it was prepared costs the shards whose rows changed, and nothing else is made anew."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import soundfile

from lst.cli import main
from lst.data.audio import read_audio
from lst.data.prepare import prepare
from lst.data.prepare.lists import read_plan
from lst.data.prepared import manifest_rows
from lst.data.shards import ShardReader
from lst.errors import ProblemsError
from tests.data.conftest import MakeCorpus, files_in, hashes, left_out, options, times
from tests.data.prepare.test_prepare_faults import shards_made_since, stop_at_replace

FITTED = ("units.safetensors", "text.model", "vocabulary.json")


@pytest.fixture
def own(make_corpus: MakeCorpus, tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus")


@pytest.fixture
def data(own: Path, tmp_path: Path) -> Path:
    """The corpus ``own`` prepared."""
    prepare(tmp_path / "data", options(own))
    return tmp_path / "data"


def rows_of(corpus: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]


def write_rows(corpus: Path, rows: list[dict[str, str]]) -> None:
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def shard_of(folder: Path, utterance_id: str) -> str:
    """Which shard holds an utterance, by its receipt."""
    (name,) = [
        path.stem
        for path in (folder / "shards").glob("*.json")
        if utterance_id in json.loads(path.read_text())["samples"]["key"]
    ]
    return name


def tars(names: list[str]) -> list[str]:
    return sorted(name.removesuffix(".tar") for name in names if name.endswith(".tar"))


def add_rows(corpus: Path, names: list[str]) -> None:
    rows = rows_of(corpus)
    for number, name in enumerate(names):
        shutil.copy(corpus / f"utt_{number % 8}.wav", corpus / f"{name}.wav")
        rows.append({**rows[number % 8], "id": name, "path": f"{name}.wav"})
    write_rows(corpus, rows)


@pytest.mark.parametrize("how", ["touched", "copied", "hidden file", "folder beside it", "other order"])
def test_what_changes_no_row_makes_nothing_anew(
    own: Path, data: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = times(data)
    if how == "touched":
        for path in own.iterdir():
            os.utime(path, ns=(1, 1))
    elif how == "copied":
        for path in own.iterdir():
            shutil.copy(path, own / ".copy")
            os.replace(own / ".copy", path)
    elif how == "hidden file":
        (own / ".DS_Store").write_text("x")
    elif how == "folder beside it":
        (own / "notes").mkdir()
        (own / "notes/read.me").write_text("x")
    else:
        write_rows(own, rows_of(own)[::-1])
    prepare(data, options(own))
    after, kept = times(data), {"seen.json", "audio_hashes.npy"}
    assert {name: after[name] for name in after if name not in kept} == {
        name: before[name] for name in before if name not in kept
    }
    assert "nothing to do" in capsys.readouterr().err
    # What was seen is kept, so that the next run looks at no row.
    prepare(data, options(own))
    assert times(data) == after


@pytest.mark.parametrize("what", ["text", "speaker", "recording"])
def test_one_row_that_changes_costs_its_shard(
    own: Path, data: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, content, name = times(data), hashes(data), shard_of(data, "utt_4")
    rows = rows_of(own)
    if what == "recording":
        path = own / "utt_4.wav"
        stat, sound = path.stat(), 0.5 * read_audio(path)
        soundfile.write(path, sound, 16_000)
        assert path.stat().st_size == stat.st_size
    else:
        rows[4][what] = "She put the green hat away." if what == "text" else "somebody else"
        write_rows(own, rows)
    capsys.readouterr()
    prepare(data, options(own))
    assert tars(shards_made_since(before, data)) == [name]
    now = hashes(data)
    assert all(now[file] == content[file] for file in content if "shards/" in file and name not in file)
    assert all(now[file] == content[file] for file in FITTED)
    said = capsys.readouterr().err
    kind = {"text": "changed texts", "speaker": "rows changed otherwise", "recording": "changed recordings"}[what]
    assert f"{kind}: 1, utt_4" in said
    assert f"shards that are made again: 1 of 4, {name}" in said
    assert said.index("shards that are made again") < said.index("shards: 1 made")


def test_recording_in_the_place_of_another_with_its_size_and_time_is_noticed(own: Path, data: Path) -> None:
    path, name, before = own / "utt_4.wav", shard_of(data, "utt_4"), times(data)
    stat, sound = path.stat(), 0.5 * read_audio(path)
    soundfile.write(own / "other.wav", sound, 16_000)
    os.utime(own / "other.wav", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(own / "other.wav", path)
    prepare(data, options(own))
    assert tars(shards_made_since(before, data)) == [name]


def test_touching_one_recording_reads_it_alone_again(own: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lst.data.prepare import hashing

    read: list[str] = []
    hash_file = hashing.hash_file
    monkeypatch.setattr(
        hashing, "hash_file", lambda path, *rest: read.append(Path(path).name) or hash_file(path, *rest)
    )
    os.utime(own / "utt_2.wav", ns=(1, 1))
    prepare(data, options(own))
    assert read == ["utt_2.wav"]


def test_recordings_of_a_named_manifest_are_looked_at_too(own: Path, tmp_path: Path) -> None:
    """They may lie anywhere: no folder's listing tells of them."""
    wanted = options(own / "manifest.jsonl")
    prepare(tmp_path / "data", wanted)
    before, name = times(tmp_path / "data"), shard_of(tmp_path / "data", "utt_4")
    prepare(tmp_path / "data", wanted)
    assert times(tmp_path / "data") == before
    sound = 0.5 * read_audio(own / "utt_4.wav")
    soundfile.write(own / "utt_4.wav", sound, 16_000)
    prepare(tmp_path / "data", wanted)
    assert tars(shards_made_since(before, tmp_path / "data")) == [name]


def test_new_rows_join_the_shards_of_their_ids_and_gone_rows_leave_theirs(own: Path, data: Path) -> None:
    before, content, splits = times(data), hashes(data), {row.id: row.split for row in manifest_rows(data).values()}
    touched = {shard_of(data, "utt_1"), shard_of(data, "utt_3")}
    add_rows(own, ["utt_1b"])
    rows = [row for row in rows_of(own) if row["id"] != "utt_3"]
    write_rows(own, rows)
    (own / "utt_3.wav").unlink()
    prepare(data, options(own))
    now = hashes(data)
    train_of_1b = shard_of(data, "utt_1b")
    made = tars(shards_made_since(before, data))
    assert set(made) <= touched | {train_of_1b}
    assert all(now[file] == content[file] for file in content if "shards/" in file and Path(file).stem not in made)
    ids = {item.id for split in ("train", "valid") for item in ShardReader(data, split)}
    assert ids == {row["id"] for row in rows}
    # Held-out utterances stay so.
    after = {row.id: row.split for row in manifest_rows(data).values()}
    assert {name: split for name, split in after.items() if name in splits} == {
        name: split for name, split in splits.items() if name in after
    }


def test_names_that_come_again_in_a_new_folder_change_no_id(own: Path, tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "id"} for row in rows_of(own)]
    write_rows(own, rows)
    data = tmp_path / "data"
    prepare(data, options(own))
    before, held_out = hashes(data), {row.id for row in manifest_rows(data).values() if row.split == "valid"}
    (own / "more").mkdir()
    for number in range(3):
        shutil.copy(own / f"utt_{number}.wav", own / "more")
    more = [{**rows[number], "path": f"more/utt_{number}.wav"} for number in range(3)]
    write_rows(own, [*more, *rows])
    prepare(data, options(own))
    now = {row.id: row.split for row in manifest_rows(data).values()}
    assert set(now) == {f"utt_{n}" for n in range(8)} | {f"more_utt_{n}" for n in range(3)}
    assert {name for name, split in now.items() if split == "valid" and name.startswith("utt_")} == held_out
    shutil.rmtree(own / "more")
    write_rows(own, rows)
    prepare(data, options(own))
    assert {name: hashes(data)[name] for name in before if name.startswith("shards/")} == {
        name: before[name] for name in before if name.startswith("shards/")
    }


def test_a_shard_that_lost_all_its_rows_is_taken_away(own: Path, data: Path) -> None:
    (shard,) = [shard for shard in read_plan(data) if shard.name == "train-000001"]
    gone = [row["id"] for row in rows_of(own) if shard_of(data, row["id"]) == shard.name]
    write_rows(own, [row for row in rows_of(own) if row["id"] not in gone])
    for name in gone:
        (own / f"{name}.wav").unlink()
    prepare(data, options(own))
    assert "shards/train-000001.tar" not in files_in(data)
    assert "shards/train-000001.json" not in files_in(data)
    assert len(list(ShardReader(data, "train"))) == 6 - len(gone)


def test_a_shard_that_outgrows_twice_its_size_is_cut_and_the_others_stay(own: Path, data: Path) -> None:
    before = times(data)
    first = [shard for shard in read_plan(data) if shard.split == "train"]
    last = max(first, key=lambda shard: shard.first_id)
    add_rows(own, [f"utt_9{number}" for number in range(6)])
    prepare(data, options(own))
    plan = {shard.name: shard for shard in read_plan(data)}
    made = set(tars(shards_made_since(before, data)))
    grown = {name for name in plan if name not in {shard.name for shard in first} and name.startswith("train")}
    assert grown
    assert made <= {last.name, *grown, *(name for name in plan if name.startswith("valid"))}
    assert max(shard.num_rows for shard in plan.values()) <= 4
    assert [plan[shard.name].first_id for shard in first] == [shard.first_id for shard in first]


def test_refit_chooses_everything_anew_as_if_the_corpus_had_been_so_from_the_first(
    own: Path, data: Path, tmp_path: Path
) -> None:
    add_rows(own, [f"utt_9{number}" for number in range(6)])
    prepare(data, options(own))
    prepare(tmp_path / "fresh", options(own))
    assert hashes(data) != hashes(tmp_path / "fresh")
    prepare(data, options(own, refit=True))
    assert hashes(data) == hashes(tmp_path / "fresh")


def test_stopped_at_every_file_of_an_update_it_ends_as_if_it_had_not_been(
    own: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = shutil.copytree(data, tmp_path / "undisturbed")
    rows = rows_of(own)
    rows[4]["text"] = "She put the green hat away."
    write_rows(own, [row for row in rows if row["id"] != "utt_6"])
    (own / "utt_6.wav").unlink()
    add_rows(own, [f"utt_9{number}" for number in range(5)])
    prepare(undisturbed, options(own))
    with monkeypatch.context() as patch:
        done: list[str] = []

        def stop(name: str) -> BaseException | None:
            if name in done or name.startswith(".lock"):
                return None
            done.append(name)
            return KeyboardInterrupt()

        stop_at_replace(patch, stop)
        for _ in range(40):
            try:
                prepare(data, options(own))
                break
            except KeyboardInterrupt:
                continue
    assert len(done) > 8
    assert hashes(data) == hashes(undisturbed)


def test_workers_change_no_byte_of_an_update(own: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    add_rows(own, [f"utt_9{number}" for number in range(5)])
    prepare(data, options(own))
    prepare(other, options(own, num_workers=2))
    assert hashes(data) == hashes(other)


def test_an_update_that_fails_keeps_what_was_fitted(own: Path, data: Path) -> None:
    fitted = {name: hashes(data)[name] for name in FITTED}
    rows, good = rows_of(own), rows_of(own)
    for row in rows[:3]:
        row["text"] = "this is far too much to say in so short a time as there is for all of it " * 2
    write_rows(own, rows)
    with pytest.raises(ProblemsError, match="could not be aligned"):
        prepare(data, options(own))
    assert len(left_out(data)) == 3
    good[0]["speaker"] = "somebody else"
    write_rows(own, good)
    prepare(data, options(own))
    assert {name: hashes(data)[name] for name in FITTED} == fitted
    assert left_out(data) == []


def test_texts_that_change_cost_their_shard(own: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("A line that nobody says.\nAnother one of them.\n")
    prepare(tmp_path / "data", options(own, texts))
    before = times(tmp_path / "data")
    texts.write_text("A line that nobody says.\nAnother one of these.\n")
    prepare(tmp_path / "data", options(own, texts))
    assert tars(shards_made_since(before, tmp_path / "data")) == ["text-000000"]
    assert [item.text for item in ShardReader(tmp_path / "data", "text")][1] == "Another one of these."


def test_a_run_inside_its_corpus_is_never_taken_for_it(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(own)
    small = ["corpus=.", "tokenizer.num_units=16", "tokenizer.text_vocab_size=300", "num_workers=1"]
    assert main(["prepare", *small, "run_dir=runs/a", "card.after_prepare=false"]) == 0
    before = times(own / "runs")
    assert main(["prepare", *small, "run_dir=runs/a", "card.after_prepare=false"]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert {name: time for name, time in times(own / "runs").items() if "commands" not in name} == {
        name: time for name, time in before.items() if "commands" not in name
    }
    assert main(["check", "corpus=."]) == 0
    assert "utterances 8 good utterances 8" in " ".join(capsys.readouterr().out.split())


def test_the_plan_says_what_would_be_made_again(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [f"corpus={own}", "tokenizer.num_units=16", "tokenizer.text_vocab_size=300", "num_workers=1"]
    small += ["data.shard_utterances=2", "card.after_prepare=false", f"run_dir={tmp_path}/run"]
    assert main(["prepare", *small]) == 0
    rows = rows_of(own)
    rows[4]["text"] = "She put the green hat away."
    write_rows(own, rows)
    before = times(tmp_path / "run")
    assert main(["prepare", *small, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "changed texts: 1, utt_4" in said.out + said.err
    assert times(tmp_path / "run") == before
