"""Every register comes back as it was left: random values in all of them, each way of stopping, a hostile host.

The seed of a run is printed by the failing assertion and can be given again as TRAPLINE_SEED.
"""

import os
import random
import threading
from collections.abc import Callable

import pytest

from tests.inject.poison import poison
from trapline import CHECK_ADDRESS, CodeImage, Fiber, FiberError, Registers, StopReason, assemble
from trapline.native import HOST

pytestmark = pytest.mark.skipif(HOST.name != "x86_64", reason="the registers here are those of x86-64")

SEED = int(os.environ.get("TRAPLINE_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
ROUNDS = 200
GENERAL = tuple(name for name in HOST.shown if name not in ("rip", "rflags"))
FLAGS = 0x0CD5  # carry, parity, adjust, zero, sign, direction, overflow
FLAGS_ID = 1 << 21
VECTORS = tuple(
    f"{kind}{number}"
    for kind in ("zmm", "ymm", "xmm")
    for number in range(32)
    if f"{kind}{number}" in HOST.registers
    and not any(f"{wider}{number}" in HOST.registers for wider in ("zmm", "ymm")[: ("zmm", "ymm", "xmm").index(kind)])
)
MASKS = tuple(f"k{number}" for number in range(8) if f"k{number}" in HOST.registers)

CODE = CodeImage(
    assemble(
        """
        int3_loop: int3
            jmp int3_loop
        hlt_loop: hlt
            jmp hlt_loop
        load_loop: mov rax, qword ptr [0x100]
            jmp load_loop
        check_loop: call qword ptr [rip + check]
            jmp check_loop
        spin: jmp spin
        check: .quad CHECK
        """,
        symbols={"CHECK": CHECK_ADDRESS},
    ),
    name="state",
)


def random_values(rng: random.Random) -> dict[str, int]:
    """A value for every register but rip and rsp, each one that the processor accepts."""
    values = {name: rng.choice((rng.getrandbits(64), rng.getrandbits(8), (1 << 64) - 1, 0)) for name in GENERAL}
    values["rflags"] = 0x202 | rng.getrandbits(32) & (FLAGS | FLAGS_ID)
    values["mxcsr"] = 0x1F80 | rng.getrandbits(16) & 0xE07F  # every exception masked
    values["fcw"] = 0x7F | rng.getrandbits(16) & 0x1F00
    values["fsw"] = rng.getrandbits(16) & 0x7F7F  # no summary bit: nothing is unmasked
    values["ftw"] = rng.getrandbits(8)
    for number in range(8):
        values[f"st{number}"] = rng.getrandbits(80)
    for name in (*VECTORS, *MASKS):
        values[name] = rng.getrandbits(HOST.register(name).bits)
    return values


def write_all(registers: Registers, values: dict[str, int]) -> None:
    for name, value in values.items():
        registers[name] = value


def read_all(fiber: Fiber) -> dict[str, int]:
    return {name: fiber.registers[name] for name in HOST.registers if name not in ("fop", "fip", "fdp")}


def saved_components(fiber: Fiber) -> dict[int, bytes]:
    """The bytes of every component of the extended state, and which are present."""
    out = {-1: fiber.read_word(HOST.present_offset).to_bytes(8, "little")}
    for number, (offset, size_bytes) in HOST.components.items():
        data = bytearray(fiber.read_state(offset, size_bytes))
        if number == 0:
            data[6:24] = bytes(18)  # the last x87 instruction: what processors keep of it differs
            data[28:32] = bytes(4)  # the mask of MXCSR is no state
        out[number] = bytes(data)
    return out


def interrupter(fiber: Fiber) -> tuple[Callable[[], None], Callable[[], None]]:
    """A thread that interrupts the fiber once each time it is asked to; (ask, stop)."""
    asked = threading.Semaphore(0)
    over = threading.Event()

    def loop() -> None:
        while True:
            asked.acquire()
            if over.is_set():
                return
            fiber.interrupt()

    def stop() -> None:
        over.set()
        asked.release()
        thread.join()

    thread = threading.Thread(target=loop)
    thread.start()
    return asked.release, stop


STOPS = {
    "int3": ("int3_loop", StopReason.TRAP),
    "hlt": ("hlt_loop", StopReason.TRAP),
    "load": ("load_loop", StopReason.TRAP),
    "check": ("check_loop", StopReason.CHECK),
    "interrupt": ("spin", StopReason.INTERRUPT),
}


@pytest.mark.parametrize("path", ["inject", "direct"])
@pytest.mark.parametrize("stop", STOPS)
def test_every_register_survives(stop: str, path: str) -> None:
    label, reason = STOPS[stop]
    rng = random.Random(f"{SEED} {stop} {path}")
    fiber = Fiber(CODE[label], (), path=path, gil="release" if stop == "interrupt" else "lazy")
    ask, done = interrupter(fiber) if stop == "interrupt" else (lambda: None, lambda: None)
    try:
        for turn in range(ROUNDS):
            values = random_values(rng)
            if stop == "check":
                values["rsp"] = fiber.stack_bounds[3] - 16 * rng.randrange(4, 1000)
            write_all(fiber.registers, values)
            if stop == "int3":
                fiber.registers.rip = CODE.address_of(label)
            before, components = read_all(fiber), saved_components(fiber)
            assert {name: before[name] for name in values} == values, f"seed {SEED}, round {turn}: as written"
            poison()
            ask()
            event = fiber.resume()
            assert event is not None
            assert event.reason is reason
            if stop == "hlt":
                assert event.pc == CODE.address_of(label)
            poison()
            after = read_all(fiber)
            if stop in ("int3", "check"):
                after["rip"] = before["rip"]
            if turn == 0 and stop != "int3":
                after["rip"] = before["rip"]
            # RF is set by a fault of an instruction that is to be run again (Intel SDM volume 3, 17.3.1.1).
            for name in ("rflags", "eflags"):
                after[name] &= ~(1 << 16)
                before[name] &= ~(1 << 16)
            assert after == before, f"seed {SEED}, round {turn}"
            assert saved_components(fiber) == components, f"seed {SEED}, round {turn}"
    finally:
        done()


@pytest.mark.parametrize("path", ["inject", "direct"])
def test_a_ready_fiber_starts_with_what_was_written(path: str) -> None:
    rng = random.Random(f"{SEED} ready {path}")
    for turn in range(20):
        fiber = Fiber(CODE["hlt_loop"], (), path=path)
        values = random_values(rng)
        write_all(fiber.registers, values)
        before = read_all(fiber)
        poison()
        assert fiber.resume() is not None
        poison()
        after = read_all(fiber)
        for name in ("rflags", "eflags"):
            after[name] &= ~(1 << 16)
        assert after == before, f"seed {SEED}, round {turn}"


@pytest.mark.parametrize("path", ["inject", "direct"])
def test_native_code_computes_with_what_was_written(path: str) -> None:
    """Values that come from the machine and go back to it, not only through the saved state."""
    code = CodeImage(
        assemble(
            """
            start: int3
                addsd xmm0, xmm1
                fld1
                fldpi
                int3
                faddp st(1), st(0)
                fstp qword ptr [rdi]
                addsd xmm0, qword ptr [rdi]
                adc rax, rbx
                ret
            """
        )
    )
    fiber = Fiber(code["start"], (), path=path, signature="f64")
    event = fiber.resume()
    assert event is not None
    low = fiber.stack_bounds[2]
    registers = event.registers
    registers.rdi = low
    registers.set_lanes("xmm0", "f64", (1.25, 0.0))
    registers.set_lanes("xmm1", "f64", (2.5, 0.0))
    poison()
    event = fiber.resume()
    assert event is not None
    registers = event.registers
    assert registers.lanes("xmm0", "f64") == (3.75, 0.0)
    assert registers.st1 == 0x3FFF_8000_0000_0000_0000  # 1.0
    assert registers.st0 == 0x4000_C90F_DAA2_2168_C235  # pi
    assert registers.fsw >> 11 & 7 == 6
    assert registers.ftw == 0b1100_0000
    registers.st0 = 0x4000_C000_0000_0000_0000  # 3.0
    poison()
    assert fiber.resume() is None
    assert fiber.result == 7.75


@pytest.mark.parametrize("path", ["inject", "direct"])
@pytest.mark.parametrize("ending", ["trap", "check", "finish"])
def test_the_host_gets_its_own_flags_back(ending: str, path: str, run_python: Callable[..., object]) -> None:
    """Direction, alignment-check and nested-task flag of native code do not reach the host."""
    ends = {"trap": "hlt", "check": "call qword ptr [rip + check]", "finish": "nop"}
    run = run_python(
        f"""
        from trapline import *
        code = CodeImage(assemble('''
            pushfq
            or dword ptr [rsp], 0x44400
            popfq
            {ends[ending]}
            mov eax, 5
            ret
            .balign 8
        check: .quad CHECK''', symbols={{"CHECK": CHECK_ADDRESS}}))
        for turn in range(100):
            fiber = Fiber(code[0], (), path={path!r})
            event = fiber.resume()
            assert (event is None) == ({ending!r} == "finish")
            data = bytes(range(256)) * 33
            assert sorted(data[turn:]) == sorted(reversed(data[turn:]))
            if event is not None:
                assert event.registers.rflags & 0x44400 == 0x44400, hex(event.registers.rflags)
                event.registers.rflags = 0x202
                assert (fiber.skip() if {ending!r} == "trap" else fiber.resume()) is None
            assert fiber.result == 5
        """
    )
    assert run.returncode == 0, run  # type: ignore[attr-defined]


# ---- the registers by name ----


@pytest.fixture
def fiber() -> Fiber:
    made = Fiber(CODE["int3_loop"], ())
    made.resume()
    return made


def test_parts_of_general_registers(fiber: Fiber) -> None:
    registers = fiber.registers
    for letter in "abcd":
        registers[f"r{letter}x"] = 0x1122334455667788
        assert registers[f"e{letter}x"] == 0x55667788
        assert registers[f"{letter}x"] == 0x7788
        assert registers[f"{letter}l"] == 0x88
        assert registers[f"{letter}h"] == 0x77
        registers[f"{letter}h"] = 0xAB
        assert registers[f"r{letter}x"] == 0x112233445566AB88
        registers[f"{letter}l"] = -1
        assert registers[f"r{letter}x"] == 0x112233445566ABFF
        registers[f"{letter}x"] = 1
        assert registers[f"r{letter}x"] == 0x1122334455660001
        registers[f"e{letter}x"] = -2
        assert registers[f"r{letter}x"] == 0x11223344FFFFFFFE
    for name in ("si", "di", "bp"):  # the name sp is rsp, on every machine
        registers[f"r{name}"] = -1
        assert registers[f"r{name}"] == (1 << 64) - 1
        registers[f"e{name}"] = 0
        registers[name] = 0x8001
        registers[f"{name}l"] = 2
        assert registers[f"r{name}"] == 0xFFFFFFFF_00008002
    for number in range(8, 16):
        registers[f"r{number}"] = 1 << 63
        registers[f"r{number}d"] = 0xFFFFFFFF
        registers[f"r{number}w"] = 0
        registers[f"r{number}b"] = 7
        assert registers[f"r{number}"] == 0x80000000_FFFF0007


def test_flags(fiber: Fiber) -> None:
    registers = fiber.registers
    bits = {"cf": 0, "pf": 2, "af": 4, "zf": 6, "sf": 7, "df": 10, "of": 11}
    registers.rflags = 0x202
    for name, bit in bits.items():
        assert registers[name] == 0
        registers[name] = 1
        assert registers.rflags == 0x202 | 1 << bit
        assert registers.eflags == 0x202 | 1 << bit
        registers[name] = 0
        assert registers.rflags == 0x202
    with pytest.raises(FiberError, match="register zf: found 2"):
        registers.zf = 2


def test_vectors_and_their_parts(fiber: Fiber) -> None:
    registers = fiber.registers
    for number in range(16):
        whole = f"zmm{number}" if "zmm0" in registers else f"ymm{number}" if "ymm0" in registers else f"xmm{number}"
        bits = HOST.register(whole).bits
        registers[whole] = -1
        assert registers[whole] == (1 << bits) - 1
        registers[f"xmm{number}"] = 5
        assert registers[whole] == (1 << bits) - (1 << 128) + 5
        if "ymm0" in registers:
            registers[f"ymm{number}"] = 6
            assert registers[whole] == (1 << bits) - (1 << 256) + 6
    for number in range(16, 32 if "zmm16" in registers else 16):
        registers[f"zmm{number}"] = -1
        registers[f"xmm{number}"] = 1
        assert registers[f"ymm{number}"] == (1 << 256) - (1 << 128) + 1


def test_lanes(fiber: Fiber) -> None:
    registers = fiber.registers
    registers.set_lanes("xmm3", "f64", (1.5, -2.0))
    assert registers.lanes("xmm3", "f64") == (1.5, -2.0)
    assert registers.lanes("xmm3", "u64") == (0x3FF8000000000000, 0xC000000000000000)
    registers.set_lanes("xmm3", "i32", (-1, 2, -3, 4))
    assert registers.lanes("xmm3", "i32") == (-1, 2, -3, 4)
    assert registers.lanes("xmm3", "u8")[:5] == (255, 255, 255, 255, 2)
    assert registers.lanes("xmm3", "i16")[:2] == (-1, -1)
    registers.rax = 0xFFFF_FFFF_0000_0001
    assert registers.lanes("rax", "i32") == (1, -1)
    with pytest.raises(FiberError, match="found 3 lanes, expected 4 of i32"):
        registers.set_lanes("xmm3", "i32", (1, 2, 3))
    with pytest.raises(FiberError, match="expected 4 of u32"):
        registers.set_lanes("xmm3", "u32", (1, 2, 3, 1 << 32))
    with pytest.raises(FiberError, match="expected i8"):
        registers.lanes("xmm3", "i128")
    with pytest.raises(FiberError, match="no whole number of f64"):
        registers.lanes("eax", "f64")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rax", 1 << 64),
        ("rax", -(1 << 63) - 1),
        ("eax", 1 << 32),
        ("al", 256),
        ("al", -129),
        ("st0", 1 << 80),
        ("xmm0", 1 << 128),
        ("mxcsr", 1 << 32),
        ("rax", 1.0),
        ("rax", "1"),
        ("rax", None),
        ("xmm0", b"1"),
    ],
)
def test_values_that_do_not_fit(fiber: Fiber, name: str, value: int) -> None:
    before = fiber.registers[name]
    with pytest.raises(FiberError, match=f"register {name}: found .*, expected an integer"):
        fiber.registers[name] = value
    assert fiber.registers[name] == before


def test_names(fiber: Fiber) -> None:
    registers = fiber.registers
    assert registers.pc == registers.rip == fiber.pc
    assert registers.sp == registers.rsp == fiber.sp
    assert registers.fp == registers.rbp
    registers.fp = 9
    assert registers.rbp == 9
    assert "rax" in registers
    assert "pc" in registers
    assert "nothing" not in registers
    assert 5 not in registers
    assert len(registers) == len(list(registers)) == len(set(registers))
    for name in registers:
        assert registers[name] == getattr(registers, name)
    with pytest.raises(FiberError, match="no register 'nothing'"):
        registers["nothing"]
    with pytest.raises(FiberError, match="no register 'nothing'"):
        registers.nothing = 1
    with pytest.raises(FiberError, match="no register"):
        registers["RAX"] = 1
    with pytest.raises((TypeError, AttributeError)):
        del registers.rax


@pytest.mark.parametrize("path", ["inject", "direct"])
def test_initial_values(path: str) -> None:
    """A component that the code has never used reads as the machine would start it, and can be written alone."""
    fiber = Fiber(CODE["int3_loop"], (), path=path)
    assert fiber.registers.fcw == 0x37F
    assert fiber.registers.mxcsr == 0x1F80
    for name in (*VECTORS, *MASKS, *(f"st{number}" for number in range(8)), "fsw", "ftw", "fop", "fip", "fdp"):
        assert fiber.registers[name] == 0, name
    fiber.registers.st3 = 5
    assert fiber.registers.fcw == 0x37F
    assert fiber.registers.mxcsr == 0x1F80
    if MASKS:
        fiber.registers.k5 = 6
    fiber.registers.xmm9 = 7
    poison()
    fiber.resume()
    assert (fiber.registers.st3, fiber.registers.fcw, fiber.registers.mxcsr) == (5, 0x37F, 0x1F80)
    assert fiber.registers.xmm9 == 7
    assert all(fiber.registers[name] == (6 if name == "k5" else 0) for name in MASKS)
    assert all(fiber.registers[name] == (7 if name.endswith("mm9") else 0) for name in VECTORS)


def test_registers_only_while_stopped(fiber: Fiber) -> None:
    registers = fiber.registers
    fiber.unwind()
    assert registers.rax == fiber.registers.rax
    with pytest.raises(FiberError, match="unwound; registers can be written while it is ready or suspended"):
        registers.rax = 1
    finished = Fiber(CodeImage(assemble("ret"))[0], ())
    assert finished.resume() is None
    for name in ("rax", "eax", "xmm0", "st0", "zf", "mxcsr"):
        with pytest.raises(FiberError, match="finished; registers can be read while it is stopped"):
            finished.registers[name]
        with pytest.raises(FiberError, match="finished; registers can be"):
            finished.registers[name] = 1
