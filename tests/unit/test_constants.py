"""Every number that is written twice is the same number: the proofs of the "must match" lines."""

from __future__ import annotations

import ast
import errno
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trapline
from trapline import native, tuning
from trapline._native import ffi, lib
from trapline.arch import aarch64, x86_64
from trapline.arch import host as arch_host
from trapline.asm import relocate
from trapline.errors import NativeError
from trapline.runtime.signature import CODES

ROOT = Path(__file__).resolve().parents[2]
STUBS_H = ROOT / "stubs" / "stubs.h"
NATIVE = sorted((ROOT / "native").glob("*.[ch]"))


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


def native_text() -> str:
    """All of native/ as one text without comments."""
    return "\n".join(without_comments(path.read_text(encoding="utf-8")) for path in NATIVE)


def defines(machine: str) -> dict[str, int]:
    """The numbers that stubs.h defines for one machine."""
    found: dict[str, int] = {}
    section = ""
    for line in without_comments(STUBS_H.read_text(encoding="utf-8")).splitlines():
        if opened := re.match(r"#(?:el)?if defined\(__(\w+)__\)", line):
            section = opened[1]
        elif section in ("", machine) and (named := re.match(r"#define (TL_\w+)\s+(.+?)\s*$", line)):
            sum_of = named[2].strip("()").split("+")
            found[named[1]] = sum(found[t.strip()] if t.strip() in found else int(t, 0) for t in sum_of)
    return found


def enumerators(name: str) -> list[str]:
    """The names in a C enum of native/, in order; the values are 0, 1, 2, ..."""
    (body,) = re.findall(rf"enum {name}\s*\{{(.*?)\}}", native_text(), flags=re.DOTALL)
    names = [entry.strip() for entry in body.split(",") if entry.strip()]
    assert not [entry for entry in names if "=" in entry], f"enum {name} gives values of its own"
    return names


def test_record_offsets_x86_64() -> None:
    stubs = defines("x86_64")
    assert {name: stubs[f"TL_{name.upper()}"] for name in x86_64.RECORD} == x86_64.RECORD
    assert stubs["TL_XSAVE"] == x86_64.XSAVE
    machine = x86_64.describe({})
    assert machine.registers["mxcsr"].pieces[0].offset == stubs["TL_XSAVE_MXCSR"]
    assert machine.registers["xmm0"].pieces[0].offset == stubs["TL_XSAVE_XMM"]
    assert machine.present_offset == stubs["TL_XSAVE_BV"]


def test_record_offsets_aarch64() -> None:
    stubs = defines("aarch64")
    assert {name: stubs[f"TL_{name.upper()}"] for name in aarch64.RECORD} == aarch64.RECORD
    assert aarch64.describe().registers["x30"].pieces[0].offset == stubs["TL_X"] + 30 * 8


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_record_words_do_not_overlap(machine: str) -> None:
    """No two fields below the extended state share a byte, and none reaches into it."""
    stubs = defines(machine)
    record: dict[str, int] = (x86_64 if machine == "x86_64" else aarch64).RECORD
    sizes = {"TL_PENDING": 4, "TL_STOP": 4, "TL_XSAVE_MASK": 8, "TL_FPCR": 4, "TL_FPSR": 4, "TL_X": 31 * 8}
    names = {f"TL_{name.upper()}" for name in record} | {"TL_HOST_SP", "TL_PENDING", "TL_STOP"}
    names |= {"TL_CS", "TL_SS", "TL_XSAVE_MASK"} if machine == "x86_64" else set()
    names -= {"TL_Q"}
    spans = sorted((stubs[name], stubs[name] + sizes.get(name, 8), name) for name in names)
    for (_, stop, left), (start, _, right) in itertools.pairwise(spans):
        assert stop <= start, f"{left} overlaps {right}"
    assert spans[-1][1] <= 512


def test_every_register_lies_in_the_saved_state() -> None:
    """Reading and writing back any register of a stopped fiber is allowed, wherever CPUID put it."""
    fiber = trapline.Fiber(trapline.CodeImage(native.HOST.trap_code)[0])
    fiber.resume()
    for name in native.HOST.registers:
        value = fiber.registers[name]
        fiber.registers[name] = value
        assert fiber.registers[name] == value, name
    total = 512 + int(lib.tl_state_bytes)
    for number, (offset, size_bytes) in native.HOST.components.items():
        assert 512 <= offset <= total - size_bytes, f"component {number}"


@pytest.mark.parametrize(
    ("table", "enum", "prefix"),
    [
        (tuning.PATHS, "tl_path", "TL_PATH_"),
        (tuning.GIL_MODES, "gil_mode", "GIL_"),
        ({state.name.lower(): int(state) for state in trapline.FiberState}, "tl_state", "TL_"),
        ({reason.name.lower(): int(reason) for reason in trapline.StopReason}, "event_kind", "EVENT_"),
    ],
    ids=["PATHS", "GIL_MODES", "FiberState", "StopReason"],
)
def test_enums(table: dict[str, int], enum: str, prefix: str) -> None:
    names = [name.removeprefix(prefix).lower() for name in enumerators(enum)]
    if enum == "event_kind":
        assert names.pop() == "none", "the last kind is no event"
    assert table == {name: number for number, name in enumerate(names)}


def test_slot_bytes() -> None:
    assert tuning.SLOT_BYTES == lib.TL_SLOT_BYTES
    assert tuning.STEPPING_SLOTS == lib.TL_SPARE_SLOTS
    assert max(relocate.SLOT_BYTES.values()) <= lib.TL_SLOT_BYTES


def test_slot_places() -> None:
    """The struct that cffi writes has the fields that Python names, in any order."""
    fields = [name for name, _ in ffi.typeof("struct tl_slot_place").fields]
    assert sorted(fields) == sorted(native.SlotPlace._fields)


def test_stack_sizes() -> None:
    """What calls of functions use is what a fiber gets by default."""
    assert tuning.STACK_BYTES <= tuning.MAX_STACK_BYTES
    fiber = trapline.Fiber(trapline.CodeImage(native.HOST.trap_code)[0])
    _, reserved, low, high = fiber.stack_bounds
    assert (high - low, high - reserved) == (tuning.STACK_BYTES, tuning.MAX_STACK_BYTES)
    kept: list[trapline.Fiber] = []
    code = trapline.CodeImage(native.HOST.trap_code)

    def keep(event: trapline.Event) -> None:
        kept.append(event.fiber)
        event.unwind()

    code.function(0, handler=keep)()
    _, reserved, low, high = kept[0].stack_bounds
    assert (high - low, high - reserved) == (tuning.STACK_BYTES, tuning.MAX_STACK_BYTES)


def test_error_words_name_errors_of_the_core() -> None:
    """Each TL_ERR_* that cdef.h declares has words."""
    declared = re.findall(r"#define (TL_ERR_\w+)", (ROOT / "native" / "cdef.h").read_text(encoding="utf-8"))
    assert {getattr(lib, name) for name in declared} == set(native._ERRORS)
    values = re.findall(r"#define (TL_ERR_\w+) \((-\d+)\)", native_text())
    assert len({value for _, value in values}) == len(values), "two errors share a number"
    assert not {-int(value) for _, value in values} & errno.errorcode.keys(), "an error is also an errno"


def test_cdef_matches_headers() -> None:
    """Every function that cdef.h tells cffi of is declared in a header with the same types."""
    shown = re.sub(r"\s+", " ", without_comments((ROOT / "native" / "cdef.h").read_text(encoding="utf-8")))
    texts = [path.read_text(encoding="utf-8") for path in NATIVE if path.suffix == ".h" and path.name != "cdef.h"]
    headers = re.sub(r"\s+", " ", without_comments("\n".join(texts)))
    shown, headers = (re.sub(r"(?<=[ *])\w+(?=[,)])", "", text) for text in (shown, headers))  # parameters' names
    prototypes = [text.strip() for text in re.findall(r"[\w *]+\btl_\w+\([^)]*\);", shown)]
    assert len(prototypes) > 20
    for prototype in prototypes:
        assert prototype in headers, prototype


def codes_of_c() -> set[str]:
    """The letters that py_check_codes lets through as a parameter or as a result."""
    (body,) = re.findall(r"\bpy_check_codes\(PyObject[^)]*\)\s*\{(.*?)\n\}", native_text(), flags=re.DOTALL)
    return set("".join(re.findall(r'strchr\("([^"]+)"', body)))


def test_signature_codes() -> None:
    assert set(CODES.values()) == codes_of_c() - {"*"}
    code = trapline.CodeImage(native.HOST.trap_code)
    for name, letter in CODES.items():
        parameter = letter.encode() if name != "void" else b""
        native.Function(code.base, parameter, letter, name, code, 0, 0, None)
    with pytest.raises(ValueError, match="type code"):
        native.Function(code.base, b"q", "l", "q", code, 0, 0, None)
    with pytest.raises(ValueError, match="type code"):
        native.Function(code.base, b"", "*", "star", code, 0, 0, None)


def stub_classes() -> Iterator[tuple[str, set[str]]]:
    tree = ast.parse((ROOT / "jit" / "trapline" / "_core.pyi").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):  # those are protocols, for checkers only
            named = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            targets = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and
                       isinstance(item.target, ast.Name)}
            yield node.name, named | targets


def test_core_stub_file() -> None:
    """_core.pyi names what the built types have: no more, no less, but for object's own methods."""
    import trapline._core as core  # type: ignore[import-untyped, unused-ignore]

    built: dict[str, Any] = {name: value for name, value in vars(core).items() if isinstance(value, type)}
    stubs = dict(stub_classes())
    assert stubs.keys() == built.keys()
    for name, kind in built.items():
        public = {member for member in vars(kind) if not (member.startswith("__") and member.endswith("__"))}
        declared = {member for member in stubs[name] if not (member.startswith("__") and member.endswith("__"))}
        assert declared == public, name
        for member in stubs[name] - declared - {"__buffer__"}:  # which Python 3.12 made an attribute
            assert hasattr(kind, member), f"{name}.{member}"


def test_trap_code_is_a_breakpoint() -> None:
    """The instruction that breakpoints are made of is the one that the core takes for one."""
    event = trapline.Fiber(trapline.CodeImage(native.HOST.trap_code * 2)[0]).resume()
    assert event is not None
    assert event.trap is trapline.TrapCode.BREAKPOINT_INSTRUCTION
    assert event.pc == event.fiber.owner.base


def test_direct_is_allowed_or_refused() -> None:
    """`direct` is a path exactly where the core says so."""
    code = trapline.CodeImage(native.HOST.trap_code)
    if native.direct_allowed():
        assert code.function(0, path="direct").address == code.base
        return
    with pytest.raises(NativeError, match="direct"):
        code.function(0, path="direct")


def test_host_is_cached() -> None:
    assert arch_host(native._components()) is native.HOST
