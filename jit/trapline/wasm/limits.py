"""How large a module may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ImplementationLimits:
    """Largest counts and sizes of a module that is accepted; a larger one is refused with UnsupportedError.

    The defaults are those that browsers agreed on, from the WebAssembly JavaScript Interface, "Implementation-defined
    Limits", but for `memories`, which waits for the multi-memory proposal, and `operands`: on one function's stack.
    """

    module_bytes: int = 1 << 30
    types: int = 1_000_000
    functions: int = 1_000_000
    imports: int = 1_000_000
    exports: int = 1_000_000
    globals: int = 1_000_000
    tables: int = 100_000
    memories: int = 1
    element_segments: int = 10_000_000
    data_segments: int = 100_000
    function_bytes: int = 7_654_321
    locals: int = 50_000
    params: int = 1_000
    results: int = 1_000
    br_table_labels: int = 65_520
    operands: int = 4_000_000


DEFAULT_LIMITS: Final = ImplementationLimits()
