"""Every kind of speech units: batching, files, hashes; EnCodec against its package."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file
from small_models import (
    codec_model,
    hubert_model,
    save_hubert,
    save_hubert_and_whisper,
    save_whisper,
    speechlike,
    whisper_arrays,
)

from lst.errors import UserError
from lst.tokenizers.config import KINDS, TokenizerConfig
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.frames import EncoderOptions
from lst.tokenizers.kmeans import FrameSample, fit_centroids
from lst.tokenizers.neural_codec import NUM_CODES, build_codec, flatten_codes, unflatten_codes
from lst.tokenizers.speech import SpeechTokenizer, deduplicate, fit_speech_tokenizer, load_speech_tokenizer, reduplicate

HAS_CODEC = importlib.util.find_spec("encodec") is not None
needs_codec = pytest.mark.skipif(not HAS_CODEC, reason="the package encodec (extra: codec) is not installed")
CODEC = pytest.param("encodec", marks=needs_codec)
EVERY_KIND = [CODEC if kind == "encodec" else kind for kind in KINDS]
SIZES = (20_000, 33_333, 401, 5_121, 20_000, 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of every kind that has some. EnCodec's take seconds to make, so all tests that read them are here."""
    folder = save_hubert_and_whisper(tmp_path_factory.mktemp("models"))
    if HAS_CODEC:
        save_file(codec_model().state_dict(), folder / "encodec.safetensors")
    return folder


def config_of(kind: str, models: Path, **changes: Any) -> TokenizerConfig:
    places = {"hubert": "hubert", "whisper": "whisper.npz", "encodec": "encodec.safetensors"}
    values: dict[str, Any] = {"kind": kind, "num_units": 12}
    if kind in places:
        values["weights"] = str(models / places[kind])
    if kind in ("hubert", "whisper"):
        values["layer"] = 2
    if kind == "encodec":
        values |= {"frame_rate_hz": 75, "num_codebooks": 3, "codebook_pattern": "delayed"}
    config = TokenizerConfig(**(values | changes))
    assert config.problems() == []
    return config


@pytest.fixture(scope="module")
def tokenizers(models: Path) -> dict[str, SpeechTokenizer]:
    speech = [speechlike(40_000, seed) for seed in range(3)]
    return {
        kind: fit_speech_tokenizer(config_of(kind, models), iter(speech), seed=0)
        for kind in KINDS
        if HAS_CODEC or kind != "encodec"
    }


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_units_do_not_depend_on_the_batch(kind: str, tokenizers: dict[str, SpeechTokenizer]) -> None:
    tokenizer = tokenizers[kind]
    waveforms = [speechlike(size, seed) for seed, size in enumerate(SIZES)]
    together = tokenizer.encode(waveforms, 16_000)
    backwards = tokenizer.encode(waveforms[::-1], 16_000)[::-1]
    for waveform, units, again in zip(waveforms, together, backwards, strict=True):
        (alone,) = tokenizer.encode([waveform], 16_000)
        assert units.dtype == np.uint16
        assert np.array_equal(units, alone)
        assert np.array_equal(units, again)
        assert len(units) % tokenizer.units_a_frame == 0
        assert int(units.max()) < tokenizer.num_units
    assert tokenizer.encode([], 16_000) == []
    assert len(set(together[1].tolist())) > 3


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_number_of_frames(kind: str, tokenizers: dict[str, SpeechTokenizer]) -> None:
    tokenizer = tokenizers[kind]
    for size, units in zip(SIZES, tokenizer.encode([speechlike(n, 1) for n in SIZES], 16_000), strict=True):
        if kind == "hubert":
            # One for each whole receptive field of 400 samples, 320 apart; then pairs.
            expected = math.ceil((1 + max(0, size - 400) // 320) / 2)
        elif kind == "encodec":
            expected = math.ceil(math.ceil(size * 1.5) / 320) + 2
        else:
            expected = math.ceil(size / 640)
        assert len(units) == expected * tokenizer.units_a_frame


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_save_and_load(kind: str, tokenizers: dict[str, SpeechTokenizer], tmp_path: Path) -> None:
    tokenizer, path = tokenizers[kind], tmp_path / "units.safetensors"
    tokenizer.save(path)
    loaded = load_speech_tokenizer(path)
    for name in ("kind", "name", "num_units", "frame_rate_hz", "units_a_frame", "sha256"):
        assert getattr(loaded, name) == getattr(tokenizer, name), name
    waveforms = [speechlike(30_000, 8), speechlike(1_000, 9)]
    for before, after in zip(tokenizer.encode(waveforms, 22_050), loaded.encode(waveforms, 22_050), strict=True):
        assert np.array_equal(before, after)
    assert np.array_equal(loaded.encode(waveforms, 16_000)[0], tokenizer.encode(waveforms, 16_000)[0])


@pytest.mark.parametrize("kind", ["hubert", "whisper", CODEC])
def test_weights_are_needed_to_encode_only_and_must_be_the_same(kind: str, models: Path, tmp_path: Path) -> None:
    config = config_of(kind, models)
    moved = tmp_path / Path(config.weights or "").name
    original = Path(config.weights or "")
    moved.symlink_to(original)
    here = dataclasses.replace(config, weights=str(moved))
    tokenizer = fit_speech_tokenizer(config, [speechlike(40_000, 0)], seed=0)
    path = tmp_path / "units.safetensors"
    tokenizer.save(path)
    gone = load_speech_tokenizer(path, weights=str(tmp_path / "nothing"))
    assert gone.sha256 == tokenizer.sha256
    with pytest.raises(UserError, match=r"tokenizer\.weights=.*nothing: there is no such file or folder"):
        gone.encode([speechlike(1_000, 0)], 16_000)
    # Where weights lie is no part of the hash.
    placed = load_speech_tokenizer(path, weights=here.weights)
    placed.save(tmp_path / "placed.safetensors")
    assert placed.sha256 == tokenizer.sha256
    if kind == "hubert":
        save_hubert(tmp_path / "other", hubert_model(seed=1))
    elif kind == "whisper":
        save_whisper(tmp_path / "other", whisper_arrays(seed=1))
    else:
        (tmp_path / "other").mkdir()
        save_file(codec_model(seed=1).state_dict(), tmp_path / "other" / "model.safetensors")
        (tmp_path / "other" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"weights.*made with") as raised:
        load_speech_tokenizer(path, weights=str(tmp_path / "other")).encode([speechlike(1_000, 0)], 16_000)
    assert "tokenizer.weights=" in str(raised.value)


@pytest.mark.parametrize("kind", ["hubert", "whisper"])
def test_frames_are_averaged_in_pairs_and_one_may_be_left(kind: str, models: Path) -> None:
    config = config_of(kind, models)
    fine = build_encoder(EncoderOptions(kind, 50, config.weights, 2))
    coarse = build_encoder(EncoderOptions(kind, 25, config.weights, 2))
    waveform = speechlike(16_400 if kind == "hubert" else 16_640, 3)
    frames, averaged = fine.frames(waveform), coarse.frames(waveform)
    pairs = [frames[start : start + 2].mean(axis=0) for start in range(0, len(frames), 2)]
    np.testing.assert_allclose(averaged, np.array(pairs), rtol=0, atol=1e-6)
    assert len(averaged) == math.ceil(len(frames) / 2)


# EnCodec


@needs_codec
@pytest.mark.parametrize("pattern", ["flattened", "delayed"])
def test_codes_are_the_packages_and_decode_as_it_does(pattern: str, models: Path) -> None:
    model = codec_model()
    model.set_target_bandwidth(1.5)
    tokenizer = build_codec(str(models / "encodec.safetensors"), 2, pattern)
    waveform = speechlike(24_001, 5)
    with torch.inference_mode():
        ((codes, _),) = model.encode(torch.from_numpy(waveform)[None, None])
        sound = model.decode([(codes, None)])[0, 0].numpy()
    (units,) = tokenizer.encode([waveform], 24_000)
    assert codes.shape[1:] == (2, 76)
    assert len(np.unique(codes)) > 20
    assert np.array_equal(unflatten_codes(units, 2, pattern), codes[0].numpy())
    np.testing.assert_allclose(tokenizer.decode(units), sound, rtol=0, atol=1e-5)
    assert tokenizer.num_units == 2 * NUM_CODES + (pattern == "delayed")


@given(st.integers(1, 6), st.integers(1, 9), st.sampled_from(["flattened", "delayed"]), st.integers(0, 2**31))
def test_patterns_place_codes_as_drawn_and_come_back(books: int, frames: int, pattern: str, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, NUM_CODES, (books, frames))
    late = pattern == "delayed"
    expected = []
    for step in range(frames + (books - 1) * late):
        for book in range(books):
            frame = step - book * late
            inside = 0 <= frame < frames
            expected.append(book * NUM_CODES + codes[book, frame] if inside else books * NUM_CODES)
    units = flatten_codes(codes, pattern)
    assert units.tolist() == expected
    assert np.array_equal(unflatten_codes(units, books, pattern), codes)


def test_units_that_are_no_frames_are_refused() -> None:
    with pytest.raises(UserError, match="5 units are no whole frames of 2 codebooks"):
        unflatten_codes(np.zeros(5, np.uint16), 2, "flattened")
    with pytest.raises(UserError, match="another codebook's"):
        unflatten_codes(np.array([0, 1, 0, 1], np.uint16), 2, "flattened")


@needs_codec
def test_codec_under_hugging_faces_names(models: Path, tmp_path: Path) -> None:
    tensors = {}
    for name, value in codec_model().state_dict().items():
        name = name.replace(".model.", ".layers.").replace(".convtr.convtr.", ".conv.").replace(".conv.conv.", ".conv.")
        tensors[name.replace("quantizer.vq.layers", "quantizer.layers").replace("._codebook.", ".codebook.")] = value
    save_file(tensors, tmp_path / "model.safetensors")
    other = build_codec(str(tmp_path / "model.safetensors"), 2, "flattened")
    assert other.sha256 == build_codec(str(models / "encodec.safetensors"), 2, "flattened").sha256


@needs_codec
def test_codec_whose_codebooks_are_empty_is_refused(tmp_path: Path) -> None:
    import encodec

    empty = encodec.EncodecModel.encodec_model_24khz(pretrained=False)
    save_file(empty.state_dict(), tmp_path / "empty.safetensors")
    with pytest.raises(UserError, match="never initialised"):
        build_codec(str(tmp_path / "empty.safetensors"), 2, "flattened")
    save_file({"a": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="is not a complete EnCodec model"):
        build_codec(str(tmp_path / "none.safetensors"), 2, "flattened")
    with pytest.raises(UserError, match=r"num_codebooks=33, codebook_pattern=flattened: allowed are 1 to 32"):
        build_codec(None, 33, "flattened")


# What is common


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 30), st.integers(0, 2**31))
def test_sample_does_not_depend_on_how_rows_are_grouped(sizes: list[int], max_frames: int, seed: int) -> None:
    rows = np.arange(sum(sizes), dtype=np.float32)[:, None]
    whole, parts = FrameSample(max_frames, seed), FrameSample(max_frames, seed)
    whole.add(rows)
    bounds = np.cumsum([0, *sizes])
    for start, end in itertools.pairwise(bounds):
        parts.add(rows[start:end])
        assert parts._num_held <= 1.5 * max_frames
    kept = parts.rows()[:, 0] if len(rows) else np.zeros(0)
    assert len(kept) == min(len(rows), max_frames)
    assert (np.diff(kept) > 0).all()
    if len(rows):
        assert np.array_equal(kept, whole.rows()[:, 0])
        keys = np.random.default_rng(seed).random(len(rows))
        assert kept.astype(int).tolist() == sorted(np.argsort(keys)[:max_frames].tolist())


def test_sample_takes_every_row_equally_often() -> None:
    counts = np.zeros(40)
    for seed in range(600):
        sample = FrameSample(10, seed)
        for start in range(0, 40, 7):
            sample.add(np.arange(start, min(start + 7, 40))[:, None])
        counts[sample.rows()[:, 0]] += 1
    assert counts.sum() == 6_000
    assert np.abs(counts - 150).max() < 5 * math.sqrt(600 * 0.25 * 0.75)


def test_fit_of_unscaled_features_is_scikit_learns() -> None:
    from sklearn.cluster import MiniBatchKMeans

    frames = np.random.default_rng(0).normal(size=(900, 5)).astype(np.float32)
    fitted = fit_centroids([frames[:400], frames[400:]], 7, seed=2, scales_features=False)
    expected = MiniBatchKMeans(7, random_state=2, batch_size=4096, n_init=3, max_iter=100, reassignment_ratio=0.01)
    assert np.array_equal(fitted.centroids, expected.fit(frames).cluster_centers_.astype(np.float32))
    assert (fitted.feature_scale == 1).all()


@given(hnp.arrays(np.uint16, st.integers(0, 60), elements=st.integers(0, 2)))
def test_deduplication_and_back(units: np.ndarray) -> None:
    short, durations = deduplicate(units)
    assert short.dtype == units.dtype
    assert (short[1:] != short[:-1]).all()
    assert durations.sum() == len(units)
    assert np.array_equal(reduplicate(short, durations), units)


def test_durations_that_do_not_fit_are_refused() -> None:
    for units, durations in (([1, 2], [1]), ([1, 2], [1, 0])):
        with pytest.raises(ValueError, match="each unit needs one of 1 or more"):
            reduplicate(np.array(units), np.array(durations))


@pytest.mark.parametrize("kind", ["hubert", "whisper", CODEC])
def test_missing_weights_say_what_to_give(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"units need the model's weights: give tokenizer\.weights= "):
        fit_speech_tokenizer(TokenizerConfig(kind=kind, layer=1), [], 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        fit_speech_tokenizer(TokenizerConfig(kind=kind, layer=1, weights=str(tmp_path / "empty")), [], 0)
    with pytest.raises(UserError, match=r"hub:nobody/nothing cannot be downloaded .*tokenizer\.weights=FOLDER"):
        fit_speech_tokenizer(TokenizerConfig(kind=kind, layer=1, weights="hub:nobody/nothing"), [], 0)
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"weights\.pt is a pickle.*tokenizer\.trust=true"):
        fit_speech_tokenizer(TokenizerConfig(kind=kind, layer=1, weights=str(tmp_path / "weights.pt")), [], 0)
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(UserError, match=r"cut\.safetensors is damaged"):
        fit_speech_tokenizer(TokenizerConfig(kind=kind, layer=1, weights=str(tmp_path / "cut.safetensors")), [], 0)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "encodec", None)
    with pytest.raises(UserError, match=r"needs the package encodec: pip install encodec"):
        build_codec("x.safetensors", 1, "flattened")
