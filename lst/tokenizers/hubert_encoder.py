"""HuBERT frames: a Transformer layer's output, from torchaudio's model and weights in any of their published names.

The model gives one frame for each receptive field that fits into the audio: 50 a second for the published models, 25
for second-iteration models with one more strided convolution. 50 frames are averaged to 25 in pairs. Long audio is cut
into pieces of 100 s, as the published extractors do, and each piece is encoded on its own.
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
from lst.tokenizers.frames import EncoderOptions, EncoderSpec, ModelEncoder, check_layer
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.tokenizers.weights import BUNDLE_PREFIX, FORMS, Weights, load_tensors, read_weights

PIECE_SAMPLES = 100 * SAMPLE_RATE_HZ
# The published widths. A head of the largest model has 80 dimensions, of the others 64.
HEADS_OF_WIDTH = {768: 12, 1024: 16, 1280: 16}
# The published convolutions: the first has kernel 10 and stride 5, all others have stride 2.
STRIDE_OF_KERNEL = {10: 5, 3: 2, 2: 2}
# fairseq's names and torchaudio's.
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


class HubertEncoder(ModelEncoder):
    """Frames of one layer of HuBERT (or wav2vec 2.0): the layer's output, without the final norm.

    Args:
        model: torchaudio's ``Wav2Vec2Model``.
        options: the wanted rate, layer and device.
        architecture: the arguments that the model was built from.
        sha256: hash of the weights.
        weights: where the weights were read from.

    Raises:
        UserError: the model's frames a second are no whole number, or the wanted rate does not divide them.
    """

    def __init__(
        self, model: Any, options: EncoderOptions, architecture: dict[str, Any], sha256: str, weights: str
    ) -> None:
        self.architecture = architecture
        # The large models take audio of mean 0 and deviation 1.
        self.normalize_audio = architecture["extractor_mode"] == "layer_norm"
        hop_samples, self.min_samples = receptive_field(architecture["extractor_conv_layer_config"])
        if SAMPLE_RATE_HZ % hop_samples:
            raise UserError(f"{weights}: a frame every {hop_samples} samples is no whole number of frames a second")
        super().__init__(model, options, SAMPLE_RATE_HZ // hop_samples, "this HuBERT", sha256, weights)

    @property
    def num_features(self) -> int:
        """Width of a frame."""
        return int(self.architecture["encoder_embed_dim"])

    @cached_property
    def spec(self) -> EncoderSpec:
        """Everything that decides the frames besides the rate."""
        return {
            "kind": "hubert",
            "layer": self.layer,
            "normalize_audio": self.normalize_audio,
            "weights_sha256": self.sha256,
            "architecture": self.architecture,
        }

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """float32 [num_frames, num_features] of float32 [num_samples] at 16 kHz; shorter audio is padded with zeros."""
        samples = self.samples(waveform)
        if self.normalize_audio:
            samples = functional.layer_norm(samples, samples.shape)
        samples = functional.pad(samples, (0, max(self.min_samples - len(samples), 0)))
        with torch.inference_mode(), one_thread():
            pieces = [
                self.model.extract_features(piece[None], num_layers=self.layer)[0][-1][0]
                for piece in samples.split(PIECE_SAMPLES)
                # A last piece that is too short for one frame has none.
                if len(piece) >= self.min_samples
            ]
        return self.averaged(pieces)


def receptive_field(convolutions: list[list[int]]) -> tuple[int, int]:
    """Hop between frames and receptive field of a frame, in samples.

    Args:
        convolutions: width, kernel and stride of each convolution.
    """
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
    forms = f"{FORMS}, or {BUNDLE_PREFIX}HUBERT_BASE"
    weights = read_weights(options.weights, "HuBERT", options.trust, forms)
    tensors = torchaudio_names(weights.tensors)
    architecture = architecture_of(tensors, weights)
    # Layers above the wanted one are neither built nor hashed: they have no effect.
    architecture["encoder_num_layers"] = check_layer(options.layer, architecture["encoder_num_layers"], "this HuBERT")
    model = import_torchaudio().models.wav2vec2_model(
        **architecture,
        encoder_projection_dropout=0.0,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    sha256 = load_tensors(model, tensors, weights.where, "HuBERT", forms)
    return HubertEncoder(model, options, architecture, sha256, weights.where)


def torchaudio_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames tensors with fairseq's, Hugging Face's or torchaudio's names to torchaudio's."""
    bare = {re.sub(r"^(hubert|wav2vec2|w2v_encoder\.w2v_model)\.", "", name): value for name, value in tensors.items()}
    rules: tuple[tuple[str, str], ...] = ()
    if "post_extract_proj.weight" in bare:
        rules = _FAIRSEQ_NAMES
    elif "feature_projection.projection.weight" in bare:
        rules = _HUGGING_FACE_NAMES
    renamed = {}
    for name, value in bare.items():
        # The first rule that matches.
        name = next((new for old, by in rules if (new := re.sub(old, by, name)) != name), name)
        stem, _, last = name.rpartition(".")
        renamed[f"{stem}.{_WEIGHT_NORM[last]}" if last in _WEIGHT_NORM else name] = value
    return renamed


def architecture_of(tensors: Mapping[str, torch.Tensor], weights: Weights) -> dict[str, Any]:
    """Arguments of torchaudio's ``wav2vec2_model``.

    Shapes decide most of them. Heads and strides come from the model's config.json, or from the published sizes.

    Raises:
        UserError: the tensors are not a HuBERT's, or heads and strides are unknown for this width.
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
            [channels, kernel, stride] for (channels, kernel), stride in zip(convolutions, strides, strict=True)
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
