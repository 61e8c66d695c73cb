"""`assemble`: what it makes, and that nothing keystone does wrong in silence gets through."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trapline.asm.assembly import Assembly, assemble, host_arch
from trapline.asm.disassemble import decode_one, disassemble
from trapline.errors import AssemblyError

pytest.importorskip("keystone", reason="assemble needs keystone")


def code(text: str, arch: str = "x86_64", **more: object) -> str:
    return assemble(text, arch=arch, **more).code.hex()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ret", "c3"),
        ("mov rax, 1 # one", "48c7c001000000"),
        ("mov eax, edi; ret # two", "89f8c3"),
        (".ascii \"a;b\"; ret;", "613b62c3"),
        ("mov rax, 1 // é", "48c7c001000000"),
        ("mov rax, [0x1000]", "488b042500100000"),
        ("add dword ptr fs:[0], 5", "648304250000000005"),
        ("mov rcx, fs:[0x28]", "64488b0c2528000000"),
        ("mov rax, gs:[rbx]", "65488b03"),
        ("movabs rax, [0x1122334455667788]", "48a18877665544332211"),
        ("push -1", "6aff"),
        ("push 0x7fffffff", "68ffffff7f"),
        ("pushf", "9c"),
        ("mov rax, [rax+rsp]", "488b0404"),
        ("nop dword ptr [rax]", "0f1f00"),
        ("nop word ptr [r9+rax*2+5]", "66410f1f444105"),
        ("xchg rax, rax", "4890"),
        ("mov rax, qword[rbx]", "488b03"),
        ("endbr64", "f30f1efa"),
        ("rdpid rax", "f30fc7f8"),
        ("rdpid r9", "f3410fc7f9"),
        ("ud1 eax, r9d", "410fb9c1"),
        ("serialize", "0f01e8"),
        ("movsd", "a5"),
        ("rep movsd", "f3a5"),
        ("notrack jmp rax", "3effe0"),
        ("jmp .", "ebfe"),
        ("jmp .+5", "eb03"),
        ("xbegin .+6", "c7f800000000"),
        ("cmpps xmm1, xmm2, 1", "0fc2ca01"),
        ("mov rax, 'a'", "48c7c061000000"),
        ("mov eax, (1 << 4) | 3", "b813000000"),
        ("mov rax, [rbx + 4*rcx - 2*3]", "488b448bfa"),
        ("MOV RAX, QWORD PTR [RBX]", "488b03"),
        ("", ""),
        ("\n\n  # nothing\n", ""),
        ("x:", ""),
        (".byte 1, -1, 255\n.short 1\n.word 2\n.long 3\n.quad 4", "01ffff0100020003000000" + "0400000000000000"),
        (r'.ascii "a\n\x00;#//", "b"', "610a003b232f2f62"),
        ('.asciz "hi"', "686900"),
        (".zero 3\n.skip 2, 7", "0000000707"),
        ("ret\n.balign 4", "c30f1f00"),
        ("ret\n.p2align 2, 0xcc", "c3cccccc"),
        ("a: .quad b - a, a, b\nb:", "1800000000000000" + "0000000000000000" + "1800000000000000"),
    ],
)
def test_x86_64_text(text: str, expected: str) -> None:
    assert code(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ret", "c0035fd6"),
        ("mov x0, #1 // one", "200080d2"),
        ("# a comment\nnop", "1f2003d5"),
        ("cas x0, x1, [x2]", "417ca0c8"),
        ("ldaddal w0, w1, [sp]", "e103e0b8"),
        ("stadd x0, [x1]", "3f0020f8"),
        ("swpb w0, w1, [x2]", "41802038"),
        ("casp x0, x1, x2, x3, [x4]", "827c2048"),
        ("ldapr x0, [x1]", "20c0bff8"),
        ("udf #5", "05000000"),
        ("bti c", "5f2403d5"),
        ("paciasp", "3f2303d5"),
        ("hint #7", "ff2003d5"),
        ("b .", "00000014"),
        ("tbz x0, #63, .", "0000f8b6"),
        (".word 1", "01000000"),
        ("adr x0, x\nx:", "20000010"),
        ("mov x0, #-1", "00008092"),
        ("and x0, x1, #0xff00ff00ff00ff00", "209c0892"),
        ("lsl x0, x1, #3", "20f07dd3"),
        ("ldr d0, x\nx:", "2000005c"),
        ("mov lr, x0", "fe0300aa"),
        ("add x0, x0, :lo12:x\nx:", "00100091"),
    ],
)
def test_aarch64_text(text: str, expected: str) -> None:
    assert code(text, "aarch64") == expected


@pytest.mark.parametrize(
    "text",
    [
        "mov al, 0x1ff",
        "mov al, -129",
        "cmp byte ptr [rax], 300",
        "mov eax, 0x1ffffffff",
        "mov rax, [rax+0x100000000]",
        "mov rax, [rax+0x80000000]",
        "mov rax, [0x80000000]",
        "imul eax, ebx, 0x100000000",
        "ret 0x10000",
        "lea rax, [rip+0x80000000]",
        "push 0x80000000",
        "push 0xffffffff80000000",
        "and rax, 0xffffffff",
        "mov qword ptr [rax], 0x123456789",
        "mov rax, [rsp*2]",
        "mov rax, [rbx+rcx*3]",
        "mov rax, [rax+ebx]",
        "mov rax, [rax+rbx+rcx]",
        "mov rax, [rax-rbx]",
        "mov rax, []",
        "mov rax, [rip+rax]",
        "mov r8b, ah",
        "movzx r8d, ah",
        "add ah, byte ptr [r8]",
        "mov rax, rip",
        "mov [rax], 1",
        "inc [rax]",
        "shl [rax], cl",
        "movzx eax, [rax]",
        "fld [rax]",
        "mov rax, label",
        "mov eax, here\nhere:",
        "mov rax, [here]\nhere:",
        "jmp nowhere",
        "jmp short far\n.zero 128\nfar:",
        "loop far\n.zero 128\nfar:",
        "rax: ret",
        "a: a: ret",
        "a:\na:",
        "1: ret",
        "bogus rax",
        "mov rax,, rbx",
        "mov rax, rbx,",
        "mov rax, (1",
        "mov rax, 1)",
        "mov rax, 08",
        "mov rax, 0xzz",
        "mov rax, 1 << 65",
        "mov rax, 1 / 0",
        "mov rax, " + "9" * 5000,
        "mov rax, " + "(" * 5000 + "1" + ")" * 5000,
        "mov rax, é",
        "mov rax, 1\0",
        "\0",
        "lock",
        "rep",
        ".text",
        ".section .data",
        ".cfi_startproc",
        '.incbin "/etc/hostname"',
        '.include "/etc/hostname"',
        ".macro x",
        ".rept 10",
        ".set a, 5",
        ".org 0x100",
        ".byte 256",
        ".byte -129",
        ".byte",
        ".quad 1 << 64",
        ".balign 3",
        ".balign 0",
        ".zero -1",
        ".zero 0x10000000000",
        ".byte a\n.zero 300\na:",
        ".ascii hi",
        '.ascii "hi',
        r'.ascii "\q"',
        ".quad a + b\na:\nb:",
        "x = 5",
        '"',
        "[",
        "ret ret",
        "{rax}",
        "mov a(}",
        "rdpid rip",
        "rdpid {k1}",
        "ud1 st(1), eip",
        "mov rip, label\nlabel:",
        "mov [rax), 1",
        "mov rax, {k1}",
        "vaddps zmm0, zmm1, zmm2, {nonsense}",
    ],
)
def test_x86_64_refusals_name_their_line(text: str) -> None:
    with pytest.raises(AssemblyError) as caught:
        assemble("nop\n" + text, arch="x86_64")
    assert caught.value.line is not None
    assert caught.value.line >= 2
    assert caught.value.text is not None
    assert str(caught.value).startswith(f"line {caught.value.line}: ")


@pytest.mark.parametrize(
    "text",
    [
        "ext v0.16b, v1.16b, v2.16b, #16",
        "b 0x10000000000",
        "b.eq 0x1000000",
        "b.eq 2",
        "cbz x0, 0x200000",
        "tbz x0, #1, 0x10000",
        "tbz w0, #32, .",
        "adr x0, 0x200000",
        "ldr x0, [x0], #8",
        "ldp x0, x0, [x1]",
        "dc cvap, x0",
        "mov x0, #0x123456789",
        "movz x0, #0x10000",
        "movk x0, #1, lsl #17",
        "add x0, x1, #0x1001000",
        "ldr x0, =5",
        "add x, x, :lo12:L",
        "movz x0, #:abs_g0:L",
        "ldr x0, [x1, #32768]",
        "ldr x0, [x1, #-257]",
        "lsl x0, x1, #64",
        "lsl w0, w1, #32",
        "and x0, x1, #0",
        "ubfx x0, x1, #60, #5",
        "movi v0.4s, #256",
        "sshll v0.8h, v1.8b, #8",
        "ld1 {v0.s}[4], [x0]",
        "brk #65536",
        "hint #128",
        "udf #65536",
        "stp x0, x1, [sp, #4]",
        "fmov d0, #0.1",
        "fmov d0, #0",
        "fmov v0.4s, #0.0",
        "x0: nop",
        ".byte 1\nnop",
        ".inst 0xd503201f",
        "fmla v0.4h, v1.4h, v2.4h",
        "casp x1, x2, x4, x5, [x6]",
        "cas x0, w1, [x2]",
        "cas x0, x1, [x2, #8]",
        "bl nowhere",
        "mov x0, #1 @ comment",
        ".text",
    ],
)
def test_aarch64_refusals_name_their_line(text: str) -> None:
    with pytest.raises(AssemblyError) as caught:
        assemble("nop\n" + text, arch="aarch64")
    assert caught.value.line is not None
    assert caught.value.line >= 2


def test_line_and_text_of_an_error_in_the_middle() -> None:
    text = "\n".join(["add rax, 1"] * 500 + ["  mov r8b, ah  "] + ["add rax, 2"] * 500)
    with pytest.raises(AssemblyError) as caught:
        assemble(text, arch="x86_64")
    assert caught.value.line == 501
    assert caught.value.text == "  mov r8b, ah  "


def test_statements_cover_the_code_in_order() -> None:
    text = """
    start: mid: mov rax, [rip + data]
        jnz start          # back
        call out
        ret
        .balign 16
    data: .quad start, out
        .ascii ""
    """
    made = assemble(text, arch="x86_64", base=0x40_0000, symbols={"out": 0x40_1000})
    offset = 0
    for statement in made.statements:
        assert statement.offset == offset
        assert statement.size_bytes > 0
        offset += statement.size_bytes
        if not statement.is_data:
            piece = made.code[statement.offset : statement.offset + statement.size_bytes]
            assert decode_one(piece, 0, arch="x86_64").size_bytes == statement.size_bytes
    assert offset == len(made.code)
    assert made.labels == {"start": 0, "mid": 0, "data": 16}
    assert [statement.line for statement in made.statements if not statement.is_data][:4] == [2, 3, 4, 5]
    assert made.statements[0].text == "start: mid: mov rax, [rip + data]"
    assert made.code[16:24] == (0x40_0000).to_bytes(8, "little")
    call = decode_one(made.code[9:], 0x40_0009, arch="x86_64")
    assert call.target == 0x40_1000
    load = decode_one(made.code, 0x40_0000, arch="x86_64")
    assert load.memory[0].displacement == 16 - 7


def test_labels_of_an_assembly_cannot_be_changed() -> None:
    made = assemble("a: ret", arch="x86_64")
    with pytest.raises(TypeError):
        made.labels["b"] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        made.code = b""  # type: ignore[misc]


def test_symbols() -> None:
    symbols = {"near": 0x1000, "far": 0x7FFF_0000_0000, "five": 5}
    assert code("call near", symbols=symbols) == "e8fb0f0000"
    assert code("movabs rax, far", symbols=symbols) == "48b800000000ff7f0000"
    assert code("mov eax, five * 2 + 1", symbols=symbols) == "b80b000000"
    assert code("lea rax, [rip + near]", symbols=symbols) == "488d05f90f0000"
    assert code("mov rax, [rbx + five]", symbols=symbols) == "488b4305"
    with pytest.raises(AssemblyError, match="movabs"):
        code("call far", symbols=symbols)
    with pytest.raises(AssemblyError, match="words away"):
        code("bl far", "aarch64", symbols=symbols)
    with pytest.raises(AssemblyError, match="register"):
        code("ret", symbols={"rax": 1})
    with pytest.raises(AssemblyError, match="symbols"):
        code("near: ret", symbols=symbols)


def test_base_moves_absolute_targets_only() -> None:
    assert code("jmp 0x5000", base=0x5000) == "ebfe"
    assert code("x: jmp x", base=0x7000_0000_0000) == "ebfe"
    with pytest.raises(AssemblyError, match="base"):
        assemble("nop", arch="aarch64", base=2)
    with pytest.raises(AssemblyError, match="base"):
        assemble("nop", arch="x86_64", base=1 << 64)


def test_arch() -> None:
    assert assemble("nop").arch == host_arch()
    with pytest.raises(AssemblyError, match="arm"):
        assemble("nop", arch="arm")


def test_jcc_grows_and_shrinks() -> None:
    assert len(assemble("jz x\n.zero 127\nx:", arch="x86_64").code) == 127 + 2
    assert len(assemble("jz x\n.zero 128\nx:", arch="x86_64").code) == 128 + 6
    assert len(assemble("jmp near x\nx:", arch="x86_64").code) == 5


def test_a_megabyte_of_text() -> None:
    start = time.perf_counter()
    made = assemble("add rax, [rbx + 8]\n" * 55_000, arch="x86_64")
    assert len(made.code) == 55_000 * 4
    assert len(made.statements) == 55_000
    made = assemble(".byte " + ",".join(["7"] * 500_000), arch="x86_64")
    assert len(made.code) == 500_000
    with pytest.raises(AssemblyError):
        assemble("a" * 1_000_000, arch="x86_64")
    assert time.perf_counter() - start < 30


def test_a_long_cascade_of_branches() -> None:
    text = "".join(f"l{number}: jmp l{number + 1}\n.zero 124\n" for number in range(500)) + "l500: ret"
    made = assemble(text, arch="x86_64")
    for statement in made.statements:
        if not statement.is_data and statement.text != "l500: ret":
            number = int(statement.text[1 : statement.text.index(":")])
            found = decode_one(made.code[statement.offset :], statement.offset, arch="x86_64")
            assert found.target == made.labels[f"l{number + 1}"]


REGISTERS = st.sampled_from(["rax", "rbx", "rsp", "rbp", "r8", "r12", "r13", "r15"])
DISPLACEMENT = st.integers(-(1 << 31), (1 << 31) - 1)


@st.composite
def addresses(draw: st.DrawFn) -> str:
    parts = [draw(REGISTERS)]
    if draw(st.booleans()):
        index = draw(REGISTERS.filter(lambda name: name != "rsp"))
        parts.append(f"{index}*{draw(st.sampled_from([1, 2, 4, 8]))}")
    number = draw(DISPLACEMENT)
    return f"qword ptr [{' + '.join(parts)} {'-' if number < 0 else '+'} {abs(number):#x}]"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "mov", "cmp", "xor", "imul"]), REGISTERS, st.one_of(REGISTERS, addresses())),
        min_size=1,
        max_size=30,
    )
)
def test_what_is_assembled_disassembles_to_itself(lines: list[tuple[str, str, str]]) -> None:
    """Assembling the disassembly gives the same bytes, and reads the same again."""
    made = assemble("\n".join(f"{op} {a}, {b}" for op, a, b in lines), arch="x86_64")
    first = disassemble(made.code, 0, arch="x86_64")
    assert len(first) == len(lines)
    again = assemble("\n".join(instruction.text for instruction in first), arch="x86_64")
    assert disassemble(again.code, 0, arch="x86_64") == first


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abcdersx0123456789[]()+-*,:.#;\"'{} \n\t", max_size=80))
def test_any_text_gives_an_assembly_or_an_error(text: str) -> None:
    for arch in ("x86_64", "aarch64"):
        try:
            made = assemble(text, arch=arch)
        except AssemblyError:
            continue
        assert isinstance(made, Assembly)
        assert sum(statement.size_bytes for statement in made.statements) == len(made.code)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 150)), min_size=1, max_size=40), st.data())
def test_random_branches_reach_their_labels(plan: list[tuple[int, int]], data: st.DataObject) -> None:
    count = len(plan)
    lines: list[str] = []
    for number, (kind, filler) in enumerate(plan):
        target = data.draw(st.integers(0, count - 1))
        op = ("jmp", "jz", "jnae", "call", "jg")[kind % 5]
        lines += [f"l{number}: {op} l{target}", f".skip {filler}, 0x90", ".balign 8" if kind > 7 else "nop"]
        plan[number] = (target, 0)
    made = assemble("\n".join(lines), arch="x86_64", base=0x10_0000)
    for number, (target, _filler) in enumerate(plan):
        offset = made.labels[f"l{number}"]
        found = decode_one(made.code[offset:], 0x10_0000 + offset, arch="x86_64")
        assert found.target == 0x10_0000 + made.labels[f"l{target}"]


def test_random_instructions_survive_disassembly_and_assembly() -> None:
    """Of random bytes that decode, the text assembles to the same instruction, or is refused: never to another."""
    rng = random.Random(7)
    heads = (
        b"",
        b"\x48",
        b"\x0f",
        b"\x66\x0f",
        b"\xf2\x0f",
        b"\xf3\x48\x0f",
        b"\xc5",
        b"\xc4",
        b"\x62",
        b"\x66\x0f\x38",
    )
    same = {"x86_64": 0, "aarch64": 0}
    for turn in range(2400):
        arch = "aarch64" if turn & 1 else "x86_64"
        raw = rng.randbytes(4) if turn & 1 else rng.choice(heads) + rng.randbytes(12)
        first = disassemble(raw, 0, arch=arch)[0]
        if first.is_bad:
            continue
        try:
            made = assemble(first.text, arch=arch).code
        except AssemblyError:
            continue
        again = disassemble(made, 0, arch=arch)
        assert len(again) == 1, first
        if made != first.code and again[0].text != first.text:  # another name of it, or an index that is none
            assert arch == "x86_64", first
            assert decode_one(made, 0, arch=arch).memory == decode_one(first.code, 0, arch=arch).memory, first
        same[arch] += 1
    assert same["x86_64"] > 250
    assert same["aarch64"] > 250


def test_nothing_is_read_from_files_and_no_process_dies() -> None:
    """In a process of its own: every line that kills keystone, one after another, within a time-out."""
    script = """
        from trapline.asm.assembly import assemble
        from trapline.asm.keystone_client import encode_lines
        from trapline.errors import AssemblyError
        for arch, line in (
            ("x86_64", "mov r8b, ah"), ("x86_64", ".text"), ("x86_64", ".cfi_startproc"),
            ("aarch64", "add x0, x0, :lo12:L"), ("aarch64", "movz x0, #:abs_g0:L"),
        ):
            assert isinstance(encode_lines([line, "nop"], arch=arch)[1], bytes)
            assert isinstance(encode_lines(["nop"], arch=arch)[0], bytes)
        print("alive")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alive\n"
    assert done.stderr == ""
