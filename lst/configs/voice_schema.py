"""Options of ``lst voice``. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field

from lst.configs.schema import name_problems
from lst.options import Options, option
from lst.voice.config import SpectrumConfig, VoiceLossConfig, VoiceModelConfig


@dataclass
class VoiceTrainConfig(Options, prefix="train."):
    """Options of a voice's training; both stages share them."""

    teacher_steps: int = option(
        2000, "steps of stage 1: style, decoder and the front of phones", low=1, needs="part=whole"
    )
    student_steps: int = option(500, "steps of stage 2: the fronts of mels and of units", low=1, needs="part=whole")
    steps: int = option(800, "steps of part=units, or of part=vocoder", low=1, needs="part=units|vocoder")
    utterances: int = option(
        300, "training utterances of these parts at most, from all over; 0 takes all", low=0, needs="part=units|vocoder"
    )
    rows: int = option(8, "pieces of utterances in a batch", low=2)
    piece_s: float = option(1.6, "length of a piece", low=0.5, high=20, unit="s")
    reference_s: float = option(
        2.0, "length of the piece that gives the style", low=0.5, high=20, unit="s", needs="part=whole|units"
    )
    learning_rate: float = option(1e-3, "peak learning rate", above=0)
    warmup_steps: int = option(100, "steps of linear warm-up", low=0)
    final_rate_share: float = option(0.05, "share of the peak rate that a cosine ends with", low=0, high=1)
    weight_decay: float = option(1e-4, "AdamW's weight decay", low=0)
    beta1: float = option(0.8, "AdamW's first decay", low=0, below=1)
    beta2: float = option(0.99, "AdamW's second decay", low=0, below=1)
    clip_norm: float = option(5.0, "gradients are scaled down to this norm", above=0)
    max_skipped_updates: int = option(20, "updates that may be left out as not finite before the training stops", low=0)
    eval_every: int = option(250, "steps between validations", low=1)
    eval_rows: int = option(32, "pieces of held-out utterances that are validated on", low=1)
    checkpoint_every: int = option(250, "steps between checkpoints", low=1)
    accelerator: str = option("auto", "Lightning's accelerator", choices=("auto", "cpu", "gpu"))


@dataclass
class VoiceEvalConfig(Options, prefix="eval."):
    """Options of a voice's evaluation."""

    voices: list[str] = option(
        ["flite:slt", "pico:en-US", "espeak-ng:en-us+Andy", "espeak-ng:en-us+anika", "espeak-ng:en-gb+Michael"],
        "voices of speech engines that say the sentences; the training must not have heard them",
    )
    corpus: str | None = option(
        None,
        "recordings, a corpus as of lst prepare: its speakers are converted into each other instead of eval.voices, "
        "and the voice may have heard none of them",
        path="file or folder",
        url_allowed=True,
    )
    sentences: int = option(20, "sentences that are converted", low=4)
    recognise: str = option(
        "none",
        "recogniser that hears the words: its errors are counted",
        choices=("none", "pocketsphinx", "faster-whisper"),
    )
    recogniser_weights: str | None = option(
        None,
        "folder of a Whisper model in the format of CTranslate2",
        path="folder",
        needs="eval.recognise=faster-whisper",
    )
    speaker_weights: str | None = option(
        None, "pretrained.pt of Resemblyzer, for cosines of voices; without, mean spectra are compared", path="file"
    )
    trust: bool = option(False, "whether these weights, a pickle, may be read", needs="eval.speaker_weights!=null")

    def rules(self) -> list[str]:
        """A conversion needs two voices, and Whisper its weights."""
        found = []
        if len(set(self.voices)) < 2 or len(set(self.voices)) < len(self.voices):
            found.append(f"eval.voices={list(self.voices)}: give two or more different voices")
        if self.recognise == "faster-whisper" and self.recogniser_weights is None:
            found.append("eval.recognise=faster-whisper: say where its model lies with eval.recogniser_weights=FOLDER")
        return found


@dataclass
class ManyVoicesConfig(Options, prefix="many."):
    """The synthesised speech that ``lst voice quickstart`` trains on."""

    voices: list[str] = option(
        [],
        "voices of speech engines, ENGINE:VOICE, that pseudo-speakers are made of; engines take turns, and so do the "
        "voices of each",
    )
    num_speakers: int = option(150, "pseudo-speakers: they differ in voice, pace, pitch and body", low=2)
    num_sentences: int = option(9, "sentences of each", low=1)


@dataclass
class VoiceConfig(Options):
    """All options of ``lst voice``."""

    run_dir: str = option(
        "runs/quickstart", "folder of the run whose prepared data and voices are meant", path="folder"
    )
    data_dir: str | None = option(
        None, "folder of prepared data, elsewhere than in run_dir; a URL too", path="folder", url_allowed=True
    )
    name: str = option("voice", "name of the voice within the run")
    part: str = option(
        "whole",
        "what is trained: the whole voice, its units alone (minutes; it speaks and does not convert), or its vocoder",
        choices=("whole", "units", "vocoder"),
    )
    vocoder: str = option(
        "trained",
        "what makes sound of mels: the voice's own one, where there is one; else Griffin and Lim",
        choices=("trained", "griffin_lim", "vocos"),
    )
    vocoder_weights: str | None = option(
        None, "folder of a published Vocos: config.yaml and model.safetensors", path="folder", needs="vocoder=vocos"
    )
    seed: int = option(0, "of first weights, pieces and styles", low=0)
    num_workers: int = option(1, "processes that find phones and pitch", low=1)
    texts_are_right: bool = option(
        False,
        "transcripts are surely what is said: phones are placed even where a sound fits them badly",
        needs="part=whole",
        is_later=True,
    )
    voice: str | None = option(None, "file of a trained voice; without, that of run_dir= and name=", path="file")
    source: str | None = option(None, "speech to convert: a file, or a folder of files", path="file or folder")
    reference: str | None = option(
        None, "speech of the voice that is wanted, half a second or more; lst voice speak can do without", path="file"
    )
    out: str | None = option(None, "WAV file that is written; a folder where source= is one", path="file or folder")
    units: str | None = option(None, "speech units to speak, such as '12 12 7', or the name of a file of them")
    text: str | None = option(None, "text that lm= reads aloud as units", is_prose=True)
    lm: str | None = option(None, "name of the run's language model that makes units of text=")
    model: VoiceModelConfig = field(default_factory=VoiceModelConfig)
    loss: VoiceLossConfig = field(default_factory=VoiceLossConfig)
    eval: VoiceEvalConfig = field(default_factory=VoiceEvalConfig)
    spectrum: SpectrumConfig = field(default_factory=SpectrumConfig)
    many: ManyVoicesConfig = field(default_factory=ManyVoicesConfig)
    train: VoiceTrainConfig = field(default_factory=VoiceTrainConfig)

    def rules(self) -> list[str]:
        """The name is that of a folder."""
        return name_problems(self.name)
