"""``python -m lst.evaluation.harness``: the harness's own command line, with this project's model and tasks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lst.errors import UserError
from lst.lazy import import_or_explain

TASKS = Path(__file__).parent / "tasks"


def main(words: list[str]) -> None:
    """Runs the harness with these words of its command line.

    Raises:
        UserError: the harness is missing.
    """
    install = "pip install 'latent-speech-text[harness]'"
    registry: Any = import_or_explain("lm_eval.api.registry", "lst.evaluation.harness", install)
    harness: Any = import_or_explain("lm_eval.__main__", "lst.evaluation.harness", install)
    if "lst" not in registry.model_registry:
        registry.model_registry.register("lst", target="lst.evaluation.harness.model:HarnessModel")
    runs_tasks = "--tasks" in words and "--include_path" not in words
    sys.argv = ["lm_eval", *words, *(["--include_path", str(TASKS)] if runs_tasks else [])]
    harness.cli_evaluate()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"lst: {error}")
