"""HuBERT frames: a Transformer layer's output, from torchaudio's model and weights in any of their published names.

Frames are the model's own: one for each receptive field that lies in the audio, so 50 a second for the published
models and 25 for second-iteration models with one more strided convolution. 50 are averaged to 25 in pairs.
Long audio is cut into pieces of 100 s, as the published extractors do; each piece is encoded on its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from lst.errors import UserError
from lst.lazy import import_torchaudio
from lst.parallel import one_thread
from lst.tokenizers.frames import EncoderOptions, averaged_frames, check_device, check_layer, pool_of
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.tokenizers.weights import BUNDLE_PREFIX, FORMS, Weights, read_weights, weights_sha256

PIECE_SAMPLES = 100 * SAMPLE_RATE_HZ
# Published sizes; a head of the largest has 80 dimensions, of the others 64.
HEADS_OF_WIDTH = {768: 12, 1024: 16, 1280: 16}
# Published convolutions: the first has kernel 10 and stride 5, all others stride 2.
STRIDE_OF_KERNEL = {10: 5, 3: 2, 2: 2}
# What fairseq calls things, and what torchaudio does.
_FAIRSEQ_NAMES = (
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"^post_extract_proj\.", "encoder.feature_projection.projection."),
    (r"^layer_norm\.", "encoder.feature_projection.layer_norm."),
    (r"^encoder\.pos_conv\.0\.", "encoder.transformer.pos_conv_embed.conv."),
    (r"^encoder\.layer_norm\.", "encoder.transformer.layer_norm."),
    (r"^encoder\.layers\.(\d+)\.self_attn\.", r"encoder.transformer.layers.\1.attention."),
    (r"^encoder\.layers\.(\d+)\.self_attn_layer_norm\.", r"encoder.transformer.layers.\1.layer_norm."),
    (r"^encoder\.layers\.(\d+)\.fc1\.", r"encoder.transformer.layers.\1.feed_forward.intermediate_dense."),
    (r"^encoder\.layers\.(\d+)\.fc2\.", r"encoder.transformer.layers.\1.feed_forward.output_dense."),
    (r"^encoder\.layers\.(\d+)\.final_layer_norm\.", r"encoder.transformer.layers.\1.final_layer_norm."),
)
_HUGGING_FACE_NAMES = (
    (r"^feature_projection\.", "encoder.feature_projection."),
    (r"^encoder\.(pos_conv_embed|layer_norm|layers)\.", r"encoder.transformer.\1."),
)
_WEIGHT_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


class HubertEncoder:
    """Frames of one layer of HuBERT (or wav2vec 2.0).

    Args:
        model: torchaudio's ``Wav2Vec2Model``.
        layer: 1 for the first Transformer layer's output, without the final norm.
        frame_rate_hz: frames a second wanted.
        normalize_audio: whether the model hears audio of mean 0 and deviation 1, as the large models do.
        sha256: hash of the weights.
        architecture: what the model was built from.
        weights: where they lie.
    """

    scales_features = False

    def __init__(
        self,
        model: Any,
        layer: int,
        frame_rate_hz: int,
        normalize_audio: bool,
        sha256: str,
        architecture: dict[str, Any],
        weights: str,
        device: torch.device,
    ) -> None:
        self.model, self.layer, self.frame_rate_hz = model.to(device).eval(), layer, frame_rate_hz
        self.normalize_audio, self.sha256, self.architecture = normalize_audio, sha256, architecture
        self.weights: str | None = weights
        self.device = device
        hop_samples, self.min_samples = receptive_field(architecture["extractor_conv_layer_config"])
        if SAMPLE_RATE_HZ % hop_samples:
            raise UserError(f"{weights}: a frame every {hop_samples} samples is no whole number of frames a second")
        self.pool = pool_of(SAMPLE_RATE_HZ // hop_samples, frame_rate_hz, "this HuBERT")

    @property
    def num_features(self) -> int:
        return int(self.architecture["encoder_embed_dim"])

    @cached_property
    def spec(self) -> dict[str, Any]:
        return {
            "kind": "hubert",
            "layer": self.layer,
            "normalize_audio": self.normalize_audio,
            "weights_sha256": self.sha256,
            "architecture": self.architecture,
        }

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [num_frames, num_features] of float32 [num_samples] at 16 kHz; shorter audio gets zeros behind it."""
        samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)).to(self.device)
        if self.normalize_audio:
            samples = functional.layer_norm(samples, samples.shape)
        if len(samples) < self.min_samples:
            samples = functional.pad(samples, (0, self.min_samples - len(samples)))
        with torch.inference_mode(), one_thread():
            pieces = [
                self.model.extract_features(piece[None], num_layers=self.layer)[0][-1][0]
                for piece in samples.split(PIECE_SAMPLES)
                # What is left over and too short for one frame has none.
                if len(piece) >= self.min_samples
            ]
        return averaged_frames(torch.cat(pieces), self.pool)


def receptive_field(convolutions: list[list[int]]) -> tuple[int, int]:
    """Samples from frame to frame, and samples that one frame sees, of (width, kernel, stride) a convolution."""
    hop, field = 1, 1
    for _, kernel, stride in convolutions:
        field += (kernel - 1) * hop
        hop *= stride
    return hop, field


def build_hubert_encoder(options: EncoderOptions) -> HubertEncoder:
    """Reads the weights and builds the model.

    Raises:
        UserError: weights are missing, of another model, or incomplete; the layer or the rate does not fit.
    """
    device = check_device(options.device)
    forms = f"{FORMS}, or {BUNDLE_PREFIX}HUBERT_BASE"
    weights = read_weights(options.weights, "HuBERT", options.trust, forms)
    tensors = torchaudio_names(weights.tensors)
    architecture = architecture_of(tensors, weights)
    # Layers above the one wanted are neither built nor hashed: they decide nothing.
    layer = check_layer(options.layer, architecture["encoder_num_layers"], "this HuBERT")
    architecture["encoder_num_layers"] = layer
    models = import_torchaudio().models
    model = models.wav2vec2_model(
        **architecture,
        encoder_projection_dropout=0.0,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    kept = {name: tensors[name].float() for name in model.state_dict() if name in tensors}
    missing = [name for name in model.state_dict() if name not in kept]
    if missing:
        raise UserError(
            f"{weights.where} is no whole HuBERT: {len(missing)} tensors are missing, the first is {missing[0]}"
        )
    try:
        model.load_state_dict(kept)
    except RuntimeError as error:
        raise UserError(f"{weights.where} does not fit the model it describes: {error}") from None
    return HubertEncoder(
        model,
        layer,
        options.frame_rate_hz,
        architecture["extractor_mode"] == "layer_norm",
        weights_sha256(kept),
        architecture,
        weights.where,
        device,
    )


def torchaudio_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of fairseq's, Hugging Face's or torchaudio's names, by torchaudio's."""
    bare = {re.sub(r"^(hubert|wav2vec2|w2v_encoder\.w2v_model)\.", "", name): value for name, value in tensors.items()}
    rules: tuple[tuple[str, str], ...] = ()
    if "post_extract_proj.weight" in bare:
        rules = _FAIRSEQ_NAMES
    elif "feature_projection.projection.weight" in bare:
        rules = _HUGGING_FACE_NAMES
    renamed = {}
    for name, value in bare.items():
        for pattern, replacement in rules:
            new, count = re.subn(pattern, replacement, name)
            if count:
                name = new
                break
        stem, _, last = name.rpartition(".")
        renamed[f"{stem}.{_WEIGHT_NORM[last]}" if last in _WEIGHT_NORM else name] = value
    return renamed


def architecture_of(tensors: Mapping[str, torch.Tensor], weights: Weights) -> dict[str, Any]:
    """Arguments of torchaudio's ``wav2vec2_model``: shapes say most, the model's description or custom the rest.

    Raises:
        UserError: the tensors are no HuBERT's, or of a size whose heads and strides nobody stated.
    """
    config = weights.config
    convolutions: list[list[int]] = []
    while (kernel := tensors.get(f"feature_extractor.conv_layers.{len(convolutions)}.conv.weight")) is not None:
        convolutions.append([int(kernel.shape[0]), int(kernel.shape[2])])
    projection = tensors.get("encoder.feature_projection.projection.weight")
    position = tensors.get("encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1")
    dense = tensors.get("encoder.transformer.layers.0.feed_forward.intermediate_dense.weight")
    if not convolutions or projection is None or position is None or dense is None:
        known = ", ".join(sorted(tensors)[:3])
        raise UserError(f"{weights.where} holds no HuBERT or wav2vec 2.0 model: its tensors are {known}, …")
    width = int(projection.shape[0])
    strides = config.get("conv_stride") or [STRIDE_OF_KERNEL.get(kernel) for _, kernel in convolutions]
    heads = config.get("num_attention_heads") or HEADS_OF_WIDTH.get(width)
    if heads is None or None in strides or len(strides) != len(convolutions):
        raise UserError(
            f"{weights.where}: heads and strides of a model of width {width} with kernels "
            f"{[kernel for _, kernel in convolutions]} are not known; put its config.json (Hugging Face's, with "
            "num_attention_heads and conv_stride) beside the weights"
        )
    layers = {int(found[1]) for name in tensors if (found := re.match(r"encoder\.transformer\.layers\.(\d+)\.", name))}
    every_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in tensors
    return {
        "extractor_mode": "layer_norm" if every_norm else "group_norm",
        "extractor_conv_layer_config": [
            [width_, kernel, stride] for (width_, kernel), stride in zip(convolutions, strides, strict=True)
        ],
        "extractor_conv_bias": "feature_extractor.conv_layers.0.conv.bias" in tensors,
        "encoder_embed_dim": width,
        "encoder_pos_conv_kernel": int(position.shape[2]),
        "encoder_pos_conv_groups": width // int(position.shape[1]),
        "encoder_num_layers": max(layers) + 1,
        "encoder_num_heads": int(heads),
        "encoder_ff_interm_features": int(dense.shape[0]),
        "encoder_layer_norm_first": bool(config.get("do_stable_layer_norm", every_norm)),
    }
