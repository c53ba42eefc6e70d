"""``lst voice eval``: a voice on speakers that it never heard, against what is easy and what is possible.

Speech engines say the same sentences in several voices, so the true result of a conversion is known.

::

    RUN/voice/NAME/evaluation.json    VoiceEvaluation
    RUN/voice/NAME/evaluation.html    its table, and the first conversions to listen to
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import RidgeClassifier

from lst import storage
from lst.configs.voice_schema import VoiceConfig
from lst.data.alignment.aligner import AlignmentError
from lst.data.alignment.hmm import PhoneAligner
from lst.data.audio import read_audio, resample
from lst.data.prepared import UNITS_FILE, artefact_path, load_units
from lst.data.synthesis.stories import generate_stories, split_sentences
from lst.data.synthesis.voices import default_cache_dir, named_speaker, synthesize_many
from lst.errors import UserError
from lst.evaluation.speakers import SpeakerMeasure, SpectralMeasure, load_speaker_encoder
from lst.parallel import check_one_process
from lst.progress import Progress
from lst.recipes.report.audio import audio_address
from lst.recipes.report.page import Section, page
from lst.recipes.voice.speak import voice_file
from lst.recipes.voice.train import voice_folder
from lst.runs import RunFolder
from lst.storage import write_json, write_text
from lst.tokenizers.imported_units import ImportedUnits
from lst.tokenizers.speech import SpeechTokenizer
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.voice.converter import StyleVoice
from lst.voice.mel import at_content_rate, evened
from lst.voice.pitch import pitch_of, prosody_of
from lst.voice.saved import SavedVoice

SYSTEMS = {
    "source": "the source, copied",
    "swap": "the source with the reference's mean and spread in each bin",
    "own": "teacher, in the source's own style",
    "teacher": "teacher, from aligned phones",
    "student": "student, from the source's mel",
    "units": "front of units, with the source's melody",
    "truth": "the target itself, through Griffin and Lim",
}
_PHONE_RATE_HZ = 100
_MIN_WORDS, _NUM_PLAYED = 6, 4


class SystemRecord(TypedDict):
    """Means of a system over all conversions.

    Keys:
        mel_distance: mean magnitude of the difference to the target's mel, along the best path in time.
        target_cosine, source_cosine: of the voice, to another utterance of the target and of the source.
        pitch_correlation: with the source's pitch, where both have a voice; None where that is nowhere.
    """

    mel_distance: float
    target_cosine: float
    source_cosine: float
    pitch_correlation: float | None


class VoiceEvaluation(TypedDict):
    """``evaluation.json``.

    Keys:
        voices: that spoke; none of them may have been heard in training.
        measure: what the cosines are of.
        systems: by name; see ``SYSTEMS``.
        speaker_probe: share of the sources whose voice a linear probe finds in the mean of the student's content.
        speaker_chance: what guessing would give.
        left_out: sentences that could not be aligned.
    """

    version: Literal[1]
    name: str
    voices: list[str]
    num_conversions: int
    measure: str
    systems: dict[str, SystemRecord]
    speaker_probe: float
    speaker_chance: float
    left_out: list[str]


@dataclass(frozen=True)
class Pair:
    """A conversion whose truth is known: a sentence, and files of its source, its truth and a reference."""

    text: str
    source_voice: str
    source: Path
    truth: Path
    reference: Path


@dataclass(frozen=True, eq=False)
class Spoken:
    """A recording as the voice hears it: waveform, mel [80, T], pitch in Hz [T]."""

    waveform: np.ndarray
    mel: np.ndarray
    pitch_hz: np.ndarray


@dataclass(frozen=True, kw_only=True)
class TableSection(Section):
    """Means of all systems."""

    found: VoiceEvaluation
    systems: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class PlayedSection(Section):
    """Conversions to listen to: the text, and label and sound of each clip."""

    played: list[tuple[str, list[tuple[str, str]]]]


def evaluate_voice(config: VoiceConfig) -> str:
    """Evaluates a voice; returns its table as text.

    Raises:
        UserError: there is no such voice or engine, or weights are not trusted.
    """
    check_one_process("lst voice eval")
    path, measure = voice_file(config), _measure(config)
    saved = SavedVoice.load(path)
    if not saved.description["has_student"]:
        raise UserError(f"{path} speaks units and converts nothing: measure it with make bench-resynthesis")
    pairs = parallel_pairs(config)
    judge = _Judge(StyleVoice(saved), measure, _tokenizer(config, saved))
    with Progress(len(pairs), "evaluate", "conversion") as progress:
        for pair in pairs:
            judge.add(pair)
            progress.advance()
    if not judge.rows:
        raise UserError(f"no sentence could be aligned: {judge.left_out[0]}")
    found = judge.found(config)
    folder = voice_folder(config)
    write_json(folder / "evaluation.json", {**found})
    sections = [
        TableSection("table", "Results", found=found, systems=SYSTEMS, template="voice_table.html"),
        PlayedSection("listen", "Listen", played=judge.played, template="voice_clips.html"),
    ]
    html = page("lst.recipes.voice", "voice.html", sections, found=found, written=datetime.now(timezone.utc))
    write_text(folder / "evaluation.html", html)
    return "\n".join([*table_lines(found), f"page: {(folder / 'evaluation.html').resolve()}"])


def evaluation_plan(config: VoiceConfig) -> list[str]:
    """What ``lst voice eval`` would do; raises ``UserError`` for what it would refuse."""
    path = voice_file(config)
    _measure(config)
    return [f"evaluate {path} on {config.eval.sentences} sentences of {', '.join(config.eval.voices)}"]


def table_lines(found: VoiceEvaluation) -> list[str]:
    """The table as lines of text."""
    lines = [f"{'':<62}{'mel':>7}{'target':>8}{'source':>8}{'pitch':>7}"]
    for name, one in found["systems"].items():
        pitch = "–" if one["pitch_correlation"] is None else f"{one['pitch_correlation']:.2f}"
        lines.append(
            f"{SYSTEMS[name]:<62}{one['mel_distance']:>7.3f}{one['target_cosine']:>8.3f}{one['source_cosine']:>8.3f}{pitch:>7}"
        )
    return [
        *lines,
        f"{found['num_conversions']} conversions; cosines of {found['measure']}",
        f"a linear probe finds the source's voice in {found['speaker_probe']:.0%}; chance is "
        f"{found['speaker_chance']:.0%}",
    ]


def parallel_pairs(config: VoiceConfig) -> list[Pair]:
    """Sentences, each said by a source and a target voice, and another sentence of the target as reference."""
    speakers = [named_speaker(name) for name in config.eval.voices]
    stories = generate_stories(config.eval.sentences + 2, config.seed + 1)
    sentences = [one for story in stories for one in split_sentences(story.text) if len(one.split()) >= _MIN_WORDS]
    chosen = sentences[:: max(1, len(sentences) // (config.eval.sentences + 1))][: config.eval.sentences + 1]
    jobs, names = [], []
    for number, text in enumerate(chosen[:-1]):
        source = speakers[number % len(speakers)]
        # Each voice meets each other one in turn.
        step = 1 + number // len(speakers) % (len(speakers) - 1)
        target = speakers[(number + step) % len(speakers)]
        jobs += [(text, source), (text, target), (chosen[number + 1], target)]
        names.append((text, source.name))
    paths = synthesize_many(jobs, default_cache_dir(), config.num_workers)
    return [Pair(*named, *paths[3 * n : 3 * n + 3]) for n, named in enumerate(names)]


class _Judge:
    """Converts each pair by every system, and keeps what is measured."""

    def __init__(self, voice: StyleVoice, measure: SpeakerMeasure, codec: SpeechTokenizer | None) -> None:
        self.voice, self.measure, self.codec = voice, measure, codec
        self.rows: list[dict[str, SystemRecord]] = []
        self.contents: list[np.ndarray] = []
        self.voices: list[str] = []
        self.played: list[tuple[str, list[tuple[str, str]]]] = []
        self.left_out: list[str] = []

    @cached_property
    def _aligner(self) -> PhoneAligner:
        return PhoneAligner()

    def add(self, pair: Pair) -> None:
        """Converts and measures one pair; one that cannot be aligned is left out, and listed."""
        source, truth, reference = (self._heard(path) for path in (pair.source, pair.truth, pair.reference))
        try:
            phones = self._aligner.phones(read_audio(pair.source), pair.text)
        except AlignmentError as error:
            self.left_out.append(f"{pair.text}: {error}")
            return
        made = self._made(pair, source, reference, phones) | {"truth": truth.mel}
        sounds = {name: self.voice.scale.waveform(mel) for name, mel in made.items()}
        voices = {name: self._vector(sound) for name, sound in sounds.items()}
        target_voice, source_voice = self._vector(reference.waveform), self._vector(source.waveform)
        self.rows.append(
            {
                name: {
                    "mel_distance": path_distance(mel, truth.mel),
                    "target_cosine": float(voices[name] @ target_voice),
                    "source_cosine": float(voices[name] @ source_voice),
                    "pitch_correlation": self._pitch_correlation(source, sounds[name]) if name != "truth" else None,
                }
                for name, mel in made.items()
            }
        )
        if len(self.played) < _NUM_PLAYED:
            rate_hz = self.voice.sample_rate_hz
            clips = {"source": source.waveform, "reference": reference.waveform} | {
                SYSTEMS[name]: sound for name, sound in sounds.items() if name not in ("source", "own")
            }
            self.played.append((pair.text, [(label, audio_address(sound, rate_hz)) for label, sound in clips.items()]))
        self.voices.append(pair.source_voice)

    @torch.inference_mode()
    def _made(self, pair: Pair, source: Spoken, reference: Spoken, phones: np.ndarray) -> dict[str, np.ndarray]:
        """The mel of each system."""
        model = self.voice.saved.model
        prosody = torch.from_numpy(prosody_of(source.mel, source.pitch_hz))[None]
        num_content = source.mel.shape[1] // 2
        named = at_content_rate(phones, _PHONE_RATE_HZ, num_content).astype(np.int64)
        taught, heard = model.phones(torch.from_numpy(named)[None]), model.sound(torch.from_numpy(source.mel)[None])
        self.contents.append(heard[0].mean(dim=1).numpy())
        style, own = (self.voice.style_of(one.waveform)[None] for one in (reference, source))

        def decode(content: torch.Tensor, style: torch.Tensor) -> np.ndarray:
            mel: np.ndarray = model.decoder(content, prosody, style)[0].numpy()
            return mel

        made = {
            "source": source.mel,
            "swap": swapped(source.mel, reference.mel),
            "own": decode(taught, own),
            "teacher": decode(taught, style),
            "student": decode(heard, style),
        }
        if self.codec is not None:
            units = self.codec.encode([read_audio(pair.source)], SAMPLE_RATE_HZ)[0].astype(np.int64)
            placed = torch.from_numpy(at_content_rate(units, self.codec.frame_rate_hz, num_content))[None]
            made["units"] = decode(model.units(placed), style)
        return made

    def _heard(self, path: Path) -> Spoken:
        rate_hz = self.voice.sample_rate_hz
        waveform = evened(read_audio(path, rate_hz))
        mel = self.voice.scale.mel(waveform)
        return Spoken(waveform, mel, pitch_of(waveform, rate_hz, mel.shape[1]))

    def _vector(self, waveform: np.ndarray) -> np.ndarray:
        return self.measure.vector(resample("sound", waveform, self.voice.sample_rate_hz, SAMPLE_RATE_HZ))

    def _pitch_correlation(self, source: Spoken, sound: np.ndarray) -> float | None:
        pitch = pitch_of(evened(sound), self.voice.sample_rate_hz, len(source.pitch_hz))
        is_voiced = (pitch > 0) & (source.pitch_hz > 0)
        if is_voiced.sum() < 3:
            return None
        logs = np.log(np.stack([pitch[is_voiced], source.pitch_hz[is_voiced]]))
        return float(np.corrcoef(logs)[0, 1]) if (logs.std(axis=1) > 0).all() else None

    def found(self, config: VoiceConfig) -> VoiceEvaluation:
        """The means of all pairs."""
        systems: dict[str, SystemRecord] = {}
        for name in [name for name in SYSTEMS if name in self.rows[0]]:
            own = [row[name] for row in self.rows]
            pitches = [one["pitch_correlation"] for one in own if one["pitch_correlation"] is not None]
            systems[name] = {
                "mel_distance": float(np.mean([one["mel_distance"] for one in own])),
                "target_cosine": float(np.mean([one["target_cosine"] for one in own])),
                "source_cosine": float(np.mean([one["source_cosine"] for one in own])),
                "pitch_correlation": float(np.mean(pitches)) if pitches else None,
            }
        counts = np.unique(self.voices, return_counts=True)[1]
        return {
            "version": 1,
            "name": config.name,
            "voices": list(config.eval.voices),
            "num_conversions": len(self.rows),
            "measure": self.measure.name,
            "systems": systems,
            "speaker_probe": probe_accuracy(np.stack(self.contents), self.voices),
            "speaker_chance": float(counts.max() / counts.sum()),
            "left_out": self.left_out,
        }


def _tokenizer(config: VoiceConfig, saved: SavedVoice) -> SpeechTokenizer | None:
    """The run's tokenizer of speech; None where the voice does not read its units, or they cannot be made of sound."""
    folder = RunFolder(Path(config.run_dir), config.data_dir).data
    described = saved.description
    if not described["has_units"] or not storage.exists(folder / UNITS_FILE):
        return None
    codec = load_units(artefact_path(folder, UNITS_FILE))
    return None if codec.sha256 != described["units_sha256"] or isinstance(codec, ImportedUnits) else codec


def _measure(config: VoiceConfig) -> SpeakerMeasure:
    if config.eval.speaker_weights is None:
        return SpectralMeasure()
    return load_speaker_encoder(Path(config.eval.speaker_weights).expanduser(), config.eval.trust)


def swapped(mel: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """A mel with the mean and the spread that each bin has in a reference, float32 [80, T]."""
    mean, spread = mel.mean(axis=1, keepdims=True), mel.std(axis=1, keepdims=True) + 1e-5
    found: np.ndarray = (mel - mean) / spread * reference.std(axis=1, keepdims=True) + reference.mean(
        axis=1, keepdims=True
    )
    return found.astype(np.float32)


def path_distance(mel: np.ndarray, other: np.ndarray) -> float:
    """Mean magnitude of the difference of two mels, [80, T] and [80, U], along the best path in time."""
    costs = cdist(mel.T, other.T, "cityblock") / mel.shape[0]
    totals = np.full(len(other.T) + 1, np.inf)
    lengths = np.zeros(len(totals))
    totals[0] = 0.0
    for row in costs:
        left, left_length = np.inf, 0.0
        above, above_lengths = totals.copy(), lengths.copy()
        totals[0] = np.inf
        for place, cost in enumerate(row, start=1):
            # A step in both at once, in this one, in the other one.
            best, length = min(
                (above[place - 1], above_lengths[place - 1]), (above[place], above_lengths[place]), (left, left_length)
            )
            left, left_length = best + cost, length + 1
            totals[place], lengths[place] = left, left_length
    return float(totals[-1] / lengths[-1])


def probe_accuracy(contents: np.ndarray, voices: list[str]) -> float:
    """Share of the rows, [n, dim], whose voice a linear probe finds that was fitted to all others."""
    right = 0
    for row in range(len(voices)):
        rest = np.arange(len(voices)) != row
        names = np.array(voices)[rest]
        if len(set(names)) > 1:
            probe = RidgeClassifier().fit(contents[rest], names)
            right += probe.predict(contents[row : row + 1])[0] == voices[row]
    return right / len(voices)
