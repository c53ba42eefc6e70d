"""EnCodec units: the codes of a neural codec's residual codebooks in one sequence, and back to sound.

::

    frame      0           1           2
    flattened  a0 b0 c0    a1 b1 c1    a2 b2 c2
    delayed    a0 –  –     a1 b0 –     a2 b1 c0    –  b2 c1    –  –  c2

Unit ``q · 1024 + code`` stands for a code of codebook q, so each id tells its codebook. In the delayed pattern codebook
q comes q frames late, and one more unit, the last, fills the places without a code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lst.errors import UserError
from lst.lazy import import_or_explain
from lst.parallel import one_thread
from lst.tokenizers.frames import EncoderSpec, check_device
from lst.tokenizers.kmeans import check_waveforms
from lst.tokenizers.trusted import check_trust
from lst.tokenizers.units import at_rate
from lst.tokenizers.units_file import FORMAT, UnitsDescription, UnitsFile
from lst.tokenizers.weights import check_chosen, load_tensors, read_weights, weights_sha256

PATTERNS = ("flattened", "delayed")
CODEC_RATE_HZ, FRAME_RATE_HZ = 24_000, 75
NUM_CODES, MAX_CODEBOOKS = 1024, 32
PRETRAINED = "pretrained"
FORMS = (
    "a .safetensors file of the encodec package's 24 kHz model (or of Hugging Face's facebook/encodec_24khz), a "
    f"trusted .th file, hub:facebook/encodec_24khz, or, when online and trusted, {PRETRAINED}"
)


@dataclass(frozen=True)
class CodecTokenizer(UnitsFile):
    """Units of EnCodec at 24 kHz; see ``lst.tokenizers.speech.SpeechTokenizer``.

    Attributes:
        num_codebooks: how many of the 32 codebooks are used, each finer than the one before.
        pattern: ``flattened`` or ``delayed``.
        codebooks: float32 [num_codebooks, 1024, D], for the record.
        weights_sha256: hash of the whole model's weights.
        weights: where the weights are.
        trust: whether they may be pickles.
        device: cpu or cuda.
        named_in: the units file that names the weights; empty where the user does.
        ready: the model, once it is loaded.
    """

    num_codebooks: int
    pattern: str
    codebooks: np.ndarray = field(compare=False)
    weights_sha256: str
    weights: str
    trust: bool = False
    device: str = "cpu"
    named_in: str = field(default="", compare=False)
    ready: list[Any] = field(default_factory=list, compare=False, repr=False)

    kind = "encodec"
    frame_rate_hz = FRAME_RATE_HZ
    sample_rate_hz = CODEC_RATE_HZ

    @property
    def units_a_frame(self) -> int:
        """Units in a row that stand for one frame: one for each codebook."""
        return self.num_codebooks

    @property
    def num_units(self) -> int:
        """Number of units: units are 0 … num_units − 1."""
        return self.num_codebooks * NUM_CODES + (self.pattern == "delayed")

    @property
    def name(self) -> str:
        """Kind, codebooks, pattern and rate, for people."""
        return f"encodec-{self.num_codebooks}x{NUM_CODES}-{self.pattern}-{FRAME_RATE_HZ}hz"

    @property
    def spec(self) -> EncoderSpec:
        """Everything that decides the codes."""
        return {
            "kind": "encodec",
            "num_codebooks": self.num_codebooks,
            "codebook_pattern": self.pattern,
            "weights_sha256": self.weights_sha256,
        }

    @property
    def place(self) -> str | None:
        """Where the weights are."""
        return self.weights

    @property
    def model(self) -> Any:
        """The codec, loaded on first use; raises ``UserError`` where its weights are missing or have changed."""
        if not self.ready:
            check_chosen(self.weights, self.named_in)
            model, sha256, _ = load_codec(self.weights, self.trust, self.device)
            if sha256 != self.weights_sha256:
                raise UserError(
                    f"{self.weights} holds other weights ({sha256[:12]}…) than these units were made with "
                    f"({self.weights_sha256[:12]}…): give the right ones with tokenizer.weights="
                )
            self.ready.append(model)
        return self.ready[0]

    def prepare(self) -> None:
        """Loads the codec unless it is loaded; raises as ``model`` does."""
        _ = self.model

    def encode(self, waveforms: Sequence[np.ndarray], sample_rate_hz: int) -> list[np.ndarray]:
        """Units of each waveform, uint16 [num_frames · num_codebooks]. Each is encoded on its own.

        num_frames is ceil(num_samples · 75 / sample_rate_hz); the delayed pattern has num_codebooks − 1 more.
        """
        check_waveforms(waveforms)
        return [self._encode_one(at_rate(waveform, sample_rate_hz, CODEC_RATE_HZ)) for waveform in waveforms]

    def _encode_one(self, samples: np.ndarray) -> np.ndarray:
        device = next(self.model.parameters()).device
        with torch.inference_mode(), one_thread():
            embedded = self.model.encoder(torch.from_numpy(samples)[None, None].to(device))
            codes = self.model.quantizer.vq.encode(embedded, n_q=self.num_codebooks)[:, 0]
        return flatten_codes(codes.cpu().numpy(), self.pattern)

    def decode(self, units: np.ndarray) -> np.ndarray:
        """Sound of units as ``encode`` returns them: float32 [num_frames · 320] at 24 kHz.

        Raises:
            UserError: the units are no whole frames, or a unit is not of the codebook that its place belongs to.
        """
        codes = unflatten_codes(units, self.num_codebooks, self.pattern)
        device = next(self.model.parameters()).device
        with torch.inference_mode(), one_thread():
            embedded = self.model.quantizer.decode(torch.from_numpy(codes)[:, None].to(device))
            sound: np.ndarray = self.model.decoder(embedded)[0, 0].cpu().numpy()
        return sound

    def tensors(self) -> dict[str, np.ndarray]:
        """The codebooks."""
        return {"codebooks": self.codebooks.astype("<f4")}

    def description(self) -> UnitsDescription:
        """The spec and the rate."""
        return {"format": FORMAT, "kind": "encodec", "frame_rate_hz": FRAME_RATE_HZ, "encoder": self.spec}


def flatten_codes(codes: np.ndarray, pattern: str) -> np.ndarray:
    """One sequence of units, uint16 [n · K], of codes [K, T]; n = T, or T + K − 1 where delayed.

    >>> flatten_codes(np.array([[7, 8], [1, 2]]), "flattened").tolist()
    [7, 1025, 8, 1026]
    """
    num_codebooks, num_frames = codes.shape
    numbered = codes + np.arange(num_codebooks)[:, None] * NUM_CODES
    if pattern == "delayed":
        filled = np.full((num_codebooks, num_frames + num_codebooks - 1), num_codebooks * NUM_CODES)
        for index in range(num_codebooks):
            filled[index, index : index + num_frames] = numbered[index]
        numbered = filled
    return numbered.T.reshape(-1).astype(np.uint16)


def unflatten_codes(units: np.ndarray, num_codebooks: int, pattern: str) -> np.ndarray:
    """Inverse of ``flatten_codes``: int64 [K, T]; raises ``UserError`` where the units are no whole frames."""
    late = num_codebooks - 1 if pattern == "delayed" else 0
    num_frames = len(units) // num_codebooks - late
    if len(units) % num_codebooks or num_frames < 1:
        raise UserError(
            f"{len(units)} units are no whole frames of {num_codebooks} codebooks, {pattern}: give a multiple of "
            f"{num_codebooks}, at least {(late + 1) * num_codebooks}"
        )
    grid = units.astype(np.int64).reshape(-1, num_codebooks).T
    shift = late and 1
    codes = np.stack([row[index * shift : index * shift + num_frames] for index, row in enumerate(grid)])
    codes = codes - np.arange(num_codebooks)[:, None] * NUM_CODES
    if codes.min() < 0 or codes.max() >= NUM_CODES:
        raise UserError("a unit is in another codebook's place: give units as encode returns them")
    return codes


def build_codec(
    weights: str | None, num_codebooks: int, pattern: str, trust: bool = False, device: str = "cpu"
) -> CodecTokenizer:
    """The tokenizer of EnCodec units, from local or published weights; nothing is fitted.

    Args:
        weights: where the weights are (see ``lst.tokenizers.weights``), or ``pretrained``.
        num_codebooks: 1 to 32.
        pattern: ``flattened`` or ``delayed``.
        trust: whether weights may be pickles.
        device: cpu or cuda.

    Raises:
        UserError: the package or the weights are missing or unfit, or num_codebooks or the pattern is not allowed.
    """
    if not 1 <= num_codebooks <= MAX_CODEBOOKS or pattern not in PATTERNS:
        raise UserError(
            f"tokenizer.num_codebooks={num_codebooks}, codebook_pattern={pattern}: allowed are 1 to {MAX_CODEBOOKS}, "
            f"and {', '.join(PATTERNS)}"
        )
    model, sha256, where = load_codec(weights, trust, device)
    layers = model.quantizer.vq.layers[:num_codebooks]
    codebooks = np.stack([layer.codebook.detach().cpu().numpy() for layer in layers])
    return CodecTokenizer(num_codebooks, pattern, codebooks, sha256, where, trust, device, ready=[model])


def load_codec(weights: str | None, trust: bool, device: str) -> tuple[Any, str, str]:
    """The package's 24 kHz model with its weights, their SHA-256, and where they were read from."""
    package: Any = import_or_explain(
        "encodec", "tokenizer.kind=encodec", "pip install encodec (its metadata names CC BY-NC: read its licence first)"
    )
    target = check_device(device)
    if weights == PRETRAINED:
        check_trust("the published EnCodec checkpoint", trust)
        try:
            model = package.EncodecModel.encodec_model_24khz(pretrained=True)
        except Exception as error:
            raise UserError(
                f"tokenizer.weights={PRETRAINED} cannot be downloaded ({type(error).__name__}: {error}). Give {FORMS}"
            ) from None
        return model.to(target).eval(), weights_sha256(model.state_dict()), PRETRAINED
    read = read_weights(weights, "EnCodec", trust, FORMS)
    model = package.EncodecModel.encodec_model_24khz(pretrained=False)
    tensors = package_names(read.tensors, model.state_dict())
    sha256 = load_tensors(model, tensors, read.where, "EnCodec model at 24 kHz", FORMS)
    if not all(bool(layer._codebook.inited) for layer in model.quantizer.vq.layers):
        raise UserError(f"{read.where}: its codebooks were never initialised, and all codes would be 0. Give {FORMS}")
    return model.to(target).eval(), sha256, read.where


def package_names(
    tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Renames tensors with Hugging Face's names to the package's; tensors with the package's names stay."""
    if "encoder.layers.0.conv.bias" not in tensors:
        return tensors
    renamed = {}
    for name in wanted:
        other = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
        other = other.replace(".convtr.convtr.", ".conv.").replace(".conv.conv.", ".conv.")
        other = re.sub(r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook.", other)
        current = re.sub(r"weight_g$", "parametrizations.weight.original0", other)
        current = re.sub(r"weight_v$", "parametrizations.weight.original1", current)
        if (found := tensors.get(other, tensors.get(current))) is not None:
            renamed[name] = found
    return renamed
