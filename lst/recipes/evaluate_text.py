"""``lst eval`` of data that is text alone: the perplexity of every trained model of a run on the held-out text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from lst.configs.schema import Config
from lst.errors import raise_problems
from lst.evaluation.perplexity import TextEstimate, TextResult, read_text_result, text_nats, text_scores
from lst.evaluation.scorer import Scorer
from lst.progress import Progress, say
from lst.runs import RunFolder, TrainedModel, each_trained, open_data, require_models
from lst.runs.formats import read_record, versioned
from lst.storage import clear_partial_files, fingerprint, write_json, write_jsonl
from lst.storage.locks import folder_lock, reading_lock

# Raised when the same models and data would give other results.
VERSION = 1


class _Rows(TypedDict):
    train: dict[str, Any]


def evaluate_texts(config: Config) -> str:
    """Scores every trained model on the held-out text; returns the results as text.

    A model with an equal result is not scored again.

    Raises:
        UserError: no model is trained.
        ProblemsError: some models cannot be scored; the others are, and their results are said.
    """
    results, failed = score_models(config)
    shown = results_as_text(results) if results else ""
    if failed and shown:
        say(shown)
    raise_problems(f"{len(failed)} of {len(failed) + len(results)} models are not evaluated", failed)
    return shown


def score_models(config: Config, names: Sequence[str] = ()) -> tuple[dict[str, TextResult], list[str]]:
    """Results by model, and a line for each model that failed; ``names`` are all trained models where none is given."""
    run = RunFolder.of(config)
    names = names or require_models(run, only_finite=False)
    folder = run.eval_result(names[0]).parent
    with reading_lock(run.data), folder_lock(folder, work="evaluated", remedy="or evaluate another run_dir=FOLDER"):
        clear_partial_files(folder)
        return each_trained(
            run, names, open_data(config), config.verify_models, lambda trained: _score(config, run, trained)
        )


def _score(config: Config, run: RunFolder, trained: TrainedModel) -> TextResult:
    """The result of one model, written unless it is there."""
    name, data = trained.name, trained.data
    other = data.fingerprint if run.data_of_training(name) not in ("", data.fingerprint) else ""
    path = run.eval_text(name, other)
    context = min(_row_patches(run, name, config), trained.model.config.max_patches)
    options = {"bootstrap_samples": config.eval.bootstrap_samples, "rows_a_batch": config.eval.rows_a_batch}
    made_from = fingerprint([VERSION, trained.weights_sha256, data.fingerprint, context, options, config.seed])
    before = read_text_result(path) if path.exists() else None
    if before is not None and before["made_from"] == made_from:
        say(f"{name} is evaluated: nothing to do ({path})")
        return before
    # Texts share no beginning but two tokens.
    scorer = Scorer(trained, trained.builder(config), context, config.eval.rows_a_batch, shares_beginnings=False)
    with Progress(len(data.valid), f"evaluate {name}", unit="text") as progress:
        rows = text_nats(scorer, data.valid, context, progress.advance)
    result: TextResult = {
        "made_from": made_from,
        "name": name,
        "corpus": data.index["description"],
        "data": data.fingerprint,
        "weights_sha256": trained.weights_sha256,
        "seed": config.seed,
        "num_parameters": trained.model.num_parameters,
        "context_tokens": context,
        "options": options,
        **text_scores(rows, config.eval.bootstrap_samples, config.seed),
    }
    write_jsonl(run.eval_text_rows(name, other), [{**row} for row in rows])
    write_json(path, versioned(result))
    return result


def _row_patches(run: RunFolder, name: str, config: Config) -> int:
    """Tokens of a row in the training of a model: the context that it has learnt."""
    path = run.model(name) / "settings.json"
    if not path.exists():
        return config.train.row_patches
    remedy = f"Delete {path.parent} and train again."
    return int(read_record(path, _Rows, "the record of a training's settings", remedy)["train"]["row_patches"])


def text_plan(config: Config) -> list[str]:
    """The plan of ``lst eval`` on text alone, as lines of text; raises ``UserError`` for what it would refuse."""
    run = RunFolder.of(config)
    names, data = run.trained_models(), open_data(config)
    if not names:
        return [f"eval: it waits for trained models in {run.root / 'models'}: none yet, run lst train"]
    return [
        f"eval: {len(names)} models on {len(data.valid):,} held-out texts of {data.folder}",
        *(f"  {name}: would write {run.eval_text(name)}" for name in names),
    ]


def results_as_text(results: Mapping[str, TextResult]) -> str:
    """A line for each model: perplexity a token, bits and perplexity a byte, with intervals."""
    first = next(iter(results.values()))
    width = max(map(len, [*results, "model"]))
    lines = [
        f"held-out text of: {first['corpus']}; {first['num_texts']:,} texts, {first['num_tokens']:,} tokens, "
        f"{first['num_bytes']:,} bytes",
        "less is better; in brackets 95 % intervals over texts",
        f"{'model':<{width}}  {'perplexity a token':>26}  {'bits a byte':>22}  {'perplexity a byte':>22}  context",
    ]
    for name, result in results.items():
        lines.append(
            f"{name:<{width}}  {shown(result['perplexity'], 2):>26}  {shown(result['bits_per_byte'], 4):>22}  "
            f"{shown(result['byte_perplexity'], 3):>22}  {result['context_tokens']:>7,}"
        )
    if first["num_texts"] < 2:
        lines.append("one held-out text gives no interval")
    return "\n".join(lines)


def shown(found: TextEstimate, digits: int) -> str:
    """``20.6 [19.8–21.4]``, or the value alone."""
    value = f"{found['value']:.{digits}f}"
    if found["low"] is None or found["high"] is None:
        return value
    return f"{value} [{found['low']:.{digits}f}–{found['high']:.{digits}f}]"
