"""An encoder of modules, for the generator and for tests; it writes what it is told, valid or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.reference.binary import FunctionType
from tests.reference.numeric import Opcode

__all__ = ["ModuleBuilder", "const", "op", "signed", "unsigned"]

TYPE_BYTE = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "funcref": 0x70, "externref": 0x6F}
KIND_BYTE = {"func": 0, "table": 1, "memory": 2, "global": 3}
CONST_OPCODE = {"i32": 0x41, "i64": 0x42, "f32": 0x43, "f64": 0x44}


def unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def op(opcode: Opcode, *immediates: int) -> bytes:
    """An instruction whose immediates are unsigned numbers."""
    first = bytes((opcode[0],)) + unsigned(opcode[1]) if isinstance(opcode, tuple) else bytes((opcode,))
    return first + b"".join(map(unsigned, immediates))


def const(kind: str, bits: int | None) -> bytes:
    """The instruction that pushes these bits; of a reference type, null."""
    if kind.endswith("ref"):
        return bytes((0xD0, TYPE_BYTE[kind]))
    assert bits is not None
    width = int(kind[1:])
    if kind[0] == "f":
        return bytes((CONST_OPCODE[kind],)) + bits.to_bytes(width // 8, "little")
    return bytes((CONST_OPCODE[kind],)) + signed(bits - (1 << width) if bits >> (width - 1) else bits)


def vector(items: Sequence[bytes]) -> bytes:
    return unsigned(len(items)) + b"".join(items)


def text(name: str) -> bytes:
    encoded = name.encode()
    return unsigned(len(encoded)) + encoded


def value_types(kinds: Iterable[str]) -> bytes:
    found = bytes(TYPE_BYTE[kind] for kind in kinds)
    return unsigned(len(found)) + found


def limits(minimum: int, maximum: int | None) -> bytes:
    return op(0, minimum) if maximum is None else op(1, minimum, maximum)


@dataclass
class ModuleBuilder:
    """Lists of what the sections hold. Initialisers are instructions without the closing `end`, bodies too.

    imports      (module, name, function type); only functions
    functions    (type index, declared locals, instructions)
    tables       (element type, minimum, maximum or None)
    memories     (minimum, maximum or None), in pages
    globals      (type, mutable, initialiser)
    exports      (name, kind, index)
    elements     (mode, table, offset, function indices); modes as in binary.Element
    data         (mode, offset, content)
    """

    types: list[FunctionType] = field(default_factory=list)
    imports: list[tuple[str, str, FunctionType]] = field(default_factory=list)
    functions: list[tuple[int, Sequence[str], bytes]] = field(default_factory=list)
    tables: list[tuple[str, int, int | None]] = field(default_factory=list)
    memories: list[tuple[int, int | None]] = field(default_factory=list)
    globals: list[tuple[str, bool, bytes]] = field(default_factory=list)
    exports: list[tuple[str, str, int]] = field(default_factory=list)
    start: int | None = None
    elements: list[tuple[str, int, bytes, Sequence[int]]] = field(default_factory=list)
    data: list[tuple[str, bytes, bytes]] = field(default_factory=list)

    def type_index(self, params: Iterable[str], results: Iterable[str]) -> int:
        wanted = FunctionType(tuple(params), tuple(results))
        if wanted not in self.types:
            self.types.append(wanted)
        return self.types.index(wanted)

    def function(self, params: Iterable[str], results: Iterable[str], code: bytes, locals_: Sequence[str] = ()) -> int:
        """Adds a function and gives its index. Imports must have been added before."""
        self.functions.append((self.type_index(params, results), locals_, code))
        return len(self.imports) + len(self.functions) - 1

    def export_function(self, name: str, params: str, results: str, code: bytes, locals_: Sequence[str] = ()) -> int:
        """The same, exported, with types as words in a text."""
        index = self.function(params.split(), results.split(), code, locals_)
        self.exports.append((name, "func", index))
        return index

    def encode(self) -> bytes:
        imports = [
            text(module) + text(name) + op(0, self.type_index(*function_type))
            for module, name, function_type in self.imports
        ]
        types = [b"\x60" + value_types(params) + value_types(results) for params, results in self.types]
        globals_ = [
            bytes((TYPE_BYTE[kind], mutable)) + initial + b"\x0b" for kind, mutable, initial in self.globals
        ]
        sections = [
            (1, vector(types)),
            (2, vector(imports)),
            (3, vector([unsigned(index) for index, _, _ in self.functions])),
            (4, vector([bytes((TYPE_BYTE[kind],)) + limits(least, most) for kind, least, most in self.tables])),
            (5, vector([limits(*size) for size in self.memories])),
            (6, vector(globals_)),
            (7, vector([text(name) + op(KIND_BYTE[kind], index) for name, kind, index in self.exports])),
            (8, b"" if self.start is None else unsigned(self.start)),
            (9, vector([self._element(*element) for element in self.elements])),
            (12, unsigned(len(self.data)) if self.data else b"\0"),
            (10, vector([self._body(locals_, code) for _, locals_, code in self.functions])),
            (11, vector([self._data(*data) for data in self.data])),
        ]
        out = b"\0asm\1\0\0\0"
        for number, content in sections:
            if content not in (b"", b"\0"):
                out += op(number, len(content)) + content
        return out

    @staticmethod
    def _body(locals_: Sequence[str], code: bytes) -> bytes:
        declared = [unsigned(1) + bytes((TYPE_BYTE[kind],)) for kind in locals_]
        content = vector(declared) + code + b"\x0b"
        return unsigned(len(content)) + content

    @staticmethod
    def _element(mode: str, table: int, offset: bytes, functions: Sequence[int]) -> bytes:
        indices = vector([unsigned(index) for index in functions])
        if mode == "active":
            return op(2, table) + offset + b"\x0b\x00" + indices
        return op(1 if mode == "passive" else 3) + b"\x00" + indices

    @staticmethod
    def _data(mode: str, offset: bytes, content: bytes) -> bytes:
        head = op(1) if mode == "passive" else op(0) + offset + b"\x0b"
        return head + unsigned(len(content)) + content
