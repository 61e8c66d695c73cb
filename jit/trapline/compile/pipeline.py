"""The way from a validated body to native code, one call a stage."""

from __future__ import annotations

from typing import NamedTuple

from trapline.compile.allocate import Allocation, allocate
from trapline.compile.fuse import fuse_comparisons
from trapline.compile.ir import Func
from trapline.compile.liveness import analyse
from trapline.compile.lower import Environment, SourceBody, lower
from trapline.compile.simplify import remove_dead, remove_redundant_parameters
from trapline.compile.x86_64.emit import Emitted, emit
from trapline.compile.x86_64.shapes import X86_64
from trapline.compile.x86_64.target import Target
from trapline.wasm.types import FuncType

__all__ = ["Compiled", "compile_function", "to_ssa"]


class Compiled(NamedTuple):
    """One function after the last stage, with what its states are read from."""

    func: Func
    allocation: Allocation
    emitted: Emitted


def to_ssa(index: int, body: SourceBody, type_: FuncType, environment: Environment, full: bool) -> Func:
    """The part that knows no machine. `full` keeps every value that a state names."""
    func = lower(index, body, type_, environment)
    remove_redundant_parameters(func)
    remove_dead(func, full)
    fuse_comparisons(func)
    return func


def compile_function(func: Func, full: bool, target: Target) -> Compiled:
    """SSA to x86-64."""
    live = analyse(func, full)
    allocation = allocate(func, live, X86_64(target.features.sse41))
    return Compiled(func, allocation, emit(func, allocation, target))
