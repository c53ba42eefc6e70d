"""From a source to aligned, checksummed shards: what ``lst prepare`` runs.

::

    RUN/data/manifest.jsonl      every utterance that is used, with its split
    RUN/data/left_out.jsonl      every one that is not, and why
    RUN/data/units.safetensors   the codebook of speech units, fitted on the training split
    RUN/data/text.model          SentencePiece BPE, trained on the training texts
    RUN/data/vocabulary.json     the joint vocabulary
    RUN/data/shards/             webdataset tars with their receipts
    RUN/data/index.json          written last: its presence says that all the above is whole

Stopped at any moment and run again, it makes only what is missing.
"""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lst.data.alignment import AlignmentError, PocketsphinxAligner
from lst.data.artefacts import TEXT_FILE, UNITS_FILE, VOCABULARY_FILE, whole_index
from lst.data.audio import read_audio
from lst.data.config import DataConfig
from lst.data.manifest import ManifestRow, read_manifest, write_manifest
from lst.data.shards import (
    INDEX_FILE,
    SHARD_FOLDER,
    VERSION,
    finished_receipt,
    shard_name,
    write_shard,
)
from lst.data.sources import Source, WrittenText, gather_source
from lst.data.unit_fitting import fit_units
from lst.data.utterance import Utterance
from lst.errors import ProblemsError, UserError
from lst.files import (
    check_free_space,
    differing_settings,
    files_fingerprint,
    fingerprint,
    read_json,
    read_jsonl,
    sha256_file,
    write_json,
    write_jsonl,
)
from lst.progress import Progress, say
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.speech import SpeechTokenizer, load_speech_tokenizer, unit_places
from lst.tokenizers.text import TextTokenizer, build_text_tokenizer
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.tokenizers.vocabulary import Vocabulary

MANIFEST_FILE, LEFT_OUT_FILE, SOURCE_FILE = "manifest.jsonl", "left_out.jsonl", "source.json"
TEXTS_FILE, MADE_FROM_FILE = "texts.jsonl", "made_from.json"
# Units, words and tar headers of an utterance, by measurement; audio of synthesised speech as 16 kHz FLAC.
BYTES_A_SHARD_UTTERANCE, BYTES_A_SPOKEN_STORY = 6_000, 330_000


@dataclass
class PrepareOptions:
    """All that decides what is prepared."""

    corpus: str | None
    text: str | None
    seed: int
    on_error: str
    max_skipped_share: float
    num_workers: int
    data: DataConfig
    tokenizer: TokenizerConfig

    def made_from(self) -> dict[str, Any]:
        """What the prepared data depends on; a folder made from other things is refused."""
        data = asdict(self.data)
        for later in ("interleave", "mix", "pack_buffer", "verify", "max_unaligned_share"):
            data.pop(later)
        corpus = str(Path(self.corpus).resolve()) if self.corpus else None
        text = str(Path(self.text).resolve()) if self.text else None
        files = {"corpus_files": files_fingerprint(corpus), "text_file": files_fingerprint(text)}
        return {"corpus": corpus, "text": text, **files, "seed": self.seed, "on_error": self.on_error,
                "data": data, "tokenizer": asdict(self.tokenizer)}  # fmt: skip


def prepare(folder: Path, options: PrepareOptions) -> dict[str, Any]:
    """Prepares a corpus in ``folder``, or returns at once when it is there.

    Returns:
        The index, as in ``index.json``.

    Raises:
        UserError: the input is faulty, the disk is full, or the folder holds data made from other things.
    """
    if options.tokenizer.deduplicate:
        raise UserError(
            "tokenizer.deduplicate=true: shards hold a unit for every frame, for alignments and durations count them; "
            "leave it out (lst tokenizer score-units shows what it would save)"
        )
    made_from = options.made_from()
    index_path = folder / INDEX_FILE
    _check_made_from(folder, made_from)
    index = whole_index(folder, full=options.data.verify == "hash")
    if index is not None:
        say(f"prepared data is whole in {folder}: nothing to do")
        return index
    if options.corpus is None:
        needed_bytes = options.data.num_spoken_stories * (BYTES_A_SPOKEN_STORY + BYTES_A_SHARD_UTTERANCE)
        check_free_space(folder, needed_bytes, "preparing")
    rows, texts, source = _gather(folder, options)
    write_json(folder / MADE_FROM_FILE, made_from)
    codec = _codec(folder, rows, options)
    tokenizer = _text_tokenizer(folder, rows, texts, options)
    vocabulary = Vocabulary(
        tokenizer.vocab_size, codec.num_units, tokenizer.sha256, codec.sha256, codec.frame_rate_hz, codec.kind,
        codec.name, codec.units_a_frame,
    )  # fmt: skip
    vocabulary.save(folder / VOCABULARY_FILE)
    receipts = _make_shards(folder, rows, texts, codec, made_from, options)
    left_out = [*source["left_out"], *(item for group in receipts.values() for r in group for item in r["skipped"])]
    write_jsonl(folder / LEFT_OUT_FILE, left_out)
    num_spoken = len(rows)
    unaligned = [item for group in receipts.values() for receipt in group for item in receipt["skipped"]]
    _check_unaligned(folder, unaligned, num_spoken, options)
    index = {
        "version": VERSION,
        "description": source["description"],
        "is_synthesised": source["is_synthesised"],
        "made_from": made_from,
        "units_sha256": codec.sha256,
        "text_sha256": tokenizer.sha256,
        "vocabulary": vocabulary.fingerprint,
        "aligner": PocketsphinxAligner.name,
        "num_left_out": len(left_out),
        "num_unaligned": len(unaligned),
        "splits": receipts,
    }
    write_json(index_path, index)
    totals = ", ".join(
        f"{split} {sum(receipt['num_utterances'] for receipt in group):,}" for split, group in receipts.items()
    )
    say(f"prepared {folder}: {totals} utterances; {len(left_out)} left out (see {folder / LEFT_OUT_FILE})")
    return index


def _check_made_from(folder: Path, made_from: dict[str, Any]) -> None:
    path = folder / MADE_FROM_FILE
    if not path.exists():
        return
    before = read_json(path, "the record of what the data was made from", f"Delete {folder} and prepare again.")
    # A corpus that is gone is no other corpus: what was made of it stays good.
    gone = {key: before.get(key) for key in ("corpus_files", "text_file") if made_from[key] is None}
    if before == {**made_from, **gone}:
        return
    if not (folder / INDEX_FILE).exists() and not any((folder / SHARD_FOLDER).glob("*.json")):
        say(f"{folder} was begun with other settings and holds no shard yet: it is begun anew")
        for name in (SOURCE_FILE, UNITS_FILE, TEXT_FILE):
            (folder / name).unlink(missing_ok=True)
        return
    raise ProblemsError(
        f"{folder} was prepared with other settings",
        differing_settings(before, made_from),
        f"Use the same settings, choose another place with run_dir=FOLDER, or delete {folder}.",
    )


def _gather(folder: Path, options: PrepareOptions) -> tuple[list[ManifestRow], list[WrittenText], dict[str, Any]]:
    """The source, kept in the folder so that a second run uses the same list."""
    marker = folder / SOURCE_FILE
    made_from = fingerprint(options.made_from())
    before = read_json(marker, "the source's record", f"Delete {marker}.") if marker.exists() else {}
    if before.get("made_from") == made_from and before.get("files") == _list_hashes(folder):
        texts = [WrittenText(**row) for row in read_jsonl(folder / TEXTS_FILE)]
        rows = read_manifest(folder / MANIFEST_FILE)
        missing = [row for row in rows if not row.path.exists()]
        if not missing:
            return rows, texts, before
        say(f"{len(missing)} audio files are gone (the first is {missing[0].path}): the corpus is gathered again")
    source: Source = gather_source(
        options.corpus, options.text, options.data, options.seed, options.on_error, options.max_skipped_share,
        options.num_workers,
    )  # fmt: skip
    write_manifest(folder / MANIFEST_FILE, source.rows)
    write_jsonl(folder / TEXTS_FILE, [asdict(text) for text in source.texts])
    record = {
        "made_from": made_from,
        "files": _list_hashes(folder),
        "description": source.description,
        "is_synthesised": source.is_synthesised,
        "left_out": [{"id": problem.id or problem.place, "reason": str(problem)} for problem in source.problems],
    }
    if record["files"] != before.get("files"):
        # Fitted on other utterances, perhaps on ones that are now held out.
        for name in (UNITS_FILE, TEXT_FILE):
            (folder / name).unlink(missing_ok=True)
    write_json(marker, record)
    return source.rows, source.texts, record


def _list_hashes(folder: Path) -> dict[str, str]:
    """Hashes of the lists of utterances and texts, so that a cut list is not taken for a whole one."""
    paths = [folder / name for name in (MANIFEST_FILE, TEXTS_FILE)]
    return {path.name: sha256_file(path) for path in paths if path.exists()}


def _codec(folder: Path, rows: Sequence[ManifestRow], options: PrepareOptions) -> SpeechTokenizer:
    path = folder / UNITS_FILE
    if path.exists():
        try:
            return load_speech_tokenizer(path, **unit_places(options.tokenizer))
        except UserError as error:
            say(f"{error}\nit is made again")
    codec = fit_units(rows, options.tokenizer, options.seed, options.num_workers)
    codec.save(path)
    return codec


def _text_tokenizer(
    folder: Path, rows: Sequence[ManifestRow], texts: Sequence[WrittenText], options: PrepareOptions
) -> TextTokenizer:
    path = folder / TEXT_FILE
    if path.exists():
        try:
            return TextTokenizer.load(path)
        except UserError as error:
            say(f"{error}\nit is made again")
    lines = [row.text for row in rows if row.split == "train"] + [text.text for text in texts]
    tokenizer = build_text_tokenizer(options.tokenizer, lines, options.seed)
    if options.tokenizer.text_model is None and tokenizer.vocab_size < options.tokenizer.text_vocab_size:
        say(f"the text supports {tokenizer.vocab_size} pieces, not the {options.tokenizer.text_vocab_size} asked for")
    tokenizer.save(path)
    return tokenizer


@dataclass(frozen=True)
class ShardTask:
    """What one process needs to make one shard."""

    folder: Path
    name: str
    made_from: str
    rows: list[ManifestRow] | list[WrittenText]
    codec_path: Path
    places: dict[str, Any] = field(default_factory=dict)


def _make_shards(
    folder: Path,
    rows: Sequence[ManifestRow],
    texts: Sequence[WrittenText],
    codec: SpeechTokenizer,
    made_from: dict[str, Any],
    options: PrepareOptions,
) -> dict[str, list[dict[str, Any]]]:
    """Every shard that is not there yet, a task each, in ``num_workers`` processes."""
    shard_folder = folder / SHARD_FOLDER
    size = options.data.shard_utterances
    made = fingerprint({**made_from, "units": codec.sha256, "manifest": sha256_file(folder / MANIFEST_FILE)})
    groups: dict[str, Sequence[Any]] = {
        split: [row for row in rows if row.split == split] for split in ("train", "valid")
    }
    groups["text"] = texts
    tasks, receipts = [], {}
    for split, items in groups.items():
        # A written text is a fiftieth of the work and the bytes of an utterance.
        a_shard = size * 16 if split == "text" else size
        for number, start in enumerate(range(0, len(items), a_shard)):
            name = shard_name(split, number)
            receipt = finished_receipt(shard_folder, name, made)
            if receipt is None:
                part = list(items[start : start + a_shard])
                tasks.append(ShardTask(shard_folder, name, made, part, folder / UNITS_FILE,
                                       unit_places(options.tokenizer)))  # fmt: skip
            else:
                receipts[name] = receipt
    num_done = sum(receipt["num_utterances"] + len(receipt["skipped"]) for receipt in receipts.values())
    with Progress(len(rows) + len(texts), "units and alignment", unit="utterance", initial=num_done) as progress:
        for receipt in _run_tasks(tasks, options.num_workers):
            receipts[receipt["name"]] = receipt
            progress.advance(receipt["num_utterances"] + len(receipt["skipped"]))
    return {split: [receipts[name] for name in sorted(receipts) if name.startswith(f"{split}-")] for split in groups}


def _set_up_worker() -> None:
    """One thread a process, and an end with the parent's, however that comes."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def end_with_parent() -> None:
            multiprocessing.connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()


def _run_tasks(tasks: Sequence[ShardTask], num_workers: int) -> Iterator[dict[str, Any]]:
    if num_workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield make_shard(task)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_workers, len(tasks)), context, initializer=_set_up_worker) as pool:
        futures = [pool.submit(make_shard, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise


_aligner: PocketsphinxAligner | None = None


def make_shard(task: ShardTask) -> dict[str, Any]:
    """Encodes, aligns and writes one shard; returns its receipt. The aligner's model stays loaded in the process."""
    global _aligner
    utterances, skipped = [], []
    codec = _loaded(task.codec_path, task.made_from, tuple(task.places.items()))
    for row in task.rows:
        if isinstance(row, WrittenText):
            utterances.append(Utterance(row.id, "", row.text, 0.0, np.zeros(0, np.uint16)))
            continue
        _aligner = _aligner or PocketsphinxAligner()
        try:
            utterances.append(make_utterance(row, codec, _aligner))
        except (AlignmentError, UserError) as error:
            skipped.append({"id": row.id, "reason": str(error)})
    return write_shard(task.folder, task.name, utterances, skipped, task.made_from, codec.sha256)


@functools.lru_cache(maxsize=1)
def _loaded(path: Path, made_from: str, places: tuple[tuple[str, Any], ...]) -> SpeechTokenizer:
    """The units' tokenizer, with its model once it has encoded; ``made_from`` tells it from an earlier one there."""
    return load_speech_tokenizer(path, **dict(places))


def make_utterance(row: ManifestRow, codec: SpeechTokenizer, aligner: PocketsphinxAligner) -> Utterance:
    """Units and words of one recording.

    Frames of words count units: where several units stand for a frame (``units_a_frame``), a word's bounds are those
    of its first and last frame, times that many.

    Raises:
        AlignmentError: the text does not fit the audio.
        UserError: the audio cannot be read.
    """
    waveform = read_audio(row.path)
    units = codec.encode([waveform], SAMPLE_RATE_HZ)[0]
    words = aligner.align(waveform, row.text, len(units) // codec.units_a_frame, codec.frame_rate_hz)
    words = tuple(
        word._replace(
            start_frame=word.start_frame * codec.units_a_frame, end_frame=word.end_frame * codec.units_a_frame
        )
        for word in words
    )
    ending = None
    if row.ending_start_word is not None:
        # What is not said joins the word before it, so places in the text and in the words can differ.
        written = np.cumsum([0] + [len(word.text.split()) for word in words])
        ending = int(np.searchsorted(written, row.ending_start_word))
    return Utterance(
        id=row.id,
        speaker=row.speaker,
        text=" ".join(word.text for word in words),
        duration_s=round(len(waveform) / 16_000, 3),
        units=units,
        words=words,
        ending_start_word=ending,
        audio_path=str(row.path),
    )


def _check_unaligned(
    folder: Path, unaligned: Sequence[dict[str, str]], num_spoken: int, options: PrepareOptions
) -> None:
    share = len(unaligned) / max(num_spoken, 1)
    if share > options.data.max_unaligned_share:
        # The corpus is read anew next time, for its transcripts may have been mended.
        record = read_json(folder / SOURCE_FILE, "the source's record", f"Delete {folder}.")
        write_json(folder / SOURCE_FILE, {**record, "made_from": ""})
        (folder / MADE_FROM_FILE).unlink(missing_ok=True)
        raise ProblemsError(
            f"{len(unaligned)} of {num_spoken} utterances ({share:.1%}) could not be aligned, "
            f"{options.data.max_unaligned_share:.1%} are allowed",
            [f"{item['id']}: {item['reason']}" for item in unaligned],
            f"All are listed in {folder / LEFT_OUT_FILE}. Check that transcripts match the audio and are English, or "
            f"allow more with data.max_unaligned_share={min(1.0, share + 0.005):.2f}.",
        )
