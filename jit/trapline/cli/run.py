"""`trapline run`: a program of WASI preview 1, or one function of any module.

Exit statuses are wasmtime's: the program's own, 134 for a trap, 1 for an error, 2 for a wrong command line, and 130
after Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from trapline.cli import program
from trapline.cli.level import LEVEL
from trapline.cli.options import Command, Kind, Option, Parsed, Positional, Setting, UsageError, nearest
from trapline.errors import ExitTrap, LinkError, TraplineError, WasmTrap
from trapline.wasm.types import PAGE_BYTES, FuncType

if TYPE_CHECKING:
    from types import FrameType

    from trapline.runtime.engine import Config
    from trapline.runtime.func import Func
    from trapline.runtime.instance import Instance
    from trapline.runtime.linker import Linker
    from trapline.runtime.module import Module
    from trapline.runtime.store import Store
    from trapline.runtime.wasm_trap import TrapEvent
    from trapline.wasi import WasiConfig

__all__ = ["COMMAND", "config_of"]

TRAPPED: Final = 134
"""128 + SIGABRT, which is how wasmtime and native programs tell of it."""
INTERRUPTED: Final = 130
"""128 + SIGINT."""

_LEAST_STACK_BYTES: Final = 1 << 16
_MOST_STACK_BYTES: Final = 1 << 40
"""Must match the check of runtime.engine.Config."""

_ONE_LEVEL: Final = "trapline has one level of optimization (-D level=live drops values that only debuggers need)"
_NO_FUEL: Final = "trapline counts no fuel: code is interrupted from outside, so loops carry no checks"

_OPTIONS: Final = (
    Option(
        ("--dir",),
        "let the program open files below a directory, under the same name or under GUEST",
        metavar="HOST[::GUEST]",
        repeats=True,
        group="Program",
    ),
    Option(
        ("--env",),
        "set a variable of its environment; without a value the one it has here",
        metavar="NAME[=VALUE]",
        repeats=True,
        group="Program",
    ),
    Option(("--argv0",), "what the program sees as its own name", metavar="NAME", group="Program"),
    Option(
        ("--invoke",),
        "call this function instead of _start, with ARGS as its arguments, and print its results",
        metavar="NAME",
        group="Program",
    ),
    Option(
        ("--preload",),
        "instantiate another module first, whose exports can be imported from NAME",
        metavar="NAME=FILE",
        repeats=True,
        group="Program",
    ),
    Option(
        ("-W", "--wasm"),
        "what modules may do (-W help lists the settings)",
        metavar="SETTING[=VALUE],...",
        group="Settings",
        settings=(
            Setting("unknown-imports-default", "functions that nothing defines do nothing and return zeros"),
            Setting("unknown-imports-trap", "functions that nothing defines trap when they are called"),
            Setting("max-wasm-stack", "stack that the program can use before it traps (default: 1M)", Kind.SIZE),
            Setting("max-memory-size", "no memory grows beyond this (default: 4G)", Kind.SIZE),
            Setting("fuel", refusal=_NO_FUEL),
            Setting("epoch-interruption", refusal=_NO_FUEL),
            Setting("component-model", refusal="components are not supported; build for wasm32-wasip1"),
        ),
    ),
    Option(
        ("-S", "--wasi"),
        "what the system interface gives (-S help lists the settings)",
        metavar="SETTING[=VALUE],...",
        group="Settings",
        settings=(
            Setting("inherit-env", "the program sees every variable of this environment"),
            Setting("preview2", refusal="programs get WASI preview 1"),
            Setting("http", refusal="programs get WASI preview 1, which has no HTTP"),
            Setting("nn", refusal="programs get WASI preview 1, which has no neural networks"),
            Setting("threads", refusal="shared memories are not supported"),
        ),
    ),
    Option(
        ("-D", "--debug"),
        "what is kept for debugging (-D help lists the settings)",
        metavar="SETTING[=VALUE],...",
        group="Settings",
        settings=(
            LEVEL,
            Setting("report", "how much is said of a trap (default: full)", choices=("full", "short")),
            Setting("debug-info", refusal="trap reports show source lines without being asked"),
            Setting("address-map", refusal="traps always know their opcode"),
        ),
    ),
    Option(
        ("-O", "--optimize"),
        "how code is made (-O help lists the settings)",
        metavar="SETTING[=VALUE],...",
        group="Settings",
        settings=(
            Setting(
                "memories",
                "reserve address space so that accesses need no check (the default), or check each",
                choices=("reserved", "checked"),
            ),
            Setting("opt-level", refusal=_ONE_LEVEL),
            Setting("regalloc-algorithm", refusal="trapline has one register allocator"),
            Setting("memory-reservation", refusal="-O memories=checked reserves nothing"),
        ),
    ),
    Option(
        ("-C", "--codegen"),
        "where compiled code is kept (-C help lists the settings)",
        metavar="SETTING[=VALUE],...",
        group="Settings",
        settings=(
            Setting("cache", "keep compiled code between runs (default: y)"),
            Setting("cache-dir", "in this folder (default: trapline in the user's cache folder)", Kind.FOLDER),
            Setting("compiler", refusal="trapline has one compiler"),
        ),
    ),
)


# ---- what the options mean ----


def config_of(parsed: Parsed) -> Config:
    """How the program is compiled and run. Raises UsageError."""
    from trapline import tuning
    from trapline.runtime.engine import Config
    from trapline.wasm.types import MAX_PAGES

    folder = parsed.text("cache-dir")
    stack_bytes = parsed.number("max-wasm-stack") or tuning.WASM_STACK_BYTES
    if not _LEAST_STACK_BYTES <= stack_bytes <= _MOST_STACK_BYTES:
        raise UsageError(f"-W max-wasm-stack: found {stack_bytes} bytes, expected 64K to 1024G")
    most_bytes = parsed.number("max-memory-size")
    return Config(
        debug=parsed.text("level") or "full",
        stack_bytes=stack_bytes,
        max_stack_bytes=max(stack_bytes, tuning.WASM_MAX_STACK_BYTES),
        memories=parsed.text("memories") or "reserved",
        max_memory_pages=MAX_PAGES if most_bytes is None else min(most_bytes // PAGE_BYTES, MAX_PAGES),
        cache=parsed.flag("cache", True) and (folder or True),
    )


def _environment(parsed: Parsed) -> dict[str, str]:
    found = dict(os.environ) if parsed.flag("inherit-env") else {}
    for word in parsed.texts("env"):
        name, equals, value = word.partition("=")
        if not name:
            raise UsageError(f"--env: found {word!r}, expected NAME=VALUE or NAME")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def _folders(parsed: Parsed) -> list[tuple[str, str]]:
    """(here, as the program sees it) of each --dir. Raises UsageError."""
    found = []
    for word in parsed.texts("dir"):
        host, _, guest = word.partition("::")
        if not os.path.isdir(host):
            what = "a file" if os.path.exists(host) else "nothing"
            raise UsageError(f"--dir {word}: found {what} at {host!r}, expected a directory")
        found.append((host, guest or host))
    return found


def _wasi_config(argv: list[str], environment: dict[str, str], folders: list[tuple[str, str]]) -> WasiConfig:
    from trapline.wasi import WasiConfig

    config = WasiConfig()
    config.argv = argv
    config.env = environment
    config.inherit_stdio()
    for host, guest in folders:
        config.preopen_dir(host, guest)
    return config


def _preloads(parsed: Parsed) -> list[tuple[str, str]]:
    """(module name, file) of each --preload. Raises UsageError."""
    found = []
    for word in parsed.texts("preload"):
        name, equals, file = word.partition("=")
        if not equals or not file:
            raise UsageError(f"--preload: found {word!r}, expected NAME=FILE")
        found.append((name, file))
    return found


# ---- running ----


class _Traps:
    """Makes the report of the last trap while its code is stopped."""

    def __init__(self, short: bool) -> None:
        self._short = short
        self.report: str | None = None

    def __call__(self, event: TrapEvent) -> None:
        from trapline.cli.style import Style
        from trapline.cli.trap_report import Sources, trap_report

        self.report = None if self._short else trap_report(event, Sources(), Style.of(sys.stderr))


def _run(parsed: Parsed) -> int:
    from trapline.runtime.engine import Engine
    from trapline.runtime.linker import Linker
    from trapline.runtime.store import Store

    file = parsed.text("file")
    assert file is not None, "parsing gives every positional that is not optional"
    words = parsed.texts("args")
    invoke = parsed.text("invoke")
    if parsed.flag("unknown-imports-trap") and parsed.flag("unknown-imports-default"):
        raise UsageError("-W: found unknown-imports-trap and unknown-imports-default, expected one of them")
    environment, folders = _environment(parsed), _folders(parsed)
    engine = Engine(config_of(parsed))
    store, linker = Store(engine), Linker(engine)
    preloads = [(name, other, program.load(engine, other)) for name, other in _preloads(parsed)]
    module = program.load(engine, file)
    if parsed.flag("unknown-imports-trap"):
        linker.define_unknown_imports_as_traps()
    elif parsed.flag("unknown-imports-default"):
        linker.define_unknown_imports_as_default_values()
    traps = _Traps(parsed.text("report") == "short")
    store.set_trap_handler(traps)
    try:
        with ExitStack() as files, _Interrupts():
            if any(_wants_wasi(one) for one in (module, *(other for _, _, other in preloads))):
                argv = [parsed.text("argv0") or os.path.basename(file), *(() if invoke is not None else words)]
                files.enter_context(linker.define_wasi(_wasi_config(argv, environment, folders)))
            for name, other, loaded in preloads:
                linker.define_instance(name, _instance(linker, store, loaded, other))
            if invoke is None:
                return _start(linker, store, module, file)
            return _invoke(linker, store, module, file, invoke, words)
    except ExitTrap as ended:
        return ended.code
    except WasmTrap as trap:
        sys.stdout.flush()
        print(traps.report or f"trap: {trap}", file=sys.stderr)
        return TRAPPED


def _wants_wasi(module: Module) -> bool:
    return any(entry.module.startswith("wasi_") for entry in module.decoded.imports)


def _instance(linker: Linker, store: Store, module: Module, file: str) -> Instance:
    """An instance; of a reactor, one that is initialized (WASI application ABI)."""
    most_pages = store.engine.config.max_memory_pages
    for memory in module.decoded.memories[module.decoded.imported_memories :]:
        if memory.limits.minimum > most_pages:
            has = f"a memory that starts with {memory.limits.minimum * PAGE_BYTES:,} bytes"
            raise TraplineError(f"{file}: found {has}, expected at most what -W max-memory-size allows")
    try:
        instance = linker.instantiate(store, module)
    except LinkError as error:
        hint = ""
        if error.reason == "unknown import" and error.expected.startswith("a function"):
            hint = f" (--preload {error.module}=FILE defines it, -W unknown-imports-trap=y runs without it)"
        raise TraplineError(f"{file}: {error}{hint}") from None
    except WasmTrap:
        raise
    except TraplineError as error:
        raise TraplineError(f"{file}: {error}") from None
    initialize = instance.exports.get("_initialize")
    if initialize is not None and initialize.type == FuncType():
        _function(initialize)()
    return instance


def _function(found: Any) -> Func:
    function: Func = found
    return function


def _functions(module: Module) -> list[str]:
    return [export.name for export in module.exports if isinstance(export.type, FuncType)]


def _start(linker: Linker, store: Store, module: Module, file: str) -> int:
    if "_start" not in _functions(module):
        names = [name for name in _functions(module) if not name.startswith("_")]
        hint = f"; --invoke NAME calls one of {', '.join(names[:8])}" if names else ", and no other function"
        raise TraplineError(f"{file}: exports no _start{hint}")
    _function(_instance(linker, store, module, file).exports["_start"])()
    return 0


def _invoke(linker: Linker, store: Store, module: Module, file: str, name: str, words: list[str]) -> int:
    from trapline.cli.values import parse_arguments, result_text

    types = {export.name: export.type for export in module.exports}
    type_ = types.get(name)
    if not isinstance(type_, FuncType):
        names = _functions(module)
        what = "nothing" if type_ is None else f"a {type_}"
        close = nearest(name, names)
        hint = close or (f"; it exports {', '.join(names[:8])}" if names else "; it exports no functions")
        raise TraplineError(f"{file}: --invoke {name}: found {what}, expected an exported function{hint}")
    values = parse_arguments(f"--invoke {name}", type_, words)
    result = _function(_instance(linker, store, module, file).exports[name])(*values)
    results = () if not type_.results else result if len(type_.results) > 1 else (result,)
    for code, value in zip(type_.results, results, strict=True):
        print(result_text(code, value))
    return 0


class _Interrupts:
    """Ctrl-C ends the program as KeyboardInterrupt; a second one, while it ends, kills the process."""

    def __init__(self) -> None:
        self._before: Any = None

    def __enter__(self) -> None:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._interrupt)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt


def _interrupted_in(error: BaseException) -> str:
    """The innermost WebAssembly function of a traceback (runtime/traceback.py), in words."""
    found = ""
    entry = error.__traceback__
    while entry is not None:
        code = entry.tb_frame.f_code
        if code.co_filename.startswith("<wasm "):
            found = f" in {code.co_name} ({code.co_filename.removeprefix('<wasm ').removesuffix('>')})"
        entry = entry.tb_next
    return found


def _run_interruptibly(parsed: Parsed) -> int:
    try:
        return _run(parsed)
    except KeyboardInterrupt as interrupt:
        sys.stdout.flush()
        print(f"\ntrapline: interrupted{_interrupted_in(interrupt)}", file=sys.stderr)
        return INTERRUPTED


COMMAND: Final = Command(
    "run",
    "run a program, or one function of a module",
    _run_interruptibly,
    positionals=(
        Positional(
            "file",
            "a module (.wasm), its text (.wat, with the package wasmtime), an artifact (.cwasm); - is standard input",
        ),
        Positional("args", "what the program gets as arguments, options included", rest=True),
    ),
    options=_OPTIONS,
    description=(
        "Run a WebAssembly program that uses WASI preview 1, or call one function of a module. A program sees no files "
        "and no variables but those it is given. The exit status is the program's; 134 after a trap, 130 after Ctrl-C."
    ),
    examples=(
        ("trapline run hello.wasm", "a program"),
        ("trapline run --dir . grep.wasm -n TODO notes.txt", "one that may read files below this directory"),
        ("trapline run --env LANG --env TZ=UTC date.wasm", "one with two variables"),
        ("trapline run --invoke add math.wat 40 2", "one function, its results printed"),
        ("trapline run -W max-memory-size=64M -D level=live big.wasm", "limits, and less kept for debuggers"),
    ),
)
