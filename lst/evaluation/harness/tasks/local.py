"""Items of local files as data sets of the harness: the texts that ``lst benchmark build`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lst.errors import UserError, raise_problems
from lst.evaluation.benchmark.text_items import read_items


def items(name: str, file: str = "", **_: Any) -> dict[str, Any]:
    """The items of a benchmark's file, as the split ``validation``.

    Args:
        name: of the benchmark; the task's YAML gives it.
        file: the file, of ``--metadata '{"file": "PATH"}'``.

    Raises:
        UserError: no file is named, or it has faulty items; all of them are named.
    """
    import datasets

    if not file:
        raise UserError(f'lst_{name}: name the file of its items with --metadata \'{{"file": "PATH"}}\'')
    found, problems = read_items(name, Path(file))
    raise_problems(f"items of {file}", [f"{one.place}: {one.message}" for one in problems], "Mend or remove them.")
    rows = [
        {"id": item.id, "context": item.context, "endings": list(item.endings), "label": item.label} for item in found
    ]
    return {"validation": datasets.Dataset.from_list(rows)}
