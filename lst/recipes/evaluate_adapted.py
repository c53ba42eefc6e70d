"""``lst eval eval.task=asr|tts``: error rates of the models of a run that were adapted to recognition or reading aloud.

``lst.evaluation.adapted_results`` documents its files.

For ``tts`` a recogniser hears the units that the model gave to a text, made sound by the model's voice. It also hears
the utterance's own units by the same voice, and its recording: the errors of these are none of the model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from lst.api import fit_voice, voice_of
from lst.configs.schema import Config
from lst.data.audio import read_row_audio, resample
from lst.data.prepared import PreparedData
from lst.data.recordings.recognisers import Recogniser, RecogniserChoice, load_recogniser
from lst.data.shards import LeftOut
from lst.data.utterance import Utterance
from lst.errors import UserError, raise_problems
from lst.evaluation import Scorer
from lst.evaluation.adapted import Answer, read_aloud, transcribed
from lst.evaluation.adapted_results import MODEL, RECORDING, RESYNTHESIS, AdaptedResult, AnswerRow, ErrorRates
from lst.evaluation.error_rates import TEXT_NORMALISER, Rate, counted, measure_name, normalised, rate
from lst.evaluation.usable import usable_pairs
from lst.progress import Progress, say
from lst.runs import RunFolder, TrainedModel, each_trained, open_data, require_models
from lst.runs.formats import read_record, versioned
from lst.storage import clear_partial_files, fingerprint, write_json, write_jsonl
from lst.storage.locks import folder_lock, reading_lock
from lst.tokenizers.units import SAMPLE_RATE_HZ
from lst.voice.vocoders import Vocoder

# Raised when the same models and data would give other results.
VERSION = 1


class _OfMixture(TypedDict, total=False):
    mix: dict[str, Any]


def evaluate_adapted(config: Config) -> str:
    """Evaluates every model of the run that was trained on documents of the task; returns the results as text.

    Raises:
        UserError: there is no such model, no utterance, or the recogniser is not installed.
        ProblemsError: some models cannot be evaluated; the others are, and their results are said.
    """
    run, task = RunFolder.of(config), config.eval.task
    names = _adapted_models(run, task)
    data = open_data(config)
    utterances = _utterances(config, data)
    folder = run.root / "eval"
    with reading_lock(run.data), folder_lock(folder, work="evaluated", remedy="or evaluate another run_dir=FOLDER"):
        clear_partial_files(folder)
        results, failed = each_trained(
            run, names, data, config.verify_models, lambda trained: _evaluate(config, run, trained, utterances)
        )
    shown = results_as_text(results) if results else ""
    if failed:
        say(shown)
    raise_problems(f"{len(failed)} of {len(names)} models are not evaluated", failed)
    return shown


def adapted_plan(config: Config) -> list[str]:
    """Plan of ``lst eval eval.task=``, as lines of text; raises ``UserError`` for what it would refuse."""
    run, task = RunFolder.of(config), config.eval.task
    names, data = _adapted_models(run, task), open_data(config)
    places = [run.eval_adapted(name, task, config.eval.split, data.fingerprint) for name in names]
    return [
        f"eval: {task} by {len(names)} models of {len(_utterances(config, data)):,} utterances ({config.eval.split})",
        *(f"  {name}: would write {place}" for name, place in zip(names, places, strict=True)),
    ]


def _adapted_models(run: RunFolder, task: str) -> list[str]:
    """The models that were trained on documents of the task, or on pairs, which hold them too."""
    found = []
    for name in require_models(run):
        path = run.model(name) / "settings.json"
        remedy = f"Delete {path.parent} and train again."
        mix = read_record(path, _OfMixture, "the record of a training's settings", remedy).get("mix", {})
        if mix.get(task) or mix.get("paired"):
            found.append(name)
    if not found:
        raise UserError(
            f"no model of {run.root} was trained on documents of {task}: run lst train experiment={task} "
            "model.init_from=RUN/models/NAME/final"
        )
    return found


def _utterances(config: Config, data: PreparedData) -> list[Utterance]:
    split = data.train if config.eval.split == "train" else data.valid
    number = min(len(split), config.eval.max_utterances or len(split))
    return [split[index] for index in range(number)]


def _evaluate(config: Config, run: RunFolder, trained: TrainedModel, utterances: Sequence[Utterance]) -> AdaptedResult:
    """The result of one model, written unless it is there."""
    options, name, data = config.eval, trained.name, trained.data
    path = run.eval_adapted(name, options.task, options.split, data.fingerprint)
    recogniser = voice = None
    if options.task == "tts":
        recogniser = load_recogniser(RecogniserChoice(options.recognise, options.recogniser_weights or ""))
        voice = voice_of(trained) or fit_voice(data)
        if voice is None:
            raise UserError(f"it has no voice, so nobody hears what it says: {data.folder} was made without audio")
    named = (measure_name(), recogniser.name if recogniser else "", voice.name if voice else "", TEXT_NORMALISER)
    decided = [options.task, options.split, options.max_utterances, options.beams, options.bootstrap_samples]
    weights, patching = trained.weights_sha256, trained.patching
    made_from = fingerprint(
        [VERSION, weights, patching.config.recorded(), data.fingerprint, decided, config.seed, *named, *patching.hashes]
    )
    if path.exists():
        before = read_record(path, AdaptedResult, "the evaluation", f"Delete {path} and run lst eval again.")
        if before["made_from"] == made_from:
            say(f"{name} is evaluated: nothing to do ({path})")
            return before
    wanted = [utterance for utterance in utterances if normalised(utterance.text, _language(data, utterance))]
    left_out: list[LeftOut] = [
        {"id": utterance.id, "reason": "its text has no word"} for utterance in utterances if utterance not in wanted
    ]
    usable, too_long = usable_pairs(Scorer.of(trained, config), wanted, options.task)
    left_out += too_long
    for one in left_out:
        say(f"{name}: {one['id']} is left out: {one['reason']}")
    if not usable:
        raise UserError(f"it can read none of {len(utterances)} utterances")
    rows = _answers(config, trained, usable, recogniser, voice)
    own = [row for row in rows if row["source"] == MODEL]
    global_steps = sum(row["num_global_steps"] for row in own)
    result: AdaptedResult = {
        "made_from": made_from,
        "name": name,
        "task": options.task,
        "split": options.split,
        "data": data.fingerprint,
        "weights_sha256": weights,
        "seed": config.seed,
        "strategy": trained.strategy,
        "num_parameters": trained.model.num_parameters,
        "num_beams": options.beams,
        "normaliser": TEXT_NORMALISER,
        "measure": named[0],
        "recogniser": named[1],
        "voice": named[2],
        "num_utterances": len(usable),
        "left_out": left_out,
        "sources": _rates(rows, options.bootstrap_samples, config.seed),
        "global_steps_a_second": global_steps / max(sum(row["duration_s"] for row in own), 1e-9),
        "length_ratio": global_steps / sum(row["num_unpatched_steps"] for row in own),
        "ended_by": dict(sorted(Counter(row["ended_by"] for row in own).items())),
    }
    write_jsonl(path.with_suffix(".jsonl"), [{**row} for row in rows])
    write_json(path, versioned({**result}))
    return result


def _answers(
    config: Config,
    trained: TrainedModel,
    utterances: Sequence[Utterance],
    recogniser: Recogniser | None,
    voice: Vocoder | None,
) -> list[AnswerRow]:
    """What the model answers to each utterance, and for ``tts`` what bounds it."""
    builder, beams = trained.builder(config), config.eval.beams
    with Progress(len(utterances), f"{config.eval.task} by {trained.name}", unit="utterance") as progress:
        if recogniser is None or voice is None:
            units = [utterance.units for utterance in utterances]
            written = transcribed(trained, builder, units, beams, advance=progress.advance)
            return [
                _row(utterance, MODEL, answer.text, utterance.duration_s, answer, _language(trained.data, utterance))
                for utterance, answer in zip(utterances, written, strict=True)
            ]
        said = read_aloud(trained, builder, [utterance.text for utterance in utterances], beams, progress.advance)
    rows = []
    is_deduplicated = trained.vocabulary.deduplicated and trained.patching.speech_bpe is None
    with Progress(len(utterances), f"hear {trained.name}", unit="utterance") as progress:
        for utterance, answer in zip(utterances, said, strict=True):
            own = _sound(voice, answer.units, is_deduplicated)
            sounds = {MODEL: own, RESYNTHESIS: _sound(voice, utterance.units, False)}
            if (place := trained.data.manifest.get(utterance.id)) is not None:
                sounds[RECORDING] = read_row_audio(place)
            for source, sound in sounds.items():
                heard = recogniser.transcribe(sound) if len(sound) else ""
                duration_s = len(sound) / SAMPLE_RATE_HZ
                own_answer = answer if source == MODEL else None
                rows.append(_row(utterance, source, heard, duration_s, own_answer, _language(trained.data, utterance)))
            progress.advance()
    return rows


def _sound(voice: Vocoder, units: np.ndarray, is_deduplicated: bool) -> np.ndarray:
    """What a recogniser hears of units, float32 [num_samples] at 16 kHz."""
    sound = voice.sound(units, is_deduplicated)
    return resample("the voice", sound, voice.sample_rate_hz, SAMPLE_RATE_HZ) if len(sound) else sound


def _language(data: PreparedData, utterance: Utterance) -> str:
    """The language of an utterance; empty for English, and where the data has no row of it."""
    row = data.manifest.get(utterance.id)
    return row.language if row is not None else ""


def _row(
    utterance: Utterance, source: str, heard: str, duration_s: float, answer: Answer | None, language: str
) -> AnswerRow:
    return {
        "utterance": utterance.id,
        "source": source,
        "wanted": normalised(utterance.text, language),
        "heard": normalised(heard, language),
        **counted(utterance.text, heard, language)._asdict(),  # type: ignore[typeddict-item]
        "duration_s": duration_s,
        "num_tokens": answer.num_tokens if answer else 0,
        "num_global_steps": answer.num_global_steps if answer else 0,
        "num_unpatched_steps": answer.num_unpatched_steps if answer else 0,
        "ended_by": answer.ended_by if answer else "",
    }


def _rates(rows: Sequence[AnswerRow], num_samples: int, seed: int) -> dict[str, ErrorRates]:
    found: dict[str, ErrorRates] = {}
    for source in dict.fromkeys(row["source"] for row in rows):
        own = [row for row in rows if row["source"] == source]
        wer = rate([row["word_errors"] for row in own], [row["num_words"] for row in own], num_samples, seed)
        cer = rate([row["character_errors"] for row in own], [row["num_characters"] for row in own], num_samples, seed)
        found[source] = {"wer": wer, "cer": cer}
    return found


def results_as_text(results: Mapping[str, AdaptedResult]) -> str:
    """A line for each model, and for ``tts`` one for each of what bounds it."""
    first = next(iter(results.values()))
    width = max(map(len, [*results, "model", f"({RESYNTHESIS})"]))
    hears = f", heard by {first['recogniser']}, spoken by {first['voice']}" if first["recogniser"] else ""
    lines = [
        f"{first['task']}: error rates, % [95 % interval], {first['num_utterances']:,} utterances ({first['split']}), "
        f"beams {first['num_beams']}{hears}; texts: {first['normaliser']}; counted by {first['measure']}",
        f"{'model':<{width}}  {'words':>20}  {'characters':>20}  {'global steps/s':>14}  {'length ratio':>12}  stopped",
    ]
    for name, result in results.items():
        stopped = result["ended_by"].get("stop", 0) / result["num_utterances"]
        for source, own in result["sources"].items():
            rates = f"{_cell(own['wer']):>20}  {_cell(own['cer']):>20}"
            if source == MODEL:
                steps = f"{result['global_steps_a_second']:>14.2f}  {result['length_ratio']:>12.3f}"
                lines.append(f"{name:<{width}}  {rates}  {steps}  {stopped:>6.0%}")
            else:
                lines.append(f"{f'({source})':<{width}}  {rates}")
    lines += [
        f"{name}: {len(result['left_out'])} utterances are left out, each with its reason in its result"
        for name, result in results.items()
        if result["left_out"]
    ]
    return "\n".join(lines)


def _cell(own: Rate) -> str:
    return f"{100 * own['rate']:.1f} [{100 * own['low']:.1f}–{100 * own['high']:.1f}]"
