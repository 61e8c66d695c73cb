"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import trapline

SKIPPED = {"trapline.__main__", "trapline._native", "trapline.asm.keystone_worker"}
MODULES = sorted(
    found.name for found in pkgutil.walk_packages(trapline.__path__, "trapline.") if found.name not in SKIPPED
)


@pytest.mark.parametrize("name", ["trapline", *MODULES])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
