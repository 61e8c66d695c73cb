"""A directory in memory answers as one of the host does: the same random calls on both, the same errnos and contents.

Sizes and link counts of directories, inode numbers and times are each system's own.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.wasi.support import READ, WRITE, Guest, errno
from trapline import WasiConfig
from trapline.wasi.abi import FdFlags, FileType, OFlags

NAMES = "a b c d l d/a d/b d/l d/e d/e/a c/x a/ d/ l/ . .. d/.. d/. d/../b ./a .//d//a l/a d/l/a ../a d/e/../a".split()
TARGETS = ("a", "b", "d", "d/e", "../a", ".", "..", "l", "d/", "e", "../d/e/..")
PLAIN_FLAGS = (0, OFlags.CREAT, OFlags.TRUNC, OFlags.DIRECTORY, OFlags.CREAT | OFlags.EXCL, OFlags.CREAT | OFlags.TRUNC)


class Pair:
    """Two guests that do the same."""

    def __init__(self, folder: Path, choose: random.Random) -> None:
        memory, host = WasiConfig(), WasiConfig()
        memory.mount(".", {})
        host.preopen_dir(folder, ".")
        self.guests = (Guest(memory), Guest(host))
        self.choose = choose
        self.fds = [3]

    def both(self, name: str, *args: Any, **more: Any) -> Any:
        """What both answered. Fails where that is not the same."""
        ours, theirs = (getattr(guest, name)(*args, **more) for guest in self.guests)
        assert ours == theirs, (name, args, more, "memory, host")
        return ours

    def path(self) -> str:
        return self.choose.choice(NAMES)

    def fd(self) -> int:
        return self.choose.choice(self.fds)

    # ---- one of these at a time ----

    def open(self) -> None:
        rights = self.choose.choice((READ, WRITE, READ | WRITE))
        flags, more = self.choose.choice(PLAIN_FLAGS), self.choose.choice((0, 0, FdFlags.APPEND))
        follow = self.choose.randrange(2)
        path = self.path()
        answers = [guest.open(path, rights, flags, follow=follow, fdflags=more) for guest in self.guests]
        assert answers[0][0] == answers[1][0], (path, rights, flags, follow, answers)
        if answers[0][0] == "SUCCESS":
            assert answers[0] == answers[1]
            self.fds.append(answers[0][1])

    def close(self) -> None:
        if len(self.fds) > 8:
            fd = self.choose.choice(self.fds[1:])
            self.fds.remove(fd)
            assert self.both("fd_close", fd) == 0

    def write(self) -> None:
        result = self.choose.choice((self._write, self._pwrite))()
        assert result in ("SUCCESS", "BADF")

    def _write(self) -> str:
        data = self.choose.randbytes(self.choose.randrange(20))
        answers = [guest.write(fd, data) for fd in [self.fd()] for guest in self.guests]
        assert answers[0][0] == answers[1][0]
        return answers[0][0]

    def _pwrite(self) -> str:
        data, at = self.choose.randbytes(self.choose.randrange(20)), self.choose.randrange(40)
        answers = [guest.pwrite(fd, data, at) for fd in [self.fd()] for guest in self.guests]
        assert answers[0][0] == answers[1][0]
        return answers[0][0]

    def read(self) -> None:
        self.both("read", self.fd(), self.choose.randrange(30))
        self.both("pread", self.fd(), self.choose.randrange(50))

    def seek(self) -> None:
        args = (self.fd(), self.choose.randrange(-9, 40), self.choose.randrange(3))
        answers = [guest.seek(*args) for guest in self.guests]
        assert answers[0][0] == answers[1][0]
        if answers[0][0] == "SUCCESS":
            assert answers[0] == answers[1], args

    def resize(self) -> None:
        self.both("fd_filestat_set_size", self.fd(), self.choose.randrange(20))
        self.both("fd_allocate", self.fd(), self.choose.randrange(20), self.choose.randrange(1, 60))

    def make(self) -> None:
        self.both("on_path", "path_create_directory", self.path())

    def remove(self) -> None:
        self.both("on_path", self.choose.choice(("path_remove_directory", "path_unlink_file")), self.path())

    def rename(self) -> None:
        self.both("rename", self.path(), self.path())

    def link(self) -> None:
        self.both("link", self.path(), self.path(), follow=self.choose.randrange(2))

    def symlink(self) -> None:
        self.both("symlink", self.choose.choice(TARGETS), self.path())
        self.both("readlink", self.path())

    def look(self) -> None:
        path, follow = self.path(), self.choose.randrange(2)
        answers = [guest.stat(path, follow=follow) for guest in self.guests]
        assert answers[0][0] == answers[1][0], (path, follow)
        if answers[0][0] == "SUCCESS":
            ours, theirs = answers[0][1], answers[1][1]
            assert ours.filetype == theirs.filetype, path
            if ours.filetype != FileType.DIRECTORY:
                assert (ours.size, ours.nlink) == (theirs.size, theirs.nlink), path

    def list(self) -> None:
        fd = self.fd()
        for guest in self.guests:
            assert errno(guest.fd_readdir(fd, 4096, 2000, 0, 64)) in ("SUCCESS", "BADF")
        ours, theirs = (guest.readdir(fd) for guest in self.guests)
        assert ours[0] == theirs[0]
        assert sorted(entry[:2] for entry in ours[1]) == sorted(entry[:2] for entry in theirs[1])


DEEDS = [name for name, item in vars(Pair).items() if callable(item) and not name.startswith("_")]
DEEDS = [name for name in DEEDS if name not in ("both", "path", "fd")]


@pytest.mark.parametrize("seed", range(20))
def test_memory_answers_like_the_host(seed: int, tmp_path: Path) -> None:
    pair = Pair(tmp_path, random.Random(seed))
    for _ in range(500):
        getattr(pair, pair.choose.choice(DEEDS))()
    for guest in pair.guests:
        guest.wasi.close()
