"""How the compiled library comes into the package, and that the package comes without it where there is no compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from repository import ROOT

from lst.kernels.native import library


def build(folder: Path, compiler: Path, command: str) -> str:
    """What a build of the package in a folder says, with this compiler; it must not fail."""
    pytest.importorskip("setuptools.command.bdist_wheel", reason="setuptools is not installed, or is older than 70.1")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "lst" / "kernels", folder / "lst" / "kernels", ignore=shutil.ignore_patterns("*.so"))
    done = subprocess.run(
        [sys.executable, "setup.py", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CC": str(compiler), "CXX": str(compiler)},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_without_a_compiler_the_package_builds_and_says_so(tmp_path: Path) -> None:
    assert "absent-compiler" in build(tmp_path, tmp_path / "absent-compiler", "bdist_wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    # One wheel serves every Python, and every version of PyTorch.
    assert "-py3-none-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "lst/kernels/native/src/library.cpp" in names
    assert not [name for name in names if name.endswith(".so")]


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("g++"), reason="needs g++ on Linux")
def test_a_compiler_without_openmp_builds_for_one_thread(tmp_path: Path) -> None:
    """As clang++ is on many systems. Nothing is optimised: only names of the library are looked at."""
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1 ;; esac\nexec g++ "$@" -O0\n')
    compiler.chmod(0o755)
    assert "built for one thread" in build(tmp_path, compiler, "build_ext")
    (made,) = (tmp_path / "build").rglob("*.so")
    assert b"lst_run" in made.read_bytes()
    assert b"GOMP_parallel" not in made.read_bytes()


@pytest.mark.skipif(not library.is_available(), reason="the compiled kernels were not built")
def test_the_library_has_no_tie_to_pytorch_or_python() -> None:
    """Names of libraries and symbols stand in the file as text."""
    content = (ROOT / "lst" / "kernels" / "native" / library.LIBRARY_FILE).read_bytes()
    assert b"lst_run" in content
    for foreign in (b"libtorch", b"libc10", b"at6Tensor", b"PyObject", b"libpython"):
        assert foreign not in content
