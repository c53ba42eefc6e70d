"""Options of units and text pieces. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass

from lst.options import Options, option

# The function that builds the encoder of each kind of k-means units, as MODULE:FUNCTION.
ENCODERS = {
    "mfcc": "lst.tokenizers.encoders:build_acoustic_encoder",
    "log_mel": "lst.tokenizers.encoders:build_acoustic_encoder",
    "hubert": "lst.tokenizers.hubert_encoder:build_hubert_encoder",
    "whisper": "lst.tokenizers.whisper_encoder:build_whisper_encoder",
}
# EnCodec has codebooks of its own. Kinds with weights, and those of them that read ``layer``.
KINDS = (*ENCODERS, "encodec")
MODEL_KINDS = ("hubert", "whisper", "encodec")
LAYER_KINDS = ("hubert", "whisper")
PATTERNS = ("flattened", "delayed")
TEXT_MODEL_TYPES = ("bpe", "unigram")
NORMALIZATIONS = ("nmt_nfkc", "nfkc", "identity")
CODEC_RATE_HZ, MAX_CODEBOOKS = 75, 32
_FITTED = f"tokenizer.kind={'|'.join(ENCODERS)} and tokenizer.codebook=null"


@dataclass
class TokenizerConfig(Options, prefix="tokenizer."):
    """Options of speech units and of text pieces."""

    kind: str = option("mfcc", "what speech units are made from", choices=KINDS)
    num_units: int = option(
        100,
        "size of the k-means codebook of speech units",
        low=2,
        high=65_535,
        needs=_FITTED,
    )
    frame_rate_hz: int = option(25, "frames a second; must divide the kind's own rate", low=1, unit="Hz")
    fit_max_frames: int = option(400_000, "frames that enter the k-means fit, at most", low=2, needs=_FITTED)
    weights: str | None = option(
        None, "a model's weights: a Hugging Face folder, a file, hub:NAME or bundle:NAME", path="file or folder"
    )
    layer: int | None = option(
        None,
        "layer whose output is quantised, 1 for the first",
        low=1,
        note="the first layer is 1",
        needs=f"tokenizer.kind={'|'.join(LAYER_KINDS)} or tokenizer.codebook!=null",
    )
    codebook: str | None = option(
        None, "units file to use, score or show instead of fitting one; one to convert", path="file or folder"
    )
    num_codebooks: int = option(1, "codebooks of EnCodec", low=1, high=MAX_CODEBOOKS, needs="tokenizer.kind=encodec")
    codebook_pattern: str = option(
        "flattened", "order of EnCodec's codebooks", choices=PATTERNS, needs="tokenizer.kind=encodec"
    )
    trust: bool = option(False, "read pickles (.pt, .bin, .km), which can run any program")
    device: str = option("cpu", "where a model computes units", choices=("cpu", "cuda"))
    text_model: str | None = option(
        None,
        "text tokenizer to use as it is: a SentencePiece model, a tokenizer.json, a folder that holds one, or "
        "hub:OWNER/NAME",
        path="file or folder",
    )
    text_model_type: str = option(
        "bpe", "how text pieces are trained", choices=TEXT_MODEL_TYPES, needs="tokenizer.text_model=null"
    )
    text_vocab_size: int = option(
        768,
        "text pieces at most, 256 bytes among them",
        low=300,
        note="256 are the bytes",
        needs="tokenizer.text_model=null",
    )
    character_coverage: float = option(
        1.0,
        "share of the text's characters that become pieces; the others are bytes",
        low=0.9,
        high=1,
        needs="tokenizer.text_model=null",
    )
    normalization: str = option(
        "nmt_nfkc", "Unicode form of text", choices=NORMALIZATIONS, needs="tokenizer.text_model=null"
    )
    lowercase: bool = option(True, "fold the case of text", needs="tokenizer.text_model=null")
    strip_punctuation: bool = option(
        False, "leave punctuation but apostrophes out of text", needs="tokenizer.text_model=null"
    )
    split_digits: bool = option(False, "a piece for each digit of a number", needs="tokenizer.text_model=null")
    text_max_lines: int = option(
        2_000_000, "lines that enter the training of text pieces", low=1, needs="tokenizer.text_model=null"
    )

    def rules(self) -> list[str]:
        """The kind of units has its frame rate, layer and weights, and text is normalised in a way that works."""
        found = self._kind_problems() if self.kind in KINDS else []
        if self.fit_max_frames < self.num_units:
            found.append(f"tokenizer.fit_max_frames={self.fit_max_frames}: must be at least tokenizer.num_units")
        if self.normalization == "identity" and (self.lowercase or self.strip_punctuation):
            found.append(
                "tokenizer.normalization=identity keeps text as it is: set tokenizer.lowercase=false and "
                "tokenizer.strip_punctuation=false with it, or choose nfkc"
            )
        return found

    def _kind_problems(self) -> list[str]:
        found = []
        whole_hz = 50 if self.kind in MODEL_KINDS else 100
        if self.kind == "encodec":
            if self.frame_rate_hz != CODEC_RATE_HZ:
                found.append(f"tokenizer.frame_rate_hz={self.frame_rate_hz}: EnCodec gives {CODEC_RATE_HZ} a second")
        elif self.frame_rate_hz >= 1 and whole_hz % self.frame_rate_hz:
            found.append(
                f"tokenizer.frame_rate_hz={self.frame_rate_hz}: must divide {whole_hz} (25 is the published rate)"
            )
        if self.kind in MODEL_KINDS and self.weights is None and self.codebook is None:
            found.append(
                f"tokenizer.kind={self.kind} needs tokenizer.weights= (a Hugging Face folder, a .safetensors file, "
                "hub:OWNER/NAME), or tokenizer.codebook= a units file that knows where they are"
            )
        if self.kind in LAYER_KINDS and self.layer is None and self.codebook is None:
            found.append(f"tokenizer.kind={self.kind} needs tokenizer.layer=N, 1 for the first Transformer layer")
        return found
