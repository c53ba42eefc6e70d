"""``lst runs diff A B``: settings, data, versions and results in which two models differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lst.configs.comparison_schema import ComparisonConfig
from lst.data.shards import INDEX_FILE, Index, load_index
from lst.errors import UserError, one_line
from lst.recipes.runs.formats import Difference, DiffFile, ModelDiff
from lst.recipes.runs.read import MODELS, ReadModel, found_models, is_training, read_model
from lst.runs import RunFolder
from lst.storage import expanded, flat_settings, write_json

KINDS = {
    "settings": "settings of the training",
    "data": "data",
    "code": "code and machine",
    "results": "results",
}
# Of a listed model: what a training and an evaluation found.
RESULTS = (
    *("state", "num_parameters", "steps", "tokens", "training_flops", "loss", "bits_per_unit", "bits_per_byte"),
    *("is_evaluated", "asked", "accuracy", "weights_sha256"),
)
MAX_SHOWN = 200


def diff_runs(config: ComparisonConfig) -> str:
    """Compares two models, or the models of two runs by their names; writes ``out`` where it is given.

    Raises:
        UserError: not two folders are given, or one of them holds no model.
    """
    found = diff_of(*_two(config))
    if config.out is not None:
        write_json(Path(expanded(config.out)), found)
    return json.dumps(found, indent=2) if config.json else diff_as_text(found)


def diff_plan(config: ComparisonConfig) -> list[str]:
    """The plan of ``lst runs diff``, as lines of text."""
    first, second = (models_of(place) for place in _two(config))
    lines = [f"runs diff: {len(first)} and {len(second)} models"]
    return [*lines, *([f"  would write {config.out}"] if config.out else [])]


def _two(config: ComparisonConfig) -> tuple[str, str]:
    if len(config.runs) != 2:
        raise UserError(f"{len(config.runs)} folders are given, two are compared: lst runs diff A B")
    return config.runs[0], config.runs[1]


def models_of(place: str) -> dict[str, Path]:
    """The runs of the models at a place, by name: of a run's folder, or of RUN/models/NAME (or its ``final``).

    Raises:
        UserError: there is none.
    """
    folder = Path(expanded(place)).absolute()
    folder = folder.parent if folder.name == "final" and is_training(folder.parent) else folder
    if (folder / MODELS).is_dir():
        own = (one for one in found_models(folder) if isinstance(one, tuple) and one[0] == folder)
        if models := {name: run for run, name in own}:
            return models
    elif folder.parent.name == MODELS and is_training(folder):
        return {folder.name: folder.parent.parent}
    raise UserError(f"{place} holds no model: name a run's folder, which has models/NAME/, or one of these")


def diff_of(first: str, second: str) -> DiffFile:
    """Compares the models of two places: by name, or the only ones of both whatever their names."""
    a, b = models_of(first), models_of(second)
    pairs = [(name, name) for name in a if name in b]
    if len(a) == len(b) == 1:
        pairs = [(next(iter(a)), next(iter(b)))]
    elif not pairs:
        raise UserError(
            f"no name is in both: {first} has {', '.join(a)}, {second} has {', '.join(b)}. Name two models: "
            "lst runs diff RUN/models/NAME RUN/models/NAME"
        )
    return {
        "version": 1,
        "pairs": [diff_models(a[one], one, b[other], other) for one, other in pairs],
        "only_a": [name for name in a if name not in {one for one, _ in pairs}],
        "only_b": [name for name in b if name not in {other for _, other in pairs}],
    }


def diff_models(first_run: Path, first: str, second_run: Path, second: str) -> ModelDiff:
    """All in which two models differ."""
    problems: list[str] = []
    sides = [_facts(run, name, problems) for run, name in ((first_run, first), (second_run, second))]
    differences: dict[str, Any] = {kind: _differences(sides[0][kind], sides[1][kind]) for kind in KINDS}
    num_same = {kind: len({*sides[0][kind], *sides[1][kind]}) - len(found) for kind, found in differences.items()}
    return {
        "a": str(first_run / MODELS / first),
        "b": str(second_run / MODELS / second),
        "num_same": num_same,
        **differences,  # type: ignore[typeddict-item]
        "problems": problems,
    }


def _facts(run: Path, name: str, problems: list[str]) -> dict[str, dict[str, Any]]:
    """Values of a model by kind and dotted key; what could not be read is added to ``problems``."""
    model = ReadModel(RunFolder(run), name)
    line = read_model(run, name)
    settings: dict[str, Any] = {**(model.settings() or {})}
    fingerprint = settings.pop("data", "")
    line_values: Mapping[str, Any] = line
    index = model.tried(lambda: _index(run), None)
    problems += [f"{run / MODELS / name}: {one}" for one in dict.fromkeys([*line["problems"], *model.problems])]
    return {
        "settings": flat_settings(settings),
        "data": {"fingerprint": fingerprint, **_data_facts(index)},
        "code": {**model.versions()},
        "results": flat_settings({key: line_values[key] for key in RESULTS}),
    }


def _index(run: Path) -> Index | None:
    """The index of the run's own data; None where the data lies elsewhere: no record's place is followed."""
    return load_index(run / "data") if (run / "data" / INDEX_FILE).exists() else None


def _data_facts(index: Index | None) -> dict[str, Any]:
    if index is None:
        return {}
    keys = ("description", "is_synthesised", "aligner", "units_sha256", "text_sha256", "vocabulary", "num_left_out")
    values: Mapping[str, Any] = index
    sizes = {split: sum(shard["num_utterances"] for shard in shards) for split, shards in index["splits"].items()}
    return flat_settings(
        {**{key: values[key] for key in keys}, "utterances": sizes, "made_from": {**index["made_from"]}}
    )


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    keys = list(dict.fromkeys([*a, *b]))
    return [{"key": key, "a": a.get(key), "b": b.get(key)} for key in keys if a.get(key) != b.get(key)]


def diff_as_text(found: DiffFile) -> str:
    """Two columns of values for each pair of models."""
    lines: list[str] = []
    for pair in found["pairs"]:
        lines += [f"a: {one_line(pair['a'])}", f"b: {one_line(pair['b'])}"]
        for kind, title in KINDS.items():
            lines += _kind_as_text(title, pair[kind], pair["num_same"][kind])  # type: ignore[literal-required]
        lines += [f"! {one_line(problem)}" for problem in pair["problems"]]
        lines.append("")
    for side, names in (("a", found["only_a"]), ("b", found["only_b"])):
        if names:
            lines.append(f"only in {side}: {', '.join(map(one_line, names))}")
    return "\n".join(lines).rstrip()


def _kind_as_text(title: str, differences: list[Difference], num_same: int) -> list[str]:
    if not differences:
        return [f"{title}: no difference ({num_same} values)"]
    shown = [[one_line(one["key"]), *(_value(one[side]) for side in ("a", "b"))] for one in differences]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [f"{title}: {len(shown)} of {len(shown) + num_same} values differ"]
    for cells in shown:
        lines.append("  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    return lines


def _value(value: Any) -> str:
    """A value of JSON in one line; a dash where it is absent."""
    text = "–" if value is None else one_line(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
