"""A run's folder made by hand, as the stages leave it: what the tests of the report look at."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from lst.configs.compose import build_config
from lst.configs.schema import Config
from lst.data.corpora.manifest import write_manifest
from lst.data.corpora.rows import ManifestRow
from lst.data.prepared import LEFT_OUT_FILE, MANIFEST_FILE, TEXT_FILE, UNITS_FILE, VOCABULARY_FILE, PreparedData
from lst.data.shards import INDEX_FILE, SHARD_FOLDER, VERSION, index_entry, write_shard
from lst.data.utterance import Utterance, Word
from lst.evaluation.cloze import DIRECTIONS, cloze_accuracies, cloze_items, ending_start
from lst.evaluation.results import BITS_COLUMNS
from lst.model.checkpoint import WEIGHTS_FILE, save_model
from lst.model.lst import LatentSpeechTextModel
from lst.recipes.training.train import training_settings
from lst.runs.folder import RunFolder
from lst.storage import sha256, write_json, write_jsonl
from lst.tokenizers.kmeans import Centroids, KmeansTokenizer
from lst.tokenizers.text import fit_text_tokenizer
from lst.tokenizers.units import NUM_FEATURES
from lst.tokenizers.vocabulary import Vocabulary

NUM_UNITS, RATE_HZ = 20, 16_000
NASTY = "<script>alert('x')</script> & \"it's\" </p><img src=x> $a_1$"
NUM_LEFT_OUT, NUM_UNALIGNED = 23, 5


def make_utterance(number: int, folder: Path, text: str, duration_s: float) -> Utterance:
    """Words of equal length after a leading silence, a longer silence in the middle, and a file of audio."""
    num_frames = round(duration_s * 25)
    texts = text.split()
    step = (num_frames - 12) // len(texts)
    words = []
    position = 4
    for index, word in enumerate(texts):
        words.append(Word(word, position, position + step, -2.0))
        position += step + (5 if index == len(texts) // 2 else 0)
    assert position <= num_frames
    generator = np.random.default_rng(number)
    seconds = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    samples = 0.4 * np.sin(2 * np.pi * (180 + 20 * number) * seconds) * np.abs(np.sin(4 * seconds))
    path = folder / f"u{number}.wav"
    soundfile.write(path, samples.astype(np.float32), RATE_HZ)
    return Utterance(
        id=f"utterance-{number}",
        speaker=f"speaker {number % 3} <&>",
        text=text,
        duration_s=duration_s,
        units=generator.integers(0, NUM_UNITS, num_frames).astype(np.uint16),
        words=tuple(words),
    )


def make_run(root: Path) -> Config:
    """A run's folder as the stages leave it, made by hand: data, two trained and evaluated models."""
    overrides = make_overrides(root)
    config = build_config(overrides)
    run = RunFolder(root)
    audio = root / "audio"
    audio.mkdir(parents=True)
    plain = "the small boat went over the lake to the other shore before night"
    train = [make_utterance(0, audio, plain, 5.0), make_utterance(1, audio, f"she said {NASTY}", 24.5)]
    valid = [make_utterance(n, audio, f"{plain} {n} {NASTY if n == 3 else ''}".strip(), 6.0 + n) for n in range(2, 6)]
    text = [Utterance(f"text-{n}", "", f"{plain} and back {n}", 0.0, np.zeros(0, np.uint16)) for n in range(3)]
    vocabulary = write_data(run, {"train": train, "valid": valid, "text": text})
    rng = np.random.default_rng(7)
    for place, (name, own) in enumerate(config.arms.items()):
        if name == "curriculum":
            continue
        arm = build_config([*overrides, *own, f"name={name}"])
        model = LatentSpeechTextModel(arm.model, vocabulary.size, 0)
        save_model(run.final(name), model, arm.patching, vocabulary.to_dict())
        write_json(run.model(name) / "settings.json", {**training_settings(arm, PreparedData(run.data))})
        write_json(run.model(name) / "versions.json", {"torch": "0.0.1"})
        (run.model(name) / "config.yaml").write_text("")
        write_jsonl(run.model(name) / "metrics.jsonl", make_metrics(rng, place))
        rows = make_scores(rng, config, valid)
        write_jsonl(run.root / "eval" / f"{name}.items.jsonl", rows)
        bits = dict.fromkeys(BITS_COLUMNS, 0.25) | {
            "bits_per_unit": 4.5 - place / 3,
            "num_units": 1234,
            "num_bytes": 567,
        }
        result = {
            "made_from": "x",
            "name": name,
            "weights_sha256": sha256(run.final(name) / WEIGHTS_FILE),
            "seed": 3,
            "strategy": "static",
            "options": asdict(config.eval),
            "num_parameters": model.num_parameters,
            "cloze": cloze_accuracies(rows, 200, 0),
            "bits": bits,
        }
        write_json(run.eval_result(name), result)
    return config


def make_overrides(root: Path) -> list[str]:
    return ["experiment=smoke", f"run_dir={root}", "report.num_audio=4", "seed=3"]


def write_data(run: RunFolder, splits: dict[str, list[Utterance]]) -> Vocabulary:
    data = run.data
    centroids = Centroids(np.ones((NUM_UNITS, NUM_FEATURES), np.float32), np.ones(NUM_FEATURES, np.float32))
    codec = KmeansTokenizer(centroids, {"kind": "mfcc"})
    codec.save(data / UNITS_FILE)
    tokenizer = fit_text_tokenizer([u.text for group in splits.values() for u in group], 320)
    tokenizer.save(data / TEXT_FILE)
    vocabulary = Vocabulary(tokenizer.vocab_size, NUM_UNITS, tokenizer.sha256, codec.sha256)
    vocabulary.save(data / VOCABULARY_FILE)
    index = {
        "version": VERSION,
        "description": f"made-up tones, synthesised speech ({NASTY})",
        "is_synthesised": True,
        "units_sha256": codec.sha256,
        "text_sha256": tokenizer.sha256,
        "vocabulary": vocabulary.fingerprint,
        "aligner": "none",
        "made_from": {"corpus": None, "text": NASTY, "data": {"align": {}}, "tokenizer": {}},
        "num_left_out": NUM_LEFT_OUT,
        "num_unaligned": NUM_UNALIGNED,
        "splits": {
            split: [index_entry(write_shard(data / SHARD_FOLDER, f"{split}-000000", group, [], "x"))]
            for split, group in splits.items()
        },
    }
    rows = [
        ManifestRow(u.id, run.root / "audio" / f"u{u.id.rpartition('-')[2]}.wav", u.text, u.speaker, split)
        for split in ("train", "valid")
        for u in splits[split]
    ]
    write_manifest(data / MANIFEST_FILE, rows)
    write_json(data / INDEX_FILE, index)
    left_out = [{"id": f"bad-{n}", "reason": f"reason {n}: {NASTY}"} for n in range(NUM_LEFT_OUT)]
    write_jsonl(data / LEFT_OUT_FILE, left_out)
    return vocabulary


def make_metrics(rng: np.random.Generator, place: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, 61):
        tokens = step * 190 * (1 + place)
        rows.append(
            {
                "step": step,
                "loss": 3 + 3 / step + float(rng.normal()) / 9,
                "learning_rate": 1e-3,
                "tokens": tokens,
                "patches": 181 * step,
                "slots": 192 * step,
                "packing_waste": 1 - 181 / 192,
                "speech_tokens": tokens // 3,
                "cut_documents": step // 7,
                "training_flops": 1.5e9 * step * (1 + place),
            }
        )
        if step % 20 == 0:
            rows.append({"step": step, "valid_bits_per_unit": 5 - step / 99, "valid_bits_per_byte": 3 - step / 99})
    return rows


def make_scores(rng: np.random.Generator, config: Config, valid: list[Utterance]) -> list[dict[str, Any]]:
    rows = []
    for direction in DIRECTIONS:
        for item in cloze_items(valid, config.eval, config.seed):
            start = item.utterance.words[ending_start(item.utterance, config.eval.context_share) - 1].end_frame
            true, false = (float(nats) for nats in rng.normal(-200, 30, 2))
            rows.append(
                {
                    "utterance": item.utterance.id,
                    "other": item.other.id,
                    "direction": direction,
                    "true_nats": true,
                    "true_tokens": item.utterance.num_frames - start,
                    "false_nats": false,
                    "false_tokens": 40,
                }
            )
    return rows
