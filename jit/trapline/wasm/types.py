"""Types of WebAssembly and what a module imports and exports. Core specification 2.3 and 5.3."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NewType, TypeAlias

ValueType: TypeAlias = int
"""A value type as its byte in the binary format; `BOTTOM` stands for any type, below code that cannot be reached."""

BOTTOM: Final = 0
I32: Final = 0x7F
I64: Final = 0x7E
F32: Final = 0x7D
F64: Final = 0x7C
V128: Final = 0x7B
FUNCREF: Final = 0x70
EXTERNREF: Final = 0x6F

VALUE_TYPE_NAMES: Final[dict[ValueType, str]] = {
    BOTTOM: "any",
    I32: "i32",
    I64: "i64",
    F32: "f32",
    F64: "f64",
    V128: "v128",
    FUNCREF: "funcref",
    EXTERNREF: "externref",
}

VALUE_TYPE_BYTES: Final[dict[ValueType, int]] = {I32: 4, I64: 8, F32: 4, F64: 8, V128: 16, FUNCREF: 8, EXTERNREF: 8}

i32 = NewType("i32", int)
i64 = NewType("i64", int)
f32 = NewType("f32", float)
f64 = NewType("f64", float)
funcref = NewType("funcref", object)
externref = NewType("externref", object)

_SPELLINGS: Final[dict[object, ValueType]] = {
    i32: I32,
    i64: I64,
    f32: F32,
    f64: F64,
    funcref: FUNCREF,
    externref: EXTERNREF,
    **{name: value_type for value_type, name in VALUE_TYPE_NAMES.items() if value_type},
    **{value_type: value_type for value_type in VALUE_TYPE_NAMES if value_type},
}

NUMBER_TYPES: Final = frozenset({I32, I64, F32, F64})
REFERENCE_TYPES: Final = frozenset({FUNCREF, EXTERNREF})

PAGE_BYTES: Final = 65536
MAX_PAGES: Final = 65536
MAX_TABLE_ELEMENTS: Final = 0xFFFFFFFF


def value_type_name(value_type: ValueType) -> str:
    """The name of a value type in the text format."""
    return VALUE_TYPE_NAMES.get(value_type, f"type {value_type:#x}")


def value_type_of(spelling: object) -> ValueType:
    """A value type from its byte, its name in the text format or the Python type of that name here (`i32`, ...).

    Raises TypeError, which says what was found.
    """
    try:
        return _SPELLINGS[spelling]
    except (KeyError, TypeError):
        names = ", ".join(name for value_type, name in VALUE_TYPE_NAMES.items() if value_type)
        raise TypeError(f"found {spelling!r} for a value type, expected one of {names}") from None


def type_list(types: tuple[ValueType, ...] | list[ValueType]) -> str:
    """The names of several types in brackets, as `[i32 f64]`."""
    return "[" + " ".join([value_type_name(value_type) for value_type in types]) + "]"


@dataclass(frozen=True, slots=True)
class FuncType:
    """What a function takes and returns.

    >>> from trapline import f64, i32
    >>> print(FuncType.of([i32, "i64"], [f64]))
    [i32 i64] -> [f64]
    """

    params: tuple[ValueType, ...] = ()
    results: tuple[ValueType, ...] = ()

    @classmethod
    def of(cls, params: Iterable[object] = (), results: Iterable[object] = ()) -> FuncType:
        """From types in any spelling that `value_type_of` knows. Raises TypeError."""
        return cls(tuple(map(value_type_of, params)), tuple(map(value_type_of, results)))

    def __str__(self) -> str:
        return f"{type_list(self.params)} -> {type_list(self.results)}"


@dataclass(frozen=True, slots=True)
class Limits:
    """The size at the start and the largest size, in pages or elements; None is no maximum."""

    minimum: int
    maximum: int | None = None

    def __str__(self) -> str:
        return f"{self.minimum}..{'' if self.maximum is None else self.maximum}"


@dataclass(frozen=True, slots=True)
class TableType:
    """Elements of one reference type."""

    element: ValueType
    limits: Limits

    @classmethod
    def of(cls, element: object, minimum: int, maximum: int | None = None) -> TableType:
        """From a type in any spelling that `value_type_of` knows, and sizes in elements. Raises TypeError."""
        return cls(value_type_of(element), Limits(minimum, maximum))

    def __str__(self) -> str:
        return f"table {self.limits} {value_type_name(self.element)}"


@dataclass(frozen=True, slots=True)
class MemoryType:
    """A memory in pages of 64 KiB."""

    limits: Limits

    def __str__(self) -> str:
        return f"memory {self.limits}"


@dataclass(frozen=True, slots=True)
class GlobalType:
    """A global variable."""

    value: ValueType
    mutable: bool

    @classmethod
    def of(cls, value: object, *, mutable: bool = False) -> GlobalType:
        """From a type in any spelling that `value_type_of` knows. Raises TypeError."""
        return cls(value_type_of(value), mutable)

    def __str__(self) -> str:
        name = value_type_name(self.value)
        return f"global (mut {name})" if self.mutable else f"global {name}"


class ExternKind(enum.IntEnum):
    """What an import or export is, as its byte in the binary format."""

    FUNCTION = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3


EXTERN_KIND_NAMES: Final = ("function", "table", "memory", "global")

ExternType: TypeAlias = FuncType | TableType | MemoryType | GlobalType


@dataclass(frozen=True, slots=True)
class Import:
    """One import. `index` is its place in the index space of its kind, `offset` its first byte in the module.

    `type_index` names the type of a function as declared (-1 for the other kinds).
    """

    module: str
    name: str
    kind: ExternKind
    type: ExternType
    index: int
    type_index: int
    offset: int


@dataclass(frozen=True, slots=True)
class Export:
    """One export. `index` is the place of what it names in the index space of its kind."""

    name: str
    kind: ExternKind
    index: int
    offset: int
