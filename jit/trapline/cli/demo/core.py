"""`trapline demo --core`: the trap core on a real job, in five short acts.

A checksum routine runs natively over a file that is not there yet: each page it touches traps, a Python handler fills
the page, and the routine goes on. The result is compared with zlib's. Then a fault is mended, an endless loop is
interrupted, calls are watched by a breakpoint, and a routine is stepped.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import platform
import struct
import sys
import threading
import time
import zlib
from pathlib import Path

import trapline
from trapline.cli.demo.screen import Screen
from trapline.errors import TraplineError

__all__ = ["run"]

X86_64 = """
crc32:                          # rdi: bytes, rsi: how many, rdx: table of 256 words
    mov eax, -1
    test rsi, rsi
    jz crc_done
crc_next:
    movzx ecx, byte ptr [rdi]
    xor cl, al
    shr eax, 8
    xor eax, dword ptr [rdx + rcx*4]
    inc rdi
    dec rsi
    jnz crc_next
crc_done:
    not eax
    ret

average:                        # edi: sum, esi: how many
    mov eax, edi
    cdq
    idiv esi
    ret

collatz:                        # rdi: start; counts steps down to 0, which is never reached
    xor eax, eax
collatz_next:
    inc rax
    test rdi, 1
    jz even
    lea rdi, [rdi + rdi*2 + 1]
    jmp test_end
even:
    shr rdi, 1
test_end:
    test rdi, rdi
    jnz collatz_next
    ret

fib:                            # rdi: n
    cmp rdi, 2
    jb fib_small
    push rbx
    push rdi
    dec rdi
    call fib
    mov rbx, rax
    pop rdi
    sub rdi, 2
    call fib
    add rax, rbx
    pop rbx
    ret
fib_small:
    mov rax, rdi
    ret
"""


def _show_code(screen: Screen, event: trapline.Event, before: int = 2, after: int = 3) -> None:
    pc = event.pc
    for instruction in event.disassembly(before, after):
        here = instruction.address == pc
        line = f"{'->' if here else '  '} {instruction.address:#x}  {instruction.text}"
        screen.say(f"   {screen.paint('bold', line) if here else line}")


def _crc_table() -> bytes:
    words = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0xEDB88320 if byte & 1 else 0)
        words.append(byte)
    return struct.pack("<256I", *words)


class _Pages:
    """Address space for a file whose pages are filled when they are first touched."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._memory = mmap.mmap(-1, len(data) + mmap.PAGESIZE)
        self._view = (ctypes.c_char * len(self._memory)).from_buffer(self._memory)
        self.base = ctypes.addressof(self._view)
        self.filled = 0
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._protect(self.base, len(self._memory), 0)

    def _protect(self, address: int, size_bytes: int, protection: int) -> None:
        if self._libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), protection):
            raise OSError(ctypes.get_errno(), "mprotect")

    def fill(self, address: int) -> int:
        """Fill the page of an address; returns its number. Raises TraplineError outside the file."""
        offset = (address - self.base) // mmap.PAGESIZE * mmap.PAGESIZE
        if not 0 <= offset < len(self._data):
            raise TraplineError(f"found a fault at {address:#x}, expected one inside the file")
        self._protect(self.base + offset, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)
        page = self._data[offset : offset + mmap.PAGESIZE]
        ctypes.memmove(self.base + offset, page, len(page))
        self.filled += 1
        return offset // mmap.PAGESIZE


def _checksum(screen: Screen, code: trapline.CodeImage, path: Path) -> None:
    data = path.read_bytes()
    screen.act(f"A checksum over {path.name} ({len(data):,} bytes) whose pages are not there yet")
    pages = _Pages(data)
    table = ctypes.create_string_buffer(_crc_table(), 1024)
    fiber = trapline.Fiber(code["crc32"], (pages.base, len(data), ctypes.addressof(table)), signature="u32")
    spent_ns = 0
    start = time.perf_counter_ns()
    for event in fiber:
        arrived = time.perf_counter_ns()
        if event.address is None:
            raise TraplineError(f"unexpected {event}")
        if not pages.filled:
            screen.say(str(event), "code")
            _show_code(screen, event)
        page = pages.fill(event.address)
        if page < 3:
            screen.say(f"page {page} filled by Python; resuming at the same load")
        spent_ns += time.perf_counter_ns() - arrived
    total_ms = (time.perf_counter_ns() - start) / 1e6
    wanted = zlib.crc32(data)
    if fiber.result != wanted:
        raise TraplineError(f"crc32: found {fiber.result:#010x}, expected {wanted:#010x}")
    screen.say(f"... {pages.filled} pages in all: {total_ms:.2f} ms, of them {spent_ns / 1e6:.2f} ms in the handler")
    screen.say(f"crc32 = {fiber.result:#010x}, the same as zlib's", "good")


def _mend(screen: Screen, code: trapline.CodeImage) -> None:
    screen.act("A fault, looked into, mended, resumed")
    fiber = trapline.Fiber(code["average"], (126, 0), signature="i32")
    for event in fiber:
        screen.say(str(event), "code")
        registers = event.registers
        screen.say(f"eax = {registers.eax}, esi = {registers.esi}: nobody should average over nothing; esi = 3")
        registers.esi = 3
    screen.say(f"average = {fiber.result}", "good")


def _interrupt(screen: Screen, code: trapline.CodeImage) -> None:
    screen.act("An endless loop with no checks in it, interrupted from another thread")
    fiber = trapline.Fiber(code["collatz"], (27,))
    threading.Timer(0.25, fiber.interrupt).start()
    event = fiber.resume()
    if event is None:
        raise TraplineError("collatz: found an end, expected an endless loop")
    screen.say(str(event), "code")
    _show_code(screen, event, 1, 4)
    screen.say(f"after {event.registers.rax:,} rounds, rdi = {event.registers.rdi}; setting rdi = 0 and the pc behind")
    event.registers.rdi = 0
    if fiber.resume_at("test_end") is not None:
        raise TraplineError("collatz: found another event, expected the end")
    screen.say(f"it returned {fiber.result:,}", "good")


def _watch(screen: Screen, code: trapline.CodeImage) -> None:
    screen.act("A breakpoint in a private copy: every call of fib(15)")
    copy = code.copy()
    copy.add_breakpoint("fib")
    calls: dict[int, int] = {}
    fiber = trapline.Fiber(copy["fib"], (15,))
    start = time.perf_counter_ns()
    for event in fiber:
        n = event.registers.rdi
        calls[n] = calls.get(n, 0) + 1
    each_us = (time.perf_counter_ns() - start) / sum(calls.values()) / 1e3
    screen.say("calls by argument: " + "  ".join(f"{n}:{calls[n]}" for n in sorted(calls, reverse=True)[:10]) + "  ...")
    screen.say(f"{sum(calls.values()):,} stops, {each_us:.1f} us each; the original is not patched")
    screen.say(f"fib(15) = {fiber.result} under the breakpoint, {code['fib'](15)} beside it", "good")


def _step(screen: Screen, code: trapline.CodeImage) -> None:
    screen.act("One instruction at a time")
    fiber = trapline.Fiber(code["average"], (126, 3), signature="i32")
    text = code.disassemble("average", 1)[0].text
    while (event := fiber.step()) is not None:
        registers = event.registers
        screen.say(f"{text:<14} eax={registers.eax:<6} edx={registers.edx:<6} zf={registers.zf}")
        found = event.instruction
        text = found.text if found is not None else "?"
    screen.say(text)
    screen.say(f"average = {fiber.result}", "good")


def _speed(screen: Screen, code: trapline.CodeImage) -> None:
    fib = code.function("fib", "u64(u64)")
    start = time.perf_counter_ns()
    result = fib(27)
    native_ms = (time.perf_counter_ns() - start) / 1e6

    def python_fib(n: int) -> int:
        return n if n < 2 else python_fib(n - 1) + python_fib(n - 2)

    start = time.perf_counter_ns()
    same = python_fib(27)
    python_ms = (time.perf_counter_ns() - start) / 1e6
    assert result == same, f"fib(27): found {result}, expected {same}"
    print()
    screen.say(f"At native speed: fib(27) in {native_ms:.2f} ms; the same in Python {python_ms:.0f} ms.")


def run(screen: Screen, path: Path | None = None) -> int:
    """Play the five acts, the checksum over a file; returns the exit status."""
    if platform.machine() != "x86_64":
        print("trapline demo: the routines of the native core are written for x86-64", file=sys.stderr)
        return 1
    path = Path(argparse.__file__) if path is None else path
    if not path.is_file():
        print(f"trapline demo: found no file {path}; expected one to run the checksum over", file=sys.stderr)
        return 2
    code = trapline.CodeImage(trapline.assemble(X86_64), name="demo")
    _checksum(screen, code, path)
    _mend(screen, code)
    _interrupt(screen, code)
    _watch(screen, code)
    _step(screen, code)
    _speed(screen, code)
    return 0
