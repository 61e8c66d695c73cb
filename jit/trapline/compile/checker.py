"""Proves one compiled function: its SSA form, its allocation, its bytes, its frame table.

    checker_ssa         the invariants of ir.py
    checker_places      every step reads what it means to read
    x86_64/check_code   the bytes do what the steps say, and have these trap sites
    checker_states      every state names places that hold what it means
    checker_paths       a stop and the one before it tell the opcode (only in code that keeps its states)

Requires: what one compilation left. Leaves: nothing. Raises: CheckError with function, block, opcode, offset, what was
found and what was expected. Nothing here reads the allocator's log or trusts the table.
"""

from __future__ import annotations

from trapline.compile.allocate import Allocation, Machine
from trapline.compile.checker_paths import check_paths
from trapline.compile.checker_places import check_places
from trapline.compile.checker_ssa import CheckError, check_ssa
from trapline.compile.checker_states import check_states
from trapline.compile.frame_table import FrameTable
from trapline.compile.ir import Func
from trapline.compile.tabulate import SourceText
from trapline.compile.x86_64.check_code import check_code
from trapline.compile.x86_64.emit import Emitted

__all__ = ["CheckError", "check"]


def check(
    func: Func,
    allocation: Allocation,
    emitted: Emitted,
    body: SourceText,
    machine: Machine,
    table: FrameTable,
    full: bool,
) -> None:
    """Everything about one function. `full`: no value of a state may be gone."""
    flow = check_ssa(func)
    places = check_places(func, flow, allocation, machine)
    places.check()
    sites = check_code(func, allocation, emitted, machine)
    check_states(func, flow, places, emitted, body, machine, sites, table, full)
    if full:
        check_paths(func, emitted, table)
