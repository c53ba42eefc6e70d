"""The table of points: a row a trained model, as CSV (separated by commas, semicolons or tabs) or JSON.

::

    arm,seed,N,D,C,loss,speech_bits,text_bits,accuracy/S→S/all,items/S→S/all
    baseline,0,1016320,31457280,2.1e14,4.31,4.62,2.05,0.5125,2000

    {"version": 1, "points": [{"arm": "baseline", "seed": 0, "N": 1016320, …}, …]}

| column | what |
|---|---|
| ``N`` | parameters, all of them |
| ``D`` | data that was trained on: speech units plus bytes of text, so that arms that patch alike or not compare |
| ``loss`` | held-out loss in any unit: speech and text together |
| ``speech_bits``, ``text_bits`` | held-out bits a speech unit and a byte of text; each gets a law of its own |
| ``C`` | FLOPs of the training, with local modules and head; without, a formula of N and D |
| ``N_non_embedding`` | parameters without embeddings and head |
| ``D_units``, ``D_text_bytes`` | the parts of D |
| ``arm`` | what is compared, such as a patching strategy; each arm has its own law |
| ``size``, ``seed``, ``strategy`` | names; rows of one arm, N and D are replicates |
| ``accuracy/DIRECTION/STRATUM`` | share of items answered rightly, 0 to 1, such as ``accuracy/T→S/name`` (or ``T>S``) |
| ``items/DIRECTION/STRATUM`` | how many items that is a share of |
| ``chance/DIRECTION/STRATUM`` | accuracy of a guess; without, 0.5 |

N, D and one of the losses are needed. Cells of the other columns may be empty.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np

from lst.errors import UserError, nearest, raise_problems
from lst.recipes.scaling.law import LawPoints
from lst.storage import FormatError, Location, parse_json, read_foreign, write_text

LOSSES = ("loss", "speech_bits", "text_bits")
SIZES = ("N", "N_non_embedding")
NUMBERS = ("N", "D", *LOSSES, "C", "N_non_embedding", "D_units", "D_text_bytes")
NAMES = ("arm", "size", "seed", "strategy")
SHARES = ("accuracy", "items", "chance")
MAX_POINTS = 10_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_REMEDY = "Nothing was fitted: mend the table, or take these rows out."


class PointsFile(TypedDict):
    """The table as JSON; the keys of a point are the columns."""

    version: Literal[1]
    points: list[dict[str, Any]]


@dataclass(frozen=True)
class Points:
    """A table that was read.

    Attributes:
        lines: [P], line of each row in the file, or its number in JSON, from 1.
        numbers: float64 [P] a column; NaN where a cell is empty.
        names: texts a column; all four of ``NAMES``, empty where a column is absent.
        unused: columns that are not known.
    """

    lines: list[int]
    numbers: dict[str, np.ndarray]
    names: dict[str, list[str]]
    unused: list[str]

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in the order of the table."""
        return list(dict.fromkeys(self.names["arm"]))

    @property
    def losses(self) -> list[str]:
        """Loss columns that have values."""
        return [name for name in LOSSES if name in self.numbers and np.isfinite(self.numbers[name]).any()]

    def rows_of(self, arm: str, loss: str, size: str) -> np.ndarray:
        """Places of the rows of an arm that have this loss and this size."""
        is_arm = np.array([name == arm for name in self.names["arm"]])
        return np.flatnonzero(is_arm & np.isfinite(self.numbers[loss]) & np.isfinite(self.numbers[size]))

    def law_points(self, rows: np.ndarray, loss: str, size: str) -> LawPoints:
        """These rows for a law."""
        return LawPoints(self.numbers[size][rows], self.numbers["D"][rows], self.numbers[loss][rows])


def write_points(place: Location, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes a table as CSV: columns in the order in which the rows first name them; absent values are empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(place, buffer.getvalue())


def read_points(place: Location) -> Points:
    """Reads and checks a table.

    Raises:
        UserError: the file cannot be read; ``ProblemsError`` names every column and every row that is wrong.
    """
    try:
        text = read_foreign(place).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"points={place} is missing: give a CSV or JSON file with the columns N, D and loss") from None
    except OSError as error:
        raise UserError(f"points={place} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"points={place} is not UTF-8: save it as UTF-8 text") from None
    is_json = str(place).lower().endswith(".json")
    header, rows = _json_rows(place, text) if is_json else _csv_rows(place, text)
    problems = _header_problems(header)
    raise_problems(f"points={place}", problems, "Columns are described in the guide on scaling.")
    columns = [_standard(name) for name in header]
    points = _checked(columns, rows, problems, "row" if is_json else "line")
    raise_problems(f"points={place}", problems, _REMEDY)
    return points


def _json_rows(place: Location, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        found = parse_json(text.encode(), PointsFile)["points"]
    except FormatError as error:
        raise UserError(f'points={place} {error}: write {{"version": 1, "points": [{{"N": …, "D": …}}, …]}}') from None
    header = list(dict.fromkeys(key for row in found for key in row))
    return header, [(n, [_cell(row.get(name)) for name in header]) for n, row in enumerate(found, 1)]


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _csv_rows(place: Location, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    known = [*NUMBERS, *NAMES]
    separator = max(",;\t", key=lambda mark: (sum(name.strip() in known for name in first.split(mark)), mark == ","))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    found, line = [], 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((line, [cell.strip() for cell in cells]))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"points={place}, line {line} cannot be split into cells ({error})") from None
    if not found:
        raise UserError(f"points={place} is empty: the first line names the columns, such as N,D,loss")
    return found[0][1], found[1:]


def _standard(name: str) -> str:
    """A column's name with arrows in the directions of accuracies."""
    return name.strip().replace(">", "→") if name.strip().startswith(SHARES) else name.strip()


def _header_problems(header: list[str]) -> list[str]:
    names = [_standard(name) for name in header]
    problems = [f"the column {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    problems += [f"the column {name} is missing{_nearest(name, names)}" for name in ("N", "D") if name not in names]
    if not set(LOSSES) & set(names):
        problems.append(f"a loss is missing: one of the columns {', '.join(LOSSES)}{_nearest('loss', names)}")
    problems += [
        f"the column {name!r} is not of the form accuracy/DIRECTION/STRATUM, such as accuracy/S→S/all"
        for name in names
        if name.partition("/")[0] in SHARES and len(list(filter(None, name.split("/")))) != 3
    ]
    return problems


def _nearest(wanted: str, names: list[str]) -> str:
    same = [name for name in names if name.lower() == wanted.lower()]
    return f" (is it {same[0]!r}?)" if same else nearest(wanted, [name for name in names if name not in NUMBERS])


def _checked(columns: list[str], rows: list[tuple[int, list[str]]], problems: list[str], word: str) -> Points:
    """The table; what is wrong is added to ``problems``."""
    if not rows:
        problems.append("there are no rows below the header")
    if len(rows) > MAX_POINTS:
        problems.append(f"{len(rows):,} rows are too many: at most {MAX_POINTS:,} are fitted")
    share_columns = {name for name in columns if name.partition("/")[0] in SHARES}
    numeric = [name for name in columns if name in NUMBERS or name in share_columns]
    numbers: dict[str, list[float]] = {name: [] for name in numeric}
    names: dict[str, list[str]] = {name: [] for name in NAMES}
    for line, cells in rows:
        if len(cells) != len(columns):
            problems.append(f"{word} {line}: {len(cells)} cells, the header has {len(columns)}")
            continue
        row = dict(zip(columns, cells, strict=True))
        for name in numeric:
            value, wrong = _number(name, row[name])
            numbers[name].append(value)
            problems += [f"{word} {line}: {name} {wrong}"] if wrong else []
        if not any(row.get(name) for name in LOSSES):
            problems.append(f"{word} {line}: no loss is given")
        for name in NAMES:
            names[name].append(row.get(name, ""))
    return Points(
        [line for line, _ in rows],
        {name: np.array(values, float) for name, values in numbers.items()},
        names,
        [name for name in columns if name not in NUMBERS + NAMES and name not in share_columns],
    )


def _number(name: str, cell: str) -> tuple[float, str]:
    """The number of a cell, NaN where it is empty or wrong; and what is wrong with it."""
    if not cell:
        return np.nan, "is empty" if name in ("N", "D") else ""
    if not _NUMBER.fullmatch(cell) or not cell.isascii():
        hint = " (write it with a point and without separators)" if re.search(r"\d[,_ '’\u00a0\u202f]\d", cell) else ""
        return np.nan, f"must be a number, not {cell[:40]!r}{hint}"
    value, kind = float(cell), name.partition("/")[0]
    if kind in ("accuracy", "chance"):
        return value, "" if 0 <= value <= 1 else f"must be a share from 0 to 1, not {cell}"
    # Squares and products of such numbers stay finite.
    return value, "" if 1e-100 < value < 1e100 else f"must be above 0 and finite, not {cell}"
