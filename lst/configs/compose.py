"""Puts YAML groups and ``key=value`` overrides together, checks everything, and reports all mistakes at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lst.configs.schema import Config, describe_fields
from lst.errors import UserError, raise_problems


def groups() -> dict[str, list[str]]:
    """Choices of each group of YAML files, such as ``{"patching": ["aligned", "curriculum", …]}``."""
    found: dict[str, list[str]] = {}
    for folder in resources.files("lst.configs").iterdir():
        if folder.is_dir():
            names = sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".yaml"))
            if names:
                found[folder.name] = names
    return dict(sorted(found.items()))


def known_keys() -> list[str]:
    """Every option, dotted."""
    return [key for key, _, _ in describe_fields(Config())]


def build_config(overrides: Sequence[str]) -> Config:
    """The configuration of a command.

    Args:
        overrides: ``key=value`` each; a group's name chooses a file of that group (``patching=static``).

    Raises:
        UserError: ``ProblemsError`` lists every unknown key (with the nearest valid one), unknown choice, value of the
            wrong type, and impossible value.
    """
    raise_problems("configuration", _override_problems(overrides), "See lst COMMAND --help for all options.")
    # Paths, names and prompts may hold any sign, so they never pass through Hydra's grammar.
    texts = [override for override in overrides if override.partition("=")[0] in _text_keys()]
    try:
        with initialize_config_module("lst.configs", version_base="1.3"):
            composed = compose("config", [_forced(override) for override in overrides if override not in texts])
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"configuration: {str(error).splitlines()[0]}") from None
    plain: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    config = OmegaConf.structured(Config)
    problems = _merge(config, plain, "")
    raise_problems("configuration", problems, "See lst COMMAND --help for all options.")
    built: Config = OmegaConf.to_object(config)  # type: ignore[assignment]
    for override in texts:
        key, _, value = override.partition("=")
        section, _, name = key.rpartition(".")
        setattr(getattr(built, section) if section else built, name, None if value == "null" else value)
    raise_problems("configuration", built.problems(), "See lst COMMAND --help for all options.")
    return built


def _forced(override: str) -> str:
    """An override as Hydra takes it: options may be absent from the YAML."""
    key, _, value = override.partition("=")
    return override if key in groups() and key not in known_keys() else f"++{key}={value}"


def _text_keys() -> set[str]:
    """Options whose values are text."""
    found = {key for key, default, _ in describe_fields(Config()) if isinstance(default, str)}
    return found | {"corpus", "text", "generate.text", "generate.audio"}


def _override_problems(overrides: Sequence[str]) -> list[str]:
    choices, keys = groups(), known_keys()
    allowed = [*keys, *choices]
    problems = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            problems.append(f"{override!r} is not of the form key=value")
        elif key in choices and key not in keys:
            if value not in choices[key]:
                problems.append(f"{key}={value}: allowed are {', '.join(choices[key])}{_nearest(value, choices[key])}")
        elif key not in keys and not key.startswith("arms."):
            problems.append(f"unknown option {key!r}{_nearest(key, allowed)}")
    return problems


def _nearest(word: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    if not close:
        # A bare last part (learning_rate) stands for its dotted key.
        close = [key for key in allowed if key.rpartition(".")[2] == word][:1]
    return f" (did you mean {close[0]}?)" if close else ""


def _merge(config: Any, values: dict[str, Any], prefix: str) -> list[str]:
    """Sets each value on its own, so that every wrong type is found."""
    problems = []
    for key, value in values.items():
        if isinstance(value, dict) and is_dataclass(OmegaConf.get_type(config, key)):
            problems += _merge(config[key], value, f"{prefix}{key}.")
            continue
        try:
            config[key] = value
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            problems.append(f"{prefix}{key}={value}: {reason}")
    return problems


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))
