"""Reference pages made from the code while the site is built: commands, options, file formats, Python API.

MkDocs calls the two functions named ``on_…``. ``pages`` needs no MkDocs, so tests can call it too.
"""

from __future__ import annotations

import ast
import re
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lst
from lst.cli import COMMANDS, usage
from lst.configs.compose import COMPARISON, MAIN, REPRODUCE, SCALING, SYNTHETIC, VOICE
from lst.configs.reads import READS
from lst.options import Option, Options, list_options

PACKAGE = Path(lst.__file__).parent
# The copy of the sources that mkdocstrings reads.
SOURCES = Path(__file__).parents[2] / "build" / "docs"
# Rooms of the Python API, in the order of the data flow.
ROOMS = ("tokenizers", "data", "model", "kernels", "runs", "voice", "evaluation", "api")
ROOMS += ("storage", "parallel", "configs")
# A runnable example of a docstring: from a prompt to the next empty line or the end of the docstring.
EXAMPLE = re.compile(r'^( *)>>> .*(?:\n(?=\1)(?! *""").*\S.*)*', re.MULTILINE)
# Modules whose docstrings describe files, with the headings of the page.
FILE_FORMATS = {
    "A run's folder": "runs/folder.py",
    "Settings and metrics": "runs/formats.py",
    "Evaluations": "evaluation/results.py",
    "Ceilings and floors": "evaluation/ceilings_results.py",
    "Perplexities of text": "evaluation/perplexity.py",
    "Contamination": "evaluation/contamination.py",
    "Lists and differences of runs": "recipes/runs/formats.py",
    "Comparisons of runs": "recipes/compare/formats.py",
    "Spoken benchmarks": "evaluation/benchmark/formats.py",
    "Prepared data": "data/prepare/prepare.py",
    "Shards": "data/shards/files.py",
    "Index, receipts and lists": "data/shards/formats.py",
    "Samples of a shard": "data/shards/samples.py",
    "Records of samples": "data/utterance.py",
    "Locks": "storage/locks.py",
    "Vocabularies": "tokenizers/vocabulary.py",
    "Manifests": "data/corpora/manifest.py",
    "`.on_the_fly` files": "data/corpora/on_the_fly.py",
    "Units files": "tokenizers/units_file.py",
    "Encoders in units files": "tokenizers/frames.py",
    "Scores of units": "evaluation/unit_scores.py",
    "Model folders": "model/pretrained.py",
    "Hashes of model folders": "model/hashes.py",
    "Tokenizers in model folders": "runs/model_tokenizers.py",
    "Voices of mean spectra": "voice/vocoders/mean_spectra.py",
    "Trained voices": "voice/saved.py",
    "Phones and pitch of prepared speech": "recipes/voice/features.py",
    "Trainings of voices": "recipes/voice/formats.py",
    "Evaluations of voices": "recipes/voice/evaluate.py",
    "Continuations": "recipes/generate.py",
    "Unit models of entropy patching": "model/unit_model.py",
    "Fitted patching": "runs/fitted_patching.py",
    "Training checkpoints": "recipes/training/checkpoints.py",
    "The corpus card": "recipes/corpus_card/card.py",
    "Synthetic tasks": "recipes/synthetic/results.py",
    "Plans of scaling grids": "recipes/scaling/plan_file.py",
    "Points of scaling laws": "recipes/scaling/points.py",
    "Fits of scaling laws": "recipes/scaling/formats.py",
    "Reproductions": "recipes/reproduce/formats.py",
}


def on_startup(**_: object) -> None:
    """Copies the package to where mkdocstrings reads it, every folder with an ``__init__.py``.

    Some rooms of the package have none, and mkdocstrings skips such folders.
    """
    shutil.rmtree(SOURCES, ignore_errors=True)
    for path in PACKAGE.rglob("*.py"):
        copy = SOURCES / path.relative_to(PACKAGE.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # A line of two colons opens a diagram in docstrings; Markdown would show the colons, and take an example's
        # signs for quotations and links.
        text = path.read_text(encoding="utf-8").replace("\n::\n", "\n\n")
        copy.write_text(EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", text), encoding="utf-8")
        (copy.parent / "__init__.py").touch()


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages to those of the folder."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def pages() -> dict[str, str]:
    """Markdown of every generated page by its path below ``docs``."""
    return {
        "reference/commands.md": commands_page(),
        "reference/options.md": options_page(),
        "reference/files.md": files_page(),
        "reference/python/index.md": python_index(),
        **{f"reference/python/{room}.md": python_page(room) for room in ROOMS},
    }


def commands_page() -> str:
    """Every command: what it does and the sections of options that it reads."""
    rows = [
        f"| `lst {name}` | {command.does} | "
        f"{', '.join(section_link(section, name) for section in READS[name].sections)} |"
        for name, command in COMMANDS.items()
    ]
    table = "\n".join(["| command | does | options |", "|---|---|---|", *rows])
    intro = (
        "`lst COMMAND --help` lists the options that a command reads: those of these sections, some of them in part, "
        "and some of the [general options](options.md#general). An option that a command does not read is refused."
    )
    return f"# Commands\n\n{intro}\n\n{table}\n\n## `lst --help`\n\n```text\n{usage()}\n```\n"


def section_link(section: str, command: str) -> str:
    """Link to a section of the options page."""
    own = command.split()[0]
    anchor = f"{own}-{section}" if own in ("synthetic", "scale", "reproduce", "voice") else section
    return f"[{section}](options.md#{anchor})"


def options_page() -> str:
    """Every option of the schema, a table a section."""
    parts = [
        "# Options",
        "Write `key=value` after a command. Defaults are those of the default configuration. A group chooses a whole "
        "YAML file: `patching=static`. A mistyped key is refused with the nearest valid one.",
        "## Groups",
        groups_table(MAIN.groups),
    ]
    for section, rows in option_sections(MAIN.build([])).items():
        parts += [f"## {section or 'general'} {{ #{section or 'general'} }}", options_table(rows)]
    others = (("synthetic", SYNTHETIC), ("scale", SCALING), ("runs", COMPARISON), ("reproduce", REPRODUCE))
    others += (("voice", VOICE),)
    for command, job in others:
        title = "`lst runs` and `lst compare`" if job is COMPARISON else f"`lst {command}`"
        parts += [f"## Options of {title}", *([groups_table(job.groups)] if job.groups else [])]
        for section, rows in option_sections(job.build([])).items():
            name = section or "general"
            parts += [f"### {name} {{ #{command}-{name} }}", options_table(rows)]
    return "\n\n".join(parts) + "\n"


def groups_table(groups: Mapping[str, list[str]]) -> str:
    """The choices of each group of YAML files."""
    rows = [f"| `{name}=` | {', '.join(f'`{choice}`' for choice in choices)} |" for name, choices in groups.items()]
    return "\n".join(["| group | choices |", "|---|---|", *rows])


def option_sections(config: Options) -> dict[str, list[Option]]:
    """Every option by its first section; options without a section come first."""
    found: dict[str, list[Option]] = {"": []}
    for option in list_options(config):
        found.setdefault(option.key.partition(".")[0] if "." in option.key else "", []).append(option)
    return found


def options_table(options: list[Option]) -> str:
    """A table of options with their limits."""
    rows = [
        f"| `{option.key}` | `{shown(option.value)}` | {cell(option.limits.help_text)} | {cell(option.doc)} |"
        for option in options
    ]
    return "\n".join(["| option | default | allowed | what it does |", "|---|---|---|---|", *rows])


def shown(value: Any) -> str:
    """A default as a user would write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return ", ".join(value) or "{}"
    if isinstance(value, list):
        return "[" + ",".join(map(shown, value)) + "]"
    return str(value) or "''"


def cell(value: Any) -> str:
    """Text of a table's cell: bars and angle brackets would be taken for markup."""
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text.replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")


def files_page() -> str:
    """What the modules that read and write files say of them."""
    intro = (
        "# File formats\n\nEach section is the description that stands in the code that reads and writes the files. "
        "Nothing that is read back is a pickle. Files are written beside their place, flushed and renamed; a marker "
        "or index comes last."
    )
    sections = [f"## {title}\n\n{module_text(PACKAGE / path)}" for title, path in FILE_FORMATS.items()]
    return "\n\n".join([intro, *sections]) + "\n"


def module_text(path: Path) -> str:
    """A module's docstring as Markdown, with the keys of its formats and its path."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    formats = [format_text(node) for node in classes.values() if is_format(node, classes)]
    docstring = markdown_of(ast.get_docstring(module) or "")
    return "\n\n".join([docstring, *formats, f"Code: `{path.relative_to(PACKAGE.parent)}`"])


def is_format(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> bool:
    """Whether a class documents the keys of a JSON file: a public TypedDict, or a class derived from one here."""
    return not node.name.startswith("_") and is_typed_dict(node, classes)


def is_typed_dict(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> bool:
    """Whether a class is a TypedDict, by its bases among the classes of its file."""
    bases = [ast.unparse(base) for base in node.bases]
    return "TypedDict" in bases or any(is_typed_dict(classes[base], classes) for base in bases if base in classes)


def format_text(node: ast.ClassDef) -> str:
    """A format as Markdown: its docstring, and a table of its keys and their types."""
    keys = [
        f"| `{item.target.id}` | `{ast.unparse(item.annotation).replace('|', chr(92) + '|')}` |"
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    table = "\n".join(["| key | type |", "|---|---|", *keys])
    return f"### {node.name}\n\n{markdown_of(ast.get_docstring(node) or '')}\n\n{table}"


def markdown_of(docstring: str) -> str:
    """A docstring with its diagrams as code blocks: what is indented, or aligned by several spaces."""
    blocks = []
    for block in docstring.split("\n\n"):
        lines = [line for line in block.splitlines() if line.strip() != "::"]
        is_diagram = bool(lines) and (lines[0].startswith("    ") or any("   " in line.strip() for line in lines))
        if is_diagram:
            # The last line before a diagram may be prose of the same block.
            blocks.append("```text\n" + textwrap.dedent("\n".join(lines)).replace("``", "") + "\n```")
        elif lines:
            blocks.append("\n".join(lines).replace("``", "`"))
    return "\n\n".join(blocks)


def python_index() -> str:
    """The rooms and what each is for."""
    rows = [f"| [`lst.{room}`]({room}.md) | {first_line(PACKAGE / room)} |" for room in ROOMS]
    table = "\n".join(["| room | what lives there |", "|---|---|", *rows])
    return (
        "# Python API\n\nImport from the rooms; a room of folders hands on what others use at the folder's door. "
        f"Names without a leading underscore are public.\n\n{table}\n"
    )


def first_line(folder: Path) -> str:
    """First line of a package's docstring; else the names of its modules."""
    init = folder / "__init__.py"
    docstring = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) if init.exists() else None
    names = ", ".join(sorted(f"`{path.stem}`" for path in folder.iterdir() if path.suffix == ".py" or is_room(path)))
    return cell(docstring.splitlines()[0]) if docstring else names


def is_room(path: Path) -> bool:
    """Whether a path is a folder of Python files."""
    return path.is_dir() and (path / "__init__.py").exists()


def python_page(room: str) -> str:
    """Every public module of a room, documented from its source."""
    modules = [module for path in sorted((PACKAGE / room).rglob("*.py")) if (module := public_module(path))]
    blocks = "\n\n".join(f"::: {module}" for module in modules)
    return f"# lst.{room}\n\n{blocks}\n"


def public_module(path: Path) -> str | None:
    """``lst.data.audio`` for ``lst/data/audio/__init__.py``; None for private modules and empty packages."""
    if path.stem.startswith("_") and path.stem != "__init__":
        return None
    if path.stem == "__init__" and not path.read_text(encoding="utf-8").strip():
        return None
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
