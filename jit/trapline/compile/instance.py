"""The instance block: where compiled code finds everything of its instance. The same on every machine.

One zeroed block per instance; a register of the machine holds its address while code of the instance runs. The header
is fixed, what follows depends on the module alone, so that code of a module fits every instance of it:

    imported functions  8 bytes each: address of the function's record
    tables              8 bytes each: address of struct tl_table
    imported globals    8 bytes each: address of the cell
    own globals         16 bytes each: the cell itself
    own functions       32 bytes each: the record itself
    data segments       16 bytes each: address, bytes (dropped: 0 bytes)
    element segments    16 bytes each: address of the references, count

A global's cell is 16 bytes; i32 and f32 lie in the low 4 bytes with zeros above, references are words with 0 for null.
"""

from __future__ import annotations

from typing import Final

from trapline.wasm.module import Module
from trapline.wasm.types import PAGE_BYTES

__all__ = ["InstanceLayout"]

MEMORY_BASE: Final = 0
"""Base address of memory 0, or 0. It never changes while the instance lives."""
MEMORY: Final = 8
"""Address of struct tl_memory of memory 0, or 0."""
HOST_STUB: Final = 16
"""Address of the stub that leaves for the host."""
HELPERS: Final = 24
"""Address of the table of C functions, by number (libcalls.Helper)."""
OBJECT: Final = 32
"""The Python object that owns the block, borrowed."""
TABLES: Final = 40
"""Address of the tables below."""
DATA: Final = 48
"""Address of the data segments below."""
ELEMENTS: Final = 56
"""Address of the element segments below."""
HEADER_BYTES: Final = 64

# A function record, which a funcref points at. Must match struct tl_function_record of native/.
RECORD_ENTRY: Final = 0
RECORD_BLOCK: Final = 8
RECORD_TYPE: Final = 16
"""The number of the type, equal for equal types in the whole process."""
RECORD_INDEX: Final = 24
RECORD_BYTES: Final = 32

# struct tl_memory and struct tl_table, as far as code reads them.
MEMORY_SIZE_BYTES: Final = 8
TABLE_ELEMENTS: Final = 0
TABLE_COUNT: Final = 8

CELL_BYTES: Final = 16
SEGMENT_BYTES: Final = 16


class InstanceLayout:
    """Offsets in the instance block of a module's instances, in bytes.

    Index spaces count imports first, as the module does. `block_bytes` is the size of the whole; `memory_minimum_bytes`
    is what memory 0 has at least, whoever made it.
    """

    __slots__ = (
        "block_bytes",
        "data_segments",
        "element_segments",
        "global_addresses",
        "imported_functions",
        "imported_globals",
        "memory_minimum_bytes",
        "own_functions",
        "own_globals",
        "tables",
    )

    def __init__(self, module: Module) -> None:
        self.imported_functions: int = module.imported_functions
        """How many functions are imported; their addresses begin behind the header."""
        self.imported_globals: int = module.imported_globals
        self.memory_minimum_bytes = PAGE_BYTES * module.memories[0].limits.minimum if module.memories else 0
        self.tables = HEADER_BYTES + 8 * self.imported_functions
        self.global_addresses = self.tables + 8 * len(module.tables)
        self.own_globals = (self.global_addresses + 8 * self.imported_globals + 15) // 16 * 16
        self.own_functions = self.own_globals + CELL_BYTES * (len(module.globals) - self.imported_globals)
        self.data_segments = self.own_functions + RECORD_BYTES * len(module.code)
        self.element_segments = self.data_segments + SEGMENT_BYTES * len(module.data)
        self.block_bytes = self.element_segments + SEGMENT_BYTES * len(module.elements)

    def imported_function(self, index: int) -> int:
        """Where the address of an imported function's record lies."""
        return HEADER_BYTES + 8 * index

    def own_function(self, index: int) -> int:
        """Where the record of a function that the module defines lies; imports count in `index`."""
        return self.own_functions + RECORD_BYTES * (index - self.imported_functions)

    def table(self, index: int) -> int:
        """Where the address of a table lies."""
        return self.tables + 8 * index

    def imported_global(self, index: int) -> int:
        """Where the address of an imported global's cell lies."""
        return self.global_addresses + 8 * index

    def own_global(self, index: int) -> int:
        """Where the cell of a global that the module defines lies; imports count in `index`."""
        return self.own_globals + CELL_BYTES * (index - self.imported_globals)

    def data_segment(self, index: int) -> int:
        """Where a data segment's address and size lie."""
        return self.data_segments + SEGMENT_BYTES * index

    def element_segment(self, index: int) -> int:
        """Where an element segment's address and count lie."""
        return self.element_segments + SEGMENT_BYTES * index
