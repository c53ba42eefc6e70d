"""The documentation's site: its commands parse, its links resolve, and every page is in the navigation."""

from __future__ import annotations

import importlib.util
import posixpath
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from documentation import anchors_of, commands_of, prose_of
from repository import ROOT

from lst.cli import command_help
from lst.commands import COMMANDS, job_of
from lst.configs.reads import reads_of

DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
WRITTEN = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
# Flags that take a value of their own.
FLAGS_WITH_VALUES = ("--cfg", "--config-dir", "--config-name")


def reference() -> ModuleType:
    """The module that makes the generated pages."""
    spec = importlib.util.spec_from_file_location("docs_reference", DOCS / "_generate" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED: dict[str, str] = reference().pages()
PAGES = {**WRITTEN, **GENERATED}


def lst_commands() -> list[tuple[str, tuple[str, ...]]]:
    """(page, words) of every ``lst`` command in a ``bash`` block, each once."""
    found = {tuple(words): name for name in WRITTEN for words in commands_of(DOCS / name) if words[0] == "lst"}
    return [(name, words) for words, name in found.items()]


@pytest.mark.parametrize(("page", "words"), lst_commands(), ids=lambda value: " ".join(value))
def test_commands_parse(page: str, words: tuple[str, ...]) -> None:
    """The command exists and reads its options, which have values of their types; no file is opened."""
    rest = list(words[1:])
    command = rest.pop(0)
    if command not in COMMANDS:
        command = f"{command} {rest.pop(0)}"
    assert command in COMMANDS, page
    if "--help" in rest:
        assert command_help(command)
        return
    overrides = [word for before, word in pairwise(words) if "=" in word and before not in FLAGS_WITH_VALUES]
    overrides = [word for word in overrides if not word.startswith("-")]
    assert job_of(command).build(overrides, reads_of(command, "--dry-run" in rest)) is not None


def links(text: str) -> list[str]:
    return re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose_of(text))


def test_shells_leave_the_words_of_commands_as_they_are() -> None:
    """Braces with a comma, outside of quotes, become several words in bash."""
    for name, page in PAGES.items():
        for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL):
            assert not re.search(r"\{[^{}\n]*,[^{}\n]*\}", re.sub(r"'[^'\n]*'|\"[^\"\n]*\"", "", block)), name


@pytest.mark.parametrize("name", PAGES)
def test_links_resolve(name: str) -> None:
    for link in links(PAGES[name]):
        target, _, anchor = link.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) if target else name
        assert place in PAGES or (DOCS / place).is_file(), f"{name} links to {link}"
        if anchor:
            assert anchor in anchors_of(PAGES[place]), f"{name} links to {link}"


def entries(nav: Any) -> Iterator[str]:
    """Pages of the navigation, in order."""
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(item)


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(entries(SITE["nav"])) == sorted(PAGES)


def test_the_site_needs_no_network() -> None:
    assert SITE["theme"]["font"] is False
    assert not [name for name in ("extra_javascript",) if name in SITE]
    styles = [(DOCS / name).read_text(encoding="utf-8") for name in SITE["extra_css"]]
    assert not [text for text in styles if "url(" in text or "@import" in text]
    assert not re.findall(r"!\[[^\]]*\]\(https?://", "".join(PAGES.values()))


def test_every_option_and_command_is_on_its_page() -> None:
    options, commands = GENERATED["reference/options.md"], GENERATED["reference/commands.md"]
    for name in COMMANDS:
        assert f"| `lst {name}` |" in commands
        for key in job_of(name).options:
            assert f"| `{key}` |" in options


def test_every_public_module_is_on_a_page_of_the_python_api() -> None:
    documented = set(re.findall(r"^::: (\S+)$", "\n".join(GENERATED.values()), re.MULTILINE))
    rooms = {module.split(".")[1] for module in documented}
    assert rooms == set(reference().ROOMS)
    for path in (ROOT / "lst" / "model").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        assert module in documented or not path.read_text(encoding="utf-8").strip()


def test_docs_are_an_extra_of_their_own() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r"^(.*) = .*mkdocs", project, re.MULTILINE) == ["docs"]


def test_extension_pages_name_files_that_exist() -> None:
    for name, text in WRITTEN.items():
        if not name.startswith("extend/"):
            continue
        new = set(re.findall(r"^## \d\. .*`(lst/[\w/.]+)`$", text, re.MULTILINE))
        assert len(new) <= 3, name
        for place in set(re.findall(r"`((?:lst|tests)/[\w/]+\.py)`", text)) - {"lst/model/NEW.py"}:
            is_new = f'`{place}`\n\n```python\n"""' in text or "NEW" in place
            assert is_new or Path(ROOT / place).is_file(), f"{name}: {place}"
