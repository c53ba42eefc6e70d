"""``lst generate``: continues a written or spoken prompt with a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lst.configs.schema import Config
from lst.data.audio import read_audio
from lst.data.documents import DocumentBuilder, DocumentPart
from lst.errors import UserError
from lst.model.batch import SPEECH
from lst.model.inference import Continuation, SamplingOptions, generate
from lst.runs import FittedPatching, RunFolder, open_data, open_trained, require_models
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.units import SAMPLE_RATE_HZ


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
    trained = open_trained(run, config.name, open_data(config))
    builder = trained.builder(config)
    if options.text is not None:
        prompt = _text_prompt(builder, options.text)
    else:
        waveform = read_audio(Path(str(options.audio)))
        prompt = builder.speech_part(trained.data.codec.encode([waveform], SAMPLE_RATE_HZ)[0])
    modality = ("speech" if prompt.modality == SPEECH else "text") if options.modality == "same" else options.modality
    (continued,) = generate(
        trained.model,
        [builder.document("prompt", [prompt], end=False)],
        trained.patching.config,
        trained.layout,
        SamplingOptions(
            options.max_new_tokens, options.temperature, options.top_k, options.top_p, modality, seed=config.seed
        ),
        trained.patching.unit_measure,
    )
    shown = options.text or f"{options.audio}: {_units(prompt.token_ids, trained.patching)}"
    words = show_continuation(continued, trained.patching, trained.data.tokenizer)
    reason = {
        "stop": "it ended there",
        "length": f"generate.max_new_tokens={options.max_new_tokens} reached",
        "context": f"the model's context of {trained.model.config.max_patches} patches is full",
    }[continued.ended_by]
    return f"prompt:       {shown}\ncontinuation: {words}\n({len(continued.token_ids)} tokens; {reason})"


def show_continuation(continued: Continuation, patching: FittedPatching, tokenizer: TextTokenizer) -> str:
    """Text as text, speech as unit numbers; with markers if the continuation has stretches of both."""
    vocabulary, ids = patching.vocabulary, continued.token_ids
    is_content = (ids < vocabulary.num_text) | (ids >= vocabulary.first_unit_id)
    bounds = np.flatnonzero(np.diff(continued.modalities.astype(int)) != 0) + 1
    stretches = []
    for part in np.split(np.arange(len(ids)), bounds):
        tokens = ids[part][is_content[part]]
        if len(tokens) and tokens[0] >= vocabulary.first_unit_id:
            stretches.append(f"<speech> {_units(tokens, patching)}")
        elif len(tokens):
            stretches.append(f"<text> {tokenizer.decode(tokens.tolist())}")
    if len(stretches) == 1:
        return stretches[0].partition("> ")[2]
    return " ".join(stretches)


def _text_prompt(builder: DocumentBuilder, text: str) -> DocumentPart:
    if not text.strip():
        raise UserError("generate.text is empty: give a few words")
    return builder.text_part(text)


def _units(ids: np.ndarray, patching: FittedPatching) -> str:
    return " ".join(map(str, patching.units_of(ids).tolist()))
