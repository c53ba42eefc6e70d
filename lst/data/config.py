"""Options of corpora, interleaving and packing. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field

ENGINES = ("auto", "flite", "espeak-ng", "pico")
# How recordings lie on disk; `lst.data.layouts` has a module for each.
AUTO_LAYOUT = "auto"
LAYOUT_NAMES = (AUTO_LAYOUT, "manifest", "librispeech", "ljspeech", "vctk", "common_voice", "mls", "peoples_speech",
                "lhotse", "nemo", "webdataset")  # fmt: skip


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

    def problems(self) -> list[str]:
        weights = (self.interleaved, self.text, self.speech)
        if min(weights) < 0 or max(weights) <= 0:
            return [f"data.mix={weights}: weights must not be negative, and one must be above 0"]
        return []


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
    shard_utterances: int = field(default=64, metadata={"doc": "utterances a shard"})
    pack_buffer: int = field(default=128, metadata={"doc": "documents from which rows are packed"})
    verify: str = field(default="hash", metadata={"doc": "check of shards before reading: hash or size"})
    interleave: InterleaveConfig = field(default_factory=InterleaveConfig)
    mix: MixConfig = field(default_factory=MixConfig)

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        found = [*self.interleave.problems(), *self.mix.problems()]
        for name in ("num_spoken_stories", "num_text_stories", "num_speakers", "shard_utterances", "pack_buffer"):
            if getattr(self, name) < 1:
                found.append(f"data.{name}={getattr(self, name)}: must be 1 or more")
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
