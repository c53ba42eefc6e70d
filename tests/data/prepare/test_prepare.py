"""Preparing a corpus: what it leaves, what it leaves out and says so, and which settings a folder keeps to."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.audio.read import read_audio
from lst.data.config import AlignConfig, DataConfig, InterleaveConfig, MixConfig
from lst.data.prepare.options import find_origin
from lst.data.prepare.prepare import prepare
from lst.data.prepared import manifest_rows
from lst.data.shards import ShardReader, index_entry
from lst.errors import ProblemsError
from lst.storage import fingerprint, sha256
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.speech import load_speech_tokenizer
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.vocabulary import Vocabulary
from tests.data.conftest import SENTENCES, MakeCorpus, align, files_in, hashes, left_out, options, times

TOO_MUCH_TO_SAY = "this is far too much to say in so short a time as there is for all of it " * 2


def test_everything_is_there_and_agrees(prepared: Path, corpus: Path) -> None:
    shards = [f"shards/{name}" for name in ("train-000000", "train-000001", "train-000002", "valid-000000")]
    named = [
        "audio_hashes.npy",
        "index.json",
        "left_out.jsonl",
        "made_from.json",
        "manifest.jsonl",
        "plan.jsonl",
        "seen.json",
        "source.json",
        "text.model",
        "texts.jsonl",
        "units.safetensors",
        "vocabulary.json",
    ]
    assert files_in(prepared) == sorted(
        [*named, *(f"{name}{suffix}" for name in shards for suffix in (".json", ".tar"))]
    )
    index = json.loads((prepared / "index.json").read_text())
    codec, tokenizer = (
        load_speech_tokenizer(prepared / "units.safetensors"),
        TextTokenizer.load(prepared / "text.model"),
    )
    vocabulary = Vocabulary.load(prepared / "vocabulary.json")
    assert (index["units_sha256"], index["text_sha256"]) == (codec.sha256, tokenizer.sha256)
    assert index["vocabulary"] == vocabulary.fingerprint
    assert vocabulary == Vocabulary(tokenizer.vocab_size, 16, tokenizer.sha256, codec.sha256)
    assert (index["num_left_out"], index["num_unaligned"], index["is_synthesised"]) == (0, 0, False)
    assert left_out(prepared) == []
    receipts = [receipt for group in index["splits"].values() for receipt in group]
    assert [f"shards/{receipt['name']}" for receipt in receipts] == shards
    for receipt in receipts:
        path = prepared / "shards" / f"{receipt['name']}.json"
        written = json.loads(path.read_text())
        assert written.pop("check") == fingerprint(written)
        assert len(written.pop("samples")["key"]) == receipt["num_utterances"]
        assert receipt == index_entry({**written, "receipt_sha256": sha256(path)})


def test_utterances_hold_the_units_and_words_of_their_recordings(prepared: Path, corpus: Path) -> None:
    codec, aligner = load_speech_tokenizer(prepared / "units.safetensors"), PocketsphinxAligner()
    readers = {split: ShardReader(prepared, split) for split in ("train", "valid", "text")}
    assert [len(reader) for reader in readers.values()] == [6, 2, 0]
    found = {utterance.id: utterance for reader in readers.values() for utterance in reader}
    assert sorted(found) == [f"utt_{index}" for index in range(8)]
    for index, text in enumerate(SENTENCES):
        utterance = found[f"utt_{index}"]
        waveform = read_audio(corpus / f"utt_{index}.wav")
        assert (utterance.text, utterance.speaker) == (text, f"speaker_{index % 2}")
        assert utterance.duration_s == pytest.approx(len(waveform) / 16_000, abs=1e-3)
        assert np.array_equal(utterance.units, codec.encode([waveform], 16_000)[0])
        assert utterance.words == align(aligner, waveform, text, len(utterance.units), 25)
        assert manifest_rows(prepared)[utterance.id].path == corpus / f"utt_{index}.wav"


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
        manifests.append((sha256(folder / "units.safetensors"), sha256(folder / "text.model")))
    assert manifests[0] == manifests[1]


def test_running_again_does_nothing(copy: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = times(copy)
    index = prepare(copy, options(corpus))
    assert times(copy) == before
    assert index == json.loads((copy / "index.json").read_text())
    assert "nothing to do" in capsys.readouterr().err


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
    changed = options(
        corpus,
        num_workers=2,
        pack_buffer=7,
        verify="size",
        mix=MixConfig(0.0, 1.0, 0.0),
        interleave=InterleaveConfig(text_min_words=2),
        max_unaligned_share=0.5,
    )
    before = times(copy)
    prepare(copy, changed)
    assert times(copy) == before


def test_fields_that_decide_the_data_are_all_recorded() -> None:
    """An option that is not recorded would let a folder be taken for what it is not."""
    recorded = find_origin(options(Path("corpus"))).made_from
    streams = {"num_streams", "num_loader_workers", "shuffle_shards"}
    later = {
        "interleave",
        "mix",
        "sources",
        "pack_buffer",
        "verify",
        "max_unaligned_share",
        "refit",
        "augment",
        *streams,
    }
    # Options that earlier versions lacked are recorded where they are set.
    when_set = {"language": "de", "cut_above_s": 40.0, "cut_to_s": 9.0, "vad": "energy", "transcribe": "pocketsphinx"}
    when_set |= {"transcribe_weights": "folder", "min_confidence": 0.5}
    for name, value in when_set.items():
        set_alone = options(Path("corpus"))
        setattr(set_alone.data, name, value)
        assert find_origin(set_alone).made_from["data"][name] == value
    # Options of text alone are recorded there.
    everything = {field.name for field in dataclasses.fields(DataConfig)} - later - {"text", *when_set}
    # Recorded where they are used, so that data prepared before they existed stays as it is.
    if_used = {"simulated", "stories", "num_questions"}
    # Recordings do not depend on what stories are made of.
    of_stories = {"num_spoken_stories", "num_text_stories", "voice", "num_speakers"}
    assert recorded["data"].keys() == everything - if_used - of_stories
    used = find_origin(options(None, voice="simulated", stories="mini", num_questions=2)).made_from
    assert used["data"].keys() == everything
    alone = find_origin(options(None, voice="none", text="texts.txt")).made_from
    assert "text" in alone["data"]
    # Where a model computes, how many windows at a time, and whether pickles are read: no byte depends on them.
    tokenizer = {field.name for field in dataclasses.fields(TokenizerConfig)} - {"trust", "device"}
    assert recorded["tokenizer"].keys() == tokenizer
    # Later options are recorded where they are set.
    align = {field.name for field in dataclasses.fields(AlignConfig)} - {"batch", "device", "unsaid", "tier"}
    assert recorded["data"]["align"].keys() == align
    assert recorded.keys() == {
        "corpus",
        "text",
        "seed",
        "on_error",
        "data",
        "tokenizer",
    }
    files = (
        find_origin(options(Path("corpus"), codebook="absent", text_model="gone")).made_from.keys() - recorded.keys()
    )
    assert files == {"codebook_file", "text_model_file"}


def test_options_that_change_no_byte_may_change(copy: Path, corpus: Path) -> None:
    before = times(copy)
    prepare(copy, options(corpus, trust=True, device="cuda", align=AlignConfig(batch=3, device="cuda")))
    assert times(copy) == before
    # A record of a version that held them too is as good.
    record = json.loads((copy / "made_from.json").read_text())
    record["tokenizer"] |= {"trust": False, "device": "cpu"}
    (copy / "made_from.json").write_text(json.dumps(record))
    prepare(copy, options(corpus, trust=True))


def test_another_codebook_or_text_model_at_the_same_path_is_refused(
    prepared: Path, corpus: Path, tmp_path: Path
) -> None:
    codebook, text_model = tmp_path / "units.safetensors", tmp_path / "text.model"
    shutil.copy(prepared / codebook.name, codebook)
    shutil.copy(prepared / text_model.name, text_model)
    wanted = options(corpus, codebook=str(codebook), text_model=str(text_model))
    prepare(tmp_path / "data", wanted)
    before = times(tmp_path / "data")
    for path, key in ((codebook, "codebook_file"), (text_model, "text_model_file")):
        os.utime(path, ns=(1, 1))  # a touched file is the same
        assert prepare(tmp_path / "data", wanted) is not None
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(ProblemsError, match=f"{key}: '.*' then, '.*' now"):
            prepare(tmp_path / "data", wanted)
        path.unlink()  # what is gone is no other one
    prepare(tmp_path / "data", wanted)
    seen = ("seen.json", "audio_hashes.npy")
    assert {name: time for name, time in times(tmp_path / "data").items() if name not in seen} == {
        name: time for name, time in before.items() if name not in seen
    }


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
    """A corpus in which two of eight transcripts do not fit, the folder as the failure left it, and the error.

    Beside the corpus lies ``texts.txt`` with a written text.
    """
    root = tmp_path_factory.mktemp("unaligned")
    corpus = make_corpus(root / "corpus", texts={2: TOO_MUCH_TO_SAY, 6: TOO_MUCH_TO_SAY})
    (root / "texts.txt").write_text("A line that nobody says.\n")
    with pytest.raises(ProblemsError) as raised:
        prepare(root / "data", options(corpus, root / "texts.txt"))
    return corpus, root / "data", str(raised.value)


def test_too_many_unaligned_are_all_named_and_there_is_no_index(failed: tuple[Path, Path, str]) -> None:
    _, folder, message = failed
    assert "2 of 8 utterances (25.0%) could not be aligned, 10.0% are allowed" in message
    for name in ("utt_2", "utt_6"):
        assert re.search(rf"{name}: cut file: \d+ words in .*the audio does not fit the text", message)
    assert not (folder / "index.json").exists()
    assert sorted(item["id"] for item in left_out(folder)) == ["utt_2", "utt_6"]


def test_allowing_more_unaligned_as_the_error_says_goes_on(failed: tuple[Path, Path, str], tmp_path: Path) -> None:
    corpus, folder, message = failed
    share = message.rpartition("data.max_unaligned_share=")[2].rstrip(".")
    assert 0.25 <= float(share) <= 0.27
    copied = shutil.copytree(folder, tmp_path / "data")
    allowing = options(corpus, corpus.parent / "texts.txt", max_unaligned_share=float(share))
    assert prepare(copied, allowing)["num_unaligned"] == 2


@pytest.mark.parametrize("changes", [{"num_units": 12}, {"text_vocab_size": 310}, {"seed": 3}])
def test_settings_changed_after_a_failure_end_as_if_they_had_been_so_from_the_first(
    failed: tuple[Path, Path, str], tmp_path: Path, changes: dict[str, int]
) -> None:
    """No codebook or text tokenizer of the former settings stays."""
    corpus, folder, _ = failed
    copied = shutil.copytree(folder, tmp_path / "data")
    wanted = options(corpus, corpus.parent / "texts.txt", max_unaligned_share=0.25, **changes)
    prepare(copied, wanted)
    prepare(tmp_path / "fresh", wanted)
    assert hashes(copied) == hashes(tmp_path / "fresh")


@pytest.mark.parametrize("mended", ["transcripts", "texts"])
def test_corpus_changed_after_a_failure_ends_as_if_it_had_been_so_from_the_first(
    failed: tuple[Path, Path, str], make_corpus: MakeCorpus, tmp_path: Path, mended: str
) -> None:
    """Neither what was fitted on the former transcripts and texts stays, nor a shard of them."""
    corpus, folder, _ = failed
    copied = shutil.copytree(folder, tmp_path / "data")
    changed, content = corpus / "manifest.jsonl", (make_corpus(tmp_path / "mended") / "manifest.jsonl").read_text()
    if mended == "texts":
        changed, content = corpus.parent / "texts.txt", "Another line that nobody says.\n"
    before, stat = changed.read_text(), changed.stat()
    wanted = options(corpus, corpus.parent / "texts.txt", max_unaligned_share=0.0 if mended == "transcripts" else 0.25)
    try:
        changed.write_text(content)
        prepare(copied, wanted)
        prepare(tmp_path / "fresh", wanted)
    finally:
        changed.write_text(before)
        os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert [item.text for item in ShardReader(copied, "text")] == [
        item.text for item in ShardReader(tmp_path / "fresh", "text")
    ]
    assert hashes(copied) == hashes(tmp_path / "fresh")


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
    assert all(row.path.is_relative_to(tmp_path / "cache") for row in manifest_rows(tmp_path / "data").values())
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


def test_synthesised_speech_that_is_gone_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sounds: object
) -> None:
    monkeypatch.setenv("LST_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "book.txt").write_text("\n\n".join(SENTENCES[:5]))
    wanted = options(None, tmp_path / "book.txt", num_spoken_stories=4, num_speakers=2)
    prepare(tmp_path / "data", wanted)
    content = hashes(tmp_path / "data")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "data/index.json").unlink()
    prepare(tmp_path / "data", wanted)
    assert hashes(tmp_path / "data") == content
    assert all(row.path.exists() for row in manifest_rows(tmp_path / "data").values())
