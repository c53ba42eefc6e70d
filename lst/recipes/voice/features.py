"""Phones and pitch of prepared speech, found once and kept beside the shards.

::

    DATA/voice_features/NAME.safetensors    of the shard NAME
        phones    uint8 [P], the phone of each 10 ms, an index into ``lst.data.alignment.hmm.PHONES``
        pitch     float32 [F], pitch in Hz of each 1/80 s, 0 without a voice: see ``lst.voice.pitch.pitch_of``
        metadata ``lst``: ``FeatureDescription``; the utterances' parts follow one another in its order
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from safetensors.numpy import save

from lst import storage
from lst.data.alignment.aligner import AlignmentError
from lst.data.alignment.hmm import PhoneAligner
from lst.data.audio import read_row_audio
from lst.data.corpora import ManifestRow
from lst.data.prepared import PreparedData
from lst.data.shards import IndexEntry, LeftOut, ShardReader
from lst.errors import LstError, UserError
from lst.lazy import import_or_explain
from lst.parallel import ExecutorOptions, run_tasks
from lst.progress import Progress, say
from lst.storage import Count, Folder, FormatError, parse_json
from lst.storage.tensors import read_header
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.voice.mel import MelScale
from lst.voice.pitch import pitch_of

FEATURE_FOLDER = "voice_features"
_REMEDY = "Delete it; lst voice train makes it again."


class _LaterDescription(TypedDict, total=False):
    texts_are_right: bool


class FeatureDescription(_LaterDescription):
    """What a file of features says of itself.

    Keys:
        made_from: hash of the shard.
        ids: of its utterances, without those that were left out.
        num_phones, num_pitch: of each utterance, how many values of ``phones`` and ``pitch`` are its own.
        left_out: utterances that could not be read or aligned, and why.
        texts_are_right: as it was when phones were placed; earlier files lack it.
    """

    format: Literal["lst-voice-features-1"]
    made_from: str
    ids: list[str]
    num_phones: list[Count]
    num_pitch: list[Count]
    left_out: list[LeftOut]


@dataclass(frozen=True, eq=False)
class SpeechFeatures:
    """Phones (uint8, each 10 ms) and pitch (float32, in Hz, each 1/80 s) of an utterance."""

    phones: np.ndarray
    pitch_hz: np.ndarray


@dataclass(frozen=True)
class ShardTask:
    """A shard whose features are wanted: where, which one, its recordings, and whether their texts are surely right."""

    folder: Folder
    split: str
    number: int
    rows: Mapping[str, ManifestRow]
    texts_are_right: bool = False


def make_features(data: PreparedData, num_workers: int, texts_are_right: bool = False) -> None:
    """Finds the features of the shards of speech that have none yet.

    Args:
        data: prepared data.
        num_workers: processes.
        texts_are_right: see ``VoiceConfig``.

    Raises:
        UserError: the data was made without audio, pyworld is not installed, or phones were placed with the other
            value of ``texts_are_right``.
    """
    if not data.manifest:
        raise UserError(f"{data.folder} was made of units, without audio: a voice needs recordings")
    import_or_explain("pyworld", "pitch", "pip install 'latent-speech-text[voice]'")
    tasks = []
    for split, reader in _readers(data).items():
        for number, entry in enumerate(reader.receipts):
            if (found := _read(data.folder, entry)) is None:
                tasks.append(ShardTask(data.folder, split, number, data.manifest, texts_are_right))
            elif found[0].get("texts_are_right", texts_are_right) != texts_are_right:
                # A training that goes on must not meet other phones than it began with.
                given, was = str(texts_are_right).lower(), str(not texts_are_right).lower()
                raise UserError(
                    f"texts_are_right={given}: the phones of {data.folder} were placed with {was}. Give "
                    f"texts_are_right={was}, or delete {data.folder / FEATURE_FOLDER} and train under another name=NAME"
                )
    if not tasks:
        return
    with Progress(len(tasks), "phones and pitch", "shard") as progress:
        for _ in run_tasks(make_shard_features, tasks, ExecutorOptions(num_workers=num_workers)):
            progress.advance()


def make_shard_features(task: ShardTask) -> None:
    """Finds and writes the features of one shard; utterances that cannot be aligned are listed in it."""
    reader = ShardReader(task.folder, task.split)
    entry = reader.receipts[task.number]
    aligner = PhoneAligner(task.texts_are_right)
    phones, pitches = [np.zeros(0, np.uint8)], [np.zeros(0, np.float32)]
    ids, left_out = list[str](), list[LeftOut]()
    for utterance in reader.iterate([task.number]):
        try:
            waveform = read_row_audio(task.rows[utterance.id])
            found = aligner.phones(waveform, utterance.text)
        except (KeyError, AlignmentError, LstError) as error:
            reason = "it has no recording" if isinstance(error, KeyError) else str(error)
            left_out.append({"id": utterance.id, "reason": reason})
            continue
        phones.append(found)
        pitches.append(pitch_of(waveform, SAMPLE_RATE_HZ, MelScale(SAMPLE_RATE_HZ).num_frames(len(waveform))))
        ids.append(utterance.id)
    described: FeatureDescription = {
        "format": "lst-voice-features-1",
        "made_from": entry["sha256"],
        "ids": ids,
        "num_phones": [len(part) for part in phones[1:]],
        "num_pitch": [len(part) for part in pitches[1:]],
        "left_out": left_out,
        "texts_are_right": task.texts_are_right,
    }
    tensors: dict[str, np.ndarray] = {"phones": np.concatenate(phones), "pitch": np.concatenate(pitches)}
    content = save(tensors, metadata={"lst": json.dumps(described, sort_keys=True)})
    storage.write_bytes(_place(task.folder, entry), content)


def read_features(data: PreparedData, split: str) -> dict[str, SpeechFeatures]:
    """The features of a split by utterance; what was left out is said."""
    found: dict[str, SpeechFeatures] = {}
    left_out: list[LeftOut] = []
    for entry in _readers(data)[split].receipts:
        read = _read(data.folder, entry)
        if read is None:
            raise UserError(f"{_place(data.folder, entry)} is missing or not of this shard. {_REMEDY}")
        described, tensors = read
        phones = _parts(tensors["phones"], described["num_phones"])
        pitches = _parts(tensors["pitch"], described["num_pitch"])
        found |= {
            name: SpeechFeatures(*own)
            for name, *own in zip(described["ids"], phones, pitches, strict=True)
            if len(own[0])
        }
        left_out += described["left_out"]
    if left_out:
        first = f"{left_out[0]['id']}: {left_out[0]['reason']}"
        say(f"{split}: {len(left_out)} utterances have no phones and are left out of the voice, such as {first}")
    return found


def _readers(data: PreparedData) -> dict[str, ShardReader]:
    return {"train": data.train, "valid": data.valid}


def _place(folder: Folder, entry: IndexEntry) -> Folder:
    return folder / FEATURE_FOLDER / f"{entry['name']}.safetensors"


def _read(folder: Folder, entry: IndexEntry) -> tuple[FeatureDescription, dict[str, np.ndarray]] | None:
    """A file of features; None where there is none of this shard, so that it is made again."""
    place = _place(folder, entry)
    if not storage.exists(place):
        return None
    file = read_header(storage.local_copy(place), "the features of a shard are", _REMEDY)
    try:
        described = parse_json(file.metadata.get("lst", "{}").encode(), FeatureDescription)
        sizes = {"phones": [sum(described["num_phones"])], "pitch": [sum(described["num_pitch"])]}
        if {name: info.shape for name, info in file.tensors.items()} != sizes:
            raise FormatError(f"holds other tensors than its description says ({sizes})")
    except FormatError as error:
        raise UserError(f"the features of a shard are damaged: {place} {error}. {_REMEDY}") from None
    if described["made_from"] != entry["sha256"]:
        return None
    return described, {name: tensor.numpy() for name, tensor in file.read().items()}


def _parts(values: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    return iter(np.split(values, np.cumsum(sizes)[:-1])) if sizes else iter(())
