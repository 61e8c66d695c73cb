"""python -m tests.reference.compare [--first SEED] [--count N] [--size N]: the reference against wasmtime.

Each generated module must be valid for wasmtime, and every call must have the same results, or the same trap at the
same byte offset in each frame, on both, with the same memory at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
import time
from collections import Counter
from typing import Any, NamedTuple

from tests.reference.generate import GeneratedModule, generate
from tests.reference.interpreter import Interpreter, Limit
from tests.reference.store import Function, Memory
from tests.reference.traps import Trap, TrapKind

__all__ = ["Account", "Disagreement", "Ending", "Wasmtime", "by_reference", "compare"]

MEMORY_PAGES = 64  # no generated module comes near; wasmtime gets the same limit
STEPS = 5_000_000  # nor near this number of opcodes


class Disagreement(Exception):
    """Two engines did not do the same, or one refused the module."""


class Ending(NamedTuple):
    """How a call, or instantiation, ended.

    trap: the words, else empty. results: bits; of a funcref, whether it is null. frames: (function index, byte offset
    in the module) at the trap, innermost first.
    """

    trap: str
    results: tuple[Any, ...] = ()
    frames: tuple[tuple[int, int], ...] = ()


class Account(NamedTuple):
    """What running a generated module came to: instantiation and each call, and the memory's hash at the end."""

    endings: list[Ending]
    memory: str


def shown(kind: str, bits: Any) -> Any:
    return bits is not None if kind == "funcref" else bits


def by_reference(module: GeneratedModule, interpreter: Interpreter | None = None) -> Account:
    interpreter = interpreter or Interpreter(Limit(memory_pages=MEMORY_PAGES, steps=STEPS))
    stood: list[tuple[int, int]] = []

    def look(trap: Trap) -> None:
        stood[:] = []
        if trap.kind is not TrapKind.STACK_EXHAUSTED:
            stood[:] = [(frame.index, frame.pc) for frame in interpreter.frames()]

    interpreter.on_trap(look)
    endings: list[Ending] = []
    try:
        instance = interpreter.instantiate(module.content)
    except Trap as trap:
        return Account([Ending(str(trap.kind), (), tuple(stood))], "")
    for call in module.calls:
        function = instance.exports[call.export]
        assert isinstance(function, Function)
        try:
            results = interpreter.invoke(function, call.arguments)
        except Trap as trap:
            endings.append(Ending(str(trap.kind), (), tuple(stood)))
        else:
            endings.append(Ending("", tuple(map(shown, function.type.results, results))))
    memory = instance.exports["memory"]
    assert isinstance(memory, Memory)
    return Account(endings, hashlib.sha256(memory.data).hexdigest())


class Wasmtime:
    """An engine of wasmtime, for many modules. Raises ImportError where wasmtime is not installed."""

    BACKTRACE_FRAMES = 20  # the most that wasmtime tells

    def __init__(self) -> None:
        self.api: Any = importlib.import_module("wasmtime")
        config = self.api.Config()
        # Optimised, an `if` around `unreachable` becomes one trapping instruction with the offset of the `if`.
        config.cranelift_opt_level = "none"
        self.engine = self.api.Engine(config)

    def account(self, module: GeneratedModule) -> Account:
        """Raises Disagreement for a module that wasmtime does not take."""
        api = self.api
        store = api.Store(self.engine)
        store.set_limits(memory_size=MEMORY_PAGES * 65536)
        try:
            compiled = api.Module(self.engine, module.content)
        except api.WasmtimeError as error:
            raise Disagreement(f"seed {module.seed}: refused: {error}") from error
        try:
            instance = api.Instance(store, compiled, [])
        except api.Trap as trap:
            return Account([self.ending(trap)], "")
        exports = instance.exports(store)
        endings: list[Ending] = []
        for call in module.calls:
            kinds = module.exports[call.export].results
            try:
                results = exports[call.export](store, *call.arguments)
            except api.Trap as trap:
                endings.append(self.ending(trap))
                continue
            given = results if len(kinds) > 1 else [results] if kinds else []
            endings.append(Ending("", tuple(map(self.bits, kinds, given))))
        memory = exports["memory"]
        content = memory.read(store, 0, memory.data_len(store))
        return Account(endings, hashlib.sha256(content).hexdigest())

    def ending(self, trap: Any) -> Ending:
        words = TRAP_WORDS.get(trap.trap_code.name, trap.trap_code.name)
        return Ending(words, (), tuple((frame.func_index, frame.module_offset) for frame in trap.frames))

    @staticmethod
    def bits(kind: str, value: Any) -> Any:
        return value & (1 << int(kind[1:])) - 1 if kind in ("i32", "i64") else shown(kind, value)


# wasmtime has one code for both kinds of table access, so "undefined element" counts as this here.
TRAP_WORDS = {
    "STACK_OVERFLOW": TrapKind.STACK_EXHAUSTED.value,
    "MEMORY_OUT_OF_BOUNDS": TrapKind.MEMORY_BOUNDS.value,
    "TABLE_OUT_OF_BOUNDS": TrapKind.TABLE_BOUNDS.value,
    "INDIRECT_CALL_TO_NULL": TrapKind.UNINITIALIZED_ELEMENT.value,
    "BAD_SIGNATURE": TrapKind.INDIRECT_CALL_TYPE.value,
    "INTEGER_OVERFLOW": TrapKind.INTEGER_OVERFLOW.value,
    "INTEGER_DIVISION_BY_ZERO": TrapKind.DIVIDE_BY_ZERO.value,
    "BAD_CONVERSION_TO_INTEGER": TrapKind.INVALID_CONVERSION.value,
    "UNREACHABLE": TrapKind.UNREACHABLE.value,
}


def compare(module: GeneratedModule, wasmtime: Wasmtime) -> Account:
    """Runs a module on both and gives the reference's account. Raises Disagreement."""
    theirs = wasmtime.account(module)
    ours = by_reference(module)
    for at, (our, their) in enumerate(zip(ours.endings, theirs.endings, strict=True)):
        if our.trap == TrapKind.UNDEFINED_ELEMENT:
            our = our._replace(trap=TrapKind.TABLE_BOUNDS.value)
        if our.trap == TrapKind.STACK_EXHAUSTED:
            their = their._replace(frames=())
        our = our._replace(frames=our.frames[: wasmtime.BACKTRACE_FRAMES])
        if (our.trap, our.results) != (their.trap, their.results) or not same_frames(our, their):
            raise Disagreement(f"seed {module.seed}, call {at}: {module.calls[at]}\nreference {our}\nwasmtime {their}")
    if ours.memory != theirs.memory:
        raise Disagreement(f"seed {module.seed}: the memories differ")
    return ours


def same_frames(ours: Ending, theirs: Ending) -> bool:
    """Whether the frames are the same, but for two things that wasmtime tells too late.

    Where the instruction after a call traps whatever its operands are, wasmtime takes the return address for that of
    the trap. Where a load goes into the machine instruction that uses its value, wasmtime gives the offset of the use.
    """
    if len(ours.frames) != len(theirs.frames):
        return False
    for depth, (our, their) in enumerate(zip(ours.frames, theirs.frames, strict=True)):
        may_be_late = depth > 0 or ours.trap == TrapKind.MEMORY_BOUNDS
        if our != their and not (may_be_late and our[0] == their[0] and our[1] < their[1]):
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reference.compare", description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--size", type=int, default=60)
    options = parser.parse_args()
    wasmtime = Wasmtime()
    started = time.perf_counter()
    seen: Counter[str] = Counter()
    failed = 0
    for seed in range(options.first, options.first + options.count):
        try:
            account = compare(generate(seed, options.size), wasmtime)
        except Exception as error:
            failed += 1
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
        else:
            seen.update(ending.trap or "returned" for ending in account.endings)
    elapsed = time.perf_counter() - started
    print(f"{options.count} modules, {failed} disagreements, {elapsed:.0f} s; calls: {dict(seen.most_common())}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
