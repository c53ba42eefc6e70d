"""Preparing a corpus: what it leaves, that it can be stopped anywhere and started again, and what it refuses.

One small corpus of synthesised speech is prepared once; most tests damage a copy of what came out.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lst.cli import main
from lst.data.alignment import PocketsphinxAligner
from lst.data.audio import read_audio
from lst.data.config import DataConfig, InterleaveConfig, MixConfig
from lst.data.prepare import PrepareOptions, prepare
from lst.data.shards import ShardReader
from lst.data.speech_synthesis import choose_engine, pseudo_speakers, synthesize
from lst.errors import ProblemsError, UserError
from lst.files import sha256_file
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.units import UnitCodec
from lst.tokenizers.vocabulary import Vocabulary

SENTENCES = (
    "Anna ate the warm bread.",
    "Ben found a small key.",
    "The old dog slept all day.",
    "Rain fell on the green hill.",
    "She put the red hat away.",
    "He ran home before dark.",
    "Tom gave the boat a push.",
    "We sang until the sun rose.",
)
TOO_MUCH_TO_SAY = "this is far too much to say in so short a time as there is for all of it " * 2
REPOSITORY = Path(__file__).resolve().parents[2]

MakeCorpus = Callable[..., Path]


@pytest.fixture(scope="session")
def sounds() -> list[np.ndarray]:
    """The sentences spoken by two speakers in turn, 16 kHz."""
    try:
        speakers = pseudo_speakers(choose_engine("auto"), 2, seed=0)
    except UserError as error:
        pytest.skip(f"no speech engine: {error}")
    return [synthesize(text, speakers[index % 2]) for index, text in enumerate(SENTENCES)]


@pytest.fixture(scope="session")
def make_corpus(sounds: list[np.ndarray]) -> MakeCorpus:
    """Writes a corpus into a folder; texts and sounds of single utterances can be put in place of the right ones."""

    def write(folder: Path, texts: dict[int, str] | None = None, audio: dict[int, np.ndarray] | None = None) -> Path:
        folder.mkdir(parents=True)
        rows = []
        for index, (text, sound) in enumerate(zip(SENTENCES, sounds, strict=True)):
            soundfile.write(folder / f"utt_{index}.wav", (audio or {}).get(index, sound), 16_000)
            rows.append({"id": f"utt_{index}", "path": f"utt_{index}.wav", "speaker": f"speaker_{index % 2}",
                         "text": (texts or {}).get(index, text)})  # fmt: skip
        (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return write


@pytest.fixture(scope="session")
def corpus(make_corpus: MakeCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpora") / "corpus")


@pytest.fixture(scope="session")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus prepared without interruption; tests copy it and must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "reference" / "data"
    prepare(folder, options(corpus))
    return folder


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared folder with the times of its files kept."""
    return shutil.copytree(prepared, tmp_path / "data")


def options(corpus: Path | None, text: Path | None = None, **changes: Any) -> PrepareOptions:
    """Options of a small corpus; keys of ``DataConfig`` and ``TokenizerConfig`` are told apart by their names."""
    data = {"valid_share": 0.25, "shard_utterances": 2}
    tokenizer: dict[str, Any] = {"num_units": 16, "text_vocab_size": 300}
    others: dict[str, Any] = {"seed": 0, "on_error": "raise", "max_skipped_share": 0.05, "num_workers": 1}
    for key, value in changes.items():
        if key in others:
            others[key] = value
        else:
            (tokenizer if key in TokenizerConfig.__dataclass_fields__ else data)[key] = value
    return PrepareOptions(
        corpus=str(corpus) if corpus else None, text=str(text) if text else None, data=DataConfig(**data),
        tokenizer=TokenizerConfig(**tokenizer), **others,
    )  # fmt: skip


def command_line(corpus: Path, run: Path, num_workers: int) -> list[str]:
    """The same options for the command ``lst``."""
    return ["prepare", f"run_dir={run}", f"corpus={corpus}", f"num_workers={num_workers}", "data.valid_share=0.25",
            "data.shard_utterances=2", "tokenizer.num_units=16", "tokenizer.text_vocab_size=300"]  # fmt: skip


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / name) for name in files_in(folder)}


def times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in files_in(folder)}


def left_out(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "left_out.jsonl").read_text().splitlines()]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def stop_at_replace(monkeypatch: pytest.MonkeyPatch, error: Callable[[str], BaseException | None]) -> None:
    """Makes every renaming into place ask ``error`` for what to raise instead, given the file's name."""
    replace = os.replace

    def replace_or_stop(source: Any, target: Any) -> None:
        if (raised := error(Path(target).name)) is not None:
            raise raised
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_or_stop)


def test_everything_is_there_and_agrees(prepared: Path, corpus: Path) -> None:
    shards = [f"shards/{name}" for name in ("train-000000", "train-000001", "train-000002", "valid-000000")]
    named = ["index.json", "left_out.jsonl", "made_from.json", "manifest.jsonl", "source.json", "text.model",
             "texts.jsonl", "units.safetensors", "vocabulary.json"]  # fmt: skip
    assert files_in(prepared) == sorted(
        [*named, *(f"{name}{suffix}" for name in shards for suffix in (".json", ".tar"))]
    )
    index = json.loads((prepared / "index.json").read_text())
    codec, tokenizer = UnitCodec.load(prepared / "units.safetensors"), TextTokenizer.load(prepared / "text.model")
    vocabulary = Vocabulary.load(prepared / "vocabulary.json")
    assert (index["units_sha256"], index["text_sha256"]) == (codec.sha256, tokenizer.sha256)
    assert index["vocabulary"] == vocabulary.fingerprint
    assert vocabulary == Vocabulary(tokenizer.vocab_size, 16, tokenizer.sha256, codec.sha256)
    assert (index["num_left_out"], index["num_unaligned"], index["is_synthesised"]) == (0, 0, False)
    assert left_out(prepared) == []
    receipts = [receipt for group in index["splits"].values() for receipt in group]
    assert [f"shards/{receipt['name']}" for receipt in receipts] == shards
    for receipt in receipts:
        assert receipt == json.loads((prepared / "shards" / f"{receipt['name']}.json").read_text())


def test_utterances_hold_the_units_and_words_of_their_recordings(prepared: Path, corpus: Path) -> None:
    codec, aligner = UnitCodec.load(prepared / "units.safetensors"), PocketsphinxAligner()
    readers = {split: ShardReader(prepared, split) for split in ("train", "valid", "text")}
    assert [len(reader) for reader in readers.values()] == [6, 2, 0]
    found = {utterance.id: utterance for reader in readers.values() for utterance in reader}
    assert sorted(found) == [f"utt_{index}" for index in range(8)]
    for index, text in enumerate(SENTENCES):
        utterance = found[f"utt_{index}"]
        waveform = read_audio(corpus / f"utt_{index}.wav")
        assert (utterance.text, utterance.speaker) == (text, f"speaker_{index % 2}")
        assert utterance.duration_s == pytest.approx(len(waveform) / 16_000, abs=1e-3)
        assert np.array_equal(utterance.units, codec.encode(waveform))
        assert utterance.words == aligner.align(waveform, text, len(utterance.units), 25)
        assert Path(utterance.audio_path) == corpus / f"utt_{index}.wav"


def test_held_out_utterances_enter_neither_codebook_nor_tokenizer(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    """With other sounds and texts in the held-out part, both come out the same."""
    manifests = []
    for name, word in (("one", "bread"), ("two", "zebra")):
        corpus = make_corpus(tmp_path / name)
        lines = (corpus / "manifest.jsonl").read_text().splitlines()
        rows = [{**json.loads(line), "split": "dev" if n >= 6 else "train"} for n, line in enumerate(lines)]
        rows[6]["text"] = word
        (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if name == "two":
            soundfile.write(corpus / "utt_7.wav", 0.9 * read_audio(corpus / "utt_0.wav"), 16_000)
        folder = tmp_path / f"run_{name}"
        prepare(folder, options(corpus, max_unaligned_share=1.0))
        manifests.append((sha256_file(folder / "units.safetensors"), sha256_file(folder / "text.model")))
    assert manifests[0] == manifests[1]


def test_running_again_does_nothing(copy: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = times(copy)
    index = prepare(copy, options(corpus))
    assert times(copy) == before
    assert index == json.loads((copy / "index.json").read_text())
    assert "nothing to do" in capsys.readouterr().err


def test_an_interrupted_run_that_lacks_the_index_alone_makes_no_shard_again(copy: Path, corpus: Path) -> None:
    before, content = times(copy), hashes(copy)
    (copy / "index.json").unlink()
    prepare(copy, options(corpus))
    after = times(copy)
    kept = [name for name in before if name.startswith("shards/") or name in ("units.safetensors", "text.model")]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert hashes(copy) == content


@pytest.mark.parametrize("damage", ["missing tar", "missing receipt", "cut", "flipped byte", "both missing"])
def test_only_the_damaged_shard_is_made_again(copy: Path, corpus: Path, damage: str) -> None:
    before, content = times(copy), hashes(copy)
    tar, receipt = copy / "shards/train-000001.tar", copy / "shards/train-000001.json"
    if damage == "cut":
        tar.write_bytes(tar.read_bytes()[:-512])
    elif damage == "flipped byte":
        flip(tar, 3_000)
    if damage in ("missing tar", "both missing"):
        tar.unlink()
    if damage in ("missing receipt", "both missing"):
        receipt.unlink()
    (copy / "index.json").unlink()
    prepare(copy, options(corpus))
    assert hashes(copy) == content
    after = times(copy)
    for name in before:
        if name.startswith("shards/"):
            assert (after[name] != before[name]) == ("train-000001" in name), name


@pytest.mark.parametrize("verify", ["hash", "size"])
def test_damage_behind_the_index_is_named(copy: Path, corpus: Path, verify: str) -> None:
    (copy / "shards/valid-000000.tar").unlink()
    flip(copy / "shards/train-000002.tar", 3_000)
    with pytest.raises(ProblemsError, match="lst prepare again") as raised:
        prepare(copy, options(corpus, verify=verify))
    expected = ["train-000002.tar was altered"] * (verify == "hash") + ["valid-000000.tar is missing"]
    assert [problem.split(":")[0] for problem in raised.value.problems] == expected


# The index is still there after the remedy, so the same error comes again.
def test_doing_as_the_error_says_mends_the_data(copy: Path, corpus: Path) -> None:
    """ "Delete the named files and run lst prepare again: it makes only what is missing." """
    content = hashes(copy)
    flip(copy / "shards/train-000002.tar", 3_000)
    with pytest.raises(ProblemsError, match=r"train-000002\.tar was altered.*\n?Delete the named files"):
        prepare(copy, options(corpus))
    (copy / "shards/train-000002.tar").unlink()
    prepare(copy, options(corpus))
    assert hashes(copy) == content


# With the index there, only shards are looked at before the data are called whole.
@pytest.mark.parametrize("name", ["text.model", "units.safetensors", "vocabulary.json"])
@pytest.mark.parametrize("damage", ["missing", "flipped byte"])
def test_damaged_tokenizers_are_made_again_or_named(copy: Path, corpus: Path, name: str, damage: str) -> None:
    before = sha256_file(copy / name)
    if damage == "missing":
        (copy / name).unlink()
    else:
        flip(copy / name, (copy / name).stat().st_size // 2)
    try:
        prepare(copy, options(corpus))
    except UserError as error:
        is_seen = name in str(error)
    else:
        is_seen = (copy / name).exists() and sha256_file(copy / name) == before
    assert is_seen


def test_damaged_index_is_named_and_made_again_once_deleted(copy: Path, corpus: Path) -> None:
    content = hashes(copy)
    (copy / "index.json").write_bytes((copy / "index.json").read_bytes()[:200])
    with pytest.raises(UserError, match=r"damaged: .*index\.json is not JSON.*Delete it and run lst prepare again"):
        prepare(copy, options(corpus))
    (copy / "index.json").unlink()
    prepare(copy, options(corpus))
    assert hashes(copy) == content


# What reads the index says "prepare again", and preparing again finds nothing to do.
def test_index_of_another_version_is_not_taken_for_whole(copy: Path, corpus: Path) -> None:
    index = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**index, "version": 0}))
    try:
        is_seen = prepare(copy, options(corpus))["version"] == index["version"]
    except UserError as error:
        is_seen = "version" in str(error)
    assert is_seen


def test_stopped_after_every_few_files_it_still_ends_with_the_same(
    prepared: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is stopped before its fifth or sixth renaming, in turn, until one gets through."""
    left = 0

    def stop(name: str) -> BaseException | None:
        nonlocal left
        left -= 1
        return KeyboardInterrupt() if left < 0 else None

    stop_at_replace(monkeypatch, stop)
    for num_runs in range(1, 30):
        left = 4 + num_runs % 2
        try:
            prepare(tmp_path, options(corpus))
            break
        except KeyboardInterrupt:
            assert not (tmp_path / "index.json").exists()
            assert not any("partial" in name for name in files_in(tmp_path))
    assert num_runs > 4
    assert hashes(tmp_path) == hashes(prepared)


@pytest.fixture(scope="module")
def killed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """The folder of a run with two workers, killed once its first shard was there; and those of its processes that
    were still alive five seconds later."""
    for _ in range(3):
        run = tmp_path_factory.mktemp("killed")
        command = [sys.executable, "-m", "lst", *command_line(corpus, run, 2)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
        receipts, deadline = run / "data/shards", time.monotonic() + 120
        while not list(receipts.glob("*.json")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        children = children_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 5
        while any(map(is_alive, children)) and time.monotonic() < deadline:
            time.sleep(0.05)
        alive = [child for child in children if is_alive(child)]
        for child in alive:
            os.kill(child, signal.SIGKILL)
        if list(receipts.glob("*.json")) and not (run / "data/index.json").exists():
            return run, alive
    pytest.fail("a machine too busy to be killed in time: three runs had finished before")


def children_of(process_id: int) -> list[int]:
    """Child processes, where the system tells them in /proc; else none."""
    tasks = Path(f"/proc/{process_id}/task").glob("*/children")
    return [int(child) for path in tasks for child in path.read_text().split()]


def is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_killed_in_the_middle_and_run_again_it_ends_with_the_same(
    prepared: Path, corpus: Path, killed: tuple[Path, list[int]]
) -> None:
    run, _ = killed
    before = {path: path.stat().st_mtime_ns for path in (run / "data/shards").glob("*.json")}
    assert before
    assert main(command_line(corpus, run, 1)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = {name: digest for name, digest in hashes(run / "data").items() if "partial" not in name}
    assert found == hashes(prepared)


# The workers wait for tasks for ever, each with half a gigabyte.
def test_killed_run_leaves_no_process_behind(killed: tuple[Path, list[int]]) -> None:
    _, alive = killed
    assert alive == []


def test_two_processes_make_the_same_shards_as_one(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    prepare(tmp_path, options(corpus, num_workers=2))
    assert hashes(tmp_path) == hashes(prepared)


def test_other_settings_in_the_same_folder_are_refused_by_name(copy: Path, corpus: Path, tmp_path: Path) -> None:
    before = times(copy)
    other = options(corpus, seed=7, num_units=20, shard_utterances=3, min_duration_s=0.1)
    with pytest.raises(ProblemsError, match=r"was prepared with other settings.*\n(.*\n)*.*run_dir=FOLDER") as raised:
        prepare(copy, other)
    assert raised.value.problems == [
        "data.min_duration_s: 0.2 then, 0.1 now",
        "data.shard_utterances: 2 then, 3 now",
        "seed: 0 then, 7 now",
        "tokenizer.num_units: 16 then, 20 now",
    ]
    with pytest.raises(ProblemsError, match=r"corpus: '.*corpus' then, '.*elsewhere' now"):
        prepare(copy, options(tmp_path / "elsewhere"))
    assert times(copy) == before


def test_settings_of_later_stages_may_change(copy: Path, corpus: Path) -> None:
    changed = options(corpus, num_workers=2, pack_buffer=7, verify="size", mix=MixConfig(0.0, 1.0, 0.0),
                      interleave=InterleaveConfig(text_min_words=2))  # fmt: skip
    before = times(copy)
    prepare(copy, changed)
    assert times(copy) == before


# The list of utterances is written before the settings, and used again where the settings are not known.
def test_stopped_before_the_settings_are_recorded_a_folder_does_not_mix_two_corpora(
    corpus: Path, make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_corpus(tmp_path / "other", texts={0: "Anna ate the warm bread again."})
    with monkeypatch.context() as patch:
        stop_at_replace(patch, lambda name: KeyboardInterrupt() if name == "made_from.json" else None)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "data", options(corpus))
    prepare(tmp_path / "data", options(other))
    paths = {json.loads(line)["path"] for line in (tmp_path / "data/manifest.jsonl").read_text().splitlines()}
    assert {Path(path).parent for path in paths} == {other}


def test_what_cannot_be_aligned_or_decoded_is_listed_and_counted(
    make_corpus: MakeCorpus, sounds: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = make_corpus(tmp_path / "corpus", texts={3: TOO_MUCH_TO_SAY})
    soundfile.write(corpus / "utt_5.flac", sounds[5], 16_000)
    cut = (corpus / "utt_5.flac").read_bytes()
    (corpus / "utt_5.flac").write_bytes(cut[: len(cut) // 2])  # its header is sound
    manifest = (corpus / "manifest.jsonl").read_text()
    (corpus / "manifest.jsonl").write_text(manifest.replace("utt_5.wav", "utt_5.flac"))
    # Enough for the codebook, which reads the training recordings too, is all but the cut one.
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    rows = [{**row, "split": "dev" if row["id"] == "utt_5" else "train"} for row in rows]
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index = prepare(tmp_path / "data", options(corpus, max_unaligned_share=0.25))
    reasons = {item["id"]: item["reason"] for item in left_out(tmp_path / "data")}
    assert sorted(reasons) == ["utt_3", "utt_5"]
    assert "the audio does not fit the text: 0 of 38 words" in reasons["utt_3"]
    assert "utt_5.flac" in reasons["utt_5"]
    assert (index["num_left_out"], index["num_unaligned"]) == (2, 2)
    ids = {utterance.id for split in ("train", "valid") for utterance in ShardReader(tmp_path / "data", split)}
    assert ids == {f"utt_{number}" for number in (0, 1, 2, 4, 6, 7)}
    assert "2 left out" in capsys.readouterr().err


# The fit of the codebook reads it first, and stops there whatever on_error says.
def test_damaged_training_recording_is_skipped_like_a_held_out_one(
    make_corpus: MakeCorpus, sounds: list[np.ndarray], tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    soundfile.write(corpus / "utt_0.flac", sounds[0], 16_000)
    cut = (corpus / "utt_0.flac").read_bytes()
    (corpus / "utt_0.flac").write_bytes(cut[: len(cut) // 2])
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    rows = [{**row, "split": "dev" if row["id"] == "utt_7" else "train"} for row in rows]
    rows[0]["path"] = "utt_0.flac"
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "data", options(corpus, on_error="skip", max_skipped_share=0.2, max_unaligned_share=0.2))
    assert [item["id"] for item in left_out(tmp_path / "data")] == ["utt_0"]


@pytest.fixture(scope="module")
def failed(make_corpus: MakeCorpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A corpus in which two of eight transcripts do not fit, the folder as the failure left it, and the error."""
    root = tmp_path_factory.mktemp("unaligned")
    corpus = make_corpus(root / "corpus", texts={2: TOO_MUCH_TO_SAY, 6: TOO_MUCH_TO_SAY})
    with pytest.raises(ProblemsError) as raised:
        prepare(root / "data", options(corpus))
    return corpus, root / "data", str(raised.value)


def test_too_many_unaligned_are_all_named_and_there_is_no_index(failed: tuple[Path, Path, str]) -> None:
    _, folder, message = failed
    assert "2 of 8 utterances (25.0%) could not be aligned, 10.0% are allowed" in message
    assert "utt_2: the audio does not fit" in message
    assert "utt_6: the audio does not fit" in message
    assert not (folder / "index.json").exists()
    assert sorted(item["id"] for item in left_out(folder)) == ["utt_2", "utt_6"]


# The option that the error tells to change is one that the folder may not change.
def test_allowing_more_unaligned_as_the_error_says_goes_on(failed: tuple[Path, Path, str], tmp_path: Path) -> None:
    corpus, folder, message = failed
    share = message.rpartition("data.max_unaligned_share=")[2].rstrip(".")
    assert 0.25 <= float(share) <= 0.27
    copied = shutil.copytree(folder, tmp_path / "data")
    assert prepare(copied, options(corpus, max_unaligned_share=float(share)))["num_unaligned"] == 2


# The list of the first run is used again, so that mended transcripts change nothing.
def test_mending_transcripts_as_the_error_says_goes_on(
    failed: tuple[Path, Path, str], make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    corpus, folder, _ = failed
    faulty = (corpus / "manifest.jsonl").read_text()
    mended = (make_corpus(tmp_path / "mended") / "manifest.jsonl").read_text()
    copied = shutil.copytree(folder, tmp_path / "data")
    try:
        (corpus / "manifest.jsonl").write_text(mended)
        assert prepare(copied, options(corpus))["num_unaligned"] == 0
    finally:
        (corpus / "manifest.jsonl").write_text(faulty)


def test_faulty_corpus_is_refused_before_anything_is_written(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", texts={1: "", 4: "это не то"})
    (corpus / "utt_6.wav").unlink()
    with pytest.raises(ProblemsError) as raised:
        prepare(tmp_path / "data", options(corpus))
    assert [name in str(raised.value) for name in ("utt_1", "utt_4", "utt_6", "utt_0")] == [True, True, True, False]
    assert not (tmp_path / "data").exists() or files_in(tmp_path / "data") == []


def test_faulty_rows_are_skipped_when_asked_and_listed(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", texts={1: ""})
    index = prepare(tmp_path / "data", options(corpus, on_error="skip", max_skipped_share=0.2))
    assert index["num_left_out"] == 1
    assert [item["id"] for item in left_out(tmp_path / "data")] == ["utt_1"]
    assert sum(receipt["num_utterances"] for group in index["splits"].values() for receipt in group) == 7


def test_texts_beside_a_corpus_leave_out_what_is_held_out(prepared: Path, corpus: Path, tmp_path: Path) -> None:
    held_out = [utterance.text for utterance in ShardReader(prepared, "valid")]
    assert len(held_out) == 2
    lines = [
        "A line of its own.",
        held_out[0].upper(),
        "",
        SENTENCES[0] + " And more.",
        f"  {held_out[1][:-1]} !",
        "Last.",
    ]
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n")
    index = prepare(tmp_path / "data", options(corpus, tmp_path / "texts.txt"))
    texts = list(ShardReader(tmp_path / "data", "text"))
    assert [utterance.text for utterance in texts] == ["A line of its own.", SENTENCES[0] + " And more.", "Last."]
    assert all(utterance.num_frames == 0 and utterance.words == () for utterance in texts)
    (item,) = left_out(tmp_path / "data")
    assert "2 lines are transcripts of held-out utterances" in item["reason"]
    assert index["num_left_out"] == 1
    assert len(ShardReader(tmp_path / "data", "train")) == 6


def test_text_without_a_corpus_is_read_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sounds: object) -> None:
    monkeypatch.setenv("LST_CACHE_DIR", str(tmp_path / "cache"))
    long_line = " ".join(["a long line that is not spoken"] * 20)
    lines = [f"{SENTENCES[0]} {SENTENCES[1]} {SENTENCES[2]}", SENTENCES[3], long_line, SENTENCES[4], SENTENCES[5]]
    (tmp_path / "book.txt").write_text("\n\n".join(lines))
    index = prepare(tmp_path / "data", options(None, tmp_path / "book.txt", num_spoken_stories=3, num_speakers=2))
    assert index["is_synthesised"] is True
    assert "book.txt, synthesised speech" in index["description"]
    splits = {split: list(ShardReader(tmp_path / "data", split)) for split in ("train", "valid", "text")}
    assert [[utterance.id for utterance in part] for part in splits.values()] == [
        ["text-000000", "text-000001"],
        ["text-000003"],
        ["text-000002", "text-000004"],
    ]
    first = splits["train"][0]
    assert first.text == lines[0]
    assert [word.text for word in first.words[first.ending_start_word :]] == SENTENCES[2].split()
    assert splits["train"][1].ending_start_word is None
    assert all(Path(utterance.audio_path).is_relative_to(tmp_path / "cache") for utterance in splits["train"])
    assert len({utterance.speaker for utterance in splits["train"]}) == 2


def test_ending_keeps_its_word_where_marks_join_the_word_before(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", texts={0: "Anna – ate the … warm bread."})
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    rows[0]["ending_start_word"] = 5
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(tmp_path / "data", options(corpus))
    readers = [ShardReader(tmp_path / "data", split) for split in ("train", "valid")]
    (utterance,) = [utterance for reader in readers for utterance in reader if utterance.id == "utt_0"]
    assert [word.text for word in utterance.words] == ["Anna –", "ate", "the …", "warm", "bread."]
    assert utterance.words[utterance.ending_start_word].text == "warm"


@pytest.mark.parametrize(
    "full_at", ["manifest.jsonl", "units.safetensors", "train-000001.tar", "train-000001.json", "index.json"]
)
def test_full_disk_is_named_and_leaves_no_partial_file(
    copy: Path, prepared: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    """What was written before stays, and with space again the run ends with the same files."""
    for name in files_in(copy):
        if name not in ("units.safetensors", "text.model") or full_at in ("manifest.jsonl", "units.safetensors"):
            (copy / name).unlink()
    with monkeypatch.context() as patch:
        stop_at_replace(patch, lambda name: OSError(errno.ENOSPC, "No space left") if name == full_at else None)
        with pytest.raises(
            UserError, match=rf"the disk that holds .* is full: {full_at} was not written.*run the same"
        ):
            prepare(copy, options(corpus))
    assert not any("partial" in name for name in files_in(copy))
    assert full_at not in {Path(name).name for name in files_in(copy)}
    prepare(copy, options(corpus))
    assert hashes(copy) == hashes(prepared)


def test_disk_that_fills_while_flushing_is_named(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"the disk that holds .* is full: manifest\.jsonl was not written"):
        prepare(tmp_path / "data", options(corpus))
    assert files_in(tmp_path / "data") == []


def test_disk_that_fills_while_a_shard_is_written_is_named(
    copy: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes from the write itself, in the middle of the tar."""
    (copy / "index.json").unlink()
    (copy / "shards/train-000001.tar").unlink()

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("webdataset.TarWriter.write", no_space)
    with pytest.raises(UserError, match=r"is full: train-000001\.tar was not written"):
        prepare(copy, options(corpus))
    assert not any("partial" in name for name in files_in(copy))


def test_corpus_is_gathered_again_when_its_audio_has_moved(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    prepare(tmp_path / "data", options(corpus))
    manifest = (corpus / "manifest.jsonl").read_text()
    for number in range(8):
        (corpus / f"utt_{number}.wav").rename(corpus / f"moved_{number}.wav")
    (corpus / "manifest.jsonl").write_text(manifest.replace('"path": "utt_', '"path": "moved_'))
    (tmp_path / "data/index.json").unlink()
    index = prepare(tmp_path / "data", options(corpus))
    assert index["num_left_out"] == 0
    paths = {Path(utterance.audio_path).name for utterance in ShardReader(tmp_path / "data", "train")}
    assert paths <= {f"moved_{number}.wav" for number in range(8)}


def test_fields_that_decide_the_data_are_all_recorded() -> None:
    """An option that is not recorded would let a folder be taken for what it is not."""
    recorded = options(Path("corpus")).made_from()
    later = {"interleave", "mix", "pack_buffer", "verify"}
    assert recorded["data"].keys() == {field.name for field in dataclasses.fields(DataConfig)} - later
    assert recorded["tokenizer"].keys() == {field.name for field in dataclasses.fields(TokenizerConfig)}
    assert recorded.keys() == {"corpus", "text", "seed", "on_error", "data", "tokenizer"}
