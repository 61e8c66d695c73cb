"""The body of one function, decoded: what validation checks and the compiler lowers. Core specification 5.5.13."""

from __future__ import annotations

from trapline.errors import DecodeError, ModuleError, UnsupportedError
from trapline.wasm.code import DecodedCode, check_value_type
from trapline.wasm.module import Module
from trapline.wasm.reader import read_byte, read_u32
from trapline.wasm.types import FuncType, ValueType


class Body:
    """One function as parallel lists with an entry for each opcode, in the order of the bytes; the last is `end`.

    From decoding:

    opcodes     as in `opcodes.OPCODES`.
    immediates  as the kind of immediate of the opcode says (opcodes.py).
    offsets     the opcode's first byte in the module: the Wasm pc. `Module.code_offset` makes it relative.
    ends        of block, loop, if, else: the index of the matching end; else -1.
    elses       of an if with an else: the index of that else; else -1.
    locals      the types of params, then of declared locals.

    From validation (empty before):

    heights     operands on the stack at the start of the opcode.
    reachable   1 where control can come to the opcode: by falling into it, or by a branch that was itself reachable.
                Of an `end` this says whether its block falls through; whether anything follows the block is said by
                the next opcode. Code that is 0 need not be compiled, and its heights may be too low.
    immediates  of drop and of select without a type: the type of the operand (`BOTTOM` where nothing says it).
    """

    __slots__ = (
        "elses",
        "ends",
        "function_index",
        "heights",
        "immediates",
        "locals",
        "max_height",
        "offsets",
        "opcodes",
        "param_count",
        "reachable",
        "start",
        "stop",
        "type",
    )

    def __init__(
        self, function_index: int, function_type: FuncType, start: int, local_types: list[ValueType], code: DecodedCode
    ) -> None:
        self.function_index = function_index
        """The index of the function, imports counted."""
        self.type = function_type
        self.param_count = len(function_type.params)
        self.locals = local_types
        self.opcodes = code.opcodes
        self.immediates = code.immediates
        self.offsets = code.offsets
        self.ends = code.ends
        self.elses = code.elses
        self.start = start
        """The first byte of the body in the module (the count of local declarations)."""
        self.stop = code.stop
        """The byte behind the last end."""
        self.heights: list[int] = []
        self.reachable = bytearray()
        self.max_height = 0


def add_function(error: ModuleError, module: Module, function_index: int) -> ModuleError:
    """Adds the function and section to an error from inside a body."""
    error.section = "code"
    error.function = function_index
    error.function_name = module.function_name(function_index)
    return error


def decode_body(module: Module, defined_index: int) -> Body:
    """Decodes the body of the function that is `defined_index`-th of those the module defines.

    Requires a module from `decode`. Raises DecodeError, ValidationError (an unknown block type) or UnsupportedError,
    with offset and function.
    """
    code = module.code[defined_index]
    function_index = module.imported_functions + defined_index
    function_type = module.function_types[function_index]
    try:
        local_types, position = _decode_locals(module, function_type, code.start, code.stop)
        decoder = module.code_decoder()
        decoded = decoder.decode(position, code.stop)
        if decoded.stop != code.stop:
            raise DecodeError(
                "section size mismatch",
                offset=decoded.stop,
                expected=f"the function to end at byte {code.stop:#x}",
                found=f"its end opcode before byte {decoded.stop:#x}",
            )
    except ModuleError as error:
        raise add_function(error, module, function_index) from None
    return Body(function_index, function_type, code.start, local_types, decoded)


def _decode_locals(module: Module, function_type: FuncType, start: int, stop: int) -> tuple[list[ValueType], int]:
    """The types of all locals, and where the code begins."""
    data = module.bytecode
    limit = module.limits.locals
    local_types = list(function_type.params)
    runs: list[tuple[int, ValueType]] = []
    total = len(local_types)
    run_count, position = read_u32(data, start, stop)
    for _ in range(run_count):
        run_start = position
        length, position = read_u32(data, position, stop)
        total += length
        if total > 0xFFFFFFFF:
            raise DecodeError("too many locals", offset=run_start, expected="less than 2^32", found=str(total))
        value_type = check_value_type(read_byte(data, position, stop, "a value type"), position)
        position += 1
        if total <= limit:
            runs.append((length, value_type))
    if total > limit:
        raise UnsupportedError("too many locals", offset=start, expected=f"at most {limit}", found=str(total))
    for length, value_type in runs:
        local_types.extend([value_type] * length)
    return local_types, position
