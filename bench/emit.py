"""What does one emitted instruction cost: the macro assemblers, against one keystone call each.

Prints medians over rounds and the ratio; writes nothing. Run: ``python bench/emit.py``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from trapline.arch.aarch64.assembler import Assembler as A64Assembler
from trapline.arch.x86_64.assembler import Assembler as X86Assembler

ROUNDS = 15
REPEATS = 400


def x86_64_mix() -> int:
    """A loop body as a compiler emits it; returns the number of instructions."""
    a = X86Assembler()
    for turn in range(REPEATS):
        top, out = a.here(), a.label()
        a.mov64_rm(0, 3, 8 * (turn & 15))
        a.mov32_rx(1, 3, 0, 4, 0x40)
        a.add64_rr(0, 1)
        a.add64_ri(2, turn)
        a.cmp32_ri(1, 100)
        a.jcc_l(5, out)
        a.lea64_rx(6, 0, 2, 2, 16)
        a.mov64_mr(5, -8, 6)
        a.addsd_rr(0, 1)
        a.movsd_rm(2, 5, -0x1000)
        a.shl32_ri(1, 3)
        a.jmp_l(top)
        a.bind(out)
        a.xor32_rr(0, 0)
    a.finish()
    return REPEATS * 13


def aarch64_mix() -> int:
    """The same for aarch64."""
    a = A64Assembler()
    for turn in range(REPEATS):
        top, out = a.here(), a.label()
        a.ldr64_rm(0, 3, 8 * (turn & 15))
        a.ldr32_rx(1, 3, 0)
        a.add64_rrr(0, 0, 1)
        a.add64_rri(2, 2, turn)
        a.cmp32_ri(1, 100)
        a.bcond_l(1, out)
        a.add64_rrr_lsl(6, 0, 2, 1)
        a.str64_ru(6, 5, -8)
        a.fadd_d_rrr(0, 0, 1)
        a.ldr_d_rm(2, 5, 0x1000)
        a.lsl32_rri(1, 1, 3)
        a.b_l(top)
        a.bind(out)
        a.movz64_ri(0, 0, 0)
    a.finish()
    return REPEATS * 13


def median_us(mix: Callable[[], int]) -> float:
    """Microseconds per instruction, emission and finish together."""
    mix()
    times: list[float] = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        count = mix()
        times.append((time.perf_counter() - start) / count * 1e6)
    return statistics.median(times)


def keystone_us() -> float | None:
    """Microseconds of one keystone call for one instruction, in this process; None without keystone."""
    try:
        import keystone
    except ImportError:
        return None
    engine = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)
    times: list[float] = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for turn in range(200):
            engine.asm(f"add rdx, {turn}", 0, as_bytes=True)
        times.append((time.perf_counter() - start) / 200 * 1e6)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    single = keystone_us()
    if single is not None:
        print(f"keystone, one call   {single:8.2f} us")
    for name, mix in (("x86_64", x86_64_mix), ("aarch64", aarch64_mix)):
        cost = median_us(mix)
        ratio = f"   1/{single / cost:.0f} of keystone" if single is not None else ""
        print(f"{name:8} emit+finish {cost:8.3f} us{ratio}")


if __name__ == "__main__":
    main()
