"""From text to an `Assembly`: each statement kept, every encoding checked.

The line: lines -> statements -> items (own encodings, data) and lines for keystone -> the worker's bytes
-> capstone check -> layout with relaxation -> `Assembly`. Labels, branches, data and alignment never reach
keystone; `check_x86_64` and `syntax_aarch64` say what is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from trapline.asm import check_x86_64, syntax_aarch64, syntax_x86_64
from trapline.asm.assembly import ARCHS, Assembly, Statement, host_arch
from trapline.asm.keystone_client import Refusal, encode_lines
from trapline.asm.layout import Fixup, FixupKind, Item, Layout
from trapline.asm.source import (
    Expression,
    ExpressionReader,
    SourceLine,
    read_lines,
    read_string,
    split_operands,
)
from trapline.errors import AssemblyError

__all__ = ["assembled"]

MAX_CODE_BYTES: Final = 1 << 28
_CACHE_LINES: Final = 1 << 14
_DATA_BYTES: Final = {
    ".byte": 1,
    ".short": 2,
    ".hword": 2,
    ".2byte": 2,
    ".long": 4,
    ".int": 4,
    ".4byte": 4,
    ".quad": 8,
    ".xword": 8,
    ".8byte": 8,
}
_IGNORED: Final = frozenset((".global", ".globl", ".type", ".size", ".intel_syntax"))


def assembled(text: str, arch: str | None, base: int, symbols: Mapping[str, int] | None) -> Assembly:
    """What `trapline.asm.assembly.assemble` gives."""
    chosen = host_arch() if arch is None else arch
    if chosen not in ARCHS:
        raise AssemblyError(f"no such architecture: found {arch!r}, expected 'x86_64' or 'aarch64'")
    step = 1 if chosen == "x86_64" else 4
    if not 0 <= base < 1 << 64 or base % step:
        raise AssemblyError(f"found the base {base:#x}, expected an address of 64 bits, a multiple of {step}")
    reserved = syntax_x86_64.RESERVED if chosen == "x86_64" else syntax_aarch64.RESERVED
    names = dict(symbols) if symbols else {}
    for name, value in names.items():
        if name.lower() in reserved:
            raise AssemblyError(f"found the symbol {name!r}, expected one that is not a register")
        if not -(1 << 63) <= value < 1 << 64:
            raise AssemblyError(f"found {value:#x} for the symbol {name!r}, expected a number of 64 bits")
    lines = read_lines(text, chosen)
    labels: dict[str, int] = {}
    items: list[Item] = []
    waiting: list[tuple[Item, syntax_x86_64.Parsed | syntax_aarch64.Parsed]] = []
    total = 0
    for line in lines:
        for label in line.labels:
            _check_label(label, line, labels, names, reserved)
            labels[label] = len(items)
        if not line.head:
            continue
        if line.head[0] == ".":
            item = _directive(line, names, chosen, reserved)
            if item is None:
                continue
            items.append(item)
            total += len(item.code)
            if total > MAX_CODE_BYTES:
                raise line.error(f"found more than {MAX_CODE_BYTES} bytes of data")
            continue
        parsed = syntax_x86_64.parse(line, names) if chosen == "x86_64" else syntax_aarch64.parse(line, names)
        item = Item(line, parsed.code, False, parsed.fixups, parsed.grown, parsed.grown_fixups)
        items.append(item)
        if parsed.line:
            waiting.append((item, parsed))
    _encode(waiting, chosen)
    layout = Layout(items, labels, base, _nops_x86_64 if chosen == "x86_64" else _nops_aarch64, step)
    code = layout.run()
    statements: list[Statement] = []
    for item in items:
        offset = item.offset
        for size_bytes in item.pieces or [len(item.code)]:
            if size_bytes:
                source = item.source
                statements.append(Statement(offset, size_bytes, source.line, source.text.strip(), item.is_data))
                offset += size_bytes
    return Assembly(chosen, code, base, MappingProxyType(layout.labels), tuple(statements))


def _check_label(
    label: str, line: SourceLine, labels: Mapping[str, int], symbols: Mapping[str, int], reserved: frozenset[str]
) -> None:
    if label in labels:
        raise line.error(f"found the label {label!r} a second time")
    if label in symbols:
        raise line.error(f"found the label {label!r}, which is also a name in `symbols`")
    if label.lower() in reserved:
        raise line.error(f"found the register {label!r} as a label, expected another name")
    if label == ".":
        raise line.error("found '.' as a label, expected a name")


_ENCODED: Final[dict[tuple[str, str], bytes]] = {}


def _encode(waiting: list[tuple[Item, syntax_x86_64.Parsed | syntax_aarch64.Parsed]], arch: str) -> None:
    """Get the bytes of every waiting line and check them."""
    wanted: dict[str, None] = {}
    for _item, parsed in waiting:
        if (arch, parsed.line) not in _ENCODED:
            wanted[parsed.line] = None
    fresh: dict[str, bytes | Refusal] = {}
    if wanted:
        lines = list(wanted)
        fresh = dict(zip(lines, encode_lines(lines, arch=arch), strict=True))
    checked: dict[str, tuple[bytes, tuple[Fixup, ...]]] = {}
    for item, parsed in waiting:
        if isinstance(parsed, syntax_x86_64.Parsed) and any(
            isinstance(operand, syntax_x86_64.Memory) and operand.base == "rip" for operand in parsed.operands
        ):
            key = ""  # the placeholder hides which label is meant
        else:
            key = parsed.line
        known = checked.get(key) if key else None
        if known is None:
            found = fresh.get(parsed.line)
            code = found if found is not None else _ENCODED[arch, parsed.line]
            if isinstance(code, Refusal):
                raise item.source.error(_explain(code, parsed.mnemonic))
            if isinstance(parsed, syntax_x86_64.Parsed):
                known = check_x86_64.check(item.source, parsed, code)
            else:
                known = syntax_aarch64.check(item.source, parsed, code)
            if len(_ENCODED) < _CACHE_LINES:
                _ENCODED[arch, parsed.line] = code
            if key:
                checked[key] = known
        item.code, item.fixups = known


def _explain(refusal: Refusal, mnemonic: str) -> str:
    reason = refusal.reason
    if "MNEMONICFAIL" in reason:
        return f"found {mnemonic!r}, expected an instruction that keystone knows (.byte or .long give any other)"
    if "INVALIDOPERAND" in reason:
        return f"found operands that {mnemonic!r} does not take"
    if "MISSINGFEATURE" in reason:
        return f"found {mnemonic!r} in a form that keystone does not have (.byte or .long give any encoding)"
    if reason in ("Unknown error", "keystone gave no bytes and no reason"):
        return f"found operands or numbers that {mnemonic!r} cannot encode"
    return f"found an instruction that cannot be encoded: {reason}"


def _directive(line: SourceLine, symbols: Mapping[str, int], arch: str, reserved: frozenset[str]) -> Item | None:
    """A data directive as an item; None for those that say nothing about bytes."""
    head = line.head
    size_bytes = _DATA_BYTES.get(head, 0)
    if head == ".word":
        size_bytes = 2 if arch == "x86_64" else 4
    if size_bytes:
        return _numbers(line, size_bytes, symbols, reserved)
    if head in _IGNORED:
        return None
    operands = split_operands(line.rest, line)

    def constant(text: str, low: int, high: int) -> int:
        value = ExpressionReader(text, line, symbols, reserved).read()
        if value.labels or not low <= value.constant <= high:
            found = "a label" if value.labels else f"{value.constant:#x}"
            raise line.error(f"found {found}, expected a number of {low} to {high:#x}")
        return value.constant

    if head in (".ascii", ".asciz", ".string"):
        out = bytearray()
        for operand in operands:
            if len(operand) < 2 or operand[0] != '"' or operand[-1] != '"':
                raise line.error(f"found {operand[:40]!r}, expected a string in double quotes")
            out += read_string(operand[1:-1], line)
            if head != ".ascii":
                out.append(0)
        if not operands:
            raise line.error(f"found nothing after {head}, expected a string in double quotes")
        return Item(line, bytes(out), True)
    if head in (".zero", ".skip", ".space"):
        if not 1 <= len(operands) <= 2:
            raise line.error(f"found {len(operands)} operands, expected a count and perhaps a byte")
        count = constant(operands[0], 0, MAX_CODE_BYTES)
        fill = constant(operands[1], -128, 255) & 255 if len(operands) == 2 else 0
        return Item(line, bytes([fill]) * count, True)
    if head in (".balign", ".p2align"):
        if not 1 <= len(operands) <= 3:
            raise line.error(f"found {len(operands)} operands, expected an alignment and perhaps a fill byte")
        powers = head == ".p2align"
        align = 1 << constant(operands[0], 0, 16) if powers else constant(operands[0], 1, 1 << 16)
        if align & (align - 1):
            raise line.error(f"found the alignment {align}, expected a power of two")
        filler = constant(operands[1], -128, 255) & 255 if len(operands) > 1 else None
        most = constant(operands[2], 0, 1 << 16) if len(operands) > 2 else None
        return Item(line, b"", align=align, fill=filler, max_padding=most)
    raise line.error(
        f"found {head!r}, expected .byte .short .word .long .quad .ascii .asciz .zero .skip .balign or .p2align"
    )


def _numbers(line: SourceLine, size_bytes: int, symbols: Mapping[str, int], reserved: frozenset[str]) -> Item:
    out = bytearray()
    fixups: list[Fixup] = []
    bits = 8 * size_bytes
    operands = split_operands(line.rest, line)
    if not operands:
        raise line.error(f"found nothing after {line.head}, expected numbers")
    for operand in operands:
        value = ExpressionReader(operand, line, symbols, reserved).read()
        if value.labels:
            fixups.append(Fixup(len(out), size_bytes, FixupKind.ABSOLUTE, _checked_sum(line, value)))
            out += bytes(size_bytes)
            continue
        if not -(1 << bits - 1) <= value.constant < 1 << bits:
            raise line.error(f"found {value.constant:#x}, expected a number of {bits} bits")
        out += (value.constant & ((1 << bits) - 1)).to_bytes(size_bytes, "little")
    return Item(line, bytes(out), True, tuple(fixups))


def _checked_sum(line: SourceLine, value: Expression) -> Expression:
    factor = sum(count for _name, count in value.labels)
    if factor not in (0, 1):
        raise line.error("found a sum of labels, expected label + number or label - label")
    return value


# Intel SDM volume 2, NOP: the recommended multi-byte forms.
_NOPS_X86_64: Final = tuple(
    bytes.fromhex(text)
    for text in (
        "90",
        "6690",
        "0f1f00",
        "0f1f4000",
        "0f1f440000",
        "660f1f440000",
        "0f1f8000000000",
        "0f1f840000000000",
        "660f1f840000000000",
    )
)


def _nops_x86_64(count: int) -> list[bytes]:
    out = [_NOPS_X86_64[-1]] * (count // 9)
    if count % 9:
        out.append(_NOPS_X86_64[count % 9 - 1])
    return out


def _nops_aarch64(count: int) -> list[bytes]:
    return [b"\x1f\x20\x03\xd5"] * (count // 4)
