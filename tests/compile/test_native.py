"""Generated modules as native code: results, traps, memories as the reference has them."""

from __future__ import annotations

import ctypes
import platform

import pytest

from tests.compile.native import NativeInstance, WasmTrap, shown
from tests.reference.generate import generate
from tests.reference.interpreter import Interpreter, Limit
from tests.reference.store import Function, Memory
from tests.reference.traps import StepLimit, Trap
from trapline.wasm.decode import decode
from trapline.wasm.validate import validate

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")

STEPS = 200_000
MODULES_EACH = 40


def run(seed: int, full: bool) -> int:
    """Every call of one module; the number of calls compared."""
    module = generate(seed, 40)
    limit = Limit(frames=400, memory_pages=16, table_elements=4000, steps=STEPS)
    reference = Interpreter(limit)
    decoded = decode(module.content)
    validate(decoded)
    try:
        theirs = reference.instantiate(module.content)
        copied = Interpreter(limit).instantiate(module.content)
    except (Trap, StepLimit):
        return 0
    ours = NativeInstance(decoded, copied, full)
    compared = 0
    try:
        for call in module.calls:
            function = theirs.exports[call.export]
            assert isinstance(function, Function)
            try:
                wanted: object = [shown(value) for value in reference.invoke(function, call.arguments)]
            except Trap as trap:
                wanted = str(trap.kind)
            except StepLimit:
                return compared
            if wanted == "call stack exhausted":
                return compared  # how deep that is differs, and with it what has happened before
            try:
                found: object = [shown(value) for value in ours.call(function.index, call.arguments)]
            except WasmTrap as trap:
                found = str(trap)
            assert found == wanted, f"seed {seed}, {call}"
            compared += 1
        memory = theirs.exports["memory"]
        assert isinstance(memory, Memory)
        assert ctypes.string_at(ours.base, ours.pages * 65536) == bytes(memory.data), f"seed {seed}: memory"
    finally:
        ours.close()
    return compared


@pytest.mark.parametrize("full", [True, False], ids=["full", "live"])
@pytest.mark.parametrize("batch", range(4))
def test_native_code_does_what_the_reference_does(batch: int, full: bool) -> None:
    first = 5000 + batch * MODULES_EACH
    assert sum(run(seed, full) for seed in range(first, first + MODULES_EACH)) > 100
