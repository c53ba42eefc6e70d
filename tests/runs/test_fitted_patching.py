"""Strategies that fit something first: trained, resumed, evaluated, reported, continued."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from lst.api import Continued
from lst.api.writing import spans_of
from lst.cli import describe, main
from lst.configs.compose import build_config
from lst.data.documents.interleave import Span
from lst.data.prepared import PreparedData
from lst.errors import UserError
from lst.evaluation.cloze import cloze_document, cloze_items
from lst.model.batch import SPEECH
from lst.model.checkpoint import load_model
from lst.model.inference.generate import Continuation
from lst.model.patching import patch_document
from lst.model.unit_model import UnitModel
from lst.recipes.evaluate import evaluate, results_as_text
from lst.recipes.training.train import train
from lst.runs import fitted_patching
from lst.runs.fitted_patching import check_patching, fit_patching, load_patching, plain_patching
from lst.tokenizers.speech_bpe import SpeechBPE

STEPS = ["train.max_steps=6", "train.checkpoint_every=2", "train.eval_every=3", "eval.max_items=4"]
ARTEFACTS = {
    "entropy": ["unit_model/config.json", "unit_model/weights.safetensors"],
    "speech_bpe": ["speech_bpe.model"],
}


@pytest.fixture(scope="module")
def trained(smoke_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a model of each such strategy, named after it, and a static one."""
    run = tmp_path_factory.mktemp("fitted") / "run"
    shutil.copytree(smoke_data, run)
    for name in ("entropy", "speech_bpe", "static"):
        train(build_config(overrides(run, name)))
    return run


def overrides(run: Path, strategy: str, *more: str) -> list[str]:
    return ["experiment=smoke", f"run_dir={run}", f"patching={strategy}", f"name={strategy}", *STEPS, *more]


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("strategy", ["entropy", "speech_bpe"])
def test_what_was_fitted_lies_with_the_training_and_with_the_model(trained: Path, strategy: str) -> None:
    folder = trained / "models" / strategy
    for name in ARTEFACTS[strategy]:
        assert (folder / name).read_bytes() == (folder / "final" / name).read_bytes()
    _, patching, _ = load_model(folder / "final")
    if strategy == "entropy":
        fitted = json.loads((folder / "unit_model/threshold.json").read_text())
        assert patching.entropy_threshold == fitted["entropy_threshold"] > 0


@pytest.mark.parametrize("strategy", ["entropy", "speech_bpe"])
def test_resuming_finds_what_was_fitted(run: Path, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run / "models" / strategy
    before = load_file(folder / "final" / "model.safetensors")
    shutil.rmtree(folder / "final")
    shutil.rmtree(folder / "checkpoints" / "step-00000006")

    def refuse(*_: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(fitted_patching, "fit_unit_model", refuse)
    monkeypatch.setattr(fitted_patching, "fit_entropy_threshold", refuse)
    monkeypatch.setattr(fitted_patching, "fit_speech_bpe", refuse)
    final = train(build_config(overrides(run, strategy)))
    after = load_file(final / "model.safetensors")
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    assert all((final / name).exists() for name in ARTEFACTS[strategy])


def test_stopped_between_unit_model_and_threshold_fits_the_same_threshold(trained: Path, tmp_path: Path) -> None:
    config, data = build_config(overrides(trained, "entropy")), PreparedData(trained / "data")
    folder = trained / "models/entropy"
    shutil.copytree(folder / "unit_model", tmp_path / "unit_model")
    (tmp_path / "unit_model/threshold.json").unlink()
    again, before = fit_patching(config, data, tmp_path), fit_patching(config, data, folder)
    assert again.config == before.config
    assert again.hashes == before.hashes


def test_arms_are_evaluated_and_reported_side_by_side(run: Path) -> None:
    results = evaluate(build_config(overrides(run, "static")))
    assert {name: result["strategy"] for name, result in results.items()} == {
        "entropy": "entropy",
        "speech_bpe": "speech_bpe",
        "static": "static",
    }
    num_units = sum(utterance.num_frames for utterance in PreparedData(run / "data").valid)
    for name, result in results.items():
        assert result["bits"]["num_units"] == num_units, "bits are a unit, whatever the tokens are"
        # Training looks at the same held-out utterances after its last step.
        lines = (run / "models" / name / "metrics.jsonl").read_text().splitlines()
        last = [row for row in map(json.loads, lines) if "valid_bits_per_unit" in row][-1]
        assert last["step"] == 6
        assert result["bits"]["bits_per_unit"] == pytest.approx(last["valid_bits_per_unit"], rel=1e-4)
        assert result["bits"]["bits_per_byte"] == pytest.approx(last["valid_bits_per_byte"], rel=1e-4)
    assert main(["report", f"run_dir={run}"]) == 0
    page = (run / "report.html").read_text()
    assert "where entropy exceeds" in page
    assert "a piece of units each" in page


def test_pieces_hold_the_units_of_their_spans(trained: Path) -> None:
    data = PreparedData(trained / "data")
    config = build_config(overrides(trained, "speech_bpe"))
    _, patching, vocabulary = load_model(trained / "models/speech_bpe/final")
    fitted = load_patching(trained / "models/speech_bpe/final", patching, data)
    assert fitted.vocabulary.num_units == vocabulary["num_units"]
    assert fitted.vocabulary.units_sha256 == vocabulary["units_sha256"] != data.vocabulary.units_sha256
    builder = fitted.builder(config, data)
    of_units = plain_patching(build_config(["patching=static"]).patching, data).builder(config, data)
    for epoch, utterance in enumerate(data.train):
        document = builder.interleaved(utterance, epoch)
        plain = of_units.interleaved(utterance, epoch)
        pieces, units = (x.token_ids[x.modalities == SPEECH] for x in (document, plain))
        assert fitted.units_of(pieces).tolist() == (units - data.vocabulary.first_unit_id).tolist()
        assert len(pieces) < len(units)
        assert set(patch_document(document, "speech_bpe", patching).lengths.tolist()) == {1}


def test_runs_of_units_are_read_once_from_training_to_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shards keep every frame; documents, bits, cloze and prompts of such a model have none that repeats."""
    once = [*overrides(run, "static"), "name=once", "patching.deduplicate=true"]
    final = train(build_config(once))
    data = PreparedData(run / "data")
    _, patching, vocabulary = load_model(final)
    assert patching.deduplicate
    assert vocabulary["deduplicated"]
    fitted = load_patching(final, patching, data)
    assert fitted.vocabulary.fingerprint != data.vocabulary.fingerprint
    builder = fitted.builder(build_config(once), data)
    num_frames = num_units = 0
    for utterance in data.valid:
        units = [unit for unit, _ in itertools.groupby(utterance.units.tolist())]
        document = builder.speech(utterance)
        assert (document.token_ids[2:-1] - fitted.vocabulary.first_unit_id).tolist() == units
        num_frames, num_units = num_frames + utterance.num_frames, num_units + len(units)
    for item in cloze_items(list(data.valid), build_config(once).eval, 0):
        together, ending = cloze_document(builder, item, "S→S", True)
        whole = builder.speech(item.utterance)
        assert together.token_ids.tolist() == whole.token_ids[:-1].tolist()
        assert together.segment_lengths.sum() == whole.segment_lengths.sum()
        assert 0 < len(together.token_ids[ending]) < len(together)
    results = evaluate(build_config(once))
    assert (results["once"]["bits"]["num_units"], results["static"]["bits"]["num_units"]) == (num_units, num_frames)
    assert num_units < num_frames
    assert "bits/unit of once are of units read once" in results_as_text(results)
    assert "read once" not in results_as_text({"static": results["static"]})
    assert main(["report", f"run_dir={run}"]) == 0
    page = " ".join((run / "report.html").read_text().split())
    assert "repeated units read once" in page
    assert f"{num_units:,} or {num_frames:,} (where repeated units are read once" in page
    audio = data.manifest[data.valid[0].id].path
    capsys.readouterr()
    assert (
        main(["generate", f"run_dir={run}", "name=once", f"generate.audio={audio}", "generate.max_new_tokens=3"]) == 0
    )
    prompt = re.search(r"prompt:.*: ([\d ]+)\n", capsys.readouterr().out)
    assert prompt is not None
    assert prompt[1] == " ".join(unit for unit, _ in itertools.groupby(prompt[1].split()))


def test_units_of_a_codec_cannot_be_read_once(trained: Path) -> None:
    data = PreparedData(trained / "data")
    data.vocabulary = replace(data.vocabulary, units_a_frame=2)
    patching = replace(build_config(overrides(trained, "static")).patching, deduplicate=True)
    with pytest.raises(UserError, match=r"has 2 units: .*a model with patching\.deduplicate=false"):
        check_patching(patching, data)


def test_entropies_follow_the_spans_of_the_document(trained: Path) -> None:
    """Parts that join without a marker, as context and ending of a cloze item do, are one span."""
    data = PreparedData(trained / "data")
    config = build_config(overrides(trained, "entropy"))
    final = trained / "models/entropy/final"
    _, patching, _ = load_model(final)
    builder = load_patching(final, patching, data).builder(config, data)
    model = UnitModel.load(final / "unit_model", data.vocabulary.num_units)
    utterance = data.train[0]
    whole = builder.speech(utterance)
    assert whole.entropies.dtype == np.float32
    assert whole.entropies.tolist() == model.entropies(utterance.units).tolist()
    spans = [Span(SPEECH, 0, 4), Span(SPEECH, 4, len(utterance.words))]
    assert builder.from_spans(utterance, spans).entropies.tolist() == whole.entropies.tolist()
    assert len(builder.text(utterance).entropies) == 0
    document = builder.interleaved(utterance, 0)
    assert len(document.entropies) == (document.modalities == SPEECH).sum()
    lengths = patch_document(whole, "entropy", patching).lengths[2:-1]
    assert 2 < lengths.mean() < 8
    assert lengths.max() <= 16


def test_surprisal_and_a_given_threshold(run: Path) -> None:
    options = [
        "patching.entropy_measure=surprisal",
        "patching.entropy_threshold=2.5",
        "name=s",
        "train.max_steps=2",
        "patching.unit_context=3",
    ]
    final = train(build_config(overrides(run, "entropy", *options)))
    _, patching, _ = load_model(final)
    assert (patching.entropy_threshold, patching.entropy_measure) == (2.5, "surprisal")
    assert UnitModel.load(final / "unit_model").context == 3


def test_speech_bpe_needs_no_local_modules(run: Path) -> None:
    """The paper's baseline is a plain language model over pieces."""
    final = train(build_config(overrides(run, "speech_bpe", "model=baseline_debug", "name=plain", "train.max_steps=2")))
    model, _, vocabulary = load_model(final)
    assert model.vocab_size == vocabulary["num_text"] + 5 + vocabulary["num_units"]
    assert SpeechBPE.load(final / "speech_bpe.model").num_pieces == vocabulary["num_units"]


@pytest.mark.parametrize("strategy", ["speech_bpe", "entropy"])
def test_it_continues_in_units(strategy: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["generate.text=Anna went home", "generate.modality=speech", "generate.max_new_tokens=12"]
    assert main(["generate", f"run_dir={run}", f"name={strategy}", *options]) == 0
    continuation, how = capsys.readouterr().out.rpartition("continuation:")[2].strip().splitlines()
    assert continuation
    assert all(0 <= int(unit) < 20 for unit in continuation.split())
    assert re.fullmatch(r"\(\d+ tokens; (it ended there|generate.max_new_tokens=12 reached)\)", how)


def test_a_continuation_that_switches_is_shown_by_its_stretches(run: Path) -> None:
    data = PreparedData(run / "data")
    fitted = plain_patching(build_config(["patching=static"]).patching, data)
    words, vocabulary = data.tokenizer.encode("went home"), data.vocabulary
    ids = np.array([*words, vocabulary.speech_id, *vocabulary.unit_ids(np.array([3, 4]))], np.int32)
    modalities = (ids >= vocabulary.first_unit_id).astype(np.uint8)

    def shown(one: Continuation) -> str:
        return str(Continued(spans_of(fitted, data.tokenizer, one.token_ids, one.modalities), 0, one.ended_by))

    continued = Continuation(ids, modalities, np.zeros(len(ids)), "length")
    assert shown(continued) == "<text> went home <speech> 3 4"
    only_text = Continuation(ids[: len(words)], modalities[: len(words)], np.zeros(len(words)), "stop")
    assert shown(only_text) == "went home"
    nothing = Continuation(ids[:0], modalities[:0], np.zeros(0), "stop")
    assert shown(nothing) == ""


def test_a_speech_bpe_of_other_units_or_none_is_refused(run: Path) -> None:
    final = run / "models/speech_bpe/final"
    (final / "hashes.json").unlink()
    path = final / "speech_bpe.model"
    fitted_on_less = fitted_patching.fit_speech_bpe([np.arange(20)] * 9, 20, 25)
    fitted_on_less.save(path)
    with pytest.raises(UserError, match=r"(?s)vocabulary of model speech_bpe.*num_units.*units_sha256"):
        evaluate(build_config(overrides(run, "static")))
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"speech_bpe\.model is not a speech BPE"):
        evaluate(build_config(overrides(run, "static")))
    path.unlink()
    with pytest.raises(UserError, match="speech BPE is missing"):
        evaluate(build_config(overrides(run, "static")))


def test_bpe_aligned_trains_on_shorter_patches_than_words(run: Path) -> None:
    config = build_config(overrides(run, "bpe_aligned", "name=pieces", "train.max_steps=2"))
    train(config)
    data = PreparedData(run / "data")
    by_word = plain_patching(build_config(["patching=aligned"]).patching, data)
    by_piece = plain_patching(config.patching, data)
    for utterance in data.train:
        words, pieces = (
            patch_document(fitted.builder(config, data).speech(utterance), "aligned", fitted.config).lengths
            for fitted in (by_word, by_piece)
        )
        assert words.sum() == pieces.sum()
        assert len(pieces) > len(words)
        # Every boundary of words is one of pieces.
        assert set(np.cumsum(words).tolist()) <= set(np.cumsum(pieces).tolist())


@pytest.mark.parametrize("strategy", ["entropy", "speech_bpe"])
def test_dry_run_fits_nothing(trained: Path, strategy: str) -> None:
    plan = describe("train", overrides(trained, strategy, "name=planned"))
    assert f"assumed: {strategy} is fitted first" in plan
    assert not (trained / "models/planned").exists()


def test_too_small_a_speech_bpe_is_said(run: Path) -> None:
    with pytest.raises(UserError, match=r"patching\.speech_bpe_size=10 is too small.*set it to 20 or more"):
        train(build_config(overrides(run, "speech_bpe", "name=small", "patching.speech_bpe_size=10")))
    assert not (run / "models/small").exists(), "another size can be tried under the same name"
    assert SpeechBPE.load(run / "models/speech_bpe/speech_bpe.model").num_units == 20
