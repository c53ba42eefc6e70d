"""CTC alignment: paths against a plain search, emissions against the model's own, words where they were put."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torchaudio import pipelines
from torchaudio.models import wav2vec2_model
from torchaudio.models.wav2vec2.utils import import_huggingface_model
from torchaudio.pipelines import Wav2Vec2ASRBundle

from lst.data.alignment.aligner import AlignItem, AlignmentError
from lst.data.alignment.build import build_aligner
from lst.data.alignment.ctc.aligner import CtcAligner, align_labels
from lst.data.alignment.ctc.emissions import ctc_emissions, windows_of
from lst.data.alignment.ctc.labels import LabelMap
from lst.data.alignment.ctc.model import CtcModel, load_ctc_model, save_ctc_model
from lst.data.config import AlignConfig
from lst.errors import UserError
from tests.data.conftest import align

LABELS = ("-", "|", *"abcdefghijklmnopqrstuvwxyz", "'")
CONVOLUTIONS = [(16, 10, 5), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2)]
# Emissions that should be equal but for the order of additions.
ROUNDING = 1e-5


def architecture(mode: str = "layer_norm", num_layers: int = 2, num_labels: int = len(LABELS)) -> dict[str, Any]:
    return {
        "extractor_mode": mode,
        "extractor_conv_layer_config": CONVOLUTIONS,
        "extractor_conv_bias": mode == "layer_norm",
        "encoder_embed_dim": 16,
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": num_layers,
        "encoder_num_heads": 2,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": 32,
        "encoder_ff_interm_dropout": 0.1,
        "encoder_dropout": 0.1,
        "encoder_layer_norm_first": mode == "layer_norm",
        "encoder_layer_drop": 0.1,
        "aux_num_out": num_labels,
    }


def make_model(mode: str = "layer_norm", num_layers: int = 2, normalizes: bool = False) -> CtcModel:
    torch.manual_seed(0)
    module = wav2vec2_model(**architecture(mode, num_layers)).eval()
    # Sharper than at the start of a training, so that paths do not hang on rounding.
    nn.init.normal_(module.aux.weight, std=0.3)
    return CtcModel("tiny", module, LABELS, 0, normalizes)


def noises(*num_samples: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.normal(0.01, 0.1, count).astype(np.float32) for count in num_samples]


@torch.inference_mode()
def plain_emission(ctc: CtcModel, waveform: np.ndarray) -> torch.Tensor:
    """torchaudio's own forward pass of one whole waveform."""
    sound = torch.from_numpy(waveform)
    if ctc.normalizes:
        sound = (sound - sound.mean()) / (sound.var(unbiased=False) + 1e-5).sqrt()
    return torch.log_softmax(ctc.module(sound[None])[0][0], -1)


def best_path_reference(emission: np.ndarray, targets: list[int], blank: int) -> float:
    """Log-probability of the likeliest CTC path, by dynamic programming over blanks and labels, float64."""
    states = [blank]
    for target in targets:
        states += [target, blank]
    best = np.full(len(states), -np.inf)
    best[:2] = emission[0, states[0]], emission[0, states[1]]
    for row in emission[1:]:
        after = np.full(len(states), -np.inf)
        for index, state in enumerate(states):
            before = [best[index]]
            if index >= 1:
                before.append(best[index - 1])
            if index >= 2 and state != blank and state != states[index - 2]:
                before.append(best[index - 2])
            after[index] = max(before) + row[state]
        best = after
    return float(max(best[-1], best[-2]))


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 8), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_path_is_as_likely_as_the_best_of_a_plain_search(seed: int, length: int, spare: int, num_labels: int) -> None:
    generator = np.random.default_rng(seed)
    blank = int(generator.integers(num_labels))
    others = [label for label in range(num_labels) if label != blank]
    targets = generator.choice([*others, num_labels], length)  # The last is the star.
    repeats = int((targets[1:] == targets[:-1]).sum())
    emission = torch.log_softmax(
        torch.from_numpy(generator.normal(0, 2, (length + repeats + spare, num_labels))).float(), 1
    )
    starts, ends, scores = align_labels(emission, targets, blank)
    widened = torch.cat([emission, emission[:, others].max(1, keepdim=True).values], 1).double().numpy()
    path = np.full(len(emission), blank)
    for label, start, end in zip(targets, starts, ends, strict=True):
        path[start:end] = label
    assert [label for label, _ in groupby(path) if label != blank] == targets.tolist() or repeats
    found = widened[np.arange(len(path)), path].sum()
    assert found == pytest.approx(best_path_reference(widened, targets.tolist(), blank), abs=1e-4)
    for label, start, end, score in zip(targets, starts, ends, scores, strict=True):
        assert score == pytest.approx(widened[start:end, label].mean(), abs=1e-5)
    with pytest.raises(AlignmentError, match=f"need {length + repeats} frames, there are {length + repeats - 1}"):
        align_labels(emission[: length + repeats - 1], targets, blank)


def test_impossible_paths_are_refused() -> None:
    emission = torch.full((9, 4), -1.0)
    emission[:, 2] = -torch.inf
    with pytest.raises(AlignmentError, match="no path through it"):
        align_labels(emission, np.array([1, 2, 3]), 0)


def placed_emission(text: str, seed: int) -> tuple[torch.Tensor, list[list[tuple[int, int]]]]:
    """Emissions in which each letter has frames of its own, blanks and boundaries between; and those frames."""
    generator = np.random.default_rng(seed)
    rows: list[int] = []
    places: list[list[tuple[int, int]]] = []

    def put(label: int, least: int) -> tuple[int, int]:
        start = len(rows)
        rows.extend([label] * int(generator.integers(least, 4)))
        return start, len(rows)

    put(0, 1)
    for index, word in enumerate(text.split()):
        if index:
            put(LABELS.index("|"), 1)
            put(0, 0)
        places.append([])
        for letter in word:
            if places[-1]:
                put(0, 1)
            places[-1].append(put(LABELS.index(letter), 1))
        put(0, 0)
    logits = generator.normal(0, 0.3, (len(rows), len(LABELS)))
    logits[np.arange(len(rows)), rows] += 6.0
    return torch.log_softmax(torch.from_numpy(logits).float(), 1), places


@pytest.mark.parametrize("seed", range(5))
def test_words_and_characters_lie_where_they_were_put(seed: int) -> None:
    text = "hello little world it's all mississippi"
    emission, places = placed_emission(text, seed)
    words = CtcAligner(make_model()).timed_words(emission, text)
    for word, place, written in zip(words, places, text.split(), strict=True):
        assert word.text == written
        assert (word.start_s, word.end_s) == pytest.approx((place[0][0] * 0.02, place[-1][1] * 0.02))
        next_starts = [start for start, _ in place[1:]] + [place[-1][1]]
        assert word.character_ends_s == pytest.approx([frame * 0.02 for frame in next_starts])
        frames = [frame for start, end in place for frame in range(start, end)]
        labels = [
            LABELS.index(letter) for letter, (start, end) in zip(written, place, strict=True) for _ in range(start, end)
        ]
        assert word.score == pytest.approx(float(emission[frames, labels].mean()), abs=1e-5)


def test_wrong_texts_score_worse() -> None:
    emission, _ = placed_emission("the warm bread", 0)
    aligner = CtcAligner(make_model())
    right = np.mean([word.score for word in aligner.timed_words(emission, "the warm bread")])
    wrong = np.mean([word.score for word in aligner.timed_words(emission, "a cold dog")])
    print(f"right {right:.2f}, wrong {wrong:.2f}")
    assert right > wrong + 1


def test_text_becomes_labels() -> None:
    labels = LabelMap(LABELS, 0)
    star = len(LABELS)

    def said(text: str) -> list[str]:
        return [
            "".join("*" if label == star else LABELS[label] for label in word.label_ids) for word in labels.words(text)
        ]

    assert said("Hello, “World”!") == ["hello", "world"]
    assert said("it’s 'quoted' O'Neil's") == ["it's", "quoted", "o'neil's"]
    assert said("21 & 1,000 3.5") == ["twenty|one", "and", "one|thousand", "three|point|five"]
    assert said("well-known café Ǽ ﬁn") == ["wellknown", "cafe", "*", "fin"]
    assert said("да straße") == ["**", "stra*e"]
    assert [word.text for word in labels.words("— one – two …")] == ["— one –", "two …"]
    for text in ("—", "", "?!"):
        with pytest.raises(ValueError, match="can be said"):
            labels.words(text)
    digits = LabelMap(("<pad>", *"0123456789abc"), 0)
    assert [len(word.label_ids) for word in digits.words("1,012 ab")] == [4, 2]
    upper = LabelMap(("-", "|", *"ETAO"), 0)
    assert [word.label_ids for word in upper.words("tea 7")] == [[3, 2, 4], [6]]


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_keeps_its_words_and_characters(text: str) -> None:
    try:
        words = LabelMap(LABELS, 0).words(text)
    except ValueError:
        return
    assert " ".join(word.text for word in words) == " ".join(text.split())
    for word in words:
        assert sum(group.num_characters for group in word.groups) == len("".join(word.text.split()))
        assert word.label_ids
        assert 0 not in word.label_ids


def test_unsaid_and_joint_characters_get_their_ends() -> None:
    """A number's digits share its time; punctuation ends with the character before it."""
    aligner = CtcAligner(make_model())
    emission, places = placed_emission("twenty one days", 1)
    words = aligner.timed_words(emission, "“21 days!")
    assert [word.text for word in words] == ["“21", "days!"]
    start, end = places[0][0][0], places[1][-1][1]
    assert words[0].character_ends_s == pytest.approx([start * 0.02, (start + end) / 2 * 0.02, end * 0.02])
    assert words[1].character_ends_s[-1] == words[1].character_ends_s[-2] == pytest.approx(places[2][-1][1] * 0.02)
    placed = align(aligner, noises(32_000)[0], "“21 days!", 50, 25)
    for word in placed:
        assert len(word.character_ends) == len(word.text)
        assert word.character_ends[-1] == word.end_frame - word.start_frame
        assert list(word.character_ends) == sorted(word.character_ends)


@pytest.mark.parametrize("mode", ["group_norm", "layer_norm"])
@pytest.mark.parametrize("normalizes", [False, True])
def test_batched_emissions_are_those_of_one_by_one(mode: str, normalizes: bool) -> None:
    ctc = make_model(mode, normalizes=normalizes)
    waveforms = noises(16_000, 20_001, 48_000, 399, 400, 0, 33_333, 720)
    for batch in (1, 3, 8):
        for waveform, emission in zip(waveforms, ctc_emissions(ctc, waveforms, 30, 2, batch), strict=True):
            if len(waveform) < 400:
                assert emission.shape == (0, len(LABELS))
                continue
            torch.testing.assert_close(emission, plain_emission(ctc, waveform), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("mode", ["group_norm", "layer_norm"])
def test_batches_align_as_one_by_one(mode: str) -> None:
    ctc = make_model(mode)
    waveforms = noises(16_000, 40_000, 48_000, 399, 33_333)
    texts = ("a dog", "the warm bread", "12 birds", "cut", "x " * 90)
    items = [AlignItem(sound, text, len(sound) // 640) for sound, text in zip(waveforms, texts, strict=True)]
    alone = CtcAligner(ctc, batch=1).align_many(items, 25)
    for batch in (2, 8):
        for one, many in zip(alone, CtcAligner(ctc, batch=batch).align_many(items, 25), strict=True):
            assert str(one) == str(many)
    assert [isinstance(found, AlignmentError) for found in alone] == [False, False, False, True, True]
    assert "need 3 frames, there are 0" in str(alone[3])


@given(st.integers(1, 400), st.integers(1, 60), st.integers(0, 20))
def test_windows_keep_every_frame_once(num_frames: int, own: int, overlap: int) -> None:
    windows = windows_of(0, num_frames, own + 2 * overlap, overlap)
    kept = [frame for window in windows for frame in range(window.keep_first, window.keep_last)]
    assert kept == list(range(num_frames))
    for window in windows:
        assert window.last - window.first <= own + 2 * overlap
        assert window.keep_first - window.first == (overlap if window.keep_first >= overlap else window.keep_first) or (
            len(windows) == 1
        )
        assert window.last == min(window.keep_last + overlap, num_frames) or len(windows) == 1


@pytest.mark.parametrize("mode", ["group_norm", "layer_norm"])
def test_windowed_emissions_are_the_unwindowed_where_hearing_is_local(mode: str) -> None:
    """Without attention a frame hears 16 neighbours: with that much overlap, windows change nothing but rounding."""
    ctc = make_model(mode, num_layers=0)
    waveforms = noises(70_000, 16_000)
    for window_s, overlap_s, batch in ((1.0, 0.32, 1), (0.9, 0.34, 4), (2.0, 0.5, 2)):
        for waveform, emission in zip(
            waveforms, ctc_emissions(ctc, waveforms, window_s, overlap_s, batch), strict=True
        ):
            torch.testing.assert_close(emission, plain_emission(ctc, waveform), rtol=0, atol=ROUNDING)
    text = "the warm bread in the garden"
    whole = align(CtcAligner(ctc), waveforms[0], text, 109, 25)
    assert align(CtcAligner(ctc, window_s=1.0, overlap_s=0.32), waveforms[0], text, 109, 25) == whole


def test_windows_with_attention_differ_little_and_less_with_more_overlap() -> None:
    ctc = make_model()
    waveform = noises(160_000)[0]
    whole = plain_emission(ctc, waveform)
    differences = []
    for overlap_s in (0.0, 1.0, 4.0):
        (emission,) = ctc_emissions(ctc, [waveform], 1 + 2 * overlap_s, overlap_s, 4)
        differences.append(float((emission - whole).abs().mean()))
    print("mean difference of log-probabilities with 0, 1 and 4 s of overlap:", differences)
    assert differences[0] > differences[1] > differences[2]


def test_saved_models_come_back_and_faults_are_all_named(tmp_path: Path) -> None:
    ctc = make_model("group_norm", normalizes=True)
    save_ctc_model(tmp_path / "own", ctc.module, architecture("group_norm"), LABELS, 0, True)
    loaded = load_ctc_model(str(tmp_path / "own"))
    (waveform,) = noises(20_000)
    assert torch.equal(plain_emission(loaded, waveform), plain_emission(ctc, waveform))
    assert (loaded.labels, loaded.blank_id, loaded.normalizes, loaded.name) == (LABELS, 0, True, "own")
    config = AlignConfig(method="ctc", checkpoint=str(tmp_path / "own"), level="character")
    words = align(build_aligner(config), waveform, "warm bread", 31, 25)
    assert all(word.character_ends for word in words)
    plain = build_aligner(AlignConfig(method="ctc", checkpoint=str(tmp_path / "own")))
    assert align(plain, waveform, "warm bread", 31, 25) == tuple(word._replace(character_ends=()) for word in words)
    assert plain.name == "ctc-own"

    record = json.loads((tmp_path / "own" / "ctc.json").read_text())
    (tmp_path / "own" / "ctc.json").write_text(json.dumps({**record, "labels": [*LABELS, "?"], "blank_id": 99}))
    with pytest.raises(UserError, match=r"29 outputs, there are 30 labels\n.*blank is label 99"):
        load_ctc_model(str(tmp_path / "own"))
    (tmp_path / "own" / "ctc.json").write_text(json.dumps({"labels": 3, "blank_id": 0}))
    with pytest.raises(UserError, match=r"(?s)4 problems.*architecture.*labels.*normalizes.*sample_rate_hz"):
        load_ctc_model(str(tmp_path / "own"))
    (tmp_path / "own" / "ctc.json").write_text(json.dumps({**record, "architecture": architecture(num_layers=1)}))
    with pytest.raises(UserError, match=r"is missing\n(.*\n)*.*belongs to no part"):
        load_ctc_model(str(tmp_path / "own"))
    (tmp_path / "own" / "ctc.json").write_text(json.dumps(record))
    (tmp_path / "own" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="damaged or not safetensors"):
        load_ctc_model(str(tmp_path / "own"))
    with pytest.raises(UserError, match=r"neither config\.json nor ctc\.json"):
        load_ctc_model(str(tmp_path))
    with pytest.raises(UserError, match=r"no folder and no bundle; bundles are .*MMS_FA.*WAV2VEC2_ASR_BASE_960H"):
        load_ctc_model("MMS_FB")


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("ctc.json", {"encoder_embed_dim": 10**9}, r"architecture\.encoder_embed_dim must be a whole number from 1"),
        ("ctc.json", {"encoder_embed_dim": 32_768}, "has the shape"),
        ("ctc.json", {"extractor_conv_layer_config": [[1, "x", 2]]}, r"config\[0\]\[1\] must be a whole number"),
        ("ctc.json", {"aux_num_out": "many"}, r"architecture\.aux_num_out must be"),
        ("config.json", {"vocab_size": "many"}, "vocab_size must be a whole number"),
        ("config.json", {"vocab_size": 10**12}, "vocab_size must be a whole number"),
        ("config.json", {"conv_dim": 5}, "conv_dim must be a list"),
        ("config.json", {"num_hidden_layers": 10**6}, "num_hidden_layers must be a whole number from 1 to 1000"),
    ],
)
def test_sizes_that_no_model_has_are_refused_before_memory_is_taken(
    tmp_path: Path, file: str, changes: dict[str, object], said: str
) -> None:
    save_ctc_model(tmp_path, make_model("group_norm", normalizes=True).module, architecture("group_norm"), LABELS)
    if file == "ctc.json":
        record = json.loads((tmp_path / file).read_text())
        (tmp_path / file).write_text(json.dumps({**record, "architecture": {**record["architecture"], **changes}}))
    else:
        (tmp_path / "ctc.json").unlink()
        (tmp_path / file).write_text(json.dumps({"model_type": "wav2vec2", **changes}))
        (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(UserError, match=said):
        load_ctc_model(str(tmp_path))


class Wav2Vec2ForCTC(nn.Module):
    """The parts of a model under Hugging Face's names, as torchaudio's converter wants them (it asks for the class)."""

    def __init__(self, module: Any, config: dict[str, Any]) -> None:
        super().__init__()
        self.wav2vec2 = nn.Module()
        self.wav2vec2.feature_extractor = module.feature_extractor
        self.wav2vec2.feature_projection = module.encoder.feature_projection
        self.wav2vec2.encoder = module.encoder.transformer
        self.lm_head = module.aux
        self.config = SimpleNamespace(
            **config,
            feat_proj_dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            hidden_dropout=0.0,
            layerdrop=0.0,
        )


@pytest.mark.parametrize("mode", ["group", "layer"])
@pytest.mark.parametrize("old_names", [False, True])
def test_hugging_face_folders_are_read_as_torchaudio_converts_them(tmp_path: Path, mode: str, old_names: bool) -> None:
    ctc = make_model(f"{mode}_norm")
    config = {
        "model_type": "wav2vec2",
        "feat_extract_norm": mode,
        "conv_dim": [16] * 7,
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "conv_bias": mode == "layer",
        "hidden_size": 16,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "do_stable_layer_norm": mode == "layer",
        "vocab_size": len(LABELS),
    }
    original = Wav2Vec2ForCTC(ctc.module, config)
    state = {name: value.contiguous() for name, value in original.state_dict().items()}
    if old_names:
        renamed = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        for new, old in renamed.items():
            state = {name.replace(new, old): value for name, value in state.items()}
    state["wav2vec2.masked_spec_embed"] = torch.zeros(16)
    save_file(state, tmp_path / "model.safetensors")
    labels = ["<pad>", "<w>", *LABELS[2:-1]]  # The last output belongs to a token that was added later.
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.json").write_text(json.dumps({label: index for index, label in enumerate(labels)}))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"word_delimiter_token": "<w>", "pad_token": {"content": "<pad>"}})
    )
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16000}))
    loaded = load_ctc_model(str(tmp_path))
    reference = CtcModel("reference", import_huggingface_model(original).eval(), loaded.labels, 0, True)
    (waveform,) = noises(20_000)
    assert torch.equal(plain_emission(loaded, waveform), plain_emission(reference, waveform))
    assert (loaded.labels, loaded.blank_id, loaded.normalizes) == (("<pad>", "|", *LABELS[2:-1], ""), 0, True)

    for vocabulary in ({"eng": {"a": 0}}, {"a": "0"}, ["a"], {"a": -1}):
        (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
        with pytest.raises(UserError, match="must give each label its number"):
            load_ctc_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "wavlm", "add_adapter": True}))
    with pytest.raises(UserError, match=r"2 problems\n.*'wavlm'.*\n.*adapters"):
        load_ctc_model(str(tmp_path))


def test_bundles_load_from_the_hub_cache_and_from_local_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle as torchaudio's are, only small: three outputs in its file belong to no label."""
    ctc = make_model("group_norm")
    parameters = architecture("group_norm")
    bundle = Wav2Vec2ASRBundle("tiny_asr.pth", parameters, 16000, False, "Wav2Vec2", _labels=LABELS[1:])
    monkeypatch.setattr(pipelines, "TINY_ASR", bundle, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = {name: value.clone() for name, value in ctc.module.state_dict().items()}
    for name in ("aux.weight", "aux.bias"):
        state[name] = torch.cat([state[name][:1], torch.full_like(state[name][:3], 7.0), state[name][1:]])
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / "tiny_asr.pth")
    save_file(state, tmp_path / "tiny.safetensors")
    (waveform,) = noises(20_000)
    with torch.inference_mode():
        reference = torch.log_softmax(bundle.get_model()(torch.from_numpy(waveform)[None])[0][0], -1)
    for weights in ("", str(tmp_path / "tiny.safetensors")):
        loaded = load_ctc_model("TINY_ASR", weights)
        assert torch.equal(plain_emission(loaded, waveform), reference)
        assert loaded.labels == ("-", *LABELS[1:])
    (tmp_path / "hub" / "checkpoints" / "tiny_asr.pth").write_bytes(b"damaged")
    with pytest.raises(UserError, match="are damaged"):
        load_ctc_model("TINY_ASR")
    with pytest.raises(UserError, match=r"gone.safetensors are missing"):
        load_ctc_model("TINY_ASR", str(tmp_path / "gone.safetensors"))
