"""Which source line an opcode comes from: the line tables of DWARF 2 to 5, as compilers put them into modules.

A module's `.debug_line` holds a line program for each compile unit (DWARF 5, 6.2); carried out, it gives sequences of
rows (address, file, line, column) with rising addresses, which count from the contents of the code section ("DWARF for
WebAssembly"). Programs are carried out one by one, until one holds the address that is looked for.

Linkers leave rows of functions that they removed, at address 0 or at the end of the address space: sequences that do
not lie in the code of functions are dropped. What is damaged gives no lines; nothing here raises, or takes longer than
the bytes are many.

Not done: rows by `.debug_aranges` or by the ranges of units, which would save carrying out other units' programs;
100,000 rows take a tenth of a second, and linkers for Wasm leave out the one and damage the other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from trapline.debug.dwarf import Cursor, Damaged, Sections, StringAt, joined
from trapline.debug.units import units
from trapline.wasm.module import Module

__all__ = ["LineTable", "Row", "SourceLine"]

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _SET_COLUMN, _NEGATE_STMT = 1, 2, 3, 4, 5, 6
_CONST_ADD_PC, _FIXED_ADVANCE_PC, _PROLOGUE_END = 8, 9, 10
_END_SEQUENCE, _SET_ADDRESS, _DEFINE_FILE = 1, 2, 3
_OPERANDS: Final = (0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1)
"""LEB128 operands of each standard opcode in DWARF 5; a table that says otherwise is skipped by what it says."""
_PATH, _DIRECTORY_INDEX = 1, 2
_MOST_DAMAGED: Final = 100
"""Units that cannot be read before the rest is taken for damaged, too."""
_IS_STATEMENT, _PROLOGUE_ENDS = 1, 2


class SourceLine(NamedTuple):
    """A place in a source: `file` as far as the compiler tells its folder; `line` and `column` count from 1.

    `column` is 0 where it is not known.

    >>> str(SourceLine("/src/sum.c", 12, 7)), str(SourceLine("sum.c", 12, 0))
    ('/src/sum.c:12:7', 'sum.c:12')
    """

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f":{self.column}" if self.column else "")


class Row(NamedTuple):
    """A row of the table. `start` is a byte of the module; the row holds as far as `stop`, where the next one starts.

    `line` is 0 for code that comes from no line. `is_statement`: a good place for a breakpoint; `ends_prologue`: so is
    this, for one on the function.
    """

    start: int
    stop: int
    file: str
    line: int
    column: int
    is_statement: bool
    ends_prologue: bool


class _Sequence:
    """Rows of rising addresses [start, stop), as parallel lists; `numbers` are (file, line, column, flags)."""

    __slots__ = ("addresses", "numbers", "stop")

    def __init__(self, addresses: list[int], numbers: list[tuple[int, int, int, int]], stop: int) -> None:
        self.addresses = addresses
        self.numbers = numbers
        self.stop = stop


class _Header:
    """What a line program needs to be carried out, and the names of its files (6.2.4)."""

    __slots__ = (
        *("address_bytes", "default_is_stmt", "files", "folders", "line_base", "line_range", "offset"),
        *("minimum_bytes", "opcode_base", "operands", "program", "stop", "version"),
    )

    def __init__(self, cursor: Cursor, offset: int, stop: int) -> None:
        self.offset = offset
        self.stop = stop
        self.version = cursor.unsigned(2)
        if not 2 <= self.version <= 5:
            raise Damaged(f"a line program of version {self.version}")
        if self.version >= 5:
            cursor.take(2)  # sizes of addresses and of segment selectors; the operand's length tells the former
        header_bytes = cursor.offset()
        self.program = cursor.at + header_bytes
        self.minimum_bytes = cursor.unsigned(1)
        if self.version >= 4:
            cursor.take(1)  # operations in an instruction: 1 but on machines with long instruction words
        self.default_is_stmt = cursor.unsigned(1) != 0
        base = cursor.unsigned(1)
        self.line_base = base - 256 if base > 127 else base
        self.line_range = cursor.unsigned(1)
        self.opcode_base = cursor.unsigned(1)
        if not self.line_range or not self.opcode_base or self.program > stop:
            raise Damaged("a line program without a range of lines, opcodes or an end")
        self.operands = cursor.take(self.opcode_base - 1)
        self.folders: list[StringAt] = []
        self.files: list[tuple[StringAt, int]] = []
        if self.version >= 5:
            self.folders = [name for name, _ in _entries(cursor)]
            self.files = _entries(cursor)
        else:
            while cursor.data[cursor.at : cursor.at + 1] != b"\0":
                self.folders.append(cursor.string())
            cursor.take(1)
            while cursor.data[cursor.at : cursor.at + 1] != b"\0":
                self.files.append(_old_file(cursor))

    def file(self, sections: Sections, number: int, comp_dir: str) -> str:
        """The path of a file. Raises Damaged for one that is not there."""
        from_zero = self.version >= 5
        at = number if from_zero else number - 1
        if not 0 <= at < len(self.files):
            raise Damaged(f"file {number} of {len(self.files)}")
        name, folder = self.files[at]
        path = sections.text(name)
        if from_zero or folder:
            at = folder if from_zero else folder - 1
            if not 0 <= at < len(self.folders):
                raise Damaged(f"folder {folder} of {len(self.folders)}")
            path = joined(sections.text(self.folders[at]), path)
            if from_zero:
                path = joined(sections.text(self.folders[0]), path)
        return joined(comp_dir, path)


def _old_file(cursor: Cursor) -> tuple[StringAt, int]:
    """A file of version 2 to 4: name, folder; then its time and length, which nobody writes."""
    found = cursor.string(), cursor.uleb()
    cursor.uleb()
    cursor.uleb()
    return found


def _entries(cursor: Cursor) -> list[tuple[StringAt, int]]:
    """(name, folder) of each entry of a table of folders or files of version 5 (6.2.4.1)."""
    formats = [(cursor.uleb(), cursor.uleb()) for _ in range(cursor.unsigned(1))]
    count = cursor.uleb()
    found: list[tuple[StringAt, int]] = []
    for _ in range(count):
        before = cursor.at
        name: StringAt | None = None
        folder = 0
        for content, form in formats:
            value = cursor.value(form)
            if content == _PATH and isinstance(value, tuple):
                name = value
            elif content == _DIRECTORY_INDEX and isinstance(value, int):
                folder = value
        if cursor.at == before or name is None:
            raise Damaged("a table of files whose entries have no bytes or no names")
        found.append((name, folder))
    return found


class _Program:
    """One unit's line program; `sequences` carries it out when it is first asked for."""

    def __init__(self, header: _Header, data: bytes) -> None:
        self.header = header
        self._data = data
        self._sequences: list[_Sequence] | None = None

    def sequences(self, code_start: int, code_stop: int) -> list[_Sequence]:
        """Those that lie in [code_start, code_stop). Rows before damage are kept where their sequence was ended."""
        if self._sequences is None:
            found: list[_Sequence] = []
            try:
                self._carry_out(found)
            except Damaged:
                pass
            self._sequences = [
                one for one in found if code_start <= one.addresses[0] <= one.stop <= code_stop
            ]
        return self._sequences

    def _carry_out(self, found: list[_Sequence]) -> None:
        """DWARF 5, 6.2.5. Raises Damaged."""
        header = self.header
        cursor = Cursor(".debug_line", self._data, header.program, header.stop)
        data, at, stop = cursor.data, cursor.at, cursor.stop
        opcode_base, line_base, line_range = header.opcode_base, header.line_base, header.line_range
        minimum = header.minimum_bytes
        const_add = (255 - opcode_base) // line_range * minimum
        special = [
            ((opcode - opcode_base) // line_range * minimum, line_base + (opcode - opcode_base) % line_range)
            for opcode in range(256)
        ]
        initial = _IS_STATEMENT if header.default_is_stmt else 0
        standard = [operands == known for operands, known in zip((0, *header.operands), _OPERANDS, strict=False)]
        addresses: list[int] = []
        numbers: list[tuple[int, int, int, int]] = []
        address, file, line, column, flags = 0, 1, 1, 0, initial
        while at < stop:
            opcode = data[at]
            at += 1
            if opcode >= opcode_base:
                step, more = special[opcode]
                address += step
                line += more
                addresses.append(address)
                numbers.append((file, line, column, flags))
                flags &= _IS_STATEMENT
                continue
            cursor.at = at
            if not opcode:
                length = cursor.uleb()
                at = cursor.at
                cursor.take(length)
                kind = data[at] if length else 0
                if kind == _END_SEQUENCE:
                    if addresses and address >= addresses[-1] and _is_rising(addresses):
                        found.append(_Sequence(addresses, numbers, address))
                    addresses, numbers = [], []
                    address, file, line, column, flags = 0, 1, 1, 0, initial
                elif kind == _SET_ADDRESS:
                    address = int.from_bytes(data[at + 1 : at + length], "little")
                elif kind == _DEFINE_FILE:
                    header.files.append(_old_file(Cursor(".debug_line", data, at + 1, at + length)))
                at = cursor.at
                continue
            if opcode >= len(standard) or not standard[opcode]:
                for _ in range(header.operands[opcode - 1]):
                    cursor.uleb()
                at = cursor.at
                continue
            if opcode == _COPY:
                addresses.append(address)
                numbers.append((file, line, column, flags))
                flags &= _IS_STATEMENT
                continue
            operand = 0
            if opcode == _ADVANCE_LINE:
                line += cursor.sleb()
                at = cursor.at
            elif _OPERANDS[opcode]:
                if at < stop and data[at] < 0x80:  # nearly always
                    operand = data[at]
                    at += 1
                else:
                    operand = cursor.uleb()
                    at = cursor.at
            if opcode == _SET_COLUMN:
                column = operand
            elif opcode == _NEGATE_STMT:
                flags ^= _IS_STATEMENT
            elif opcode == _ADVANCE_PC:
                address += operand * minimum
            elif opcode == _SET_FILE:
                file = operand
            elif opcode == _PROLOGUE_END:
                flags |= _PROLOGUE_ENDS
            elif opcode == _CONST_ADD_PC:
                address += const_add
            elif opcode == _FIXED_ADVANCE_PC:
                address += cursor.unsigned(2)
                at = cursor.at


def _is_rising(addresses: list[int]) -> bool:
    return all(map(int.__le__, addresses, addresses[1:]))


def _programs(data: bytes) -> Iterator[_Program]:
    """Every line program whose header can be read, until too many could not be."""
    position = damaged = 0
    while position < len(data) and damaged <= _MOST_DAMAGED:
        cursor = Cursor(".debug_line", data, position, len(data))
        offset = position
        try:
            length = cursor.unit_length()
            position = cursor.at + length
            cursor.stop = stop = min(position, len(data))
            yield _Program(_Header(cursor, offset, stop), data)
        except Damaged:
            damaged += 1
            if position == offset:
                return


class _Index:
    """Sequences by their starts."""

    __slots__ = ("_sequences", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._sequences: list[tuple[_Sequence, _Program]] = []

    def add(self, program: _Program, sequences: list[_Sequence]) -> None:
        """Of those that begin alike the one that came first stays the one that is found."""
        for one in sequences:
            position = bisect_left(self._starts, one.addresses[0])
            self._starts.insert(position, one.addresses[0])
            self._sequences.insert(position, (one, program))

    def at(self, address: int) -> tuple[_Sequence, _Program] | None:
        """The sequence that holds an address, and whose it is."""
        position = bisect_right(self._starts, address) - 1
        if position < 0:
            return None
        sequence, program = self._sequences[position]
        return (sequence, program) if address < sequence.stop else None


class LineTable:
    """The line table of a module: `find` says where an opcode comes from.

    >>> from trapline.wasm.decode import decode
    >>> print(LineTable.of(decode(bytes.fromhex("0061736d01000000"))).find(0))
    None
    """

    def __init__(self, module: Module) -> None:
        self._module = module
        self._sections = Sections(module)
        self._programs: list[_Program] | None = None
        self._carried_out = 0
        self._bodies = {module.code_offset(code.start) for code in module.code}
        self._known = _Index()
        """Sequences that begin with a function's body, as compilers make them."""
        self._strays = _Index()
        """Others, which linkers may have moved to where they do not belong: asked when all else knows nothing."""
        self._folders: dict[int, str] | None = None
        self._files: dict[tuple[int, int], str] = {}

    @classmethod
    def of(cls, module: Module) -> LineTable:
        """The table of a module; nothing is read yet."""
        return cls(module)

    @property
    def is_empty(self) -> bool:
        """Whether the module tells of no lines at all."""
        return not self._sections[".debug_line"]

    def find(self, module_byte_offset: int) -> SourceLine | None:
        """The line of the opcode at a byte of the module; None where no line is told."""
        address = module_byte_offset - self._module.code_start
        found = self._sequence_at(address)
        if found is None:
            return None
        sequence, program = found
        file, line, column, _ = sequence.numbers[bisect_right(sequence.addresses, address) - 1]
        if line <= 0:
            return None
        name = self._file(program, file)
        return None if name is None else SourceLine(name, line, column)

    def rows(self) -> Iterator[Row]:
        """Every row, by unit and sequence; those that hold for no byte are left out."""
        base = self._module.code_start
        for program in self._all_programs():
            for sequence in program.sequences(*self._code_range()):
                stops = [*sequence.addresses[1:], sequence.stop]
                for start, stop, numbers in zip(sequence.addresses, stops, sequence.numbers, strict=True):
                    file, line, column, flags = numbers
                    name = self._file(program, file)
                    if start < stop and name is not None:
                        flagged = bool(flags & _IS_STATEMENT), bool(flags & _PROLOGUE_ENDS)
                        yield Row(base + start, base + stop, name, line, column, *flagged)

    # ---- programs ----

    def _all_programs(self) -> list[_Program]:
        if self._programs is None:
            self._programs = list(_programs(self._sections[".debug_line"]))
        return self._programs

    def _code_range(self) -> tuple[int, int]:
        """Where functions lie, counted as DWARF does: a sequence may begin at a body and end with the last."""
        code = self._module.code
        if not code:
            return 0, 0
        return self._module.code_offset(code[0].start), self._module.code_offset(code[-1].stop)

    def _sequence_at(self, address: int) -> tuple[_Sequence, _Program] | None:
        found = self._known.at(address)
        programs = self._all_programs()
        while found is None and self._carried_out < len(programs):
            program = programs[self._carried_out]
            self._carried_out += 1
            sequences = program.sequences(*self._code_range())
            self._known.add(program, [one for one in sequences if one.addresses[0] in self._bodies])
            self._strays.add(program, [one for one in sequences if one.addresses[0] not in self._bodies])
            found = self._known.at(address)
        return found or self._strays.at(address)

    # ---- files ----

    def _file(self, program: _Program, number: int) -> str | None:
        key = program.header.offset, number
        found = self._files.get(key)
        if found is None:
            if self._folders is None:
                self._folders = {unit.line_offset: unit.folder for unit in units(self._sections)}
            try:
                found = program.header.file(self._sections, number, self._folders.get(program.header.offset, ""))
            except Damaged:
                return None
            self._files[key] = found
        return found
