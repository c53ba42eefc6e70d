"""``lst eval``: models of a run on held-out data or text, on a benchmark, or at recognition and reading aloud."""

from lst.configs.schema import Config
from lst.data.prepared import is_text_alone
from lst.errors import printable
from lst.evaluation.results import EvalResult
from lst.recipes.evaluate import (
    FailedModelsError,
    evaluate,
    evaluation_plan,
    found_ceilings,
    found_contamination,
    results_as_text,
    verdict_of,
)
from lst.recipes.evaluate_adapted import adapted_plan, evaluate_adapted
from lst.recipes.evaluate_benchmark import benchmark_plan, evaluate_benchmark
from lst.recipes.evaluate_text import evaluate_texts, text_plan
from lst.runs import RunFolder


def run_eval(config: Config) -> str:
    """Evaluates, and returns the results as text.

    Raises:
        FailedModelsError: some model failed; the results of the others were printed.
    """
    if config.eval.benchmark is not None:
        return evaluate_benchmark(config)
    if is_text_alone(RunFolder.of(config).data):
        return evaluate_texts(config)
    if config.eval.task != "scores":
        return evaluate_adapted(config)
    try:
        results = evaluate(config)
    except FailedModelsError as error:
        if error.results:
            print(printable(_as_text(config, error.results)))
        raise
    return f"{_as_text(config, results)}\n\n{verdict_of(config, results)}"


def _as_text(config: Config, results: dict[str, EvalResult]) -> str:
    return results_as_text(results, found_ceilings(config, results), found_contamination(config, results))


def eval_plan(config: Config) -> list[str]:
    """The plan of ``lst eval``, as lines of text."""
    if config.eval.benchmark is not None:
        return benchmark_plan(config)
    if is_text_alone(RunFolder.of(config).data):
        return text_plan(config)
    return evaluation_plan(config) if config.eval.task == "scores" else adapted_plan(config)
