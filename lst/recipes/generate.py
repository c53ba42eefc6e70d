"""``lst generate``: continues written and spoken prompts with a trained model, in text and in sound.

::

    OUT/continuations.jsonl    a ``ContinuationRow`` a line, with generate.prompts=
    OUT/ID.wav                 what was spoken after the prompt ID
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from lst.api import Continued, Piece, Prompt, SpeechTextModel, fit_voice, model_folder, voice_of
from lst.configs.schema import Config
from lst.data.audio import read_audio
from lst.errors import UserError, printable, raise_problems
from lst.model.inference import SamplingOptions
from lst.parallel import keep_freed_memory
from lst.runs import RunFolder, WholeModel, open_data, open_whole, require_models
from lst.storage import read_jsonl, read_text, write_jsonl
from lst.tokenizers.speech import deduplicate, unit_places

RESULTS_FILE = "continuations.jsonl"


@dataclass(frozen=True)
class PromptRow:
    """A line of ``generate.prompts=``.

    Attributes:
        id: names the files of its results.
        text, audio: what is read, then what is heard; one of them may be empty. Audio lies beside the file of prompts.
    """

    id: str
    text: str = ""
    audio: str = ""


class ContinuationRow(TypedDict):
    """A line of ``continuations.jsonl``.

    Keys:
        id: of the prompt.
        text, units: what was written and what was spoken after it.
        audio: name of the file with its sound; empty for none.
        num_tokens: that were drawn.
        ended_by: stop, length or context.
    """

    id: str
    text: str
    units: list[int]
    audio: str
    num_tokens: int
    ended_by: str


def run_generate(config: Config) -> str:
    """Continues ``generate.text`` and ``generate.audio``, or every prompt of ``generate.prompts``.

    Returns:
        The prompt and its continuation: text as text, speech as unit numbers. Of several, how many.

    Raises:
        UserError: there is no prompt, or it cannot be read; the model is not trained; or it has no voice and ``out=``
            asks for sound.
    """
    rows = prompts_of(config)
    keep_freed_memory()
    model = _open(config)
    return _continue_one(config, model) if rows is None else _continue_all(config, model, rows)


def generation_plan(config: Config) -> list[str]:
    """Plan of ``lst generate``, as lines of text; raises ``UserError`` for what the command itself would refuse."""
    rows = prompts_of(config)
    run = RunFolder.of(config)
    if config.generate.model is None and not run.trained_models():
        return [f"generate: it waits for trained models in {run.root / 'models'}: none yet, run lst train"]
    model = _open(config)
    if config.generate.audio is not None:
        read_audio(config.generate.audio)
    name, size, limit = model.whole.name, model.whole.model.num_parameters, config.generate.max_new_tokens
    written = f"would write {config.out}" if config.out else "nothing is written"
    what = "continues" if rows is None else f"continues {len(rows):,} prompts"
    return [f"generate: {name}, {size:,} parameters, {what} by {limit} tokens at most; {written}"]


def prompts_of(config: Config) -> list[PromptRow] | None:
    """The prompts of a file; None where one prompt is given by options.

    Raises:
        UserError: there is no prompt, it is empty, or ``out=`` cannot hold what is asked for; all problems are named.
    """
    options = config.generate
    if options.prompts is not None:
        if options.text is not None or options.audio is not None:
            raise UserError("generate.prompts= has its prompts: leave generate.text= and generate.audio= out")
        if config.out is None or config.out.endswith(".wav"):
            raise UserError("generate.prompts= writes the results of many prompts: name a folder with out=FOLDER")
        return _read_prompts(Path(options.prompts))
    if options.text is None and options.audio is None:
        raise UserError("give one prompt: generate.text='…', generate.audio=FILE, or both; or generate.prompts=FILE")
    if options.text is not None and not options.text.strip():
        raise UserError("generate.text is empty: give a few words")
    if config.out is not None and not config.out.lower().endswith(".wav"):
        raise UserError(f"out={config.out}: the sound of a continuation is a WAV file: write out=FILE.wav")
    if config.out is not None and options.modality == "text":
        raise UserError("out= is for sound, and generate.modality=text has none: leave one of them out")
    return None


def _read_prompts(path: Path) -> list[PromptRow]:
    if not path.is_file():
        raise UserError(f"generate.prompts={path}: there is no such file")
    rows = list(read_jsonl(path, PromptRow))
    if len(rows) < (num_lines := sum(bool(line.strip()) for line in read_text(path).splitlines())):
        raise UserError(f"generate.prompts={path}: line {num_lines} is not whole JSON")
    ids = [row.id for row in rows]
    problems = [f"{one!r} occurs {ids.count(one)} times" for one in dict.fromkeys(ids) if ids.count(one) > 1]
    for row in rows:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", row.id):
            problems.append(f"id {row.id!r}: it names a file; allowed are letters, digits, _, - and .")
        if not row.text.strip() and not row.audio:
            problems.append(f"{row.id!r} has neither text nor audio")
        if row.audio and not (path.parent / row.audio).is_file():
            problems.append(f"{row.id!r}: there is no audio {path.parent / row.audio}")
    raise_problems(f"prompts in {path}", problems or ([] if rows else ["there is none"]))
    return rows


def _open(config: Config) -> SpeechTextModel:
    """The model, with a voice where sound is wanted."""
    whole = _whole(config)
    voice = voice_of(whole)
    if voice is None and config.out is not None and config.generate.model is None:
        # A model of an earlier version: its run may still have the audio.
        voice = fit_voice(open_data(config))
    if voice is None and config.out is not None and config.generate.prompts is None:
        raise UserError(
            f"{whole.name} has no voice, so out={config.out} cannot be written: its units were made without audio"
        )
    return SpeechTextModel(whole, voice)


def _whole(config: Config) -> WholeModel:
    places = unit_places(config.tokenizer)
    if config.generate.model is not None:
        return open_whole(model_folder(config.generate.model), places, config.verify_models)
    run = RunFolder.of(config)
    names = require_models(run)
    if config.name not in names:
        raise UserError(f"no trained model {config.name!r} in {run.root}; there are {', '.join(names)}: set name=NAME")
    return open_whole(run.final(config.name), places, config.verify_models, run.data)


def _sampling(config: Config) -> SamplingOptions:
    options = config.generate
    return SamplingOptions(
        options.max_new_tokens,
        options.temperature,
        options.top_k,
        options.top_p,
        seed=config.seed,
        no_repeat_units=options.no_repeat_units,
    )


def _continue_one(config: Config, model: SpeechTextModel) -> str:
    options = config.generate
    prompt: list[Piece] = [options.text] if options.text is not None else []
    shown = list(prompt)
    if options.audio is not None:
        units = model.units(Path(options.audio) if "://" not in options.audio else options.audio)
        prompt.append(units)
        read = deduplicate(units)[0] if model.whole.vocabulary.deduplicated else units
        shown.append(f"{options.audio}: {' '.join(map(str, read.tolist()))}")
    opening = f"prompt:       {' '.join(map(str, shown))}\ncontinuation: "
    if options.stream:
        _print(opening)
    modality = "speech" if config.out is not None and options.modality == "same" else options.modality
    (continued,) = model.generate_all(
        [prompt], _sampling(config), modality, options.stop, _print if options.stream else None
    )
    reason = {
        "stop": "it ended there",
        "length": f"generate.max_new_tokens={options.max_new_tokens} reached",
        "context": f"the model's context of {model.whole.model.config.max_patches} patches is full",
    }[continued.ended_by]
    ending = [f"({continued.num_tokens} tokens; {reason})"]
    if config.out is not None:
        continued.sound.save(config.out)
        ending.append(f"{config.out}: {continued.sound.duration_s:.2f} s of sound")
    return "\n".join(["" if options.stream else f"{opening}{continued}", *ending])


def _print(text: str) -> None:
    print(printable(text), end="", flush=True)


def _continue_all(config: Config, model: SpeechTextModel, rows: list[PromptRow]) -> str:
    assert config.generate.prompts is not None
    assert config.out is not None
    folder, beside = Path(config.out), Path(config.generate.prompts).parent
    prompts: list[Prompt] = [
        [*([row.text] if row.text.strip() else []), *([beside / row.audio] if row.audio else [])] for row in rows
    ]
    found = model.generate_all(prompts, _sampling(config), config.generate.modality, config.generate.stop)
    results = [_saved(folder, row, continued) for row, continued in zip(rows, found, strict=True)]
    write_jsonl(folder / RESULTS_FILE, [{**result} for result in results])
    num_sounds = sum(bool(result["audio"]) for result in results)
    return f"{folder / RESULTS_FILE}: {len(results):,} continuations, {num_sounds:,} of them with sound beside it"


def _saved(folder: Path, row: PromptRow, continued: Continued) -> ContinuationRow:
    has_sound = continued.voice is not None and len(continued.units) > 0
    audio = f"{row.id}.wav" if has_sound else ""
    if has_sound:
        continued.sound.save(folder / audio)
    return {
        "id": row.id,
        "text": continued.text,
        "units": continued.units.tolist(),
        "audio": audio,
        "num_tokens": continued.num_tokens,
        "ended_by": continued.ended_by,
    }
