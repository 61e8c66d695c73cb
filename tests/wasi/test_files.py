"""fd_* and path_*, on a directory of the host and on one in memory alike."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.wasi.support import BAD, READ, ROOT, WRITE, Guest, errno
from trapline import WasiConfig
from trapline.wasi.abi import FDSTAT, FILE_RIGHTS, FdFlags, FileType, FstFlags, OFlags, Rights
from trapline.wasi.in_memory import Tree

CREAT, DIRECTORY, EXCL, TRUNC = OFlags.CREAT, OFlags.DIRECTORY, OFlags.EXCL, OFlags.TRUNC
TREE: Tree = {"f": b"0123456789", "d": {"g": b"inner", "e": {"h": b"deep"}}, "empty": {}}


@pytest.fixture(params=["host", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config_of(kind: str, folder: Path, mutable: bool = True) -> WasiConfig:
    config = WasiConfig()
    if kind == "memory":
        config.mount("/", TREE, mutable)
    else:
        (folder / "d" / "e").mkdir(parents=True)
        (folder / "empty").mkdir()
        (folder / "f").write_bytes(b"0123456789")
        (folder / "d" / "g").write_bytes(b"inner")
        (folder / "d" / "e" / "h").write_bytes(b"deep")
        config.preopen_dir(folder, "/", mutable)
    return config


@pytest.fixture
def guest(kind: str, tmp_path: Path) -> Guest:
    return Guest(config_of(kind, tmp_path))


@pytest.fixture
def frozen(kind: str, tmp_path: Path) -> Guest:
    return Guest(config_of(kind, tmp_path, mutable=False))


# ---- open, read, write ----


def test_read_write_seek_tell(guest: Guest) -> None:
    fd = guest.opened("f", READ | WRITE)
    assert fd == 4
    assert guest.read(fd, 4) == ("SUCCESS", b"0123")
    assert guest.seek(fd, 0, 1) == ("SUCCESS", 4)
    assert errno(guest.fd_tell(fd, 64)) == "SUCCESS"
    assert guest.memory.read_u64(64) == 4
    assert guest.write(fd, b"xy") == ("SUCCESS", 2)
    assert guest.seek(fd, -1, 2) == ("SUCCESS", 9)
    assert guest.read(fd) == ("SUCCESS", b"9")
    assert guest.read(fd) == ("SUCCESS", b"")
    assert guest.seek(fd, -1, 0)[0] == "INVAL"
    assert guest.seek(fd, -100, 1)[0] == "INVAL"
    assert guest.seek(fd, 0, 3)[0] == "INVAL"
    assert guest.seek(fd, 12, 0) == ("SUCCESS", 12)
    assert guest.write(fd, b"!") == ("SUCCESS", 1)
    assert guest.pread(fd, 2) == ("SUCCESS", b"23xy6789\0\0!")
    assert guest.pread(fd, 100) == ("SUCCESS", b"")
    assert guest.pread(fd, -1)[0] == "INVAL"
    assert guest.pwrite(fd, b"AB", 0) == ("SUCCESS", 2)
    assert guest.pwrite(fd, b"AB", -1)[0] == "INVAL"
    assert guest.seek(fd, 0) == ("SUCCESS", 0)
    assert guest.read(fd, 3) == ("SUCCESS", b"AB2")


def test_vectors(guest: Guest) -> None:
    fd = guest.opened("v", READ | WRITE, CREAT)
    parts = [guest.put(text) for text in ("one", "", "two", "three")]
    assert guest.fd_write(fd, *guest.vectors(*parts), 64) == 0
    assert guest.memory.read_u32(64) == 11
    into = [(1024, 2), (2048, 0), (1100, 5), (1200, 50)]
    assert guest.fd_pread(fd, *guest.vectors(*into), 0, 64) == 0
    assert guest.memory.read_u32(64) == 11
    assert [guest.memory.read(at, size) for at, size in into[:3]] == [b"on", b"", b"etwot"]
    assert guest.memory.read(1200, 4) == b"hree"
    many = guest.vectors(*[(1024, 1)] * 40)
    assert guest.fd_write(fd, *many, 64) == 0
    assert guest.memory.read_u32(64) == 40
    assert guest.fd_write(fd, 0, 0, 64) == 0
    assert guest.memory.read_u32(64) == 0


def test_open_modes(guest: Guest) -> None:
    assert guest.open("none")[0] == "NOENT"
    assert guest.open("f", READ, CREAT | EXCL)[0] == "EXIST"
    assert guest.open("none", READ | WRITE, CREAT | DIRECTORY)[0] == "INVAL"
    assert guest.open("f", READ, DIRECTORY)[0] == "NOTDIR"
    assert guest.open("f/")[0] == "NOTDIR"
    assert guest.open("f/x")[0] == "NOTDIR"
    assert guest.open("none/", READ | WRITE, CREAT)[0] == "ISDIR"
    assert guest.open("d", WRITE)[0] == "ISDIR"
    assert guest.open("d", READ | WRITE, DIRECTORY)[0] == "ISDIR"
    assert guest.open("d", READ, CREAT)[0] == "ISDIR"
    assert guest.open("", READ)[0] == "NOENT"
    assert guest.open("x\0y")[0] == "INVAL"
    assert guest.open(b"\xff\xfe")[0] == "ILSEQ"
    assert guest.open("n" * 256)[0] == "NAMETOOLONG"
    assert guest.open("n" * 256, WRITE, CREAT)[0] == "NAMETOOLONG"
    assert guest.open("x/" * 3000)[0] == "NAMETOOLONG"
    assert guest.open("f", READ, 16)[0] == "INVAL"
    assert guest.open("f", READ, 0, fdflags=32)[0] == "INVAL"
    assert guest.open("f", READ, 0, follow=2)[0] == "INVAL"
    assert guest.open("f", fd=99)[0] == "BADF"
    assert guest.open("f", fd=1)[0] == "BADF"
    assert guest.open("f", fd=guest.opened("f"))[0] == "NOTDIR"
    for name in (".", "./", "d/..", "d/e/../..", "./d/./e/.././.."):
        assert guest.fstat(guest.opened(name, READ, DIRECTORY)) == guest.fstat(ROOT), name


def test_read_only_and_write_only(guest: Guest) -> None:
    reader, writer = guest.opened("f", READ), guest.opened("f", WRITE)
    assert guest.write(reader, b"x")[0] == "BADF"
    assert guest.pwrite(reader, b"x", 0)[0] == "BADF"
    assert guest.read(writer)[0] == "BADF"
    assert guest.pread(writer, 0)[0] == "BADF"
    assert errno(guest.fd_filestat_set_size(reader, 3)) == "INVAL"
    assert errno(guest.fd_allocate(reader, 0, 30)) == "BADF"


def test_truncate_and_append(guest: Guest) -> None:
    fd = guest.opened("f", READ | WRITE, fdflags=FdFlags.APPEND)
    assert guest.write(fd, b"ab") == ("SUCCESS", 2)
    assert guest.pwrite(fd, b"c", 0) == ("SUCCESS", 1)
    assert guest.pread(fd, 8) == ("SUCCESS", b"89abc")
    assert errno(guest.fd_fdstat_set_flags(fd, 0)) == "SUCCESS"
    assert guest.pwrite(fd, b"C", 0) == ("SUCCESS", 1)
    assert guest.pread(fd, 0, 2) == ("SUCCESS", b"C1")
    guest.opened("f", READ | WRITE, TRUNC)
    assert guest.fstat(fd)[1].size == 0


def test_flags(guest: Guest) -> None:
    fd = guest.opened("f", READ | WRITE, fdflags=FdFlags.APPEND)
    assert guest.fd_fdstat_get(fd, 64) == 0
    assert FDSTAT.unpack_from(guest.memory, 64) == (FileType.REGULAR_FILE, FdFlags.APPEND, FILE_RIGHTS, 0)
    assert errno(guest.fd_fdstat_set_flags(fd, FdFlags.NONBLOCK)) == "SUCCESS"
    assert guest.fd_fdstat_get(fd, 64) == 0
    assert FDSTAT.unpack_from(guest.memory, 64)[1] == FdFlags.NONBLOCK
    assert errno(guest.fd_fdstat_set_flags(fd, FdFlags.SYNC)) == "INVAL"
    assert errno(guest.fd_fdstat_set_flags(fd, 32)) == "INVAL"
    assert errno(guest.fd_fdstat_set_flags(ROOT, 0)) == "BADF"
    synced = guest.opened("f", READ | WRITE, fdflags=FdFlags.SYNC | FdFlags.DSYNC)
    assert guest.write(synced, b"x") == ("SUCCESS", 1)


def test_rights_can_be_given_up(guest: Guest) -> None:
    fd = guest.opened("f", READ | WRITE)
    assert errno(guest.fd_fdstat_set_rights(fd, READ, 0)) == "SUCCESS"
    assert guest.read(fd, 2) == ("SUCCESS", b"01")
    assert guest.write(fd, b"x")[0] == "NOTCAPABLE"
    assert guest.seek(fd, 0)[0] == "NOTCAPABLE"
    assert guest.pread(fd, 0)[0] == "NOTCAPABLE"
    assert guest.fstat(fd)[0] == "NOTCAPABLE"
    for name, args in (("fd_sync", ()), ("fd_datasync", ()), ("fd_filestat_set_size", (1,)), ("fd_allocate", (0, 1))):
        assert errno(getattr(guest, name)(fd, *args)) == "NOTCAPABLE", name
    assert errno(guest.fd_fdstat_set_rights(fd, READ | WRITE, 0)) == "NOTCAPABLE"
    assert errno(guest.fd_fdstat_set_rights(99, 0, 0)) == "BADF"


def test_rights_of_directories_pass_on(guest: Guest) -> None:
    keep = Rights.PATH_OPEN | Rights.FD_READDIR | Rights.PATH_FILESTAT_GET
    assert errno(guest.fd_fdstat_set_rights(ROOT, keep, READ | keep)) == "SUCCESS"
    inner = guest.opened("d", READ, DIRECTORY)
    assert guest.open("f", WRITE)[0] == "NOTCAPABLE"
    assert guest.open("new", READ, CREAT)[0] == "NOTCAPABLE"
    assert guest.open("f", READ, TRUNC)[0] == "NOTCAPABLE"
    for name in ("path_create_directory", "path_remove_directory", "path_unlink_file"):
        assert guest.on_path(name, "q") == "NOTCAPABLE"
        assert guest.on_path(name, "q", fd=inner) == "NOTCAPABLE"
    assert guest.rename("f", "g") == guest.link("f", "g") == guest.symlink("f", "g") == "NOTCAPABLE"
    assert guest.readlink("f")[0] == "NOTCAPABLE"
    assert guest.open("g", WRITE, fd=inner)[0] == "NOTCAPABLE"
    file = guest.opened("g", READ, fd=inner)
    assert guest.read(file)[1] == b"inner"
    assert guest.seek(file, 0)[0] == "NOTCAPABLE"


def test_close_renumber_and_the_lowest_number(guest: Guest) -> None:
    first, second, third = (guest.opened(name) for name in ("f", "d/g", "d/e/h"))
    assert (first, second, third) == (4, 5, 6)
    assert errno(guest.fd_close(first)) == "SUCCESS"
    assert errno(guest.fd_close(first)) == "BADF"
    assert errno(guest.fd_renumber(third, second)) == "SUCCESS"
    assert guest.read(second) == ("SUCCESS", b"deep")
    assert errno(guest.fd_renumber(third, second)) == "BADF"
    assert errno(guest.fd_renumber(second, 77)) == "BADF"
    assert errno(guest.fd_renumber(second, second)) == "SUCCESS"
    assert [guest.opened("f") for _ in range(3)] == [4, 6, 7]
    assert errno(guest.fd_close(ROOT)) == "SUCCESS"
    assert guest.open("f")[0] == "BADF"


def test_there_is_a_limit(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trapline.tuning.WASI_MAX_FILES", 6)
    assert guest.opened("f") == 4
    assert guest.opened("f") == 5
    assert guest.open("f")[0] == "MFILE"
    assert guest.open("new", WRITE, CREAT)[0] == "MFILE"
    assert guest.stat("new")[0] == "NOENT"


def test_sizes_and_times(guest: Guest) -> None:
    fd = guest.opened("f", READ | WRITE)
    assert errno(guest.fd_filestat_set_size(fd, 3)) == "SUCCESS"
    assert guest.pread(fd, 0) == ("SUCCESS", b"012")
    assert errno(guest.fd_filestat_set_size(fd, 5)) == "SUCCESS"
    assert guest.pread(fd, 0) == ("SUCCESS", b"012\0\0")
    assert errno(guest.fd_filestat_set_size(fd, -1)) == "INVAL"
    assert errno(guest.fd_allocate(fd, 0, 9)) == "SUCCESS"
    assert guest.fstat(fd)[1].size == 9
    assert errno(guest.fd_allocate(fd, 0, 0)) == "INVAL"
    assert errno(guest.fd_filestat_set_times(fd, 7_000, 9_000, FstFlags.ATIM | FstFlags.MTIM)) == "SUCCESS"
    assert guest.fstat(fd)[1][5:7] == (7_000, 9_000)
    assert errno(guest.fd_filestat_set_times(fd, 1, 8_000, FstFlags.MTIM)) == "SUCCESS"
    assert guest.fstat(fd)[1][5:7] == (7_000, 8_000)
    assert errno(guest.fd_filestat_set_times(fd, 0, 0, FstFlags.ATIM_NOW | FstFlags.MTIM_NOW)) == "SUCCESS"
    assert min(guest.fstat(fd)[1][5:7]) > 10**18
    for flags in (3, 12, 16, -1):
        assert errno(guest.fd_filestat_set_times(fd, 0, 0, flags)) == "INVAL"
    assert errno(guest.path_filestat_set_times(ROOT, 1, *guest.put("f"), 5_000, 6_000, 5)) == "SUCCESS"
    assert guest.stat("f")[1][5:7] == (5_000, 6_000)
    assert errno(guest.path_filestat_set_times(ROOT, 1, *guest.put("none"), 5_000, 6_000, 5)) == "NOENT"
    assert errno(guest.fd_filestat_set_times(ROOT, 5_000, 6_000, 5)) == "SUCCESS"
    assert guest.fstat(ROOT)[1][5:7] == (5_000, 6_000)
    assert errno(guest.fd_filestat_set_size(ROOT, 1)) == "BADF"


def test_sync_advise(guest: Guest) -> None:
    fd = guest.opened("f", READ | WRITE)
    for name in ("fd_sync", "fd_datasync"):
        assert [errno(getattr(guest, name)(number)) for number in (fd, ROOT, 1, 99)] == [
            "SUCCESS",
            "SUCCESS",
            "BADF",
            "BADF",
        ]
    assert [errno(guest.fd_advise(fd, 0, 0, advice)) for advice in range(7)] == ["SUCCESS"] * 6 + ["INVAL"]
    assert errno(guest.fd_advise(fd, 0, -1, 0)) == "INVAL"
    assert errno(guest.fd_advise(ROOT, 0, 0, 0)) == "BADF"


def test_operations_on_the_wrong_kind(guest: Guest) -> None:
    assert guest.read(ROOT)[0] == guest.write(ROOT, b"x")[0] == guest.seek(ROOT, 0)[0] == "BADF"
    assert guest.pread(ROOT, 0)[0] == guest.pwrite(ROOT, b"x", 0)[0] == errno(guest.fd_tell(ROOT, 64)) == "BADF"
    assert errno(guest.fd_allocate(ROOT, 0, 1)) == "BADF"
    fd = guest.opened("f")
    assert guest.readdir(fd)[0] == guest.stat("x", fd=fd)[0] == guest.on_path("path_create_directory", "x", fd=fd)
    assert guest.readdir(fd)[0] == "BADF"
    assert errno(guest.fd_prestat_get(fd, 64)) == "BADF"
    assert errno(guest.fd_prestat_dir_name(fd, 64, 10)) == "NOTDIR"


# ---- directories ----


def test_prestat(guest: Guest) -> None:
    assert guest.fd_prestat_get(ROOT, 64) == 0
    assert guest.memory.unpack(64, "II") == (0, 1)
    assert guest.fd_prestat_dir_name(ROOT, 80, 1) == 0
    assert guest.memory.read(80, 1) == b"/"
    assert errno(guest.fd_prestat_dir_name(ROOT, 80, 0)) == "NAMETOOLONG"
    assert errno(guest.fd_prestat_get(4, 64)) == "BADF"


def test_readdir(guest: Guest) -> None:
    guest.symlink("f", "link")
    result, found = guest.readdir(ROOT)
    assert result == "SUCCESS"
    assert [name for name, _, _ in found[:2]] == [b".", b".."]
    kinds = {name: kind for name, kind, _ in found}
    assert kinds == {b".": 3, b"..": 3, b"f": 4, b"d": 3, b"empty": 3, b"link": 7}
    assert [following for _, _, following in found] == [1, 2, 3, 4, 5, 6]
    again = [name for cookie in range(6) for name, _, _ in guest.readdir(ROOT, 40, cookie)[1][:1]]
    assert again == [name for name, _, _ in found]
    assert guest.readdir(ROOT, 4096, 6) == ("SUCCESS", [])
    assert guest.readdir(ROOT, 4096, -1) == ("SUCCESS", [])
    assert guest.fd_readdir(ROOT, 1024, 30, 0, 64) == 0
    assert guest.memory.read_u32(64) == 30
    assert guest.fd_readdir(ROOT, 1024, 0, 0, 64) == 0
    assert guest.memory.read_u32(64) == 0


def test_names_removed_while_a_directory_is_read(guest: Guest) -> None:
    for number in range(300):
        guest.opened(f"many{number}", WRITE, CREAT)
        guest.fd_close(4)
    seen, cookie = set(), 0
    while True:
        _, found = guest.readdir(ROOT, 400, cookie)
        if not found:
            break
        for name, _, following in found:
            cookie = following
            if name.startswith(b"many"):
                seen.add(name)
                assert guest.on_path("path_unlink_file", name) == "SUCCESS"
    assert len(seen) == 300


def test_make_and_remove_directories(guest: Guest) -> None:
    make, remove = "path_create_directory", "path_remove_directory"
    assert guest.on_path(make, "new") == "SUCCESS"
    assert guest.on_path(make, "slash/") == "SUCCESS"
    assert guest.on_path(make, "new/deeper") == "SUCCESS"
    assert guest.on_path(remove, "new") == "NOTEMPTY"
    assert guest.on_path(remove, "new/deeper") == "SUCCESS"
    assert guest.on_path(remove, "new") == "SUCCESS"
    assert guest.on_path(remove, "slash/") == "SUCCESS"
    made = {"d": "EXIST", ".": "EXIST", "": "NOENT", "no/x": "NOENT", "f/x": "NOTDIR", "..": "PERM"}
    for path, expected in made.items():
        assert guest.on_path(make, path) == expected, path
    for path, expected in {"f": "NOTDIR", "none": "NOENT", ".": "INVAL", "d/.": "INVAL", "d": "NOTEMPTY"}.items():
        assert guest.on_path(remove, path) == expected, path


def test_unlink(guest: Guest) -> None:
    fd = guest.opened("f", READ | WRITE)
    assert guest.on_path("path_unlink_file", "f") == "SUCCESS"
    assert guest.read(fd)[1] == b"0123456789"
    assert guest.fstat(fd)[1].nlink == 0
    assert guest.stat("f")[0] == "NOENT"
    for path, expected in {"d": "ISDIR", "d/": "ISDIR", "d/g/": "NOTDIR", "none": "NOENT", "": "NOENT"}.items():
        assert guest.on_path("path_unlink_file", path) == expected, path


def test_rename(guest: Guest) -> None:
    assert guest.rename("f", "renamed") == "SUCCESS"
    assert guest.read(guest.opened("renamed"))[1] == b"0123456789"
    assert guest.rename("d", "d2") == "SUCCESS"
    assert guest.rename("d2/g", "renamed") == "SUCCESS"
    assert guest.read(guest.opened("renamed"))[1] == b"inner"
    for old, new, expected in (
        ("none", "x", "NOENT"),
        ("renamed", "d2", "ISDIR"),
        ("d2", "renamed", "NOTDIR"),
        ("d2", "d2/x", "INVAL"),
        ("empty", "d2", "NOTEMPTY"),
        ("renamed/", "x", "NOTDIR"),
        ("renamed", "x/", "NOTDIR"),
        (".", "x", "BUSY"),
        ("renamed", "../x", "PERM"),
        ("../x", "renamed", "PERM"),
        ("", "x", "NOENT"),
        ("renamed", "", "NOENT"),
        ("renamed", "renamed", "SUCCESS"),
        ("d2/e", "empty/", "SUCCESS"),
        ("empty", "d2/back", "SUCCESS"),
    ):
        assert guest.rename(old, new) == expected, (old, new)
    inner = guest.opened("d2", READ, DIRECTORY)
    assert guest.rename("back/h", "out", fd=inner, to=inner) == "SUCCESS"
    assert guest.rename("out", "../up", fd=inner, to=inner) == "PERM"
    assert guest.rename("out", "up", fd=inner, to=ROOT) == "SUCCESS"
    assert guest.read(guest.opened("up"))[1] == b"deep"


def test_hard_links(guest: Guest) -> None:
    assert guest.link("f", "second") == "SUCCESS"
    assert guest.stat("f")[1].nlink == 2
    assert guest.stat("f")[1].ino == guest.stat("second")[1].ino
    fd = guest.opened("second", WRITE)
    guest.write(fd, b"XX")
    assert guest.read(guest.opened("f"))[1] == b"XX23456789"
    for old, new, expected in (
        ("f", "second", "EXIST"),
        ("d", "x", "PERM"),
        ("none", "x", "NOENT"),
        ("f/", "x", "NOTDIR"),
        ("f", "x/", "NOENT"),
        ("f", "d/", "EXIST"),
        ("f", "../x", "PERM"),
    ):
        assert guest.link(old, new) == expected, (old, new)
    guest.symlink("f", "soft")
    assert guest.link("soft", "to-link") == "SUCCESS"
    assert guest.stat("to-link", follow=0)[1].filetype == FileType.SYMBOLIC_LINK
    assert guest.link("soft", "to-file", follow=1) == "SUCCESS"
    assert guest.stat("to-file", follow=0)[1].filetype == FileType.REGULAR_FILE


def test_symbolic_links(guest: Guest) -> None:
    assert guest.symlink("d/e", "l") == "SUCCESS"
    assert guest.symlink("l", "l2") == "SUCCESS"
    assert guest.symlink("../f", "d/up") == "SUCCESS"
    assert guest.symlink("self", "self") == "SUCCESS"
    assert guest.symlink("none", "dangling") == "SUCCESS"
    assert guest.readlink("l2") == ("SUCCESS", b"l")
    assert guest.readlink("d/up", 3) == ("SUCCESS", b"../")
    assert guest.read(guest.opened("l2/h"))[1] == b"deep"
    assert guest.read(guest.opened("l/../g"))[1] == b"inner"
    assert guest.read(guest.opened("d/up"))[1] == b"0123456789"
    assert guest.open("d/up", follow=0)[0] == "LOOP"
    assert guest.open("self")[0] == guest.open("self/x")[0] == guest.stat("self")[0] == "LOOP"
    assert guest.open("dangling")[0] == "NOENT"
    assert guest.stat("d/up", follow=0)[1].filetype == FileType.SYMBOLIC_LINK
    assert guest.stat("d/up")[1].filetype == FileType.REGULAR_FILE
    assert guest.stat("l/", follow=0)[1].filetype == FileType.DIRECTORY
    assert guest.opened("l/", READ, DIRECTORY, follow=0)
    assert guest.open("dangling", WRITE, CREAT)[0] == "SUCCESS"
    assert guest.stat("none")[1].filetype == FileType.REGULAR_FILE
    assert guest.open("self", WRITE, CREAT | EXCL)[0] == "EXIST"
    for target, path, expected in (
        ("x", "f", "EXIST"),
        ("", "x", "NOENT"),
        ("x", "x/", "NOENT"),
        ("/etc", "x", "PERM"),
        ("x", "../x", "PERM"),
    ):
        assert guest.symlink(target, path) == expected, (target, path)
    assert guest.readlink("f")[0] == "INVAL"
    assert guest.readlink("no")[0] == "NOENT"
    assert guest.on_path("path_remove_directory", "l/") == "NOTDIR"
    assert guest.on_path("path_unlink_file", "l") == "SUCCESS"
    assert guest.stat("d/e/h")[0] == "SUCCESS"


def test_filestat(guest: Guest) -> None:
    result, found = guest.stat("f")
    assert (result, found.filetype, found.size, found.nlink) == ("SUCCESS", FileType.REGULAR_FILE, 10, 1)
    assert found == guest.fstat(guest.opened("f"))[1]
    assert min(found[5:]) > 10**18
    assert guest.stat("d")[1].filetype == FileType.DIRECTORY
    assert guest.stat("f/")[0] == "NOTDIR"
    assert guest.stat("../f")[0] == "PERM"
    assert guest.stat("f", follow=2)[0] == "INVAL"


def test_nothing_in_a_read_only_directory_changes(frozen: Guest) -> None:
    guest = frozen
    for rights, oflags in ((WRITE, 0), (READ | WRITE, 0), (READ, TRUNC), (READ, CREAT), (WRITE, CREAT | EXCL)):
        assert guest.open("new" if oflags & CREAT else "f", rights, oflags)[0] == "PERM", (rights, oflags)
    for name in ("path_create_directory", "path_remove_directory", "path_unlink_file"):
        for path in ("f", "d", "new"):
            assert guest.on_path(name, path) == "PERM"
    assert guest.rename("f", "new") == guest.link("f", "new") == guest.symlink("f", "new") == "PERM"
    fd = guest.opened("f")
    assert errno(guest.fd_filestat_set_times(fd, 0, 0, 5)) == "PERM"
    assert errno(guest.fd_filestat_set_size(fd, 0)) == "PERM"
    assert errno(guest.fd_allocate(fd, 0, 100)) == "PERM"
    assert errno(guest.path_filestat_set_times(ROOT, 1, *guest.put("f"), 0, 0, 5)) == "PERM"
    inner = guest.opened("d", READ, DIRECTORY)
    assert guest.open("g", WRITE, fd=inner)[0] == "PERM"
    assert guest.read(fd) == ("SUCCESS", b"0123456789")


def test_between_kinds_of_directories(tmp_path: Path) -> None:
    config = config_of("host", tmp_path)
    config.mount("/memory", {"m": b"in memory"})
    guest = Guest(config)
    assert guest.rename("f", "x", to=4) == guest.rename("m", "x", fd=4) == "XDEV"
    assert guest.link("f", "x", to=4) == guest.link("m", "x", fd=4) == "XDEV"


def test_what_is_in_memory_can_be_read_back() -> None:
    config = WasiConfig()
    config.mount("/data", TREE)
    first, second = Guest(config), Guest(config)
    guest = first
    guest.write(guest.opened("new", WRITE, CREAT), b"made")
    guest.on_path("path_unlink_file", "f")
    assert first.wasi.files("/data") == {"new": b"made", "d": TREE["d"], "empty": {}}
    assert second.wasi.files("/data") == TREE


def test_a_removed_directory_in_memory_takes_nothing(guest: Guest) -> None:
    fd = guest.opened("empty", READ, DIRECTORY)
    assert guest.on_path("path_remove_directory", "empty") == "SUCCESS"
    assert guest.open("x", WRITE, CREAT, fd=fd)[0] == "NOENT"
    assert guest.on_path("path_create_directory", "x", fd=fd) == "NOENT"


def test_other_files_of_the_host(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    config = WasiConfig()
    config.preopen_dir(tmp_path, ".")
    guest = Guest(config)
    assert {name: kind for name, kind, _ in guest.readdir(ROOT)[1]}[b"pipe"] == FileType.UNKNOWN
    fd = guest.opened("pipe", READ | WRITE, fdflags=FdFlags.NONBLOCK)
    assert guest.read(fd)[0] == "AGAIN"
    assert guest.write(fd, b"through") == ("SUCCESS", 7)
    assert guest.read(fd) == ("SUCCESS", b"through")
    assert guest.seek(fd, 0)[0] == "SPIPE"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_bad_pointers_leave_nothing_behind(guest: Guest) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert errno(guest.path_open(ROOT, 1, *guest.put("f"), 0, READ, 0, 0, BAD)) == "FAULT"
    assert len(os.listdir("/proc/self/fd")) == before
    assert guest.opened("f") == 4
