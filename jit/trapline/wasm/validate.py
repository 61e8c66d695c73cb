"""Validation of a module. Core specification 3.4 (modules), 3.2 (types), 3.3.10 (constant expressions).

`validate` checks everything outside function bodies at once; bodies are checked one by one, when they are needed
(`validate_body`) or all together (``validate(module, bodies=True)``).
"""

from __future__ import annotations

from typing import Final

from trapline.errors import ModuleError, ValidationError
from trapline.wasm.body import decode_body
from trapline.wasm.module import Expression, Module, SegmentMode
from trapline.wasm.opcodes import CONSTANT, OPCODES, opcode_name
from trapline.wasm.types import (
    EXTERN_KIND_NAMES,
    FUNCREF,
    I32,
    MAX_PAGES,
    MAX_TABLE_ELEMENTS,
    ExternKind,
    Limits,
    ValueType,
    type_list,
    value_type_name,
)
from trapline.wasm.validate_body import validate_body

__all__ = ["validate", "validate_body"]

_REF_FUNC: Final = 0xD2


def validate(module: Module, *, bodies: bool = False) -> None:
    """Checks a module, without the function bodies unless `bodies`.

    Leaves `Module.declared_functions` and `Module.validated`. Raises ValidationError with offset and section; with
    `bodies` also what `decode_body` raises.
    """
    if not module.validated:
        _check_tables_and_memories(module)
        _check_globals(module)
        _check_exports(module)
        _check_start(module)
        _check_elements(module)
        _check_data(module)
        module.declared_functions = _declared_functions(module)
        module.validated = True
    if bodies:
        for index in range(len(module.code)):
            validate_body(module, decode_body(module, index))


def _unknown(what: str, index: int, count: int, offset: int, section: str) -> ValidationError:
    return ValidationError(
        f"unknown {what} {index}",
        offset=offset,
        section=section,
        expected=f"an index below {count}",
        found=str(index),
    )


def _check_limits(limits: Limits, bound: int, what: str, offset: int, section: str) -> None:
    for size in (limits.minimum, limits.maximum):
        if size is not None and size > bound:
            raise ValidationError(what, offset=offset, section=section, expected=f"at most {bound}", found=str(size))
    if limits.maximum is not None and limits.minimum > limits.maximum:
        raise ValidationError(
            "size minimum must not be greater than maximum", offset=offset, section=section, found=str(limits)
        )


def _check_tables_and_memories(module: Module) -> None:
    for position, table in enumerate(module.tables):
        section = "import" if position < module.imported_tables else "table"
        offset = module.table_offsets[position]
        _check_limits(table.limits, MAX_TABLE_ELEMENTS, "table size out of range", offset, section)
    for position, memory in enumerate(module.memories):
        section = "import" if position < module.imported_memories else "memory"
        offset = module.memory_offsets[position]
        _check_limits(memory.limits, MAX_PAGES, "memory size must be at most 65536 pages (4GiB)", offset, section)


def _check_expression(
    module: Module, expression: Expression, expected: ValueType, known_globals: int, section: str
) -> None:
    """A constant expression of one type that may read the first `known_globals` globals, where they are immutable."""
    stack: list[ValueType] = []
    index = 0
    try:
        for index, opcode in enumerate(expression.opcodes[:-1]):
            row = OPCODES[opcode]
            if not row.flags & CONSTANT or opcode == 0x0B:
                raise ValidationError("constant expression required")
            immediate = expression.immediates[index]
            operands = row.operands
            if operands:
                have = stack[-len(operands) :]
                if tuple(have) != operands:
                    raise _mismatch(operands, have)
                del stack[-len(operands) :]
                stack.extend(row.results)
            elif opcode == 0x23:
                assert isinstance(immediate, int)
                if immediate >= known_globals:
                    raise ValidationError(f"unknown global {immediate}", expected=f"an index below {known_globals}")
                if module.globals[immediate].mutable:
                    raise ValidationError("constant expression required", found="a mutable global")
                stack.append(module.globals[immediate].value)
            elif opcode == 0xD0:
                assert isinstance(immediate, int)
                stack.append(immediate)
            elif opcode == _REF_FUNC:
                assert isinstance(immediate, int)
                if immediate >= len(module.function_types):
                    count = len(module.function_types)
                    raise ValidationError(f"unknown function {immediate}", expected=f"an index below {count}")
                stack.append(FUNCREF)
            else:
                stack.extend(row.results)
        index = len(expression.opcodes) - 1
        if stack != [expected]:
            raise _mismatch((expected,), stack)
    except ModuleError as error:
        error.offset = expression.offsets[index]
        error.opcode = opcode_name(expression.opcodes[index])
        error.section = section
        raise


def _mismatch(expected: tuple[ValueType, ...], found: list[ValueType]) -> ValidationError:
    return ValidationError(
        f"type mismatch: instruction requires {type_list(expected)} but stack has {type_list(found[-20:])}"
    )


def _check_globals(module: Module) -> None:
    first = module.imported_globals
    for position, expression in enumerate(module.global_inits):
        index = first + position
        _check_expression(module, expression, module.globals[index].value, index, "global")


def _check_exports(module: Module) -> None:
    counts = (len(module.function_types), len(module.tables), len(module.memories), len(module.globals))
    seen: set[str] = set()
    for export in module.exports:
        if export.name in seen:
            raise ValidationError("duplicate export name", offset=export.offset, section="export", found=export.name)
        seen.add(export.name)
        if export.index >= counts[export.kind]:
            raise _unknown(EXTERN_KIND_NAMES[export.kind], export.index, counts[export.kind], export.offset, "export")


def _check_start(module: Module) -> None:
    if module.start is None:
        return
    if module.start >= len(module.function_types):
        raise _unknown("function", module.start, len(module.function_types), module.start_offset, "start")
    function_type = module.function_types[module.start]
    if function_type.params or function_type.results:
        raise ValidationError(
            "start function takes or gives values",
            offset=module.start_offset,
            section="start",
            expected="[] -> []",
            found=str(function_type),
        )


def _check_elements(module: Module) -> None:
    function_count = len(module.function_types)
    for segment in module.elements:
        if segment.mode is SegmentMode.ACTIVE:
            if segment.table_index >= len(module.tables):
                raise _unknown("table", segment.table_index, len(module.tables), segment.offset, "element")
            element = module.tables[segment.table_index].element
            if element != segment.element:
                raise ValidationError(
                    "type mismatch: references do not fit the table",
                    offset=segment.offset,
                    section="element",
                    expected=value_type_name(element),
                    found=value_type_name(segment.element),
                )
            assert segment.position is not None, "an active segment has a position"
            _check_expression(module, segment.position, I32, len(module.globals), "element")
        if segment.functions is not None:
            if segment.functions and max(segment.functions) >= function_count:
                index = next(index for index in segment.functions if index >= function_count)
                raise _unknown("function", index, function_count, segment.offset, "element")
        elif segment.expressions is not None:
            for expression in segment.expressions:
                _check_expression(module, expression, segment.element, len(module.globals), "element")


def _check_data(module: Module) -> None:
    for segment in module.data:
        if segment.mode is SegmentMode.ACTIVE:
            if segment.memory_index >= len(module.memories):
                raise _unknown("memory", segment.memory_index, len(module.memories), segment.offset, "data")
            assert segment.position is not None, "an active segment has a position"
            _check_expression(module, segment.position, I32, len(module.globals), "data")


def _declared_functions(module: Module) -> set[int]:
    """The functions named outside bodies and the start section: exports, globals, element segments. 3.4.10, C.refs."""
    declared = {export.index for export in module.exports if export.kind == ExternKind.FUNCTION}
    expressions = list(module.global_inits)
    for segment in module.elements:
        if segment.functions is not None:
            declared.update(segment.functions)
        elif segment.expressions is not None:
            expressions.extend(segment.expressions)
    for expression in expressions:
        for opcode, immediate in zip(expression.opcodes, expression.immediates, strict=True):
            if opcode == _REF_FUNC and isinstance(immediate, int):
                declared.add(immediate)
    return declared
