"""Generated modules as native code: results, traps, memories as the reference has them."""

from __future__ import annotations

import platform
from typing import Any

import pytest

from tests.compile.comparison import both
from tests.compile.tables import check_tables
from tests.reference.generate import generate
from tests.reference.traps import StepLimit, Trap
from trapline.arch.x86_64.features import Features

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")

MODULES_EACH = 40
BASELINE = {"features": Features(), "checked": True, "lazy": True}


def run(seed: int, full: bool, **options: Any) -> int:
    """Every call of one module; the number of calls compared."""
    module = generate(seed, 40)
    compared = 0
    try:
        with both(module.content, full, **options) as pair:
            for call in module.calls:
                if pair.compare((call.export, call.arguments)) is None:
                    return compared
                compared += 1
            pair.compare_memory()
            for placed in pair.ours.placed.values():
                check_tables(placed.compiled)
    except (Trap, StepLimit):  # of the start function
        return 0
    return compared


@pytest.mark.parametrize("full", [True, False], ids=["full", "live"])
@pytest.mark.parametrize("batch", range(4))
def test_native_code_does_what_the_reference_does(batch: int, full: bool) -> None:
    first = 5000 + batch * MODULES_EACH
    assert sum(run(seed, full) for seed in range(first, first + MODULES_EACH)) > 100


@pytest.mark.parametrize("full", [True, False], ids=["full", "live"])
@pytest.mark.parametrize("batch", range(2))
def test_so_does_code_for_any_processor_and_any_memory_compiled_on_the_first_call(batch: int, full: bool) -> None:
    first = 6000 + batch * MODULES_EACH
    assert sum(run(seed, full, **BASELINE) for seed in range(first, first + MODULES_EACH)) > 100
