"""Allocation puts every value where it is read, and where each state looks for it, on machines large and small."""

from __future__ import annotations

import pytest

from tests.compile.placed import Model, PlacedInterpreter
from tests.compile.test_lower import DEPTH, STEPS
from tests.reference.generate import generate
from tests.reference.interpreter import Interpreter, Limit
from tests.reference.store import Function
from tests.reference.traps import StepLimit, Trap
from trapline.wasm.decode import decode
from trapline.wasm.validate import validate

MODULES_EACH = 12


def run(seed: int, model: Model, full: bool) -> None:
    """Execute every call of a generated module; the places are checked on the way, the endings here."""
    module = generate(seed, 40)
    reference = Interpreter(Limit(frames=DEPTH, memory_pages=8, steps=STEPS))
    decoded = decode(module.content)
    validate(decoded)
    try:
        theirs = reference.instantiate(module.content)
        ours = Interpreter(Limit(frames=DEPTH, memory_pages=8)).instantiate(module.content)
    except (Trap, StepLimit):
        return
    placed = PlacedInterpreter(decoded, ours, lambda state: None, full)
    placed.model, placed.depth_limit = model, DEPTH
    for call in module.calls:
        function, wanted = ours.exports[call.export], theirs.exports[call.export]
        assert isinstance(function, Function)
        assert isinstance(wanted, Function)
        try:
            expected: object = [type(value) for value in reference.invoke(wanted, call.arguments)]
        except Trap as trap:
            expected = str(trap.kind)
        except StepLimit:
            return
        try:
            found: object = [type(value) for value in placed.call(function, list(call.arguments))]
        except Trap as trap:
            found = str(trap.kind)
        assert found == expected, f"seed {seed}"


@pytest.mark.parametrize("full", [True, False], ids=["full", "live"])
@pytest.mark.parametrize(("general", "floating"), [(11, 15), (6, 4), (4, 3)])
@pytest.mark.parametrize("batch", range(3))
def test_every_operand_and_every_state_is_in_its_place(batch: int, general: int, floating: int, full: bool) -> None:
    for seed in range(2000 + batch * MODULES_EACH, 2000 + (batch + 1) * MODULES_EACH):
        run(seed, Model(general, floating), full)
