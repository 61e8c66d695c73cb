"""The top entries of compile units: which folder a compiler was run in, which line table is the unit's.

DWARF 5, 7.5.1 (unit headers), 7.5.3 (abbreviations), 3.1.1 (attributes of units). Nothing below the top entry is read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from trapline.debug.dwarf import Cursor, Damaged, Form, Sections, StringAt

__all__ = ["Unit", "units"]

_STMT_LIST: Final = 0x10
_COMP_DIR: Final = 0x1B
_STR_OFFSETS_BASE: Final = 0x72
_ADDRESS_BYTES: Final = 4
_UT_TYPE: Final = 0x02
_UT_SKELETON: Final = 0x04
_UT_SPLIT_COMPILE: Final = 0x05
_UT_SPLIT_TYPE: Final = 0x06
_HEADER_EXTRA: Final = {_UT_SKELETON: 8, _UT_SPLIT_COMPILE: 8, _UT_TYPE: 8, _UT_SPLIT_TYPE: 8}
"""Bytes of the unit id or type signature that other kinds of units have; a type offset may follow, which ends them."""


_MOST_DAMAGED: Final = 100
"""Units that cannot be read before the rest is taken for damaged, too."""
_MOST_ABBREVIATIONS: Final = 100_000
"""Abbreviations that are read in all: one a unit, as compilers write them."""

_Attributes = list[tuple[int, int, int]]
"""(attribute, form, implicit value) of each attribute of an abbreviation."""


class Unit(NamedTuple):
    """`line_offset` is where its line program begins in `.debug_line`; `folder` what relative names count from."""

    line_offset: int
    folder: str


def units(sections: Sections) -> list[Unit]:
    """Every unit that has a line program, as far as `.debug_info` can be read. Raises nothing."""
    found: list[Unit] = []
    data = sections[".debug_info"]
    position = damaged = 0
    abbreviations: dict[tuple[int, int], _Attributes] = {}
    try:
        while position < len(data) and damaged <= _MOST_DAMAGED and len(abbreviations) <= _MOST_ABBREVIATIONS:
            cursor = Cursor(".debug_info", data, position, len(data))
            length = cursor.unit_length()
            position = cursor.at + length
            cursor.stop = min(position, len(data))
            try:
                unit = _top_entry(sections, cursor, abbreviations)
            except Damaged:
                damaged += 1
                continue
            if unit is not None:
                found.append(unit)
    except Damaged:
        pass
    return found


def _top_entry(
    sections: Sections, cursor: Cursor, known: dict[tuple[int, int], _Attributes]
) -> Unit | None:
    version = cursor.unsigned(2)
    if not 2 <= version <= 5:
        raise Damaged(f"a unit of version {version}")
    if version >= 5:
        kind, address_bytes, abbreviations = cursor.unsigned(1), cursor.unsigned(1), cursor.offset()
        cursor.take(_HEADER_EXTRA.get(kind, 0))
        if kind in (_UT_TYPE, _UT_SPLIT_TYPE):
            return None
    else:
        abbreviations, address_bytes = cursor.offset(), cursor.unsigned(1)
    if address_bytes != _ADDRESS_BYTES:
        raise Damaged(f"addresses of {address_bytes} bytes")
    line_offset: int | None = None
    folder: StringAt | None = None
    offsets_base = 2 * cursor.offset_bytes  # behind the first header of .debug_str_offsets
    for attribute, form, implicit in _abbreviation(sections, abbreviations, cursor.uleb(), known):
        value = cursor.value(form, implicit)
        if attribute == _STMT_LIST and isinstance(value, int):
            line_offset = value
        elif attribute == _COMP_DIR and isinstance(value, tuple):
            folder = value
        elif attribute == _STR_OFFSETS_BASE and isinstance(value, int):
            offsets_base = value
    if line_offset is None:
        return None
    try:
        return Unit(line_offset, "" if folder is None else sections.text(folder, offsets_base, cursor.offset_bytes))
    except Damaged:
        return Unit(line_offset, "")


def _abbreviation(
    sections: Sections, offset: int, wanted: int, known: dict[tuple[int, int], _Attributes]
) -> _Attributes:
    """The attributes of an abbreviation of the table at an offset. Raises Damaged.

    `known` gets every one that is passed on the way, by table and code.
    """
    found = known.get((offset, wanted))
    if found is not None:
        return found
    data = sections[".debug_abbrev"]
    cursor = Cursor(".debug_abbrev", data, offset, len(data))
    while (code := cursor.uleb()) and len(known) <= _MOST_ABBREVIATIONS:
        cursor.uleb()  # the tag
        cursor.take(1)  # whether it has children
        attributes: _Attributes = []
        while True:
            attribute, form = cursor.uleb(), cursor.uleb()
            implicit = cursor.sleb() if form == Form.IMPLICIT_CONST else 0
            if not attribute and not form:
                break
            attributes.append((attribute, form, implicit))
        known[offset, code] = attributes
        if code == wanted:
            return attributes
    raise Damaged(f"no abbreviation {wanted} at {offset:#x}")
