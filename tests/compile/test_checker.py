"""The checker proves everything that is compiled, and sees every kind of damage."""

from __future__ import annotations

import platform
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.compile.compiled import subjects
from tests.compile.mutations import OF_CODE, OF_TABLES, Proof, Subject
from tests.reference.generate import generate
from tests.spec.scripts import ScriptsAbsent, shared_folder
from trapline.compile.checker import CheckError

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="code is emitted for x86-64 only")

MUTATIONS = 1000
PROGRAMS = ("quicksort", "shootout-base64", "shootout-fib2")
"""The rest takes minutes."""


@pytest.mark.parametrize("full", [True, False], ids=["full", "live"])
@pytest.mark.parametrize("batch", range(4))
def test_generated_modules_are_proved(batch: int, full: bool) -> None:
    """The modules that the other tests of this folder run, and more."""
    for first in (0, 1000, 2000, 5000):
        for seed in range(first + batch * 9, first + (batch + 1) * 9):
            for subject in subjects(generate(seed, 40).content, full):
                try:
                    subject.check()
                except CheckError as error:
                    raise AssertionError(f"seed {seed}") from error


def program(name: str) -> Path:
    try:
        return shared_folder() / "corpus" / name / f"{name}.wasm"
    except ScriptsAbsent as absent:
        pytest.skip(str(absent))


@pytest.mark.parametrize("full", [True, False], ids=["full", "live"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_real_programs_are_proved(name: str, full: bool) -> None:
    checked = 0
    for subject in subjects(program(name).read_bytes(), full):
        subject.check()
        checked += 1
    assert checked > 5


def victims() -> list[Subject]:
    """Functions of some size at both levels."""
    found = []
    for seed in range(100, 120):
        for full in (True, False):
            found += [
                subject for subject in subjects(generate(seed, 40).content, full) if len(subject.body.opcodes) > 30
            ]
    return found


def is_seen(damaged: Subject, proof: Proof | None) -> bool:
    """Whether the checker refuses; a proof of all but the table saves the time for another."""
    try:
        if proof is None:
            damaged.check()
        else:
            proof.check(damaged)
    except CheckError:
        return True
    return False


def test_all_damage_is_seen() -> None:
    """What the checker accepts must say the same as before: by other places that hold the same value."""
    found = victims()
    proofs = [Proof(subject) for subject in found]
    chance = random.Random(20)
    seen: Counter[str] = Counter()
    without_effect = 0
    while seen.total() < MUTATIONS:
        which = chance.randrange(len(found))
        mutation = chance.choice(OF_TABLES + OF_CODE)
        damaged = mutation(found[which], chance)
        if damaged is None:
            continue
        name = mutation.__name__
        if is_seen(damaged, None if mutation in OF_CODE else proofs[which]):
            seen[name] += 1
            continue
        assert mutation in OF_TABLES, f"{name} in function {which} was not seen"
        assert proofs[which].says_the_same(found[which], damaged.table), f"{name} in function {which} was not seen"
        without_effect += 1
    assert len(seen) == len(OF_TABLES) + len(OF_CODE), sorted(seen)
    assert without_effect < MUTATIONS / 4


def test_errors_name_the_place() -> None:
    subject = next(iter(subjects(generate(3, 40).content, True)))
    del subject.table.rows[-1]
    with pytest.raises(CheckError, match=r"function \d+, offset 0x[0-9a-f]+: trap sites .*: found \d+, expected \d+"):
        subject.check()
