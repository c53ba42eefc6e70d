"""Puts YAML groups and ``key=value`` overrides together, checks everything, and reports all mistakes at once.

::

    shipped YAML ─┐
    user's YAML ──┼─ Hydra ─▶ mapping ──▶ dataclasses of the schema ──▶ Options.problems()
    overrides ────┘
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import Container, DictConfig, Node, OmegaConf
from omegaconf._utils import get_omega_conf_dumper
from omegaconf.errors import OmegaConfBaseException

from lst.configs.comparison_schema import ComparisonConfig
from lst.configs.reads import Reads, reads_of
from lst.configs.reproduce_schema import ReproduceConfig
from lst.configs.scaling_schema import ScalingConfig
from lst.configs.schema import Config
from lst.configs.synthetic_schema import SyntheticConfig
from lst.configs.user_files import DIR_FLAG, NAME_FLAG, NO_CODE, UserFiles, is_target, show_to_hydra, text_problems
from lst.configs.voice_schema import VoiceConfig
from lst.errors import ProblemsError, UserError, nearest, raise_problems
from lst.options import Option, Options, list_options
from lst.storage import listed_places

# Names that other tools give to options of this one.
HABITS = {
    "accumulate_grad_batches": "train.batch_patches",
    "b": "train.rows",
    "batch_size": "train.rows",
    "bs": "train.rows",
    "d": "data_dir",
    "device": "train.accelerator",
    "dropout": "model.embedding_dropout",
    "epochs": "train.max_steps",
    "gpus": "train.devices",
    "grad_clip": "train.clip_norm",
    "gradient_accumulation_steps": "train.batch_patches",
    "gradient_clip_val": "train.clip_norm",
    "i": "corpus",
    "input": "corpus",
    "j": "num_workers",
    "lang": "data.language",
    "lr": "train.learning_rate",
    "max_grad_norm": "train.clip_norm",
    "max_tokens": "generate.max_new_tokens",
    "n": "name",
    "num_epochs": "train.max_steps",
    "num_gpus": "train.devices",
    "num_train_epochs": "train.max_steps",
    "o": "run_dir",
    "output": "run_dir",
    "output_dir": "run_dir",
    "prompt": "generate.text",
    "s": "seed",
    "save_steps": "train.checkpoint_every",
    "steps": "train.max_steps",
    "warmup": "train.warmup_steps",
    "workers": "num_workers",
}
ROOT_FILE = "config.yaml"
# Options whose values are lists of words; those that end in a point are named by the user.
WORD_LISTS = (
    *("arms.", "scale.arms.", "scale.sizes.", "scale.words"),
    *("law.prepare", "law.grids.", "law.repeated.", "lst.prepare", "lst.grids.", "h3.trainings."),
    *("h3_text.prepare", "h3_text.common", "h3_text.models."),
)
# Options whose values are numbers by name: KEY={a: 1} gives several, KEY.a=1 one.
ENTRIES = "dict[str, float]"
# Begins a value as Hydra takes it, and no choice of a file.
_FORCED = "++"
# A comma that stands in no inner brackets.
_COMMA_OF_LIST = re.compile(r",(?![^\[]*\])")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NEEDS_MULTIRUN = "several values need one run each: add -m (--multirun)"

ConfigT = TypeVar("ConfigT", bound=Options)


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

    # cached_property writes to the instance's dictionary, which frozen dataclasses allow.
    @cached_property
    def options(self) -> dict[str, Option]:
        """Every option by its dotted key."""
        return {option.key: option for option in list_options(self.schema())}

    @cached_property
    def _structure(self) -> DictConfig:
        """The schema as OmegaConf takes it; it stays as it is."""
        structure: DictConfig = OmegaConf.structured(self.schema)
        return structure

    @cached_property
    def _shipped(self) -> dict[tuple[str, ...], DictConfig]:
        """Compositions of shipped files alone, by name and choices."""
        return {}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Shipped choices of each group of YAML files, such as ``{"patching": ["aligned", "curriculum", …]}``."""
        found: dict[str, list[str]] = {}
        for folder in resources.files(self.module).iterdir():
            if folder.is_dir():
                files = [file.name for file in folder.iterdir() if file.name.endswith(".yaml")]
                # A folder with a root file of its own is another job.
                if files and ROOT_FILE not in files:
                    found[folder.name] = sorted(Path(name).stem for name in files)
        return dict(sorted(found.items()))

    def is_group(self, key: str) -> bool:
        """Whether ``key=`` chooses a file; a group and an option may share a name."""
        return key in self.groups and key not in self.options

    def is_text(self, key: str) -> bool:
        """Whether the values of ``key=`` are taken as they are written: they never pass through Hydra's grammar."""
        return key in self.options and self.options[key].is_text

    def is_path_list(self, key: str) -> bool:
        """Whether every word ``key=PATH`` adds a path, taken as it is written."""
        return key in self.options and self.options[key].is_path_list

    def user_files(self, words: Sequence[str]) -> UserFiles:
        """The user's YAML that ``--config-dir=`` among the words gives."""
        folder = _last_flag(words, DIR_FLAG)
        return UserFiles(None if folder is None else Path(folder).expanduser(), list(self.options))

    def build(self, words: Sequence[str], reads: Reads | None = None) -> ConfigT:
        """The configuration of a command.

        Args:
            words: ``key=value`` each; a group's name chooses a file of that group (``patching=static``,
                ``model=/path/mine.yaml``). ``--config-dir=DIR`` and ``--config-name=NAME`` stand among them.
            reads: the command's; its words that have no effect are refused. Without, all are taken.

        Raises:
            UserError: ``ProblemsError`` lists every unknown key (with the nearest valid one), unknown choice, value of
                the wrong type, impossible value, and option that the command does not read.
        """
        files = self.user_files(words)
        overrides, texts, problems = self._sorted_words(words, files)
        name = (_last_flag(words, NAME_FLAG) or "config").removesuffix(".yaml")
        shipped = name == ROOT_FILE.removesuffix(".yaml")
        if not shipped and files.find(name) is None:
            files.problems.append(f"{NAME_FLAG}{name}: there is no {name}.yaml in --config-dir={files.folder or ''}")
            name = "config"
        built: ConfigT = OmegaConf.to_object(self._structure)  # type: ignore[assignment]
        composed = self._compose(name, overrides, files, problems)
        problems += files.problems
        if not files.problems:
            problems += _merge(built, self._structure, composed, "")
        for key, value in texts.items():
            section, _, last = key.rpartition(".")
            setattr(attrgetter(section)(built) if section else built, last, None if value == "null" else value)
        try:
            built.settle({word.partition("=")[0] for word in words} | files.given)
        except UserError as error:
            problems += error.problems if isinstance(error, ProblemsError) else [str(error)]
        # What is missing because of a mistake must not look like a second mistake.
        problems += built.limit_problems() if problems else built.problems()
        if reads is not None:
            problems += [wrong for word in words if (wrong := reads.unread(word, self.options))]
            problems += [] if problems else self._words_without_effect(words, reads, built)
        command = self.command if reads is None else reads.command
        raise_problems("configuration", problems, f"See lst {command} --help for all options.")
        return built

    def _sorted_words(self, words: Sequence[str], files: UserFiles) -> tuple[list[str], dict[str, Any], list[str]]:
        """Overrides as Hydra takes them, values that are text, and problems; faulty words are only in the problems."""
        overrides: list[str] = []
        texts: dict[str, Any] = {}
        problems: list[str] = []
        for word in words:
            if word.startswith((DIR_FLAG, NAME_FLAG)):
                continue
            key, _, value = word.partition("=")
            if found := self._word_problems(word, files):
                problems += found
            elif self.is_group(key):
                overrides.append(f"{key}={files.name_file(key, value) if is_file_name(value) else value}")
            elif self.is_text(key):
                texts[key] = value
            elif self.is_path_list(key):
                texts.setdefault(key, []).extend(listed_places(value))
            else:
                overrides.append(_forced(key, value))
        return overrides, texts, problems

    def _word_problems(self, word: str, files: UserFiles) -> list[str]:
        key, equals, value = word.partition("=")
        if not equals:
            name, _, given = word.partition(":")
            is_known = name in self.options or self.is_group(name)
            return [f"{word!r} is not of the form key=value" + (f": write {name}={given or '…'}" if is_known else "")]
        if self.is_group(key):
            return _choice_problems(key, value, self.groups[key], files)
        is_arm = any(key.startswith(place) and place.rstrip(".") in self.options for place in WORD_LISTS)
        is_entry = key.rpartition(".")[0] in self.options and self.options[key.rpartition(".")[0]].kind == ENTRIES
        if key not in self.options and not is_arm and not is_entry:
            meant = HABITS.get(key.rpartition(".")[2])
            hint = f" (did you mean {meant}?)" if meant in self.options else nearest(key, [*self.options, *self.groups])
            return [f"{key}: {NO_CODE}"] if is_target(key) else [f"unknown option {key!r}{hint}"]
        if self.is_text(key):
            return [] if self.options[key].limits.is_prose else text_problems(key, value)
        if self.is_path_list(key):
            return text_problems(key, value)
        if is_arm or (key in self.options and self.options[key].kind.startswith("list[")):
            example = ["patching=static"] if is_arm else self.options[key].value
            found = _list_problems(key, value, example)
        elif key in self.options and self.options[key].kind == ENTRIES:
            found = _entry_problems(key, value)
        else:
            found = []
        return found or text_problems(key, value) or _grammar_problems(key, value)

    def _words_without_effect(self, words: Sequence[str], reads: Reads, built: ConfigT) -> list[str]:
        """Words that the command reads with other options only; those of quickstart count if one of the arms does."""
        arms: dict[str, list[str]] = getattr(built, "arms", {}) if reads.has("arms") else {}
        found = [wrong for own in arms.values() for word in own if (wrong := _ARM_READS.unread(word, self.options))]
        configs: list[Any] = [built, *(self.build([*words, *own]) for own in arms.values())]
        # Arms choose model and patching themselves.
        by_arm = configs[1:] or configs
        for word in words:
            is_of_arms = word.startswith(("model.", "patching."))
            if wrong := reads.without_effect(word, self.options, by_arm if is_of_arms else configs):
                found.append(wrong)
        for name, config in zip(arms, configs[1:], strict=True):
            own_wrong = (_ARM_READS.without_effect(word, self.options, [config]) for word in arms[name])
            found += [f"arms.{name}: {wrong}" for wrong in own_wrong if wrong]
        return found

    def _compose(self, name: str, overrides: list[str], files: UserFiles, problems: list[str]) -> dict[str, Any]:
        """The values of all files, and of the overrides upon them."""
        values = [word for word in overrides if word.startswith(_FORCED)]
        choices = [word for word in overrides if not word.startswith(_FORCED)]
        try:
            composed = self._files_composed(name, choices, files)
            ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(values), composed)
            found: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
            # Several places, as YAML lists them; on the command line they are a text.
            if isinstance(places := found.get("corpus"), list):
                found["corpus"] = f"[{','.join(map(str, places))}]"
            return found
        except (HydraException, OmegaConfBaseException) as error:
            reason = str(error) or str(error.__cause__)
            # Where a file was refused, Hydra misses what would have been in it.
            if not files.problems:
                problems.append(reason.splitlines()[0])
            return {}

    def _files_composed(self, name: str, choices: list[str], files: UserFiles) -> DictConfig:
        """What the chosen files say. Shipped files stay as they are: they are read once."""
        is_shipped = files.folder is None and not files.named
        chosen = (name, *choices)
        if is_shipped and chosen in self._shipped:
            return deepcopy(self._shipped[chosen])
        show_to_hydra(files)
        with initialize_config_module(self.module, version_base="1.3"):
            composed = compose(name, choices)
        if is_shipped:
            self._shipped[chosen] = deepcopy(composed)
        return composed


# An arm of quickstart is a training; its name and its folder are quickstart's to set.
_OF_QUICKSTART = {"name": "NAME gives it", "run_dir": "all arms share it", "data_dir": "all arms share it"}
_ARM_READS = Reads(
    "quickstart arms.NAME",
    reads_of("train").places - set(_OF_QUICKSTART),
    {**reads_of("train").instead, **_OF_QUICKSTART},
)

MAIN = Job("lst.configs", Config)
SYNTHETIC = Job("lst.configs.synthetic", SyntheticConfig, "synthetic")
SCALING = Job("lst.configs.scaling", ScalingConfig, "scale fit")
COMPARISON = Job("lst.configs.comparison", ComparisonConfig, "compare")
VOICE = Job("lst.configs.voice", VoiceConfig, "voice train")
REPRODUCE = Job("lst.configs.reproduce", ReproduceConfig, "reproduce law")


def build_config(words: Sequence[str]) -> Config:
    """The main job's configuration; see ``Job.build``."""
    return MAIN.build(words)


def is_file_name(value: str) -> bool:
    """Whether the value of a group is a path of a file, not one of the group's choices."""
    return value.endswith((".yaml", ".yml")) or "/" in value


def _last_flag(words: Sequence[str], flag: str) -> str | None:
    values = [word.removeprefix(flag) for word in words if word.startswith(flag)]
    return values[-1] if values else None


def _forced(key: str, value: str) -> str:
    """An override as Hydra takes it: options may be absent from the YAML."""
    if key.startswith(WORD_LISTS):
        # Options within a list: Hydra reads an equals sign only between quotes.
        items = [item.strip() for item in _COMMA_OF_LIST.split(value.strip()[1:-1]) if item.strip()]
        if all(_QUOTED.fullmatch(item) or not {"'", '"'} & set(item) for item in items):
            value = "[" + ",".join(item if _QUOTED.fullmatch(item) else f"'{item}'" for item in items) + "]"
    return f"{_FORCED}{key}={value}"


def _choice_problems(key: str, value: str, shipped: Sequence[str], files: UserFiles) -> list[str]:
    own = files.choices(key)
    if value in shipped and value in own:
        return [f"{key}={value}: {files.folder} has a file of that name too, and so has LST; rename yours"]
    if value in shipped or value in own:
        return []
    if text_problems(key, value):
        return text_problems(key, value)
    if "," in value:
        return [f"{key}={value}: {_NEEDS_MULTIRUN}"]
    allowed = [*shipped, *own]
    if is_file_name(value):
        return []
    return [f"{key}={value}: allowed are {', '.join(allowed)}{nearest(value, allowed)}"]


def _grammar_problems(key: str, value: str) -> list[str]:
    """What is wrong with a value in Hydra's grammar."""
    try:
        parsed = OverridesParser.create().parse_override(_forced(key, value))
    except HydraException as error:
        return [f"{key}={value}: {str(error).splitlines()[0]}"]
    return [f"{key}={value}: {_NEEDS_MULTIRUN}"] if parsed.is_sweep_override() else []


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


def _entry_problems(key: str, value: str) -> list[str]:
    """What is wrong with numbers by name. A shell takes braces for its own, unless they stand between quotes."""
    if re.fullmatch(r"\s*\{.*\}\s*", value):
        return []
    return [f"{key}={value}: numbers by name are needed: write {key}.NAME=2, or '{key}={{A: 2, B: 1}}' in quotes"]


def _merge(built: Any, structure: DictConfig, values: dict[str, Any], prefix: str) -> list[str]:
    """Sets each value on its own, so that every wrong type is found."""
    problems = []
    for key, value in values.items():
        if isinstance(value, dict) and is_dataclass(OmegaConf.get_type(structure, key)):
            problems += _merge(getattr(built, key), structure[key], value, f"{prefix}{key}.")
            continue
        try:
            setattr(built, key, _converted(structure, key, value))
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            problems.append(f"{prefix}{key}={value}: {reason}")
    return problems


def _converted(structure: DictConfig, key: str, value: Any) -> Any:
    """A value as the option takes it; raises OmegaConf's error for one of another type."""
    with contextlib.suppress(OmegaConfBaseException):
        node = deepcopy(structure._get_node(key))
        if isinstance(node, Node):
            node._set_value(value)
            if not node._is_missing():
                return OmegaConf.to_object(node) if isinstance(node, Container) else node._value()
    # A copy of the whole section takes a hundred times as long, but says best what is wrong.
    section = deepcopy(structure)
    section[key] = value
    return getattr(OmegaConf.to_object(section), key)


def to_yaml(config: Options) -> str:
    """The resolved configuration as YAML."""
    # Not through OmegaConf, which fails on a prompt with half an interpolation in it.
    dumper = get_omega_conf_dumper()
    return str(yaml.dump(asdict(config), default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=dumper))
