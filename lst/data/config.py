"""Options of corpora, interleaving and packing. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

EXECUTORS = ("local", "ray")
MIX_BY = ("tokens", "documents")
ENGINES = ("auto", "flite", "espeak-ng", "pico")
ALIGN_METHODS = ("pocketsphinx", "ctc", "import", "manifest", "stamps")
ALIGN_FORMATS = ("auto", "textgrid", "ctm", "mfa_json", "whisper_json")
ALIGN_LEVELS = ("word", "character")
# How recordings lie on disk; `lst.data.corpora.layouts` has a module for each.
AUTO_LAYOUT = "auto"
LAYOUT_NAMES = (
    AUTO_LAYOUT,
    "manifest",
    "librispeech",
    "ljspeech",
    "vctk",
    "common_voice",
    "mls",
    "peoples_speech",
    "lhotse",
    "nemo",
    "webdataset",
)


def parse_part(text: str) -> tuple[int, int]:
    """``i/n`` as numbers with 0 ≤ i < n; raises ``ValueError``."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f"{text!r} is not i/n with 0 ≤ i < n")
    return int(match[1]), int(match[2])


@dataclass
class InterleaveConfig:
    text_min_words: int = field(default=5, metadata={"doc": "shortest text span, in words"})
    text_max_words: int = field(default=30, metadata={"doc": "longest text span, in words"})
    text_max_share: float = field(default=0.6, metadata={"doc": "longest text span, as a share of the utterance"})
    speech_ratio: float = field(default=0.5, metadata={"doc": "words of a speech span for each of the text before it"})
    speech_min_words: int = field(default=2, metadata={"doc": "shortest speech span, in words"})
    leading_speech_max_words: int = field(default=15, metadata={"doc": "longest speech span that opens a document"})

    def problems(self) -> list[str]:
        found = []
        if not 1 <= self.text_min_words <= self.text_max_words:
            found.append(
                f"data.interleave.text_min_words={self.text_min_words}, text_max_words={self.text_max_words}: "
                "must satisfy 1 ≤ min ≤ max"
            )
        if not 0 < self.text_max_share <= 1:
            found.append(f"data.interleave.text_max_share={self.text_max_share}: must be above 0 and at most 1")
        if self.speech_ratio <= 0:
            found.append(f"data.interleave.speech_ratio={self.speech_ratio}: must be above 0")
        if not 1 <= self.speech_min_words <= self.leading_speech_max_words:
            found.append(
                f"data.interleave.speech_min_words={self.speech_min_words}, "
                f"leading_speech_max_words={self.leading_speech_max_words}: must satisfy 1 ≤ min ≤ max"
            )
        return found


@dataclass
class MixConfig:
    interleaved: float = field(default=1.0, metadata={"doc": "weight of documents that switch between speech and text"})
    text: float = field(default=0.5, metadata={"doc": "weight of documents of text alone"})
    speech: float = field(default=1.0, metadata={"doc": "weight of documents of speech alone (the paper uses none)"})
    by: str = field(
        default="tokens",
        metadata={"doc": "what the weights are of: tokens (exact), or documents (drawn, whatever their length)"},
    )

    def problems(self) -> list[str]:
        found = []
        weights = (self.interleaved, self.text, self.speech)
        # Infinity and NaN are no weights either.
        if not all(0 <= weight < math.inf for weight in weights) or max(weights) <= 0:
            found.append(f"data.mix={weights}: weights must not be negative, and one must be above 0")
        if self.by not in MIX_BY:
            found.append(f"data.mix.by={self.by}: allowed are {', '.join(MIX_BY)}")
        return found


@dataclass
class AlignConfig:
    method: str = field(
        default="pocketsphinx",
        metadata={
            "doc": "who places words: pocketsphinx, ctc, import (files of another aligner), manifest (times that the "
            "corpus gives) or stamps (of the voice)"
        },
    )
    level: str = field(
        default="word", metadata={"doc": "word, or character (ctc, import): pieces of words get their own frames"}
    )
    checkpoint: str = field(
        default="", metadata={"doc": "ctc: a folder (Hugging Face, or ctc.json), or a torchaudio bundle such as MMS_FA"}
    )
    weights: str = field(
        default="",
        metadata={"doc": "ctc: safetensors with the bundle's weights; empty takes torch's hub cache or downloads"},
    )
    device: str = field(default="cpu", metadata={"doc": "ctc: where the model runs: cpu, cuda, cuda:1, …"})
    window_s: float = field(default=30.0, metadata={"doc": "ctc: longer audio passes the model in such windows"})
    overlap_s: float = field(default=2.0, metadata={"doc": "ctc: what a window hears besides its own part, each side"})
    batch: int = field(
        default=8, metadata={"doc": "ctc: windows that pass the model together; results don't depend on it"}
    )
    source: str = field(
        default="",
        metadata={"doc": "import: a file, or a folder of files named after utterances; stamps: their folder"},
    )
    format: str = field(
        default="auto", metadata={"doc": "import: textgrid, ctm, mfa_json, whisper_json; auto goes by file and content"}
    )
    min_score: float | None = field(
        default=None,
        metadata={"doc": "utterances whose words score less on average are left out; aligners differ in scale"},
    )
    min_words_per_second: float = field(default=0.0, metadata={"doc": "utterances spoken slower are left out"})
    max_words_per_second: float | None = field(
        default=None, metadata={"doc": "utterances spoken faster are left out; null sets no limit"}
    )

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        found = []
        for name, allowed in (("method", ALIGN_METHODS), ("level", ALIGN_LEVELS), ("format", ALIGN_FORMATS)):
            if getattr(self, name) not in allowed:
                found.append(f"data.align.{name}={getattr(self, name)}: allowed are {', '.join(allowed)}")
        if self.level == "character" and self.method in ("pocketsphinx", "manifest", "stamps"):
            found.append(
                f"data.align.level=character: {self.method} places words only; use data.align.method=ctc or import, "
                "or data.align.level=word"
            )
        if self.method == "ctc" and not self.checkpoint:
            found.append("data.align.method=ctc: say which model with data.align.checkpoint=FOLDER or BUNDLE")
        if self.method == "import" and not self.source:
            found.append("data.align.method=import: say where the files are with data.align.source=PATH")
        if not (self.window_s > 0 and self.overlap_s >= 0 and 2 * self.overlap_s < self.window_s):
            found.append(
                f"data.align.window_s={self.window_s}, overlap_s={self.overlap_s}: must satisfy 0 ≤ 2 overlap < window"
            )
        if self.batch < 1:
            found.append(f"data.align.batch={self.batch}: must be 1 or more")
        most = float("inf") if self.max_words_per_second is None else self.max_words_per_second
        if not 0 <= self.min_words_per_second < most:
            found.append(
                f"data.align.min_words_per_second={self.min_words_per_second}, "
                f"max_words_per_second={self.max_words_per_second}: must satisfy 0 ≤ min < max"
            )
        return found


@dataclass
class DataConfig:
    num_spoken_stories: int = field(default=600, metadata={"doc": "stories that are spoken, without corpus="})
    num_text_stories: int = field(default=4000, metadata={"doc": "stories that stay text, without corpus="})
    voice: str = field(
        default="auto", metadata={"doc": "flite, espeak-ng or pico; auto takes the first of these installed"}
    )
    num_speakers: int = field(default=4, metadata={"doc": "pseudo-speakers that the voice is varied into"})
    valid_share: float = field(
        default=0.25, metadata={"doc": "share of utterances held out when the corpus has no split"}
    )
    min_duration_s: float = field(default=0.2, metadata={"doc": "shorter audio is refused"})
    max_duration_s: float = field(default=60.0, metadata={"doc": "longer audio is refused"})
    max_unaligned_share: float = field(
        default=0.1, metadata={"doc": "share of utterances that may fail to align; all of them are listed"}
    )
    on_the_fly_units: int = field(
        default=0, metadata={"doc": "codebook size of .on_the_fly files; 0 takes the largest unit there and one"}
    )
    shard_utterances: int = field(default=64, metadata={"doc": "utterances a shard"})
    pack_buffer: int = field(default=128, metadata={"doc": "documents from which rows are packed, of each stream"})
    num_streams: int = field(
        default=4, metadata={"doc": "streams that give batches in turn; as many as there are loader workers, or more"}
    )
    num_loader_workers: int = field(
        default=0, metadata={"doc": "processes that make training batches ahead; 0 makes them in the training itself"}
    )
    shuffle_shards: int = field(
        default=0, metadata={"doc": "shards that are read and shuffled at a time, for storage far away; 0 for all"}
    )
    verify: str = field(default="hash", metadata={"doc": "check of every sample read: hash, or size alone"})
    align: AlignConfig = field(default_factory=AlignConfig)
    interleave: InterleaveConfig = field(default_factory=InterleaveConfig)
    mix: MixConfig = field(default_factory=MixConfig)

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        found = [*self.align.problems(), *self.interleave.problems(), *self.mix.problems()]
        for name in (
            "num_spoken_stories",
            "num_text_stories",
            "num_speakers",
            "shard_utterances",
            "pack_buffer",
            "num_streams",
        ):
            if getattr(self, name) < 1:
                found.append(f"data.{name}={getattr(self, name)}: must be 1 or more")
        if not 0 <= self.on_the_fly_units <= 65_536:
            found.append(f"data.on_the_fly_units={self.on_the_fly_units}: must be 0 (found) to 65536")
        for name in ("num_loader_workers", "shuffle_shards"):
            if getattr(self, name) < 0:
                found.append(f"data.{name}={getattr(self, name)}: must be 0 or more")
        if self.num_loader_workers > self.num_streams >= 1:
            found.append(
                f"data.num_loader_workers={self.num_loader_workers}: a worker makes the batches of one stream or more, "
                f"so at most data.num_streams={self.num_streams} have work; lower the one or raise the other"
            )
        if self.voice not in ENGINES:
            found.append(f"data.voice={self.voice}: allowed are {', '.join(ENGINES)}")
        if not 0 < self.valid_share < 1:
            found.append(f"data.valid_share={self.valid_share}: must lie between 0 and 1")
        if not 0 < self.min_duration_s < self.max_duration_s:
            found.append(
                f"data.min_duration_s={self.min_duration_s}, max_duration_s={self.max_duration_s}: "
                "must satisfy 0 < min < max"
            )
        if not 0 <= self.max_unaligned_share <= 1:
            found.append(f"data.max_unaligned_share={self.max_unaligned_share}: must lie between 0 and 1")
        if self.verify not in ("hash", "size"):
            found.append(f"data.verify={self.verify}: allowed are hash, size")
        return found
