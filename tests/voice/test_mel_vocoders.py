"""Vocoders of mels behind one interface: rates, files that are damaged, published weights, and a lexicon that hears."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from small_voices import hum

from lst.errors import UserError
from lst.evaluation.lexicon import LexiconRecogniser
from lst.voice.config import SpectrumConfig
from lst.voice.mel import MelScale, evened
from lst.voice.vocoders import figures_of, finished
from lst.voice.vocoders.of_mels import VOCODER_FILE, VOCODER_FORMAT, GriffinLim, TrainedVocoder, vocoder_beside
from lst.voice.vocoders.spectral import SpectrumNetwork, implied_power, spectral_distance
from lst.voice.vocoders.vocos import VocosVocoder

SCALE = MelScale(16_000)


def fresh_vocoder() -> TrainedVocoder:
    network = SpectrumNetwork(SpectrumConfig(8, 1), SCALE).eval().requires_grad_(False)
    return TrainedVocoder(
        network,
        {"format": VOCODER_FORMAT, "name": "a", "dim": 8, "layers": 1, "sample_rate_hz": 16_000, "duration_s": 1.0},
    )


def test_vocoders_make_sound_of_the_mel(tmp_path: Path) -> None:
    waveform = evened(hum(1.0))
    mel = SCALE.mel(waveform)
    for vocoder in (GriffinLim(), fresh_vocoder()):
        made = vocoder.waveform(mel, SCALE)
        assert made.shape == (mel.shape[1] * SCALE.hop_samples,)
        assert np.abs(SCALE.mel(made.astype(np.float32)) - mel).mean() < 0.25
        assert np.abs(vocoder.waveform(SCALE.mel(np.zeros(16_000, np.float32)), SCALE)).max() < 0.02, "silence"
    with pytest.raises(UserError, match="16000 Hz, the voice of 24000"):
        fresh_vocoder().waveform(mel, MelScale(24_000))


def test_a_network_begins_with_what_the_bins_imply() -> None:
    """A spectrum whose mel is known: the implied one has about the same mel."""
    power = SCALE.power(evened(hum(0.5)))
    mel = SCALE.mel_of(power)
    begun = fresh_vocoder().network(mel[None])[0].exp()
    assert torch.allclose(begun, implied_power(mel[None], SCALE)[0])
    assert float((SCALE.mel_of(begun) - mel).abs().mean()) < 0.25
    assert np.array_equal(SCALE.mel(evened(hum(0.5))), mel.numpy())


def test_distance_of_spectra() -> None:
    sound = torch.from_numpy(hum(0.5))
    assert spectral_distance(sound, sound) == 0
    near, far = sound + 0.01 * torch.randn(len(sound)), torch.randn(len(sound))
    assert 0 < spectral_distance(near, sound) < spectral_distance(far, sound)


def test_clicks_are_counted() -> None:
    sound = finished(hum(0.5), 16_000)
    assert figures_of(sound).num_clicks == 0
    broken = sound.copy()
    broken[4000:] += 0.6
    assert figures_of(broken).num_clicks == 2, "in the middle, and at the end, which is not silent"
    assert figures_of(np.zeros(10, np.float32)).level_db == -np.inf


def test_the_file_of_a_vocoder(tmp_path: Path) -> None:
    path = tmp_path / VOCODER_FILE
    assert isinstance(vocoder_beside(tmp_path / "style_voice.safetensors"), GriffinLim)
    own = fresh_vocoder()
    own.save(path)
    read = vocoder_beside(tmp_path / "style_voice.safetensors")
    assert isinstance(read, TrainedVocoder)
    assert read.description == own.description
    mel = SCALE.mel(hum(0.3))
    assert np.array_equal(read.waveform(mel, SCALE), own.waveform(mel, SCALE))
    tensors, described = load_file(path), dict(own.description)
    for wrong, metadata, told in (
        ({**tensors, "out.bias": tensors["out.bias"] * np.nan}, described, "not finite"),
        ({**tensors, "out.bias": tensors["out.bias"][:-1].clone()}, described, "does not hold the weights"),
        (tensors, described | {"dim": 100_000}, "dim"),
        (tensors, {}, "is damaged"),
    ):
        save_file(wrong, path, metadata={"lst": json.dumps(metadata)})
        with pytest.raises(UserError, match=told):
            TrainedVocoder.load(path)


def test_vocos_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vocos", None)
    with pytest.raises(UserError, match=r"needs the package vocos: pip install 'latent-speech-text\[vocos\]'"):
        VocosVocoder.load(tmp_path)


@pytest.mark.parametrize("dim", ["1000000000", "[[1]]", "true and a text that is longer than any argument is" * 9])
def test_a_vocos_of_absurd_sizes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dim: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vocos", SimpleNamespace())
    parts = {
        "feature_extractor": "vocos.feature_extractors.MelSpectrogramFeatures",
        "backbone": "vocos.models.VocosBackbone",
        "head": "vocos.heads.ISTFTHead",
    }
    lines = [f"{name}: {{class_path: {path}, init_args: {{dim: {dim}}}}}" for name, path in parts.items()]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"config\.yaml describes no Vocos of mels"):
        VocosVocoder.load(tmp_path)


def test_vocos_of_random_weights(tmp_path: Path) -> None:
    vocos = pytest.importorskip("vocos", reason="the extra vocos is not installed")
    parts = {
        "feature_extractor": {
            "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
            "init_args": {"sample_rate": 24_000, "n_fft": 1024, "hop_length": 256, "n_mels": 100},
        },
        "backbone": {
            "class_path": "vocos.models.VocosBackbone",
            "init_args": {"input_channels": 100, "dim": 8, "intermediate_dim": 16, "num_layers": 1},
        },
        "head": {
            "class_path": "vocos.heads.ISTFTHead",
            "init_args": {"dim": 8, "n_fft": 1024, "hop_length": 256, "padding": "center"},
        },
    }
    place = tmp_path / "config.yaml"
    place.write_text(yaml.safe_dump(parts))
    with pytest.raises(UserError, match="the weights of Vocos"):
        VocosVocoder.load(tmp_path)
    save_file(
        {name: tensor.contiguous() for name, tensor in vocos.Vocos.from_hparams(str(place)).state_dict().items()},
        tmp_path / "model.safetensors",
    )
    mel = SCALE.mel(hum(0.5))
    assert VocosVocoder.load(tmp_path).waveform(mel, SCALE).shape == (8000,)
    parts["head"]["class_path"] = "os.system"
    place.write_text(yaml.safe_dump(parts))
    with pytest.raises(UserError, match="describes no Vocos of mels"):
        VocosVocoder.load(tmp_path)
    place.unlink()
    with pytest.raises(UserError, match=r"config\.yaml is missing"):
        VocosVocoder.load(tmp_path)


def test_a_lexicon_hears_its_own_words_alone() -> None:
    recogniser = LexiconRecogniser(["cat", "qwyx", "sat"])
    assert recogniser.name.endswith("a lexicon of 3 words")
    assert set(recogniser.transcribe(hum(0.5)).split()) <= {"cat", "qwyx", "sat"}
