"""Evaluates trained models on held-out utterances: what ``lst eval`` runs."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from lst.configs.schema import DIRECTIONS, Config
from lst.data.interleave import DocumentBuilder
from lst.data.utterance import Utterance
from lst.model.batch import Document
from lst.model.checkpoint import WEIGHTS_FILE, load_model
from lst.model.config import PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import inference_strategy
from lst.model.score import score_documents
from lst.progress import Progress, say
from lst.recipes.cloze import cloze_accuracies, cloze_items, score_cloze
from lst.recipes.fitted_patching import load_patching
from lst.recipes.run import PreparedData, RunFolder, open_data, require_models, token_layout
from lst.storage import fingerprint, read_json, sha256, write_json, write_jsonl
from lst.tokenizers.vocabulary import Vocabulary, check_same_vocabulary

# Raised when the same models and data would give other results.
VERSION = 3


def evaluate(config: Config) -> dict[str, dict[str, Any]]:
    """Evaluates every trained model of the run; a model that was evaluated alike before is not evaluated again.

    Returns:
        The result of each model by name, as in ``eval/NAME.json``.

    Raises:
        UserError: no model is trained, or a model's vocabulary is not the data's.
    """
    run = RunFolder.of(config)
    names = require_models(run)
    data = open_data(config)
    return {name: evaluate_model(config, run, data, name) for name in names}


def evaluate_model(config: Config, run: RunFolder, data: PreparedData, name: str) -> dict[str, Any]:
    """Cloze accuracies, bits a speech unit and bits a text byte of one model."""
    model, patching, vocabulary = load_model(run.final(name))
    fitted = load_patching(run.final(name), patching, data)
    check_same_vocabulary(
        fitted.vocabulary, Vocabulary.from_dict(vocabulary, str(run.final(name))), "the prepared data", f"model {name}"
    )
    weights_sha256 = sha256(run.final(name) / WEIGHTS_FILE)
    made_from = fingerprint(
        [VERSION, weights_sha256, asdict(patching), data.fingerprint, asdict(config.eval), config.seed, *fitted.hashes]
    )
    path = run.eval_result(name)
    if path.exists():
        before: dict[str, Any] = read_json(path, "the evaluation", f"Delete {path} and run lst eval again.")
        if before.get("made_from") == made_from:
            say(f"{name} is evaluated: nothing to do ({path})")
            return before
    strategy = inference_strategy(patching)
    builder = fitted.builder(config, data)
    utterances = list(data.valid)
    items = cloze_items(utterances, config.eval, config.seed)
    with Progress(len(items) * len(DIRECTIONS), f"evaluate {name}", unit="item") as progress:
        rows = score_cloze(
            model, builder, items, patching, strategy, config.train.row_patches, config.eval.rows_a_batch,
            progress.advance,
        )  # fmt: skip
    result = {
        "made_from": made_from,
        "name": name,
        "weights_sha256": weights_sha256,
        "seed": config.seed,
        "strategy": strategy,
        "options": asdict(config.eval),
        "num_parameters": model.num_parameters,
        "cloze": cloze_accuracies(rows, config.eval.bootstrap_samples, config.seed),
        "bits": held_out_bits(model, builder, utterances, patching, strategy, config),
    }
    write_jsonl(run.root / "eval" / f"{name}.items.jsonl", rows)
    write_json(path, result)
    return result


def held_out_bits(
    model: LatentSpeechTextModel,
    builder: DocumentBuilder,
    utterances: list[Utterance],
    patching: PatchingConfig,
    strategy: str,
    config: Config,
) -> dict[str, float]:
    """Bits a speech unit, and bits a byte of text, over whole held-out utterances; markers and ends are not counted."""
    speech = [_content(builder.speech(utterance)) for utterance in utterances]
    text = [_content(builder.text(utterance)) for utterance in utterances]
    scores = score_documents(
        model, [*speech, *text], patching, strategy, config.train.row_patches, config.eval.rows_a_batch,
        token_layout(builder.vocabulary),
    )  # fmt: skip
    spoken, written = scores[: len(speech)], scores[len(speech) :]
    num_bytes = sum(len(utterance.text.encode()) for utterance in utterances)
    num_units = sum(map(builder.num_units, utterances))
    return {
        "bits_per_unit": -sum(score.sum_nats for score in spoken) / math.log(2) / num_units,
        "bits_per_byte": -sum(score.sum_nats for score in written) / math.log(2) / num_bytes,
        "num_units": num_units,
        "num_bytes": num_bytes,
    }


def _content(document: Document) -> tuple[Document, slice]:
    """All but ``<bos>``, the marker and ``<eos>``."""
    return document, slice(2, len(document) - 1)
