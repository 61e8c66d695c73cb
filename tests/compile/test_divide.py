"""Divisions by constants give what division gives."""

from __future__ import annotations

import random

import pytest

from tests.reference.numeric import NUMERIC
from trapline.compile.divide import DIVISIONS, divide

DIVISORS = [*range(1, 70), 100, 125, 139968, 641, 1000, 10_000, 1_000_000_007, (1 << 31) - 1, 1 << 31, 3 << 29]


class Evaluator:
    """Carries the operations out at once: values are their bits."""

    def constant(self, type_: int, bits: int) -> int:
        return bits

    def pure(self, code: int, args: tuple[int, ...], type_: int) -> int:
        result = NUMERIC[code].function(*args)
        assert isinstance(result, int)
        return result


@pytest.mark.parametrize("code", sorted(DIVISIONS))
def test_like_the_division(code: int) -> None:
    bits = 64 if code >= 0x7F else 32
    mask = (1 << bits) - 1
    draw = random.Random(code)
    divisors = {sign * divisor & mask for divisor in (*DIVISORS, 1 << (bits - 1), mask >> 1) for sign in (1, -1)}
    divisors |= {draw.getrandbits(draw.randrange(2, bits + 1)) or 1 for _ in range(200)}
    done = 0
    for divisor in sorted(divisors):
        values = {near + by & mask for near in (0, 1 << (bits - 1), divisor, 7 * divisor) for by in (-2, -1, 0, 1, 2)}
        values |= {draw.getrandbits(bits) for _ in range(20)}
        values |= {draw.getrandbits(bits) // divisor * divisor + by & mask for by in (-1, 0, 1)}
        for value in values:
            found = divide(Evaluator(), code, value, divisor)
            if found is None:
                continue
            assert found == NUMERIC[code].function(value, divisor), f"{value} by {divisor}"
            done += 1
    assert done > (2000 if bits == 32 else 300)


def test_what_may_trap_stays_a_division() -> None:
    for code in DIVISIONS:
        assert divide(Evaluator(), code, 5, 0) is None
    assert divide(Evaluator(), 0x6D, 5, 0xFFFF_FFFF) is None
    assert divide(Evaluator(), 0x7F, 5, 0xFFFF_FFFF_FFFF_FFFF) is None
