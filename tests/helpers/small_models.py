"""Small models with random weights, saved as their publishers save them."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from safetensors.torch import save_file

CONVOLUTIONS = [[12, 10, 5], [12, 3, 2], [12, 3, 2], [12, 3, 2], [12, 3, 2], [12, 2, 2], [12, 2, 2]]
STRIDED = [*CONVOLUTIONS, [12, 2, 2]]
WIDTH, HEADS, INNER, LAYERS = 24, 4, 40, 3


def hubert_model(convolutions: list[list[int]] | None = None, layer_norm: bool = False, seed: int = 0) -> Any:
    """torchaudio's model, three layers of 24; with ``layer_norm`` in the manner of the large models."""
    torch.manual_seed(seed)
    return torchaudio.models.wav2vec2_model(
        extractor_mode="layer_norm" if layer_norm else "group_norm",
        extractor_conv_layer_config=convolutions or CONVOLUTIONS,
        extractor_conv_bias=layer_norm,
        encoder_embed_dim=WIDTH,
        encoder_projection_dropout=0.1,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=4,
        encoder_num_layers=LAYERS,
        encoder_num_heads=HEADS,
        encoder_attention_dropout=0.1,
        encoder_ff_interm_features=INNER,
        encoder_ff_interm_dropout=0.1,
        encoder_dropout=0.1,
        encoder_layer_norm_first=layer_norm,
        encoder_layer_drop=0.1,
        aux_num_out=None,
    ).eval()


def hugging_face_hubert(model: Any) -> dict[str, torch.Tensor]:
    """Its tensors by Hugging Face's names, with the weight norm's older ones."""
    renamed = {"masked_spec_embed": torch.zeros(WIDTH)}
    for name, value in model.state_dict().items():
        name = name.replace("encoder.feature_projection", "feature_projection").replace(
            "encoder.transformer", "encoder"
        )
        name = name.replace("parametrizations.weight.original0", "weight_g")
        renamed[f"hubert.{name.replace('parametrizations.weight.original1', 'weight_v')}"] = value
    return renamed


def fairseq_hubert(model: Any, layer_norm: bool) -> dict[str, torch.Tensor]:
    """Its tensors by fairseq's names, and some that only pre-training needs."""
    renamed = {"mask_emb": torch.zeros(WIDTH), "final_proj.weight": torch.zeros(8, WIDTH)}
    norm = r"feature_extractor.conv_layers.\1.2.1." if layer_norm else r"feature_extractor.conv_layers.\1.2."
    for name, value in model.state_dict().items():
        name = re.sub(r"feature_extractor\.conv_layers\.(\d+)\.conv\.", r"feature_extractor.conv_layers.\1.0.", name)
        name = re.sub(r"feature_extractor\.conv_layers\.(\d+)\.layer_norm\.", norm, name)
        name = name.replace("encoder.feature_projection.projection", "post_extract_proj")
        name = name.replace("encoder.feature_projection.layer_norm", "layer_norm")
        name = name.replace("encoder.transformer.pos_conv_embed.conv", "encoder.pos_conv.0")
        name = re.sub(
            r"encoder\.transformer\.layers\.(\d+)\.layer_norm", r"encoder.layers.\1.self_attn_layer_norm", name
        )
        name = name.replace("encoder.transformer.", "encoder.").replace(".attention.", ".self_attn.")
        name = name.replace("feed_forward.intermediate_dense", "fc1").replace("feed_forward.output_dense", "fc2")
        name = name.replace("parametrizations.weight.original0", "weight_g")
        renamed[name.replace("parametrizations.weight.original1", "weight_v")] = value
    return renamed


def save_hubert(folder: Path, model: Any, convolutions: list[list[int]] | None = None) -> Path:
    """A Hugging Face folder."""
    folder.mkdir(parents=True)
    strides = [stride for _, _, stride in convolutions or CONVOLUTIONS]
    config = {"model_type": "hubert", "num_attention_heads": HEADS, "conv_stride": strides}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {name: value.contiguous() for name, value in hugging_face_hubert(model).items()}, folder / "model.safetensors"
    )
    return folder


def whisper_arrays(num_positions: int = 100, seed: int = 0) -> dict[str, np.ndarray]:
    """Two layers of 24 in the .npz layout, half precision; ``num_positions`` frames of 20 ms are a window."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (WIDTH, 80, 3),
        "conv1.bias": (WIDTH,),
        "conv2.weight": (WIDTH, WIDTH, 3),
        "conv2.bias": (WIDTH,),
        "pos": (num_positions, WIDTH),
    }
    for layer in range(2):
        for part, inside, outside in (("self_attention", 3 * WIDTH, WIDTH), ("ffn", INNER, WIDTH)):
            stem = f"layer_{layer}.{part}"
            width = WIDTH if part == "self_attention" else INNER
            shapes |= {
                f"{stem}.layer_norm.gamma": (WIDTH,),
                f"{stem}.layer_norm.beta": (WIDTH,),
                f"{stem}.linear_0.weight": (inside, WIDTH),
                f"{stem}.linear_0.bias": (inside,),
                f"{stem}.linear_1.weight": (outside, width),
                f"{stem}.linear_1.bias": (outside,),
            }
    arrays = {name: random.normal(0, 0.3, shape).astype(np.float16) for name, shape in shapes.items()}
    for layer in range(2):
        # Keys have no bias.
        arrays[f"layer_{layer}.self_attention.linear_0.bias"][WIDTH : 2 * WIDTH] = 0
    return arrays | {"num_heads": np.int16(HEADS)}


def save_whisper(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """The same as a Hugging Face folder."""
    tensors = {}
    for name, array in arrays.items():
        value = torch.from_numpy(np.asarray(array))
        stem = re.sub(r"^layer_(\d+)\.", r"layers.\1.", name).replace(
            ".self_attention.layer_norm", ".self_attn_layer_norm"
        )
        stem = (
            stem.replace(".ffn.layer_norm", ".final_layer_norm").replace(".gamma", ".weight").replace(".beta", ".bias")
        )
        stem = stem.replace(".ffn.linear_0", ".fc1").replace(".ffn.linear_1", ".fc2")
        stem = stem.replace(".self_attention.linear_1", ".self_attn.out_proj").replace("pos", "embed_positions.weight")
        if ".self_attention.linear_0" in stem:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                if not (part == "k" and stem.endswith("bias")):
                    tensors[stem.replace("self_attention.linear_0", f"self_attn.{part}_proj")] = piece
        elif stem != "num_heads":
            tensors[stem] = value
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper", "encoder_attention_heads": HEADS}))
    save_file(
        {f"model.encoder.{name}": value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors"
    )
    return folder


def save_hubert_and_whisper(folder: Path) -> Path:
    """Each as a folder of its own, Whisper in the .npz layout too."""
    save_hubert(folder / "hubert", hubert_model())
    save_whisper(folder / "whisper", whisper_arrays())
    np.savez(folder / "whisper.npz", **whisper_arrays())
    return folder


@functools.lru_cache(maxsize=2)
def codec_model(seed: int = 0) -> Any:
    """EnCodec's packaged class. Its codebooks are zero until they are filled: with frames of speech-like sound, so that
    many codes occur, and each with what those before it leave.
    """
    import encodec

    torch.manual_seed(seed)
    model = encodec.EncodecModel.encodec_model_24khz(pretrained=False)
    with torch.inference_mode():
        rest = model.encoder(torch.from_numpy(speechlike(1024 * 320, seed))[None, None])[0].T
        for layer in model.quantizer.vq.layers:
            layer._codebook.embed.copy_(rest[torch.randperm(1024)] * 0.9)
            layer._codebook.inited.fill_(1)
            rest = rest - layer._codebook.embed[torch.cdist(rest, layer._codebook.embed).argmin(dim=1)]
    return model


def speechlike(num_samples: int, seed: int) -> np.ndarray:
    """Voiced sounds of changing pitch and spectrum, with pauses: float32 [num_samples]."""
    random = np.random.default_rng(seed)
    waveform = random.normal(0, 1e-3, num_samples)
    for start in range(0, num_samples, 2_000):
        size = min(2_000, num_samples - start)
        harmonics = random.uniform(90, 220) * np.arange(1, 40)
        levels = np.exp(-(((harmonics - random.uniform(300, 3_000)) / 500) ** 2)) + 0.05
        voiced = (levels[:, None] * np.sin(2 * np.pi * harmonics[:, None] * np.arange(size) / 16_000)).sum(axis=0)
        waveform[start : start + size] += random.random() * 0.2 * voiced * np.hanning(size)
    return waveform.astype(np.float32)
