"""Official test scripts (.wast) as lists of commands, with their modules in binary.

The shared tool `wast2json.py` turns a script into JSON and modules; it needs the package wasmtime for module text. What
it makes is kept in `.cache/spec`, one file a script, under the hash of script and tool, so that wasmtime is needed only
for scripts not seen before.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import json
import os
import re
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["Command", "ScriptsAbsent", "from_text", "load"]

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "spec"
FORMAT = b"1"  # of the cached files; another number makes them all anew

Command = dict[str, Any]

# The converter's reader of module text refuses these characters, which change the direction of text, in any place.
# Scripts hold them only in strings, where an escape says the same.
DIRECTION = re.compile("[\u202a-\u202e\u2066-\u206f]")


class ScriptsAbsent(Exception):
    """The scripts, the tool that converts them, or what the tool needs is not here."""


def shared_folder() -> Path:
    """The folder named by TRAPLINE_SHARED, by default `../shared` beside the checkout. Raises ScriptsAbsent."""
    folder = Path(os.environ.get("TRAPLINE_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "testsuite").is_dir():
        raise ScriptsAbsent("the folder of shared inputs is not here (TRAPLINE_SHARED)")
    return folder


def tool_path() -> Path:
    return shared_folder() / "tools" / "wast2json.py"


@functools.cache
def tool() -> ModuleType:
    try:
        spec = importlib.util.spec_from_file_location("wast2json", tool_path())
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ImportError, FileNotFoundError) as error:
        raise ScriptsAbsent(f"a script not converted before needs wast2json.py and wasmtime: {error}") from error
    return module


@functools.cache
def tool_hash() -> bytes:
    try:
        return hashlib.sha256(FORMAT + tool_path().read_bytes()).digest()
    except FileNotFoundError as error:
        raise ScriptsAbsent("the shared tool wast2json.py is not here") from error


def load(name: str) -> list[Command]:
    """The commands of a script, named by its path below the test suite without `.wast`. Raises ScriptsAbsent.

    They are as wabt's wast2json writes them, but that `content` holds the module's bytes in place of `filename`.
    """
    return from_text(name, (shared_folder() / "testsuite" / f"{name}.wast").read_bytes())


def from_text(name: str, text: bytes) -> list[Command]:
    """The commands of a script with this text; the name only helps to find it in the cache. Raises ScriptsAbsent."""
    key = hashlib.sha256(tool_hash() + text).hexdigest()[:24]
    cached = CACHE / f"{name.replace('/', '-')}-{key}.json"
    if not cached.exists():
        commands = json.dumps(convert(Path(name).name, text))
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=CACHE, delete=False) as file:
            file.write(commands)
        Path(file.name).replace(cached)  # several processes may convert the same script
    found: list[Command] = json.loads(cached.read_text(encoding="utf-8"))
    for command in found:
        if "content" in command:
            command["content"] = base64.b64decode(command["content"])
    return found


def convert(name: str, text: bytes) -> list[Command]:
    """The commands with modules in base64."""
    escaped = DIRECTION.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", text.decode("utf-8", "surrogateescape"))
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, f"{name}.wast")
        script.write_bytes(escaped.encode("utf-8", "surrogateescape"))
        commands: list[Command]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the tool leaves files for the collector to close
            commands, _ = tool().convert(str(script), folder)
        for command in commands:
            if filename := command.pop("filename", None):
                command["content"] = base64.b64encode(Path(folder, filename).read_bytes()).decode("ascii")
    return commands
