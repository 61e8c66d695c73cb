"""Machine code as the compiler's would be, written by hand: thunks and a few functions for tests of the native core.

Block words beyond the common ones, from 64 on: the address of the record that `imported` and its like call, then the
entry of a function that is compiled late.
"""

from __future__ import annotations

from typing import Any

from trapline import CodeImage, assemble, native, tuning

SOURCE = """
    echo: ret                           # an entry thunk: the results are the arguments

    enter:                              # two words in, one out
        push rbp
        mov rbp, rsp
        push rdi
        sub rsp, 8
        mov r11, rsi
        mov r15, qword ptr [rsi + 8]
        mov r14, qword ptr [r15]
        mov rax, qword ptr [rdi]
        mov rcx, qword ptr [rdi + 8]
        call qword ptr [r11]
        mov rdi, qword ptr [rbp - 8]
        mov qword ptr [rdi], rax
        leave
        ret
    enter_void:
        push rbp
        mov rbp, rsp
        push rdi
        sub rsp, 8
        mov r11, rsi
        mov r15, qword ptr [rsi + 8]
        mov r14, qword ptr [r15]
        call qword ptr [r11]
        leave
        ret

    host:                               # a host thunk: two words in, one out
        push rbp
        mov rbp, rsp
        sub rsp, 16
        mov qword ptr [rsp], rax
        mov qword ptr [rsp + 8], rcx
        mov edi, 1
        mov rsi, rsp
        call qword ptr [r15 + 16]
        mov rax, qword ptr [rsp]
        leave
        ret
    host_void:
        push rbp
        mov rbp, rsp
        mov edi, 1
        mov rsi, rsp
        call qword ptr [r15 + 16]
        leave
        ret
    lazy:                               # what the record of a function that is not compiled points at
        push rbp
        mov rbp, rsp
        sub rsp, 32
        mov qword ptr [rsp], 7
        mov qword ptr [rsp + 8], rax
        mov qword ptr [rsp + 16], rcx
        mov edi, 2
        mov rsi, rsp
        call qword ptr [r15 + 16]
        mov r11, qword ptr [rsp]
        mov rax, qword ptr [rsp + 8]
        mov rcx, qword ptr [rsp + 16]
        leave
        jmp r11

    add: lea eax, [rax + rcx]
        ret
    nothing: ret
    trap:
        push rbp
        mov rbp, rsp
        push r15
        push r15
        hlt
        mov eax, 5
        leave
        ret
    spin: inc rax
        jmp spin
    count_up: inc rax
        cmp rax, rcx
        jb count_up
        ret
    imported:                           # calls the import with its own arguments
        push rbp
        mov rbp, rsp
        push r15
        sub rsp, 8
        mov r11, qword ptr [r15 + 64]
        mov r15, qword ptr [r11 + 8]
        mov r14, qword ptr [r15]
        call qword ptr [r11]
        mov r15, qword ptr [rbp - 8]
        mov r14, qword ptr [r15]
        leave
        ret
    repeat:                             # calls the import rax times: sums what it returns
        push rbp
        mov rbp, rsp
        push r15
        sub rsp, 24
        mov qword ptr [rbp - 16], rax
        mov qword ptr [rbp - 24], 0
    again:
        cmp qword ptr [rbp - 16], 0
        je done
        mov rax, qword ptr [rbp - 16]
        mov ecx, 1
        mov r11, qword ptr [r15 + 64]
        mov r15, qword ptr [r11 + 8]
        mov r14, qword ptr [r15]
        call qword ptr [r11]
        mov r15, qword ptr [rbp - 8]
        mov r14, qword ptr [r15]
        add qword ptr [rbp - 24], rax
        dec qword ptr [rbp - 16]
        jmp again
    done:
        mov rax, qword ptr [rbp - 24]
        leave
        ret
    late:                               # calls the function that is compiled late
        push rbp
        mov rbp, rsp
        push r15
        sub rsp, 8
        call qword ptr [r15 + 72]
        mov r15, qword ptr [rbp - 8]
        leave
        ret
    helper:                             # an entry thunk: words are index, three operands, immediate; result first
        push rbp
        mov rbp, rsp
        push rdi
        sub rsp, 8
        mov r15, qword ptr [rsi + 8]
        mov r10, rdi
        mov r11, qword ptr [r15 + 24]
        mov rax, qword ptr [r10]
        movq xmm0, qword ptr [r10 + 8]
        mov rsi, qword ptr [r10 + 8]
        mov rdx, qword ptr [r10 + 16]
        mov rcx, qword ptr [r10 + 24]
        mov r8, qword ptr [r10 + 32]
        mov rdi, r15
        call qword ptr [r11 + 8*rax]
        mov rdi, qword ptr [rbp - 8]
        mov qword ptr [rdi], rax
        movq qword ptr [rdi + 8], xmm0
        leave
        ret
"""

CODE = CodeImage(assemble(SOURCE), name="wasm_code")


class Convert:
    """References as words: their ids, as long as somebody keeps them; 0 for None."""

    def __init__(self) -> None:
        self.kept: dict[int, object] = {}

    def to_word(self, value: object, code: str) -> int:
        assert code in ("r", "R")
        if value is None:
            return 0
        self.kept[id(value)] = value
        return id(value)

    def from_word(self, word: int, code: str) -> object:
        assert code in ("r", "R")
        return self.kept[word] if word else None


class Instance:
    """An instance block with records for hand-written functions."""

    def __init__(self) -> None:
        self.block = native.Block(80)
        self.records = native.Block(32 * 16)
        self.used = 0
        self.keep: list[object] = []
        self.convert = Convert()
        self.compiled: list[int] = []
        self.block.set(16, native.HOST_STUB_ADDRESS)
        self.block.set(24, native.HELPERS_ADDRESS)
        self.block.set(32, id(self))

    def compile_function(self, index: int) -> int:
        self.compiled.append(index)
        self.block.set(72, CODE.address_of("add"))
        return CODE.address_of("add")

    def record(self, label: str) -> int:
        at, self.used = self.used, self.used + 32
        self.records.set(at, CODE.address_of(label))
        self.records.set(at + 8, self.block.address)
        return self.records.address + at

    def import_record(self, record: int) -> None:
        self.block.set(64, record)

    def function(self, label: str, **options: Any) -> native.WasmFunction:
        """`label` as an (i32, i32) -> i32."""
        return wasm_function(self, self.record(label), **options)

    def import_host(self, function: Any, **options: Any) -> native.HostFunction:
        host = host_function(function, convert=self.convert, **options)
        self.keep.append(host)
        self.import_record(host.record)
        return host


def wasm_function(
    owner: Any,
    record: int,
    *,
    thunk: str = "enter",
    params: bytes = b"ii",
    results: bytes = b"i",
    name: str = "f",
    handler: Any = None,
    convert: Any = None,
    path: int = 0,
    gil: int = 0,
    kind: type[native.WasmFunction] = native.WasmFunction,
    stack_bytes: int = tuning.STACK_BYTES,
    max_stack_bytes: int = tuning.MAX_STACK_BYTES,
) -> native.WasmFunction:
    convert = convert if convert is not None else owner.convert
    address = CODE.address_of(thunk)
    return kind(
        address, record, params, results, name, owner, handler, convert, path, gil, stack_bytes, max_stack_bytes
    )


def host_function(
    function: Any,
    *,
    thunk: str = "host",
    params: bytes = b"ii",
    results: bytes = b"i",
    name: str = "host",
    convert: Any = None,
    caller: Any = None,
) -> native.HostFunction:
    convert = convert if convert is not None else Convert()
    return native.HostFunction(CODE.address_of(thunk), params, results, 0, name, function, convert, caller)
