"""Units fitted to a corpus: equal for any number of workers; words of several units a frame count units."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
from small_models import codec_model, save_whisper, whisper_arrays

from lst.cli import command_help
from lst.configs.compose import build_config
from lst.data.alignment.build import build_aligner
from lst.data.audio.read import read_audio
from lst.data.config import DataConfig
from lst.data.corpora.rows import ManifestRow
from lst.data.prepare.fitting import fit_units, training_rows
from lst.data.prepare.gathered import Gathered
from lst.data.prepare.lists import arrange
from lst.data.prepare.options import find_origin
from lst.data.prepare.prepare import prepare
from lst.data.prepare.shard_tasks import make_shard, plan_shards
from lst.data.prepare.utterances import make_utterances
from lst.data.prepared import UNITS_FILE
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.parallel import ordered
from lst.runs.folder import open_data
from lst.storage import sha256, write_jsonl
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.neural_codec import build_codec
from lst.tokenizers.speech import fit_speech_tokenizer, load_speech_tokenizer
from lst.tokenizers.vocabulary import Vocabulary
from tests.data.conftest import SENTENCES, MakeCorpus, align, options
from tests.data.prepare.test_prepare_faults import stop_at_replace


def rows_of(corpus: Path) -> list[ManifestRow]:
    return [
        ManifestRow(f"utt_{n}", corpus / f"utt_{n}.wav", text, split="train" if n < 6 else "valid", duration_s=2.0)
        for n, text in enumerate(SENTENCES)
    ]


def test_fit_is_the_same_for_any_number_of_workers_and_that_of_the_waveforms(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered, "START_S", -1.0)  # else the first would be done here before a worker is needed
    np.savez(tmp_path / "whisper.npz", **whisper_arrays(400))
    config = TokenizerConfig(kind="whisper", weights=str(tmp_path / "whisper.npz"), layer=2, num_units=8)
    rows = rows_of(corpus)
    one, two = fit_units(rows, config, 3, 1), fit_units(rows, config, 3, 2)
    assert one.sha256 == two.sha256
    chosen = training_rows(rows, config, 3)
    assert sorted(row.id for row in chosen) == [f"utt_{n}" for n in range(6)]
    assert [row.id for row in chosen] != [f"utt_{n}" for n in range(6)]
    by_waveform = fit_speech_tokenizer(config, (read_audio(row.path) for row in chosen), 3)
    assert by_waveform.sha256 == one.sha256


def test_as_many_utterances_are_taken_as_hold_the_frames(corpus: Path) -> None:
    config = TokenizerConfig(num_units=8, fit_max_frames=101)
    assert len(training_rows(rows_of(corpus), config, 0)) == 3
    assert len(fit_units(rows_of(corpus), config, 0).encode([], 16_000)) == 0


def test_audio_that_cannot_be_read_is_counted(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(corpus)
    (tmp_path / "cut.wav").write_bytes(b"RIFF")
    broken = ManifestRow("broken", tmp_path / "cut.wav", "a", split="train", duration_s=2.0)
    config = TokenizerConfig(num_units=8)
    with_broken = fit_units([*rows, broken], config, 0)
    assert "1 of 7 utterances could not be read" in capsys.readouterr().err
    assert with_broken.num_units == 8


@pytest.mark.parametrize("stopped", [False, True])
def test_codebook_and_text_pieces_are_fitted_to_what_passes_the_checks(
    make_corpus: MakeCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 32_000).astype(np.float32)
    german = ["der morgenzug hatte wieder verspätung", "niemand schien sich daran zu stören"]
    found = []
    for number, text in enumerate(german):
        # The first is silent, the second is German.
        own = make_corpus(
            tmp_path / f"corpus_{number}",
            {0: f"xylo {text}"[: 9 + 9 * number], 1: text},
            {0: np.zeros(32_000, np.float32), 1: (1 - 0.5 * number) * noise},
        )
        rows = [json.loads(line) for line in (own / "manifest.jsonl").read_text().splitlines()]
        write_jsonl(
            own / "manifest.jsonl", [{**row, "split": "valid" if n > 5 else "train"} for n, row in enumerate(rows)]
        )
        data, made = tmp_path / f"data_{number}", options(own, max_unaligned_share=0.5)
        if stopped:
            with monkeypatch.context() as patch:
                stop_at_replace(patch, lambda name: KeyboardInterrupt() if name == "vocabulary.json" else None)
                with pytest.raises(KeyboardInterrupt):
                    prepare(data, made)
            (data / "text.model").unlink()
        prepare(data, made)
        found.append([sha256(data / name) for name in ("units.safetensors", "text.model")])
    assert found[0] == found[1]


def test_words_count_units_where_a_frame_has_several(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("encodec", reason="the package encodec (extra: codec) is not installed")
    save_file(codec_model().state_dict(), tmp_path / "codec.safetensors")
    codec, aligner = build_codec(str(tmp_path / "codec.safetensors"), 3, "flattened"), build_aligner(DataConfig().align)
    row = rows_of(corpus)[0]
    (utterance,) = make_utterances([row], codec, aligner)
    assert isinstance(utterance, Utterance)
    frames = len(utterance.units) // 3
    words = align(aligner, read_audio(row.path), row.text, frames, 75)
    assert [(w.start_frame, w.end_frame) for w in utterance.words] == [
        (3 * w.start_frame, 3 * w.end_frame) for w in words
    ]
    assert utterance.segments()[-1].end_frame == len(utterance.units)


def test_prepare_with_whisper_units_and_an_existing_codebook(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    """Prepared with units of a model; again, from the codebook that it left, and the shards hold the same."""
    corpus = make_corpus(tmp_path / "corpus")
    weights = save_whisper(tmp_path / "whisper", whisper_arrays(400))
    model = {"kind": "whisper", "weights": str(weights), "layer": 1, "num_units": 9}
    index = prepare(tmp_path / "one", options(corpus, **model))
    units = tmp_path / "one" / "units.safetensors"
    vocabulary = Vocabulary.load(tmp_path / "one" / "vocabulary.json")
    assert (vocabulary.unit_kind, vocabulary.unit_name) == ("whisper", "whisper-layer1-kmeans-9-25hz")
    assert load_speech_tokenizer(units).sha256 == index["units_sha256"] == vocabulary.units_sha256
    again = prepare(tmp_path / "two", options(corpus, codebook=str(units), **model))
    hashes = [[r["sha256"] for r in made["splits"]["train"]] for made in (index, again)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_model_without_its_weights_is_no_fault_of_utterances(
    num_workers: int, make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    """No shard is made; once the weights are named, the shards are those that they would have been."""
    corpus = make_corpus(tmp_path / "corpus")
    weights = save_whisper(tmp_path / "whisper", whisper_arrays(400))
    model: dict[str, Any] = {"kind": "whisper", "layer": 1, "num_units": 9}
    fit_units(rows_of(corpus), TokenizerConfig(weights=str(weights), **model), 0).save(tmp_path / "units.safetensors")
    weights.rename(tmp_path / "elsewhere")
    made = replace(options(corpus, codebook=str(tmp_path / "units.safetensors"), **model), num_workers=num_workers)
    with pytest.raises(UserError, match="there is no such file or folder"):
        prepare(tmp_path / "data", made)
    assert not list((tmp_path / "data").rglob("*.tar"))
    index = prepare(
        tmp_path / "data", replace(made, tokenizer=replace(made.tokenizer, weights=str(tmp_path / "elsewhere")))
    )
    assert index["num_unaligned"] == 0


def test_spoken_prompts_find_weights_that_were_moved(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    weights = save_whisper(tmp_path / "whisper", whisper_arrays(400))
    index = prepare(tmp_path / "run/data", options(corpus, kind="whisper", weights=str(weights), layer=1, num_units=9))
    speech = [read_audio(corpus / "utt_0.wav")]
    words = [f"run_dir={tmp_path / 'run'}"]
    units = open_data(build_config(words)).codec.encode(speech, 16_000)[0]
    weights.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="there is no such file or folder"):
        open_data(build_config(words)).codec.encode(speech, 16_000)
    words += [f"tokenizer.weights={tmp_path / 'elsewhere'}", "tokenizer.trust=true"]
    codec = open_data(build_config(words)).codec
    assert np.array_equal(codec.encode(speech, 16_000)[0], units)
    assert codec.sha256 == index["units_sha256"]
    assert "tokenizer.weights=" in command_help("generate")


def test_a_worker_without_the_weights_makes_no_shard(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    weights = save_whisper(tmp_path / "whisper", whisper_arrays(400))
    config = TokenizerConfig(kind="whisper", weights=str(weights), layer=1, num_units=9)
    units = fit_units(rows_of(corpus), config, 0)
    units.save(tmp_path / UNITS_FILE)
    weights.rename(tmp_path / "elsewhere")
    lists = arrange(rows_of(corpus), [], [], (), 2, lambda number: {})
    lists.write(tmp_path)
    record: Any = {
        "version": 2,
        "description": "",
        "is_synthesised": False,
        "left_out": [],
        "made_from": "",
        "files": {},
    }
    gathered = Gathered(tmp_path, record, lists.shards)
    origin = find_origin(options(corpus)).made_from
    tasks = plan_shards(tmp_path, gathered, units, origin, DataConfig(), {"weights": None})
    assert len(tasks) == 4
    for task in tasks:
        with pytest.raises(UserError, match="there is no such file or folder"):
            make_shard(task)
    assert not list(tmp_path.rglob("*.tar"))


def test_a_codebook_of_another_kind_is_refused(corpus: Path, prepared: Path) -> None:
    config = TokenizerConfig(kind="log_mel", codebook=str(prepared / "units.safetensors"))
    with pytest.raises(UserError, match=r"holds mfcc units at 25 Hz, the options say log_mel at 25 Hz"):
        fit_units(rows_of(corpus), config, 0)
