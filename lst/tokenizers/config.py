"""Options of units and text pieces. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = ("mfcc", "log_mel", "hubert", "whisper", "encodec")
MODEL_KINDS = ("hubert", "whisper", "encodec")
PATTERNS = ("flattened", "delayed")
TEXT_MODEL_TYPES = ("bpe", "unigram")
NORMALIZATIONS = ("nmt_nfkc", "nfkc", "identity")
CODEC_RATE_HZ, MAX_CODEBOOKS = 75, 32


@dataclass
class TokenizerConfig:
    kind: str = field(default="mfcc", metadata={"doc": f"speech units: {', '.join(KINDS)}"})
    num_units: int = field(default=100, metadata={"doc": "size of the k-means codebook of speech units"})
    frame_rate_hz: int = field(default=25, metadata={"doc": "frames a second; must divide the kind's own rate"})
    fit_max_frames: int = field(default=400_000, metadata={"doc": "frames that enter the k-means fit, at most"})
    weights: str | None = field(
        default=None, metadata={"doc": "a model's weights: a Hugging Face folder, a file, hub:NAME or bundle:NAME"}
    )
    layer: int | None = field(default=None, metadata={"doc": "layer whose output is quantised, 1 for the first"})
    codebook: str | None = field(
        default=None, metadata={"doc": "units file to use, score or show instead of fitting one; one to convert"}
    )
    num_codebooks: int = field(default=1, metadata={"doc": "codebooks of EnCodec, 1 to 32"})
    codebook_pattern: str = field(default="flattened", metadata={"doc": f"EnCodec's order: {', '.join(PATTERNS)}"})
    trust: bool = field(default=False, metadata={"doc": "read pickles (.pt, .bin, .km), which can run any program"})
    device: str = field(default="cpu", metadata={"doc": "where a model computes units: cpu or cuda"})
    text_model: str | None = field(
        default=None, metadata={"doc": "SentencePiece model to use as it is, such as Llama 2's"}
    )
    text_model_type: str = field(
        default="bpe", metadata={"doc": f"how text pieces are trained: {', '.join(TEXT_MODEL_TYPES)}"}
    )
    text_vocab_size: int = field(default=768, metadata={"doc": "text pieces at most, 256 bytes among them"})
    character_coverage: float = field(
        default=1.0, metadata={"doc": "share of the text's characters that become pieces; the others are bytes"}
    )
    normalization: str = field(
        default="nmt_nfkc", metadata={"doc": f"Unicode form of text: {', '.join(NORMALIZATIONS)}"}
    )
    lowercase: bool = field(default=True, metadata={"doc": "fold the case of text"})
    strip_punctuation: bool = field(default=False, metadata={"doc": "leave punctuation but apostrophes out of text"})
    split_digits: bool = field(default=False, metadata={"doc": "a piece for each digit of a number"})
    text_max_lines: int = field(default=2_000_000, metadata={"doc": "lines that enter the training of text pieces"})

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        return self._unit_problems() + self._model_problems() + self._text_problems()

    def _unit_problems(self) -> list[str]:
        found = []
        if not 2 <= self.num_units <= 65_535:
            found.append(f"tokenizer.num_units={self.num_units}: allowed are 2 to 65535")
        if self.fit_max_frames < self.num_units:
            found.append(f"tokenizer.fit_max_frames={self.fit_max_frames}: must be at least tokenizer.num_units")
        if self.kind not in KINDS:
            return [*found, f"tokenizer.kind={self.kind}: allowed are {', '.join(KINDS)}"]
        if self.kind == "encodec":
            if self.frame_rate_hz != CODEC_RATE_HZ:
                found.append(f"tokenizer.frame_rate_hz={self.frame_rate_hz}: EnCodec gives {CODEC_RATE_HZ} a second")
        elif self.frame_rate_hz < 1 or (100 if self.kind in ("mfcc", "log_mel") else 50) % self.frame_rate_hz:
            whole = 100 if self.kind in ("mfcc", "log_mel") else 50
            found.append(
                f"tokenizer.frame_rate_hz={self.frame_rate_hz}: must divide {whole} (25 is the published rate)"
            )
        return found

    def _model_problems(self) -> list[str]:
        found = []
        for name in ("weights", "codebook", "text_model"):
            if getattr(self, name) == "":
                found.append(f"tokenizer.{name}= is empty: give a path, or leave the option out")
        if self.kind in MODEL_KINDS and self.weights is None and self.codebook is None:
            found.append(
                f"tokenizer.kind={self.kind} needs tokenizer.weights= (a Hugging Face folder, a .safetensors file, "
                "hub:OWNER/NAME), or tokenizer.codebook= a units file that knows where they are"
            )
        if self.kind in ("hubert", "whisper") and self.layer is None and self.codebook is None:
            found.append(f"tokenizer.kind={self.kind} needs tokenizer.layer=N, 1 for the first Transformer layer")
        if self.layer is not None and self.layer < 1:
            found.append(f"tokenizer.layer={self.layer}: the first layer is 1")
        if not 1 <= self.num_codebooks <= MAX_CODEBOOKS:
            found.append(f"tokenizer.num_codebooks={self.num_codebooks}: allowed are 1 to {MAX_CODEBOOKS}")
        if self.codebook_pattern not in PATTERNS:
            found.append(f"tokenizer.codebook_pattern={self.codebook_pattern}: allowed are {', '.join(PATTERNS)}")
        if self.device not in ("cpu", "cuda"):
            found.append(f"tokenizer.device={self.device}: allowed are cpu, cuda")
        return found

    def _text_problems(self) -> list[str]:
        found = []
        if self.text_vocab_size < 300:
            found.append(f"tokenizer.text_vocab_size={self.text_vocab_size}: must be 300 or more (256 are the bytes)")
        if self.text_model_type not in TEXT_MODEL_TYPES:
            found.append(f"tokenizer.text_model_type={self.text_model_type}: allowed are {', '.join(TEXT_MODEL_TYPES)}")
        if not 0.9 <= self.character_coverage <= 1:
            found.append(f"tokenizer.character_coverage={self.character_coverage}: must lie between 0.9 and 1")
        if self.normalization not in NORMALIZATIONS:
            found.append(f"tokenizer.normalization={self.normalization}: allowed are {', '.join(NORMALIZATIONS)}")
        if self.normalization == "identity" and (self.lowercase or self.strip_punctuation):
            found.append(
                "tokenizer.normalization=identity keeps text as it is: set tokenizer.lowercase=false and "
                "tokenizer.strip_punctuation=false with it, or choose nfkc"
            )
        if self.text_max_lines < 1:
            found.append(f"tokenizer.text_max_lines={self.text_max_lines}: must be 1 or more")
        return found
