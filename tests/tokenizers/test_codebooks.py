"""Codebooks as others publish them: read into the same units, and no pickle is opened without trust."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.cluster import MiniBatchKMeans
from small_models import WIDTH, hubert_model, save_hubert, speechlike

from lst.errors import UserError
from lst.tokenizers.codebooks import read_codebook
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.frames import EncoderOptions
from lst.tokenizers.kmeans import Centroids, Classifier, KmeansTokenizer, kmeans_of
from lst.tokenizers.speech import load_speech_tokenizer

FRAMES = np.random.default_rng(0).normal(size=(400, WIDTH)).astype(np.float32)
KMEANS = MiniBatchKMeans(9, random_state=0, n_init=1).fit(FRAMES)
CENTRES = KMEANS.cluster_centers_.astype(np.float32)


class RunsAProgram:
    """What a hostile pickle does: it makes a folder when it is read."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


def write_forms(folder: Path) -> dict[str, Path]:
    """The same centroids in each form, trusted ones with a leading ``!``."""
    np.save(folder / "a.npy", CENTRES)
    np.savez(folder / "b.npz", anything=CENTRES, counts=np.ones(9))
    np.savez(folder / "c.npz", other=CENTRES[:, :4], cluster_centers=CENTRES)
    save_file({"centroids": CENTRES, "x": CENTRES * 2}, folder / "d.safetensors")
    joblib.dump(KMEANS, folder / "km.bin")
    (folder / "km.km").write_bytes(pickle.dumps(KMEANS))
    joblib.dump(CENTRES, folder / "array.pkl")
    torch.save({"cluster_centers": CENTRES, "n_clusters": 9}, folder / "numpy.pt")
    torch.save({"C": torch.from_numpy(CENTRES)}, folder / "tensor.pt")
    torch.save({"cluster_centers": torch.from_numpy(CENTRES)}, folder / "torch.bin")
    return {path.name: path for path in folder.iterdir()}


def test_every_form_gives_scikit_learns_units(tmp_path: Path) -> None:
    for name, path in write_forms(tmp_path).items():
        quantiser = read_codebook(path, trust=True)
        assert isinstance(quantiser, Centroids)
        assert np.array_equal(quantiser.centroids, CENTRES), name
        assert np.array_equal(quantiser.quantise(FRAMES), KMEANS.predict(FRAMES)), name


def test_plain_arrays_need_no_trust_and_pickles_do(tmp_path: Path) -> None:
    for name, path in write_forms(tmp_path).items():
        if path.suffix in (".npy", ".npz", ".safetensors"):
            assert read_codebook(path, trust=False).num_units == 9
        else:
            with pytest.raises(UserError, match=rf"{name} is a pickle.*tokenizer\.trust=true"):
                read_codebook(path, trust=False)


@pytest.mark.parametrize("name", ["a.pkl", "a.km", "a.bin", "a.pt", "a.npy", "a.npz"])
def test_no_program_in_a_file_runs_without_trust(name: str, tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / name
    hostile = RunsAProgram(made)
    if path.suffix == ".pt":
        torch.save(hostile, path)
    elif path.suffix == ".npy":
        np.save(path, np.array([hostile], dtype=object), allow_pickle=True)
    elif path.suffix == ".npz":
        np.savez(path, centroids=np.array([hostile], dtype=object))
    else:
        path.write_bytes(pickle.dumps(hostile))
    with pytest.raises(UserError):
        read_codebook(path, trust=False)
    assert not made.exists()


def test_a_classifier_with_a_blank_is_read_and_blanks_take_the_unit_before(tmp_path: Path) -> None:
    """The form of the published 25 Hz units, against torch's layers and a loop over frames."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Linear(WIDTH, 20),
        torch.nn.LeakyReLU(),
        torch.nn.Linear(20, 16),
        torch.nn.LeakyReLU(),
        torch.nn.Linear(16, 7),
    )
    with torch.no_grad():
        layers[4].bias[6] += 0.3
    content = {"model_cfg": {"vocab_size": 6, "dim": WIDTH, "upstream_dim": 0}, "model_weight": layers.state_dict()}
    torch.save(content, tmp_path / "quantizer.pt")
    quantiser = read_codebook(tmp_path / "quantizer.pt", trust=True)
    assert isinstance(quantiser, Classifier)
    assert (quantiser.num_units, quantiser.num_features) == (7, WIDTH)
    with torch.inference_mode():
        raw = layers(torch.from_numpy(FRAMES)).argmax(dim=1).tolist()
    assert raw.count(6) > 20
    expected = list(raw)
    while 6 in expected:
        expected = [expected[index - 1] if unit == 6 else unit for index, unit in enumerate(expected)]
    assert quantiser.quantise(FRAMES).tolist() == expected
    blank = FRAMES[[index for index, unit in enumerate(raw) if unit == 6]]
    assert set(quantiser.quantise(blank).tolist()) == {6}
    lead = raw.index(6)
    after = np.concatenate([FRAMES[lead : lead + 1], FRAMES[:lead]])
    assert quantiser.quantise(after)[0] == quantiser.quantise(after)[-1]


@pytest.mark.parametrize("form", ["centroids", "classifier"])
def test_a_converted_codebook_is_saved_with_its_encoder(form: str, tmp_path: Path) -> None:
    folder = save_hubert(tmp_path / "hubert", hubert_model())
    options = EncoderOptions("hubert", 25, str(folder), 2)
    encoder, waveform = build_encoder(options), speechlike(30_000, 1)
    frames = encoder.frames(waveform)
    quantiser: Centroids | Classifier = Centroids(frames[::8].copy(), np.ones(WIDTH, np.float32))
    if form == "classifier":
        random = np.random.default_rng(0)
        weights = [random.normal(size=shape).astype(np.float32) for shape in ((10, WIDTH), (5, 10))]
        # Random models say nearly the same all the time: what is left is what differs from the mean.
        quantiser = Classifier((weights[0], weights[1]), (-weights[0] @ frames.mean(axis=0), np.zeros(5, np.float32)))
    tokenizer = kmeans_of(encoder, quantiser, options)
    tokenizer.save(tmp_path / "units.safetensors")
    loaded = load_speech_tokenizer(tmp_path / "units.safetensors")
    (units,) = loaded.encode([waveform], 16_000)
    assert loaded.sha256 == tokenizer.sha256
    assert np.array_equal(units, quantiser.quantise(frames))
    assert len(set(units.tolist())) > 1


def test_a_codebook_of_another_width_is_refused(tmp_path: Path) -> None:
    options = EncoderOptions("hubert", 25, str(save_hubert(tmp_path / "hubert", hubert_model())), 2)
    with pytest.raises(UserError, match=r"codebook of width 7 does not fit hubert frames of width 24"):
        kmeans_of(build_encoder(options), Centroids(np.ones((3, 7), np.float32), np.ones(7, np.float32)), options)


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        ("flat.npy", np.zeros(4), r"shape \(4,\): a codebook has 2 to 65535 rows"),
        ("one.npy", np.zeros((1, 4)), r"shape \(1, 4\)"),
        ("nan.npy", np.full((3, 4), np.nan), "finite numbers"),
    ],
)
def test_arrays_that_are_no_codebook_are_refused(name: str, array: np.ndarray, expected: str, tmp_path: Path) -> None:
    np.save(tmp_path / name, array)
    with pytest.raises(UserError, match=expected):
        read_codebook(tmp_path / name, trust=False)


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.npy: there is no such file; allowed are \.npy"):
        read_codebook(tmp_path / "nothing.npy", trust=False)
    for name, expected in (
        ("km.txt", r"\.txt is not one of \.npy"),
        ("a.npy", "damaged"),
        ("a.npz", "damaged"),
        ("a.safetensors", "damaged"),
    ):
        (tmp_path / name).write_bytes(b"not what its name says")
        with pytest.raises(UserError, match=expected):
            read_codebook(tmp_path / name, trust=False)
    for name in ("b.km", "b.pt"):
        (tmp_path / name).write_bytes(b"not what its name says")
        with pytest.raises(UserError, match=rf"{name} cannot be read"):
            read_codebook(tmp_path / name, trust=True)
    np.savez(tmp_path / "two.npz", a=np.zeros((3, 4)), b=np.zeros((3, 4)))
    with pytest.raises(UserError, match="holds a, b, none of which is a codebook"):
        read_codebook(tmp_path / "two.npz", trust=False)


def test_a_units_file_is_not_converted_again(tmp_path: Path) -> None:
    """Its features' scale would be lost."""
    path = tmp_path / "units.safetensors"
    scale = np.full(39, 2.0, np.float32)
    KmeansTokenizer(Centroids(np.zeros((4, 39), np.float32), scale), {"kind": "mfcc"}).save(path)
    bare = tmp_path / "bare.safetensors"
    save_file({"centroids": np.zeros((4, 39), np.float32), "feature_scale": scale}, bare)
    for given in (path, bare):
        with pytest.raises(UserError, match=r"is a units file already: use it with tokenizer\.codebook="):
            read_codebook(given, trust=True)


def test_no_error_advises_to_allow_pickles(tmp_path: Path) -> None:
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("1.0 2.0")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "object.npy").read_bytes()[:20])
    for name in ("object.npy", "text.npy", "cut.npy"):
        with pytest.raises(UserError, match="holds more than plain arrays") as raised:
            read_codebook(tmp_path / name, trust=False)
        assert "allow_pickle" not in str(raised.value)
