"""The house's rules: who may import whom, no names that shadow other packages, no pickles, no machine's paths."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from repository import ROOT

TRUSTED = ROOT / "lst" / "tokenizers" / "trusted.py"
SOURCES = sorted((ROOT / "lst").rglob("*.py"))
# Free to every room.
GROUND = {"errors", "progress", "lazy", "storage", "parallel", "options"}
# Each room and what it may import beside the ground and itself; a name with a dot stands for that part of a room only.
ALLOWED: dict[str, set[str]] = {
    "kernels": set(),
    "tokenizers": set(),
    "model": {"kernels"},
    "data": {"tokenizers", "model.batch", "model.patching", "model.config"},
    "configs": {"data.config", "tokenizers.config", "model.config", "model.loss_config", "voice.config"},
    "runs": {"data", "model", "tokenizers", "configs"},
    "voice": {"model", "kernels", "tokenizers", "data.audio"},
    "evaluation": {"runs", "voice", "data", "model", "tokenizers", "configs", "kernels"},
    "api": {"evaluation", "runs", "voice", "data", "model", "tokenizers", "configs"},
    "recipes": {"api", "evaluation", "runs", "voice", "data", "model", "tokenizers", "configs", "kernels"},
}
# Floors within data: a file may import its own room and those of earlier floors. On the lowest all may meet.
DATA_FLOORS: list[set[str]] = [
    {"utterance", "questions", "config", "added_config", "languages", "text", "audio"},
    {"synthesis"},
    {"corpora", "shards", "documents"},
    {"alignment", "batches", "prepared"},
    {"recordings"},
    {"prepare", "checks"},
]
# Rooms within recipes: the later ones may import the earlier ones. All else there is a command.
RECIPE_FLOORS: list[set[str]] = [
    {"report", "training"},
    {"corpus_card", "benchmark_card", "synthetic", "scaling", "runs", "voice"},
    {"compare", "reproduce"},
]
# Who runs commands: the others are imported by nobody but these.
COMMAND_CALLERS = {
    "cli",
    "commands",
    "recipes.eval_command",
    "recipes.quickstart",
    "recipes.scaling",
    "recipes.reproduce",
}
# Calls that change files, by the end of their name. Within ``with staged(…)`` or a temporary folder they may be used.
CHANGES_FILES = re.compile(
    r"(^|\.)(write_text|write_bytes|unlink|rmdir|mkdir|makedirs|touch|rename|symlink_to|hardlink_to|symlink|link|truncate"
    r"|rmtree|copytree|copyfile|copy2|save_file|savefig|SummaryWriter)$"
    r"|^(os\.(replace|remove)|shutil\.(copy|move)|soundfile\.write|np\.savez?|torch\.save)$"
)
HOLDS_A_TEMPORARY_PATH = re.compile(r"\b(staged|staged_folder|TemporaryDirectory)\(")
# Files outside of lst.storage that change files by themselves, and why they may.
CHANGE_FILES_THEMSELVES = {
    "parallel.commands": "the output of a child process is added to its log while it runs",
    "data.corpora.remote": "the mirror of a corpus lies in a temporary folder",
    "data.synthesis.engines": "an engine's text lies in a temporary folder",
    "data.synthesis.engine_times": "runs in a temporary folder, as a process of its own",
    "recipes.benchmarks.corpus_size": "the corpus that is measured lies in a temporary folder",
}
REMEDY = (
    "Move the code that is needed to a room below both, or hand it in as an argument; the table of rooms is in "
    "CONTRIBUTING.md."
)


def module_name(path: Path) -> str:
    """``lst/data/audio/__init__.py`` → ``data.audio``."""
    return ".".join(path.relative_to(ROOT / "lst").with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module_name(path): path for path in SOURCES}


def imported_modules(path: Path) -> set[str]:
    """The project's modules that a file imports anywhere, within functions too; a door for a name that it hands on."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                name if (name := f"{node.module}.{alias.name}").removeprefix("lst.") in MODULES else node.module
                for alias in node.names
            }
    return {name.removeprefix("lst.") for name in names if name.startswith("lst.")} & set(MODULES)


@cache
def imports() -> dict[str, set[str]]:
    """What each module imports. Reading all files takes a second, which collecting the tests need not."""
    return {name: imported_modules(path) - {name} for name, path in MODULES.items()}


def parts_of(module: str) -> tuple[str, str]:
    """The room of a module and the part of it: ``data.audio.read`` → ``data``, ``audio``."""
    room, _, rest = module.partition(".")
    return room, rest.partition(".")[0]


def is_below(name: str, allowed: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in allowed)


def floor_of(part: str, floors: list[set[str]]) -> int | None:
    return next((number for number, floor in enumerate(floors) if part in floor), None)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_flow_one_way(room: str) -> None:
    wrong = [
        f"lst.{name} imports lst.{other}"
        for name, others in imports().items()
        if parts_of(name)[0] == room
        for other in others
        if not is_below(other, {room, *GROUND, *ALLOWED[room]})
    ]
    assert wrong == [], REMEDY


def test_the_ground_imports_the_ground() -> None:
    wrong = [
        f"lst.{name} imports lst.{other}"
        for name, others in imports().items()
        if is_below(name, GROUND)
        for other in others
        if not is_below(other, GROUND)
    ]
    assert wrong == [], REMEDY


def test_every_module_has_a_room() -> None:
    rooms = {parts_of(name)[0] for name in MODULES if name}
    assert rooms - set(ALLOWED) - GROUND == {"cli", "commands", "__main__"}
    within_data = {parts_of(name)[1] for name in MODULES if parts_of(name)[0] == "data"}
    assert within_data == set().union(*DATA_FLOORS)


def test_within_data_imports_go_to_earlier_floors() -> None:
    wrong = []
    for name, others in imports().items():
        for other in others:
            own, part = parts_of(name)[1], parts_of(other)[1]
            if (parts_of(name)[0], parts_of(other)[0]) != ("data", "data") or own == part:
                continue
            mine, floor = floor_of(own, DATA_FLOORS), floor_of(part, DATA_FLOORS)
            assert mine is not None
            assert floor is not None
            if floor > mine or (floor == mine and mine > 0):
                wrong.append(f"lst.{name} imports lst.{other}")
    assert wrong == [], REMEDY


def test_only_a_few_run_commands_and_nobody_imports_benchmarks() -> None:
    wrong = []
    for name, others in imports().items():
        own_floor = floor_of(parts_of(name)[1], RECIPE_FLOORS) if parts_of(name)[0] == "recipes" else None
        for other in others:
            if parts_of(other)[0] != "recipes" or parts_of(other)[1] == parts_of(name)[1]:
                continue
            part = parts_of(other)[1]
            floor = floor_of(part, RECIPE_FLOORS)
            is_caller = is_below(name, COMMAND_CALLERS)
            if (
                part == "benchmarks"
                or (floor is None and not is_caller)
                or (own_floor is not None and floor is not None and floor >= own_floor)
            ):
                wrong.append(f"lst.{name} imports lst.{other}")
    assert wrong == [], REMEDY


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Lazy imports counted: a circle that only runs later is a circle."""
    state: dict[str, int] = {}
    circles: list[str] = []

    def visit(name: str, way: list[str]) -> None:
        state[name] = 1
        for other in sorted(imports()[name]):
            if state.get(other) == 1:
                circles.append(" → ".join([*way[way.index(other) :], other]))
            elif other not in state:
                visit(other, [*way, other])
        state[name] = 2

    for name in MODULES:
        if name not in state:
            visit(name, [name])
    assert circles == [], REMEDY


def changes_of_files(path: Path) -> list[str]:
    """Calls in a file that change files, but for those on a temporary path that a ``with`` around them gives."""
    found: list[str] = []

    def visit(node: ast.AST, is_temporary: bool) -> None:
        if isinstance(node, ast.With):
            items = " ".join(ast.unparse(item.context_expr) for item in node.items)
            is_temporary = is_temporary or HOLDS_A_TEMPORARY_PATH.search(items) is not None
        if isinstance(node, ast.Call) and not is_temporary:
            name = ast.unparse(node.func)
            is_own = name.startswith("storage.") or name in ("write_text", "write_bytes")
            is_own = is_own or any(ast.unparse(argument) == "buffer" for argument in node.args)  # in memory
            writes = name in ("open", "os.fdopen") and re.search(r"'[rwaxbt]*[wax+]", ast.unparse(node))
            if writes or (CHANGES_FILES.search(name) and not is_own):
                found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
        for child in ast.iter_child_nodes(node):
            visit(child, is_temporary)

    visit(ast.parse(path.read_text()), False)
    return found


def test_files_are_changed_only_through_storage() -> None:
    """So that each is whole or absent, and ``make test-faults`` sees all of it."""
    changing = {
        name: changes
        for name, path in MODULES.items()
        if parts_of(name)[0] != "storage" and (changes := changes_of_files(path))
    }
    wrong = {name: changes for name, changes in changing.items() if name not in CHANGE_FILES_THEMSELVES}
    assert wrong == {}, "Use lst.storage, or name the file and the reason in CHANGE_FILES_THEMSELVES."
    assert changing.keys() == CHANGE_FILES_THEMSELVES.keys(), "take out of CHANGE_FILES_THEMSELVES what is no exception"


def test_shared_model_files_import_nothing_else() -> None:
    assert imports()["model.batch"] == set()
    assert imports()["model.config"] == {"options"}
    assert imports()["model.patching"] == {"model.batch", "model.config"}


def test_root_links_lead_into_the_package_and_have_no_init() -> None:
    for name in ("tokenizers", "data", "kernels", "configs", "recipes"):
        assert (ROOT / name).is_symlink()
        assert (ROOT / name).resolve() == ROOT / "lst" / name
        assert (ROOT / name / "__init__.py").exists() == (name == "configs")


def test_tokenizers_is_still_hugging_faces() -> None:
    """From the root, under ``python -m``, where the current folder comes first on the path."""
    pytest.importorskip("tokenizers", reason="Hugging Face's tokenizers is not installed")
    code = "import tokenizers; print(tokenizers.__file__, tokenizers.Tokenizer)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "site-packages" in done.stdout
    import tokenizers

    assert "site-packages" in str(tokenizers.__file__)


def test_no_module_is_named_after_a_dependency() -> None:
    taken = {
        "encodec",
        "hydra",
        "lightning",
        "torch",
        "triton",
        "webdataset",
        "sentencepiece",
        "torchaudio",
        "soundfile",
        "fsspec",
        "ray",
    }
    assert not taken & {path.stem for path in SOURCES}


def test_nothing_read_back_can_run_code() -> None:
    unsafe = re.compile(
        r"\bpickle\b\.|joblib|allow_pickle=True|torch\.load\(|weights_only=False|(?<!\.)\beval\(|\bexec\("
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in SOURCES
        # The one file that may, when the user says so: see test_pickles_are_read_in_one_place_and_only_when_trusted.
        if path != TRUSTED
        for line in path.read_text().splitlines()
        if unsafe.search(line) and not line.lstrip().startswith(("#", '"'))
    ]
    assert found == []


def test_pickles_are_read_in_one_place_and_only_when_trusted() -> None:
    """Every function of that file that reads asks for trust before it does anything else."""
    readers = [
        node
        for node in ast.parse(TRUSTED.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("read_")
    ]
    assert len(readers) == 2
    for reader in readers:
        first = reader.body[1]
        assert isinstance(first, ast.Expr)
        assert ast.unparse(first.value) == "check_trust(path, trust)"


def test_torchaudio_and_heavy_packages_are_imported_where_used() -> None:
    code = (
        "import sys, lst, lst.cli, lst.configs.compose; "
        "print([m for m in ('torch', 'torchaudio', 'lightning', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    top_level = [path for path in SOURCES if re.search(r"^(import|from) torchaudio", path.read_text(), re.MULTILINE)]
    assert top_level == []


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): count for path in SOURCES if (count := len(path.read_text().splitlines())) > 500
    }
    assert long == {}
