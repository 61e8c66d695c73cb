"""The frames at every trap of the official scripts and of generated modules: all pcs, locals and operands as the
reference has them, in `full` with every optimisation."""

from __future__ import annotations

import os

import pytest

from tests.reference.generate import GeneratedModule, generate
from tests.reference.interpreter import Limit
from tests.spec.embedder import LinkFailed, Trapped, TypedValue
from tests.spec.files import PARTLY, SUPPORTED
from tests.spec.runner import run
from tests.spec.scripts import ScriptsAbsent, load
from tests.spec.states import Both
from trapline import Config

RUN = [name for group in SUPPORTED.values() for name in group] + list(PARTLY)
MODULES = int(os.environ.get("TRAPLINE_STATE_MODULES", "1200"))
"""How many generated modules; `make states` runs 10,000."""
BATCHES = 12
FIRST_SEED = 700_000


@pytest.mark.parametrize("name", RUN)
def test_frames_at_traps_of_scripts(name: str) -> None:
    try:
        commands = load(name)
    except ScriptsAbsent as absent:
        pytest.skip(str(absent))
    both = Both()
    outcome = run(commands, both, PARTLY.get(name, frozenset()))
    failures = [f"{name}.wast:{line}: {kind}: {what}" for line, kind, what in outcome.failures]
    assert not failures, "\n".join(failures)
    trapping = sum(command["type"] == "assert_trap" and "action" in command for command in commands)
    assert both.traps >= trapping or PARTLY.get(name)


def traps_of(module: GeneratedModule, config: Config) -> int:
    """Every call of a module on both engines; how many traps were compared."""
    both = Both(config)
    both.theirs.interpreter.limit = Limit(frames=400, memory_pages=16, table_elements=4000)
    try:
        instance = both.instantiate(module.content, {})
    except (Trapped, LinkFailed):
        return both.traps
    for call in module.calls:
        types = module.exports[call.export].params
        try:
            both.invoke(instance, call.export, list(map(TypedValue, types, call.arguments)))
        except Trapped as trap:
            if trap.words == "call stack exhausted":
                break  # how deep that is differs, and with it what has happened before
    return both.traps


@pytest.mark.parametrize("batch", range(BATCHES))
def test_frames_at_traps_of_generated_modules(batch: int) -> None:
    config = Config(debug="full", max_memory_pages=16)
    count = MODULES // BATCHES
    traps = 0
    for seed in range(FIRST_SEED + batch * count, FIRST_SEED + (batch + 1) * count):
        try:
            traps += traps_of(generate(seed, 40), config)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert traps > count // 4, "generated modules should trap often"
