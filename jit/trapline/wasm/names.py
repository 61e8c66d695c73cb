"""The name section: names of the module, functions, locals and all else. Core specification 7.4 and extended names.

A damaged custom section never makes a module invalid (5.5.3), so whatever can be read before the damage is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from trapline.errors import DecodeError, UnsupportedError
from trapline.wasm.reader import read_name, read_u32

MODULE: Final = 0
FUNCTION: Final = 1
LOCAL: Final = 2
LABEL: Final = 3
TYPE: Final = 4
TABLE: Final = 5
MEMORY: Final = 6
GLOBAL: Final = 7
ELEMENT: Final = 8
DATA: Final = 9
FIELD: Final = 10
TAG: Final = 11
"""Ids of the subsections; 3 to 9 and 11 are of the extended name section proposal, 10 of the GC proposal."""


@dataclass(frozen=True, slots=True)
class Names:
    """Names by index. `locals`, `labels` and `fields` are by function or type, then by local, label or field."""

    module: str | None = None
    functions: dict[int, str] = field(default_factory=dict)
    locals: dict[int, dict[int, str]] = field(default_factory=dict)
    labels: dict[int, dict[int, str]] = field(default_factory=dict)
    types: dict[int, str] = field(default_factory=dict)
    tables: dict[int, str] = field(default_factory=dict)
    memories: dict[int, str] = field(default_factory=dict)
    globals: dict[int, str] = field(default_factory=dict)
    elements: dict[int, str] = field(default_factory=dict)
    data: dict[int, str] = field(default_factory=dict)
    fields: dict[int, dict[int, str]] = field(default_factory=dict)
    tags: dict[int, str] = field(default_factory=dict)
    damaged_at: int | None = None
    """The byte of the module where the first subsection that could not be read in full broke off; None if all could."""


EMPTY_NAMES: Final = Names()


def _read_map(data: bytes, position: int, stop: int, names: dict[int, str]) -> int:
    """Reads a name map into `names`; what precedes damage stays in it. Raises DecodeError at the damage."""
    count, position = read_u32(data, position, stop)
    for _ in range(count):
        index, position = read_u32(data, position, stop)
        name, position = read_name(data, position, stop)
        names.setdefault(index, name)
    return position


def _read_indirect_map(data: bytes, position: int, stop: int, names: dict[int, dict[int, str]]) -> int:
    count, position = read_u32(data, position, stop)
    for _ in range(count):
        index, position = read_u32(data, position, stop)
        position = _read_map(data, position, stop, names.setdefault(index, {}))
    return position


def decode_names(data: bytes, start: int, stop: int) -> Names:
    """Reads the contents of a name section, bytes [start, stop) of `data`. Raises nothing."""
    module: str | None = None
    direct: dict[int, dict[int, str]] = {
        kind: {} for kind in (FUNCTION, TYPE, TABLE, MEMORY, GLOBAL, ELEMENT, DATA, TAG)
    }
    indirect: dict[int, dict[int, dict[int, str]]] = {kind: {} for kind in (LOCAL, LABEL, FIELD)}
    damaged_at: int | None = None
    position = start
    while position < stop:
        kind = data[position]
        try:
            length, contents = read_u32(data, position + 1, stop)
        except DecodeError as error:
            damaged_at = damaged_at if damaged_at is not None else error.offset
            break
        end = min(contents + length, stop)
        position = end
        try:
            if kind == MODULE:
                module, _ = read_name(data, contents, end)
            elif kind in direct:
                _read_map(data, contents, end, direct[kind])
            elif kind in indirect:
                _read_indirect_map(data, contents, end, indirect[kind])
        except (DecodeError, UnsupportedError) as error:
            damaged_at = damaged_at if damaged_at is not None else error.offset
    return Names(
        module,
        direct[FUNCTION],
        indirect[LOCAL],
        indirect[LABEL],
        direct[TYPE],
        direct[TABLE],
        direct[MEMORY],
        direct[GLOBAL],
        direct[ELEMENT],
        direct[DATA],
        indirect[FIELD],
        direct[TAG],
        damaged_at,
    )
