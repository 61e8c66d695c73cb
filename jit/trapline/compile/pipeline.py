"""The way from a function's bytes to native code, one call a stage.

Each stage shows what it has made to the function's watch, if there is one (trapline.dump).
"""

from __future__ import annotations

from typing import NamedTuple

from trapline import dump
from trapline.compile.allocate import Allocation, allocate
from trapline.compile.fuse import fuse_comparisons
from trapline.compile.ir import Func
from trapline.compile.liveness import analyse
from trapline.compile.lower import Environment, SourceBody, lower
from trapline.compile.print_allocation import print_allocation
from trapline.compile.print_code import print_code
from trapline.compile.print_ssa import print_ssa
from trapline.compile.print_table import print_table
from trapline.compile.simplify import remove_dead, remove_redundant_parameters
from trapline.compile.tabulate import tabulate
from trapline.compile.x86_64.emit import Emitted, emit
from trapline.compile.x86_64.place_text import place_text
from trapline.compile.x86_64.shapes import X86_64
from trapline.compile.x86_64.target import Target
from trapline.dump import Stage, Watch
from trapline.wasm.body import Body, decode_body
from trapline.wasm.module import Module
from trapline.wasm.print_body import print_body
from trapline.wasm.types import FuncType
from trapline.wasm.validate_body import validate_body

if dump.CHECKING:  # as large as the compiler, and seldom asked for
    from trapline.compile.checker import check

__all__ = ["Compiled", "ModuleTypes", "compile_defined", "compile_function", "to_ssa", "to_valid_body"]


class Compiled(NamedTuple):
    """One function after the last stage, with what its states are read from."""

    func: Func
    allocation: Allocation
    emitted: Emitted


class ModuleTypes:
    """What lowering asks, answered by a decoded module."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def type_of(self, type_index: int) -> FuncType:
        return self._module.types[type_index]

    def type_of_function(self, function_index: int) -> FuncType:
        return self._module.function_types[function_index]

    def type_of_global(self, global_index: int) -> tuple[int, bool]:
        found = self._module.globals[global_index]
        return found.value, found.mutable

    def type_of_table(self, table_index: int) -> int:
        return self._module.tables[table_index].element


def to_valid_body(module: Module, defined_index: int, watch: Watch | None = None) -> Body:
    """The part that knows the binary format. Raises ModuleError."""
    body = decode_body(module, defined_index)
    if watch:
        watch(Stage.DECODE, lambda: print_body(body))
    validate_body(module, body)
    if watch:
        watch(Stage.VALIDATE, lambda: print_body(body, validated=True))
    return body


def to_ssa(
    index: int, body: SourceBody, type_: FuncType, environment: Environment, full: bool, watch: Watch | None = None
) -> Func:
    """The part that knows no machine. `full` keeps every value that a state names."""
    func = lower(index, body, type_, environment, full)
    if watch:
        watch(Stage.LOWER, lambda: print_ssa(func))
    if not dump.optimised(index):
        return func
    remove_redundant_parameters(func)
    if watch:
        watch(Stage.PARAMETERS, lambda: print_ssa(func))
    remove_dead(func, full)
    if watch:
        watch(Stage.DEAD, lambda: print_ssa(func))
    fuse_comparisons(func)
    if watch:
        watch(Stage.FUSE, lambda: print_ssa(func))
    return func


def compile_function(
    func: Func, full: bool, target: Target, body: Body | None = None, watch: Watch | None = None
) -> Compiled:
    """SSA to x86-64. `body` is for the watch and for TRAPLINE_CHECK. Raises CheckError under the latter."""
    live = analyse(func, full)
    machine = X86_64(target.features.sse41)
    allocation = allocate(func, live, machine)
    if watch:
        watch(Stage.ALLOCATE, lambda: print_allocation(func, allocation, place_text))
    emitted = emit(func, allocation, target, anchors=full)
    if (watch or dump.CHECKING) and body is not None:
        table = tabulate(func, allocation, emitted, body, machine, full)
        if watch:
            watch(Stage.EMIT, lambda: print_code(emitted, table.stops, body))
            watch(Stage.TABLE, lambda: print_table(table, place_text))
        if dump.CHECKING:
            check(func, allocation, emitted, body, machine, table, full)
    return Compiled(func, allocation, emitted)


def compile_defined(
    module: Module, defined_index: int, full: bool, target: Target, watch: Watch | None = None
) -> Compiled:
    """The whole line for one function of a module that is valid outside its bodies. Raises ModuleError.

    `watch` is the caller's own; without it TRAPLINE_DUMP has its say.
    """
    index = module.imported_functions + defined_index
    watch = watch or dump.watch(index, module)
    body = to_valid_body(module, defined_index, watch)
    func = to_ssa(index, body, body.type, ModuleTypes(module), full, watch)
    return compile_function(func, full, target, body, watch)
