"""Scores as ``lst eval`` gives them; continuations in text and sound; what a prompt may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import lst
from lst.api import SpeechTextModel
from lst.configs.compose import build_config
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.evaluation import Item, Scorer, score_items
from lst.evaluation.items import Part
from lst.model.inference import SamplingOptions
from lst.model.inference.generate import repeating
from lst.runs import RunFolder, open_data, open_trained

Spoken = list[tuple[Utterance, Path]]


@pytest.fixture(scope="module")
def model(run: Path) -> SpeechTextModel:
    return lst.load(run, "static")


@pytest.mark.parametrize("name", ["static", "single", "speech_bpe"])
def test_scores_are_those_of_lst_eval(name: str, run: Path, spoken: Spoken) -> None:
    config = build_config([f"run_dir={run}"])
    (context, heard), *others = spoken[:4]
    parts = [Part.whole(utterance) for utterance, _ in others]
    item = Item("a", "", Part.whole(context), parts[-1], tuple(parts), 0)
    trained = open_trained(RunFolder(run), name, open_data(config))
    rows = score_items(Scorer.of(trained, config), [item])
    model = lst.load(run, name)
    texts, audio = [part.text for part in parts], [path for _, path in others]
    for direction, before, endings in (
        ("S→S", heard, audio),
        ("T→T", item.context.text, texts),
        ("S→T", heard, texts),
        ("T→S", item.context.text, audio),
    ):
        own = [row for row in rows if row["direction"] == direction]
        for row, score in zip(own, model.score(before, endings), strict=True):
            assert score.num_tokens == row["num_tokens"]
            assert score.nats == pytest.approx(row["nats"], rel=1e-5)
            assert score.alone_nats == pytest.approx(row["alone_nats"], rel=1e-5)
            assert score.gain_nats == score.nats - score.alone_nats
            assert score.mean_nats == score.nats / score.num_tokens


def test_contexts_of_many_pieces_score_their_ending_alone(model: SpeechTextModel, spoken: Spoken) -> None:
    """However often the context switches, and in whatever the ending is, its own tokens count and no others."""
    audio = spoken[0][1]
    num_units, num_pieces = len(model.units(audio)), len(model.whole.tokenizers.tokenizer.encode("went home"))
    for context in ([audio, "then", audio], ["then", audio, "so", audio], ["one", "two"], [audio, audio, "x"]):
        written, heard = model.score(context, ["went home", audio])  # type: ignore[arg-type]
        assert (written.num_tokens, heard.num_tokens) == (num_pieces, num_units)


def test_prompts_are_files_or_waveforms(model: SpeechTextModel, spoken: Spoken, tmp_path: Path) -> None:
    samples, rate_hz = soundfile.read(spoken[0][1], dtype="float32")
    assert rate_hz == 16_000
    path = tmp_path / "A.WAV"
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    units = model.units(path)
    assert len(units) == -(-len(samples) // 640)
    for same in (str(path), (samples, rate_hz), (samples.astype(np.float64), np.int64(rate_hz))):
        assert (model.units(same) == units).all()
    whole = (samples * 32767).round().astype(np.int16)
    assert np.mean(model.units((whole, rate_hz)) == units) > 0.9
    assert len(model.units((samples[::2], 8000))) == pytest.approx(len(units), abs=1)
    assert model.score(path, ["a", path]) == model.score((samples, rate_hz), ["a", str(path)])
    for wrong, told in (
        (np.zeros(3), "a prompt holds a ndarray"),
        ((np.zeros((3, 2)), 16_000), r"samples of shape \(3, 2\)"),
        ((np.zeros(0), 16_000), r"samples of shape \(0,\)"),
        ((np.full(900, np.nan), 16_000), "give finite floats"),
        ((np.zeros(900, bool), 16_000), "samples of type bool"),
        ((np.zeros(900), 0), "0 Hz"),
        (3, "a prompt holds a int"),
        ("  ", "a written prompt is empty"),
        ("no/such.wav", "no/such.wav does not exist"),
        ([], "a prompt is empty"),
        (("a", "b"), "a prompt holds a tuple"),
    ):
        with pytest.raises(UserError, match=told):
            model.generate(wrong)  # type: ignore[arg-type]


def test_endings_that_do_not_fit_are_all_named(model: SpeechTextModel, spoken: Spoken) -> None:
    context = model.whole.model.config.max_patches
    long = "word " * context
    with pytest.raises(UserError, match=f"ending 1: .* the model's context is {context}(.|\n)*ending 3: "):
        model.score(spoken[0][1], [long, "short", long])
    for wrong in ([], "an ending"):
        with pytest.raises(UserError, match="endings is a list"):
            model.score("a", wrong)


def test_text_and_speech_continue_each_other(model: SpeechTextModel, spoken: Spoken) -> None:
    text, audio = spoken[0][0].text, spoken[0][1]
    said = model.generate(text, modality="speech", max_new_tokens=30, seed=1)
    assert (said.text, len(said.units)) == ("", said.num_tokens)
    assert said.sound.duration_s == pytest.approx(len(said.units) / 25)
    written = model.generate([text, audio], modality="text", max_new_tokens=5)
    assert (len(written.units), written.ended_by) == (0, "length")
    with pytest.raises(UserError, match="this continuation has no speech"):
        _ = written.sound
    draws = [model.generate(audio, modality="any", max_new_tokens=40, temperature=1.5, seed=seed) for seed in range(8)]
    mixed = next(one for one in draws if one.text and len(one.units))
    assert str(mixed).startswith(("<text>", "<speech>"))
    assert isinstance(model.transcribe(audio), str)
    assert model.speak("Anna went home", seed=1).samples.dtype == np.float32


def test_draws_follow_the_seed_and_not_the_company(model: SpeechTextModel, spoken: Spoken) -> None:
    prompts = [spoken[0][0].text, spoken[0][1], "Anna"]
    sampling = SamplingOptions(max_new_tokens=12, seed=5)
    together = model.generate_all(prompts, sampling)  # type: ignore[arg-type]
    assert str(together[0]) == str(model.generate(prompts[0], max_new_tokens=12, seed=5))
    assert str(together[0]) != str(model.generate(prompts[0], max_new_tokens=12, seed=6))
    assert [bool(one.text) for one in together] == [True, False, True]
    again = model.generate_all([prompts[2]] * 3, sampling)  # type: ignore[list-item]
    assert str(again[2]) == str(together[2])


def test_it_ends_at_a_stop_text_which_is_cut_off(model: SpeechTextModel) -> None:
    free = model.generate("Anna went", max_new_tokens=40, seed=4).text
    stop = free[len(free) // 2 : len(free) // 2 + 2]
    heard: list[str] = []
    stopped = model.generate("Anna went", max_new_tokens=40, seed=4, stop=[stop, "never"], on_new=heard.append)
    assert stopped.text == free[: free.index(stop)]
    assert stopped.ended_by == "stop"
    assert stopped.num_tokens < 40
    assert "".join(heard) == stopped.text
    with pytest.raises(UserError, match="stop is a list of texts"):
        model.generate("a", stop="x")


def test_what_is_drawn_is_told_at_once(model: SpeechTextModel) -> None:
    heard: list[str] = []
    text = model.generate("Anna went", max_new_tokens=25, seed=4, on_new=heard.append).text
    assert "".join(heard) == text
    assert len(heard) > 1
    heard.clear()
    units = model.generate("Anna", modality="speech", max_new_tokens=9, on_new=heard.append).units
    assert [int(unit) for unit in heard] == units.tolist()


@pytest.mark.parametrize("name", ["static", "speech_bpe"])
def test_units_do_not_repeat_themselves(name: str, run: Path) -> None:
    model = lst.load(run, name)
    limit = 4
    options = {"modality": "speech", "max_new_tokens": 60, "temperature": 0}

    def repeats(tokens: list[int]) -> int:
        runs = [tuple(tokens[start : start + limit]) for start in range(len(tokens) - limit + 1)]
        return len(runs) - len(set(runs))

    def drawn(no_repeat_units: int) -> list[int]:
        units = model.generate("Anna went", no_repeat_units=no_repeat_units, **options).units  # type: ignore[arg-type]
        bpe = model.whole.patching.speech_bpe
        return list(units if bpe is None else bpe.encode(units.astype(np.uint16)))

    assert repeats(drawn(0)) > 0
    if name == "static":
        assert repeats(drawn(limit)) == 0


def test_repeating_looks_at_the_last_span_of_speech_alone() -> None:
    assert repeating([21, 20, 22, 23, 20, 22], 3, 20) == [23]
    assert repeating([20, 21, 20, 21, 14, 20], 2, 20) == []
    assert repeating([20, 20, 20], 3, 20) == [20]
    assert sorted(repeating([20, 21], 1, 20)) == [20, 21]
    assert repeating([20], 5, 20) == repeating([], 3, 20) == repeating([20, 20], 0, 20) == []
