"""The runs of ``--multirun``: every combination of the values that Hydra's sweep grammar gives.

``train.rows=1,2``, ``seed=range(3)``, ``model=choice(lst_tiny,lst_small)`` and ``patching=glob(s*)`` give several
values. In options of free text, such as a prompt, a comma is part of the text: there ``choice(…)`` gives several.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, ValueType
from hydra.errors import HydraException

from lst.configs.compose import Job
from lst.configs.user_files import UserFiles
from lst.errors import raise_problems

_SWEEP_FUNCTION = re.compile(r"\s*(choice|range|glob|shuffle|sort|interval)\(")


@dataclass(frozen=True)
class SweptRun:
    """One combination.

    Attributes:
        words: the overrides of the run, each with one value, and the flags of its configuration.
        swept: the values that differ from run to run, by their key.
    """

    words: list[str]
    swept: dict[str, str]


def swept_runs(job: Job[Any], words: Sequence[str]) -> list[SweptRun]:
    """All combinations, the last word's values changing fastest.

    Raises:
        UserError: a sweep cannot be listed, or gives no value.
    """
    files, problems = job.user_files(words), []
    values: dict[str, list[str]] = {}
    swept: set[str] = set()
    for word in words:
        key, _, value = word.partition("=")
        try:
            found = _swept_values(job, files, key, value)
        except HydraException as error:
            problems.append(f"{word}: {str(error).splitlines()[0]}")
            continue
        swept.discard(key)
        if found is None:
            values[key] = [word]
        else:
            values[key] = [f"{key}={one}" for one in found]
            swept.add(key)
    raise_problems("multirun", problems)
    combinations = itertools.product(*values.values())
    return [
        SweptRun(
            list(run), {key: word.partition("=")[2] for key, word in zip(values, run, strict=True) if key in swept}
        )
        for run in combinations
    ]


def _swept_values(job: Job[Any], files: UserFiles, key: str, value: str) -> list[str] | None:
    """The values of a word as texts; None where it gives one value only, or is not in Hydra's grammar."""
    is_function = _SWEEP_FUNCTION.match(value)
    is_prose = key in job.options and job.options[key].limits.is_prose
    if key.startswith("--") or (is_prose and not is_function):
        return None
    try:
        parsed = OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException:
        if is_function:
            raise
        # A path or a list of an arm's options, perhaps: the run's own check names what is wrong with it.
        return None
    if not parsed.is_sweep_override():
        return None
    found = _listed(job, files, parsed)
    if not found:
        raise HydraException("no value matches")
    return found


def _listed(job: Job[Any], files: UserFiles, parsed: Override) -> list[str]:
    key = parsed.key_or_group
    if parsed.value_type is ValueType.GLOB_CHOICE_SWEEP:
        glob = parsed.value()
        assert isinstance(glob, Glob)
        if not job.is_group(key):
            raise HydraException(f"glob() takes choices of a group; groups are {', '.join(job.groups)}")
        names: list[str] = glob.filter([*job.groups[key], *files.choices(key)])
        return names
    if not parsed.is_discrete_sweep():
        raise HydraException("interval() has no list of values; use range(start,stop,step) or choice(…)")
    if not (job.is_text(key) or job.is_group(key)):
        return list(parsed.sweep_string_iterator())
    # Texts are taken as they are written, so quotes end here.
    return [item.text if isinstance(item, QuotedString) else str(item) for item in parsed.sweep_iterator()]
