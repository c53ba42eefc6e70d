"""Continues a written or spoken prompt with a trained model: what ``lst generate`` runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lst.configs.schema import Config
from lst.data.audio import read_audio
from lst.data.documents import DocumentBuilder, DocumentPart
from lst.data.prepared import PreparedData
from lst.errors import UserError
from lst.model.batch import SPEECH
from lst.model.checkpoint import load_model
from lst.model.inference import Continuation, SamplingOptions, generate
from lst.runs import FittedPatching, RunFolder, load_patching, open_data, require_models, token_layout
from lst.tokenizers.units import SAMPLE_RATE_HZ
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
    run = RunFolder.of(config)
    names = require_models(run)
    if config.name not in names:
        raise UserError(f"no trained model {config.name!r} in {run.root}; there are {', '.join(names)}: set name=NAME")
    data = open_data(config)
    model, patching, saved = load_model(run.final(config.name))
    fitted = load_patching(run.final(config.name), patching, data)
    vocabulary = fitted.vocabulary
    check_same_vocabulary(
        vocabulary, Vocabulary.from_dict(saved, config.name), "the prepared data", f"model {config.name}"
    )
    builder = fitted.builder(config, data)
    prompt = (
        _text_prompt(builder, options.text) if options.text is not None else _audio_prompt(builder, data, options.audio)
    )
    modality = ("speech" if prompt.modality == SPEECH else "text") if options.modality == "same" else options.modality
    (continued,) = generate(
        model,
        [builder.document("prompt", [prompt], end=False)],
        patching,
        token_layout(vocabulary),
        SamplingOptions(
            options.max_new_tokens, options.temperature, options.top_k, options.top_p, modality, seed=config.seed
        ),
        fitted.unit_measure,
    )
    shown = options.text if options.text is not None else f"{options.audio}: {_units(prompt.token_ids, fitted)}"
    words = show_continuation(continued, fitted, data)
    reason = {
        "stop": "it ended there",
        "length": f"generate.max_new_tokens={options.max_new_tokens} reached",
        "context": f"model.max_patches={model.config.max_patches} reached",
    }[continued.ended_by]
    return f"prompt:       {shown}\ncontinuation: {words}\n({len(continued.token_ids)} tokens; {reason})"


def show_continuation(continued: Continuation, fitted: FittedPatching, data: PreparedData) -> str:
    """Text as text and speech as unit numbers, each stretch behind its marker where there are several."""
    vocabulary, ids = fitted.vocabulary, continued.token_ids
    is_content = (ids < vocabulary.num_text) | (ids >= vocabulary.first_unit_id)
    bounds = np.flatnonzero(np.diff(continued.modalities.astype(int)) != 0) + 1
    stretches = []
    for part in np.split(np.arange(len(ids)), bounds):
        tokens = ids[part][is_content[part]]
        if not len(tokens):
            continue
        if tokens[0] >= vocabulary.first_unit_id:
            stretches.append(f"<speech> {_units(tokens, fitted)}")
        else:
            stretches.append(f"<text> {data.tokenizer.decode(tokens.tolist())}")
    if len(stretches) == 1:
        return stretches[0].partition("> ")[2]
    return " ".join(stretches)


def _text_prompt(builder: DocumentBuilder, text: str) -> DocumentPart:
    if not text.strip():
        raise UserError("generate.text is empty: give a few words")
    return builder.text_part(text)


def _audio_prompt(builder: DocumentBuilder, data: PreparedData, path: str | None) -> DocumentPart:
    assert path is not None
    return builder.speech_part(data.codec.encode([read_audio(Path(path))], SAMPLE_RATE_HZ)[0])


def _units(ids: np.ndarray, patching: FittedPatching) -> str:
    return " ".join(map(str, patching.units_of(ids).tolist()))
