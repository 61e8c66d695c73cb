"""The source archive is complete, the wheel built from it installs alone, and the machine code in it runs."""

import ctypes
import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = (
    ".git",
    ".venv*",
    ".cache",
    ".clients",
    ".*_cache",
    "build",
    "dist",
    "*.egg-info",
    "*.so",
    "__pycache__",
)

# Run by the Python of a fresh environment, outside the checkout, with the wheel and its dependencies alone.
USE_THE_WHEEL = """
import importlib.metadata, pathlib, sys
import trapline
from trapline import _native, native

# native.py has loaded `_core` from the file of `_native`: both init functions have run.
for module in (trapline, native, _native, sys.modules["trapline._core"]):
    assert pathlib.Path(module.__file__).is_relative_to(sys.prefix), module.__file__
assert importlib.metadata.version("trapline")
assert (pathlib.Path(trapline.__file__).parent / "py.typed").exists()

# mov eax, edi; cdq; idiv esi; ret
code = trapline.CodeImage(bytes.fromhex("89f899f7fec3"))
assert code.function(0, "i32(i32, i32)")(84, 2) == 42
fiber = trapline.Fiber(code[0], (84, 0))
for event in fiber:
    assert event.trap is trapline.TrapCode.DIVISION, event
    event.registers.esi = 2
assert fiber.result == 42
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280)
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command}\n{output}"
    return output


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built from that archive."""
    folder = tmp_path_factory.mktemp("dist")
    if any(importlib.util.find_spec(name) is None for name in ("build", "setuptools", "cffi")):
        pytest.skip("build, setuptools or cffi is not installed here")
    # A copy, so that a build in the checkout at the same time is not disturbed.
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*NOT_SOURCES), symlinks=True)
    # Without isolation: the build requirements of this environment serve, and nothing is downloaded.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, cwd=checkout)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


def test_source_archive_holds_every_source(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()}
    patterns = (
        "native/*.[ch]",
        "native/*.py",
        "stubs/*.h",
        "stubs/*/*.S",
        "stubs/*/*.h",
        "jit/trapline/**/*.py",
    )
    wanted = [PurePosixPath(file.relative_to(ROOT)) for pattern in patterns for file in ROOT.glob(pattern)]
    wanted += [PurePosixPath(name) for name in ("LICENSE", "pyproject.toml", "setup.py", "native/cdef.h")]
    assert set(wanted) - held == set()
    assert not [name for name in held if name.suffix in (".so", ".o", ".pyc")]


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
    assert {PurePosixPath(name).parts[0].split("-")[0] for name in held} == {"trapline"}
    extension = f"trapline/_native{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    demo = {f"trapline/cli/demo/{name}" for name in ("thumbnail.c", "thumbnail.wasm", "sunset.qoi", "damaged.qoi")}
    assert {extension, "trapline/py.typed", *demo} <= set(held)
    assert [name for name in held if name.endswith(".so")] == [extension]
    # For one version of Python: the core reads what the limited API does not give.
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{tag}-{tag}-" in wheel.name


def test_wheel_works_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel),
        cwd=tmp_path,
    )
    # The dependencies are those of this environment, and need no download. A .pth file adds a folder but
    # obeys no .pth file in it, so the editable install there stays out of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (tmp_path / "use_the_wheel.py").write_text(USE_THE_WHEEL, encoding="utf-8")
    run(python, "-W", "error", tmp_path / "use_the_wheel.py", cwd=tmp_path)


def test_one_object_holds_both_modules() -> None:
    """`_core` is loaded from the file of `_native`, so that file exports both init functions."""
    spec = importlib.util.find_spec("trapline._native")
    assert spec is not None
    assert spec.origin is not None
    library = ctypes.CDLL(spec.origin)
    assert hasattr(library, "PyInit__native")
    assert hasattr(library, "PyInit__core")
