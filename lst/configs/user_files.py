"""A user's own YAML: found in ``--config-dir`` or named by its path, and checked before Hydra reads it.

Hydra asks ``UserSource`` for a file by its place in the configuration, such as ``model/mine``. Every file that it asks
for is checked: unknown keys, ``_target_``, ``${…}`` and ``???`` are refused, so that a configuration calls no code and
reads no environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from lst.errors import nearest

Names = list[str]
SCHEME = "lst-user"
NO_CODE = "configurations call no code; remove the key"
DIR_FLAG, NAME_FLAG = "--config-dir=", "--config-name="
# ${…}, and what Hydra's grammar makes of $\{…}.
_INTERPOLATION = re.compile(r"\$\\*\{")


class UserFiles:
    """The YAML of one configuration that is not shipped.

    Args:
        folder: ``--config-dir``, whose folders are groups; None without.
        known: every option, dotted.

    Attributes:
        named: files that an override names by their path, by their place in the configuration.
        problems: what was wrong with the files that were read, one line each.
        given: options that the files set.
    """

    def __init__(self, folder: Path | None, known: Sequence[str]) -> None:
        self.folder, self.known = folder, known
        self.named: dict[str, Path] = {}
        self.problems: list[str] = []
        self.given: set[str] = set()
        if folder is not None and not folder.is_dir():
            self.problems.append(f"{DIR_FLAG}{folder}: there is no such folder")

    def choices(self, group: str) -> list[str]:
        """Names of the group's files in the folder."""
        if self.folder is None:
            return []
        return sorted(path.stem for path in (self.folder / group).glob("*.yaml"))

    def name_file(self, group: str, value: str) -> str:
        """Adds the file at the path ``value`` to a group and returns the choice that stands for it."""
        path = Path(os.path.abspath(Path(value).expanduser()))
        choice = f"{re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}__{len(self.named)}"
        if path.is_file():
            self.named[f"{group}/{choice}"] = path
        else:
            self.problems.append(f"{group}={value}: there is no such file")
        return choice

    def find(self, place: str) -> Path | None:
        """The file of a place such as ``model/mine``; None where there is none."""
        place = place.removesuffix(".yaml")
        if place in self.named or self.folder is None:
            return self.named.get(place)
        path = self.folder / f"{place}.yaml"
        return path if path.is_file() else None

    def read(self, place: str, path: Path) -> tuple[Any, dict[str, str | None]]:
        """The file's content and header; both empty where something is wrong with it, which ``problems`` then says."""
        try:
            text = path.read_text(encoding="utf-8")
            header = ConfigSource._get_header_dict(text)
            found = self._content_problems(yaml.safe_load(text), place, header["package"])
            config = OmegaConf.create("{}" if found else text)
        except yaml.YAMLError as error:
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            found = [f"line {line}: {getattr(error, 'problem', None) or 'no YAML'}"]
        except (OSError, ValueError) as error:
            found = [f"cannot be read: {str(error).splitlines()[0]}"]
        if not found:
            return config, header
        self.problems += [f"{path}: {problem}" for problem in found]
        return OmegaConf.create({}), {"package": None}

    def _content_problems(self, content: Any, place: str, package: str | None) -> list[str]:
        if content is None:
            return []
        if not isinstance(content, dict):
            return ["must be a mapping of options, such as max_steps: 100"]
        defaults = content.pop("defaults", None)
        found = value_problems("defaults", defaults)
        prefix = ""
        if package != "_global_":
            parts = place.split("/")[:-1] if package in (None, "_group_") else [package or ""]
            prefix = "".join(f"{part}." for part in parts)
        if prefix and not any(key.startswith(prefix) for key in self.known):
            return [*found, "there are no such options: write '# @package _global_' on its first line"]
        return found + self._key_problems(content, prefix)

    def _key_problems(self, content: dict[Any, Any], prefix: str) -> list[str]:
        found = []
        for key, value in content.items():
            full = f"{prefix}{key}"
            is_section = any(known.startswith(f"{full}.") for known in self.known)
            if is_target(str(key)):
                found.append(f"{full}: {NO_CODE}")
            elif "." in str(key) or not (is_section or full in self.known):
                here = {
                    known.removeprefix(prefix).partition(".")[0] for known in self.known if known.startswith(prefix)
                }
                found.append(f"unknown key {full!r}{nearest(str(key), sorted(here))}")
            elif is_section and isinstance(value, dict):
                found += self._key_problems(value, f"{full}.")
            else:
                self.given.add(full)
                found += value_problems(full, value)
        return found


class UserSource(ConfigSource):
    """How Hydra reads ``UserFiles``."""

    files: ClassVar[UserFiles]

    @staticmethod
    def scheme() -> str:
        """What Hydra finds this source by."""
        return SCHEME

    def available(self) -> bool:
        """Whether there is something to read."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether a group of this name has files."""
        folder = self.files.folder
        return (folder is not None and (folder / config_path).is_dir()) or any(
            place.startswith(f"{config_path}/") for place in self.files.named
        )

    def is_config(self, config_path: str) -> bool:
        """Whether there is a file at this place."""
        return self.files.find(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> Names:
        """Nothing: Hydra lists choices in its own error messages only, and those are checked before."""
        return []

    def load_config(self, config_path: str) -> ConfigResult:
        """The file at a place, checked."""
        path = self.files.find(config_path)
        assert path is not None
        config, header = self.files.read(config_path.removesuffix(".yaml"), path)
        return ConfigResult(self.provider, f"{SCHEME}://{path}", config, header)


class UserSearchPath(SearchPathPlugin):
    """Lets Hydra look for files in ``UserSource`` after the shipped ones."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Adds the source."""
        search_path.append("lst", f"{SCHEME}://files")


def show_to_hydra(files: UserFiles) -> None:
    """Lets the next composition find these files."""
    UserSource.files = files
    Plugins.instance().register(UserSource)
    Plugins.instance().register(UserSearchPath)


def is_target(key: str) -> bool:
    """Whether a key, dotted or not, would make Hydra call code, as ``_target_`` does."""
    return any(len(part) > 2 and part.startswith("_") and part.endswith("_") for part in key.split("."))


def value_problems(key: str, value: Any) -> list[str]:
    """What is wrong with a value, or the values in it, that is the same for every option."""
    if isinstance(value, dict):
        targets = [f"{key}.{name}: {NO_CODE}" for name in value if is_target(str(name))]
        return targets + value_problems(key, [*value, *value.values()])
    if isinstance(value, list):
        return list(dict.fromkeys(problem for item in value for problem in value_problems(key, item)))
    return text_problems(key, value) if isinstance(value, str) else []


def text_problems(key: str, value: str) -> list[str]:
    """One line where a text refers to something else or marks a missing value."""
    if _INTERPOLATION.search(value):
        return [f"{key}: ${{…}} is not resolved here; write the value itself"]
    return [f"{key}: ??? is no value; write one"] if value.strip("'\" ") == "???" else []
