"""The same calls by the reference and by native code: results, traps and memories must be the same."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.compile.native import NativeInstance, WasmTrap, shown
from tests.reference.interpreter import Interpreter, Limit
from tests.reference.store import Extern, Function, Instance
from tests.reference.traps import StepLimit, Trap
from trapline.arch.x86_64.features import Features
from trapline.wasm.decode import decode
from trapline.wasm.validate import validate

STEPS = 200_000
Imports = Mapping[tuple[str, str], Extern]
Call = tuple[str, tuple[Any, ...]]


class Pair:
    """One module instantiated by the reference, and again as native code."""

    def __init__(self, theirs: Instance, ours: NativeInstance, reference: Interpreter) -> None:
        self.theirs = theirs
        self.ours = ours
        self.reference = reference

    def compare(self, call: Call) -> str | list[Any] | None:
        """Make a call both ways. The common result, a trap in words, or None where the two cannot be compared."""
        export, arguments = call
        function = self.theirs.exports[export]
        assert isinstance(function, Function)
        try:
            wanted: str | list[Any] = [shown(value) for value in self.reference.invoke(function, arguments)]
        except Trap as trap:
            wanted = str(trap.kind)
        except StepLimit:
            return None
        if wanted == "call stack exhausted":
            return None  # how deep that is differs, and with it what has happened before
        try:
            found: str | list[Any] = [shown(value) for value in self.ours.call(function.index, arguments)]
        except WasmTrap as trap:
            found = str(trap)
        assert found == wanted, call
        return found

    def compare_memory(self) -> None:
        for memory in self.theirs.memories:
            assert ctypes.string_at(self.ours.base, self.ours.pages * 65536) == bytes(memory.data), "memory"


@contextmanager
def both(
    content: bytes,
    full: bool,
    imports: Callable[[], Imports] | None = None,
    *,
    features: Features | None = None,
    checked: bool = False,
    lazy: bool = False,
    steps: int | None = STEPS,
) -> Iterator[Pair]:
    """`imports` makes what each instance imports anew. Raises Trap or StepLimit of the start function."""
    limit = Limit(frames=400, memory_pages=16, table_elements=4000, steps=steps)
    reference = Interpreter(limit)
    decoded = decode(content)
    validate(decoded)
    theirs = reference.instantiate(content, imports() if imports else None)
    copied = Interpreter(limit).instantiate(content, imports() if imports else None)
    ours = NativeInstance(decoded, copied, full, features=features, checked=checked, lazy=lazy)
    try:
        yield Pair(theirs, ours, reference)
    finally:
        ours.close()


def compare_all(
    content: bytes, calls: Sequence[Call], full: bool, imports: Callable[[], Imports] | None = None
) -> None:
    """Every call, and the memory after them."""
    with both(content, full, imports, steps=None) as pair:
        for call in calls:
            assert pair.compare(call) is not None
        pair.compare_memory()
