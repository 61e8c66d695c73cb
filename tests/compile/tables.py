"""What emission says of its code, checked against the code."""

from __future__ import annotations

import struct
from itertools import pairwise

from trapline.asm.disassemble import disassemble
from trapline.compile.ir import Op
from trapline.compile.libcalls import may_fail
from trapline.compile.pipeline import Compiled

OUT_OF_LINE = ("memory bounds", "table bounds", "truncation 32", "truncation 64")


def check_tables(compiled: Compiled) -> None:
    """Every offset is the start of an instruction, every row belongs to its step, every operand can be found again."""
    emitted, func, allocation = compiled.emitted, compiled.func, compiled.allocation
    instructions = disassemble(emitted.code[: emitted.data_start], arch="x86_64")
    assert not any(found.is_bad for found in instructions)
    by_offset = {found.address: found for found in instructions}
    ends = {found.address + len(found.code) for found in instructions}
    starts = by_offset.keys() | {emitted.data_start}
    assert max(ends) == emitted.data_start

    for steps, offsets, at, edges in zip(
        allocation.steps, emitted.step_offsets, emitted.block_offsets, emitted.edge_offsets, strict=True
    ):
        assert len(offsets) == len(steps) + 1
        assert offsets == sorted(offsets)
        assert at <= offsets[0]
        assert starts >= {at, *offsets}
        for first, last in edges:
            assert first <= last
            assert starts >= {first, last}
            in_line = offsets[0] <= first <= last <= offsets[-1]
            assert in_line or first >= emitted.step_offsets[-1][-1]
    assert emitted.stops == sorted(emitted.stops, key=lambda stop: stop[0])
    assert starts >= {offset for offset, _ in emitted.stops}

    calls = {found.address + len(found.code) for found in instructions if found.mnemonic == "call"}
    assert calls == {row.offset for row in emitted.traps if row.kind == "call"}
    traps = {found.address for found in instructions if found.mnemonic == "hlt"}
    assert traps <= {row.offset for row in emitted.traps}
    for row in emitted.traps:
        if row.kind == "stack":
            assert row.block == row.step == -1
            assert row.offset < emitted.block_offsets[0]
            continue
        step = allocation.steps[row.block][row.step]
        assert func.pos[step.value] == row.pos
        start, stop = emitted.step_offsets[row.block][row.step : row.step + 2]
        if row.kind == "call":
            assert start < row.offset <= stop
        else:
            assert start <= row.offset < stop or by_offset[row.offset].mnemonic == "hlt"
        if func.op[step.value] == Op.LIBCALL and may_fail(func.imm[step.value]):
            for arg in func.args[step.value]:
                assert allocation.slot[arg] >= 0 or func.op[arg] == Op.CONST

    for start, stop in emitted.dispatches:
        check_dispatch(emitted.code, start, stop, by_offset.keys(), emitted.data_start)
    for offset, _ in emitted.type_fixups:
        assert emitted.code[offset : offset + 4] == struct.pack("<I", 0x7FFF_FFFF)
        assert offset + 4 in ends
    for (_, stop), (start, _) in pairwise(sorted(emitted.dispatches)):
        assert stop <= start


def check_dispatch(code: bytes, start: int, stop: int, instructions: object, data_start: int) -> None:
    """lea r11, [rip + table]; movsxd r10, [r11 + selector*4]; add r11, r10; jmp r11."""
    assert isinstance(instructions, type({}.keys()))
    found = disassemble(code[start:stop], arch="x86_64")
    assert [one.mnemonic for one in found] == ["lea", "movsxd", "add", "jmp"]
    (displacement,) = struct.unpack_from("<i", code, start + 3)
    table = start + 7 + displacement
    assert table >= data_start
    assert table % 4 == 0
    (first,) = struct.unpack_from("<i", code, table)
    assert table + first in instructions
