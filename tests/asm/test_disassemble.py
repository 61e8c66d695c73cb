"""Disassembly: kinds, targets, memory operands, bytes that are no instruction."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline.asm.disassemble import Decoded, Kind, decode_one, disassemble
from trapline.errors import AssemblyError


def one(code: str, address: int = 0x1000) -> Decoded:
    return decode_one(bytes.fromhex(code), address, arch="x86_64")


def word(value: int, address: int = 0x1000) -> Decoded:
    return decode_one(value.to_bytes(4, "little"), address, arch="aarch64")


@pytest.mark.parametrize(
    ("code", "kind", "target"),
    [
        ("4801d8", Kind.PLAIN, None),
        ("ebfe", Kind.JUMP, 0x1000),
        ("e900000000", Kind.JUMP, 0x1005),
        ("7402", Kind.CONDITIONAL_JUMP, 0x1004),
        ("0f8400000000", Kind.CONDITIONAL_JUMP, 0x1006),
        ("e2fe", Kind.CONDITIONAL_JUMP, 0x1000),
        ("e3fe", Kind.CONDITIONAL_JUMP, 0x1000),
        ("67e3fd", Kind.CONDITIONAL_JUMP, 0x1000),
        ("e800000000", Kind.CALL, 0x1005),
        ("ffd0", Kind.CALL, None),
        ("ffe0", Kind.JUMP, None),
        ("c3", Kind.RETURN, None),
        ("c20800", Kind.RETURN, None),
        ("cb", Kind.RETURN, None),
        ("48cf", Kind.RETURN, None),
        ("cc", Kind.TRAP, None),
        ("f4", Kind.TRAP, None),
        ("0f0b", Kind.TRAP, None),
        ("f1", Kind.TRAP, None),
        ("cd03", Kind.TRAP, None),
        ("cd80", Kind.SYSCALL, None),
        ("0f05", Kind.SYSCALL, None),
    ],
)
def test_x86_64_kinds(code: str, kind: Kind, target: int | None) -> None:
    assert (one(code).kind, one(code).target) == (kind, target)


@pytest.mark.parametrize(
    ("value", "kind", "target", "register"),
    [
        (0x8B020020, Kind.PLAIN, None, None),
        (0x14000001, Kind.JUMP, 0x1004, None),
        (0x17FFFFFF, Kind.JUMP, 0xFFC, None),
        (0x94000002, Kind.CALL, 0x1008, None),
        (0x54000040, Kind.CONDITIONAL_JUMP, 0x1008, None),
        (0x5400004E, Kind.JUMP, 0x1008, None),
        (0x34000040, Kind.CONDITIONAL_JUMP, 0x1008, None),
        (0xB5FFFFE0, Kind.CONDITIONAL_JUMP, 0xFFC, None),
        (0x36000040, Kind.CONDITIONAL_JUMP, 0x1008, None),
        (0xD61F0060, Kind.JUMP, None, "x3"),
        (0xD63F03C0, Kind.CALL, None, "x30"),
        (0xD65F03C0, Kind.RETURN, None, "x30"),
        (0xD4200000, Kind.TRAP, None, None),
        (0xD4400000, Kind.TRAP, None, None),
        (0xD4000001, Kind.SYSCALL, None, None),
    ],
)
def test_aarch64_kinds(value: int, kind: Kind, target: int | None, register: str | None) -> None:
    found = word(value)
    assert (found.kind, found.target, found.target_register) == (kind, target, register)


@pytest.mark.parametrize(
    ("code", "accesses"),
    [
        ("488b4308", [("rbx", None, 1, 8, 8, "r")]),
        ("4889448bf8", [("rbx", "rcx", 4, -8, 8, "w")]),
        ("48ff03", [("rbx", None, 1, 0, 8, "rw")]),
        ("f00fb10f", [("rdi", None, 1, 0, 4, "rw")]),
        ("4887 03", [("rbx", None, 1, 0, 8, "rw")]),
        ("488d4308", []),
        ("0f1f4300", []),
        ("0f180b", []),
        ("50", [("rsp", None, 1, -8, 8, "w")]),
        ("58", [("rsp", None, 1, 0, 8, "r")]),
        ("6650", [("rsp", None, 1, -2, 2, "w")]),
        ("ff33", [("rbx", None, 1, 0, 8, "r"), ("rsp", None, 1, -8, 8, "w")]),
        ("e800000000", [("rsp", None, 1, -8, 8, "w")]),
        ("c3", [("rsp", None, 1, 0, 8, "r")]),
        ("a4", [("rdi", None, 1, 0, 1, "w"), ("rsi", None, 1, 0, 1, "r")]),
        ("f20f1103", [("rbx", None, 1, 0, 8, "w")]),
        ("0f2803", [("rbx", None, 1, 0, 16, "r")]),
        ("c5fc2903", [("rbx", None, 1, 0, 32, "w")]),
        ("dd1b", [("rbx", None, 1, 0, 8, "w")]),
        ("803b00", [("rbx", None, 1, 0, 1, "r")]),
    ],
)
def test_x86_64_accesses(code: str, accesses: list[tuple[object, ...]]) -> None:
    found = [
        (m.base, m.index, m.scale, m.displacement, m.size_bytes, "r" * m.reads + "w" * m.writes)
        for m in one(code).memory
    ]
    assert found == accesses


@pytest.mark.parametrize(
    ("value", "access"),
    [
        (0xF9400420, ("x1", None, 8, 8, "r", 0)),
        (0xB90003E0, ("sp", None, 0, 4, "w", 0)),
        (0x39800020, ("x1", None, 0, 1, "r", 0)),
        (0xF8408C20, ("x1", None, 8, 8, "r", 8)),
        (0xF8408420, ("x1", None, 0, 8, "r", 8)),
        (0xF8617802, ("x0", "x1", 0, 8, "r", 0)),
        (0xF8604820, ("x1", "w0", 0, 8, "r", 0)),
        (0xA9BF7BFD, ("sp", None, -16, 16, "w", -16)),
        (0xA8C17BFD, ("sp", None, 0, 16, "r", 16)),
        (0xAD400420, ("x1", None, 0, 32, "r", 0)),
        (0x3DC00420, ("x1", None, 16, 16, "r", 0)),
        (0x58000040, (None, None, 8, 8, "r", 0)),
        (0xC85F7C20, ("x1", None, 0, 8, "r", 0)),
        (0xC800FC41, ("x2", None, 0, 8, "w", 0)),
        (0xC8A07C41, ("x2", None, 0, 8, "rw", 0)),
        (0xB8E003E1, ("sp", None, 0, 4, "rw", 0)),
        (0x4CDFA800, ("x0", None, 0, 32, "r", 32)),
        (0x0D409000, ("x0", None, 0, 4, "r", 0)),
        (0x4D40C800, ("x0", None, 0, 4, "r", 0)),
    ],
)
def test_aarch64_accesses(value: int, access: tuple[object, ...]) -> None:
    (m,) = word(value).memory
    assert (m.base, m.index, m.displacement, m.size_bytes, "r" * m.reads + "w" * m.writes, m.writeback) == access


def test_no_access() -> None:
    for value in (0xF9800000, 0xD503201F, 0x8B020020, 0xD50B7A20):
        assert word(value).memory == ()


def test_effective_addresses() -> None:
    found = one("648b448b08")
    registers = {"rbx": 0x1000, "rcx": 3, "fs_base": 0x7000_0000}
    assert found.memory_address(found.memory[0], registers) == 0x7000_0000 + 0x1000 + 12 + 8
    found = one("488b0510000000")
    assert found.memory_address(found.memory[0], {}) == 0x1007 + 0x10
    found = one("678b03")
    assert found.memory_address(found.memory[0], {"rbx": 0xFFFF_0000_1234}) == 0x0000_1234
    narrow = word(0xF8604820)
    assert narrow.memory_address(narrow.memory[0], {"x1": 0x1000, "x0": 0xFFFF_FFFF_0000_0008}) == 0x1008
    signed = word(0xF860C820)
    assert signed.memory_address(signed.memory[0], {"x1": 0x1000, "x0": 0xFFFF_FFFF}) == 0xFFF
    literal = word(0x58000040)
    assert literal.memory_address(literal.memory[0], {}) == 0x1008
    with pytest.raises(KeyError):
        one("488b03").memory_address(one("488b03").memory[0], {})


def test_indirect_targets() -> None:
    assert one("ffd0").target_register == "rax"
    memory = one("ff64cb10").target_memory
    assert memory is not None
    assert (memory.base, memory.index, memory.scale, memory.displacement) == ("rbx", "rcx", 8, 0x10)


def test_repeats() -> None:
    assert one("f3a4").loops
    assert one("f2ae").loops
    assert not one("a4").loops
    assert not one("f390").loops


def test_bad_bytes() -> None:
    assert [(i.address, i.mnemonic, i.size_bytes) for i in disassemble(b"\x90\x06\xc3", 0x10, arch="x86_64")] == [
        (0x10, "nop", 1),
        (0x11, "(bad)", 1),
        (0x12, "ret", 1),
    ]
    assert [i.text for i in disassemble(b"\xff" * 4 + b"\x1f\x20\x03\xd5\x01", 0, arch="aarch64")] == [
        "(bad) ff ff ff ff",
        "nop",
        "(bad) 01",
    ]
    assert disassemble(b"", 0, arch="x86_64") == []
    for code in (b"", b"\x06", b"\x48"):
        with pytest.raises(AssemblyError, match="0x40"):
            decode_one(code, 0x40, arch="x86_64")
    with pytest.raises(AssemblyError, match="arm"):
        disassemble(b"", 0, arch="arm")


def test_udf_is_a_trap() -> None:
    found = word(5)
    assert found.kind is Kind.TRAP
    assert found.mnemonic == "udf"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, (1 << 64) - 1), st.sampled_from(["x86_64", "aarch64"]))
def test_any_bytes_are_covered(code: bytes, address: int, arch: str) -> None:
    listing = disassemble(code, address, arch=arch)
    assert b"".join(instruction.code for instruction in listing) == code
    try:
        found = decode_one(code, address, arch=arch)
    except AssemblyError:
        assert not listing or listing[0].is_bad
    else:
        assert found.size_bytes == listing[0].size_bytes


def test_threads_have_their_own_engines() -> None:
    failures: list[object] = []

    def work() -> None:
        texts = {one("488b4308").text for _ in range(200)}
        failures.extend(texts - {"mov rax, qword ptr [rbx + 8]"})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
