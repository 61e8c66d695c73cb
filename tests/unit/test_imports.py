"""The imports of the package go one way, shown by its sources alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "jit" / "trapline"

# Each subpackage or module directly under `trapline`, with what it may import from there. A new one is added
# here, at its place in the order
# errors, tuning, dump <- asm, wasm, arch <- compile <- runtime <- wasi, debug <- command line.
BASE = {"errors", "tuning", "dump"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "tuning": {"errors"},
    "dump": {"errors", "tuning"},
    "asm": BASE,
    "wasm": BASE,
    "arch": BASE | {"asm"},
    "native": BASE | {"arch"},
    "compile": BASE | {"asm", "wasm", "arch"},
    "runtime": BASE | {"asm", "wasm", "arch", "native", "compile"},
    "wasi": BASE | {"wasm", "runtime"},
    "debug": BASE | {"asm", "wasm", "arch", "native", "compile", "runtime"},
    "__init__": BASE | {"asm", "wasm", "arch", "native", "compile", "runtime", "wasi", "debug"},
    "cli": BASE | {"__init__", "asm", "wasm", "arch", "native", "compile", "runtime", "wasi", "debug"},
    "__main__": BASE
    | {"__init__", "asm", "wasm", "arch", "native", "compile", "runtime", "wasi", "debug", "cli"},
}
EXTENSIONS = {"_native", "_core"}


def sources() -> list[Path]:
    return sorted(path for suffix in ("*.py", "*.pyi") for path in PACKAGE.rglob(suffix))


def part_of(path: Path) -> str:
    """The row of MAY_IMPORT for a source file: `asm` for asm/table.py, `errors` for errors.py."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".pyi").removesuffix(".py")


def imported_modules(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name below `trapline`) of each import of the package, wherever it stands in the file.

    `from trapline import errors` names the part `errors`; any other name from there counts as `__init__`.
    """
    package = ("trapline", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *((node.module,) if node.module else ())))
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "trapline" else [module]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "trapline":
                known = rest.partition(".")[0] in MAY_IMPORT.keys() | EXTENSIONS
                yield node.lineno, rest if known else "__init__"


def faults(path: Path, text: str) -> list[str]:
    """Each import of a source file that its row does not allow."""
    part = part_of(path)
    found = []
    for line, module in imported_modules(ast.parse(text), path):
        target = module.partition(".")[0]
        if target in EXTENSIONS:
            allowed = path == PACKAGE / "native.py"
        else:
            allowed = target == part or target in MAY_IMPORT[part]
        if not allowed:
            found.append(f"{path.relative_to(PACKAGE)}:{line} imports trapline.{module}")
    return found


def test_every_part_is_known() -> None:
    """A new subpackage or module gets its row, and so its place in the order, before it is used."""
    parts = {part_of(path) for path in sources()} - EXTENSIONS
    assert parts - MAY_IMPORT.keys() == set()


def test_the_order_has_no_cycle() -> None:
    """The rows stand in an order in which each imports only earlier ones."""
    rows = list(MAY_IMPORT)
    for place, part in enumerate(rows):
        assert MAY_IMPORT[part] <= set(rows[:place]), f"{part} imports a later part"


def test_imports_go_one_way() -> None:
    found = [
        fault
        for path in sources()
        if part_of(path) in MAY_IMPORT
        for fault in faults(path, path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "text", "count"),
    [
        ("asm/encode.py", "from trapline.errors import AssemblyError", 0),
        ("asm/encode.py", "from trapline.arch import Arch", 1),
        ("asm/encode.py", "def f():\n    import trapline.arch.x86_64", 1),
        ("asm/encode.py", "from ..arch import Arch", 1),
        ("asm/encode.py", "from . import decode\nfrom .decode import x\nfrom .. import errors", 0),
        ("asm/encode.py", "from .. import arch", 1),
        ("asm/encode.py", "from trapline import Fiber", 1),
        ("arch/x86_64/registers.py", "from trapline.asm import decode\nfrom ...asm import decode", 0),
        ("arch/x86_64/registers.py", "from ...runtime import fiber", 1),
        ("runtime/fiber.py", "from trapline import native", 0),
        ("runtime/fiber.py", "from trapline import _native", 1),
        ("runtime/fiber.py", "import trapline._core", 1),
        ("native.py", "from trapline._native import ffi, lib\nfrom . import _core", 0),
        ("errors.py", "import os, capstone", 0),
        ("__main__.py", "from trapline import cli, Fiber", 0),
        ("debug/events.py", "import trapline.wasi", 1),
    ],
)
def test_what_counts_as_a_fault(file: str, text: str, count: int) -> None:
    assert len(faults(PACKAGE / file, text)) == count
