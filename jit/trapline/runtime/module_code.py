"""The native code of one module: compiled function by function when first called, shared by its instances.

Owns the module's CodeImage, what each compiled function's trap rows say, and the entries that instances' records get.
Any thread may ask for a function; each is compiled once.
"""

from __future__ import annotations

import bisect
import functools
import operator
import struct
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

from trapline import dump, tuning
from trapline.compile.frame_table import FrameTable
from trapline.compile.pipeline import Compiled, compile_defined, to_valid_body
from trapline.compile.tabulate import tabulate
from trapline.compile.x86_64.emit import TrapRow
from trapline.compile.x86_64.shapes import X86_64
from trapline.compile.x86_64.target import Target
from trapline.compile.x86_64.thunks import LAZY_BYTES, lazy_thunks
from trapline.dump import Stage, Watch
from trapline.errors import WasmFrameInfo
from trapline.runtime.code import CodeImage, Mapped
from trapline.runtime.engine import type_number
from trapline.runtime.function_code import FIXUP, FunctionCode
from trapline.runtime.weak import Members, fork_lock
from trapline.wasm.body import Body
from trapline.wasm.module import Module as WasmModule

if TYPE_CHECKING:
    from trapline.runtime.instance import Instance

__all__ = ["ModuleCode", "ModuleImage", "Place", "place_of"]

_OFFSET: Final = operator.itemgetter(0)
_BODIES: Final = 32
"""Decoded bodies kept for looking places up."""


class Place(NamedTuple):
    """Where an address lies: the module's code, the function (imports counted), bytes from its start."""

    module_code: ModuleCode
    function: int
    offset: int


class ModuleImage(CodeImage):
    """The image of a module's functions; `owner` is what knows them."""

    owner: weakref.ref[ModuleCode]


class ModuleCode:
    """`full` keeps every value that a state names; `ready` holds functions that are compiled already, as from an
    artifact, by defined index."""

    def __init__(
        self, module: WasmModule, name: str, target: Target, full: bool, ready: dict[int, FunctionCode] | None = None
    ) -> None:
        self.module = module
        self.name = name
        self.target = target
        self.full = full
        self.layout = target.layout
        self._lock = fork_lock()
        self.ready: dict[int, FunctionCode] = {} if ready is None else ready
        """By defined index: the functions that are compiled, or came with an artifact."""
        self._entries: list[int] = [0] * len(module.code)
        self._placed: list[tuple[int, int, FunctionCode]] = []
        """(offset, defined index, code) by offset; whole rows, since a signal may raise between any two steps."""
        self._instances: Members[Instance] = Members()
        code_bytes = sum(code.stop - code.start for code in module.code)
        thunks = lazy_thunks(range(module.imported_functions, len(module.function_types)))
        capacity = len(thunks.code) + 65536 + code_bytes * tuning.CODE_BYTES_PER_BYTE + 64 * len(module.code)
        self.image = ModuleImage(name=name, capacity_bytes=capacity)
        self.image.owner = weakref.ref(self)
        lazy = self.image.base + self.image.append(thunks.code)
        self._lazy_entries = range(lazy, lazy + LAZY_BYTES * len(module.code), LAZY_BYTES)
        self._body = functools.lru_cache(_BODIES)(self._decoded_body)
        self._table = functools.lru_cache(_BODIES)(self._made_table)

    # ---- compiling ----

    def compiled(self, defined: int, watch: Watch | None = None) -> Compiled:
        """Everything the compiler knows of a function: deterministic, so that it need not be kept."""
        return compile_defined(self.module, defined, self.full, self.target, watch)

    def function_code(self, defined: int, watch: Watch | None = None) -> FunctionCode:
        """A function's code before it has a place."""
        found = self.ready.get(defined)
        if found is None:
            found = self.ready[defined] = FunctionCode.of(self.compiled(defined, watch).emitted)
        return found

    def entry(self, index: int) -> int:
        """The address of a function (imports counted), which is compiled if it was not yet. Raises CodeError."""
        defined = index - self.module.imported_functions
        with self._lock:
            if self._entries[defined]:
                return self._entries[defined]
            watch = dump.watch(index, self.module)
            found = self.function_code(defined, watch)
            code = bytearray(found.code)
            for offset, type_index in FIXUP.iter_unpack(found.fixups):
                struct.pack_into("<I", code, offset, type_number(self.module.types[type_index]))
            offset = self.image.append(bytes(code), data_bytes=found.data_bytes)
            bisect.insort(self._placed, (offset, defined, found), key=_OFFSET)
            entry = self._entries[defined] = self.image.base + offset
            if watch:
                watch(Stage.PLACE, lambda: f"[{offset:#x}, {offset + len(code):#x}) of image {self.image.name}")
            for instance in self._instances:
                instance.set_entry(defined, entry)
            return entry

    def entries(self, instance: Instance) -> list[int]:
        """What a new instance's records are to hold, by defined index; it hears of functions compiled later."""
        with self._lock:
            self._instances.add(instance)
            return [entry or lazy for entry, lazy in zip(self._entries, self._lazy_entries, strict=True)]

    # ---- looking up ----

    def body(self, defined: int) -> Body:
        """The decoded and validated body of a function."""
        return self._body(defined)

    def _decoded_body(self, defined: int) -> Body:
        return to_valid_body(self.module, defined)

    def place(self, offset: int) -> Place | None:
        """The function that holds an offset of the image."""
        at = bisect.bisect_right(self._placed, offset, key=_OFFSET) - 1
        if at < 0:
            return None
        start, defined, found = self._placed[at]
        if offset - start > len(found.code):
            return None
        return Place(self, self.module.imported_functions + defined, offset - start)

    def _code_of(self, function: int) -> FunctionCode:
        return self.ready[function - self.module.imported_functions]

    def machine_code(self, function: int) -> bytes:
        """The bytes of a compiled function (imports counted)."""
        return self._code_of(function).code

    def row(self, place: Place, waits: bool) -> TrapRow | None:
        """The trap row at a place; `waits` as of `FunctionCode.row`."""
        return self._code_of(place.function).row(place.offset, waits)

    def table(self, function: int) -> FrameTable:
        """The frame table of a function (imports counted), made anew when it is not at hand."""
        return self._table(function - self.module.imported_functions)

    def _made_table(self, defined: int) -> FrameTable:
        compiled = self.compiled(defined)
        machine = X86_64(self.target.features.sse41)
        return tabulate(
            compiled.func, compiled.allocation, compiled.emitted, self.body(defined), machine, self.full
        )

    def opcode_before(self, place: Place) -> int:
        """The opcode that the instruction at a place belongs to."""
        return max(self.table(place.function).opcode_at(place.offset), 0)

    def frame_info(self, function: int, opcode: int) -> WasmFrameInfo:
        """A frame by function (imports counted) and opcode index."""
        body = self.body(function - self.module.imported_functions)
        pc = body.offsets[opcode]
        return WasmFrameInfo(self.name, function, self.module.function_name(function), pc, pc - body.start)


def place_of(mapped: Mapped | None, pc: int) -> Place | None:
    """The function that an address of an image or copy belongs to, where that is a module's."""
    image = None if mapped is None else mapped._image
    if mapped is None or not isinstance(image, ModuleImage):
        return None
    owner = image.owner()
    return None if owner is None else owner.place(pc - mapped.base)
