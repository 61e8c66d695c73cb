"""Two engines in step: trapline in `full`, and the reference, whose frames at every trap must be the same.

A frame is (function index, byte offset of the opcode, locals, operands), innermost first; a caller's operands are those
before its call. How deep a stack goes before it is exhausted is each engine's own, so those traps are only counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tests.reference.interpreter import FrameState
from tests.reference.store import Function
from tests.reference.traps import Trap, TrapKind
from tests.spec.embedder import HostModule, LinkFailed, Trapped, TypedValue
from tests.spec.reference_embedder import ReferenceEmbedder
from tests.spec.trapline_embedder import TraplineEmbedder
from trapline import Config, Frame, Store, TrapEvent, WasmTrapCode
from trapline.native import read_word
from trapline.wasm.types import value_type_name

__all__ = ["Both", "frames_of_reference", "frames_of_trapline"]

Result = TypeVar("Result")
Shown = tuple[int, int, list[Any], list[Any]]
_CALL_INDIRECT = 0x11


def _shown_function(store: Store, word: int) -> object:
    if store.instance_at(read_word(word + 8)) is None:
        return "host function"
    return "function", read_word(word + 24)


def _ours(store: Store, type_: str, bits: int | None) -> object:
    if bits is None:
        return type_, "gone"
    if type_ == "externref":
        found: Any = store.external_of(bits)
        return type_, None if found is None else found[1]
    if type_ == "funcref":
        return type_, _shown_function(store, bits) if bits else None
    return type_, bits


def _theirs(value: TypedValue) -> object:
    if value.type == "funcref" and value.bits is not None:
        is_function = isinstance(value.bits, Function)
        return value.type, ("function", value.bits.index) if is_function else "host function"
    return value.type, value.bits


def frames_of_trapline(event: TrapEvent) -> list[Shown]:
    """The frames of a trap of ours."""

    def shown(frame: Frame, is_caller: bool) -> Shown:
        values = [
            [_ours(event.store, value_type_name(type_), found.bits(index)) for index, type_ in enumerate(found.types)]
            for found in (frame.locals, frame.operands)
        ]
        instance = frame.instance
        assert instance is not None
        if is_caller and instance.module.bytecode()[frame.info.pc] == _CALL_INDIRECT:
            values[1].pop()  # the reference has it neither among operands nor among arguments
        return frame.info.function, frame.info.pc, values[0], values[1]

    return [shown(frame, level > 0) for level, frame in enumerate(event.frames)]


def frames_of_reference(frames: Sequence[FrameState]) -> list[Shown]:
    """The frames of a trap of the reference."""
    return [
        (
            frame.index,
            frame.pc,
            [_theirs(value) for value in frame.locals],
            [_theirs(value) for value in (*frame.operands, *frame.arguments)],
        )
        for frame in frames
    ]


class Both:
    """An embedder that asks both; `traps` counts those whose frames were compared."""

    validates = False

    def __init__(self, config: Config | None = None) -> None:
        self.ours = TraplineEmbedder(config or Config(debug="full"))
        self.theirs = ReferenceEmbedder()
        self.traps = 0
        self._seen: list[tuple[str, list[Shown]]] = []
        self._wanted: list[tuple[str, list[Shown]]] = []
        self.ours.store.set_trap_handler(self._on_ours)
        self.theirs.interpreter.on_trap(self._on_theirs)

    def _on_ours(self, event: TrapEvent) -> None:
        exhausted = event.reason is WasmTrapCode.STACK_EXHAUSTED
        self._seen.append((event.reason.value, [] if exhausted else frames_of_trapline(event)))

    def _on_theirs(self, trap: Trap) -> None:
        exhausted = trap.kind is TrapKind.STACK_EXHAUSTED
        frames = [] if exhausted else frames_of_reference(self.theirs.interpreter.frames())
        self._wanted.append((str(trap.kind), frames))

    def both(self, ours: Callable[[], Result], theirs: Callable[[], Result]) -> tuple[Result, Result]:
        """The results of both; raises what both raise. Frames at traps must be equal."""
        outcomes: list[Any] = []
        for ask in (theirs, ours):
            try:
                outcomes.append(ask())
            except (Trapped, LinkFailed) as error:
                outcomes.append(error)
        wanted, found = outcomes
        # Traps outside of any function (a segment that does not fit) have no frames, nor an event of ours.
        expected = [trap for trap in self._wanted if trap[1] or trap[0] == TrapKind.STACK_EXHAUSTED]
        assert self._seen == expected, f"found {self._seen}, expected {expected}"
        self.traps += len(expected)
        self._seen.clear()
        self._wanted.clear()
        failed = [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
        assert len(set(failed)) < 2, f"found {found!r}, expected {wanted!r}"
        assert len(failed) in (0, 2), f"found {found!r}, expected {wanted!r}"
        if isinstance(found, Exception):
            raise found
        return found, wanted

    # The embedder

    def validate(self, content: bytes) -> None:
        self.ours.validate(content)

    def host_module(self, definition: HostModule) -> Any:
        return self.ours.host_module(definition), self.theirs.host_module(definition)

    def instantiate(self, content: bytes, imports: Mapping[tuple[str, str], Any]) -> Any:
        return self.both(
            lambda: self.ours.instantiate(content, {name: pair[0] for name, pair in imports.items()}),
            lambda: self.theirs.instantiate(content, {name: pair[1] for name, pair in imports.items()}),
        )

    def exports(self, instance: Any) -> Mapping[str, Any]:
        theirs = self.theirs.exports(instance[1])
        return {name: (item, theirs[name]) for name, item in self.ours.exports(instance[0]).items()}

    def invoke(self, instance: Any, name: str, arguments: Sequence[TypedValue]) -> list[TypedValue]:
        return self.both(
            lambda: self.ours.invoke(instance[0], name, self._of(arguments, 0)),
            lambda: self.theirs.invoke(instance[1], name, self._of(arguments, 1)),
        )[0]

    def _of(self, arguments: Sequence[TypedValue], side: int) -> list[TypedValue]:
        return [
            TypedValue(type_, bits[side] if type_ == "funcref" and bits is not None else bits)
            for type_, bits in arguments
        ]

    def get_global(self, instance: Any, name: str) -> TypedValue:
        return self.ours.get_global(instance[0], name)
