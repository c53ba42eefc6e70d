"""``lst voice eval``: a voice on speakers that it never heard, against what is easy and what is possible.

Speech engines say the same sentences in several voices, so the true result of a conversion is known.

::

    RUN/voice/NAME/evaluation.json    VoiceEvaluation
    RUN/voice/NAME/evaluation.html    its table, and the first conversions to listen to
    RUN/voice/NAME/evaluation_corpus.json, .html    the same, of the recordings of eval.corpus=
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch

from lst import storage
from lst.configs.voice_schema import VoiceConfig
from lst.data.alignment.aligner import AlignmentError
from lst.data.alignment.hmm import PhoneAligner
from lst.data.audio import read_row_audio, resample
from lst.data.corpora import ManifestRow
from lst.data.prepared import UNITS_FILE, artefact_path, load_units
from lst.data.recordings.recognisers import Recogniser, RecogniserChoice, load_recogniser
from lst.errors import UserError
from lst.evaluation.benchmark.recognise import spoken_keys, word_errors
from lst.evaluation.speakers import SpeakerMeasure, SpectralMeasure, load_speaker_encoder
from lst.parallel import check_one_process
from lst.progress import Progress
from lst.recipes.report.audio import audio_address
from lst.recipes.report.page import Section, page
from lst.recipes.voice.measures import path_distance, probe_accuracy, swapped
from lst.recipes.voice.pairs import Pair, pairs_of
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
    "swap": "swap: the source with the reference's mean and spread",
    "own": "teacher, in the source's own style",
    "teacher": "teacher, from aligned phones",
    "student": "student, from the source's mel",
    "units": "front of units, with the source's melody",
    "truth": "the truth, through Griffin and Lim",
}
_PHONE_RATE_HZ = 100
_NUM_PLAYED = 4


class SystemRecord(TypedDict):
    """Means of a system over all conversions.

    Keys:
        mel_distance: mean magnitude of the difference to the target's mel, along the best path in time; None where the
            target does not say the sentence.
        target_cosine, source_cosine: of the voice, to another utterance of the target than the reference, and to the
            source.
        pitch_correlation: with the source's pitch, where both have a voice; None where that is nowhere.
        word_error_rate: errors of the recogniser over all words; None without a recogniser.
    """

    mel_distance: float | None
    target_cosine: float
    source_cosine: float
    pitch_correlation: float | None
    word_error_rate: float | None


class VoiceEvaluation(TypedDict):
    """``evaluation.json``.

    Keys:
        voices: sources and targets; none of them may have been heard in training.
        corpus: of the recordings that were converted; None for engines' voices.
        measure: what the cosines are of.
        recogniser: that heard the words; None for none.
        systems: by name; see ``SYSTEMS``.
        speaker_probe: share of the sources whose voice a linear probe finds in the mean of the student's content.
        speaker_chance: what guessing would give.
        left_out: sentences that could not be aligned.
    """

    version: Literal[1]
    name: str
    voices: list[str]
    num_conversions: int
    corpus: str | None
    measure: str
    recogniser: str | None
    systems: dict[str, SystemRecord]
    speaker_probe: float
    speaker_chance: float
    left_out: list[str]


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
    verdict: list[str]


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
    voice, measure, recogniser = _checked(config)
    pairs = pairs_of(config)
    judge = _Judge(voice, measure, _tokenizer(config, voice.saved), recogniser)
    with Progress(len(pairs), "evaluate", "conversion") as progress:
        for pair in pairs:
            judge.add(pair)
            progress.advance()
    if not judge.rows:
        raise UserError(f"no sentence could be aligned: {judge.left_out[0]}")
    found = judge.found(config)
    folder, name = voice_folder(config), "evaluation" if config.eval.corpus is None else "evaluation_corpus"
    write_json(folder / f"{name}.json", {**found})
    sections = [
        TableSection(
            "table", "Results", found=found, systems=SYSTEMS, verdict=verdict_lines(found), template="voice_table.html"
        ),
        PlayedSection("listen", "Listen", played=judge.played, template="voice_clips.html"),
    ]
    html = page("lst.recipes.voice", "voice.html", sections, found=found, written=datetime.now(timezone.utc))
    write_text(folder / f"{name}.html", html)
    return "\n".join([*table_lines(found), f"page: {(folder / f'{name}.html').resolve()}"])


def evaluation_plan(config: VoiceConfig) -> list[str]:
    """What ``lst voice eval`` would do; raises ``UserError`` for what it would refuse."""
    _checked(config)
    return [f"evaluate {voice_file(config)} {evaluated_on(config)}"]


def evaluated_on(config: VoiceConfig) -> str:
    """What is converted, in words."""
    return f"on {config.eval.sentences} sentences of {config.eval.corpus or ', '.join(config.eval.voices)}"


def _checked(config: VoiceConfig) -> tuple[StyleVoice, SpeakerMeasure, Recogniser | None]:
    """The voice, and what measures it; raises ``UserError`` where one is missing or unfit."""
    voice = StyleVoice(SavedVoice.load(voice_file(config)))
    voice.check_converts()
    return voice, evaluation_measure(config), evaluation_recogniser(config)


def verdict_lines(found: VoiceEvaluation) -> list[str]:
    """The student against the swap, or, where the truth is not known, against the source."""
    student, swap, source = (found["systems"][name] for name in ("student", "swap", "source"))
    if student["mel_distance"] is None or swap["mel_distance"] is None:
        gain = student["target_cosine"] - source["target_cosine"]
        return [f"student: cosine to the target {gain:+.3f} against the source"]
    share, gain = student["mel_distance"] / swap["mel_distance"], student["target_cosine"] - swap["target_cosine"]
    return [f"student: {share:.2f} of the swap's distance, cosine to the target {gain:+.3f} against the swap"]


def table_lines(found: VoiceEvaluation) -> list[str]:
    """The table as lines of text."""
    lines = [f"{'':<62}{'mel':>7}{'target':>8}{'source':>8}{'pitch':>7}{'WER':>7}"]
    for name, one in found["systems"].items():
        cosines = f"{one['target_cosine']:>8.3f}{one['source_cosine']:>8.3f}"
        pitch, errors = _number(one["pitch_correlation"], 2), _number(one["word_error_rate"], 3)
        lines.append(f"{SYSTEMS[name]:<62}{_number(one['mel_distance'], 3):>7}{cosines}{pitch:>7}{errors:>7}")
    return [
        *lines,
        *verdict_lines(found),
        f"{found['num_conversions']} conversions; cosines of {found['measure']}",
        f"a linear probe finds the source's voice in {found['speaker_probe']:.0%}; chance is "
        f"{found['speaker_chance']:.0%}",
    ]


class _Judge:
    """Converts each pair by every system, and keeps what is measured."""

    def __init__(
        self,
        voice: StyleVoice,
        measure: SpeakerMeasure,
        codec: SpeechTokenizer | None,
        recogniser: Recogniser | None = None,
    ) -> None:
        self.voice, self.measure, self.codec, self.recogniser = voice, measure, codec, recogniser
        self.num_words, self.num_errors = 0, Counter[str]()
        self.rows: list[dict[str, SystemRecord]] = []
        self.contents: list[np.ndarray] = []
        self.voices: list[str] = []
        self.names: set[str] = set()
        self.played: list[tuple[str, list[tuple[str, str]]]] = []
        self.left_out: list[str] = []

    @cached_property
    def _aligner(self) -> PhoneAligner:
        return PhoneAligner(is_right=True)

    def add(self, pair: Pair) -> None:
        """Converts and measures one pair; one that cannot be aligned is left out, and listed."""
        source, reference = self._heard(pair.source), self._heard(pair.reference)
        truth = None if pair.truth is None else self._heard(pair.truth)
        try:
            phones = self._aligner.phones(read_row_audio(pair.source), pair.text)
        except AlignmentError as error:
            self.left_out.append(f"{pair.text}: {error}")
            return
        made = self._made(pair, source, reference, phones)
        if truth is not None:
            made["truth"] = truth.mel
        sounds = {name: self.voice.scale.waveform(mel) for name, mel in made.items()}
        voices = {name: self._vector(sound) for name, sound in sounds.items()}
        target_voice, source_voice = self._vector(self._heard(pair.other).waveform), self._vector(source.waveform)
        self._hear(pair.text, sounds)
        self.rows.append(
            {
                name: {
                    "mel_distance": None if truth is None else path_distance(mel, truth.mel),
                    "target_cosine": float(voices[name] @ target_voice),
                    "source_cosine": float(voices[name] @ source_voice),
                    "pitch_correlation": self._pitch_correlation(source, sounds[name]) if name != "truth" else None,
                    "word_error_rate": None,
                }
                for name, mel in made.items()
            }
        )
        if len(self.played) < _NUM_PLAYED:
            rate_hz = self.voice.sample_rate_hz
            clips = {"source": source.waveform, "reference": reference.waveform} | {
                SYSTEMS[name]: sound for name, sound in sounds.items() if name not in ("source", "own")
            }
            said = f"“{pair.text}” {pair.source_voice}, in the voice of {pair.reference.speaker}"
            self.played.append((said, [(label, audio_address(sound, rate_hz)) for label, sound in clips.items()]))
        self.voices.append(pair.source_voice)
        self.names |= {pair.source_voice, pair.reference.speaker}

    def _hear(self, text: str, sounds: Mapping[str, np.ndarray]) -> None:
        """Counts the words that the recogniser hears wrongly."""
        if self.recogniser is None:
            return
        wanted = spoken_keys(text)
        self.num_words += len(wanted)
        for name, sound in sounds.items():
            heard = self.recogniser.transcribe(resample("sound", sound, self.voice.sample_rate_hz, SAMPLE_RATE_HZ))
            self.num_errors[name] += word_errors(wanted, spoken_keys(heard))

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
            units = self.codec.encode([read_row_audio(pair.source)], SAMPLE_RATE_HZ)[0].astype(np.int64)
            placed = torch.from_numpy(at_content_rate(units, self.codec.frame_rate_hz, num_content))[None]
            made["units"] = decode(model.units(placed), style)
        return made

    def _heard(self, row: ManifestRow) -> Spoken:
        rate_hz = self.voice.sample_rate_hz
        waveform = evened(read_row_audio(row, rate_hz))
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
            systems[name] = {
                "mel_distance": _mean([one["mel_distance"] for one in own]),
                "target_cosine": float(np.mean([one["target_cosine"] for one in own])),
                "source_cosine": float(np.mean([one["source_cosine"] for one in own])),
                "pitch_correlation": _mean([one["pitch_correlation"] for one in own]),
                "word_error_rate": self.num_errors[name] / self.num_words if self.num_words else None,
            }
        counts = np.unique(self.voices, return_counts=True)[1]
        return {
            "version": 1,
            "name": config.name,
            "voices": sorted(self.names),
            "num_conversions": len(self.rows),
            "corpus": config.eval.corpus,
            "measure": self.measure.name,
            "recogniser": None if self.recogniser is None else self.recogniser.name,
            "systems": systems,
            "speaker_probe": probe_accuracy(np.stack(self.contents), self.voices),
            "speaker_chance": float(counts.max() / counts.sum()),
            "left_out": self.left_out,
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def evaluation_recogniser(config: VoiceConfig) -> Recogniser | None:
    """What hears the words; raises ``UserError`` where its package or its model is missing."""
    kind = config.eval.recognise
    return None if kind == "none" else load_recogniser(RecogniserChoice(kind, config.eval.recogniser_weights or ""))


def _tokenizer(config: VoiceConfig, saved: SavedVoice) -> SpeechTokenizer | None:
    """The run's tokenizer of speech; None where the voice does not read its units, or they cannot be made of sound."""
    folder = RunFolder(Path(config.run_dir), config.data_dir).data
    described = saved.description
    if not described["has_units"] or not storage.exists(folder / UNITS_FILE):
        return None
    codec = load_units(artefact_path(folder, UNITS_FILE))
    return None if codec.sha256 != described["units_sha256"] or isinstance(codec, ImportedUnits) else codec


def evaluation_measure(config: VoiceConfig) -> SpeakerMeasure:
    """What tells voices apart; raises ``UserError`` for weights that are missing or not trusted."""
    if config.eval.speaker_weights is None:
        return SpectralMeasure()
    return load_speaker_encoder(Path(config.eval.speaker_weights).expanduser(), config.eval.trust)
