"""What building a benchmark needs: its items, the clips to speak, and what they cost. All faults are found here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lst.configs.schema import Config
from lst.data.config import SIMULATED
from lst.data.corpora import ManifestProblem, apply_on_error, num_bad_rows
from lst.data.prepared import UNITS_FILE, PreparedData, artefact_path, speech_name
from lst.data.synthesis import choose_engine, default_cache_dir, pseudo_speakers
from lst.data.synthesis.voices import PseudoSpeaker, uncached
from lst.data.text import NORMALISER, normalise
from lst.errors import UserError
from lst.evaluation.benchmark.formats import VERSION
from lst.evaluation.benchmark.text_items import TextItem, read_items
from lst.progress import duration_text, size_text
from lst.storage import expanded, fingerprint, sha256
from lst.tokenizers.imported_units import ImportedUnits

# Measured on two cores: an engine's start and speech, and units and words of it; FLAC and a shard's sample.
ENGINE_S_A_CLIP, UNITS_S_A_CLIP, S_A_LETTER = 0.3, 0.1, 0.065
BYTES_A_SECOND, BYTES_A_CLIP = 18_000, 6_000


@dataclass(frozen=True)
class Said:
    """An utterance to be spoken: its id, the text of the file, the text that is read aloud, and who reads it."""

    id: str
    text: str
    spoken: str
    speaker: PseudoSpeaker


@dataclass(frozen=True)
class BuildPlan:
    """A benchmark that can be built.

    Attributes:
        name: one of ``BENCHMARKS``.
        items: in the order of the file.
        problems: items that ``on_error=skip`` leaves out.
        said: every utterance; all of an item are by one speaker.
        engine: of the voices.
        units_file: of the tokenizer.
        units_sha256: its hash.
        made_from: fingerprint of all that decides the folder's bytes.
    """

    name: str
    items: list[TextItem]
    problems: list[ManifestProblem]
    said: list[Said]
    engine: str
    units_file: Path
    units_sha256: str
    made_from: str

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
        distinct = dict.fromkeys(self.jobs)
        num_new = len(uncached(self.jobs, default_cache_dir()))
        time_s = (num_new * ENGINE_S_A_CLIP + len(self.said) * UNITS_S_A_CLIP) / num_workers
        return [
            f"benchmark {self.name}: {len(self.items):,} items, {len(self.said):,} clips ({len(distinct):,} different, "
            f"{num_new:,} to speak), about {self.speech_s / 60:.1f} min of speech by {self.engine}",
            f"  disk about {size_text(self.num_bytes)}, and as much audio in the cache of voices; time about "
            f"{duration_text(time_s)} with {num_workers} processes",
        ]


def plan_build(config: Config, data: PreparedData) -> BuildPlan:
    """Reads and checks all items, and lists what is to be spoken. Nothing is written or spoken.

    Args:
        config: of the command.
        data: whose tokenizer makes the units.

    Raises:
        UserError: no file is given, the data's units are of no sound, no engine is installed, or items are faulty.
    """
    if config.items is None:
        raise UserError("items=FILE is missing: a file of items in the benchmark's own format")
    if isinstance(data.codec, ImportedUnits) or data.index["aligner"] == SIMULATED:
        raise UserError(
            f"the units of {data.folder} are of {speech_name(data.index)} without a tokenizer of audio: a benchmark "
            "is spoken by a voice. Prepare data with data.voice=auto or with corpus=FOLDER"
        )
    if config.data.voice == SIMULATED:
        raise UserError("data.voice=simulated: a benchmark is spoken by a voice; use auto, flite, espeak-ng or pico")
    path, name = Path(expanded(config.items)), config.benchmark.name
    items, problems = read_items(name, path)
    num_rows = len(items) + num_bad_rows(problems)
    if not num_rows:
        raise UserError(f"{path} holds no items")
    apply_on_error(problems, num_rows, config.on_error, config.max_skipped_share, f"items {path}")
    items = items[: config.benchmark.max_items or None]
    if len({item.context for item in items}) == 1 and items[0].context:
        raise UserError(f"{path} has one context alone: swapping contexts needs two that differ")
    engine = choose_engine(config.data.voice)
    speakers = pseudo_speakers(engine, config.data.num_speakers, config.seed)
    said = [
        Said(utterance, text, normalise(text), speakers[number % len(speakers)])
        for number, item in enumerate(items)
        for utterance, text in item.parts.items()
    ]
    made_from = fingerprint(
        [
            VERSION,
            name,
            sha256(path),
            [(one.id, one.spoken, str(one.speaker)) for one in said],
            NORMALISER,
            config.seed,
            config.data.align.recorded(),
            config.data.shard_utterances,
            data.codec.sha256,
        ]
    )
    units_file = artefact_path(data.folder, UNITS_FILE)
    return BuildPlan(name, items, problems, said, engine, units_file, data.codec.sha256, made_from)
