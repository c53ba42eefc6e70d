"""What building a benchmark needs: its items, the clips to speak, and what they cost. All faults are found here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lst.configs.schema import Config
from lst.data.config import NO_VOICE, SIMULATED
from lst.data.prepared import UNITS_FILE, PreparedData, artefact_path, speech_name
from lst.data.recordings.recognisers import RecogniserChoice, load_recogniser
from lst.data.synthesis import choose_engine, default_cache_dir, pseudo_speakers
from lst.data.synthesis.engines import engine_of
from lst.data.synthesis.voices import PseudoSpeaker, named_speakers, uncached
from lst.data.text import normaliser
from lst.errors import UserError
from lst.evaluation.accuracy import HEADLINE, HEADLINE_ALONE
from lst.evaluation.benchmark.formats import VERSION
from lst.evaluation.benchmark.listed import ItemList, list_items
from lst.evaluation.benchmark.text_items import TextItem
from lst.progress import duration_text, size_text
from lst.storage import fingerprint
from lst.tokenizers.imported_units import ImportedUnits

# Measured on two cores: an engine's start and speech, and units and words of it; FLAC and a shard's sample.
ENGINE_S_A_CLIP, UNITS_S_A_CLIP, S_A_LETTER = 0.3, 0.1, 0.065
BYTES_A_SECOND, BYTES_A_CLIP = 18_000, 6_000
# A recogniser's time for a second of speech, likewise.
HEARING_S_A_SECOND = {"pocketsphinx": 0.4, "faster-whisper": 0.6}
# What a recording is when the folder of pairs does not say who speaks.
RECORDED = PseudoSpeaker("recorded", "none", "none", 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Said:
    """An utterance: its id, the text of the file, the text that is read aloud, and who reads it."""

    id: str
    text: str
    spoken: str
    speaker: PseudoSpeaker


@dataclass(frozen=True)
class BuildPlan:
    """A benchmark that can be built.

    Attributes:
        name: one of ``BENCHMARKS``.
        listed: its items and where they are from.
        items: that are asked: each once for every voice.
        said: every utterance.
        speech: who speaks, in words.
        headlines: the headline score of each direction.
        num_voices: how many say each item.
        recogniser: that hears the clips; None without.
        read_aloud: name of the normaliser.
        units_file: of the tokenizer.
        units_sha256: its hash.
        made_from: fingerprint of all that decides the folder's bytes.
    """

    name: str
    listed: ItemList
    items: list[TextItem]
    said: list[Said]
    speech: str
    headlines: dict[str, str]
    num_voices: int
    recogniser: RecogniserChoice | None
    read_aloud: str
    units_file: Path
    units_sha256: str
    made_from: str

    @property
    def is_recorded(self) -> bool:
        """Whether its clips are recordings."""
        return bool(self.listed.recordings)

    @property
    def jobs(self) -> list[tuple[str, PseudoSpeaker]]:
        """Text and speaker of every utterance."""
        return [(said.spoken, said.speaker) for said in self.said]

    @property
    def speech_s(self) -> float:
        """About how long all different clips are."""
        return S_A_LETTER * sum(len(text) for text, _ in dict.fromkeys(self.jobs))

    @property
    def num_bytes(self) -> int:
        """About what the folder takes."""
        return round(self.speech_s * BYTES_A_SECOND + len(self.said) * BYTES_A_CLIP)

    def cost(self, num_workers: int) -> list[str]:
        """What building costs, as lines of text: clips, minutes of speech, disk and time."""
        if self.is_recorded:
            return [f"benchmark {self.name}: {len(self.items):,} pairs of recordings of {self.listed.source}"]
        distinct = dict.fromkeys(self.jobs)
        num_new = len(uncached(self.jobs, default_cache_dir()))
        time_s = (num_new * ENGINE_S_A_CLIP + len(self.said) * UNITS_S_A_CLIP) / num_workers
        lines = [
            f"benchmark {self.name}: {len(self.items):,} items, {len(self.said):,} clips ({len(distinct):,} different, "
            f"{num_new:,} to speak), about {self.speech_s / 60:.1f} min of {self.speech}",
            f"  disk about {size_text(self.num_bytes)}, and as much audio in the cache of voices; time about "
            f"{duration_text(time_s)} with {num_workers} processes",
        ]
        if self.recogniser is not None:
            hearing_s = self.speech_s * HEARING_S_A_SECOND[self.recogniser.kind] / num_workers
            lines.append(f"  and about {duration_text(hearing_s)} for {self.recogniser.kind} to hear them")
        return lines


def plan_build(config: Config, data: PreparedData) -> BuildPlan:
    """Reads and checks all items, and lists what is to be spoken. Nothing is written or spoken.

    Args:
        config: of the command.
        data: whose tokenizer makes the units.

    Raises:
        UserError: no file is given, the data's units are of no sound, no engine is installed, or items are faulty.
    """
    options = config.benchmark
    if isinstance(data.codec, ImportedUnits) or data.index["aligner"] == SIMULATED:
        raise UserError(
            f"the units of {data.folder} are of {speech_name(data.index)} without a tokenizer of audio: a benchmark "
            "is spoken by a voice. Prepare data with data.voice=auto or with corpus=FOLDER"
        )
    if config.data.voice in (SIMULATED, NO_VOICE):
        raise UserError(
            f"data.voice={config.data.voice}: a benchmark is spoken by a voice; use auto, flite, espeak-ng or pico"
        )
    reading = normaliser(options.normaliser)
    listed = list_items(config, reading.apply)
    contexts = {item.context for item in listed.items}
    if contexts and len(contexts) == 1 and not contexts & {""}:
        raise UserError(f"{listed.source} has one context alone: swapping contexts needs two that differ")
    recogniser = None
    if options.recognise != "none":
        recogniser = RecogniserChoice(options.recognise, options.recogniser_weights or "")
    items, said = _by_voices(config, listed, reading.apply)
    headlines = HEADLINE if contexts - {""} else HEADLINE_ALONE
    if listed.speakers or listed.recordings:
        headlines = {"S→S": headlines["S→S"]}
    of_later = []
    if recogniser is not None:
        of_later.append([load_recogniser(recogniser).name, options.max_wer])
    made_from = fingerprint(
        [
            VERSION,
            options.name,
            listed.sha256,
            [(one.id, one.spoken, str(one.speaker)) for one in said],
            reading.name,
            config.seed,
            config.data.align.recorded(),
            config.data.shard_utterances,
            data.codec.sha256,
            *of_later,
        ]
    )
    return BuildPlan(
        options.name,
        listed,
        items,
        said,
        _speech_of(said, listed),
        dict(headlines),
        listed.num_voices if listed.recordings else 1 if listed.speakers else max(1, len(options.voices)),
        recogniser,
        reading.name,
        artefact_path(data.folder, UNITS_FILE),
        data.codec.sha256,
        made_from,
    )


def _by_voices(config: Config, listed: ItemList, read_aloud: Callable[[str], str]) -> tuple[list[TextItem], list[Said]]:
    """Items as they are asked, and their utterances: each item by all voices that are named, or by one in its turn."""
    items, speakers = listed.items, dict(listed.speakers)
    if listed.recordings:
        speakers = {name: replace(RECORDED, name=_voice_of(name)) for name in listed.recordings}
    elif not speakers:
        named = named_speakers(config.benchmark.voices, "benchmark.voices")
        if len(named) > 1:
            items = [replace(item, id=f"{item.id}--{voice.name}") for item in items for voice in named]
        turns = named or pseudo_speakers(choose_engine(config.data.voice), config.data.num_speakers, config.seed)
        speakers = {name: turns[number % len(turns)] for number, item in enumerate(items) for name in item.parts}
    said = [
        Said(name, text, text if listed.recordings else read_aloud(text), speakers[name])
        for item in items
        for name, text in item.parts.items()
    ]
    return items, said


def _voice_of(utterance: str) -> str:
    """The voice that an id of pairs names: ``ID--VOICE-NUMBER``."""
    return utterance.rpartition("-")[0].rpartition("--")[2] if "--" in utterance else RECORDED.name


def _speech_of(said: list[Said], listed: ItemList) -> str:
    if listed.recordings:
        return f"recordings of {listed.source}"
    speakers = list(dict.fromkeys(one.speaker for one in said))
    engines = ", ".join(dict.fromkeys(speaker.engine for speaker in speakers))
    plural = "s" * (len(speakers) != 1)
    return f"synthesised speech ({engines}, {len(speakers)} pseudo-speaker{plural})"


def licences_of(said: list[Said]) -> dict[str, str]:
    """Licence of each engine that speaks."""
    engines = dict.fromkeys(one.speaker.engine for one in said if one.speaker.engine != RECORDED.engine)
    return {engine: engine_of(engine).traits.licence for engine in engines}
