"""Typing of one function body: the algorithm of the core specification's appendix 7.3, on the lists of a Body.

Requires a body from `decode_body` and a module that `validate` passed. Leaves `heights`, `reachable`, `max_height` and
the operand types of drop and select in the body. Raises ValidationError with offset, function and opcode.

The operands of all blocks lie on one stack, with a mark under those of each block: an operand below the block can then
never compare equal to a type that is wanted, so that the common opcodes need no look at the frame.

Reachability here is stricter than the appendix's: a block inside unreachable code stays unreachable, and what follows
a block that neither falls through nor is branched to is unreachable too. Typing goes by the appendix, so that the same
modules are valid.
"""

from __future__ import annotations

from typing import Any, Final

from trapline.errors import ModuleError, UnsupportedError, ValidationError
from trapline.wasm.body import Body, add_function
from trapline.wasm.module import Module
from trapline.wasm.opcodes import MEMARG, NONE, OPCODES, VARIES, opcode_name
from trapline.wasm.types import (
    BOTTOM,
    FUNCREF,
    I32,
    NUMBER_TYPES,
    REFERENCE_TYPES,
    TableType,
    ValueType,
    type_list,
    value_type_name,
)

_MARK: Final = -1
"""Lies under the operands of each block."""

# How an opcode is checked. The first of a row of _RULES: (rule, operand type, result type, natural alignment).
_BINARY: Final = 0
_CONST: Final = 1
_LOAD: Final = 2
_STORE: Final = 3
_UNARY: Final = 4
_SPECIAL: Final = 5

_LOOP: Final = 0x03
_IF: Final = 0x04
_ELSE: Final = 0x05


def _make_rules() -> dict[int, tuple[int, ValueType, ValueType, int]]:
    rules: dict[int, tuple[int, ValueType, ValueType, int]] = {}
    for code, row in OPCODES.items():
        rule = (_SPECIAL, BOTTOM, BOTTOM, 0)
        operands = row.operands
        results = row.results
        if row.immediate == MEMARG:
            load = bool(results)
            rule = (
                _LOAD if load else _STORE,
                I32 if load else operands[1],
                results[0] if load else BOTTOM,
                row.alignment,
            )
        elif not row.flags & VARIES and len(results) == 1:
            if len(operands) == 2 and operands[0] == operands[1]:
                rule = (_BINARY, operands[0], results[0], 0)
            elif len(operands) == 1 and row.immediate == NONE:
                rule = (_UNARY, operands[0], results[0], 0)
            elif not operands and row.name.endswith(".const"):
                rule = (_CONST, BOTTOM, results[0], 0)
        rules[code] = rule
    return rules


_RULES: Final = _make_rules()


class _Frame:
    """One open block. `label` is what a branch to it takes; `base` the place of its mark on the stack.

    `polymorphic` is set behind an unconditional branch, `live` says whether control can come to the block, `targeted`
    whether a reachable branch leaves it.
    """

    __slots__ = ("base", "label", "live", "opcode", "params", "polymorphic", "results", "targeted")

    def __init__(
        self,
        opcode: int,
        params: tuple[ValueType, ...],
        results: tuple[ValueType, ...],
        base: int,
        live: bool,
    ) -> None:
        self.opcode = opcode
        self.params = params
        self.results = results
        self.label = params if opcode == _LOOP else results
        self.base = base
        self.live = live
        self.polymorphic = False
        self.targeted = False


def validate_body(module: Module, body: Body) -> None:
    """Types a body and fills what a Body says of validation.

    Raises ValidationError with offset, function, opcode, found and expected.
    """
    checker = _Checker(module, body)
    try:
        checker.check()
    except ModuleError as error:
        if error.offset is None:
            index = len(body.heights) - 1
            error.offset = body.offsets[index]
            error.opcode = opcode_name(body.opcodes[index])
        raise add_function(error, module, body.function_index) from None


class _Checker:
    def __init__(self, module: Module, body: Body) -> None:
        self._module = module
        self._body = body
        self._stack: list[ValueType] = []
        self._frames: list[_Frame] = []
        self._live = True
        self._dead_from = 0

    def check(self) -> None:
        module = self._module
        body = self._body
        opcodes = body.opcodes
        immediates: list[Any] = body.immediates  # of the kind that the opcode table says
        local_types = body.locals
        local_count = len(local_types)
        no_memory = not module.memories
        rules = _RULES
        stack = self._stack
        push = stack.append
        pop = stack.pop
        frames = self._frames
        body.heights = []
        body.reachable = bytearray(b"\1") * len(opcodes)
        add_height = body.heights.append
        special = self._special
        self._enter(0x02, (), body.type.results)
        for opcode, immediate in zip(opcodes, immediates, strict=True):
            add_height(len(stack) - len(frames))
            if opcode == 0x20:
                if immediate >= local_count:
                    raise self._unknown("local", immediate, local_count)
                push(local_types[immediate])
                continue
            rule, operand, result, alignment = rules[opcode]
            if rule == _SPECIAL:
                if opcode == 0x21 or opcode == 0x22:
                    if immediate >= local_count:
                        raise self._unknown("local", immediate, local_count)
                    operand = local_types[immediate]
                    if stack[-1] != operand:
                        self._pop((operand,))
                        push(operand)
                    if opcode == 0x21:
                        pop()
                else:
                    special(opcode, immediate)
            elif rule == _CONST:
                push(result)
            elif rule == _BINARY:
                if stack[-1] == operand and stack[-2] == operand:
                    pop()
                    stack[-1] = result
                else:
                    self._pop((operand, operand))
                    push(result)
            elif rule == _LOAD:
                if no_memory or immediate[0] > alignment or immediate[1] > 0xFFFFFFFF:
                    raise self._memory_error(immediate, alignment)
                if stack[-1] == I32:
                    stack[-1] = result
                else:
                    self._pop((I32,))
                    push(result)
            elif rule == _STORE:
                if no_memory or immediate[0] > alignment or immediate[1] > 0xFFFFFFFF:
                    raise self._memory_error(immediate, alignment)
                if stack[-1] == operand and stack[-2] == I32:
                    pop()
                    pop()
                else:
                    self._pop((I32, operand))
            elif stack[-1] == operand:
                stack[-1] = result
            else:
                self._pop((operand,))
                push(result)
        body.max_height = max(body.heights)
        if not self._live:
            self._mark_dead(len(opcodes))

    # The operand stack

    def _pop(self, types: tuple[ValueType, ...]) -> None:
        """Takes operands of these types, the last from the top; below unreachable code there are as many as wanted."""
        stack = self._stack
        below = len(stack) - len(types)
        if below < 0 or tuple(stack[below:]) != types:
            below = self._match(types)
        del stack[below:]

    def _match(self, types: tuple[ValueType, ...]) -> int:
        """The height of the stack without operands of these types, the mark of each block counted."""
        stack = self._stack
        below = len(stack)
        for wanted in reversed(types):
            found = stack[below - 1]
            if found == wanted:
                below -= 1
            elif found == _MARK:
                if not self._frames[-1].polymorphic:
                    raise self._mismatch(types)
            elif found == BOTTOM or wanted == BOTTOM:
                below -= 1
            else:
                raise self._mismatch(types)
        return below

    def _push(self, types: tuple[ValueType, ...]) -> None:
        """Adds operands; a limit on their number keeps results of calls from filling memory."""
        self._stack.extend(types)
        limit = self._module.limits.operands
        if len(self._stack) > limit:
            raise UnsupportedError("too many operands", expected=f"at most {limit}", found=str(len(self._stack)))

    def _pop_any(self) -> ValueType:
        """Takes one operand of whatever type."""
        found = self._stack[-1]
        if found == _MARK:
            if not self._frames[-1].polymorphic:
                raise self._mismatch((BOTTOM,))
            return BOTTOM
        self._stack.pop()
        return found

    def _mismatch(self, types: tuple[ValueType, ...], what: str = "instruction") -> ValidationError:
        """The error for operands that are not `types`; for a block's end all of its operands count."""
        base = self._frames[-1].base + 1
        have = self._stack[base:]
        if what == "instruction" and types:
            have = have[-len(types) :]
        return ValidationError(
            f"type mismatch: {what} requires {type_list(types)} but stack has {type_list(have[-20:])}"
        )

    # Blocks

    def _enter(self, opcode: int, params: tuple[ValueType, ...], results: tuple[ValueType, ...]) -> None:
        self._frames.append(_Frame(opcode, params, results, len(self._stack), self._live))
        self._stack.append(_MARK)
        self._push(params)

    def _leave_through(self, frame: _Frame) -> None:
        """At else or end: the operands are the block's results, no more, no less. Takes them."""
        stack = self._stack
        results = frame.results
        if len(stack) - frame.base - 1 > len(results):
            raise self._mismatch(results, "block")
        try:
            self._pop(results)
        except ValidationError:
            raise self._mismatch(results, "block") from None

    def _else(self) -> None:
        frame = self._frames[-1]
        self._leave_through(frame)
        del self._stack[frame.base + 1 :]
        self._stack.extend(frame.params)
        frame.opcode = _ELSE
        frame.polymorphic = False
        if not self._live and frame.live:
            self._mark_dead(len(self._body.heights))
        elif self._live:
            frame.targeted = True  # the first arm comes to the end
        self._live = frame.live

    def _end(self) -> None:
        frame = self._frames[-1]
        stack = self._stack
        results = frame.results
        if results or stack[-1] != _MARK:
            self._leave_through(frame)
        if frame.opcode == _IF:
            if frame.params != results:
                raise ValidationError(
                    f"type mismatch: if without else requires {type_list(results)} but has {type_list(frame.params)}"
                )
            comes_here = frame.live
        else:
            comes_here = frame.targeted and frame.opcode != _LOOP
        del stack[frame.base :]
        self._frames.pop()
        self._push(results)
        if comes_here and not self._live:
            self._mark_dead(len(self._body.heights))
            self._live = True

    def _mark_dead(self, stop: int) -> None:
        """Opcodes from where control was lost up to `stop` cannot be reached."""
        start = self._dead_from
        self._body.reachable[start:stop] = bytes(stop - start)

    def _set_unreachable(self) -> None:
        """Behind an unconditional branch."""
        frame = self._frames[-1]
        del self._stack[frame.base + 1 :]
        frame.polymorphic = True
        if self._live:
            self._live = False
            self._dead_from = len(self._body.heights)

    def _label(self, depth: int) -> _Frame:
        frames = self._frames
        if depth >= len(frames):
            raise self._unknown("label", depth, len(frames))
        frame = frames[-1 - depth]
        if self._live:
            frame.targeted = True
        return frame

    def _br_if(self, depth: int) -> None:
        label = self._label(depth).label
        if self._stack[-1] == I32:
            self._stack.pop()
        else:
            self._pop((I32,))
        if label:
            self._pop(label)
            self._stack.extend(label)

    def _br_table(self, depths: tuple[int, ...], default: int) -> None:
        self._pop((I32,))
        label = self._label(default).label
        seen = {id(label)}
        for depth in sorted(set(depths)):
            other = self._label(depth).label
            if id(other) in seen:
                continue
            seen.add(id(other))
            if len(other) != len(label):
                raise ValidationError(
                    f"type mismatch: labels of br_table take {type_list(label)} and {type_list(other)}"
                )
            if other != label:
                self._match(other)
        self._pop(label)
        self._set_unreachable()

    # The rest

    def _special(self, opcode: int, immediate: Any) -> None:
        """Every opcode that has no rule. Control first, as the most frequent."""
        stack = self._stack
        module = self._module
        if opcode == 0x0D:
            self._br_if(immediate)
        elif opcode == 0x0B:
            self._end()
        elif opcode == 0x02 or opcode == 0x03:
            params, results = immediate
            if params:
                self._pop(params)
            self._enter(opcode, params, results)
        elif opcode == 0x10:
            if immediate >= len(module.function_types):
                raise self._unknown("function", immediate, len(module.function_types))
            function_type = module.function_types[immediate]
            self._pop(function_type.params)
            self._push(function_type.results)
        elif opcode == 0x0C:
            self._pop(self._label(immediate).label)
            self._set_unreachable()
        elif opcode == 0x04:
            self._pop((I32,))
            params, results = immediate
            self._pop(params)
            self._enter(_IF, params, results)
        elif opcode == 0x05:
            self._else()
        elif opcode == 0x1A:
            self._body.immediates[len(self._body.heights) - 1] = self._pop_any()
        elif opcode == 0x23:
            stack.append(self._global(immediate))
        elif opcode == 0x24:
            value_type = self._global(immediate)
            if not module.globals[immediate].mutable:
                raise ValidationError("immutable global", expected="a mutable global", found=f"global {immediate}")
            self._pop((value_type,))
        elif opcode == 0x1B:
            self._select()
        elif opcode == 0x0F:
            self._pop(self._frames[0].label)
            self._set_unreachable()
        elif opcode == 0x00:
            self._set_unreachable()
        elif opcode == 0x0E:
            self._br_table(immediate[0], immediate[1])
        elif opcode == 0x11:
            self._call_indirect(immediate[0], immediate[1])
        elif opcode != 0x01:
            self._reference_or_bulk(opcode, immediate)

    def _select(self) -> None:
        self._pop((I32,))
        second = self._pop_any()
        first = self._pop_any()
        for found in (first, second):
            if found != BOTTOM and found not in NUMBER_TYPES:
                raise ValidationError(
                    "type mismatch: select without a type takes numbers", found=value_type_name(found)
                )
        if first != second and first != BOTTOM and second != BOTTOM:
            self._stack.extend((first, second))
            raise self._mismatch((first, first))
        value_type = second if first == BOTTOM else first
        self._stack.append(value_type)
        self._body.immediates[len(self._body.heights) - 1] = value_type

    def _call_indirect(self, type_index: int, table_index: int) -> None:
        table = self._table(table_index)
        if table.element != FUNCREF:
            raise ValidationError(
                "type mismatch: call_indirect needs a table of funcref", found=value_type_name(table.element)
            )
        types = self._module.types
        if type_index >= len(types):
            raise self._unknown("type", type_index, len(types))
        self._pop((*types[type_index].params, I32))
        self._push(types[type_index].results)

    def _reference_or_bulk(self, opcode: int, immediate: Any) -> None:
        """References, tables, bulk memory, and what has fixed types and nothing to check but its immediates."""
        module = self._module
        stack = self._stack
        row = OPCODES[opcode]
        if opcode == 0x1C:
            self._pop((immediate, immediate, I32))
            stack.append(immediate)
        elif opcode == 0x25:
            element = self._table(immediate).element
            self._pop((I32,))
            stack.append(element)
        elif opcode == 0x26:
            self._pop((I32, self._table(immediate).element))
        elif opcode == 0xD0:
            stack.append(immediate)
        elif opcode == 0xD1:
            found = self._pop_any()
            if found != BOTTOM and found not in REFERENCE_TYPES:
                raise ValidationError("type mismatch: ref.is_null takes a reference", found=value_type_name(found))
            stack.append(I32)
        elif opcode == 0xD2:
            if immediate >= len(module.function_types):
                raise self._unknown("function", immediate, len(module.function_types))
            if module.declared_functions is None or immediate not in module.declared_functions:
                raise ValidationError(
                    "undeclared function reference",
                    expected="a function named in an export, a global or an element segment",
                    found=f"function {immediate}",
                )
            stack.append(FUNCREF)
        elif opcode == 0xFC0F:
            self._pop((self._table(immediate).element, I32))
            stack.append(I32)
        elif opcode == 0xFC11:
            self._pop((I32, self._table(immediate).element, I32))
        else:
            self._check_indices(opcode, immediate)
            self._pop(row.operands)
            stack.extend(row.results)

    def _check_indices(self, opcode: int, immediate: Any) -> None:
        """Whether the memories, tables and segments that an opcode of fixed types names exist and fit each other."""
        if opcode in (0x3F, 0x40, 0xFC0B):
            self._memory(immediate)
        elif opcode == 0xFC0A:
            self._memory(immediate[0])
            self._memory(immediate[1])
        elif opcode == 0xFC08:
            self._memory(immediate[1])
            self._data(immediate[0])
        elif opcode == 0xFC09:
            self._data(immediate)
        elif opcode == 0xFC0C:
            table = self._table(immediate[1])
            self._fit(table.element, self._element(immediate[0]))
        elif opcode == 0xFC0D:
            self._element(immediate)
        elif opcode == 0xFC0E:
            self._fit(self._table(immediate[0]).element, self._table(immediate[1]).element)
        elif opcode == 0xFC10:
            self._table(immediate)

    def _fit(self, target: ValueType, source: ValueType) -> None:
        if source != target:
            raise ValidationError(
                "type mismatch: references do not fit the table",
                expected=value_type_name(target),
                found=value_type_name(source),
            )

    # Index spaces

    def _unknown(self, what: str, index: int, count: int) -> ValidationError:
        return ValidationError(f"unknown {what} {index}", expected=f"an index below {count}", found=str(index))

    def _global(self, index: int) -> ValueType:
        known = self._module.globals
        if index >= len(known):
            raise self._unknown("global", index, len(known))
        return known[index].value

    def _table(self, index: int) -> TableType:
        tables = self._module.tables
        if index >= len(tables):
            raise self._unknown("table", index, len(tables))
        return tables[index]

    def _memory(self, index: int) -> None:
        if index >= len(self._module.memories):
            raise self._unknown("memory", index, len(self._module.memories))

    def _data(self, index: int) -> None:
        count = self._module.data_count or 0
        if index >= count:
            raise self._unknown("data segment", index, count)

    def _element(self, index: int) -> ValueType:
        elements = self._module.elements
        if index >= len(elements):
            raise self._unknown("elem segment", index, len(elements))
        return elements[index].element

    def _memory_error(self, immediate: tuple[int, int], natural: int) -> ValidationError:
        """What is wrong with a memory access. Core specification 3.3.7."""
        alignment, offset = immediate
        if not self._module.memories:
            return self._unknown("memory", 0, 0)
        if alignment > natural:
            return ValidationError(
                "alignment must not be larger than natural",
                expected=f"at most 2^{natural} bytes",
                found=f"2^{alignment} bytes",
            )
        return ValidationError("offset out of range", expected="at most 0xffffffff", found=hex(offset))
