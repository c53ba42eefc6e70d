"""Whisper encoder frames: a Transformer layer's output at 50 frames a second, averaged in groups.

The encoder was trained on transcribed speech: its units are supervised, not self-supervised (Radford et al., 2022).

Audio is padded with zeros to whole frames, not to 30 s as in Whisper's own code. Longer audio is cut every 30 s, and
each piece is encoded on its own: the frames of a long recording are those of its pieces, joined.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lst.errors import UserError
from lst.lazy import import_torchaudio
from lst.parallel import one_thread
from lst.tokenizers.frames import SUPERVISED_NOTE, EncoderOptions, EncoderSpec, ModelEncoder, check_layer
from lst.tokenizers.units import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES
from lst.tokenizers.weights import Weights, load_tensors, read_weights

FRAMES_A_SECOND = 50
FRAME_SAMPLES = SAMPLE_RATE_HZ // FRAMES_A_SECOND
FORMS = (
    "a Hugging Face folder of a Whisper model (config.json, model.safetensors), hub:openai/whisper-NAME, or an .npz "
    "file of its encoder"
)


class WhisperLayer(nn.Module):
    """A pre-norm Transformer layer: self-attention, then feed-forward.

    Args:
        width: D.
        heads: attention heads; divides the width.
        inner: width of the feed-forward layer.
    """

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x_LD: torch.Tensor) -> torch.Tensor:
        """[L, D] → [L, D]."""
        length, width = x_LD.shape
        parts = self.query_key_value(self.attention_norm(x_LD)).chunk(3, dim=-1)
        query, key, value = (part.view(1, length, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x_LD = x_LD + self.output(mixed.transpose(1, 2).reshape(length, width))
        return x_LD + self.narrow(functional.gelu(self.widen(self.inner_norm(x_LD))))


class WhisperLayers(nn.Module):
    """Two convolutions, positions, and the first layers of Whisper's encoder.

    Args:
        num_mels: mel bands of the input.
        width: D.
        heads: attention heads of each layer.
        inner: width of the feed-forward layers.
        num_layers: layers.
        num_positions: upper bound of L.
    """

    def __init__(self, num_mels: int, width: int, heads: int, inner: int, num_layers: int, num_positions: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(num_mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(num_positions, width))
        self.layers = nn.ModuleList(WhisperLayer(width, heads, inner) for _ in range(num_layers))

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """[L, D] of log-mel [num_mels, 2·L]."""
        x_DL = functional.gelu(self.conv2(functional.gelu(self.conv1(log_mel[None]))))[0]
        x_LD = x_DL.T + self.positions[: x_DL.shape[1]]
        for layer in self.layers:
            x_LD = layer(x_LD)
        return x_LD


class WhisperEncoder(ModelEncoder):
    """Frames of one layer of Whisper's encoder: the layer's output, without the final norm.

    Args:
        model: the layers up to the wanted one.
        options: the wanted rate, layer and device.
        sha256: hash of the weights.
        weights: where the weights were read from.

    Raises:
        UserError: the wanted rate does not divide 50, or a window is no whole number of groups of frames.
    """

    def __init__(self, model: WhisperLayers, options: EncoderOptions, sha256: str, weights: str) -> None:
        super().__init__(model, options, FRAMES_A_SECOND, "Whisper", sha256, weights)
        if model.positions.shape[0] % self.group:
            raise UserError(
                f"tokenizer.frame_rate_hz={self.frame_rate_hz}: a window of {model.positions.shape[0]} frames is no "
                f"whole number of groups of {self.group}; choose another divisor of {FRAMES_A_SECOND}"
            )

    @property
    def num_features(self) -> int:
        """Width of a frame."""
        return int(self.model.positions.shape[1])

    @property
    def window_samples(self) -> int:
        """Samples that are encoded together: 30 s in the published models."""
        return int(self.model.positions.shape[0]) * FRAME_SAMPLES

    @cached_property
    def spec(self) -> EncoderSpec:
        """Everything that decides the frames besides the rate."""
        return {
            "kind": "whisper",
            "layer": self.layer,
            "weights_sha256": self.sha256,
            "architecture": {
                "num_mels": int(self.model.conv1.weight.shape[1]),
                "width": self.num_features,
                "heads": self.model.layers[0].heads,
                "num_positions": int(self.model.positions.shape[0]),
            },
            "note": SUPERVISED_NOTE,
        }

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [ceil(num_samples · frame_rate_hz / 16000), num_features] of float32 [num_samples] at 16 kHz."""
        samples = self.samples(waveform)
        samples = functional.pad(samples, (0, -len(samples) % (self.group * FRAME_SAMPLES)))
        with torch.inference_mode(), one_thread():
            pieces = [self.model(self.log_mel(piece)) for piece in samples.split(self.window_samples)]
        return self.averaged(pieces)

    def log_mel(self, samples: torch.Tensor) -> torch.Tensor:
        """Whisper's log-mel, float32 [num_mels, num_samples / 160]: cut off 80 dB below the loudest, then scaled."""
        window = torch.hann_window(WINDOW_SAMPLES, device=samples.device)
        # Reflection at both ends, as in the model's training. The sound is longer than half a window.
        spectrum = torch.stft(samples, WINDOW_SAMPLES, HOP_SAMPLES, window=window, return_complex=True)
        power = spectrum[:, :-1].abs() ** 2
        log_mel = (self._filters.to(power) @ power).clamp(min=1e-10).log10()
        return (torch.maximum(log_mel, log_mel.max() - 8.0) + 4.0) / 4.0

    @cached_property
    def _filters(self) -> torch.Tensor:
        filters: torch.Tensor = import_torchaudio().functional.melscale_fbanks(
            WINDOW_SAMPLES // 2 + 1,
            0.0,
            SAMPLE_RATE_HZ / 2,
            int(self.model.conv1.weight.shape[1]),
            SAMPLE_RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        )
        return filters.T.contiguous()


def build_whisper_encoder(options: EncoderOptions) -> WhisperEncoder:
    """Reads the weights and builds the layers that are needed.

    Raises:
        UserError: weights are missing, of another model, or incomplete; the layer or the rate does not fit.
    """
    weights = read_weights(options.weights, "Whisper", options.trust, FORMS)
    tensors = encoder_names(weights.tensors)
    needed = ("conv1.weight", "conv2.weight", "positions", "layers.0.widen.weight")
    if missing := [name for name in needed if name not in tensors]:
        raise UserError(f"{weights.where} holds no Whisper encoder: {', '.join(missing)} are missing. Give {FORMS}")
    there = {int(found[1]) for name in tensors if (found := re.match(r"layers\.(\d+)\.", name))}
    width, num_mels = tensors["conv1.weight"].shape[:2]
    model = WhisperLayers(
        num_mels,
        width,
        _num_heads(weights),
        len(tensors["layers.0.widen.weight"]),
        # Layers above the wanted one are neither built nor hashed: they have no effect.
        check_layer(options.layer, max(there) + 1, "this Whisper encoder"),
        len(tensors["positions"]),
    )
    sha256 = load_tensors(model, tensors, weights.where, "Whisper encoder", FORMS)
    return WhisperEncoder(model, options, sha256, weights.where)


def _num_heads(weights: Weights) -> int:
    stated = weights.config.get("encoder_attention_heads") or weights.tensors.get("num_heads")
    if stated is None:
        raise UserError(
            f"{weights.where}: the number of attention heads is not stated; put the model's config.json beside it, or "
            "the array num_heads into the .npz"
        )
    return int(stated)


def encoder_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames tensors with Hugging Face's names (encoder.layers.0.fc1…) or those of an .npz (layer_0.ffn…)."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        name = re.sub(r"^(model\.)?encoder\.", "", name)
        for old, new in _NPZ_NAMES + _HUGGING_FACE_NAMES:
            name = re.sub(old, new, name)
        renamed[name] = value
    for index in {found[1] for name in renamed if (found := re.match(r"layers\.(\d+)\.self_attn\.q_proj", name))}:
        stem = f"layers.{index}."
        query, key, value = (renamed[f"{stem}self_attn.{part}_proj.weight"] for part in "qkv")
        renamed[f"{stem}query_key_value.weight"] = torch.cat([query, key, value])
        # Whisper's keys have no bias.
        biases = [renamed.get(f"{stem}self_attn.{part}_proj.bias", torch.zeros(len(key))) for part in "qkv"]
        renamed[f"{stem}query_key_value.bias"] = torch.cat([bias.to(query.dtype) for bias in biases])
    return renamed


_NPZ_NAMES = (
    (r"^pos$", "positions"),
    (r"^layer_(\d+)\.", r"layers.\1."),
    (r"\.self_attention\.layer_norm\.gamma$", ".attention_norm.weight"),
    (r"\.self_attention\.layer_norm\.beta$", ".attention_norm.bias"),
    (r"\.ffn\.layer_norm\.gamma$", ".inner_norm.weight"),
    (r"\.ffn\.layer_norm\.beta$", ".inner_norm.bias"),
    (r"\.self_attention\.linear_0\.", ".query_key_value."),
    (r"\.self_attention\.linear_1\.", ".output."),
    (r"\.ffn\.linear_0\.", ".widen."),
    (r"\.ffn\.linear_1\.", ".narrow."),
)
_HUGGING_FACE_NAMES = (
    (r"^embed_positions\.weight$", "positions"),
    (r"\.self_attn_layer_norm\.", ".attention_norm."),
    (r"\.final_layer_norm\.", ".inner_norm."),
    (r"\.self_attn\.out_proj\.", ".output."),
    (r"\.fc1\.", ".widen."),
    (r"\.fc2\.", ".narrow."),
)
