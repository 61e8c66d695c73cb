"""Code that breaks the rules of the machine's convention stops or returns; the process lives."""

import platform

import pytest

from trapline import CodeImage, Fiber, Trap, TrapCode, assemble

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the routines are written for x86-64")


def code(text: str) -> CodeImage:
    return CodeImage(assemble(text))


def test_trap_flag_set_by_code_steps_it_and_ends_at_the_return() -> None:
    fiber = Fiber(code("pushfq; or dword ptr [rsp], 0x100; popfq; nop; nop; ret")[0])
    events = [(event.trap, event.instruction.text) for event in fiber if event.instruction is not None]
    assert events == [(TrapCode.SINGLE_STEP, "nop"), (TrapCode.SINGLE_STEP, "ret")]
    assert code("mov eax, 5; ret")[0]() == 5


def test_trap_flag_brought_into_the_check_stub(run_python) -> None:
    ending = run_python(
        """
        from trapline import *
        text = "pushfq; or dword ptr [rsp], 0x100; popfq; movabs r11, check; call r11; mov eax, 3; ret"
        fiber = Fiber(CodeImage(assemble(text, symbols={"check": CHECK_ADDRESS}))[0])
        print([event.reason.name for event in fiber], fiber.result)
        """
    )
    assert ending.returncode == 0, ending
    assert "'CHECK'" in ending.stdout, ending
    assert ending.stdout.strip().endswith("3"), ending


def test_flags_that_the_machine_refuses_are_left_out() -> None:
    fiber = Fiber(code("int3; nop; pushfq; pop rax; ret")[0])
    event = fiber.resume()
    event.registers.rflags = 2**64 - 1
    assert {event.trap for event in fiber} == {TrapCode.SINGLE_STEP}
    assert fiber.result & 0xCD5 == 0xCD5  # CF PF AF ZF SF DF OF


@pytest.mark.parametrize("pc", [1 << 63, 0x8000_0000_0000, 0xFFFF_8000_0000_0000, 0, 8])
def test_pc_that_cannot_be(pc: int) -> None:
    fiber = Fiber(code("int3; mov eax, 9; ret")[0])
    event = fiber.resume()
    back = event.registers.rip
    event.registers.rip = pc
    event = fiber.resume()
    assert event is not None
    assert event.pc == pc
    event.registers.rip = back
    assert fiber.resume() is None
    assert fiber.result == 9


def test_pending_x87_exception_at_the_return(run_python) -> None:
    ending = run_python(
        """
        import ctypes
        from trapline import *
        text = "push 0x37b; fldcw word ptr [rsp]; fld1; fldz; fdivp st(1), st; pop rax; ret"
        print(CodeImage(assemble(text))[0]())
        sqrtl = ctypes.CDLL("libm.so.6").sqrtl
        sqrtl.restype, sqrtl.argtypes = ctypes.c_longdouble, [ctypes.c_longdouble]
        CodeImage(assemble("fld1; fld1; fld1; ret"))[0]()
        print(sqrtl(4.0))
        """
    )
    assert ending.returncode == 0, ending
    assert ending.stdout.split() == [str(0x37B), "2.0"], ending


def test_jump_to_nowhere_with_a_stack_pointer_that_is_nobodys() -> None:
    with pytest.raises(Trap, match="jump to memory that is not executable"):
        code("xor esp, esp; xor eax, eax; jmp rax")[0]()


def test_steps_follow_patches() -> None:
    image = code("a: mov eax, 7; nop; nop; inc eax; ret")
    copy = image.copy()
    fiber = Fiber(copy["a"])
    event = fiber.step()
    assert event is not None
    assert event.where == "a+0x5"
    copy.patch("a", bytes.fromhex("9090b805000000"))
    assert [found.text for found in copy.disassemble("a", 5)] == ["nop", "nop", "mov eax, 5", "inc eax", "ret"]
    fiber = Fiber(copy["a"])
    places = []
    while (event := fiber.step()) is not None:
        places.append(event.where)
    assert places == ["a+0x1", "a+0x2", "a+0x7", "a+0x9"]
    assert fiber.result == 6
    assert image["a"]() == 8
    assert copy.add_breakpoint(copy.address_of("a") + 2).offset == 2
    assert [event.instruction.text for event in Fiber(copy["a"]) if event.instruction] == ["mov eax, 5"]
