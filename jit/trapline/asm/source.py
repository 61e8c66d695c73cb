"""Assembly source: lines, labels, strings and constant expressions, the same for every machine.

Nothing here knows an instruction. The lexer refuses what it does not know, so text reaches keystone only as
tokens that this package has read and written out again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trapline.errors import AssemblyError

NAME: Final = r"[A-Za-z_.$][A-Za-z0-9_.$@]*"
_LABEL: Final = re.compile(rf"\s*({NAME}|[0-9]+)\s*:(?!:)")
_HEAD: Final = re.compile(rf"\s*({NAME})\s*")
_TOKEN: Final = re.compile(
    rf"\s*(?:(?P<number>[0-9][0-9A-Za-z_]*)|(?P<char>'(?:\\.|[^'\\])')|(?P<name>{NAME})|(?P<op><<|>>|[-+*/%()&|^~]))"
)
_ESCAPES: Final = {
    "n": 10,
    "t": 9,
    "r": 13,
    "0": 0,
    "b": 8,
    "f": 12,
    "v": 11,
    "a": 7,
    "e": 27,
    "\\": 92,
    '"': 34,
    "'": 39,
}
_MAX_DEPTH: Final = 64
_MAX_LITERAL: Final = 48
_LIMIT: Final = 1 << 128


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A statement of the source: `head` is a mnemonic or directive in lower case, or empty for labels alone."""

    line: int
    text: str
    labels: tuple[str, ...]
    head: str
    rest: str

    def error(self, message: str) -> AssemblyError:
        """An AssemblyError that points at this line."""
        return AssemblyError(message, line=self.line, text=self.text if len(self.text) < 400 else self.text[:400])


def _strip_comment(text: str, markers: tuple[str, ...], hash_starts: bool) -> str:
    """`text` up to the first comment marker outside quotes; `#` only at the start of a line unless a marker."""
    if '"' not in text and "'" not in text:
        cut = len(text)
        for marker in markers:
            at = text.find(marker)
            if 0 <= at < cut:
                cut = at
        text = text[:cut]
    else:
        quote = ""
        at = 0
        while at < len(text):
            char = text[at]
            if quote:
                if char == "\\":
                    at += 1
                elif char == quote:
                    quote = ""
            elif char in "\"'":
                quote = char
            elif text.startswith(markers, at):
                text = text[:at]
                break
            at += 1
    if hash_starts and text.lstrip().startswith("#"):
        return ""
    return text


def _split_statements(text: str) -> list[str]:
    """`text` cut at each ``;`` outside quotes."""
    if '"' not in text and "'" not in text:
        return text.split(";")
    out: list[str] = []
    start = at = 0
    quote = ""
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char == ";":
            out.append(text[start:at])
            start = at + 1
        at += 1
    out.append(text[start:])
    return out


def _read_statement(number: int, raw: str, body: str) -> SourceLine:
    """One statement: labels, then a directive or an instruction, or labels alone."""
    shown = raw if len(raw) < 400 else raw[:400]
    labels: list[str] = []
    at = 0
    while ":" in body:
        match = _LABEL.match(body, at)
        if match is None:
            break
        if match[1][0].isdigit():
            raise AssemblyError(f"found the numeric label {match[1]!r}, expected a name", line=number, text=shown)
        labels.append(match[1])
        at = match.end()
    rest = body[at:].strip()
    if not rest:
        return SourceLine(number, raw, tuple(labels), "", "")
    head = _HEAD.match(rest)
    if head is None:
        raise AssemblyError(
            f"found {rest[:20]!r}, expected a label, a directive or an instruction", line=number, text=shown
        )
    return SourceLine(number, raw, tuple(labels), head[1].lower(), rest[head.end() :])


def read_lines(text: str, arch: str) -> list[SourceLine]:
    """Split source into statements. Raises AssemblyError for characters and labels that cannot be."""
    markers = ("#", "//") if arch == "x86_64" else ("//",)
    out: list[SourceLine] = []
    for number, raw in enumerate(text.split("\n"), 1):
        body = raw
        if not raw.isascii() or "#" in raw or "//" in raw:
            body = _strip_comment(raw, markers, arch != "x86_64")
        for part in _split_statements(body) if ";" in body else (body,):
            statement = part.strip(" \t\r")
            if not statement:
                continue
            if not statement.isascii() or not statement.replace("\t", " ").isprintable():
                bad = next(char for char in statement if not (char.isascii() and (char.isprintable() or char == "\t")))
                raise AssemblyError(
                    f"found the character {bad!a}, expected printable ASCII outside comments",
                    line=number,
                    text=raw if len(raw) < 400 else raw[:400],
                )
            out.append(_read_statement(number, raw, statement))
    return out


@dataclass(frozen=True, slots=True)
class Expression:
    """``constant + sum of labels times their factors``.

    `labels` holds (name, factor), the name "." for the start of the statement. `named` says that a symbol
    took part, so a constant is an address where both an address and an offset would make sense.
    """

    constant: int
    labels: tuple[tuple[str, int], ...] = ()
    named: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether no label takes part."""
        return not self.labels

    @property
    def is_address(self) -> bool:
        """Whether this is one label plus an offset."""
        return sum(factor for _name, factor in self.labels) == 1

    def plus(self, other: Expression, factor: int) -> Expression:
        """``self + other * factor``."""
        if not other.labels and not self.labels:
            return Expression(self.constant + factor * other.constant, (), self.named or other.named)
        total = dict(self.labels)
        for name, count in other.labels:
            total[name] = total.get(name, 0) + factor * count
        labels = tuple((name, count) for name, count in total.items() if count)
        return Expression(self.constant + factor * other.constant, labels, self.named or other.named)


def read_number(text: str, where: SourceLine) -> int:
    """The value of an integer literal: decimal, 0x, 0b or 0o."""
    if len(text) > _MAX_LITERAL:
        raise where.error(f"found an integer of {len(text)} digits, expected one of at most 64 bits")
    if len(text) > 1 and text[0] == "0" and text[1].isdigit() and text.strip("0_"):
        raise where.error(f"found {text!r}: write 0o{text.lstrip('0')} for octal, or no leading zero")
    try:
        return int(text, 0) if text.strip("0_") or not text[1:].isdigit() else 0
    except ValueError:
        raise where.error(f"found {text!r}, expected an integer (decimal, 0x, 0b or 0o)") from None


class ExpressionReader:
    """Recursive descent over one expression; `reserved` are the names of registers."""

    def __init__(
        self, text: str, where: SourceLine, symbols: Mapping[str, int], reserved: frozenset[str] | None = None
    ) -> None:
        self._where = where
        self._symbols = symbols
        self._reserved = reserved or frozenset()
        self._text = text
        self._kinds: list[str] = []
        self._values: list[str] = []
        self._at = 0
        self._depth = 0
        offset = 0
        stripped = text.rstrip()
        while offset < len(stripped):
            match = _TOKEN.match(stripped, offset)
            if match is None:
                raise where.error(f"found {stripped[offset:].strip()[:20]!r} in {text.strip()[:40]!r}")
            assert match.lastgroup is not None
            self._kinds.append(match.lastgroup)
            self._values.append(match[match.lastgroup])
            offset = match.end()

    def read(self) -> Expression:
        """The whole text as one expression."""
        value = self._binary(0)
        if self._at != len(self._values):
            raise self._where.error(
                f"found {self._values[self._at]!r} after the expression, in {self._text.strip()[:40]!r}"
            )
        return value

    _LEVELS: Final = (("|",), ("^",), ("&",), ("<<", ">>"), ("+", "-"), ("*", "/", "%"))

    def _binary(self, level: int) -> Expression:
        if level == len(self._LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while self._at < len(self._values) and self._values[self._at] in self._LEVELS[level]:
            operator = self._values[self._at]
            self._at += 1
            left = self._apply(operator, left, self._binary(level + 1))
        return left

    def _apply(self, operator: str, left: Expression, right: Expression) -> Expression:
        if operator == "+":
            return left.plus(right, 1)
        if operator == "-":
            return left.plus(right, -1)
        if not left.is_constant or not right.is_constant:
            raise self._where.error(f"found a label under {operator!r}, expected only + and - on labels")
        a, b = left.constant, right.constant
        if operator in ("/", "%") and b == 0:
            raise self._where.error("found a division by zero")
        if operator in ("<<", ">>") and not 0 <= b <= 64:
            raise self._where.error(f"found a shift by {b}, expected 0 to 64")
        if operator == "*":
            value = a * b
        elif operator == "/":
            value = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        elif operator == "%":
            value = abs(a) % abs(b) * (1 if a >= 0 else -1)
        elif operator == "<<":
            value = a << b
        elif operator == ">>":
            value = a >> b
        elif operator == "&":
            value = a & b
        elif operator == "|":
            value = a | b
        else:
            value = a ^ b
        if abs(value) >= _LIMIT:
            raise self._where.error("found an expression of more than 128 bits")
        return Expression(value, (), left.named or right.named)

    def _unary(self) -> Expression:
        if self._at == len(self._values):
            raise self._where.error(f"found the end of {self._text.strip()[:40]!r}, expected a number or a name")
        kind, value = self._kinds[self._at], self._values[self._at]
        self._at += 1
        if kind == "number":
            return Expression(read_number(value, self._where))
        if kind == "char":
            return Expression(read_string(value[1:-1], self._where)[0])
        if kind == "name":
            if value in self._symbols:
                return Expression(self._symbols[value], (), True)
            if value.lower() in self._reserved:
                raise self._where.error(f"found the register {value!r}, expected a number or a label")
            return Expression(0, ((value, 1),))
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._where.error(f"found an expression nested over {_MAX_DEPTH} deep")
        if value == "(":
            inner = self._binary(0)
            if self._at == len(self._values) or self._values[self._at] != ")":
                raise self._where.error(f"found no ')' in {self._text.strip()[:40]!r}")
            self._at += 1
        elif value == "-":
            inner = Expression(0).plus(self._unary(), -1)
        elif value == "+":
            inner = self._unary()
        elif value == "~":
            inner = self._unary()
            if not inner.is_constant:
                raise self._where.error("found a label under '~'")
            inner = Expression(~inner.constant, (), inner.named)
        else:
            raise self._where.error(f"found {value!r}, expected a number or a name")
        self._depth -= 1
        return inner


def read_string(body: str, where: SourceLine) -> bytes:
    """The bytes of a quoted string's inside, escapes resolved."""
    out = bytearray()
    at = 0
    while at < len(body):
        char = body[at]
        at += 1
        if char != "\\":
            out.append(ord(char))
            continue
        escape = body[at : at + 1]
        if escape == "x":
            digits = body[at + 1 : at + 3]
            if not re.fullmatch(r"[0-9A-Fa-f]{2}", digits):
                raise where.error(f"found the escape \\x{digits}, expected two hexadecimal digits")
            out.append(int(digits, 16))
            at += 3
        elif escape in _ESCAPES:
            out.append(_ESCAPES[escape])
            at += 1
        else:
            raise where.error(f'found the escape \\{escape}, expected \\n \\t \\r \\0 \\xNN \\\\ or \\"')
    return bytes(out)


def split_operands(text: str, where: SourceLine) -> list[str]:
    """Split at the commas that stand outside brackets and quotes."""
    if not text.strip():
        return []
    out: list[str] = []
    open_brackets: list[str] = []
    start = 0
    quote = ""
    escaped = False
    for at, char in enumerate(text):
        if quote:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char in "[({":
            open_brackets.append(char)
        elif char in "])}":
            if not open_brackets or open_brackets.pop() != {"]": "[", ")": "(", "}": "{"}[char]:
                raise where.error(f"found {char!r} without its opening bracket")
        elif char == "," and not open_brackets:
            out.append(text[start:at].strip())
            start = at + 1
    if open_brackets or quote:
        raise where.error(f"found no closing {'quote' if quote else 'bracket'}")
    out.append(text[start:].strip())
    if not all(out):
        raise where.error("found an empty operand beside a comma")
    return out
