"""Options of units and text pieces."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TokenizerConfig:
    num_units: int = field(default=100, metadata={"doc": "size of the k-means codebook of speech units"})
    frame_rate_hz: int = field(default=25, metadata={"doc": "speech units a second; must divide 100"})
    fit_max_frames: int = field(default=400_000, metadata={"doc": "frames that enter the k-means fit, at most"})
    text_vocab_size: int = field(default=768, metadata={"doc": "text pieces at most, 256 bytes among them"})
    lowercase: bool = field(default=True, metadata={"doc": "fold the case of text"})

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        found = []
        if not 2 <= self.num_units <= 65_535:
            found.append(f"tokenizer.num_units={self.num_units}: allowed are 2 to 65535")
        if self.frame_rate_hz < 1 or 100 % self.frame_rate_hz:
            found.append(f"tokenizer.frame_rate_hz={self.frame_rate_hz}: must divide 100 (25 is the published rate)")
        if self.text_vocab_size < 300:
            found.append(f"tokenizer.text_vocab_size={self.text_vocab_size}: must be 300 or more (256 are the bytes)")
        if self.fit_max_frames < self.num_units:
            found.append(f"tokenizer.fit_max_frames={self.fit_max_frames}: must be at least tokenizer.num_units")
        return found
