"""What the official test scripts ask of an engine.

An engine takes part by a class with the methods of `Embedder`, registered in `embedders.py`. Handles for instances
and for what they export are the engine's own; the runner only hands them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

__all__ = ["Embedder", "HostModule", "LinkFailed", "Refused", "Trapped", "TypedValue"]


class TypedValue(NamedTuple):
    """A value as raw bits.

    i32 i64 f32 f64 v128  a non-negative int below 2**width
    externref             None for null, else the int that the script gives the reference
    funcref               None for null, else any object
    """

    type: str
    bits: Any


class Trapped(Exception):
    """Execution trapped; the words are those of the test scripts, "call stack exhausted" among them."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


class LinkFailed(Exception):
    """Instantiation failed for a missing import or one of another type; the text begins with the scripts' words."""


class Refused(Exception):
    """The bytes are malformed or the module is invalid."""


@dataclass(frozen=True)
class HostModule:
    """A module that the embedder itself provides. Its functions take their parameters and return nothing."""

    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    globals: Mapping[str, TypedValue] = field(default_factory=dict)  # immutable
    tables: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # of funcref: minimum, maximum
    memories: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # pages: minimum, maximum


class Embedder(Protocol):
    """One engine with one store. A new one is made for each script."""

    validates: bool
    """Whether `validate` can tell; if not, the runner leaves those assertions out and counts them as such."""

    def validate(self, content: bytes) -> None:
        """Decodes and validates a binary module. Raises Refused."""

    def host_module(self, definition: HostModule) -> Any:
        """An instance handle for a module of the embedder's own."""

    def instantiate(self, content: bytes, imports: Mapping[tuple[str, str], Any]) -> Any:
        """Decodes, validates and instantiates; gives an instance handle. Raises Refused, LinkFailed or Trapped.

        imports: everything registered, (module, name) -> handle as from `exports`; most is not for this module.
        """

    def exports(self, instance: Any) -> Mapping[str, Any]:
        """The handles of what an instance exports, for use as imports."""

    def invoke(self, instance: Any, name: str, arguments: Sequence[TypedValue]) -> list[TypedValue]:
        """Calls an exported function. Raises Trapped."""

    def get_global(self, instance: Any, name: str) -> TypedValue:
        """The value of an exported global."""
