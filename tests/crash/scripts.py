"""The beginning of every script that the tests of this folder run in another process."""

from __future__ import annotations

import platform

import pytest

x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="the machine code here is x86-64")

PRELUDE = r"""
import ctypes, faulthandler, gc, mmap, os, signal, sys, threading, warnings

# From Python 3.12 on os.fork() warns of any second thread, and the ticker is one.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

libc = ctypes.CDLL(None, use_errno=True)


def raw(code, result=ctypes.c_long):
    "A C function of these bytes, in memory that trapline knows nothing of."
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(result)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    function.memory = memory
    return function


class sigaction_t(ctypes.Structure):  # glibc, x86-64
    _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_uint64 * 16), ("flags", ctypes.c_int),
                ("restorer", ctypes.c_void_p)]


class stack_t(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


SA_SIGINFO, SA_ONSTACK, SA_RESETHAND = 4, 0x08000000, 0x80000000 - (1 << 32)


def third_party(sig, code, flags=SA_SIGINFO | SA_ONSTACK):
    "Installs machine code as the handler of a signal; returns the address of the one before."
    function = raw(code)
    keep.append(function)
    action, before = sigaction_t(), sigaction_t()
    action.handler = ctypes.cast(function, ctypes.c_void_p).value
    action.flags = flags
    assert libc.sigaction(sig, ctypes.byref(action), ctypes.byref(before)) == 0
    return before.handler or 0


def handler_of(sig):
    now = sigaction_t()
    assert libc.sigaction(sig, None, ctypes.byref(now)) == 0
    return now.handler or 0


keep = []


def bus_error():
    fd = os.memfd_create("short")
    os.ftruncate(fd, 4096)
    memory = mmap.mmap(fd, 4096)
    os.ftruncate(fd, 0)
    memory[0]


def crash(kind):
    "Dies in a way that has nothing to do with native code of trapline."
    match kind:
        case "null store":
            ctypes.memset(0, 1, 1)
        case "null jump":
            ctypes.CFUNCTYPE(None)(1)()
        case "ud2":
            raw(bytes.fromhex("0f0b"))()
        case "int3":
            raw(bytes.fromhex("ccc3"))()
        case "division":
            raw(bytes.fromhex("31c999f7f9c3"))()
        case "hlt":
            raw(bytes.fromhex("f4"))()
        case "bus":
            bus_error()
        case "stack overflow":
            raw(bytes.fromhex("50ebfd"))()  # push rax; jmp back to it
        case "abort":
            os.abort()
        case "kill SEGV":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "kill TRAP":
            os.kill(os.getpid(), signal.SIGTRAP)
        case "raise FPE":
            signal.raise_signal(signal.SIGFPE)
    print("still alive after", kind)


def trap_a_little():
    "Native traps of several kinds, by every path; each is an event."
    import trapline

    code = trapline.CodeImage(bytes.fromhex("ccf4 0f0b 31c9f7f9 890425ff000000 b82a000000c3".replace(" ", "")))
    assert code[15]() == 42
    for path in ("inject", "direct", "unwind"):
        for offset in (0, 1, 2, 4, 8):
            try:
                code.function(offset, path=path)()
            except trapline.Trap:
                continue
            raise AssertionError((path, offset))


"""
