"""The house's rules: who may import whom, no names that shadow other packages, no pickles, no machine's paths."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRUSTED = ROOT / "lst" / "tokenizers" / "trusted.py"
SOURCES = sorted((ROOT / "lst").rglob("*.py"))
# What each folder may import of the project, besides itself and the modules at the top of the package.
ALLOWED = {
    "kernels": set(),
    "tokenizers": set(),
    "model": {"kernels"},
    "data": {"tokenizers", "model.batch", "model.patching", "model.config"},
    "configs": {"data.config", "tokenizers.config", "model.config"},
    "recipes": {"voice", "model", "data", "tokenizers", "kernels", "configs"},
}
FREE = {"errors", "files", "storage", "progress", "lazy", "threads", ""}


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("lst.") for name in names if name.startswith("lst.")}


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_imports_flow_one_way(folder: str) -> None:
    wrong = []
    for path in (ROOT / "lst" / folder).rglob("*.py"):
        for name in imported_modules(path):
            top = name.split(".")[0]
            if top in FREE or top == folder or name == "__version__":
                continue
            if not any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED[folder]):
                wrong.append(f"{path.relative_to(ROOT)} imports lst.{name}")
    assert wrong == []


def test_shared_model_files_import_nothing_else() -> None:
    assert imported_modules(ROOT / "lst/model/batch.py") == set()
    modules = {name.rpartition(".")[0] for name in imported_modules(ROOT / "lst/model/patching.py")}
    assert modules == {"model.batch", "model.config"}
    assert imported_modules(ROOT / "lst/model/config.py") == set()


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
        node for node in ast.parse(TRUSTED.read_text()).body if isinstance(node, ast.FunctionDef)
        and node.name.startswith("read_")
    ]  # fmt: skip
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
        str(path.relative_to(ROOT)): count for path in SOURCES if (count := len(path.read_text().splitlines())) > 410
    }
    assert long == {}
