"""Builds the compiled CPU kernels with the package; where no compiler is found the package installs without them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

NAME = "lst.kernels.native.liblst_kernels"
SOURCES = "lst/kernels/native/src"


class BuildKernels(build_ext):
    """A plain shared library: neither Python's nor PyTorch's headers, so its name carries no version of either."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []

    def build_extension(self, ext: Extension) -> None:
        ext.extra_compile_args = ["-O3", "-std=c++17", "-fno-math-errno", "-ffp-contract=fast", "-Wno-psabi"]
        # Built in, so that a library that was left behind by other sources is noticed when it is loaded.
        source_hash = runpy.run_path("lst/kernels/native/sources.py")["source_hash"](Path(SOURCES))
        ext.define_macros = [("LST_SOURCE_HASH", f'"{source_hash}"')]
        if sys.platform == "linux":
            ext.extra_compile_args.append("-fopenmp")
            # GNU's OpenMP functions stay open: they are found in PyTorch's copy when the library is loaded.
            if "clang" in self._compiler_version():
                ext.extra_link_args.append("-fopenmp")
        try:
            super().build_extension(ext)
        except (CompileError, LinkError):
            if "-fopenmp" not in ext.extra_compile_args:
                raise
            # clang++ comes without OpenMP on many systems.
            self.warn("no OpenMP for this compiler: the kernels are built for one thread (clang++ needs libomp)")
            ext.extra_compile_args.remove("-fopenmp")
            ext.extra_link_args.clear()
            super().build_extension(ext)

    def _compiler_version(self) -> str:
        """What the C++ compiler says of itself; its command may begin with a launcher such as ccache."""
        command = (
            getattr(self.compiler, "compiler_so_cxx", None) or getattr(self.compiler, "compiler_so", None) or ["c++"]
        )
        names = [word for word in command if not word.startswith("-")]
        try:
            return subprocess.run([*names, "--version"], capture_output=True, text=True, check=False).stdout
        except OSError:
            # There is none: the build itself will say so, and the package installs without the library.
            return ""


class PlatformWheel(bdist_wheel):
    """One wheel a platform serves every Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            NAME,
            [f"{SOURCES}/library.cpp"],
            depends=sorted(map(str, Path(SOURCES).iterdir())),
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": PlatformWheel},
)
