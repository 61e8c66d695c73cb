"""Generated modules: the same for a seed, ending, with a state that fits its types; and wasmtime agrees with each."""

from __future__ import annotations

import contextlib
import hashlib
from functools import partial
from typing import Any

import pytest

from tests.reference.compare import MEMORY_PAGES, Disagreement, Wasmtime, by_reference, compare
from tests.reference.generate import generate
from tests.reference.interpreter import Interpreter, Limit
from tests.reference.numeric import NUMERIC
from tests.reference.traps import StepLimit, TrapKind


def test_a_seed_is_a_module() -> None:
    assert generate(7) == generate(7)
    assert generate(7).content != generate(8).content
    assert len(generate(7, 300).content) > len(generate(7, 20).content)
    # Of seeds 0 to 19: changes with the generator, and then only.
    digest = hashlib.sha256(b"".join(generate(seed).content for seed in range(20))).hexdigest()
    assert digest[:16] == "d45c975c7e9a0536"


def test_every_run_ends() -> None:
    """In far fewer opcodes than the limit of the comparison, for big modules too."""
    for seed in range(40):
        module = generate(seed, 150)
        if "exhaust" not in module.exports:
            by_reference(module, Interpreter(Limit(memory_pages=MEMORY_PAGES, steps=3_000_000)))


def fits(kind: str, bits: Any) -> bool:
    if kind.endswith("ref"):
        return not isinstance(bits, int) if kind == "funcref" else True
    return isinstance(bits, int) and 0 <= bits < 1 << int(kind[1:])


def test_the_state_fits_its_types_at_every_step() -> None:
    """Every local and operand of the innermost frame has a type, and bits of that type."""
    checked = 0
    for seed in range(25):
        module = generate(seed)
        interpreter = Interpreter(Limit(frames=200, memory_pages=MEMORY_PAGES, steps=6_000))

        def look(interpreter: Interpreter = interpreter) -> None:
            nonlocal checked
            if interpreter.steps % 7 == 0:
                frame = interpreter.frames()[0]
                assert all(fits(*value) for value in (*frame.locals, *frame.operands))
                checked += 1

        interpreter.on_step(look)
        with contextlib.suppress(StepLimit):
            by_reference(module, interpreter)
    assert checked > 5_000


def test_traps_are_of_every_kind() -> None:
    seen = set()
    for seed in range(150):
        seen |= {ending.trap for ending in by_reference(generate(seed, 30)).endings}
    assert seen >= {kind.value for kind in TrapKind}


@pytest.fixture(scope="module")
def wasmtime() -> Wasmtime:
    try:
        return Wasmtime()
    except ImportError:
        pytest.skip("wasmtime is not installed")


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_wasmtime_agrees(wasmtime: Wasmtime, first: int) -> None:
    for seed in range(first, first + 50):
        compare(generate(seed), wasmtime)


def test_the_comparison_can_fail(wasmtime: Wasmtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrong i32.xor in the reference it does."""
    row = NUMERIC[0x73]
    monkeypatch.setitem(NUMERIC, 0x73, row._replace(function=lambda a, b: (a ^ b) & 0x7FFF_FFFF))
    modules = [generate(seed) for seed in range(60)]
    with pytest.raises(Disagreement):
        list(map(partial(compare, wasmtime=wasmtime), modules))
