"""``lst generate``: continues a written or spoken prompt with a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lst.configs.schema import Config
from lst.data.audio import read_audio
from lst.errors import UserError
from lst.model.batch import SPEECH
from lst.model.inference import Continuation, SamplingOptions, generate
from lst.runs import FittedPatching, RunFolder, TrainedModel, open_data, open_trained, require_models
from lst.tokenizers.text import TextTokenizer
from lst.tokenizers.units import SAMPLE_RATE_HZ


def continue_prompt(config: Config) -> str:
    """Continues ``generate.text`` or ``generate.audio`` with the model ``name`` of the run.

    Returns:
        The prompt and its continuation: text as text, speech as unit numbers.

    Raises:
        UserError: no prompt or two are given, or the model is not trained.
    """
    check_prompt(config)
    options = config.generate
    trained = _open(config)
    builder = trained.builder(config)
    if options.text is not None:
        prompt = builder.text_part(options.text)
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


def generation_plan(config: Config) -> list[str]:
    """Plan of ``lst generate``, as lines of text; raises ``UserError`` for what the command itself would refuse."""
    check_prompt(config)
    run = RunFolder.of(config)
    if not run.trained_models():
        return [f"generate: it waits for trained models in {run.root / 'models'}: none yet, run lst train"]
    trained = _open(config)
    if config.generate.audio is not None:
        read_audio(Path(config.generate.audio))
    return [
        f"generate: {config.name}, {trained.model.num_parameters:,} parameters, continues by "
        f"{config.generate.max_new_tokens} tokens at most; nothing is written"
    ]


def check_prompt(config: Config) -> None:
    """Raises ``UserError`` unless there is one prompt, which is not empty."""
    options = config.generate
    if (options.text is None) == (options.audio is None):
        raise UserError("give one prompt: generate.text='…' or generate.audio=FILE")
    if options.text is not None and not options.text.strip():
        raise UserError("generate.text is empty: give a few words")


def _open(config: Config) -> TrainedModel:
    run = RunFolder.of(config)
    names = require_models(run)
    if config.name not in names:
        raise UserError(f"no trained model {config.name!r} in {run.root}; there are {', '.join(names)}: set name=NAME")
    return open_trained(run, config.name, open_data(config), config.verify_models)


def _units(ids: np.ndarray, patching: FittedPatching) -> str:
    return " ".join(map(str, patching.units_of(ids).tolist()))
