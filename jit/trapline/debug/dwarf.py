"""What every DWARF section is made of: integers, LEB128, strings, forms. DWARF 5, 7.

Sections are custom sections of the module, by their usual names; all numbers are little-endian, addresses have 4 bytes
and count from the contents of the code section. Damage is `Damaged`, which stays inside trapline.debug: every reader
gives what it read before it. No loop runs longer than its bytes.
"""

from __future__ import annotations

from typing import Final

from trapline.wasm.module import Module

__all__ = ["Cursor", "Damaged", "Form", "Sections", "StringAt", "joined"]

_LEB_BYTES: Final = 10


class Damaged(Exception):
    """Bytes that are no DWARF, or DWARF of a kind that is not read here."""


class Form:
    """Attribute forms, DWARF 5, 7.5.6, and the GNU ones of split and older files that are skipped alike."""

    ADDR: Final = 0x01
    BLOCK2: Final = 0x03
    BLOCK4: Final = 0x04
    DATA2: Final = 0x05
    DATA4: Final = 0x06
    DATA8: Final = 0x07
    STRING: Final = 0x08
    BLOCK: Final = 0x09
    BLOCK1: Final = 0x0A
    DATA1: Final = 0x0B
    FLAG: Final = 0x0C
    SDATA: Final = 0x0D
    STRP: Final = 0x0E
    UDATA: Final = 0x0F
    REF_ADDR: Final = 0x10
    REF1: Final = 0x11
    REF2: Final = 0x12
    REF4: Final = 0x13
    REF8: Final = 0x14
    REF_UDATA: Final = 0x15
    INDIRECT: Final = 0x16
    SEC_OFFSET: Final = 0x17
    EXPRLOC: Final = 0x18
    FLAG_PRESENT: Final = 0x19
    STRX: Final = 0x1A
    ADDRX: Final = 0x1B
    REF_SUP4: Final = 0x1C
    STRP_SUP: Final = 0x1D
    DATA16: Final = 0x1E
    LINE_STRP: Final = 0x1F
    REF_SIG8: Final = 0x20
    IMPLICIT_CONST: Final = 0x21
    LOCLISTX: Final = 0x22
    RNGLISTX: Final = 0x23
    REF_SUP8: Final = 0x24
    STRX1: Final = 0x25
    STRX2: Final = 0x26
    STRX3: Final = 0x27
    STRX4: Final = 0x28
    ADDRX1: Final = 0x29
    ADDRX2: Final = 0x2A
    ADDRX3: Final = 0x2B
    ADDRX4: Final = 0x2C


_FIXED_BYTES: Final = {
    Form.ADDR: 4,
    Form.DATA1: 1,
    Form.DATA2: 2,
    Form.DATA4: 4,
    Form.DATA8: 8,
    Form.DATA16: 16,
    Form.FLAG: 1,
    Form.REF1: 1,
    Form.REF2: 2,
    Form.REF4: 4,
    Form.REF8: 8,
    Form.REF_SIG8: 8,
    Form.REF_SUP4: 4,
    Form.REF_SUP8: 8,
    Form.STRX1: 1,
    Form.STRX2: 2,
    Form.STRX3: 3,
    Form.STRX4: 4,
    Form.ADDRX1: 1,
    Form.ADDRX2: 2,
    Form.ADDRX3: 3,
    Form.ADDRX4: 4,
}
_UNSIGNED: Final = frozenset([Form.UDATA, Form.REF_UDATA, Form.STRX, Form.ADDRX, Form.LOCLISTX, Form.RNGLISTX])
_OFFSETS: Final = frozenset([Form.STRP, Form.LINE_STRP, Form.SEC_OFFSET, Form.REF_ADDR, Form.STRP_SUP])
_INDEXED_STRINGS: Final = frozenset([Form.STRX, Form.STRX1, Form.STRX2, Form.STRX3, Form.STRX4])
_BLOCK_SIZES: Final = {Form.BLOCK1: 1, Form.BLOCK2: 2, Form.BLOCK4: 4}

StringAt = tuple[str, int]
"""A string that is not read yet: the section it lies in, or `index` for one of `.debug_str_offsets`; and where."""


class Sections:
    """The contents of a module's debug sections, by name; empty where there is none."""

    __slots__ = ("_found", "_module")

    def __init__(self, module: Module) -> None:
        self._module = module
        self._found: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = b"".join(self._module.custom_sections(name)[:1])
        return found

    def text(self, where: StringAt, offsets_base: int = 8, offset_bytes: int = 4) -> str:
        """A string. Raises Damaged."""
        section, at = where
        if section == "index":
            data = self[".debug_str_offsets"]
            start = offsets_base + offset_bytes * at
            if start + offset_bytes > len(data):
                raise Damaged(f"string {at} of .debug_str_offsets, which has {len(data)} bytes")
            section, at = ".debug_str", int.from_bytes(data[start : start + offset_bytes], "little")
        data = self[section]
        stop = data.find(b"\0", at)
        if not 0 <= at <= stop:
            raise Damaged(f"a string at {at:#x} of {section}, which has {len(data):#x} bytes")
        return data[at:stop].decode("utf-8", "replace")


class Cursor:
    """A place in a section that moves on as things are read; reading beyond `stop` raises Damaged."""

    __slots__ = ("at", "data", "name", "offset_bytes", "stop")

    def __init__(self, name: str, data: bytes, at: int, stop: int, offset_bytes: int = 4) -> None:
        self.name = name
        self.data = data
        self.at = at
        self.stop = min(stop, len(data))
        self.offset_bytes = offset_bytes
        """4 in the 32-bit format, 8 in the 64-bit one."""

    def take(self, count: int) -> bytes:
        start = self.at
        if not 0 <= count <= self.stop - start:
            raise Damaged(f"{self.name} ends at {self.stop:#x}, expected {count} bytes at {start:#x}")
        self.at = start + count
        return self.data[start : self.at]

    def unsigned(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def offset(self) -> int:
        return self.unsigned(self.offset_bytes)

    def unit_length(self) -> int:
        """The length of a unit, which also says whether its format is the 64-bit one (7.4)."""
        length = self.unsigned(4)
        if length == 0xFFFF_FFFF:
            self.offset_bytes = 8
            return self.unsigned(8)
        if length >= 0xFFFF_FFF0:
            raise Damaged(f"a unit of reserved length {length:#x} in {self.name}")
        return length

    def uleb(self) -> int:
        at = self.at
        if at < self.stop and self.data[at] < 0x80:  # nearly always
            self.at = at + 1
            return self.data[at]
        result = shift = 0
        for byte in self.data[self.at : min(self.at + _LEB_BYTES, self.stop)]:
            self.at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
            shift += 7
        raise Damaged(f"no end of an integer at {self.at:#x} of {self.name}")

    def sleb(self) -> int:
        start = self.at
        result = self.uleb()
        bits = 7 * (self.at - start)
        return result - (1 << bits) if result >> bits - 1 else result

    def string(self) -> StringAt:
        """A string that stands here, NUL behind it."""
        start = self.at
        end = self.data.find(b"\0", start, self.stop)
        if end < 0:
            raise Damaged(f"no end of a string at {start:#x} of {self.name}")
        self.at = end + 1
        return self.name, start

    def value(self, form: int, implicit: int = 0) -> int | StringAt | None:
        """A value of a form: a number, a string, or None for one that is only passed over. Raises Damaged."""
        for _ in range(4):
            if form != Form.INDIRECT:
                break
            form = self.uleb()
        if form in _INDEXED_STRINGS:
            return "index", self.uleb() if form == Form.STRX else self.unsigned(_FIXED_BYTES[form])
        if form in _FIXED_BYTES:
            return self.unsigned(_FIXED_BYTES[form])
        if form in _UNSIGNED:
            return self.uleb()
        if form in _OFFSETS:
            at = self.offset()
            names = {Form.STRP: ".debug_str", Form.LINE_STRP: ".debug_line_str"}
            return (names[form], at) if form in names else at
        match form:
            case Form.STRING:
                return self.string()
            case Form.SDATA:
                return self.sleb()
            case Form.FLAG_PRESENT:
                return 1
            case Form.IMPLICIT_CONST:
                return implicit
            case Form.BLOCK | Form.EXPRLOC:
                self.take(self.uleb())
                return None
            case Form.BLOCK1 | Form.BLOCK2 | Form.BLOCK4:
                self.take(self.unsigned(_BLOCK_SIZES[form]))
                return None
        raise Damaged(f"form {form:#x} at {self.at:#x} of {self.name}")


def joined(folder: str, name: str) -> str:
    """A path below a folder, unless it is absolute: of POSIX or of Windows, as the compiler had it, or a URL."""
    if not folder or name.startswith(("/", "\\")) or name[1:3] in (":/", ":\\") or "://" in name:
        return name
    separator = "\\" if "\\" in folder and "/" not in folder else "/"
    return folder.rstrip(separator) + separator + name
