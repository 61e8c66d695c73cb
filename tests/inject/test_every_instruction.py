"""Small functions stopped at every instruction: by stepping, by breakpoints, by interrupts, and beside an emulator.

A trace is the list of states before each instruction: pc, every general register, the arithmetic flags, xmm0-15. All
ways of stopping must give one trace, that of the processor's rules (unicorn), and one result.
"""

import ctypes
import mmap
import threading
from dataclasses import dataclass
from types import ModuleType

import pytest

from trapline import CHECK_ADDRESS, CodeCopy, CodeImage, Event, Fiber, FiberError, StopReason, TrapCode, assemble
from trapline.asm.disassemble import Kind
from trapline.native import HOST

pytestmark = pytest.mark.skipif(HOST.name != "x86_64", reason="the functions here are x86-64 code")

Home = CodeImage | CodeCopy
State = tuple[int, ...]

GENERAL = tuple(name for name in HOST.shown if name not in ("rip", "rflags"))
FLAGS = 0x0CD5
VECTORS = tuple(f"xmm{number}" for number in range(16))
NAMES = ("rip", *GENERAL, "rflags", *VECTORS)

_MEMORY = (ctypes.c_uint8 * (1 << 17))()
DATA = (ctypes.addressof(_MEMORY) + 4095) & ~4095
"""A page that functions read and write; its address is their first argument."""
PAGE = (ctypes.c_uint8 * 4096).from_address(DATA)
STACK, STACK_BYTES = DATA + 4096, 1 << 16
"""All functions run on this stack, so that traces of different fibers agree."""
LIBC = ctypes.CDLL(None)


def libc(name: str) -> int:
    address = ctypes.cast(getattr(LIBC, name), ctypes.c_void_p).value
    assert address is not None
    return address


@dataclass(frozen=True)
class Program:
    """`source` begins at `start`; it is given DATA and `argument`.

    `flags` are those that the processor defines throughout; without `emulate` it needs the kernel or libc.
    """

    source: str
    argument: int = 5
    result: int | None = None
    flags: int = 0x8C5
    emulate: bool = True


PROGRAMS = {
    "arithmetic": Program(
        """
        start: mov rax, rsi
            add rax, 7
            sub rax, rdi
            neg rax
            adc rax, 0
            lea rcx, [rax + 4*rsi + 9]
            xor rax, rcx
            and eax, 0x7fffffff
            inc rax
            not rax
            bswap rax
            cmp rax, rcx
            setb al
            movzx eax, al
            cmovs rcx, rax
            lea rax, [rax + rsi]
            ret
        """,
    ),
    "multiply": Program(
        """
        start: mov eax, esi
            imul eax, eax, 1000
            mul rsi
            mov ecx, 7
            xor edx, edx
            div rcx
            add rax, rdx
            ret
        """,
        result=25000 // 7 + 25000 % 7,
        flags=0,
    ),
    "jumps": Program(
        """
        start: xor eax, eax
        again: inc eax
            test sil, 1
            jz even
            add eax, 10
            jmp next
        even: add eax, 100
        next: shr esi, 1
            jnz again
            cmp eax, 123
            jne bad
            jae fine
            hlt
        bad: hlt
        fine: ret
        """,
        result=123,
        flags=0,
    ),
    "loops": Program(
        """
        start: xor eax, eax
            mov ecx, esi
        one: add eax, ecx
            loop one
            jrcxz two
            hlt
        two: mov ecx, 3
            cmp eax, eax
        three: inc eax
            cmp eax, 17
            loopne three
            jecxz never
            ret
        never: hlt
        """,
        result=17,
    ),
    "stack": Program(
        """
        start: push rbp
            mov rbp, rsp
            sub rsp, 32
            push rsi
            push 0x1234
            pushfq
            pop rdx
            and edx, 0x44
            pop rax
            pop rcx
            mov qword ptr [rbp - 8], rax
            mov qword ptr [rsp], rcx
            enter 16, 0
            leave
            add rax, qword ptr [rsp]
            xchg rax, qword ptr [rbp - 8]
            xadd qword ptr [rbp - 8], rax
            mov rax, qword ptr [rbp - 8]
            leave
            ret
        """,
        result=0x1234 * 2 + 5,
    ),
    "calls": Program(
        """
        start: push rbx
            mov ebx, esi
            mov eax, ebx
            call double
            lea rcx, [rip + double]
            call rcx
            mov qword ptr [rdi], rcx
            call qword ptr [rdi]
            push rcx
            call qword ptr [rsp]
            pop rcx
            push rcx
            push 0
            call qword ptr [rsp + 8]
            pop rcx
            pop rcx
            call qword ptr [rip + table]
            mov ecx, 1
            lea rdx, [rip + table]
            call qword ptr [rdx + 8*rcx - 8]
            push 1
            push 2
            call dropping
            pop rbx
            ret
        double: add eax, eax
            ret
        dropping: add eax, dword ptr [rsp + 8]
            add eax, dword ptr [rsp + 16]
            ret 16
            hlt
        .balign 8
        table: .quad ADDRESS
        """,
        result=5 * 128 + 3,
    ),
    "recursion": Program(
        """
        start: mov rax, rsi
            cmp rsi, 1
            jbe done
            push rsi
            dec rsi
            call start
            pop rsi
            imul rax, rsi
        done: ret
        """,
        result=120,
        flags=0,
    ),
    "table": Program(
        """
        start: xor eax, eax
            lea rdx, [rip + table]
        again: mov ecx, esi
            and ecx, 3
            movsxd rcx, dword ptr [rdx + 4*rcx]
            add rcx, rdx
            jmp rcx
        zero: add eax, 1
            jmp next
        one: add eax, 10
            jmp next
        two: add eax, 100
            jmp next
        three: add eax, 1000
        next: dec esi
            jns again
            ret
        table: .long TABLE_ZERO, TABLE_ONE, TABLE_TWO, TABLE_THREE
        """,
        argument=5,
        result=1122,
    ),
    "memory": Program(
        """
        start: mov rax, qword ptr [rip + value]
            add rax, qword ptr [rip + value + 8]
            cmp byte ptr [rip + value], 0x11
            jne bad
            mov qword ptr [rdi + 8*rsi], rax
            lock add dword ptr [rdi + 8*rsi], 1
            mov ecx, 1
            lock cmpxchg dword ptr [rdi + 8*rsi], ecx
            mov rax, qword ptr [rdi + 8*rsi]
            bts rax, 40
            ret
        bad: hlt
        .balign 8
        value: .quad 0x11, 0x22
        """,
        result=0x34 | 1 << 40,
        flags=1,
    ),
    "strings": Program(
        """
        start: cld
            mov r8, rdi
            lea rdi, [r8 + 512]
            mov rsi, r8
            mov ecx, 37
            rep movsb
            mov ecx, 9
            mov eax, 0x41
            rep stosd
            mov ecx, 100
            lea rdi, [r8 + 512]
            mov al, 9
            repne scasb
            mov edx, ecx
            lea rsi, [r8 + 512]
            mov rdi, r8
            mov ecx, 64
            repe cmpsb
            shl edx, 8
            lea rax, [rcx + rdx]
            std
            lea rsi, [r8 + 40]
            lea rdi, [r8 + 600]
            mov ecx, 4
            rep movsq
            movsb
            cld
            xor ecx, ecx
            rep movsb
            ret
        """,
        flags=0x8C5 | 0x400,
    ),
    "floats": Program(
        """
        start: cvtsi2sd xmm0, rsi
            movsd xmm1, qword ptr [rip + half]
            mulsd xmm0, xmm1
            addsd xmm0, xmm0
            sqrtsd xmm2, xmm0
            movapd xmm3, xmm2
            unpcklpd xmm3, xmm1
            addpd xmm3, xmmword ptr [rip + pair]
            movupd xmmword ptr [rdi + 64], xmm3
            pshufd xmm4, xmm3, 0x4e
            pxor xmm5, xmm5
            pcmpeqb xmm5, xmm5
            paddb xmm4, xmm5
            pmovmskb eax, xmm4
            ucomisd xmm0, xmm1
            ja more
            hlt
        more: cvttsd2si rcx, xmm0
            movq rdx, xmm3
            lea rax, [rax + rcx]
            ret
        .balign 16
        pair: .quad 0x3ff0000000000000, 0x4000000000000000
        half: .quad 0x3fe0000000000000
        """,
    ),
    "getpid": Program(
        """
        start: mov eax, 39
            syscall
            mov rdx, rcx
            lea rcx, [rip + behind]
            sub rdx, rcx
            mov r11, 0
        behind: lea rax, [rax + rdx]
            ret
        """,
        emulate=False,
    ),
    "libc": Program(
        """
        start: push rbx
            mov rbx, rdi
            mov rdi, -41
            movabs rax, LABS
            call rax
            mov rsi, rax
            mov byte ptr [rbx], 0x41
            mov word ptr [rbx + 1], 0x42
            mov rdi, rbx
            push rsi
            push 0
            call qword ptr [rip + strlen]
            pop rcx
            pop rcx
            add rax, rcx
            movabs rcx, LABS
            mov qword ptr [rbx + 8], rcx
            push rax
            mov rdi, -100
            call qword ptr [rbx + 8]
            pop rcx
            add rax, rcx
            mov rdi, rax
            call tail
            pop rbx
            ret
        tail: movabs rax, LABS
            jmp rax
        .balign 8
        strlen: .quad STRLEN
        """,
        result=143,
        emulate=False,
    ),
    "tail": Program("start: mov rdi, -77\nmovabs rax, LABS\njmp rax", result=77, emulate=False),
}


def make(program: Program) -> CodeImage:
    """The program at an address; its tables hold what it is told of its own layout."""
    symbols = {"LABS": libc("labs"), "STRLEN": libc("strlen")}
    unknown = {"ADDRESS": 0, **{f"TABLE_{name}": 0 for name in ("ZERO", "ONE", "TWO", "THREE")}}
    labels = assemble(program.source, symbols={**symbols, **unknown}).labels
    image = CodeImage(name="program", capacity_bytes=1 << 16)
    for name in ("ZERO", "ONE", "TWO", "THREE"):
        unknown[f"TABLE_{name}"] = labels.get(name.lower(), 0) - labels.get("table", 0)
    unknown["ADDRESS"] = image.base + labels.get("double", 0)
    image.append(assemble(program.source, symbols={**symbols, **unknown}))
    return image


def copy_of(image: CodeImage) -> CodeCopy:
    """A copy whose table of absolute addresses, if there is one, leads into itself."""
    copy = image.copy()
    if "double" in image.labels:
        copy.patch("table", copy.address_of("double").to_bytes(8, "little"))
    return copy


def fill_page() -> None:
    for index in range(4096):
        PAGE[index] = (index * 7 + index // 256) & 0xFF


def make_fiber(home: Home, program: Program) -> Fiber:
    """A fiber at the start, with known values in every register of a trace."""
    fill_page()
    fiber = Fiber(home["start"], (DATA, program.argument))
    registers = fiber.registers
    for number, name in enumerate(GENERAL):
        if name not in ("rsp", "rdi", "rsi"):
            registers[name] = 0x0101_0101_0101_0101 * (number + 1)
    for number, name in enumerate(VECTORS):
        registers[name] = 0x0203_0405_0607_0809_0A0B_0C0D_0E0F_1011 * (number + 1)
    registers.rflags = 0x202
    finish = fiber.read_memory(fiber.sp, 8)
    ctypes.memset(STACK, 0x5A, STACK_BYTES)
    registers.rsp = STACK + STACK_BYTES - 24
    fiber.write_memory(fiber.sp, finish)
    return fiber


def state(fiber: Fiber) -> State:
    registers = fiber.registers
    return tuple(registers[name] & FLAGS if name == "rflags" else registers[name] for name in NAMES)


def differences(found: list[State], expected: list[State], base: int) -> str:
    """The first place where two traces differ, in words."""
    for at, (mine, theirs) in enumerate(zip(found, expected, strict=False)):
        if mine != theirs:
            each = [f"{n} {a:#x} {b:#x}" for n, a, b in zip(NAMES, mine, theirs, strict=True) if a != b]
            return f"state {at} at offset {expected[at][0] - base:#x}: {', '.join(each)}"
    return "" if len(found) == len(expected) else f"{len(found)} states, expected {len(expected)}"


Trace = tuple[list[State], object, bytes]


def trace_by_steps(home: Home, program: Program, *, interrupts: bool = False) -> Trace:
    """A fiber stepped to its end; with `interrupts` one before each step, which must not move it."""
    fiber = make_fiber(home, program)
    states = [state(fiber)]
    while True:
        if interrupts:
            fiber.interrupt()
            event = fiber.step()
            assert event is not None
            assert event.reason is StopReason.INTERRUPT
            assert state(fiber) == states[-1]
        event = fiber.step()
        if event is None:
            return states, fiber.result, bytes(PAGE)
        assert event.reason is StopReason.STEP, event
        assert event.pc == fiber.pc
        assert event.code is home
        states.append(state(fiber))


def offsets(image: CodeImage) -> list[int]:
    """Where the instructions of a program are, data left out."""
    found = [instruction.address - image.base for instruction in image.disassemble()]
    return [offset for offset in found if image.is_instruction(offset)]


def trace_by_breakpoints(copy: CodeCopy, program: Program, *, interrupts: bool = False) -> Trace:
    """A fiber resumed from one breakpoint to the next, one at every instruction."""
    fiber = make_fiber(copy, program)
    states: list[State] = []
    for event in fiber:
        assert event.reason is StopReason.BREAKPOINT, event
        states.append(state(fiber))
        if interrupts:
            fiber.interrupt()
            again = fiber.resume()
            assert again is not None
            assert again.reason is StopReason.INTERRUPT
            assert again.pc == event.pc if event.valid else True
            assert state(fiber) == states[-1]
    return states, fiber.result, bytes(PAGE)


@pytest.fixture(scope="module", params=list(PROGRAMS))
def program(request: pytest.FixtureRequest) -> Program:
    return PROGRAMS[request.param]


@pytest.fixture(scope="module")
def image(program: Program) -> CodeImage:
    return make(program)


@pytest.fixture(scope="module")
def copy(image: CodeImage) -> CodeCopy:
    return copy_of(image)


@pytest.fixture(scope="module")
def stepped(copy: CodeCopy, program: Program) -> Trace:
    return trace_by_steps(copy, program)


def run_free(home: Home, program: Program) -> tuple[object, bytes]:
    fiber = make_fiber(home, program)
    assert fiber.resume() is None
    return fiber.result, bytes(PAGE)


def relative(value: object, home: Home) -> object:
    """A result that may be an address of code, from the start of that code."""
    return value - home.base if isinstance(value, int) and value in home else value


def test_results(image: CodeImage, copy: CodeCopy, program: Program, stepped: Trace) -> None:
    """Free, stepped in the image and stepped in a copy: one result."""
    free, page = run_free(image, program)
    assert program.result is None or free == program.result
    in_image = trace_by_steps(image, program)
    assert in_image[1:] == (free, page)
    assert [found[0] - image.base for found in in_image[0]] == [found[0] - copy.base for found in stepped[0]]
    free, page = run_free(copy, program)
    assert stepped[1:] == (free, page)


def test_stepping_twice(copy: CodeCopy, program: Program, stepped: Trace) -> None:
    """The slots made by the first trace serve the second."""
    again = trace_by_steps(copy, program)
    assert differences(again[0], stepped[0], copy.base) == ""
    assert again == stepped


def test_interrupt_before_every_step(copy: CodeCopy, program: Program, stepped: Trace) -> None:
    assert trace_by_steps(copy, program, interrupts=True) == stepped


@pytest.mark.parametrize("interrupts", [False, True], ids=["", "interrupts"])
def test_breakpoints_everywhere(
    image: CodeImage, copy: CodeCopy, program: Program, stepped: Trace, interrupts: bool
) -> None:
    pristine = copy.read(0, copy.size_bytes)
    for offset in offsets(image):
        copy.add_breakpoint(offset)
    try:
        found = trace_by_breakpoints(copy, program, interrupts=interrupts)
    finally:
        for offset in offsets(image):
            copy.remove_breakpoint(offset)
    assert differences(found[0], stepped[0], copy.base) == ""
    assert found == stepped
    assert copy.read(0, copy.size_bytes) == pristine


def test_one_breakpoint_at_each_instruction(image: CodeImage, copy: CodeCopy, program: Program, stepped: Trace) -> None:
    for offset in offsets(image):
        copy.add_breakpoint(offset)
        found = trace_by_breakpoints(copy, program, interrupts=True)
        copy.remove_breakpoint(offset)
        expected = [each for each in stepped[0] if each[0] == copy.base + offset]
        assert differences(found[0], expected, copy.base) == ""
        assert found[1:] == stepped[1:]


def test_stepping_over_breakpoints(image: CodeImage, copy: CodeCopy, program: Program, stepped: Trace) -> None:
    """A step that ends on a breakpoint reports the breakpoint, once; the next step passes it."""
    with_breakpoint = set(offsets(image)[::2])
    for offset in with_breakpoint:
        copy.add_breakpoint(offset)
    fiber = make_fiber(copy, program)
    states = [state(fiber)]
    while (event := fiber.step()) is not None:
        here = event.pc - copy.base in with_breakpoint
        assert event.reason is (StopReason.BREAKPOINT if here else StopReason.STEP)
        states.append(state(fiber))
    for offset in with_breakpoint:
        copy.remove_breakpoint(offset)
    assert differences(states, stepped[0], copy.base) == ""
    assert (fiber.result, bytes(PAGE)) == stepped[1:]


# ---- beside an emulator ----


def emulate(unicorn: ModuleType, home: Home, program: Program) -> Trace:
    """The trace by unicorn, of the same bytes at the same addresses."""
    from unicorn import x86_const

    numbers = {name: getattr(x86_const, f"UC_X86_REG_{name.upper()}") for name in NAMES}
    numbers["rflags"] = x86_const.UC_X86_REG_EFLAGS
    fiber = make_fiber(home, program)
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    machine.mem_map(home.base & ~4095, 1 << 17)
    machine.mem_write(home.base, home.read(0, home.size_bytes))
    machine.mem_map(DATA, 4096)
    machine.mem_write(DATA, bytes(PAGE))
    machine.mem_map(STACK, STACK_BYTES)
    machine.mem_write(STACK, fiber.read_memory(STACK, STACK_BYTES))
    for name in NAMES:
        machine.reg_write(numbers[name], fiber.registers[name])
    finish = int.from_bytes(fiber.read_memory(fiber.sp, 8), "little")
    states: list[State] = []

    def on_instruction(_machine: object, address: int, _size: int, _user: object) -> None:
        if states and states[-1][0] == address and home.decode(address).loops:
            return  # the emulator stops at every turn of a repeated string instruction
        read = {name: machine.reg_read(number) for name, number in numbers.items()}
        read["rip"] = address
        read["rflags"] &= FLAGS
        states.append(tuple(read[name] for name in NAMES))

    machine.hook_add(unicorn.UC_HOOK_CODE, on_instruction, begin=home.base, end=home.base + home.size_bytes)
    machine.mem_map(finish & ~4095, 4096)
    machine.emu_start(fiber.pc, finish)
    result = machine.reg_read(numbers["rax"])
    return states, result - (result >> 63 << 64), bytes(machine.mem_read(DATA, 4096))


def test_like_the_emulator(copy: CodeCopy, program: Program, stepped: Trace) -> None:
    unicorn = pytest.importorskip("unicorn", reason="unicorn is not installed (requirements-dev.txt)")
    if not program.emulate:
        pytest.skip("it needs the kernel or libc")
    expected = emulate(unicorn, copy, program)
    at = NAMES.index("rflags")

    def defined(states: list[State]) -> list[State]:
        return [(*each[:at], each[at] & program.flags, *each[at + 1 :]) for each in states]

    assert differences(defined(stepped[0]), defined(expected[0]), copy.base) == ""
    assert stepped[1:] == expected[1:]


# ---- calls that leave the code ----


def step_to(fiber: Fiber, home: Home, label: str, most: int = 1000) -> Event:
    for _ in range(most):
        event = fiber.step()
        assert event is not None
        if event.pc == home.address_of(label):
            return event
    raise AssertionError(f"{label} not reached")


@pytest.mark.parametrize("of_copy", [False, True], ids=["image", "copy"])
def test_step_over_check(of_copy: bool) -> None:
    """A check while stepping is an event of its own; the step after it goes on behind the call."""
    source = """
        start: mov eax, 1
            call qword ptr [rip + check]
        after: inc eax
            movabs rcx, CHECK
            call rcx
        again: inc eax
            ret
        .balign 8
        check: .quad CHECK
    """
    image = CodeImage(assemble(source, symbols={"CHECK": CHECK_ADDRESS}))
    home: Home = image.copy() if of_copy else image
    fiber = Fiber(home["start"], ())
    seen = []
    while (event := fiber.step()) is not None:
        seen.append((event.reason.name, event.pc - home.base))
    after, again = image.labels["after"], image.labels["again"]
    assert [place for kind, place in seen if kind == "CHECK"] == [after, again]
    assert [kind for kind, _ in seen] == ["STEP", "CHECK", "STEP", "STEP", "CHECK", "STEP"]
    assert fiber.result == 3


CALLBACK = """
    start: push rbx
        mov rbx, rdi
        mov edx, 8
        lea rcx, [rip + compare]
        movabs rax, QSORT
    sort: call rax
    sorted: mov rax, qword ptr [rbx]
        pop rbx
        ret
    compare: mov rax, qword ptr [rdi]
        sub rax, qword ptr [rsi]
    back: ret
"""


@pytest.fixture
def sorting() -> CodeImage:
    return CodeImage(assemble(CALLBACK, symbols={"QSORT": libc("qsort")}))


def numbers_at_data() -> list[int]:
    return [int.from_bytes(bytes(PAGE[index : index + 8]), "little") for index in range(0, 64, 8)]


def test_step_over_a_callback(sorting: CodeImage) -> None:
    fill_page()
    for index in range(8):
        ctypes.c_int64.from_address(DATA + 8 * index).value = (index * 5 + 3) % 8
    fiber = Fiber(sorting["start"], (DATA, 8))
    step_to(fiber, sorting, "sort")
    event = fiber.step()
    assert event is not None
    assert event.reason is StopReason.STEP
    assert event.where == "sorted"
    assert numbers_at_data() == list(range(8))
    while fiber.step() is not None:
        pass
    assert fiber.result == 0


def test_breakpoint_and_steps_in_a_callback(sorting: CodeImage) -> None:
    """A breakpoint under a C function under a step; stepping out of it comes back through the C function."""
    fill_page()
    for index in range(8):
        ctypes.c_int64.from_address(DATA + 8 * index).value = 7 - index
    copy = sorting.copy()
    copy.add_breakpoint("compare")
    fiber = Fiber(copy["start"], (DATA, 8))
    step_to(fiber, copy, "sort")
    compared = 0
    event = fiber.step()
    while event is not None and event.reason is StopReason.BREAKPOINT:
        assert event.where == "compare"
        compared += 1
        assert fiber.step() is not None
        event = fiber.step()
        assert event is not None
        assert (event.reason, event.where) == (StopReason.STEP, "back")
        event = fiber.step()
    assert compared >= 8
    assert event is not None
    assert (event.reason, event.where) == (StopReason.STEP, "sorted")
    assert numbers_at_data() == list(range(8))
    assert fiber.resume() is None


def test_step_into_the_same_function_from_outside_and_inside() -> None:
    """A return that once left the code is stepped like any other when its caller is code."""
    image = CodeImage(assemble("outer: call inner\ninc eax\nret\ninner: mov eax, edi\nret"))
    for label, places in (("inner", 2), ("outer", 5), ("inner", 2), ("outer", 5)):
        fiber = Fiber(image[label], (6,))
        steps = 1
        while (event := fiber.step()) is not None:
            assert event.reason is StopReason.STEP
            steps += 1
        assert steps == places, label
        assert fiber.result == (6 if label == "inner" else 7)


def test_step_of_a_call_that_faults_first() -> None:
    """An indirect call whose operand cannot be read faults; mended, it is stepped into, not run."""
    image = CodeImage(assemble("start: call qword ptr [rsi]\nafter: inc eax\nret\ninner: mov eax, 8\nret"))
    fiber = Fiber(image["start"], (0, 0x10))
    event = fiber.step()
    assert event is not None
    assert event.trap is TrapCode.MEMORY_READ
    assert event.where == "start"
    assert event.registers.rsp == fiber.stack_bounds[3] - 24
    ctypes.c_uint64.from_address(DATA).value = image.address_of("inner")
    event.registers.rsi = DATA
    event = fiber.step()
    assert event is not None
    assert (event.reason, event.where) == (StopReason.STEP, "inner")
    while fiber.step() is not None:
        pass
    assert fiber.result == 9


def test_step_between_images() -> None:
    """Calls from one image into another are stepped into and out of."""
    lower = CodeImage(assemble("twice: add edi, edi\nmov eax, edi\nret"), name="lower")
    upper = CodeImage(
        assemble("start: call qword ptr [rip + twice]\nafter: inc eax\nret\n.balign 8\ntwice: .quad TWICE",
                 symbols={"TWICE": lower.address_of("twice")}),
        name="upper",
    )  # fmt: skip
    fiber = Fiber(upper["start"], (4,))
    seen = []
    while (event := fiber.step()) is not None:
        seen.append(event.where)
    assert seen == ["twice", "twice+0x2", "twice+0x4", "after", "after+0x2"]
    assert fiber.result == 9


@pytest.mark.parametrize("form", ["iretq", "retfq"])
def test_step_of_other_returns(form: str) -> None:
    """A return that loads more than the pc: the state behind it is that of the machine, whoever goes on from there."""
    frames = {
        "iretq": "mov rax, rsp\nmov ecx, ss\npush rcx\npush rax\npush 0xa03\nmov ecx, cs\npush rcx",
        "retfq": "mov rax, rsp\nmov ecx, cs\npush rcx",
    }
    bytes_of = {"iretq": ".byte 0x48, 0xcf", "retfq": ".byte 0x48, 0xcb"}
    code = f"""
        start: {frames[form]}
            lea rdx, [rip + landed]
            push rdx
        form: {bytes_of[form]}
            hlt
        landed: sub rax, rsp
            inc rax
            ret
    """
    image = CodeImage(assemble(code).code)
    labels = assemble(code).labels
    assert Fiber(image.base, ()).resume() is None
    fiber = Fiber(image.base, ())
    seen = []
    event = fiber.step()
    while event is not None:
        assert event.reason is StopReason.STEP
        seen.append(event.pc - image.base)
        if event.pc == image.address_of(labels["landed"]) and form == "iretq":
            assert event.registers.rflags & 0xAFF == 0xA03
        event = fiber.step()
    assert fiber.result == 1
    assert seen[seen.index(labels["form"]) + 1] == labels["landed"]


def test_what_cannot_be_stepped() -> None:
    """Bytes that are no instruction, traps of the program's own, and a pc outside code."""
    image = CodeImage(bytes.fromhex("cc06f4c3"))  # int3; (bad); hlt; ret
    fiber = Fiber(image.base, ())
    event = fiber.step()
    assert event is not None
    assert event.trap is TrapCode.BREAKPOINT_INSTRUCTION
    assert (event.pc, fiber.pc) == (image.base, image.base + 1)
    event = fiber.step()
    assert event is not None
    assert event.trap is TrapCode.ILLEGAL_INSTRUCTION
    assert event.pc == image.base + 1
    fiber.pc = image.base + 2
    event = fiber.step()
    assert event is not None
    assert event.trap is TrapCode.TRAP_INSTRUCTION
    assert event.pc == image.base + 2
    event.skip()
    assert fiber.step() is None
    with pytest.raises(FiberError, match="finished"):
        fiber.step()
    outside = CodeImage(assemble("jmp rdi"))
    fiber = Fiber(outside[0], (0x10,))
    event = fiber.step()
    assert event is not None
    assert event.trap is TrapCode.INSTRUCTION_FETCH
    with pytest.raises(FiberError, match="outside code, where there is nothing to step"):
        fiber.step()


def test_stepping_where_the_address_space_is_crowded() -> None:
    """A stepping copy lies close enough to its home for operands relative to the pc, wherever others were mapped."""
    source = "start: lea rax, [rip + start]\nmov ecx, dword ptr [rip + value]\nadd rax, rcx\nret\nvalue: .long 5"
    image = CodeImage(assemble(source))
    crowd = [mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0) for _ in range(6)]
    later = CodeImage(assemble(source))
    for home in (image, later, image.copy(), later.copy()):
        fiber = Fiber(home["start"], (), signature="u64")
        while fiber.step() is not None:
            pass
        assert fiber.result == home.address_of("start") + 5
    for mapping in crowd:
        mapping.close()


# ---- beside other threads ----


@pytest.mark.parametrize("of_copy", [False, True], ids=["image", "copy"])
def test_stepping_while_another_thread_runs_the_same_code(of_copy: bool) -> None:
    program = PROGRAMS["calls"]
    image = make(Program(program.source.replace("mov qword ptr [rdi], rcx", "push rcx").replace(
        "call qword ptr [rdi]\n", "call qword ptr [rsp]\npop rcx\n"), result=program.result))  # fmt: skip
    home: Home = copy_of(image) if of_copy else image
    expected = trace_by_steps(home, program)
    assert expected[1] == program.result
    over = threading.Event()
    begun = threading.Event()
    wrong: list[object] = []
    runs = 0

    def run() -> None:
        nonlocal runs
        start = home.function("start", gil="release")
        while not over.is_set():
            try:
                found = start(0, 5)
            except Exception as error:
                found = error
            if found != program.result:
                wrong.append(found)
            runs += 1
            begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(60)
        for _ in range(40):
            assert [each[0] for each in trace_by_steps(home, program)[0]] == [each[0] for each in expected[0]]
    finally:
        over.set()
        thread.join()
    assert not wrong
    assert runs > 0


def kinds_of(image: CodeImage) -> set[Kind]:
    return {image.decode(offset).kind for offset in offsets(image)}


def test_the_programs_hold_every_kind_of_instruction() -> None:
    found: set[Kind] = set()
    for program in PROGRAMS.values():
        found |= kinds_of(make(program))
    assert found == set(Kind)


def test_stepping_where_no_room_is_left_around_the_code(run_python) -> None:
    """Other reservations lie on both sides of the image, and of the copy, before the first step asks for space."""
    ending = run_python(
        """
        import ctypes, mmap
        from trapline import *

        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]

        def wall():
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000
            assert libc.mmap(None, 1 << 40, 0, flags, -1, 0) not in (None, ctypes.c_void_p(-1).value)

        wall()
        image = CodeImage(assemble("lea rcx, [rip + x]; mov rax, qword ptr [rip + x]; ret; x: .quad 77"))
        wall()
        copy = image.copy()
        wall()
        for code in (image, copy, image, copy):
            fiber = Fiber(code[0])
            while fiber.step() is not None:
                pass
            assert fiber.result == 77
        copy.patch(copy.labels["x"], bytes([78]))
        fiber = Fiber(copy[0])
        while fiber.step() is not None:
            pass
        print(fiber.result)
        """
    )
    assert ending.returncode == 0, ending
    assert ending.stdout.strip() == "78", ending
