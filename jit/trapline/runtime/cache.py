"""Compiled code on disk, so that a program's second start needs no compiler.

One file a module and everything that decides about its code (artifact.key): an artifact with the functions that were
called so far. Files are written whole and put in place at once, so that processes may share a folder; of two that
write the same file the later one adds what the earlier one had. A file that is damaged, or that this process must not
trust, is as none; a folder that cannot be written to costs nothing but time. Least recently used files go when the
folder grows beyond its limit.

Code from the cache is run as it is: the folder must belong to this user, and nobody else may write to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Final

from trapline import tuning
from trapline.errors import DecodeError
from trapline.runtime import artifact
from trapline.runtime.engine import Config

__all__ = ["Cache", "default_folder"]

_SUFFIX: Final = ".trapline"


def default_folder() -> Path:
    """TRAPLINE_CACHE_DIR, or `trapline` in the user's cache folder (XDG Base Directory Specification)."""
    own = os.environ.get("TRAPLINE_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trapline"


class Cache:
    """One folder of artifacts."""

    def __init__(self, folder: str | os.PathLike[str], most_bytes: int = tuning.CACHE_BYTES) -> None:
        self.folder = Path(folder)
        self._most_bytes = most_bytes

    def path(self, bytecode: bytes, config: Config, checked: bool) -> Path:
        """The file for a module and what its code is made for."""
        found = hashlib.sha256(json.dumps(artifact.key(config, checked), sort_keys=True).encode())
        found.update(hashlib.sha256(bytecode).digest())
        return self.folder / (found.hexdigest() + _SUFFIX)

    def load(self, bytecode: bytes, config: Config, checked: bool) -> artifact.Functions:
        """The functions that are there, none where there is no file or it is no good."""
        path = self.path(bytecode, config, checked)
        try:
            data = _trusted_bytes(path)
            found = artifact.decode(data, config, checked)
        except OSError:
            return {}
        except DecodeError:
            with contextlib.suppress(OSError):
                path.unlink()
            return {}
        if found.functions is None or found.bytecode != bytecode:
            return {}
        with contextlib.suppress(OSError):
            os.utime(path)
        return found.functions

    def store(
        self, bytecode: bytes, name: str, config: Config, checked: bool, functions: artifact.Functions
    ) -> None:
        """Keep functions, together with those that are there already."""
        path = self.path(bytecode, config, checked)
        merged = self.load(bytecode, config, checked) | functions
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(os.stat(self.folder))
            beside = path.with_name(f"{path.stem}.{os.urandom(8).hex()}.new")
            try:
                handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with open(handle, "wb") as file:
                    file.write(artifact.encode(config, checked, name, bytecode, merged))
                os.replace(beside, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    beside.unlink()
                raise
            self._trim(path)

    def _trim(self, keep: Path) -> None:
        """Remove what was used least recently until the folder is within its limit."""
        files = []
        for path in self.folder.glob("*" + _SUFFIX):
            with contextlib.suppress(OSError):
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._most_bytes:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size


def _check_owner(found: os.stat_result) -> None:
    """Raises PermissionError when somebody else could have written it."""
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("others may write to the cache")


def _trusted_bytes(path: Path) -> bytes:
    """The contents of a file that only this user can have written. Raises OSError."""
    _check_owner(os.stat(path.parent))
    with open(path, "rb") as file:
        _check_owner(os.fstat(file.fileno()))
        return file.read()
