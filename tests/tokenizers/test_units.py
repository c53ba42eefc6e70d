"""Speech units: frame counts, features and centroids against slow references, and what a codebook file promises."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file
from sklearn.cluster import MiniBatchKMeans

from lst.errors import UserError
from lst.storage import sha256
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.frames import EncoderOptions
from lst.tokenizers.kmeans import MFCC_FORMAT, Centroids, KmeansTokenizer, fit_centroids
from lst.tokenizers.speech import SpeechTokenizer, fit_speech_tokenizer, load_speech_tokenizer
from lst.tokenizers.units import NUM_FEATURES, at_rate, log_mel_features, mfcc_features, num_units_in

ODD_NUM_SAMPLES = (1, 2, 159, 160, 399, 639, 640, 641, 1279, 1280, 1281, 16_000, 16_001, 33_333)


def speechlike(num_samples: int, seed: int) -> np.ndarray:
    """Voiced sounds of changing pitch and spectrum with pauses between, over a faint noise: float32 [num_samples]."""
    generator = np.random.default_rng(seed)
    waveform = generator.normal(0, 1e-3, num_samples)
    start = 0
    while start < num_samples:
        size = min(int(generator.integers(1_000, 4_000)), num_samples - start)
        time_s = np.arange(size) / 16_000
        pitch_hz, formant_hz = generator.uniform(90, 220), generator.uniform(300, 3_000)
        harmonics = pitch_hz * np.arange(1, 40)
        levels = np.exp(-(((harmonics - formant_hz) / 500) ** 2)) + 0.05
        voiced = (levels[:, None] * np.sin(2 * math.pi * harmonics[:, None] * time_s)).sum(axis=0)
        if generator.random() < 0.8:
            waveform[start : start + size] += 0.3 * voiced / (np.abs(voiced).max() + 1e-9) * np.hanning(size)
        start += size
    return waveform.astype(np.float32)


def mfcc_reference(waveform: np.ndarray, frame_rate_hz: int) -> np.ndarray:
    """The features by their textbook definition, in float64, a frame at a time: [num_frames, 39]."""
    padded = np.concatenate([np.zeros(200), waveform.astype(np.float64), np.zeros(200)])
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(400) / 400)
    mel_hz = 700 * (10 ** (np.linspace(0, 2595 * math.log10(1 + 8_000 / 700), 42) / 2595) - 1)
    bins_hz = np.arange(201) * 40.0
    triangles = np.array(
        [
            np.maximum(0, np.minimum((bins_hz - low) / (mid - low), (high - bins_hz) / (high - mid)))
            for low, mid, high in zip(mel_hz, mel_hz[1:], mel_hz[2:], strict=False)
        ]
    )
    cosines = np.array([[math.cos(math.pi * k * (2 * m + 1) / 80) for m in range(40)] for k in range(13)])
    cosines *= np.where(np.arange(13) == 0, math.sqrt(1 / 40), math.sqrt(2 / 40))[:, None]
    rows = []
    for start in range(0, len(waveform) + 1, 160):
        power = np.abs(np.fft.rfft(padded[start : start + 400] * window)) ** 2
        rows.append(cosines @ np.log(triangles @ power + 1e-6))
    cepstra = np.array(rows)
    cepstra -= cepstra.mean(axis=0)

    def differences(values: np.ndarray) -> np.ndarray:
        at = lambda frame: values[min(max(frame, 0), len(values) - 1)]  # noqa: E731
        return np.array([sum(n * (at(t + n) - at(t - n)) for n in (1, 2)) / 10 for t in range(len(values))])

    first = differences(cepstra)
    features = np.concatenate([cepstra, first, differences(first)], axis=1)
    group = 100 // frame_rate_hz
    num_frames = math.ceil(len(waveform) / (160 * group))
    last = len(features) - 1
    return np.array(
        [
            np.mean([features[min(t, last)] for t in range(frame * group, (frame + 1) * group)], axis=0)
            for frame in range(num_frames)
        ]
    )


def mfcc_tokenizer(centroids: Centroids, frame_rate_hz: int = 25) -> KmeansTokenizer:
    return KmeansTokenizer(centroids, {"kind": "mfcc"}, frame_rate_hz, EncoderOptions("mfcc", frame_rate_hz))


def fit_unit_codec(features: Iterable[np.ndarray], num_units: int, seed: int, **options: int) -> KmeansTokenizer:
    return mfcc_tokenizer(fit_centroids(features, num_units, seed, **options))


def encode(codec: SpeechTokenizer, waveform: np.ndarray) -> np.ndarray:
    return codec.encode([waveform], 16_000)[0]


@pytest.fixture(scope="module")
def codec() -> KmeansTokenizer:
    """20 units fitted on half a minute."""
    return fit_unit_codec([mfcc_features(speechlike(160_000, seed)) for seed in range(3)], 20, seed=0)


@pytest.mark.parametrize("frame_rate_hz", [25, 50, 100, 20])
def test_one_unit_for_every_begun_frame(codec: KmeansTokenizer, frame_rate_hz: int) -> None:
    codec = mfcc_tokenizer(codec.quantiser, frame_rate_hz)
    for num_samples in ODD_NUM_SAMPLES:
        units = encode(codec, speechlike(num_samples, seed=num_samples))
        assert units.dtype == np.uint16
        assert units.shape == (math.ceil(num_samples * frame_rate_hz / 16_000),)
        assert num_units_in(num_samples, frame_rate_hz) == len(units)


@given(st.integers(0, 10**9))
def test_number_of_units_at_25_hz_is_the_samples_over_640_rounded_up(num_samples: int) -> None:
    count = num_units_in(num_samples)
    assert (count - 1) * 640 < num_samples <= count * 640


@pytest.mark.parametrize("num_samples", [1, 641, 16_000, 20_001])
@pytest.mark.parametrize("frame_rate_hz", [25, 100])
def test_features_are_those_of_the_textbook(num_samples: int, frame_rate_hz: int) -> None:
    waveform = speechlike(num_samples, seed=1)
    error = np.abs(mfcc_features(waveform, frame_rate_hz) - mfcc_reference(waveform, frame_rate_hz)).max()
    print(f"{num_samples} samples at {frame_rate_hz} Hz: largest error {error:.1e}")
    assert error < 5e-3


def test_unit_is_the_nearest_centroid(codec: KmeansTokenizer) -> None:
    waveform = speechlike(100_001, seed=7)
    points = (mfcc_features(waveform) * codec.quantiser.feature_scale).astype(np.float64)
    distances = np.array(
        [[((point - c) ** 2).sum() for c in codec.quantiser.centroids.astype(np.float64)] for point in points]
    )
    units = encode(codec, waveform)
    nearest_two = np.sort(distances, axis=1)[:, :2]
    decided = nearest_two[:, 1] - nearest_two[:, 0] > 1e-3
    assert decided.mean() > 0.98
    assert np.array_equal(units[decided], distances.argmin(axis=1)[decided])
    assert (distances[np.arange(len(units)), units] <= nearest_two[:, 0] + 1e-3).all()
    assert len(set(units.tolist())) > 10


def test_units_depend_on_the_utterance_alone(codec: KmeansTokenizer) -> None:
    first, second = speechlike(50_000, seed=11), speechlike(31_111, seed=12)
    before = encode(codec, first)
    encode(codec, second)
    after = encode(codec, first)
    assert np.array_equal(before, after)
    assert not np.array_equal(encode(codec, second), after[: num_units_in(31_111)])


def test_waveform_is_left_alone_and_may_be_a_strided_view(codec: KmeansTokenizer) -> None:
    stereo = np.stack([speechlike(20_000, seed=1), speechlike(20_000, seed=2)], axis=1)
    before = stereo.copy()
    assert np.array_equal(encode(codec, stereo[:, 0]), encode(codec, np.ascontiguousarray(stereo[:, 0])))
    assert np.array_equal(stereo, before)


@pytest.mark.parametrize(("gain", "least_share"), [(0.5, 0.97), (2.0, 0.97), (0.1, 0.9)])
def test_gain_hardly_changes_units(codec: KmeansTokenizer, gain: float, least_share: float) -> None:
    """The mean that is taken out of the cepstra holds the gain; what is left is the floor under the logarithm."""
    waveform = speechlike(160_000, seed=21)
    same = float((encode(codec, np.float32(gain) * waveform) == encode(codec, waveform)).mean())
    print(f"gain {gain}: {same:.1%} of the units stay")
    assert same >= least_share


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_gain_leaves_features_of_loud_sounds_alone(gain: float) -> None:
    loud = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    change = np.abs(mfcc_features(np.float32(gain) * loud) - mfcc_features(loud)).max()
    unnormalised = math.sqrt(40) * math.log(gain**2)
    print(f"gain {gain}: features change by {change:.1e}; c0 would change by {unnormalised:.1f}")
    assert change < 0.01 < abs(unnormalised)


@pytest.mark.parametrize("shape", [(0,), (2, 100), (100, 1)])
def test_waveform_of_another_shape_is_refused(codec: KmeansTokenizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="mono and not empty"):
        encode(codec, np.zeros(shape, np.float32))


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_another_sample_rate_is_resampled_as_torchaudio_does(codec: KmeansTokenizer, rate_hz: int) -> None:
    waveform = speechlike(20_001, seed=0)
    resampled = torchaudio.functional.resample(torch.from_numpy(waveform), rate_hz, 16_000).numpy()
    (units,) = codec.encode([waveform], rate_hz)
    assert len(units) == num_units_in(math.ceil(20_001 * 16_000 / rate_hz))
    assert np.array_equal(units, encode(codec, resampled))


@pytest.mark.parametrize("rate_hz", [0, -16_000, 15_999_989])
def test_rates_that_cannot_be_resampled_say_how_to_convert(rate_hz: int) -> None:
    with pytest.raises(UserError, match=rf"{rate_hz} Hz cannot be resampled .*ffmpeg"):
        at_rate(speechlike(1_000, seed=0), rate_hz, 16_000)


def test_one_waveform_in_place_of_a_list_is_refused(codec: KmeansTokenizer) -> None:
    with pytest.raises(UserError, match=r"encode\(\[waveform\]"):
        codec.encode(speechlike(1_000, seed=0), 16_000)


def old_units(waveforms: list[np.ndarray], num_units: int, seed: int) -> tuple[bytes, list[np.ndarray]]:
    """MFCC units as the first version made them: all frames in one array, a transform an utterance; file and units."""
    features = []
    for waveform in waveforms:
        transform = torchaudio.transforms.MFCC(
            sample_rate=16_000,
            n_mfcc=13,
            log_mels=True,
            melkwargs={"n_fft": 400, "hop_length": 160, "n_mels": 40, "pad_mode": "constant"},
        )
        cepstra = transform(torch.from_numpy(waveform))
        cepstra = cepstra - cepstra.mean(dim=1, keepdim=True)
        deltas = torchaudio.functional.compute_deltas(cepstra)
        frames = torch.cat([cepstra, deltas, torchaudio.functional.compute_deltas(deltas)]).T
        num_frames = -(-len(waveform) // 640)
        missing = max(0, num_frames * 4 - len(frames))
        frames = torch.cat([frames, frames[-1:].expand(missing, -1)])[: num_frames * 4]
        features.append(frames.reshape(num_frames, 4, 39).mean(dim=1).numpy())
    every = np.concatenate(features)
    scale = (1.0 / np.maximum(every.std(axis=0), 1e-5)).astype(np.float32)
    kmeans = MiniBatchKMeans(
        num_units, random_state=seed, batch_size=4096, n_init=3, max_iter=100, reassignment_ratio=0.01
    ).fit(every * scale)
    centroids = kmeans.cluster_centers_.astype(np.float32)
    content = save(
        {"centroids": centroids, "feature_scale": scale},
        {"lst": json.dumps({"format": "lst-mfcc-kmeans-1", "frame_rate_hz": 25}, sort_keys=True)},
    )
    norms = 0.5 * np.square(centroids).sum(axis=1)
    return content, [((part * scale) @ centroids.T - norms).argmax(axis=1).astype(np.uint16) for part in features]


def test_mfcc_files_and_units_are_bit_for_bit_those_of_the_first_version(tmp_path: Path) -> None:
    waveforms = [speechlike(size, seed=size) for size in (1, 640, 33_333, 80_000)]
    content, expected = old_units(waveforms, 12, seed=3)
    tokenizer = fit_speech_tokenizer(TokenizerConfig(num_units=12), iter(waveforms), 3)
    tokenizer.save(tmp_path / "units.safetensors")
    assert (tmp_path / "units.safetensors").read_bytes() == content
    assert tokenizer.sha256 == hashlib.sha256(content).hexdigest()
    (tmp_path / "old.safetensors").write_bytes(content)
    loaded = load_speech_tokenizer(tmp_path / "old.safetensors")
    for made in (tokenizer, loaded):
        assert all(np.array_equal(a, b) for a, b in zip(made.encode(waveforms, 16_000), expected, strict=True))


def test_log_mel_is_the_logarithm_of_triangles_over_the_spectrum() -> None:
    """The bands by their definition (Slaney's scale, areas of one), in float64, a frame at a time."""
    waveform = speechlike(20_001, seed=5)
    padded = np.concatenate([np.zeros(200), waveform.astype(np.float64), np.zeros(200)])
    mel = np.linspace(0, 15 + math.log(8) / (math.log(6.4) / 27), 82)
    hz = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))
    bins_hz = np.arange(201) * 40.0
    triangles = np.array(
        [
            np.maximum(0, np.minimum((bins_hz - a) / (b - a), (c - bins_hz) / (c - b))) * 2 / (c - a)
            for a, b, c in zip(hz, hz[1:], hz[2:], strict=False)
        ]
    )
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(400) / 400)
    rows = [
        np.log(np.maximum(triangles @ np.abs(np.fft.rfft(padded[at : at + 400] * window)) ** 2, 1e-6))
        for at in range(0, 20_002, 160)
    ]
    rows += [rows[-1]] * 8
    expected = np.array(rows[:128]).reshape(32, 4, 80).mean(axis=1)
    np.testing.assert_allclose(log_mel_features(waveform), expected, atol=5e-3)


def test_save_and_load_round_trip(codec: KmeansTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "new" / "units.safetensors"
    codec.save(path)
    loaded = load_speech_tokenizer(path)
    assert np.array_equal(loaded.quantiser.centroids, codec.quantiser.centroids)
    assert np.array_equal(loaded.quantiser.feature_scale, codec.quantiser.feature_scale)
    assert (loaded.frame_rate_hz, loaded.num_units) == (25, 20)
    assert loaded.sha256 == codec.sha256 == sha256(path)
    waveform = speechlike(40_000, seed=3)
    assert np.array_equal(encode(loaded, waveform), encode(codec, waveform))
    assert [file.name for file in path.parent.iterdir()] == ["units.safetensors"]


def test_hash_names_everything_that_decides_units(codec: KmeansTokenizer) -> None:
    centroids, scale = codec.quantiser.centroids.copy(), codec.quantiser.feature_scale.copy()
    centroids[3, 5] = np.nextafter(centroids[3, 5], np.float32(9))
    scale[38] = np.nextafter(scale[38], np.float32(9))
    others = [
        mfcc_tokenizer(Centroids(centroids, codec.quantiser.feature_scale)),
        mfcc_tokenizer(Centroids(codec.quantiser.centroids, scale)),
        mfcc_tokenizer(codec.quantiser, 50),
        mfcc_tokenizer(Centroids(codec.quantiser.centroids[::-1].copy(), codec.quantiser.feature_scale)),
    ]
    assert len({codec.sha256, *(other.sha256 for other in others)}) == 5
    same = dataclasses.replace(codec.quantiser, centroids=codec.quantiser.centroids.copy())
    assert mfcc_tokenizer(same).sha256 == codec.sha256


def test_missing_codebook_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing: .*nothing\.safetensors.*lst prepare"):
        load_speech_tokenizer(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("kept_bytes", [0, 4, 100, -1])
def test_codebook_cut_short_is_damaged(codec: KmeansTokenizer, tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "units.safetensors"
    codec.save(path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(UserError, match=r"units\.safetensors is damaged.*lst prepare"):
        load_speech_tokenizer(path)


def test_other_files_are_no_codebook(tmp_path: Path) -> None:
    remedy = r"lst prepare"
    (tmp_path / "text.safetensors").write_text("this is not a tensor file at all")
    with pytest.raises(UserError, match=rf"text\.safetensors is damaged.*{remedy}"):
        load_speech_tokenizer(tmp_path / "text.safetensors")
    tensors = {"centroids": np.zeros((4, NUM_FEATURES), np.float32), "feature_scale": np.ones(NUM_FEATURES, np.float32)}
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=rf"no unit codebook of this project.*{remedy}"):
        load_speech_tokenizer(tmp_path / "weights.safetensors")
    save_file(tensors, tmp_path / "next.safetensors", metadata={"lst": '{"format": "lst-other-7"}'})
    with pytest.raises(UserError, match=rf"lst-other-7.*{remedy}"):
        load_speech_tokenizer(tmp_path / "next.safetensors")
    ours = {"lst": f'{{"format": "{MFCC_FORMAT}", "frame_rate_hz": 25}}'}
    save_file({"centroids": tensors["centroids"]}, tmp_path / "half.safetensors", metadata=ours)
    with pytest.raises(UserError, match=rf"damaged.*feature_scale.*{remedy}"):
        load_speech_tokenizer(tmp_path / "half.safetensors")
    save_file({**tensors, "centroids": np.zeros((4, 7), np.float32)}, tmp_path / "width.safetensors", metadata=ours)
    with pytest.raises(UserError, match=r"\(4, 7\).*expected \[k, 39\]"):
        load_speech_tokenizer(tmp_path / "width.safetensors")


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_flipped_byte_in_the_header_is_named_or_gives_another_hash(
    codec: KmeansTokenizer, tmp_path: Path, mask: int
) -> None:
    path = tmp_path / "units.safetensors"
    codec.save(path)
    whole = path.read_bytes()
    outcomes: dict[str, list[int]] = {}
    for place in range(8 + int.from_bytes(whole[:8], "little")):
        content = bytearray(whole)
        content[place] ^= mask
        path.write_bytes(content)
        try:
            outcome = "same hash" if load_speech_tokenizer(path).sha256 == codec.sha256 else "another hash"
        except UserError as error:
            outcome = "named" if "units.safetensors" in str(error) else str(error)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        outcomes.setdefault(outcome, []).append(place)
    print({outcome: len(places) for outcome, places in outcomes.items()})
    assert outcomes.keys() <= {"another hash", "named"}


def test_fit_is_a_function_of_its_seed() -> None:
    features = [mfcc_features(speechlike(64_000, seed)) for seed in range(2)]
    before = [array.copy() for array in features]
    assert fit_unit_codec(features, 12, seed=5).sha256 == fit_unit_codec(iter(features), 12, seed=5).sha256
    assert fit_unit_codec(features, 12, seed=5).sha256 != fit_unit_codec(features, 12, seed=6).sha256
    assert all(np.array_equal(array, copy) for array, copy in zip(features, before, strict=True))


def test_fit_finds_clusters_that_are_there() -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(0, 10, (6, NUM_FEATURES))
    members = generator.integers(0, 6, 3_000)
    frames = (centres[members] + generator.normal(0, 0.3, (3_000, NUM_FEATURES))).astype(np.float32)
    codec = fit_unit_codec([frames[:1_000], frames[1_000:]], 6, seed=0)
    np.testing.assert_allclose(codec.quantiser.feature_scale, 1 / frames.std(axis=0), rtol=1e-4)
    found = codec.quantiser.centroids / codec.quantiser.feature_scale
    gaps = np.abs(centres[:, None] - found[None]).max(axis=2)
    assert sorted(gaps.argmin(axis=1).tolist()) == list(range(6))
    assert gaps.min(axis=1).max() < 0.2


def test_fit_takes_at_most_max_frames_drawn_at_random() -> None:
    frames = np.random.default_rng(0).normal(size=(500, NUM_FEATURES)).astype(np.float32)
    taken = set()
    for seed in range(4):
        codec = fit_unit_codec([frames[:200], frames[200:]], 1, seed, max_frames=1)
        gaps = np.abs(codec.quantiser.centroids[0] / codec.quantiser.feature_scale - frames).max(axis=1)
        assert gaps.min() < 1e-4  # the one centroid is one of the frames
        taken.add(int(gaps.argmin()))
    assert len(taken) > 1
    assert np.abs(fit_unit_codec([frames], 1, seed=0).quantiser.centroids).max() < 0.2


def test_constant_features_do_not_divide_by_zero() -> None:
    codec = fit_unit_codec([np.ones((50, NUM_FEATURES), np.float32)], 1, seed=0)
    assert np.isfinite(codec.quantiser.feature_scale).all()
    assert np.isfinite(codec.quantiser.centroids).all()


def test_too_few_frames_are_refused_with_the_number_that_is_allowed() -> None:
    features = np.random.default_rng(0).normal(size=(30, NUM_FEATURES)).astype(np.float32)
    with pytest.raises(UserError, match=r"30 frames .*\(1\.2 s\) are too few for 31 units.*at most 30"):
        fit_unit_codec([features], 31, seed=0)
    assert fit_unit_codec([features], 30, seed=0).num_units == 30


def test_no_speech_at_all_is_the_same_mistake() -> None:
    with pytest.raises(UserError, match="too few for 10 units"):
        fit_unit_codec([], 10, seed=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5_000), st.integers(0, 2**32 - 1))
def test_any_short_sound_gets_finite_features(num_samples: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    waveform = (generator.normal(size=num_samples) * 10.0 ** generator.integers(-9, 1)).astype(np.float32)
    features = mfcc_features(waveform)
    assert features.shape == (num_units_in(num_samples), NUM_FEATURES)
    assert np.isfinite(features).all()
