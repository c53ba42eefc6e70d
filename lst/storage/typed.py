"""JSON files read back and held to a type: a ``TypedDict`` or a dataclass that documents the file's format.

::

    place ──read_json──▶ bytes ──parse_json──▶ values of JSON ──▶ the type, or one line that says what is wrong

Types may be ``int``, ``float``, ``str``, ``bool``, ``Any``, lists, dicts with texts as keys, unions, ``Literal``, other
such classes, and numbers with bounds: ``Annotated[int, Between(0, 9)]``. Keys that a type does not name are allowed, as
later versions may write more of them. A field ``version: Literal[…]`` says which versions of a format are read; a file
without one is of version 1. A field ``format: Literal[…]`` does so by name. ``Any`` takes every value whose numbers are
finite.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from lst.errors import UserError
from lst.storage import files
from lst.storage.files import open_binary, read_bytes, size
from lst.storage.places import Location, locate

T = TypeVar("T")

# JSON takes up to twenty times its bytes in memory. A line of a file of lines is an utterance, with room to spare.
MAX_BYTES, MAX_LINE_BYTES, MAX_DEPTH, MAX_SHOWN_PROBLEMS = 1 << 26, 1 << 24, 64, 3


class FormatError(UserError):
    """JSON that is not of the type that was asked for; the message begins with a verb, as ``is not JSON``."""


class NotJsonError(FormatError):
    """Bytes that are not JSON at all."""


class OtherVersionError(FormatError):
    """A file of a version that this project does not read."""


@dataclass(frozen=True)
class Between:
    """Bounds of a number, both inclusive, as metadata of a type: ``Annotated[int, Between(0, 9)]``."""

    minimum: float = -sys.float_info.max
    maximum: float = sys.float_info.max


Count = Annotated[int, Between(0)]
Seconds = Annotated[float, Between(0)]
# What each kind of value is called, and the Python types that stand for it. A whole number is a number, too.
_SCALARS: dict[Any, tuple[str, set[type]]] = {
    int: ("a whole number", {int}),
    float: ("a number", {int, float}),
    str: ("a text", {str}),
    bool: ("true or false", {bool}),
    type(None): ("null", {type(None)}),
}
# Numbers beyond these fit no array of int64 and no float.
_LIMITS = {int: (-(2**63), 2**63 - 1), float: (-sys.float_info.max, sys.float_info.max)}

# One of the scalars that a field takes: its Python types, whether it has limits, and these.
_Scalar = tuple[set[type], bool, float, float]


def read_json(place: Location, kind: type[T], what: str, remedy: str) -> T:
    """Reads a JSON file of this project.

    Args:
        place: the file.
        kind: the type of its content, or ``dict[str, Any]`` for any object.
        what: what the file is, for the error.
        remedy: what to do when it is absent or damaged, for the error.

    Raises:
        UserError: it is absent; ``FormatError`` where it is not JSON or not of this type, ``OtherVersionError`` where
            it is of another version.
    """
    try:
        return parse_json(_bounded(place), kind)
    except FileNotFoundError:
        raise UserError(f"{what} is missing: {place}. {remedy}") from None
    except OtherVersionError as error:
        raise OtherVersionError(
            f"{place} {error}: use the release of this project that wrote it, or make {what} again in another run_dir"
        ) from None
    except FormatError as error:
        raise FormatError(f"{what} is damaged: {place} {error}. {remedy}") from None
    except OSError as error:
        raise UserError(f"{what} cannot be read: {place} ({error.strerror}). {remedy}") from None


def _bounded(place: Location) -> bytes:
    """The content of a regular file that is not too large."""
    check_regular(place)
    if (num_bytes := size(place)) > MAX_BYTES:
        raise FormatError(f"has {num_bytes:,} bytes, at most {MAX_BYTES:,} are allowed")
    return read_bytes(place)


def check_regular(place: Location) -> None:
    """Raises ``FormatError`` for a FIFO, a device or a socket, whose reading might never end."""
    found = locate(place)
    if not isinstance(found, Path):
        return
    try:
        files.check_regular(found, os.stat(found).st_mode)
    except (FileNotFoundError, IsADirectoryError):
        return
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}") from None


def read_jsonl(place: Location, kind: type[T]) -> list[T]:
    """Reads a file of one JSON value a line. An unfinished last line, of a killed writer, is left out.

    An absent file has no rows.

    Raises:
        FormatError: the file cannot be opened, or a line is not JSON, too long, or not of this type.
    """
    rows: list[T] = []
    number = 0
    try:
        check_regular(place)
        with open_binary(place) as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if line.strip():
                    rows += _parsed_line(line, kind)
    except FileNotFoundError:
        return []
    except FormatError as error:
        raise FormatError(f"{place}{f', line {number}' if number else ''} {error}") from None
    except OSError as error:
        raise FormatError(f"{place} cannot be read ({error.strerror})") from None
    return rows


def _parsed_line(line: bytes, kind: type[T]) -> list[T]:
    """The value of a line; none where it is the last one and was cut."""
    is_whole = line.endswith(b"\n")
    if not is_whole and len(line) == MAX_LINE_BYTES:
        raise FormatError(f"has more than {MAX_LINE_BYTES:,} bytes")
    try:
        return [parse_json(line, kind)]
    except NotJsonError:
        if is_whole:
            raise FormatError(f"is not JSON: {line[:80].strip().decode(errors='replace')!r}") from None
        return []


def parse_json(content: bytes, kind: type[T]) -> T:
    """The value that ``content``, UTF-8, holds as JSON.

    Raises:
        FormatError: it is not JSON or not of this type; the first few problems are named.
    """
    try:
        value = json.loads(text := content.decode(), object_pairs_hook=_object)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair could not be written again
    except RecursionError:
        raise FormatError("is nested too deeply") from None
    except ValueError as error:
        raise NotJsonError(f"is not JSON ({error})") from None
    return checked(value, kind)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; readers differ in which of two equal keys they take, so there must be none."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return found


def checked(value: Any, kind: type[T], where: str = "") -> T:
    """A value of JSON as ``kind``; ``where`` is its place in the file.

    Raises:
        FormatError: it is not of this type; the first few problems are named.
    """
    problems: list[str] = []
    found: T = _check(value, kind, where, problems)
    if problems:
        more = f"; and {len(problems) - MAX_SHOWN_PROBLEMS} more" if len(problems) > MAX_SHOWN_PROBLEMS else ""
        raise FormatError(f"is not as it must be: {'; '.join(problems[:MAX_SHOWN_PROBLEMS])}{more}")
    return found


def _check(value: Any, kind: Any, where: str, problems: list[str]) -> Any:
    """``value`` as ``kind``; what is wrong with it is added to ``problems``, with its place in the file."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        if problem := _free_problem(value):
            problems.append(f"{where or 'it'} {problem}")
    elif origin in (Union, UnionType):
        return _check_union(value, arguments, where, problems)
    elif origin is Literal:
        if not any(type(value) is type(allowed) and value == allowed for allowed in arguments):
            problems.append(_must_be(where, " or ".join(map(repr, arguments)), value))
    elif origin is list and isinstance(value, list):
        if _base(arguments[0])[0] not in _SCALARS or _scalar_problem(value, arguments[0]):
            return [_check(item, arguments[0], f"{where}[{n}]", problems) for n, item in enumerate(value)]
    elif origin is dict and isinstance(value, dict):
        return {key: _check(item, arguments[1], _joined(where, key), problems) for key, item in value.items()}
    elif (is_typeddict(kind) or is_dataclass(kind)) and isinstance(value, dict):
        return _check_fields(value, kind, where, problems)
    elif _base(kind)[0] not in _SCALARS:
        problems.append(_must_be(where, "a list" if origin is list else "an object", value))
    elif wanted := _scalar_problem([value], kind):
        problems.append(_must_be(where, wanted, value))
    return value


def _check_union(value: Any, kinds: Iterable[Any], where: str, problems: list[str]) -> Any:
    """``value`` as the first kind that it fits; where it fits none, what is wrong with it as the first one."""
    found: list[list[str]] = []
    for kind in kinds:
        own: list[str] = []
        checked = _check(value, kind, where, own)
        if not own:
            return checked
        found.append(own)
    problems += found[0]
    return value


def _check_fields(value: dict[str, Any], kind: Any, where: str, problems: list[str]) -> Any:
    hints, required, scalars = _fields_of(kind)
    for key, default in (("version", 1), ("format", None)):
        if get_origin(hints.get(key)) is Literal and value.get(key, default) not in get_args(hints[key]):
            allowed = ", ".join(map(str, get_args(hints[key])))
            raise OtherVersionError(f"has {key} {_shown(value.get(key, default))}, this project reads {allowed}")
    problems += [
        f"{_joined(where, name)} is missing"
        for name in hints
        # Where version 1 is not allowed, a file without a version was refused above.
        if name in required and name not in value and (name != "version" or get_origin(hints[name]) is not Literal)
    ]
    num_problems = len(problems)
    checked = {
        name: item
        # Files hold millions of plain values, and nearly all of them are right.
        if name in scalars and _is_one_of(item, scalars[name])
        else _check(item, hints.get(name, Any), _joined(where, name), problems)
        for name, item in value.items()
    }
    if is_typeddict(kind) or problems:
        return checked
    try:
        return kind(**{name: item for name, item in checked.items() if name in hints})
    except ValueError as error:
        problems.insert(num_problems, f"{where or 'it'}: {error}")
    return value


@functools.lru_cache(maxsize=256)
def _fields_of(kind: Any) -> tuple[dict[str, Any], frozenset[str], dict[str, list[_Scalar]]]:
    """Of a class: its fields by name, which must be there, and what those take that take scalars alone."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        needed = kind.__required_keys__
    else:
        hints = {field.name: hints[field.name] for field in fields(kind)}
        needed = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}
    options = {
        name: get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,) for name, hint in hints.items()
    }
    scalars = {
        name: [(_SCALARS[base][1], base in _LIMITS, low, high) for base, low, high in map(_base, kinds)]
        for name, kinds in options.items()
        if all(_base(one)[0] in _SCALARS for one in kinds)
    }
    return hints, frozenset(needed), scalars


def _is_one_of(value: Any, scalars: list[_Scalar]) -> bool:
    for types, has_limits, low, high in scalars:
        if type(value) in types and (not has_limits or low <= value <= high):
            return True
    return False


@functools.lru_cache(maxsize=256)
def _base(kind: Any) -> tuple[Any, float, float]:
    """A scalar without its bounds, and these; other types as they are."""
    if get_origin(kind) is not Annotated:
        return (kind, *_LIMITS.get(kind, (0, 0)))
    base, *bounds = get_args(kind)
    low, high = _LIMITS[base]
    return base, max([low, *(bound.minimum for bound in bounds)]), min([high, *(bound.maximum for bound in bounds)])


def _scalar_problem(values: list[Any], kind: Any) -> str:
    """What all of ``values`` must be; empty where they are."""
    base, low, high = _base(kind)
    name, types = _SCALARS[base]
    if base not in _LIMITS:
        return "" if set(map(type, values)) <= types else name
    if set(map(type, values)) <= types and all(low <= value <= high for value in values):
        return ""
    if (low, high) == _LIMITS[base]:
        return name
    return f"{name} of at least {low:g}" if high == _LIMITS[base][1] else f"{name} from {low:g} to {high:g}"


def _free_problem(value: Any) -> str:
    """What no value of JSON may be: nested deeply, or with a number that is not finite."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if not all(math.isfinite(item) for item in level if isinstance(item, float)):
            return "holds a number that is not finite"
        inner = [item for item in level if isinstance(item, (dict, list))]
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
        if not inner:
            return ""
    return f"is nested more than {MAX_DEPTH} levels deep"


def _joined(where: str, name: str) -> str:
    shown = name if name.isidentifier() else repr(name[:60])
    return f"{where}.{shown}" if where else shown


def _must_be(where: str, wanted: str, value: Any) -> str:
    return f"{where or 'it'} must be {wanted}, not {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return "null" if value is None else repr(value)[:60]
