"""Decoding code, of functions and of constant expressions: one pass over the bytes. Core specification 5.4.

Leaves parallel lists, blocks matched with their ends. Raises DecodeError for bytes that are no code; ValidationError
for what cannot be represented otherwise (a block of an unknown type); UnsupportedError for opcodes of other proposals.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trapline.errors import DecodeError, ModuleError, UnsupportedError, ValidationError
from trapline.wasm.opcodes import (
    BLOCK,
    BR_TABLE,
    CALL_INDIRECT,
    ELSE,
    END,
    F32_CONST,
    F64_CONST,
    I32_CONST,
    I64_CONST,
    IMMEDIATE_KINDS,
    INDEX,
    INDEX_PAIR,
    MEMARG,
    MEMORY,
    NONE,
    OPCODES,
    PREFIX,
    REF_TYPE,
    SELECT_TYPES,
    opcode_name,
    unsupported_proposal,
)
from trapline.wasm.reader import read_signed, read_unsigned, unexpected_end
from trapline.wasm.types import EXTERNREF, F32, F64, FUNCREF, I32, I64, REFERENCE_TYPES, FuncType, ValueType

_VALUE_TYPES = frozenset({I32, I64, F32, F64, FUNCREF, EXTERNREF})

_PROPOSAL_TYPES = {
    0x7B: "SIMD proposal",
    0x78: "GC proposal",
    0x77: "GC proposal",
    0x75: "stack switching proposal",
    0x74: "exceptions proposal",
    0x73: "GC proposal",
    0x72: "GC proposal",
    0x71: "GC proposal",
    0x6E: "GC proposal",
    0x6D: "GC proposal",
    0x6C: "GC proposal",
    0x6B: "GC proposal",
    0x6A: "GC proposal",
    0x69: "exceptions proposal",
    0x68: "stack switching proposal",
    0x65: "shared-everything threads proposal",
    0x64: "function references proposal",
    0x63: "function references proposal",
    0x62: "custom descriptors proposal",
}
"""The first byte of types that are not supported, by the proposal that defines it."""


def check_value_type(byte: int, offset: int, *, reference: bool = False) -> ValueType:
    """The value type (or with `reference`, the reference type) that a byte stands for. Core specification 5.3."""
    if byte in (REFERENCE_TYPES if reference else _VALUE_TYPES):
        return byte
    proposal = _PROPOSAL_TYPES.get(byte)
    if proposal is not None and not (reference and byte == 0x7B):
        raise UnsupportedError(f"{proposal}: not supported", offset=offset, found=f"type {byte:#04x}")
    reason = "malformed reference type" if reference else "malformed value type"
    raise DecodeError(reason, offset=offset, found=f"{byte:#04x}")


@dataclass(slots=True)
class DecodedCode:
    """Parallel lists, one entry an opcode, as in `body.Body`. `stop` is the byte behind the last `end`."""

    opcodes: list[int] = field(default_factory=list)
    immediates: list[object] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    elses: list[int] = field(default_factory=list)
    stop: int = 0


class CodeDecoder:
    """Decodes the code of one module, whose types must be known. `has_data_count` says whether that section came."""

    def __init__(self, data: bytes, types: list[FuncType], br_table_labels: int) -> None:
        self._data = data
        self.has_data_count = False
        self._br_table_labels = br_table_labels
        self._types = types
        self._block_types: dict[int, tuple[tuple[ValueType, ...], tuple[ValueType, ...]]] = {0x40: ((), ())}
        for value_type in _VALUE_TYPES:
            self._block_types[value_type] = ((), (value_type,))

    def decode(self, start: int, stop: int) -> DecodedCode:
        """Decodes instructions from byte `start` to the `end` that closes them, which must lie before byte `stop`."""
        result = DecodedCode()
        try:
            self._decode(start, stop, result)
        except IndexError:  # of the module's bytes: every other index was checked
            raise self._annotated(unexpected_end(len(self._data), "more code"), result) from None
        except ModuleError as error:
            raise self._annotated(error, result) from None
        return result

    def _annotated(self, error: ModuleError, result: DecodedCode) -> ModuleError:
        if result.opcodes and error.opcode is None:
            error.opcode = opcode_name(result.opcodes[-1])
        return error

    def _decode(self, start: int, stop: int, result: DecodedCode) -> None:
        data = self._data
        kinds = IMMEDIATE_KINDS
        block_types = self._block_types
        opcodes = result.opcodes
        add_opcode = opcodes.append
        add_immediate = result.immediates.append
        add_offset = result.offsets.append
        opened: list[int] = []
        closed: list[tuple[int, int]] = []
        divided: list[tuple[int, int]] = []
        position = start
        value: int
        while position < stop:
            opcode = data[position]
            add_offset(position)
            add_opcode(opcode)
            position += 1
            kind = kinds[opcode]
            if kind <= INDEX:
                value = data[position]
                if value < 0x80:
                    position += 1
                else:
                    value, position = read_unsigned(data, position, stop, 32)
                add_immediate(value)
            elif kind == NONE:
                add_immediate(None)
            elif kind == I32_CONST:
                value = data[position]
                if value < 0x80:
                    position += 1
                    add_immediate(value if value < 0x40 else value - 0x80)
                else:
                    value, position = read_signed(data, position, stop, 32)
                    add_immediate(value)
            elif kind == MEMARG:
                alignment = data[position]
                if alignment < 0x40:
                    position += 1
                else:
                    alignment, position = self._read_alignment(position, stop)
                value = data[position]
                if value < 0x80:
                    position += 1
                else:
                    value, position = read_unsigned(data, position, stop, 64)
                add_immediate((alignment, value))
            elif kind == BLOCK:
                value = data[position]
                if value in block_types:
                    position += 1
                    add_immediate(block_types[value])
                else:
                    types, position = self._read_block_type(position, stop)
                    add_immediate(types)
                opened.append(len(opcodes) - 1)
            elif kind == END:
                add_immediate(None)
                if not opened:
                    break
                closed.append((opened.pop(), len(opcodes) - 1))
            elif kind == ELSE:
                add_immediate(None)
                if not opened or opcodes[opened[-1]] != 0x04:
                    raise DecodeError("END opcode expected", offset=position - 1, found="else without an if before it")
                divided.append((opened[-1], len(opcodes) - 1))
                opened[-1] = len(opcodes) - 1
            elif kind == I64_CONST:
                value, position = read_signed(data, position, stop, 64)
                add_immediate(value)
            elif kind == F64_CONST:
                if position + 8 > stop:
                    raise unexpected_end(stop, "8 bytes of a float")
                add_immediate(int.from_bytes(data[position : position + 8], "little"))
                position += 8
            elif kind == F32_CONST:
                if position + 4 > stop:
                    raise unexpected_end(stop, "4 bytes of a float")
                add_immediate(int.from_bytes(data[position : position + 4], "little"))
                position += 4
            elif kind == PREFIX:
                value, position = read_unsigned(data, position, stop, 32)
                opcode = opcode << 8 | value if value < 0x100 else opcode << 12 | value
                opcodes[-1] = opcode
                row = OPCODES.get(opcode)
                if row is None:
                    raise self._refused(opcode, result.offsets[-1], f"{data[result.offsets[-1]]:02x} {value:02x}")
                if row.immediate == NONE:
                    add_immediate(None)
                else:
                    immediate, position = self._read_immediate(row.immediate, opcode, position, stop)
                    add_immediate(immediate)
            else:
                if kind > REF_TYPE:
                    raise self._refused(opcode, position - 1, f"{opcode:02x}")
                immediate, position = self._read_immediate(kind, opcode, position, stop)
                add_immediate(immediate)
        else:
            raise unexpected_end(stop, "an end opcode")

        result.stop = position
        ends = [-1] * len(opcodes)
        for block, end in closed:
            ends[block] = end
        elses = [-1] * len(opcodes)
        for block, other in divided:
            elses[block] = other
            ends[block] = ends[other]
        result.ends = ends
        result.elses = elses

    def _refused(self, opcode: int, offset: int, shown: str) -> ModuleError:
        proposal = unsupported_proposal(opcode)
        if proposal is None and opcode > 0xFF:
            proposal = unsupported_proposal(self._data[offset])
        if proposal is not None:
            return UnsupportedError(f"{proposal}: not supported", offset=offset, opcode=shown)
        return DecodeError(f"illegal opcode {shown}", offset=offset, opcode=shown)

    def _read_alignment(self, position: int, stop: int) -> tuple[int, int]:
        """The flags of a memory access: bit 6 says that a memory index follows (multi-memory)."""
        value, after = read_unsigned(self._data, position, stop, 32)
        if value >= 0x80:
            raise DecodeError("malformed memop flags", offset=position, expected="at most 0x7f", found=hex(value))
        if value >= 0x40:
            raise UnsupportedError("multi-memory proposal: not supported", offset=position, found="a memory index")
        return value, after

    def _read_block_type(
        self, position: int, stop: int
    ) -> tuple[tuple[tuple[ValueType, ...], tuple[ValueType, ...]], int]:
        """A block type that is not in `_block_types` under its one byte: the index of a type, as 33 bits signed."""
        byte = self._data[position]
        if byte & 0xC0 == 0x40:
            check_value_type(byte, position)
        value, after = read_signed(self._data, position, stop, 33)
        if value < 0:
            raise DecodeError("malformed block type", offset=position, found=str(value))
        if value >= len(self._types):
            raise ValidationError(
                f"unknown type {value}", offset=position, expected=f"one of {len(self._types)} types", found=str(value)
            )
        function_type = self._types[value]
        types = (function_type.params, function_type.results)
        if value < 0x40:  # one byte, as every key: never one of the negative codes of value types
            self._block_types[value] = types
        return types, after

    def _read_immediate(self, kind: int, opcode: int, position: int, stop: int) -> tuple[object, int]:
        """The rarer immediates."""
        data = self._data
        if kind == BR_TABLE:
            return self._read_br_table(position, stop)
        if kind == SELECT_TYPES:
            count, after = read_unsigned(data, position, stop, 32)
            if count != 1:
                raise ValidationError("invalid result arity", offset=position, expected="1", found=str(count))
            return check_value_type(data[after], after), after + 1
        if kind == REF_TYPE:
            value, after = read_signed(data, position, stop, 33)
            if value >= 0:
                raise UnsupportedError("function references proposal: not supported", offset=position)
            return check_value_type(value & 0x7F, position, reference=True), after
        if opcode in (0xFC08, 0xFC09) and not self.has_data_count:
            raise DecodeError("data count section required", offset=position - 2)
        first, position = read_unsigned(data, position, stop, 32)
        if kind in (INDEX, MEMORY):
            return first, position
        assert kind in (CALL_INDIRECT, INDEX_PAIR), f"immediate kind {kind}"
        second, position = read_unsigned(data, position, stop, 32)
        return (first, second), position

    def _read_br_table(self, position: int, stop: int) -> tuple[object, int]:
        data = self._data
        start = position
        count, position = read_unsigned(data, position, stop, 32)
        if count > stop - position:
            raise unexpected_end(stop, f"{count} labels")
        if count > self._br_table_labels:
            raise UnsupportedError(
                "too many labels of br_table",
                offset=start,
                expected=f"at most {self._br_table_labels}",
                found=str(count),
            )
        depths: list[int] = []
        for _ in range(count):
            value = data[position]
            if value < 0x80:
                position += 1
            else:
                value, position = read_unsigned(data, position, stop, 32)
            depths.append(value)
        default, position = read_unsigned(data, position, stop, 32)
        return (tuple(depths), default), position
