"""Labels, fixups, relaxation, pools and boundaries of both macro assemblers, checked by disassembly."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline.arch.aarch64 import assembler as a64
from trapline.arch.x86_64 import assembler as x86
from trapline.asm.disassemble import Kind, decode_one
from trapline.errors import AssemblyError

# A program: what to emit in order. (kind, number): a label to bind, a branch to a label, filler bytes, alignment.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["bind", "jmp", "jcc", "call", "rip", "fill", "align", "ret"]),
        st.integers(0, 7),
        st.integers(0, 140),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_x86_64_branches_reach_their_labels(steps: list[tuple[str, int, int]]) -> None:
    a = x86.Assembler()
    labels = [a.label() for _ in range(8)]
    bound: set[int] = set()
    expected: list[tuple[int, str, int]] = []  # (position label, what, target label)
    for what, number, amount in steps:
        if what == "bind" and number not in bound:
            bound.add(number)
            a.bind(labels[number])
        elif what == "jmp":
            expected.append((a.here(), what, labels[number]))
            a.jmp_l(labels[number])
        elif what == "jcc":
            expected.append((a.here(), what, labels[number]))
            a.jcc_l(amount & 15, labels[number])
        elif what == "call":
            expected.append((a.here(), what, labels[number]))
            a.call_l(labels[number])
        elif what == "rip":
            expected.append((a.here(), what, labels[number]))
            a.cmp32_pi(labels[number], amount)
        elif what == "fill":
            a.data(bytes([0x90]) * amount)
        elif what == "align":
            a.align(1 << number)
        else:
            a.ret()
    for number in range(8):
        if number not in bound:
            a.bind(labels[number])
    a.ret()
    code = a.finish()
    boundaries = a.boundaries()
    for position, what, target in expected:
        offset = a.offset(position)
        found = decode_one(code[offset:], offset, arch="x86_64")
        assert offset in boundaries
        if what == "rip":
            displacement = found.memory[0].displacement
            assert found.next_address + displacement == a.offset(target)
            continue
        assert found.target == a.offset(target) & (1 << 64) - 1
        if what in ("jmp", "jcc") and found.size_bytes > 2:
            distance = a.offset(target) - offset
            # Not longer than needed, up to what later growth and alignment may have moved.
            assert not -100 <= distance <= 100 or any(step[0] == "align" for step in steps)


def test_x86_64_edges_of_the_short_form() -> None:
    for filler, size in ((127, 2), (128, 5)):
        a = x86.Assembler()
        label = a.label()
        a.jmp_l(label)
        a.data(bytes(filler))
        a.bind(label)
        a.ret()
        assert len(a.finish()) == filler + size + 1
    for filler, size in ((126, 2), (127, 6)):
        a = x86.Assembler()
        label = a.here()
        a.data(bytes(filler))
        a.jcc_l(4, label)
        assert len(a.finish()) == filler + size


def test_x86_64_cascade_of_growing_branches() -> None:
    """Each branch just reaches until the one inside it grows."""
    a = x86.Assembler()
    labels = [a.label() for _ in range(400)]
    marks = []
    for number in range(400):
        marks.append(a.here())
        a.jmp_l(labels[number])
        a.data(bytes(120))
        if number:
            a.bind(labels[number - 1])
    a.bind(labels[-1])
    a.ret()
    code = a.finish()
    for number in range(400):
        offset = a.offset(marks[number])
        assert decode_one(code[offset:], offset, arch="x86_64").target == a.offset(labels[number])


def test_x86_64_pool() -> None:
    a = x86.Assembler()
    first, second = a.constant(bytes(range(16))), a.constant(b"12345678")
    assert a.constant(b"12345678") == second
    a.movups_rp(3, first)
    a.movsd_rp(4, second)
    a.ret()
    code = a.finish()
    assert a.offset(first) % 16 == 0
    assert code[a.offset(first) :][:16] == bytes(range(16))
    assert code[a.offset(second) :][:8] == b"12345678"
    assert a.boundaries() == [0, 7, 15]


@pytest.mark.parametrize("module", [x86, a64])
def test_misuse_of_labels(module: object) -> None:
    assembler = x86.Assembler if module is x86 else a64.Assembler
    a = assembler()
    label = a.label()
    a.bind(label)
    with pytest.raises(AssemblyError, match="bound"):
        a.bind(label)
    with pytest.raises(AssemblyError):
        a.bind(7)
    with pytest.raises(AssemblyError, match="not finished"):
        a.offset(label)
    with pytest.raises(AssemblyError, match="not finished"):
        a.boundaries()
    unbound = a.label()
    if isinstance(a, x86.Assembler):
        a.jmp_l(unbound)
    else:
        a.b_l(unbound)
    with pytest.raises(AssemblyError, match="no bind"):
        a.finish()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bind", "b", "bl", "bcond", "cbz", "tbz", "adr", "ldr", "fill", "align"]),
            st.integers(0, 5),
            st.integers(0, 9000),
        ),
        max_size=40,
    )
)
def test_aarch64_branches_reach_their_labels(steps: list[tuple[str, int, int]]) -> None:
    a = a64.Assembler()
    labels = [a.label() for _ in range(6)]
    bound: set[int] = set()
    expected: list[tuple[int, str, int]] = []
    for what, number, amount in steps:
        label = labels[number]
        if what == "bind":
            if number not in bound:
                bound.add(number)
                a.bind(label)
            continue
        if what == "fill":
            a.data(bytes(4 * amount))
            continue
        if what == "align":
            a.align(4 << number)
            continue
        expected.append((a.here(), what, label))
        if what == "b":
            a.b_l(label)
        elif what == "bl":
            a.bl_l(label)
        elif what == "bcond":
            a.bcond_l(amount % 14, label)
        elif what == "cbz":
            a.cbnz64_rl(3, label)
        elif what == "tbz":
            a.tbz_ril(3, amount & 63, label)
        elif what == "adr":
            a.adr_rl(5, label)
        else:
            a.ldr64_rl(5, label)
    for number in range(6):
        if number not in bound:
            a.bind(labels[number])
    a.ret()
    code = a.finish()
    for position, what, label in expected:
        offset = a.offset(position)
        while code[offset : offset + 4] == b"\x1f\x20\x03\xd5":  # the label stands before the padding
            offset += 4
        target = a.offset(label)
        found = decode_one(code[offset:], offset, arch="aarch64")
        if what == "adr":
            assert int(found.operands_text.rpartition("#")[2], 0) & (1 << 64) - 1 == target
        elif what == "ldr":
            assert offset + found.memory[0].displacement == target
        elif found.target == offset + 8 and found.kind is Kind.CONDITIONAL_JUMP and target != offset + 8:
            behind = decode_one(code[offset + 4 :], offset + 4, arch="aarch64")
            assert behind.kind is Kind.JUMP
            assert behind.target == target
        else:
            assert found.target == target


def test_aarch64_out_of_reach() -> None:
    a = a64.Assembler()
    label = a.label()
    a.adr_rl(0, label)
    a.data(bytes(1 << 20))
    a.bind(label)
    with pytest.raises(AssemblyError, match="adr"):
        a.finish()


def test_aarch64_inverted_branches_keep_their_meaning() -> None:
    for emit, near in (("cbz64_rl", "cbnz"), ("cbnz32_rl", "cbz"), ("tbz_ril", "tbnz"), ("bcond_l", "b.ne")):
        a = a64.Assembler()
        label = a.label()
        arguments = {"tbz_ril": (3, 40, label), "bcond_l": (0, label)}.get(emit, (3, label))
        getattr(a, emit)(*arguments)
        a.data(bytes(1 << 20))
        a.bind(label)
        a.ret()
        code = a.finish()
        assert decode_one(code, 0, arch="aarch64").mnemonic == near
        assert decode_one(code, 0, arch="aarch64").target == 8
        assert decode_one(code[4:], 4, arch="aarch64").target == a.offset(label)
        assert a.boundaries()[0] == 0


def test_random_programs_are_deterministic() -> None:
    def build(seed: int) -> bytes:
        rng = random.Random(seed)
        a = x86.Assembler()
        labels = [a.here()]
        for _ in range(300):
            a.add64_ri(rng.randrange(16), rng.randrange(1000))
            a.jcc_l(rng.randrange(16), rng.choice(labels))
            labels.append(a.here())
        return a.finish()

    assert build(1) == build(1)
    assert build(1) != build(2)
