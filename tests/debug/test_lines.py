"""Line tables: units of every version made by hand, programs of compilers beside LLVM's tools, and damage."""

from __future__ import annotations

import functools
import itertools
import random
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.programs import compiled
from trapline.debug.dwarf import joined
from trapline.debug.lines import LineTable, Row, SourceLine
from trapline.wasm.decode import decode
from trapline.wasm.module import Module

# ---- made by hand ----


def leb(number: int) -> bytes:
    out = bytearray()
    while True:
        byte = number & 0x7F
        number >>= 7
        done = number in (0, -1) and (number == -1) == bool(byte & 0x40)
        out.append(byte if done else byte | 0x80)
        if done:
            return bytes(out)


def uleb(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def section(number: int, contents: bytes) -> bytes:
    return bytes([number]) + uleb(len(contents)) + contents


def custom(name: str, contents: bytes) -> bytes:
    return section(0, uleb(len(name)) + name.encode() + contents)


def module_with(bodies: int = 1, /, **sections: bytes) -> Module:
    """A module of functions of 30 nops each, with debug sections by name, without their dots."""
    body = bytes([32, 0, *[1] * 30, 0x0B])
    data = b"\0asm\1\0\0\0" + section(1, b"\1\x60\0\0") + section(3, bytes([bodies, *[0] * bodies]))
    data += section(10, bytes([bodies]) + body * bodies)
    for name, contents in sections.items():
        data += custom("." + name, contents)
    return decode(data)


OPCODE_BASE, LINE_BASE, LINE_RANGE = 13, -5, 14
STANDARD = bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])


def special(address: int, line: int) -> bytes:
    return bytes([OPCODE_BASE + line - LINE_BASE + LINE_RANGE * address])


def set_address(address: int) -> bytes:
    return b"\0\5\2" + address.to_bytes(4, "little")


END = b"\0\1\1"


class Strings:
    """A section of strings, filled as it is asked for."""

    def __init__(self) -> None:
        self.data = bytearray()

    def at(self, text: str) -> bytes:
        offset = len(self.data)
        self.data += text.encode() + b"\0"
        return offset.to_bytes(4, "little")


def unit(version: int, program: bytes, strings: Strings | None = None, wide: bool = False) -> bytes:
    """A line program with the files a.c, and b.h in the folder `sub`."""
    if version >= 5:
        assert strings is not None
        names = b"\1" + b"\1\x1f" + b"\2" + strings.at("/home") + strings.at("sub")
        names += b"\2" + b"\1\x1f\2\x0b" + b"\3"
        names += strings.at("a.c") + b"\0" + strings.at("a.c") + b"\0" + strings.at("b.h") + b"\1"
    else:
        names = b"sub\0\0" + b"a.c\0\0\0\0" + b"b.h\0\1\0\0" + b"\0"
    head = b"\1" + (b"\1" if version >= 4 else b"") + b"\1" + LINE_BASE.to_bytes(1, "little", signed=True)
    head += bytes([LINE_RANGE, OPCODE_BASE]) + STANDARD + names
    size = 8 if wide else 4
    body = version.to_bytes(2, "little") + (b"\4\0" if version >= 5 else b"")
    body += len(head).to_bytes(size, "little") + head + program
    return (b"\xff\xff\xff\xff" if wide else b"") + len(body).to_bytes(size, "little") + body


PROGRAM = b"".join(
    [
        set_address(2),
        b"\3" + leb(9) + b"\5\7" + b"\1",  # line 10, column 7
        b"\x0a" + special(4, 2),  # prologue_end; address 6, line 12
        b"\6\4\2\5" + uleb(300) + special(5, -3),  # not a statement; b.h, column 300; address 11, line 9
        b"\3" + leb(-9) + b"\2\1\1",  # address 12, line 0
        b"\x08\6\2\4\4\1\3\1\1",  # address 33 by const_add_pc (17) and 4; a.c, line 1
        b"\2\1" + END,
    ]
)


def found_at(table: LineTable, module: Module, address: int) -> SourceLine | None:
    return table.find(module.module_offset(address))


@pytest.mark.parametrize(("version", "wide"), [(2, False), (3, False), (4, False), (5, False), (3, True), (4, True)])
def test_every_version(version: int, wide: bool) -> None:
    """In the 32-bit format, and in the 64-bit one, which came with version 3."""
    strings = Strings()
    data = unit(version, PROGRAM, strings, wide)
    module = module_with(debug_line=data, debug_line_str=bytes(strings.data))
    table = LineTable.of(module)
    base = "/home/" if version >= 5 else ""
    assert found_at(table, module, 1) is None
    assert found_at(table, module, 2) == SourceLine(f"{base}a.c", 10, 7)
    assert found_at(table, module, 5) == SourceLine(f"{base}a.c", 10, 7)
    assert found_at(table, module, 6) == SourceLine(f"{base}a.c", 12, 7)
    assert found_at(table, module, 11) == SourceLine(f"{base}sub/b.h", 9, 300)
    assert found_at(table, module, 12) is None, "line 0 is code of no line"
    assert found_at(table, module, 33) == SourceLine(f"{base}a.c", 1, 300)
    assert found_at(table, module, 34) is None
    rows = list(table.rows())
    start = module.code_start
    assert rows[1] == Row(start + 6, start + 11, f"{base}a.c", 12, 7, True, True)
    assert [row.line for row in rows] == [10, 12, 9, 0, 1]
    assert [row.is_statement for row in rows] == [True, True, False, False, True]


def info(version: int, line_offset: int, folder: str) -> dict[str, bytes]:
    """A unit whose top entry tells its folder, and its abbreviation."""
    attributes = b"\x10\x17" + b"\x1b\x08" if version >= 4 else b"\x10\x06" + b"\x1b\x08"
    abbreviations = b"\1\x11\0" + attributes + b"\0\0" + b"\0"
    entry = b"\1" + line_offset.to_bytes(4, "little") + folder.encode() + b"\0"
    tail = b"\1\4" + bytes(4) if version >= 5 else bytes(4) + b"\4"
    body = version.to_bytes(2, "little") + tail + entry
    return {"debug_info": len(body).to_bytes(4, "little") + body, "debug_abbrev": abbreviations}


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_relative_names_count_from_the_compiler_s_folder(version: int) -> None:
    data = unit(4, PROGRAM)
    module = module_with(debug_line=data, **info(version, 0, "/home/me"))
    table = LineTable.of(module)
    assert found_at(table, module, 2) == SourceLine("/home/me/a.c", 10, 7)
    assert found_at(table, module, 11) == SourceLine("/home/me/sub/b.h", 9, 300)


def test_folders_by_index() -> None:
    """DW_FORM_strx1 by .debug_str_offsets, as -gdwarf-5 writes it."""
    abbreviations = b"\1\x11\0" + b"\x72\x17" + b"\x10\x17" + b"\x1b\x25" + b"\0\0" + b"\0"
    entry = b"\1" + (8).to_bytes(4, "little") + bytes(4) + b"\1"
    body = b"\5\0\1\4" + bytes(4) + entry
    module = module_with(
        debug_line=unit(4, PROGRAM),
        debug_info=len(body).to_bytes(4, "little") + body,
        debug_abbrev=abbreviations,
        debug_str_offsets=(12).to_bytes(4, "little") + b"\5\0\0\0" + bytes(4) + (4).to_bytes(4, "little"),
        debug_str=b"one\0/two\0",
    )
    assert found_at(LineTable.of(module), module, 2) == SourceLine("/two/a.c", 10, 7)


def test_joined() -> None:
    assert joined("/a", "b") == "/a/b"
    assert joined("/a/", "b") == "/a/b"
    assert joined("", "b") == "b"
    assert joined("/a", "/b") == "/b"
    assert joined("/a", "sdk://b") == "sdk://b"
    assert joined("C:\\a", "b") == "C:\\a\\b"
    assert joined("/a", "C:\\b") == "C:\\b"


def test_rows_of_functions_that_are_gone() -> None:
    """Linkers leave them at 0 and at the end of the address space; they would cover live code."""
    dead = set_address(0) + b"\3" + leb(90) + b"\1\2" + uleb(64) + END
    tombstone = set_address(0xFFFFFFFF) + b"\3" + leb(80) + b"\1\2\4" + END
    module = module_with(debug_line=unit(4, dead + tombstone + PROGRAM + dead))
    table = LineTable.of(module)
    assert found_at(table, module, 2) == SourceLine("a.c", 10, 7)
    assert len(list(table.rows())) == 5


def test_strays_do_not_cover_functions() -> None:
    """A sequence that begins inside a function is asked only where no function's own one knows the line."""
    stray = set_address(7) + b"\3" + leb(70) + b"\1\2\2" + END
    after = set_address(40) + b"\3" + leb(60) + b"\1\2\1" + END
    module = module_with(2, debug_line=unit(4, stray + after) + unit(4, PROGRAM))
    table = LineTable.of(module)
    assert found_at(table, module, 7) == SourceLine("a.c", 12, 7)
    assert found_at(table, module, 40) == SourceLine("a.c", 61, 0)


def test_several_units_are_carried_out_one_by_one() -> None:
    second = set_address(35) + b"\3" + leb(41) + b"\1\2\5" + END
    module = module_with(2, debug_line=unit(4, PROGRAM) + unit(3, second) + unit(4, END))
    table = LineTable.of(module)
    assert found_at(table, module, 2) == SourceLine("a.c", 10, 7)
    assert table._carried_out == 1
    assert found_at(table, module, 36) == SourceLine("a.c", 42, 0)
    assert table._carried_out == 2
    assert found_at(table, module, 60) is None
    assert table._carried_out == 3


def test_nothing_there() -> None:
    module = module_with()
    assert LineTable.of(module).is_empty
    assert LineTable.of(module).find(module.code_start + 2) is None
    assert not list(LineTable.of(module).rows())


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\xff\xff\xff\xff",
        b"\xf0\xff\xff\xff" + bytes(9),
        b"\xff\xff\xff\x7f\4\0",
        bytes(64),
        (4).to_bytes(4, "little") + b"\x09\0\0\0",
    ],
)
def test_headers_that_are_none(data: bytes) -> None:
    module = module_with(debug_line=data)
    assert LineTable.of(module).find(module.code_start + 2) is None


def test_a_table_of_files_without_bytes() -> None:
    """A count of 2^28 entries that take no bytes each must not be believed."""
    head = b"\1\1\1" + bytes([0xFB, LINE_RANGE, OPCODE_BASE]) + STANDARD
    for formats in (b"\0", b"\1\1\x19", b"\1\1\x21"):
        names = formats + uleb(1 << 28)
        body = b"\5\0\4\0" + len(head + names).to_bytes(4, "little") + head + names + PROGRAM
        module = module_with(debug_line=len(body).to_bytes(4, "little") + body)
        start = time.perf_counter()
        assert LineTable.of(module).find(module.code_start + 2) is None
        assert time.perf_counter() - start < 5


def test_damage_never_gets_out() -> None:
    """Bytes changed, cut and doubled in every section: whatever is found, nothing is raised and nothing hangs."""
    strings = Strings()
    data = unit(5, PROGRAM, strings) + unit(4, PROGRAM) + unit(2, PROGRAM)
    second = len(unit(5, PROGRAM, Strings()))
    sections = {"debug_line": data, "debug_line_str": bytes(strings.data), **info(4, second, "/x")}
    chance = random.Random(1)
    start = time.perf_counter()
    for _ in range(1500):
        changed = {name: bytearray(contents) for name, contents in sections.items()}
        for _ in range(chance.randrange(1, 5)):
            contents = changed[chance.choice(list(changed))]
            at = chance.randrange(len(contents) + 1)
            match chance.randrange(4):
                case 0:
                    contents[at : at + 1] = bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))])
                case 1:
                    del contents[at:]
                case 2:
                    contents[at:at] = contents[: chance.randrange(40)]
                case 3:
                    contents[at : at + 4] = chance.randbytes(4)
        module = module_with(**{name: bytes(contents) for name, contents in changed.items()})
        table = LineTable.of(module)
        for address in (0, 2, 11, 33, 40):
            found = found_at(table, module, address)
            assert found is None or found.line > 0
        assert all(row.start < row.stop for row in table.rows())
    assert time.perf_counter() - start < 60


def test_much_damage_takes_no_time() -> None:
    """Megabytes of units that are none, and of units that all look for what stands at the end of a long table."""
    zeros = bytes(4 << 20)
    abbreviations = b"".join(uleb(number) + b"\x11\0\x10\x06\0\0" for number in range(2, 60000)) + b"\1\x11\0\0\0\0"
    entry = b"\1" + bytes(4)
    bodies = [b"\4\0" + (at * 3).to_bytes(4, "little") + b"\4" + entry for at in range(20000)]
    info_section = b"".join(len(body).to_bytes(4, "little") + body for body in bodies)
    start = time.perf_counter()
    for sections in (
        {"debug_line": zeros},
        {"debug_line": unit(4, PROGRAM), "debug_info": zeros, "debug_abbrev": zeros},
        {"debug_line": unit(4, PROGRAM), "debug_info": info_section, "debug_abbrev": abbreviations},
    ):
        module = module_with(**sections)
        found = found_at(LineTable.of(module), module, 2)
        assert found in (None, SourceLine("a.c", 10, 7))
    assert time.perf_counter() - start < 20


# ---- beside LLVM's tools ----


class Theirs(NamedTuple):
    """A row as llvm-dwarfdump prints it."""

    start: int
    stop: int
    line: int
    column: int
    is_statement: bool
    ends_prologue: bool


def rows_by_dwarfdump(path: Path, module: Module) -> list[Theirs]:
    """Those of sequences that lie in the code."""
    text = subprocess.run(
        ["llvm-dwarfdump", "--debug-line", str(path)], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    first, last = module.code_offset(module.code[0].start), module.code_offset(module.code[-1].stop)
    found: list[Theirs] = []
    sequence: list[tuple[int, int, int, bool, bool]] = []
    for line in text.splitlines():
        row = re.match(r"0x([0-9a-f]{16})\s+(\d+)\s+(\d+)\s+\d+\s+\d+\s+\d+\s*(.*)", line)
        if row is None:
            continue
        sequence.append((int(row[1], 16), int(row[2]), int(row[3]), "is_stmt" in row[4], "prologue_end" in row[4]))
        if "end_sequence" in row[4]:
            if first <= sequence[0][0] <= sequence[-1][0] <= last:
                found += [
                    Theirs(module.module_offset(one[0]), module.module_offset(following[0]), *one[1:])
                    for one, following in itertools.pairwise(sequence)
                    if one[0] < following[0]
                ]
            sequence = []
    return found


def lines_by_symbolizer(path: Path, addresses: list[int]) -> list[str]:
    """`file:line` of addresses that count from the code section's contents; line 0 where it knows none."""
    command = ["llvm-symbolizer", f"--obj={path}", "--no-inlines", "--functions=none", "--output-style=GNU"]
    asked = "".join(f"{address:#x}\n" for address in addresses)
    text = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, timeout=120).stdout
    return [re.sub(r"\?$", "0", line.partition(" (")[0]) for line in text.splitlines() if line]


def compare(path: Path) -> None:
    module = decode(path.read_bytes())
    table = LineTable.of(module)
    rows = list(table.rows())
    mine = [Theirs(row.start, row.stop, row.line, row.column, row.is_statement, row.ends_prologue) for row in rows]
    assert mine == rows_by_dwarfdump(path, module)
    addresses = [module.code_offset(row.start) for row in rows[:: max(len(rows) // 300, 1)]]
    for address, theirs in zip(addresses, lines_by_symbolizer(path, addresses), strict=True):
        found = table.find(module.module_offset(address))
        line = "?:0" if found is None else f"{found.file}:{found.line}"
        assert line == theirs or (found is None and theirs.endswith(":0")), hex(address)


@pytest.mark.client("llvm-dwarfdump", "llvm-symbolizer")
@pytest.mark.parametrize("options", [["-O0"], ["-O2"], ["-O1", "-gdwarf-5"], ["-O1", "-gdwarf-3"]], ids="_".join)
def test_programs_by_zig(options: list[str]) -> None:
    compare(compiled(Path(__file__).parents[1] / "cli" / "sum.c", *options))


@functools.cache
def with_lines(shared: Path) -> list[Path]:
    return [path for path in sorted(shared.glob("corpus/*/*.wasm")) if b".debug_line" in path.read_bytes()]


@pytest.mark.client("llvm-dwarfdump", "llvm-symbolizer")
def test_the_corpus(shared: Path, record_property: Callable[[str, object], None]) -> None:
    """Real programs by clang."""
    paths = with_lines(shared)
    record_property("programs", len(paths))
    assert paths
    for path in paths:
        compare(path)
