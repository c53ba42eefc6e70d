"""HuBERT and Whisper with random weights against slow or original ones, and weights that do not do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_models import (
    LAYERS,
    STRIDED,
    fairseq_hubert,
    hubert_model,
    hugging_face_hubert,
    save_hubert,
    save_hubert_and_whisper,
    speechlike,
    whisper_arrays,
)

from lst.errors import UserError
from lst.tokenizers import hubert_encoder
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.frames import EncoderOptions
from lst.tokenizers.whisper_encoder import WhisperEncoder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of both models."""
    return save_hubert_and_whisper(tmp_path_factory.mktemp("models"))


# HuBERT


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("layer", [1, 2, LAYERS])
def test_hubert_is_torchaudios_under_each_set_of_names(layer_norm: bool, layer: int, tmp_path: Path) -> None:
    model, waveform = hubert_model(layer_norm=layer_norm), speechlike(20_001, 1)
    samples = torch.from_numpy(waveform)
    if layer_norm:
        samples = (samples - samples.mean()) / torch.sqrt(samples.var(unbiased=False) + 1e-5)
    with torch.inference_mode():
        expected = model.extract_features(samples[None])[0][layer - 1][0].numpy()
    folder = save_hubert(tmp_path / "folder", model)
    encoders = [build_encoder(EncoderOptions("hubert", 50, str(folder), layer))]
    kinds = {"own": model.state_dict(), "fairseq": fairseq_hubert(model, layer_norm), "hf": hugging_face_hubert(model)}
    for name, tensors in kinds.items():
        path = folder / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
        encoders.append(build_encoder(EncoderOptions("hubert", 50, str(path), layer)))
        torch.save({"model": tensors, "args": None}, folder / f"{name}.pt")
        encoders.append(build_encoder(EncoderOptions("hubert", 50, str(folder / f"{name}.pt"), layer, trust=True)))
    for encoder in encoders:
        np.testing.assert_allclose(encoder.frames(waveform), expected, rtol=0, atol=2e-5)
        assert encoder.spec == encoders[0].spec
        assert np.array_equal(encoder.frames(waveform), encoders[0].frames(waveform))


def test_a_second_iteration_model_gives_25_frames_itself(tmp_path: Path) -> None:
    model, waveform = hubert_model(STRIDED), speechlike(20_001, 1)
    folder = save_hubert(tmp_path / "folder", model, STRIDED)
    encoder = build_encoder(EncoderOptions("hubert", 25, str(folder), 3))
    with torch.inference_mode():
        expected = model.extract_features(torch.from_numpy(waveform)[None])[0][2][0].numpy()
    assert len(expected) == 1 + (20_001 - 720) // 640
    np.testing.assert_allclose(encoder.frames(waveform), expected, rtol=0, atol=2e-5)
    with pytest.raises(UserError, match=r"frame_rate_hz=50: this HuBERT gives 25 frames"):
        build_encoder(EncoderOptions("hubert", 50, str(folder), 3))


def test_long_audio_is_cut_and_each_piece_encoded_by_itself(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder(EncoderOptions("hubert", 50, str(models / "hubert"), 2))
    waveform = speechlike(2 * 16_000 + 300, 4)
    pieces = [encoder.frames(waveform[start : start + 16_000]) for start in (0, 16_000)]
    monkeypatch.setattr(hubert_encoder, "PIECE_SAMPLES", 16_000)
    assert np.array_equal(encoder.frames(waveform), np.concatenate(pieces))


def test_missing_tensors_heads_and_layers_are_named(models: Path, tmp_path: Path) -> None:
    tensors = hubert_model().state_dict()
    save_file(tensors, tmp_path / "alone.safetensors")
    with pytest.raises(UserError, match=r"heads and strides of a model of width 24 .*config\.json"):
        build_encoder(EncoderOptions("hubert", 50, str(tmp_path / "alone.safetensors"), 2))
    with pytest.raises(UserError, match=r"layer=4: this HuBERT has layers 1 to 3"):
        build_encoder(EncoderOptions("hubert", 50, str(models / "hubert"), 4))
    save_file({"a": torch.zeros(2)}, tmp_path / "none.safetensors")
    with pytest.raises(UserError, match=r"holds no HuBERT or wav2vec 2\.0 model: its tensors are a"):
        build_encoder(EncoderOptions("hubert", 50, str(tmp_path / "none.safetensors"), 2))
    partial = save_hubert(tmp_path / "partial", hubert_model())
    half = {k: v.contiguous() for k, v in hugging_face_hubert(hubert_model()).items() if "layers.1.final" not in k}
    save_file(half, partial / "model.safetensors")
    with pytest.raises(UserError, match=r"2 tensors are missing, the first is .*layers\.1\.final_layer_norm"):
        build_encoder(EncoderOptions("hubert", 50, str(partial), 2))


def test_bundles_are_pickles_too_and_unknown_ones_are_named() -> None:
    with pytest.raises(UserError, match=r"bundle HUBERT_BASE of torchaudio is a pickle"):
        build_encoder(EncoderOptions("hubert", 50, "bundle:HUBERT_BASE", 6))
    with pytest.raises(UserError, match=r"torchaudio has the bundles HUBERT_ASR_LARGE"):
        build_encoder(EncoderOptions("hubert", 50, "bundle:HUBERT_TINY", 6))


def test_published_classes_give_the_same_frames(tmp_path: Path) -> None:
    """Hugging Face's own models, where they are installed."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    model = transformers.HubertModel(
        transformers.HubertConfig(
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            conv_dim=[16] * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        )
    ).eval()
    model.save_pretrained(tmp_path)
    waveform = speechlike(20_000, 0)
    with torch.inference_mode():
        expected = model(torch.from_numpy(waveform)[None], output_hidden_states=True).hidden_states[2][0].numpy()
    encoder = build_encoder(EncoderOptions("hubert", 50, str(tmp_path), 2))
    np.testing.assert_allclose(encoder.frames(waveform), expected, rtol=0, atol=1e-5)


# Whisper


def whisper_reference(waveform: np.ndarray, arrays: dict[str, np.ndarray], layers: int) -> np.ndarray:
    """The encoder by its definition, in float64 and loops over heads: [num_samples / 320, 24] of whole frames."""
    w = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    padded = np.pad(waveform.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(400) / 400)
    mel = np.linspace(0, 15 + math.log(8) / (math.log(6.4) / 27), 82)
    hz = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))
    bins_hz = np.arange(201) * 40.0
    filters = np.array(
        [
            np.maximum(0, np.minimum((bins_hz - a) / (b - a), (c - bins_hz) / (c - b))) * 2 / (c - a)
            for a, b, c in zip(hz, hz[1:], hz[2:], strict=False)
        ]
    )
    power = [np.abs(np.fft.rfft(padded[t * 160 : t * 160 + 400] * window)) ** 2 for t in range(len(waveform) // 160)]
    mels = np.log10(np.maximum(filters @ np.array(power).T, 1e-10))
    mels = (np.maximum(mels, mels.max() - 8) + 4) / 4

    def gelu(x: np.ndarray) -> np.ndarray:
        return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)

    def convolve(x: np.ndarray, name: str, stride: int) -> np.ndarray:
        ends = np.pad(x, ((0, 0), (1, 1)))
        columns = [
            np.einsum("oik,ik->o", w[f"{name}.weight"], ends[:, t : t + 3]) for t in range(0, x.shape[1], stride)
        ]
        return gelu(np.array(columns).T + w[f"{name}.bias"][:, None])

    def norm(x: np.ndarray, stem: str) -> np.ndarray:
        scaled = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        return scaled * w[f"{stem}.layer_norm.gamma"] + w[f"{stem}.layer_norm.beta"]

    def linear(x: np.ndarray, stem: str) -> np.ndarray:
        return x @ w[f"{stem}.weight"].T + w[f"{stem}.bias"]

    x = convolve(convolve(mels, "conv1", 1), "conv2", 2).T
    x = x + w["pos"][: len(x)]
    for layer in range(layers):
        stem = f"layer_{layer}.self_attention"
        query, key, value = np.split(linear(norm(x, stem), f"{stem}.linear_0"), 3, axis=1)
        mixed = np.zeros_like(x)
        for head in range(4):
            own = slice(6 * head, 6 * head + 6)
            scores = np.exp(query[:, own] @ key[:, own].T / math.sqrt(6))
            mixed[:, own] = scores / scores.sum(axis=1, keepdims=True) @ value[:, own]
        x = x + linear(mixed, f"{stem}.linear_1")
        stem = f"layer_{layer}.ffn"
        x = x + linear(gelu(linear(norm(x, stem), f"{stem}.linear_0")), f"{stem}.linear_1")
    return x


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("form", ["whisper", "whisper.npz"])
def test_whisper_is_the_encoder_of_its_definition(layer: int, form: str, models: Path) -> None:
    encoder = build_encoder(EncoderOptions("whisper", 50, str(models / form), layer))
    waveform = speechlike(9_600, 2)
    expected = whisper_reference(waveform, whisper_arrays(), layer)
    error = np.abs(encoder.frames(waveform) - expected).max()
    print(f"layer {layer}: largest error {error:.1e} of values up to {np.abs(expected).max():.1f}")
    assert error < 2e-4
    assert "supervised, not self-supervised" in encoder.spec["note"]


def test_both_forms_of_whisper_weights_are_the_same_units(models: Path) -> None:
    one, other = (build_encoder(EncoderOptions("whisper", 25, str(models / f), 2)) for f in ("whisper", "whisper.npz"))
    assert one.spec == other.spec
    waveform = speechlike(30_000, 2)
    assert np.array_equal(one.frames(waveform), other.frames(waveform))


def test_long_audio_is_heard_in_windows(models: Path) -> None:
    """Windows of 2 s here: the frames of a long sound are those of its windows, joined."""
    encoder = build_encoder(EncoderOptions("whisper", 25, str(models / "whisper"), 2))
    assert isinstance(encoder, WhisperEncoder)
    assert encoder.window_samples == 32_000
    waveform = speechlike(75_000, 6)
    pieces = [encoder.frames(waveform[start : start + 32_000]) for start in range(0, 75_000, 32_000)]
    assert np.array_equal(encoder.frames(waveform), np.concatenate(pieces))


def test_whisper_weights_that_do_not_do_are_named(models: Path, tmp_path: Path) -> None:
    arrays = whisper_arrays()
    np.savez(tmp_path / "headless.npz", **{k: v for k, v in arrays.items() if k != "num_heads"})
    with pytest.raises(UserError, match="number of attention heads is not stated"):
        build_encoder(EncoderOptions("whisper", 25, str(tmp_path / "headless.npz"), 2))
    np.savez(tmp_path / "half.npz", **{k: v for k, v in arrays.items() if k != "pos"})
    with pytest.raises(UserError, match=r"holds no Whisper encoder: positions are missing"):
        build_encoder(EncoderOptions("whisper", 25, str(tmp_path / "half.npz"), 2))
    np.savez(tmp_path / "objects.npz", conv1=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"not an \.npz file of plain arrays"):
        build_encoder(EncoderOptions("whisper", 25, str(tmp_path / "objects.npz"), 2))
