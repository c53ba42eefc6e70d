"""What is lost on the way from speech to units and back: ``make bench-resynthesis ARGS=RUN``.

Held-out utterances of a prepared run are resynthesised. A recogniser hears them, and the recordings; distances of
spectra are to the recording.

::

    recording ──────────────────────────────────────────────────────────▶ word errors
        └─ mel ── Griffin and Lim | the vocoder of the run ─────────────▶ word errors, distance    the ceiling
        └─ units ── mean spectra | each voice of the run that reads them ▶ word errors
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lst.api import fit_voice
from lst.api.voices import voices_of_run
from lst.data.audio import read_row_audio, resample
from lst.data.prepared import PreparedData
from lst.data.recordings.recognisers import Recogniser, RecogniserChoice, load_recogniser
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.evaluation.error_rates import counted
from lst.evaluation.lexicon import LexiconRecogniser, lexicon_of
from lst.recipes.benchmarks.figures import Figures
from lst.runs import RunFolder
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.voice.converter import StyleVoice
from lst.voice.mel import MelScale, evened
from lst.voice.vocoders.of_mels import GriffinLim, MelVocoder, TrainedVocoder
from lst.voice.vocoders.spectral import spectral_distance

CEILING = "true mel, Griffin and Lim"
# Of the ceiling's word errors, those of units spoken by a trained voice.
MOST_TIMES = 2.0


def main() -> None:
    """Runs the benchmark; writes ``runs/bench/resynthesis.json``."""
    parser = argparse.ArgumentParser(description="word errors of resynthesised speech")
    parser.add_argument("run", help="folder of a run whose data was prepared of recordings")
    parser.add_argument("--utterances", type=int, default=40, help="held-out utterances")
    parser.add_argument("--split", default="valid", choices=("valid", "train"))
    parser.add_argument("--whisper", default="", help="folder of a Whisper model; without, pocketsphinx hears")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = PreparedData(RunFolder(Path(given.run)).data)
    recogniser = recogniser_for(data, given.whisper)
    print(f"heard by {recogniser.name}")
    figures = Figures("resynthesis")
    measure(figures, Path(given.run), data, recogniser, given.utterances, given.split)
    figures.write()


def recogniser_for(data: PreparedData, whisper: str) -> Recogniser:
    """Whisper from a folder; without one, pocketsphinx with the words of the corpus as its lexicon."""
    if whisper:
        return load_recogniser(RecogniserChoice("faster-whisper", whisper))
    return LexiconRecogniser(lexicon_of(one.text for reader in (data.train, data.valid) for one in reader))


def measure(
    figures: Figures, run: Path, data: PreparedData, recogniser: Recogniser, num_utterances: int, split: str
) -> None:
    """Adds the word errors of each kind of sound, and the distances of vocoders; raises ``UserError`` without audio."""
    makers, distant = _makers(run, data)
    errors, distances = Counter[str](), defaultdict[str, float](float)
    num_words = num_heard = 0
    for utterance in data.train if split == "train" else data.valid:
        if num_heard == num_utterances or utterance.id not in data.manifest:
            continue
        num_heard += 1
        waveform = read_row_audio(data.manifest[utterance.id])
        for name, make in makers.items():
            sound = make(waveform, utterance)
            found = counted(utterance.text, recogniser.transcribe(sound))
            errors[name] += found.word_errors
            if name in distant:
                wanted, made = (torch.from_numpy(evened(one[: len(waveform)])) for one in (waveform, sound))
                distances[name] += spectral_distance(made, wanted[: len(made)])
        num_words += found.num_words
    if not num_words:
        raise UserError(f"{data.folder} has no recording with words in {split}")
    for name in makers:
        rate = errors[name] / num_words
        is_judged = name.startswith("units, voice")
        target = MOST_TIMES * errors[CEILING] / num_words if is_judged else None
        figures.add(f"{name}: word errors, %", 100 * rate, None if target is None else 100 * target, at_most=True)
    for name in distant:
        figures.add(f"{name}: distance of spectra", distances[name] / num_heard)


Maker = Callable[[np.ndarray, Utterance], np.ndarray]


def _makers(run: Path, data: PreparedData) -> tuple[Mapping[str, Maker], list[str]]:
    """What makes each kind of sound, at 16 kHz, and the kinds that are to be like the recording itself."""
    scale = MelScale(SAMPLE_RATE_HZ)

    def by_mel(vocoder: MelVocoder) -> Maker:
        return lambda waveform, _: vocoder.waveform(scale.mel(evened(waveform)), scale)

    makers: dict[str, Maker] = {"recording": lambda waveform, _: waveform, CEILING: by_mel(GriffinLim())}
    voices = voices_of_run(run, data.codec)
    for name, voice in voices.items():
        if isinstance(voice.vocoder, TrainedVocoder) and voice.sample_rate_hz == SAMPLE_RATE_HZ:
            makers[f"true mel, vocoder of {name}"] = by_mel(voice.vocoder)
    distant = [name for name in makers if name != "recording"]
    if (spectra := fit_voice(data)) is not None:
        makers["units, mean spectra"] = lambda _, utterance: spectra.sound(utterance.units)
    for name, voice in voices.items():
        makers[f"units, voice {name}"] = partial(_spoken, voice)
        if isinstance(voice.vocoder, TrainedVocoder):
            plain = replace(voice, vocoder=GriffinLim())
            makers[f"units, voice {name}, Griffin and Lim"] = partial(_spoken, plain)
    return makers, distant


def _spoken(voice: StyleVoice, _: np.ndarray, utterance: Utterance) -> np.ndarray:
    return resample("the voice", voice.sound(utterance.units), voice.sample_rate_hz, SAMPLE_RATE_HZ)


if __name__ == "__main__":
    main()
