"""Builds the one shared object of the package, `trapline._native`; everything else is in pyproject.toml.

The extension is described by `native/build_native.py`. cffi subclasses the `build_ext` given here.
"""

import os
import shlex

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class build_ext_with_assembly(build_ext):
    """Compiles `.S` files beside `.c` files, and lets CFLAGS from the environment have the last word."""

    def build_extension(self, ext: Extension) -> None:
        if ".S" not in self.compiler.src_extensions:
            self.compiler.src_extensions = [*self.compiler.src_extensions, ".S"]
        ext.extra_compile_args = [*ext.extra_compile_args, *shlex.split(os.environ.get("CFLAGS", ""))]
        super().build_extension(ext)


setup(
    cmdclass={"build_ext": build_ext_with_assembly},
    cffi_modules=["native/build_native.py:ffibuilder"],
)
