"""Options of a configuration: a dataclass field with its description and its limits, and one check for all of them.

::

    option(default, doc, low=…, choices=…)  ──▶  field of a dataclass derived from Options
    Options.problems()    limits of every field, then the rules that relate fields to each other
    list_options()        key, type, default, description and limits of every option, for help and documentation

>>> @dataclass
... class Train(Options, prefix="train."):
...     rows: int = option(2, "rows of a batch", low=1)
>>> Train(rows=0).problems()
['train.rows=0: must be 1 or more']
"""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, ClassVar, Literal

from lst.storage import is_url

PathKind = Literal["file", "folder", "file or folder"]


@dataclass(frozen=True)
class Limits:
    """Values that an option may take. None (``null``) always passes: the option's type decides whether it is allowed.

    Attributes:
        low, high: least and greatest value.
        above, below: bounds that the value must not reach.
        choices: the allowed texts; empty allows any.
        pattern: regular expression that a text matches as a whole; ``note`` says it in words.
        unit: unit of the number, as help shows it.
        note: reason or remedy that the error message adds.
        path: what the path must name; empty where the option is no path.
        url_allowed: a path may be a URL.
        is_prose: free text, in which commas and ``${`` have no meaning.
        needs: options without which this one has no effect, such as ``data.align.method=ctc``; see ``holds``.
        is_later: an option that earlier versions lacked; see ``Options.recorded``.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    unit: str = ""
    note: str = ""
    path: PathKind | None = None
    url_allowed: bool = False
    is_prose: bool = False
    needs: str = ""
    is_later: bool = False

    @property
    def range_text(self) -> str:
        """The bounds in words, such as ``1 or more``; empty where there are none."""
        if self.low is not None and self.high is not None:
            return f"{self.low} to {self.high}"
        lower = f"above {self.above}" if self.above is not None else "" if self.low is None else f"at least {self.low}"
        upper = f"below {self.below}" if self.below is not None else "" if self.high is None else f"at most {self.high}"
        if lower and upper:
            return f"{lower} and {upper}"
        return f"{self.low} or more" if self.low is not None else lower or upper

    @property
    def help_text(self) -> str:
        """Choices, or bounds with their unit, and when it is read, as help shows them; empty where there are none."""
        allowed = " | ".join(self.choices) or (f"{self.range_text} {self.unit}".strip() if self.range_text else "")
        return "; ".join(filter(None, [allowed, needs_text(self.needs)]))

    def problem(self, value: Any, default: Any) -> str:
        """What is wrong with ``value``, to follow ``key=value``; empty where nothing is. Lists are checked by item."""
        if isinstance(value, list):
            found = ((item, self.problem(item, default)) for item in value)
            return next((f": {item}{wrong}" for item, wrong in found if wrong), "")
        if isinstance(value, str):
            if self.choices and value not in self.choices:
                return f": allowed are {', '.join(self.choices)}"
            if self.pattern and not re.fullmatch(self.pattern, value):
                return f": must be {self.note}"
            return self._path_problem(value, default) if self.path else ""
        if not isinstance(value, (int, float)):
            return ""
        if not math.isfinite(value):
            return ": must be a finite number"
        if not self._holds(value):
            verb = "allowed are" if self.low is not None and self.high is not None else "must be"
            return f": {verb} {self.range_text}{f' ({self.note})' if self.note else ''}"
        return ""

    def _holds(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def _path_problem(self, value: str, default: Any) -> str:
        if not value:
            return "" if default == "" else " is empty: give a path, or leave the option out"
        if is_url(value):
            note = f"; {self.note}" if self.note else ""
            return "" if self.url_allowed else f" is a URL: a path of this machine is needed{note}"
        if self.path == "file" and os.path.isdir(value):
            return " is a folder: name a file in it"
        if self.path == "folder" and os.path.isfile(value):
            return " is a file: name a folder"
        return ""


def option(default: Any, doc: str, **limits: Any) -> Any:
    """A dataclass field with a description, and the limits that ``Limits`` names."""
    metadata = {"doc": doc, "limits": Limits(**limits)}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def needed_keys(needs: str) -> list[str]:
    """The options that a condition names.

    >>> needed_keys("corpus!=null or text!=null")
    ['corpus', 'text']
    """
    return [condition.partition("=")[0].rstrip("!") for condition in re.split(" or | and ", needs)]


def holds(needs: str, config: Any) -> bool:
    """Whether a configuration meets ``Limits.needs``: ``KEY=VALUE|VALUE`` or ``KEY!=VALUE``, joined by ``and``, ``or``.

    ``and`` binds closer. A list meets ``KEY=VALUE`` if the value is in it.
    """
    return any(all(_meets(one, config) for one in joined.split(" and ")) for joined in needs.split(" or "))


def _meets(condition: str, config: Any) -> bool:
    key, _, wanted = condition.partition("=")
    value = attrgetter(key.rstrip("!"))(config)
    values = value if isinstance(value, list) else [value]
    texts = {f"{one:g}" if isinstance(one, float) else str(one).lower() for one in values}
    return bool(texts & set(wanted.replace("null", "none").lower().split("|"))) != key.endswith("!")


def needs_text(needs: str) -> str:
    """A condition in words; empty for none.

    >>> needs_text("corpus!=null or data.align.method=ctc|import")
    'with corpus= or data.align.method=ctc|import'
    >>> needs_text("corpus=null and text=null")
    'without corpus= and without text='
    """
    plain = re.sub(r"\S+", lambda match: _plain_condition(match[0]), needs)
    return f"with {plain}" if plain and not plain.startswith("without") else plain


def _plain_condition(word: str) -> str:
    if word.endswith("!=null"):
        return word.removesuffix("!=null") + "="
    return f"without {word.removesuffix('null')}" if word.endswith("=null") else word


@dataclass
class Options:
    """Base of every section of a configuration.

    Attributes:
        prefix: dotted place of the section, such as ``data.mix.``
        needs: ``Limits.needs`` of all its options that have none of their own.
    """

    prefix: ClassVar[str] = ""
    needs: ClassVar[str] = ""

    def __init_subclass__(cls, prefix: str = "", needs: str = "") -> None:
        cls.prefix, cls.needs = prefix, needs

    def problems(self) -> list[str]:
        """Everything that is wrong with these values, one line each."""
        return self.limit_problems() + self._rule_problems()

    def recorded(self) -> dict[str, Any]:
        """The values for a record that decides whether results are still those of these options.

        Options that earlier versions lacked are left out while they have their defaults, so that their records match.
        """
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Options):
                values[item.name] = value.recorded()
            elif not (item.metadata.get("limits", Limits()).is_later and value == item.default):
                values[item.name] = copy.deepcopy(value)
        return values

    def limit_problems(self) -> list[str]:
        """Values outside the limits of their option, of this section and those below it."""
        found = []
        for item in fields(self):
            value = getattr(self, item.name)
            if "limits" in item.metadata and (wrong := item.metadata["limits"].problem(value, item.default)):
                found.append(f"{self.prefix}{item.name}={value}{wrong}")
        return found + [problem for section in self._sections() for problem in section.limit_problems()]

    def settle(self, given: Collection[str]) -> None:
        """Replaces values that are short for others, and sets those that follow; a class with such values has its own.

        Args:
            given: keys of the options that a user gave a value.

        Raises:
            UserError: a value that others follow from cannot be used.
        """

    def rules(self) -> list[str]:
        """Problems of values that are allowed alone but not together; also called when a value is out of its limits."""
        return []

    def _rule_problems(self) -> list[str]:
        return self.rules() + [problem for section in self._sections() for problem in section._rule_problems()]

    def _sections(self) -> Iterator[Options]:
        values = (getattr(self, item.name) for item in fields(self))
        return (value for value in values if isinstance(value, Options))


@dataclass(frozen=True)
class Option:
    """One option of a configuration.

    Attributes:
        key: dotted, such as ``train.rows``.
        kind: its type as it is written in the code, such as ``float | None``.
        value: of the configuration that was listed; its default where that was made without arguments.
        doc: what it does.
        limits: the values it may take.
    """

    key: str
    kind: str
    value: Any
    doc: str
    limits: Limits

    @property
    def is_text(self) -> bool:
        """Whether values are taken as they are written, without quotes."""
        return self.kind in ("str", "str | None")

    @property
    def is_path_list(self) -> bool:
        """Whether each word gives one more path, taken as it is written: ``runs=A runs=B``."""
        return self.kind == "list[str]" and self.limits.path is not None


def list_options(config: Options, prefix: str = "") -> list[Option]:
    """Every option of a configuration, depth first."""
    found: list[Option] = []
    for item in fields(config):
        value, key = getattr(config, item.name), prefix + item.name
        if isinstance(value, Options):
            found += list_options(value, f"{key}.")
        else:
            limits = item.metadata["limits"]
            limits = replace(limits, needs=limits.needs or config.needs)
            found.append(Option(key, str(item.type), value, item.metadata["doc"], limits))
    return found
