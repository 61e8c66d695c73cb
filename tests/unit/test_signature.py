"""Signatures: what is parsed, what is refused, and what each type does to arguments and results."""

from __future__ import annotations

import ctypes
import math
import platform
import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trapline
from trapline.runtime.signature import CODES, Signature

x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="the machine code here is x86-64")
INT_RANGES = {
    "i32": (-(2**31), 2**31 - 1),
    "u32": (0, 2**32 - 1),
    "i64": (-(2**63), 2**63 - 1),
    "u64": (0, 2**64 - 1),
    "ptr": (0, 2**64 - 1),
}
# mov rax, rdi; ret and ret: the first integer and the first float come back.
INTEGER, FLOAT = bytes.fromhex("4889f8c3"), bytes.fromhex("c3")


@pytest.mark.parametrize(
    ("text", "parameters", "result"),
    [
        ("void", None, "v"),
        ("i64", None, "l"),
        ("void()", b"", "v"),
        ("i32(i32, f64)", b"id", "i"),
        (" u64 ( ptr ,f32 ) ", b"Lf", "L"),
        ("f32(u32,\n\tu64)", b"uL", "f"),
    ],
)
def test_good(text: str, parameters: bytes | None, result: str) -> None:
    assert Signature.parse(text) == (parameters, result)


BAD: list[Any] = ["", " ", "()", "i32(", "i32)", "(i32)", "i32(i32))", "i32((i32)", "i32(i32,)", "i32(,i32)", "i32(,)"]
BAD += ["i32 i32", "i32()i32", "I32()", "int", "i32(void)", "void(void)", "i8()", "i32(i32 i32)", "i32\0()", "é()"]
BAD += ["i32(*)", "*", "i32;", "i32->i32", None, 5, 1.5, b"i32", ["i32"], ("i32",), object]


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_bad(text: Any) -> None:
    """A FiberError that shows the text, wherever a signature is taken."""
    with pytest.raises(trapline.FiberError, match=r"signature.*found.*expected"):
        Signature.parse(text)
    code = trapline.CodeImage(INTEGER)
    with pytest.raises(trapline.FiberError, match=r"signature"):
        code.function(0, text)
    with pytest.raises(trapline.FiberError, match=r"signature"):
        trapline.Fiber(code.base, signature=text)


@given(st.text(max_size=20))
def test_any_text(text: str) -> None:
    """Any text is parsed or refused; nothing else happens."""
    try:
        parsed = Signature.parse(text)
    except trapline.FiberError:
        return
    assert parsed.result in CODES.values()


@x86_64_only
@pytest.mark.parametrize("name", INT_RANGES)
def test_integer_ranges(name: str) -> None:
    """The whole range goes there and back; one more on either side is refused, with its value in the message."""
    low, high = INT_RANGES[name]
    code = trapline.CodeImage(INTEGER, name="echo")
    echo = code.function(0, f"{name}({name})")
    for value in (low, low + 1, 0, 1, high - 1, high, True, False):
        assert echo(value) == value
    for value in (low - 1, high + 1, -(2**64), 2**64, 2**200, -(2**200)):
        with pytest.raises(trapline.FiberError, match=rf"echo\+0x0: argument 0: found {value}, expected an integer"):
            echo(value)
    for wrong in (1.0, "1", None, b"1", 1j, [], math.nan):
        with pytest.raises(trapline.FiberError, match=r"argument 0: found .*, expected an integer"):
            echo(wrong)


@x86_64_only
def test_thirty_two_bits_are_cut_and_extended() -> None:
    """A result of 32 bits takes the low half, signed or not, whatever stands above it."""
    code = trapline.CodeImage(INTEGER)
    for value in (0xFFFFFFFF_80000000, 0x12345678_FFFFFFFF, 0xFFFFFFFF_7FFFFFFF):
        assert code.function(0, "u32(u64)")(value) == value & 0xFFFFFFFF
        assert code.function(0, "i32(u64)")(value) == ctypes.c_int32(value & 0xFFFFFFFF).value
        assert code.function(0, "i64(u64)")(value) == ctypes.c_int64(value).value
    assert code.function(0, "void(u64)")(1) is None
    assert code.function(0, "u64(i32)")(-1) == 2**64 - 1
    assert code.function(0, "u64(u32)")(2**32 - 1) == 2**32 - 1


@x86_64_only
def test_by_python_type() -> None:
    """Without parameters an int is 64 bits and a float is f64; bools are ints, subclasses too."""

    class Integer(int):
        pass

    class Number(float):
        pass

    code = trapline.CodeImage(INTEGER + FLOAT)
    unsigned, float_ = code.function(0, "u64"), code.function(4, "f64")
    for value in (-(2**63), -1, 0, 2**63, 2**64 - 1, True, Integer(5)):
        assert unsigned(value) == value % 2**64
    for number in (0.1, -0.0, math.inf, 5e-324, Number(2.5)):
        assert struct.pack("d", float_(number)) == struct.pack("d", number)
    for wrong in (2**64, -(2**63) - 1, None, "1", 1j, b""):
        with pytest.raises(trapline.FiberError, match=r"argument 0"):
            unsigned(wrong)


@x86_64_only
def test_floats() -> None:
    """f64 goes bit by bit; f32 is rounded as C rounds, to infinity beyond its range; ints and __float__ serve."""

    class Number:
        def __float__(self) -> float:
            return 1.5

    class Index:
        def __index__(self) -> int:
            return 3

    class Broken:
        def __float__(self) -> float:
            raise ZeroDivisionError

    code = trapline.CodeImage(FLOAT)
    double, single = code.function(0, "f64(f64)"), code.function(0, "f32(f32)")
    quiet = struct.unpack("d", bytes.fromhex("efbeadde0000f87f"))[0]
    for value in (0.0, -0.0, 1 / 3, math.inf, -math.inf, quiet, 5e-324, 1.7976931348623157e308):
        assert struct.pack("d", double(value)) == struct.pack("d", value)
        assert struct.pack("d", single(value)) == struct.pack("d", ctypes.c_float(value).value) or math.isnan(value)
    assert single(1e39) == math.inf
    assert single(-1e39) == -math.inf
    assert single(1e-50) == 0.0
    assert single(16777217.0) == 16777216.0
    assert math.isnan(single(math.nan))
    for function in (double, single):
        assert [function(value) for value in (7, True, Number(), Index())] == [7.0, 1.0, 1.5, 3.0]
        for wrong in ("1", None, b"", 1j, 10**400):
            with pytest.raises(trapline.FiberError, match=r"argument 0: found .*, expected a number"):
                function(wrong)
        with pytest.raises(ZeroDivisionError):
            function(Broken())


@x86_64_only
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_number_of_arguments(count: int) -> None:
    code = trapline.CodeImage(INTEGER, name="f")
    function = code.function(0, f"i64({', '.join(['i64'] * count)})")
    for wrong in {0, 1, 2, 3, 5, 8} - {count}:
        with pytest.raises(trapline.FiberError, match=f"f.0x0: found {wrong} arguments, expected {count}"):
            function(*range(wrong))
        with pytest.raises(trapline.FiberError, match=f"f.0x0: found {wrong} arguments, expected {count}"):
            trapline.Fiber(code.base, range(wrong), signature=f"i64({', '.join(['i64'] * count)})")
    with pytest.raises(trapline.FiberError, match=r"keyword"):
        function(*range(count), extra=1)  # type: ignore[call-arg]


def test_too_many_arguments() -> None:
    code = trapline.CodeImage(INTEGER)
    for function in (code[0], code.function(0, f"i64({', '.join(['i64'] * 65)})")):
        with pytest.raises(trapline.FiberError, match=r"found 65 arguments, expected at most 64"):
            function(*range(65))


@x86_64_only
@pytest.mark.parametrize("seed", range(40))
def test_mixed_arguments_against_ctypes(seed: int) -> None:
    """Up to 64 arguments of all types reach native code as the C compiler's convention says.

    The native code jumps to a C function that ctypes made, which sees what a C caller would have passed.
    """
    shuffled = random.Random(seed)
    names = [shuffled.choice(["i32", "u32", "i64", "u64", "f32", "f64"]) for _ in range(shuffled.randrange(1, 65))]
    types: dict[str, Any] = {
        "i32": ctypes.c_int32,
        "u32": ctypes.c_uint32,
        "i64": ctypes.c_int64,
        "u64": ctypes.c_uint64,
        "f32": ctypes.c_float,
        "f64": ctypes.c_double,
    }
    values: list[int | float] = [
        shuffled.randint(*INT_RANGES[name]) if name in INT_RANGES else types[name](shuffled.gauss(0, 1e6)).value
        for name in names
    ]
    result = shuffled.choice([*types, "void"])
    answer = types[result](shuffled.randrange(100)).value if result in types else None
    seen: list[tuple[Any, ...]] = []

    def look(*arguments: Any) -> Any:
        seen.append(arguments)
        return answer

    callback = ctypes.PYFUNCTYPE(types.get(result), *(types[name] for name in names))(look)
    target = ctypes.cast(callback, ctypes.c_void_p).value
    assert target is not None
    # mov r11, target; jmp r11
    code = trapline.CodeImage(b"\x49\xbb" + target.to_bytes(8, "little") + bytes.fromhex("41ffe3"))
    function = code.function(0, f"{result}({', '.join(names)})")
    assert function(*values) == answer
    fiber = trapline.Fiber(code.base, values, signature=f"{result}({', '.join(names)})")
    assert fiber.resume() is None
    assert fiber.result == answer
    assert seen == [tuple(values)] * 2, f"seed {seed}"


@x86_64_only
def test_results_of_a_struct_are_in_the_registers() -> None:
    """A struct of two words comes back in rax and rdx, one of two doubles in xmm0 and xmm1; a fiber shows both."""
    code = trapline.CodeImage(bytes.fromhex("4889f8 4889f2 c3 0f28d0 0f28c1 0f28ca c3".replace(" ", "")))
    pair = trapline.Fiber(code.base, (5, 6), signature="u64(u64, u64)")
    copy = code.copy(breakpoints=4)
    copy.add_breakpoint(6)
    copy.add_breakpoint(16)
    pair = trapline.Fiber(copy.base, (5, 6))
    event = pair.resume()
    assert event is not None
    assert (event.registers.rax, event.registers.rdx) == (5, 6)
    doubles = trapline.Fiber(copy.base + 7, (1.5, 2.5), signature="f64")
    event = doubles.resume()
    assert event is not None
    assert [event.registers.lanes(name, "f64")[0] for name in ("xmm0", "xmm1")] == [2.5, 1.5]
    assert doubles.resume() is None
    assert doubles.result == 2.5


@x86_64_only
def test_stack_is_aligned_for_every_count() -> None:
    """rsp is 8 off a multiple of 16 at the entry, with any number of arguments on the stack."""
    code = trapline.CodeImage(bytes.fromhex("4889e0c3"))  # mov rax, rsp; ret
    for count in range(65):
        assert code.function(0, "u64")(*range(count)) % 16 == 8
