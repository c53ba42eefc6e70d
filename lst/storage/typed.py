"""JSON files read back and held to a type: a ``TypedDict`` or a dataclass that documents the file's format.

::

    place ──read_json──▶ bytes ──parse_json──▶ values of JSON ──▶ the type, or one line that says what is wrong

Types may be ``int``, ``float``, ``str``, ``bool``, ``Any``, lists, dicts with texts as keys, unions, ``Literal``, other
such classes, and numbers with bounds: ``Annotated[int, Between(0, 9)]``. Keys that a type does not name are allowed, as
later versions may write more of them. A field ``version: Literal[…]`` says which versions of a format are read; a file
without one is of version 1.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from lst.errors import UserError
from lst.storage.files import read_bytes, size
from lst.storage.places import Location

T = TypeVar("T")

MAX_BYTES, MAX_DEPTH, MAX_SHOWN_PROBLEMS = 1 << 30, 64, 3


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
        if (num_bytes := size(place)) > MAX_BYTES:
            raise FormatError(f"has {num_bytes:,} bytes, at most {MAX_BYTES:,} are allowed")
        return parse_json(read_bytes(place), kind)
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


def read_jsonl(place: Location, kind: type[T]) -> list[T]:
    """Reads a file of one JSON value a line. An unfinished last line, of a killed writer, is left out.

    An absent file has no rows.

    Raises:
        FormatError: a line is not JSON, or not of this type.
    """
    try:
        lines = read_bytes(place).split(b"\n")
    except FileNotFoundError:
        return []
    rows: list[T] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(parse_json(line, kind))
        except NotJsonError:
            if number < len(lines):
                raise FormatError(
                    f"{place}, line {number} is not JSON: {line[:80].decode(errors='replace')!r}"
                ) from None
        except FormatError as error:
            raise FormatError(f"{place}, line {number} {error}") from None
    return rows


def parse_json(content: bytes, kind: type[T]) -> T:
    """The value that ``content``, UTF-8, holds as JSON.

    Raises:
        FormatError: it is not JSON or not of this type; the first few problems are named.
    """
    try:
        value = json.loads(text := content.decode())
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair could not be written again
    except RecursionError:
        raise FormatError("is nested too deeply") from None
    except ValueError as error:
        raise NotJsonError(f"is not JSON ({error})") from None
    return checked(value, kind)


def checked(value: Any, kind: type[T]) -> T:
    """A value of JSON as ``kind``.

    Raises:
        FormatError: it is not of this type; the first few problems are named.
    """
    problems: list[str] = []
    found: T = _check(value, kind, "", problems)
    if problems:
        more = f"; and {len(problems) - MAX_SHOWN_PROBLEMS} more" if len(problems) > MAX_SHOWN_PROBLEMS else ""
        raise FormatError(f"is not as it must be: {'; '.join(problems[:MAX_SHOWN_PROBLEMS])}{more}")
    return found


def _check(value: Any, kind: Any, where: str, problems: list[str]) -> Any:
    """``value`` as ``kind``; what is wrong with it is added to ``problems``, with its place in the file."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        if _depth(value) > MAX_DEPTH:
            problems.append(f"{where or 'it'} is nested more than {MAX_DEPTH} levels deep")
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
    hints, required = _fields_of(kind)
    if get_origin(hints.get("version")) is Literal:
        allowed, version = get_args(hints["version"]), value.get("version", 1)
        if version not in allowed:
            raise OtherVersionError(f"has version {_shown(version)}, this project reads {', '.join(map(str, allowed))}")
    problems += [f"{_joined(where, name)} is missing" for name in hints if name in required and name not in value]
    num_problems = len(problems)
    checked = {
        name: _check(item, hints[name], _joined(where, name), problems) if name in hints else item
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
def _fields_of(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Types of a class's fields by name, and the names of those that must be there."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        return hints, kind.__required_keys__
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
    return {field.name: hints[field.name] for field in fields(kind)}, frozenset(needed)


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


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _joined(where: str, name: str) -> str:
    shown = name if name.isidentifier() else repr(name[:60])
    return f"{where}.{shown}" if where else shown


def _must_be(where: str, wanted: str, value: Any) -> str:
    return f"{where or 'it'} must be {wanted}, not {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return "null" if value is None else repr(value)[:60]
