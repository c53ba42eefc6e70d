"""The unit model: a function of the last units alone, one by one as all at once; it learns, and it is kept safely."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lst.errors import UserError
from lst.model.batch import SPEECH, Document, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document
from lst.model.unit_model import UnitModel, fit_unit_model

NUM_UNITS = 30


def random_model(context: int = 4, num_units: int = NUM_UNITS) -> UnitModel:
    model = UnitModel(num_units, context, seed=1)
    with torch.no_grad():
        # As drawn for training, all units are nearly alike.
        model.output.weight.mul_(40)
    return model


MODEL = random_model()
spans = st.lists(st.integers(0, NUM_UNITS - 1), min_size=1, max_size=40).map(lambda units: np.array(units, np.uint16))


@given(spans)
@settings(max_examples=60, deadline=None)
def test_one_by_one_equals_all_at_once(units: np.ndarray) -> None:
    entropies, surprisals = MODEL.entropies(units), MODEL.surprisals(units)
    assert entropies.dtype == surprisals.dtype == np.float32
    assert entropies.shape == surprisals.shape == units.shape
    for place in range(1, len(units) + 1):
        assert MODEL.next_entropy(units[:place]) == entropies[place - 1]
        assert MODEL.next_entropy(units[:place][-MODEL.context :]) == entropies[place - 1]
        assert MODEL.last_surprisal(units[:place]) == surprisals[place - 1]
        assert MODEL.last_surprisal(units[:place][-MODEL.context - 1 :]) == surprisals[place - 1]


@given(st.lists(spans, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_spans_together_as_alone(several: list[np.ndarray]) -> None:
    starts = np.cumsum([0, *map(len, several[:-1])])
    for name in ("entropy", "surprisal"):
        together = MODEL.measure(np.concatenate(several), starts, name)
        assert together.tolist() == np.concatenate([MODEL.measure(units, name=name) for units in several]).tolist()


@given(spans, spans)
@settings(max_examples=60, deadline=None)
def test_only_the_last_units_count(before: np.ndarray, units: np.ndarray) -> None:
    joined = np.concatenate([before, units])
    context = MODEL.context
    assert MODEL.entropies(joined)[: len(before)].tolist() == MODEL.entropies(before).tolist()
    assert (
        MODEL.entropies(joined)[len(before) + context - 1 :].tolist() == MODEL.entropies(units)[context - 1 :].tolist()
    )
    assert MODEL.surprisals(joined)[len(before) + context :].tolist() == MODEL.surprisals(units)[context:].tolist()


def test_values_are_those_of_the_distribution() -> None:
    units = np.array([3, 9, 9, 0, 29])
    contexts = torch.tensor(
        [[30, 30, 30, 30], [30, 30, 30, 3], [30, 30, 3, 9], [30, 3, 9, 9], [3, 9, 9, 0], [9, 9, 0, 29]]
    )
    log_probs = MODEL(contexts, torch.float64).detach().numpy()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1)
    np.testing.assert_allclose(MODEL.entropies(units), -(np.exp(log_probs) * log_probs).sum(axis=1)[1:], rtol=1e-6)
    np.testing.assert_allclose(MODEL.surprisals(units), -log_probs[np.arange(5), units], rtol=1e-6)
    assert MODEL.measure(units, name="surprisal").tolist() == MODEL.surprisals(units).tolist()
    assert MODEL.measure(units, name="entropy").tolist() == MODEL.entropies(units).tolist()


def test_long_spans_and_empty_ones() -> None:
    units = np.random.default_rng(0).integers(0, NUM_UNITS, 5000)
    parts = [MODEL.entropies(units[max(start - 3, 0) : start + 700])[min(start, 3) :] for start in range(0, 5000, 700)]
    assert np.concatenate(parts).tolist() == MODEL.entropies(units).tolist()
    assert len(MODEL.surprisals(units)) == 5000
    none = np.zeros(0, np.int64)
    for empty in (MODEL.entropies(units[:0]), MODEL.surprisals(units[:0]), MODEL.entropies(none, none)):
        assert empty.shape == (0,)
    with pytest.raises(ValueError, match="speech unit 30 is outside the unit model's codebook of 30 units"):
        MODEL.entropies(np.array([1, 30]))


def markov_sequences(num_sequences: int) -> tuple[list[np.ndarray], float]:
    """A source whose next unit is one of three, and its entropy rate in bits."""
    rng = np.random.default_rng(0)
    followers = rng.integers(0, NUM_UNITS, (NUM_UNITS, 3))
    sequences = []
    for _ in range(num_sequences):
        units = [0]
        for draw in rng.choice(3, 120, p=[0.6, 0.3, 0.1]):
            units.append(int(followers[units[-1], draw]))
        sequences.append(np.array(units, np.uint16))
    return sequences, float(-(np.array([0.6, 0.3, 0.1]) * np.log2([0.6, 0.3, 0.1])).sum())


def test_it_learns_what_unit_frequencies_do_not_tell(capsys: pytest.CaptureFixture[str]) -> None:
    sequences, rate_bits = markov_sequences(60)
    model = fit_unit_model(sequences, NUM_UNITS, 3, seed=0, max_steps=150)
    print(f"{model.held_out_bits:.2f} bits, unigram {model.unigram_bits:.2f}, source {rate_bits:.2f}")
    assert rate_bits - 0.1 < model.held_out_bits < rate_bits + 0.6 < model.unigram_bits
    assert "unit frequencies alone" in capsys.readouterr().err
    again = fit_unit_model(sequences, NUM_UNITS, 3, seed=0, max_steps=150)
    assert all((left == right).all() for left, right in zip(model.parameters(), again.parameters(), strict=True))
    other = fit_unit_model(sequences, NUM_UNITS, 3, seed=1, max_steps=150)
    assert not torch.equal(other.output.weight, model.output.weight)


def test_noise_is_no_worse_than_unit_frequencies() -> None:
    """The weights of the least held-out loss are kept, and the first of them are the frequencies."""
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, NUM_UNITS, 60) for _ in range(20)]
    model = fit_unit_model(sequences, NUM_UNITS, 8, seed=0, max_steps=200)
    assert model.held_out_bits < model.unigram_bits + 0.02


def test_too_few_sequences_are_said() -> None:
    with pytest.raises(UserError, match="needs two spoken utterances to train on, there are 1"):
        fit_unit_model([np.array([1, 2]), np.zeros(0, int)], NUM_UNITS, 3, seed=0)


def test_saved_and_loaded_says_the_same(tmp_path: Path) -> None:
    units = np.arange(20)
    model = random_model(context=6)
    model.held_out_bits, model.unigram_bits = 2.5, 4.0
    model.save(tmp_path)
    loaded = UnitModel.load(tmp_path, NUM_UNITS)
    assert loaded.entropies(units).tolist() == model.entropies(units).tolist()
    assert (loaded.context, loaded.held_out_bits, loaded.unigram_bits) == (6, 2.5, 4.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "weights.safetensors"]


def test_faulty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"configuration is missing: .*config\.json"):
        UnitModel.load(tmp_path)
    random_model().save(tmp_path)
    with pytest.raises(UserError, match="knows 30 units, the data has 31"):
        UnitModel.load(tmp_path, 31)
    weights = load_file(tmp_path / "weights.safetensors")
    del weights["hidden.bias"]
    weights |= {"extra": torch.zeros(1), "output.bias": torch.zeros(3), "output.weight": weights["output.weight"] / 0}
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(UserError) as raised:
        UnitModel.load(tmp_path)
    for part in (
        "hidden.bias is missing",
        "extra is unknown",
        "output.bias has shape [3], needed is [30]",
        "output.weight holds values that are not finite",
    ):
        assert part in str(raised.value)
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="weights are damaged"):
        UnitModel.load(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(UserError, match="weights are missing"):
        UnitModel.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(UserError, match=r"has format 'other', this project reads lst-unit-model-1"):
        UnitModel.load(tmp_path)


@pytest.mark.parametrize("measure", ["entropy", "surprisal"])
@pytest.mark.parametrize("max_patch", [0, 3])
def test_no_logit_sees_a_later_unit_through_the_patches(
    measure: str, max_patch: int, make_document: Callable[..., Document]
) -> None:
    """Cutting a document anywhere, entropies and patches worked out anew, changes no logit of what is kept."""
    shape = ModelConfig(
        global_dim=24,
        global_layers=2,
        global_heads=2,
        local_dim=16,
        local_heads=2,
        encoder_layers=1,
        decoder_layers=2,
        sub_queries=2,
        ffn_multiple_of=8,
    )
    model = LatentSpeechTextModel(shape, 60, 0).double()
    units = random_model(context=3, num_units=20)
    document = make_document(5, 80)

    def entropies(modalities: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
        is_speech = np.concatenate([[False], modalities == SPEECH, [False]])
        spans = np.flatnonzero(is_speech[1:] != is_speech[:-1]).reshape(-1, 2)
        found = [units.measure(token_ids[start:end] - 40, name=measure) for start, end in spans]
        return np.concatenate([np.zeros(0, np.float32), *found])

    threshold = float(np.quantile(entropies(document.modalities, document.token_ids), 0.7))
    config = PatchingConfig("entropy", entropy_measure=measure, max_patch=max_patch, entropy_threshold=threshold)

    def logits(num_tokens: int) -> torch.Tensor:
        ids, modalities = document.token_ids[:num_tokens], document.modalities[:num_tokens]
        kept = Document("d", ids, modalities, entropies=entropies(modalities, ids))
        patches = patch_document(kept, "entropy", config)
        with torch.no_grad():
            return model(pack_documents([[(kept, patches)]], len(patches)))

    whole = logits(80)
    for num_tokens in range(1, 80):
        torch.testing.assert_close(logits(num_tokens), whole[:num_tokens], rtol=0, atol=1e-10)
