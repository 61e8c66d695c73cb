"""Compiled code on disk."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trapline import Config, Engine, Instance, Module, Store, WasmTrap, parse_text
from trapline.runtime.cache import Cache

TEXT = """(module (func (export "a") (result i32) (i32.const 1)) (func (export "b") (result i32) (i32.const 2))
    (func (export "t") (result i32) (i32.div_u (i32.const 1) (i32.const 0))))"""


def use(folder: Path, *names: str, debug: str = "full") -> int:
    """Calls functions; how many of the module's came from the cache."""
    module = Module(Engine(Config(cache=folder, debug=debug)), parse_text(TEXT))
    exports = Instance(Store(module.engine), module).exports
    found = len(module.code(checked=False).ready)
    for name in names:
        assert exports[name]() == {"a": 1, "b": 2}[name]
    del module, exports
    gc.collect()
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_functions_that_were_called_are_there_the_next_time(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert [use(folder, "a"), use(folder, "a"), use(folder, "b"), use(folder, "b")] == [0, 1, 1, 2]
    assert use(folder, debug="live") == 0
    assert [path.suffix for path in files(folder)] == [".trapline"]
    assert folder.stat().st_mode & 0o077 == 0


def test_traps_in_cached_code_have_their_rows(tmp_path: Path) -> None:
    for _ in range(2):
        module = Module(Engine(Config(cache=tmp_path)), parse_text(TEXT))
        with pytest.raises(WasmTrap) as caught:
            Instance(Store(module.engine), module).exports.t()
        assert caught.value.reason.value == "integer divide by zero"
        assert caught.value.frames[0].name == "t"
        del module, caught
        gc.collect()


def test_damaged_files_are_made_anew(tmp_path: Path) -> None:
    use(tmp_path, "a")
    (path,) = files(tmp_path)
    good = path.read_bytes()
    for at in range(0, len(good), 41):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert use(tmp_path) == 0
        path.write_bytes(good[:at])
        assert use(tmp_path) == 0
    use(tmp_path, "a")
    assert use(tmp_path, "a") == 1


def test_what_others_may_write_is_not_trusted(tmp_path: Path) -> None:
    use(tmp_path, "a")
    (path,) = files(tmp_path)
    path.chmod(0o666)
    assert use(tmp_path) == 0
    path.chmod(0o600)
    assert use(tmp_path) == 1
    tmp_path.chmod(0o777)
    assert use(tmp_path, "a") == 0
    tmp_path.chmod(0o700)


def test_a_folder_that_cannot_be_made_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert use(tmp_path / "file" / "folder", "a") == 0


def test_the_folder_stays_within_its_limit(tmp_path: Path) -> None:
    config = Config()
    cache = Cache(tmp_path, most_bytes=5000)
    for number in range(8):
        data = parse_text(f'(module (func (export "f{number}")) (@custom "x" "{"y" * 1500}"))')
        cache.store(data, "m", config, False, {})
        path = cache.path(data, config, False)
        os.utime(path, (number, number))
    kept = files(tmp_path)
    assert path in kept
    assert 1 < len(kept) < 8
    assert sum(one.stat().st_size for one in kept) <= 5000


def test_processes_share_a_folder(tmp_path: Path) -> None:
    program = (
        "import sys, trapline as t\n"
        f"m = t.Module(t.Engine(t.Config(cache=sys.argv[1])), t.parse_text({TEXT!r}))\n"
        "e = t.Instance(t.Store(m.engine), m).exports\n"
        "assert e[sys.argv[2]]() in (1, 2)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name], stderr=subprocess.PIPE)
        for name in "abab"
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert not process.returncode, errors
    assert use(tmp_path) >= 1
    assert len(files(tmp_path)) == 1
