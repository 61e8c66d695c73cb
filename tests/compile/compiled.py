"""Functions of a module, compiled, with their frame tables."""

from __future__ import annotations

from collections.abc import Iterator

from tests.compile.mutations import Subject
from trapline.compile.instance import InstanceLayout
from trapline.compile.pipeline import ModuleTypes, compile_function, to_ssa, to_valid_body
from trapline.compile.tabulate import tabulate
from trapline.compile.x86_64.shapes import X86_64
from trapline.compile.x86_64.target import Target
from trapline.errors import UnsupportedError
from trapline.wasm.decode import decode
from trapline.wasm.validate import validate


def subjects(content: bytes, full: bool) -> Iterator[Subject]:
    """Every function of a module that is supported."""
    module = decode(content)
    validate(module)
    target = Target(InstanceLayout(module))
    machine = X86_64(target.features.sse41)
    for index in range(len(module.code)):
        try:
            body = to_valid_body(module, index)
        except UnsupportedError:
            continue
        func = to_ssa(body.function_index, body, body.type, ModuleTypes(module), full)
        _, allocation, emitted = compile_function(func, full, target)
        table = tabulate(func, allocation, emitted, body, machine, full)
        yield Subject(func, allocation, emitted, body, machine, table, full)
