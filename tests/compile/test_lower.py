"""The SSA form computes what the reference computes, and its states name the right value of everything, everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compile.ssa import VIRTUAL, SsaInterpreter, State
from tests.reference.generate import generate
from tests.reference.interpreter import Interpreter, Limit
from tests.reference.store import Function, Instance, Memory
from tests.reference.traps import StepLimit, Trap
from trapline.wasm.decode import decode
from trapline.wasm.validate import validate

DEPTH = 100
STEPS = 60_000
BATCHES = 8
MODULES_EACH = 25


def shown(value: Any) -> Any:
    return ("function", value.index) if isinstance(value, Function) else value


def shown_state(state: State) -> State:
    function, pc, locals_, operands = state
    return function, pc, tuple(map(shown, locals_)), tuple(map(shown, operands))


def by_reference(seed: int) -> tuple[list[list[State]], list[Any], bytes] | None:
    """(states of each call, endings, memory at the end); None for a module whose start traps or that runs too long."""
    module = generate(seed, 40)
    interpreter = Interpreter(Limit(frames=DEPTH, memory_pages=8, steps=STEPS))
    try:
        instance = interpreter.instantiate(module.content)
    except (Trap, StepLimit):
        return None
    states: list[list[State]] = []

    def look() -> None:
        frame = interpreter._frames[-1]
        state = interpreter._state(frame)
        if module.content[state.pc] not in VIRTUAL:
            values = tuple(local.bits for local in state.locals), tuple(operand.bits for operand in state.operands)
            states[-1].append(shown_state((state.function, state.pc, *values)))

    interpreter.on_step(look)
    endings: list[Any] = []
    for call in module.calls:
        states.append([])
        function = instance.exports[call.export]
        assert isinstance(function, Function)
        try:
            endings.append(tuple(map(shown, interpreter.invoke(function, call.arguments))))
        except Trap as trap:
            endings.append(str(trap.kind))
        except StepLimit:
            return None
    memory = instance.exports["memory"]
    assert isinstance(memory, Memory)
    return states, endings, bytes(memory.data)


def by_ssa(seed: int, keep_states: bool) -> tuple[list[list[State]], list[Any], bytes]:
    module = generate(seed, 40)
    instance: Instance = Interpreter(Limit(frames=DEPTH, memory_pages=8)).instantiate(module.content)
    decoded = decode(module.content)
    validate(decoded)
    states: list[list[State]] = []
    interpreter = SsaInterpreter(decoded, instance, lambda state: states[-1].append(shown_state(state)), keep_states)
    interpreter.depth_limit = DEPTH
    endings: list[Any] = []
    for call in module.calls:
        states.append([])
        function = instance.exports[call.export]
        assert isinstance(function, Function)
        try:
            endings.append(tuple(map(shown, interpreter.call(function, list(call.arguments)))))
        except Trap as trap:
            endings.append(str(trap.kind))
    memory = instance.exports["memory"]
    assert isinstance(memory, Memory)
    return states, endings, bytes(memory.data)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_states_and_results_equal_the_reference(batch: int) -> None:
    compared = 0
    for seed in range(batch * MODULES_EACH, (batch + 1) * MODULES_EACH):
        wanted = by_reference(seed)
        if wanted is None:
            continue
        found = by_ssa(seed, keep_states=True)
        for call, (ours, theirs) in enumerate(zip(found[0], wanted[0], strict=True)):
            for at, (our, their) in enumerate(zip(ours, theirs, strict=False)):
                assert our == their, f"seed {seed}, call {call}, state {at}"
            assert len(ours) == len(theirs), f"seed {seed}, call {call}: {len(ours)} states, expected {len(theirs)}"
            compared += len(ours)
        assert found[1:] == wanted[1:], f"seed {seed}"
    assert compared > 1000


@pytest.mark.parametrize("batch", range(BATCHES))
def test_results_without_states_equal_the_reference(batch: int) -> None:
    for seed in range(1000 + batch * MODULES_EACH, 1000 + (batch + 1) * MODULES_EACH):
        wanted = by_reference(seed)
        if wanted is None:
            continue
        found = by_ssa(seed, keep_states=False)
        assert found[1:] == wanted[1:], f"seed {seed}"
        for ours, theirs in zip(found[0], wanted[0], strict=True):
            assert [state[:2] for state in ours] == [state[:2] for state in theirs], f"seed {seed}"
