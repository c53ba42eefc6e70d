"""Continues a written or spoken prompt with a trained model: what ``lst generate`` runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lst.configs.schema import Config
from lst.data.audio import read_audio
from lst.data.interleave import DocumentBuilder, DocumentPart
from lst.errors import UserError
from lst.model.batch import SPEECH, TEXT
from lst.model.checkpoint import load_model
from lst.model.generate import SamplingOptions, generate
from lst.recipes.fitted_patching import FittedPatching, load_patching
from lst.recipes.run import PreparedData, RunFolder, open_data, require_models
from lst.tokenizers.vocabulary import Vocabulary, check_same_vocabulary


def continue_prompt(config: Config) -> str:
    """Continues ``generate.text`` or ``generate.audio`` with the model ``name`` of the run.

    Returns:
        The prompt and its continuation: text as text, speech as unit numbers.

    Raises:
        UserError: no prompt or two are given, or the model is not trained.
    """
    options = config.generate
    if (options.text is None) == (options.audio is None):
        raise UserError("give one prompt: generate.text='…' or generate.audio=FILE")
    run = RunFolder(Path(config.run_dir))
    names = require_models(run)
    if config.name not in names:
        raise UserError(f"no trained model {config.name!r} in {run.root}; there are {', '.join(names)}: set name=NAME")
    data = open_data(config)
    model, patching, saved = load_model(run.final(config.name))
    if patching.strategy == "entropy":
        raise UserError(
            f"model {config.name!r} was trained with patching=entropy, which lst generate cannot continue yet"
        )
    fitted = load_patching(run.final(config.name), patching, data)
    vocabulary = fitted.vocabulary
    check_same_vocabulary(
        vocabulary, Vocabulary.from_dict(saved, config.name), "the prepared data", f"model {config.name}"
    )
    builder = fitted.builder(config, data)
    prompt = (
        _text_prompt(builder, options.text) if options.text is not None else _audio_prompt(builder, data, options.audio)
    )
    modality = {"same": prompt.modality, "text": TEXT, "speech": SPEECH}[options.modality]
    parts = [prompt] if modality == prompt.modality else [prompt, _empty_part(vocabulary, modality)]
    units = np.arange(vocabulary.first_unit_id, vocabulary.size)
    allowed = units if modality == SPEECH else np.arange(vocabulary.num_text)
    stops = {vocabulary.eos_id, vocabulary.text_id, vocabulary.speech_id}
    new_ids = generate(
        model,
        builder.document("prompt", parts, end=False),
        patching,
        np.append(allowed, sorted(stops)),
        stops,
        vocabulary.first_unit_id,
        SamplingOptions(options.max_new_tokens, options.temperature, options.top_k, config.seed),
    )
    shown = options.text if options.text is not None else f"{options.audio}: {_units(prompt.token_ids, fitted)}"
    continued = _units(new_ids, fitted) if modality == SPEECH else data.tokenizer.decode(new_ids.tolist())
    return f"prompt:       {shown}\ncontinuation: {continued}"


def _text_prompt(builder: DocumentBuilder, text: str) -> DocumentPart:
    if not text.strip():
        raise UserError("generate.text is empty: give a few words")
    return builder.text_part(text)


def _audio_prompt(builder: DocumentBuilder, data: PreparedData, path: str | None) -> DocumentPart:
    assert path is not None
    return builder.speech_part(data.codec.encode(read_audio(Path(path))))


def _empty_part(vocabulary: Vocabulary, modality: int) -> DocumentPart:
    """Nothing but the marker of a modality."""
    marker = vocabulary.speech_id if modality == SPEECH else vocabulary.text_id
    return DocumentPart(modality, marker, np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, bool))


def _units(ids: np.ndarray, patching: FittedPatching) -> str:
    return " ".join(map(str, patching.units_of(ids).tolist()))
