"""Speaker augmentation of a corpus: training recordings are converted into the voices of other speakers of it.

::

    RUN/augmented/held_out.json      HeldOutRecord: which utterances are, so that a corpus may grow
    RUN/augmented/audio/HASH.flac    a converted recording; the hash is of source, reference and voice
    RUN/augmented/manifest.jsonl     all recordings of the corpus with their splits, and the converted ones
    RUN/augmented/distances.json     UnitDistances; written last

Held-out utterances are neither converted nor taken as references.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import soundfile

from lst import storage
from lst.data.audio import read_row_audio
from lst.data.corpora import ManifestRow
from lst.data.corpora.manifest import write_manifest
from lst.data.prepare import PrepareOptions, check_preparing, prepare
from lst.data.prepare.fitting import fit_units
from lst.data.prepare.gather import gather_source
from lst.data.prepared import UNITS_FILE, artefact_path, load_units
from lst.data.shards import INDEX_FILE
from lst.data.utterance import HeldOut
from lst.errors import UserError
from lst.evaluation.benchmark.recognise import word_errors
from lst.parallel import ordered_map
from lst.progress import Progress, say
from lst.runs import RunFolder
from lst.storage import fingerprint, read_json, sha256, write_json
from lst.tokenizers.imported_units import ImportedUnits
from lst.tokenizers.speech import SpeechTokenizer, deduplicate
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.voice.converter import LEAST_REFERENCE_S, MOST_SOURCE_S, StyleVoice
from lst.voice.saved import SavedVoice

# Recordings that unit distances are measured on.
_NUM_MEASURED = 50
_LONGEST_REFERENCE_S = 10.0


class UnitDistances(TypedDict):
    """``distances.json``: how much units change when the voice does.

    Keys:
        before, after: edits that turn the deduplicated units of a recording into those of its conversion, over the
            units of the recording, with a codebook fitted to the corpus alone, and with the one that was fitted to all.
        num_pairs: recordings that were measured.
        num_converted: converted recordings that were added.
    """

    version: Literal[1]
    before: float
    after: float
    num_pairs: int
    num_converted: int


class HeldOutRecord(TypedDict):
    """``held_out.json``: which utterances of each corpus are held out, where the corpus does not say."""

    version: Literal[1]
    held_out: dict[str, HeldOut]


def prepare_augmented(run: RunFolder, options: PrepareOptions) -> None:
    """Converts what is not converted, prepares all, and measures how much the units change.

    Raises:
        UserError: the corpus has one speaker, or as ``prepare``.
    """
    augmented, folder, voice = augmented_options(run, options), augmented_folder(run), _voice_file(options)
    if storage.exists(run.data / INDEX_FILE):
        # Before hours of conversion.
        check_preparing(run.data, augmented)
    place = folder / "held_out.json"
    # Of a corpus that has grown, the same utterances stay held out: none of them may have been converted.
    kept = (
        read_json(place, HeldOutRecord, "the record of what is held out", f"Delete {folder}.")["held_out"]
        if place.exists()
        else {}
    )
    source = gather_source(options, held_out=kept)
    write_json(place, {**HeldOutRecord(version=1, held_out={**source.held_out})})
    rows = [row for row in source.rows if isinstance(row, ManifestRow)]
    pairs = conversions(rows, options.data.augment.voices, options.seed)
    if not pairs:
        raise UserError(
            f"data.augment.voices: the training recordings of {LEAST_REFERENCE_S:g} to {MOST_SOURCE_S:g} s are of one "
            "speaker; there is no other voice"
        )
    num_left = sum(row.split == "train" for row in rows) - len({source.id for source, _ in pairs})
    if num_left:
        say(
            f"{num_left:,} training recordings are not converted: they last less than {LEAST_REFERENCE_S:g} s or more "
            f"than {MOST_SOURCE_S:g} s"
        )
    converted = []
    convert = partial(_converted, folder, voice, sha256(voice))
    with Progress(len(pairs), "convert", "recording") as progress:
        for row in ordered_map(convert, pairs, options.num_workers):
            converted.append(row)
            progress.advance()
    write_manifest(folder / "manifest.jsonl", [*rows, *converted])
    prepare(run.data, augmented)
    codec = load_units(artefact_path(run.data, UNITS_FILE))
    if not isinstance(codec, ImportedUnits):
        _measure(folder, options, codec, rows, list(zip([source for source, _ in pairs], converted, strict=True)))


def augmented_options(run: RunFolder, options: PrepareOptions) -> PrepareOptions:
    """Those of preparing the corpus together with its conversions.

    Raises:
        UserError: the voice is missing, or converts nothing; or a part of the shards is asked for.
    """
    if options.part is not None:
        raise UserError("data.augment.voices: conversions are no part of part=; prepare in one call")
    StyleVoice(SavedVoice.load(_voice_file(options))).check_converts()
    return replace(options, corpus=str(augmented_folder(run) / "manifest.jsonl"), layout="manifest")


def _voice_file(options: PrepareOptions) -> Path:
    assert options.data.augment.voice is not None
    return Path(options.data.augment.voice).expanduser()


def augmented_folder(run: RunFolder) -> Path:
    """Where the converted recordings of a run lie."""
    return run.root / "augmented"


def conversions(rows: Sequence[ManifestRow], num_voices: int, seed: int) -> list[tuple[ManifestRow, ManifestRow]]:
    """Each training recording with a reference of each of ``num_voices`` other speakers, or of as many as there are."""
    own: dict[str, list[ManifestRow]] = {}
    for row in rows:
        if row.split == "train" and LEAST_REFERENCE_S <= (row.duration_s or 0.0) <= MOST_SOURCE_S:
            own.setdefault(row.speaker, []).append(row)
    rng = np.random.default_rng(seed)
    found = []
    for speaker, said in own.items():
        others = [name for name in own if name != speaker]
        for row in said:
            for name in rng.permutation(others)[:num_voices]:
                found.append((row, own[name][int(rng.integers(len(own[name])))]))
    return found


def _converted(folder: Path, voice: Path, voice_sha256: str, pair: tuple[ManifestRow, ManifestRow]) -> ManifestRow:
    """The row of a conversion, which is made where it is not there."""
    source, reference = pair
    name = fingerprint([source.audio_ref, source.id, reference.audio_ref, reference.id, voice_sha256])[:24]
    path = folder / "audio" / f"{name}.flac"
    if not path.exists():
        loaded = _voice(voice)
        rate_hz = loaded.sample_rate_hz
        heard = read_row_audio(reference, rate_hz)[: round(_LONGEST_REFERENCE_S * rate_hz)]
        made = loaded.convert(read_row_audio(source, rate_hz), loaded.style_of(heard, reference.id), source.id)
        with (
            storage.staged(path) as temporary,
            soundfile.SoundFile(temporary, "w", rate_hz, 1, "PCM_16", format="FLAC") as file,
        ):
            file.comment = f"converted by LST: words of {source.id}, voice of {reference.id}"
            file.write(made)
    # What is stated of the source's words, such as its licence, stays; the audio is a file of its own.
    return replace(
        source,
        id=f"{source.id}-{name[:8]}",
        path=path,
        speaker=f"converted-{reference.speaker}",
        duration_s=soundfile.info(path).duration,
        start_s=0.0,
        channel=None,
        member="",
        is_segment=False,
    )


@cache
def _voice(path: Path) -> StyleVoice:
    """One a process."""
    return StyleVoice(SavedVoice.load(path))


def _measure(
    folder: Path,
    options: PrepareOptions,
    codec: SpeechTokenizer,
    rows: Sequence[ManifestRow],
    pairs: list[tuple[ManifestRow, ManifestRow]],
) -> None:
    """Writes and says the distances before and after."""
    places = np.linspace(0, len(pairs) - 1, min(_NUM_MEASURED, len(pairs))).astype(int)
    measured = [pairs[place] for place in places]
    alone = fit_units(rows, options.tokenizer, options.seed, options.num_workers)
    before, after = (unit_distance(one, measured) for one in (alone, codec))
    found = UnitDistances(version=1, before=before, after=after, num_pairs=len(measured), num_converted=len(pairs))
    write_json(folder / "distances.json", {**found})
    say(
        f"{len(pairs):,} recordings in other voices: their units are {before:.1%} from those of the original ones with "
        f"a codebook of the corpus alone, {after:.1%} with that of all ({len(measured)} recordings)"
    )


def unit_distance(codec: SpeechTokenizer, pairs: Sequence[tuple[ManifestRow, ManifestRow]]) -> float:
    """Edits between the deduplicated units of recordings and of their conversions, over the units of the recordings."""
    edits, num_units = 0, 0
    for source, converted in pairs:
        own, other = (
            deduplicate(codec.encode([read_row_audio(row)], SAMPLE_RATE_HZ)[0])[0].tolist()
            for row in (source, converted)
        )
        edits += word_errors(own, other)
        num_units += len(own)
    return edits / max(num_units, 1)
