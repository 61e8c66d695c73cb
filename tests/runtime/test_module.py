"""Modules, instances, linkers, memories, tables and globals."""

from __future__ import annotations

import array
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.support import every_level, instance
from trapline import (
    CallError,
    Config,
    DecodeError,
    Engine,
    FiberError,
    Func,
    FuncType,
    Global,
    GlobalType,
    Instance,
    Linker,
    LinkError,
    Memory,
    MemoryAccessError,
    Module,
    Store,
    Table,
    TableType,
    ValidationError,
    WasmTrap,
    parse_text,
)

COUNTER = """(module (memory (export "m") 1 2) (global $n (export "n") (mut i64) (i64.const 40))
    (table (export "t") 2 10 funcref) (elem (i32.const 1) func $next)
    (func $next (export "next") (result i64)
        (global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n))
    (func (export "through") (param i32) (result i64) (call_indirect (result i64) (local.get 0))))"""


@every_level
def test_exports(config: Config) -> None:
    exports = instance(COUNTER, config=config).exports
    assert list(exports) == ["m", "n", "t", "next", "through"]
    assert len(exports) == 5
    assert exports.next() == 41
    assert exports["next"]() == 42
    exports.n.value = 1 << 40
    assert exports.through(1) == (1 << 40) + 1
    assert exports.t[1] is exports.next
    assert exports.t[0] is None
    exports.t[0] = exports.t[1]
    assert exports.through(0) == exports.n.value
    with pytest.raises(KeyError, match="exports no 'nix'"):
        exports["nix"]
    with pytest.raises(AttributeError, match="exports no 'nix'"):
        exports.nix  # noqa: B018
    assert "next" in dir(exports)


def test_what_a_module_says_of_itself() -> None:
    text = '(module $counter (import "a" "b" (func (param i32))) (memory (export "m") 1 2))'
    module = Module(Engine(), parse_text(text))
    assert module.name == "counter"
    assert module.imports == [("a", "b", FuncType.of(["i32"]))]
    assert [(found.name, str(found.type)) for found in module.exports] == [("m", "memory 1..2")]


@pytest.mark.parametrize(
    ("wasm", "error"),
    [(b"", DecodeError), (b"\0asm\2\0\0\0", DecodeError), (5, DecodeError), (b"\0asm\1\0\0\0\1\1", DecodeError)],
)
def test_bad_modules(wasm: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Module(Engine(), wasm)
    with pytest.raises(error):
        Module.validate(Engine(), wasm)


def test_an_invalid_body_is_refused_at_once() -> None:
    data = bytearray(parse_text("(module (func (result i32) (i32.const 1)))"))
    data[-3] = 0x42
    with pytest.raises(ValidationError, match="function 0"):
        Module(Engine(), bytes(data))


@every_level
def test_serialize_and_deserialize(config: Config) -> None:
    data = parse_text(COUNTER)
    module = Module(Engine(config), data, name="counter.wasm")
    stored = module.serialize()
    back = Module.deserialize(Engine(config), stored)
    assert back.bytecode() == data
    assert back.name == "counter.wasm"
    assert back._ready, "the code was not taken"
    exports = Instance(Store(back.engine), back).exports
    assert exports.next() == 41
    assert exports.through(1) == 42
    with pytest.raises(WasmTrap) as caught:
        exports.through(0)
    assert caught.value.frames[0].name == "through"
    for other in (Config(debug="live" if config.debug == "full" else "full"), Config(features=type(config.features)())):
        moved = Module.deserialize(Engine(other), stored)
        assert not moved._ready
        assert moved.bytecode() == data
        assert Instance(Store(moved.engine), moved).exports.next() == 41


def test_damaged_artifacts() -> None:
    stored = Module(Engine(), parse_text(COUNTER)).serialize()
    for at in range(0, len(stored), 97):
        with pytest.raises(DecodeError):
            Module.deserialize(Engine(), stored[:at] + bytes([stored[at] ^ 0x55]) + stored[at + 1 :])
        with pytest.raises(DecodeError):
            Module.deserialize(Engine(), stored[:at])


def test_an_artifact_with_another_process(tmp_path: Path) -> None:
    path = tmp_path / "counter.cwasm"
    path.write_bytes(Module(Engine(), parse_text(COUNTER)).serialize())
    program = (
        "import sys, trapline as t; m = t.Module.deserialize_file(t.Engine(), sys.argv[1]); assert m._ready;"
        "print(t.Instance(t.Store(m.engine), m).exports.next())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("41\n", 0), done.stderr


def test_from_file(tmp_path: Path) -> None:
    text, binary = tmp_path / "c.wat", tmp_path / "c.wasm"
    text.write_text(COUNTER)
    binary.write_bytes(parse_text(COUNTER))
    for path in (text, binary):
        module = Module.from_file(Engine(), path)
        assert module.name == path.name
        assert module.bytecode() == parse_text(COUNTER)


def test_compiled_lazily_and_once() -> None:
    module = Module(Engine(), parse_text(COUNTER))
    first, second = (Instance(Store(module.engine), module) for _ in range(2))
    code = module.code(checked=False)
    assert not code._placed
    first.exports.next()
    assert len(code._placed) == 1
    assert second.exports.next() == 41
    assert len(code._placed) == 1
    second.exports.through(1)
    assert len(code._placed) == 2


def test_threads_that_compile_at_the_same_time() -> None:
    count = 60
    functions = " ".join(
        f'(func (export "f{number}") (result i32) (i32.const {number}))' for number in range(count)
    )
    module = Module(Engine(), parse_text(f"(module {functions})"))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            exports = Instance(Store(module.engine), module).exports
            assert [exports[f"f{number}"]() for number in range(count)] == list(range(count))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(module.code(checked=False)._placed) == count


# ---- imports ----

IMPORTS = """(module (import "m" "f" (func (param i32) (result i32))) (import "m" "g" (global i32))
    (import "m" "mem" (memory 1 5)) (import "m" "t" (table 2 funcref)) (import "m" "mut" (global (mut f64)))
    (func (export "run") (result i32) (f64.store (i32.const 0) (global.get 1)) (global.set 1 (f64.const 0.5))
        (call 0 (global.get 0))))"""


def test_every_kind_of_import() -> None:
    store = Store()
    memory, table = Memory(store, 1, 4), Table(store, TableType.of("funcref", 3))
    shared = Global(store, GlobalType.of("f64", mutable=True), 2.5)
    made = instance(IMPORTS, {"m": {"f": lambda x: -x, "g": 7, "mem": memory, "t": table, "mut": shared}}, store=store)
    assert made.exports.run() == -7
    assert memory.read_f64(0) == 2.5
    assert shared.value == 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"f": None}, "incompatible import type: m.f: found None"),
        ({"f": "memory"}, "incompatible import type: m.f"),
        ({"g": "x"}, "m.g: found 'x', expected a global i32"),
        ({"mem": 5}, "expected a memory 1..5"),
        ({"t": "small table"}, "found a table 1.. funcref, expected a table 2.. funcref"),
        ({"mem": "wide memory"}, "found a memory 1..6, expected a memory 1..5"),
        ({"mem": "endless memory"}, "found a memory 1.., expected"),
        ({"mut": "immutable"}, "found a global f64, expected a global (mut f64)"),
        ({"f": "func"}, "found a function [i64] -> [i32]"),
    ],
)
def test_imports_that_do_not_fit(change: dict[str, Any], words: str) -> None:
    store = Store()
    things: dict[str, Any] = {
        "memory": Memory(store, 1, 5),
        "wide memory": Memory(store, 1, 6),
        "endless memory": Memory(store, 1),
        "small table": Table(store, TableType.of("funcref", 1)),
        "immutable": Global(store, GlobalType.of("f64"), 1.0),
        "func": Func(store, FuncType.of(["i64"], ["i32"]), lambda x: 0),
    }
    good = {
        "f": lambda x: x,
        "g": 7,
        "mem": things["memory"],
        "t": Table(store, TableType.of("funcref", 2)),
        "mut": Global(store, GlobalType.of("f64", mutable=True), 1.0),
    }
    bad = {name: things.get(item, item) if isinstance(item, str) else item for name, item in change.items()}
    with pytest.raises(LinkError) as caught:
        instance(IMPORTS, {"m": good | bad}, store=store)
    assert words in str(caught.value)
    with pytest.raises(LinkError, match="unknown import"):
        instance(IMPORTS, {"m": {name: item for name, item in good.items() if name not in change}}, store=store)
    with pytest.raises(LinkError, match="unknown import"):
        instance(IMPORTS, {}, store=store)
    with pytest.raises(LinkError, match="unknown import"):
        instance(IMPORTS, [good["f"]], store=store)


@every_level
def test_instances_share_what_they_import(config: Config) -> None:
    store = Store(Engine(config))
    first = instance(COUNTER, store=store)
    second = instance(
        """(module (import "c" "m" (memory 1)) (import "c" "n" (global $n (mut i64))) (import "c" "t" (table 2 funcref))
            (import "c" "next" (func $next (result i64))) (type $t (func (result i64)))
            (func (export "both") (result i64)
                (drop (call $next)) (i64.add (call_indirect (type $t) (i32.const 1)) (global.get $n)))
            (func (export "grow") (result i32) (memory.grow (i32.const 1)))
            (func (export "size") (result i32) (memory.size))
            (func (export "poke") (i32.store8 (i32.const 70000) (i32.const 9)))
            (elem (i32.const 0) func $own) (func $own (result i64) (i64.const -1)) (export "again" (func $next)))""",
        {"c": first.exports},
        store=store,
    )
    assert second.exports.both() == 84
    assert first.exports.through(0) == -1
    assert second.exports.again is first.exports.next
    assert second.exports.grow() == 1
    assert first.exports.m.pages == 2
    assert second.exports.size() == 2
    second.exports.poke()
    assert first.exports.m[70000] == 9
    assert second.exports.grow() == -1


def test_linkers() -> None:
    engine = Engine()
    linker = Linker(engine)
    linker.define_func("m", "f", FuncType.of(["i32"], ["i32"]), lambda x: x + 1)
    module = Module(engine, parse_text("""(module (import "m" "f" (func (param i32) (result i32)))
        (import "other" "thing" (func (result i64 f32))) (export "f" (func 0)) (export "thing" (func 1)))"""))
    with pytest.raises(LinkError, match=r"unknown import: other\.thing: found nothing, expected a function"):
        linker.instantiate(Store(engine), module)
    linker.define_unknown_imports_as_default_values()
    store = Store(engine)
    first, second = linker.instantiate(store, module), linker.instantiate(store, module)
    assert first.exports.f(1) == 2
    assert first.exports.thing() == (0, 0.0)
    assert first.exports.f is second.exports.f is linker.get(store, "m", "f")
    linker.define_unknown_imports_as_traps()
    with pytest.raises(WasmTrap, match=r"other\.thing was called"):
        linker.instantiate(store, module).exports.thing()
    with pytest.raises(LinkError, match="defined twice"):
        linker.define("m", "f", 5)
    linker.allow_shadowing = True
    linker.define("m", "f", lambda x: 0)
    assert linker.instantiate(Store(engine), module).exports.f(1) == 0
    counter = instance(COUNTER, store=store)
    linker.define_instance("counter", counter)
    assert linker.get(store, "counter", "next") is counter.exports.next


# ---- memories ----


def test_memory_as_a_buffer() -> None:
    memory = Memory(Store(), 1, 3)
    memory[0:4] = b"abcd"
    assert memory[1] == ord("b")
    assert memory[1:3] == b"bc"
    assert memory[-1] == 0
    assert memory[65535] == 0
    view = memoryview(memory)
    view[0] = ord("z")
    assert memory[0:2] == b"zb"
    assert len(view) == 65536
    memory.grow(1)
    assert len(memory) == 131072
    assert len(view) == 65536
    view[1] = 1
    assert memory[1] == 1
    with pytest.raises(MemoryAccessError):
        memory[131072]
    with pytest.raises(IndexError):
        memory[131072] = 1
    for wrong in (b"abc", b"", b"abcde"):
        with pytest.raises((MemoryAccessError, ValueError)):
            memory[0:4] = wrong
    with pytest.raises(MemoryAccessError, match="cannot grow by 2"):
        memory.grow(2)
    assert array.array("B", memory[0:2]) == array.array("B", b"z\1")


def test_typed_access() -> None:
    memory = Memory(Store(), 1)
    for name, value in (
        ("u8", 200), ("i8", -3), ("u16", 60000), ("i16", -300), ("u32", 4_000_000_000), ("i32", -70000),
        ("u64", 1 << 63), ("i64", -(1 << 40)), ("f32", 0.5), ("f64", 0.1),
    ):  # fmt: skip
        getattr(memory, f"write_{name}")(9, value)
        assert getattr(memory, f"read_{name}")(9) == value
        for at in (65536, -1, 1 << 40):
            with pytest.raises(MemoryAccessError):
                getattr(memory, f"read_{name}")(at)
            with pytest.raises(MemoryAccessError):
                getattr(memory, f"write_{name}")(at, value)
    memory.pack(100, "<HfI", 1, 2.0, 3)
    assert memory.unpack(100, "<HfI") == (1, 2.0, 3)
    assert memory.write_string(200, "grüße") == 8
    assert memory.read_string(200) == "grüße"
    assert memory.read_string(200, 2) == "gr"
    memory.write(65530, b"abcdef")
    with pytest.raises(MemoryAccessError, match="zero byte"):
        memory.read_string(65530)
    with pytest.raises(MemoryAccessError):
        memory.write(65531, b"abcdef")


@pytest.mark.parametrize(("minimum", "maximum"), [(-1, None), (65537, None), (2, 1), (1, 65537), ("1", None)])
def test_sizes_of_memories(minimum: Any, maximum: Any) -> None:
    with pytest.raises(MemoryAccessError):
        Memory(Store(), minimum, maximum)


def test_the_whole_four_gibibytes() -> None:
    exports = instance("""(module (memory (export "m") 0)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "poke") (param i32) (i32.store (local.get 0) (i32.const 77))))""").exports
    assert exports.grow(65536) == 0
    assert exports.grow(1) == -1
    assert len(exports.m) == 1 << 32
    exports.poke(-4)
    assert exports.m.read_u32((1 << 32) - 4) == 77
    with pytest.raises(WasmTrap, match="out of bounds"):
        exports.poke(-3)


LITTLE_ROOM = """
import resource, sys
import trapline as t
limit = int(sys.argv[1]) << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
store = t.Store()
text = '''(module (memory (export "m") 1 20000)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "load") (param i32) (result i32) (i32.load offset=4 (local.get 0))))'''
e = t.Instance(store, t.Module(store.engine, bytes.fromhex(sys.argv[2]))).exports
assert e.m.checked
assert e.load(65528) == 0
for at in (65529, 65536, 1 << 31, -1, -4):
    try:
        e.load(at)
    except t.WasmTrap as trap:
        assert trap.reason.value == "out of bounds memory access", trap
    else:
        raise AssertionError(at)
assert e.grow(1) == 1
e.m.write_u32(131068, 5)
assert e.load(131064) == 5
assert e.grow(1 << 20) == -1
print("fine")
"""


@pytest.mark.parametrize("mebibytes", [1500, 4000])
def test_little_address_space(mebibytes: int) -> None:
    module = parse_text("""(module (memory (export "m") 1 20000)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "load") (param i32) (result i32) (i32.load offset=4 (local.get 0))))""")
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_ROOM, str(mebibytes), module.hex()], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_many_memories() -> None:
    """Reservations are given back: far more than fit into the address space at once."""
    text = '(module (memory (export "m") 1) (func (export "f") (result i32) (i32.load (i32.const 8))))'
    module = Module(Engine(), parse_text(text))
    for number in range(3000):
        exports = Instance(Store(module.engine), module).exports
        assert exports.f() == 0
        exports.m.write_u32(8, number)


# ---- tables and globals ----


def test_tables() -> None:
    store = Store()
    table = Table(store, TableType.of("externref", 2, 4), "x")
    assert list(table) == ["x", "x"]
    assert table.grow(2, None) == 2
    assert list(table) == ["x", "x", None, None]
    with pytest.raises(MemoryAccessError, match="cannot grow"):
        table.grow(1)
    for index in (-1, 4, "0"):
        with pytest.raises(MemoryAccessError):
            table[index]  # type: ignore[index]
    functions = Table(store, TableType.of("funcref", 1))
    with pytest.raises(CallError, match="expected a Func"):
        functions[0] = print


def test_globals() -> None:
    store = Store()
    number = Global(store, GlobalType.of("i32", mutable=True), -1)
    assert number.value == -1
    number.value = 0xFFFF_FFFE
    assert number.value == -2
    for wrong in (1 << 32, "1", 1.0, None):
        with pytest.raises(CallError):
            number.value = wrong
    with pytest.raises(CallError, match="immutable"):
        Global(store, GlobalType.of("f64"), 1).value = 2.0


@pytest.mark.parametrize(
    "options",
    [
        {"debug": "some"},
        {"gil": "no"},
        {"path": "x"},
        {"memories": "none"},
        {"stack_bytes": 1},
        {"max_memory_pages": -1},
    ],
)
def test_options(options: dict[str, Any]) -> None:
    with pytest.raises(FiberError):
        Config(**options)


def test_memory_growth_is_capped() -> None:
    made = instance(
        '(module (memory 1) (func (export "grow") (result i32) (memory.grow (i32.const 4))))',
        config=Config(max_memory_pages=4),
    )
    assert made.exports.grow() == -1
