"""Puts YAML groups and ``key=value`` overrides together, checks everything, and reports all mistakes at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lst.configs.schema import Config, describe_fields
from lst.configs.synthetic_schema import SyntheticConfig
from lst.errors import UserError, raise_problems

ROOT_FILE = "config.yaml"
# A comma that stands in no inner brackets.
_COMMA_OF_LIST = re.compile(r",(?![^\[]*\])")


class CheckedConfig(Protocol):
    """A configuration that says what is wrong with it."""

    def problems(self) -> list[str]: ...


ConfigT = TypeVar("ConfigT", bound=CheckedConfig)


@dataclass(frozen=True)
class Job(Generic[ConfigT]):
    """What commands of one kind are configured by.

    Attributes:
        module: the package whose ``config.yaml`` is the default, and whose folders are the groups.
        schema: the dataclass of all options.
        command: which commands' ``--help`` lists them.
    """

    module: str
    schema: type[ConfigT]
    command: str = "COMMAND"

    def groups(self) -> dict[str, list[str]]:
        """Choices of each group of YAML files, such as ``{"patching": ["aligned", "curriculum", …]}``."""
        found: dict[str, list[str]] = {}
        for folder in resources.files(self.module).iterdir():
            if folder.is_dir():
                files = [file.name for file in folder.iterdir() if file.name.endswith(".yaml")]
                # A folder with a root file of its own is another job.
                if files and ROOT_FILE not in files:
                    found[folder.name] = sorted(Path(name).stem for name in files)
        return dict(sorted(found.items()))

    def known_keys(self) -> list[str]:
        """Every option, dotted."""
        return [key for key, _, _ in describe_fields(self.schema())]

    def build(self, overrides: Sequence[str]) -> ConfigT:
        """The configuration of a command.

        Args:
            overrides: ``key=value`` each; a group's name chooses a file of that group (``patching=static``).

        Raises:
            UserError: ``ProblemsError`` lists every unknown key (with the nearest valid one), unknown choice, value of
                the wrong type, and impossible value.
        """
        remedy = f"See lst {self.command} --help for all options."
        raise_problems("configuration", self._override_problems(overrides), remedy)
        # Paths, names and prompts may hold any sign, so they never pass through Hydra's grammar.
        text_keys = self._text_keys()
        texts = [override for override in overrides if override.partition("=")[0] in text_keys]
        try:
            with initialize_config_module(self.module, version_base="1.3"):
                composed = compose(
                    "config", [self._forced(override) for override in overrides if override not in texts]
                )
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"configuration: {str(error).splitlines()[0]}") from None
        plain: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
        config = OmegaConf.structured(self.schema)
        raise_problems("configuration", _merge(config, plain, ""), remedy)
        built: ConfigT = OmegaConf.to_object(config)  # type: ignore[assignment]
        for override in texts:
            key, _, value = override.partition("=")
            section, _, name = key.rpartition(".")
            owner = attrgetter(section)(built) if section else built
            setattr(owner, name, None if value == "null" else value)
        raise_problems("configuration", built.problems(), remedy)
        return built

    def _forced(self, override: str) -> str:
        """An override as Hydra takes it: options may be absent from the YAML."""
        key, _, value = override.partition("=")
        if key in self.groups() and key not in self.known_keys():
            return override
        if key.startswith("arms.") and not {"'", '"'} & set(value):
            # Options within a list: Hydra reads an equals sign only between quotes.
            items = _COMMA_OF_LIST.split(value.strip()[1:-1])
            value = "[" + ",".join(f"'{item.strip()}'" for item in items if item.strip()) + "]"
        return f"++{key}={value}"

    def _text_keys(self) -> set[str]:
        """Options whose values are text."""
        found = {key for key, default, _ in describe_fields(self.schema()) if isinstance(default, str)}
        paths = {"tokenizer.weights", "tokenizer.codebook", "tokenizer.text_model", "data_dir", "check.json", "out"}
        return found | paths | {"corpus", "text", "address", "part", "generate.text", "generate.audio"}

    def _list_defaults(self) -> dict[str, list[Any]]:
        """Options whose values are lists, and what they are without a word."""
        return {key: default for key, default, _ in describe_fields(self.schema()) if isinstance(default, list)}

    def _override_problems(self, overrides: Sequence[str]) -> list[str]:
        choices, keys, lists = self.groups(), self.known_keys(), self._list_defaults()
        allowed = [*keys, *choices]
        problems = []
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                problems.append(f"{override!r} is not of the form key=value")
            elif key in choices and key not in keys:
                if value not in choices[key]:
                    nearest = _nearest(value, choices[key])
                    problems.append(f"{key}={value}: allowed are {', '.join(choices[key])}{nearest}")
            elif key not in keys and not (key.startswith("arms.") and "arms" in keys):
                problems.append(f"unknown option {key!r}{_nearest(key, allowed)}")
            elif key in lists or key.startswith("arms."):
                problems += _list_problems(key, value, lists.get(key, ["patching=static"]))
        return problems


MAIN = Job("lst.configs", Config)
SYNTHETIC = Job("lst.configs.synthetic", SyntheticConfig, "synthetic")


def groups() -> dict[str, list[str]]:
    """The main job's groups."""
    return MAIN.groups()


def known_keys() -> list[str]:
    """The main job's options, dotted."""
    return MAIN.known_keys()


def build_config(overrides: Sequence[str]) -> Config:
    """The main job's configuration; see ``Job.build``."""
    return MAIN.build(overrides)


def _nearest(word: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    if not close:
        # A bare last part (learning_rate) stands for its dotted key.
        close = [key for key in allowed if key.rpartition(".")[2] == word][:1]
    return f" (did you mean {close[0]}?)" if close else ""


def _list_problems(key: str, value: str, example: Sequence[Any]) -> list[str]:
    """What is wrong with the brackets of a list, with the list that was probably meant."""
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        return []
    # A single bracket was forgotten at the other end; pairs are of the items.
    if text.count("[") > text.count("]"):
        text = text.removeprefix("[")
    elif text.count("[") < text.count("]"):
        text = text.removesuffix("]")
    items = text.strip()
    if items in ("", "null") or items.startswith("{"):
        return [f"{key}={value}: a list is needed, such as {key}=[{','.join(map(str, example))}]"]
    return [f"{key}={value}: a list is needed: write {key}=[{items}]"]


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


def to_yaml(config: CheckedConfig) -> str:
    """The resolved configuration as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))
