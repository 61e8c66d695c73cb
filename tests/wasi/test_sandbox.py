"""A guest cannot leave its directory: escapes are tried by every function, by both ways to walk, and in races.

Nothing outside may be seen (its inode numbers and content), made, changed or removed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wasi.support import READ, ROOT, WRITE, Guest
from trapline import WasiConfig
from trapline.wasi import beneath
from trapline.wasi.abi import OFlags

# What a guest asks for, in a directory beside which `outside` lies; `OUT` stands for its absolute path.
PATHS = """
..  ../  ../.  ../..  ../outside  ../outside/  ../outside/secret  ../outside/new  ../inside/../outside/secret
./../outside/secret  .//..//outside//secret  d/..  d/../..  d/../../  d/../../outside/secret  d/e/../../..
d/e/../../../outside/secret  d/./e/.././../../outside/secret  d/e/../../../../../../../../../../../../etc/passwd
OUT  OUT/  OUT/secret  OUT/new  /  //  /etc/passwd  //etc/passwd  /./etc/passwd  /../etc/passwd  /proc/self/root/etc
absolute  absolute/  absolute/.  absolute/secret  absolute/new  absolute/..  absolute/../outside/secret
relative  relative/  relative/secret  relative/new  relative/../outside/secret
absolute-file  absolute-file/  relative-file  relative-file/  relative-new  absolute-new
up  up/  up/.  up/..  up/outside  up/outside/secret  up/inside/../outside/secret  upup/outside/secret
chain  chain/  chain/secret  chain/new  long  long/secret  long/new  tail  tail/secret
d/up  d/up/secret  d/up/new  d/e/up  d/e/up/secret  d/e/up/new  d/e/far/outside/secret
d/back/up/outside/secret  d/back/chain/secret  d/back/../../outside/secret  d/back/absolute/secret
root  root/etc/passwd  rootlink/etc  proc  proc/etc/passwd  proc/../../etc  cwd  cwd/secret  fd  fd/0
dots  dots/outside/secret  mix  mix/secret  slash  slash/secret  inner/../../outside/secret  inner/h/../../../..
d/e/../../../  d/e/../../..//  d/e/h/../../../../outside/  d/../d/../../outside  ../../../../../../../../../../etc
inner/up/secret  d/e/h/../up/new  ./absolute/secret  d/back/relative-file  d/back/absolute-new  d/e/h/../../../..//.
""".split()
LINKS = {
    "absolute": "OUT",
    "relative": "../outside",
    "absolute-file": "OUT/secret",
    "relative-file": "../outside/secret",
    "relative-new": "../outside/new",
    "absolute-new": "OUT/new",
    "up": "..",
    "upup": "up",
    "chain": "chain2",
    "chain2": "d/chain3",
    "d/chain3": "../../outside",
    "tail": "chain2/.",
    "d/up": "../../outside",
    "d/e/up": "../../../outside",
    "d/e/far": "../../..",
    "d/back": "..",
    "root": "/",
    "rootlink": "//",
    "proc": "/proc/self/root",
    "cwd": "/proc/self/cwd",
    "fd": "/proc/self/fd",
    "dots": "././../.",
    "mix": "d/e/../../../outside",
    "slash": "../outside/",
    "inner": "d/e",
    **{f"long{number}": f"long{number + 1}" for number in range(20)},
    "long": "long0",
    "long20": "d/../../outside",
}
CREAT, DIRECTORY, EXCL, TRUNC = OFlags.CREAT, OFlags.DIRECTORY, OFlags.EXCL, OFlags.TRUNC


def make_world(folder: Path) -> tuple[Path, Path]:
    """The guest's directory and one beside it that it must not reach."""
    inside, outside = folder / "inside", folder / "outside"
    (inside / "d" / "e" / "h").mkdir(parents=True)
    (outside / "sub").mkdir(parents=True)
    (outside / "secret").write_bytes(b"SECRET")
    (inside / "own").write_bytes(b"own")
    for name, target in LINKS.items():
        (inside / name).symlink_to(target.replace("OUT", str(outside)))
    return inside, outside


def seen(folder: Path) -> list[tuple[object, ...]]:
    """Everything about the world outside that a guest could have changed."""
    found: list[tuple[object, ...]] = []
    for path in sorted([folder, *folder.rglob("*")]):
        told = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        found.append((path, told.st_ino, told.st_nlink, told.st_size, told.st_mtime_ns, told.st_mode, content))
    return found


class Attempt:
    """One guest that asks for one path by every function; remembers the inode numbers it must not see."""

    def __init__(self, folder: Path) -> None:
        self.inside, self.outside = make_world(folder)
        self.forbidden = {
            path.stat().st_ino
            for path in (folder, self.outside, self.outside / "secret", self.outside / "sub", Path("/"), Path("/etc"))
        } | {os.stat("/etc/passwd").st_ino, os.stat("/proc/self/root").st_ino}
        config = WasiConfig()
        config.preopen_dir(self.inside, ".")
        self.guest = Guest(config)

    def opens(self, path: str) -> None:
        guest = self.guest
        for follow in (0, 1):
            for rights, oflags in (
                (READ, 0),
                (READ, DIRECTORY),
                (WRITE, 0),
                (READ | WRITE, CREAT),
                (WRITE, CREAT | EXCL),
                (WRITE, TRUNC),
                (READ, TRUNC),
            ):
                result, fd = guest.open(path, rights, oflags, follow=follow)
                if result == "SUCCESS":
                    assert guest.fstat(fd)[1].ino not in self.forbidden, (path, rights, oflags, follow)
                    assert b"SECRET" not in guest.pread(fd, 0)[1]
                    guest.write(fd, b"OVERWRITTEN")
                    assert b"secret" not in [name for name, _, _ in guest.readdir(fd)[1]]
                    guest.fd_close(fd)

    def looks(self, path: str) -> None:
        guest = self.guest
        for follow in (0, 1):
            result, found = guest.stat(path, follow=follow)
            assert result != "SUCCESS" or found.ino not in self.forbidden, (path, follow)
            guest.path_filestat_set_times(ROOT, follow, *guest.put(path), 1, 1, 5)
        result, text = guest.readlink(path)
        assert not text.startswith(b"/"), path

    def changes(self, path: str) -> None:
        guest = self.guest
        guest.on_path("path_create_directory", path)
        guest.on_path("path_create_directory", path + "/made")
        guest.symlink("own", path)
        guest.symlink("own", path + "/made")
        for follow in (0, 1):
            guest.link("own", path, follow=follow)
            guest.link("own", path + "/made", follow=follow)
            if guest.link(path, f"stolen{follow}", follow=follow) == "SUCCESS":
                assert guest.stat(f"stolen{follow}", follow=0)[1].ino not in self.forbidden, path
                self.opens(f"stolen{follow}")
        guest.rename("own", path + "/made")
        for source in (path + "/secret", path):
            if guest.rename(source, "moved") == "SUCCESS":
                assert guest.stat("moved", follow=0)[1].ino not in self.forbidden, path
                guest.rename("moved", source)
        guest.rename("own", path)
        guest.on_path("path_unlink_file", path + "/secret")
        guest.on_path("path_remove_directory", path + "/sub")
        guest.on_path("path_unlink_file", path)
        guest.on_path("path_remove_directory", path)


@pytest.fixture(params=["openat2", "components"])
def walk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to find a path: with the kernel's help, and without."""
    if request.param == "components":
        monkeypatch.setattr(beneath, "open_at_once", lambda root, path: None)
    elif beneath._openat2() is None:
        pytest.skip("this kernel has no openat2")
    return str(request.param)


@pytest.mark.parametrize("deed", ["opens", "looks", "changes"])
@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out(path: str, deed: str, walk: str, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    before = seen(attempt.outside)
    names = sorted(os.listdir(tmp_path))
    getattr(attempt, deed)(path.replace("OUT", str(attempt.outside)))
    assert seen(attempt.outside) == before
    assert sorted(os.listdir(tmp_path)) == names
    attempt.guest.wasi.close()


def test_there_are_enough_of_them() -> None:
    assert len(PATHS) == len(set(PATHS)) >= 100


def test_from_a_directory_further_down(walk: str, tmp_path: Path) -> None:
    """The directory that a path is relative to is the limit, not the one that was preopened."""
    attempt = Attempt(tmp_path)
    guest = attempt.guest
    fd = guest.opened("d/e", READ, OFlags.DIRECTORY)
    for path in ("..", "../..", "../../own", "h/../..", "up/secret", "far", "../e", "h/../../e/h"):
        assert guest.open(path, fd=fd)[0] == "PERM", path
        assert guest.stat(path, fd=fd)[0] == "PERM" or path == "far", path
    assert guest.stat("h/../h/.", fd=fd)[0] == "SUCCESS"


def test_links_that_the_guest_makes_itself(walk: str, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    guest = attempt.guest
    before = seen(attempt.outside)
    for number, target in enumerate(("..", "../outside", "../outside/secret", "d/../../outside", "./.././outside")):
        assert guest.symlink(target, f"made{number}") == "SUCCESS"
        for path in (f"made{number}", f"made{number}/", f"made{number}/secret", f"made{number}/outside/secret"):
            attempt.opens(path)
            attempt.looks(path)
    for target in ("/", "/etc", "//etc", str(attempt.outside)):
        assert guest.symlink(target, "absolute-made") == "PERM"
    assert guest.rename("d/up", "up-moved") == "SUCCESS"  # now it says ../../outside from further up
    attempt.opens("up-moved/secret")
    assert guest.link("relative", "relative-again") == "SUCCESS"
    attempt.opens("relative-again/secret")
    assert seen(attempt.outside) == before


# ---- races ----


@contextlib.contextmanager
def swapping(swap: Callable[[], None]) -> Iterator[None]:
    """A thread that does one thing all the time."""
    done = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while not done.is_set():
                swap()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert not failures


RACE_S = 0.6


def race(attempt: Attempt, swap: Callable[[], None], act: Callable[[Guest], None]) -> None:
    before = seen(attempt.outside)
    stop = time.monotonic() + RACE_S
    with swapping(swap):
        while time.monotonic() < stop:
            act(attempt.guest)
    assert seen(attempt.outside) == before


def opened_content(guest: Guest, path: str, rights: int = READ, oflags: int = 0) -> bytes:
    result, fd = guest.open(path, rights, oflags)
    if result != "SUCCESS":
        return b""
    _, found = guest.pread(fd, 0)
    guest.write(fd, b"inside")
    guest.fd_close(fd)
    return found


def test_a_directory_swapped_for_a_link(walk: str, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    inside = attempt.inside
    (inside / "race").mkdir()
    (inside / "race" / "secret").write_bytes(b"inside")
    (inside / "race" / "deep").mkdir()
    (inside / "bait").symlink_to(attempt.outside)
    reached = 0

    def swap() -> None:
        os.rename(inside / "race", inside / "aside")
        os.rename(inside / "bait", inside / "race")
        os.rename(inside / "race", inside / "bait")
        os.rename(inside / "aside", inside / "race")

    def act(guest: Guest) -> None:
        nonlocal reached
        for path in ("race/secret", "race/deep/../secret", "d/../race/secret"):
            found = opened_content(guest, path, READ | WRITE)
            assert b"SECRET" not in found
            reached += found == b"inside"
        assert guest.stat("race/secret")[1].ino not in attempt.forbidden
        guest.open("race/new", WRITE, CREAT)
        guest.on_path("path_create_directory", "race/made")
        guest.on_path("path_remove_directory", "race/made")
        guest.on_path("path_remove_directory", "race/sub")
        guest.path_filestat_set_times(ROOT, 1, *guest.put("race/secret"), 1, 1, 5)
        for fd in range(4, 40):
            guest.fd_close(fd)

    race(attempt, swap, act)
    assert reached


def test_a_file_swapped_for_a_link(walk: str, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    inside = attempt.inside
    (inside / "race").write_bytes(b"inside")
    (inside / "bait").symlink_to("../outside/secret")
    reached = 0

    def swap() -> None:
        os.rename(inside / "race", inside / "aside")
        os.rename(inside / "bait", inside / "race")
        os.rename(inside / "race", inside / "bait")
        os.rename(inside / "aside", inside / "race")

    def act(guest: Guest) -> None:
        nonlocal reached
        for path in ("race", "d/../race", "d/e/../../race"):
            found = opened_content(guest, path, READ | WRITE)
            assert b"SECRET" not in found
            reached += found == b"inside"
            assert guest.stat(path)[1].ino not in attempt.forbidden
            guest.path_filestat_set_times(ROOT, 1, *guest.put(path), 1, 1, 5)
            if guest.link(path, "stolen", follow=1) == "SUCCESS":
                assert guest.stat("stolen", follow=0)[1].ino not in attempt.forbidden
                guest.on_path("path_unlink_file", "stolen")
            guest.open(path, WRITE, TRUNC)
            for fd in range(4, 8):
                guest.fd_close(fd)
        (inside / "f").write_bytes(b"inside")
        with contextlib.suppress(OSError):
            os.rename(inside / "f", inside / "aside")

    race(attempt, swap, act)
    assert reached


def test_a_directory_moved_out_while_it_is_passed(walk: str, tmp_path: Path) -> None:
    """`d/e/..` after `d/e` has been moved outside is still `d`, not what is above it now."""
    attempt = Attempt(tmp_path)
    inside = attempt.inside
    (inside / "d" / "secret").write_bytes(b"inside")
    away = tmp_path / "away"
    away.mkdir()
    (away / "secret").write_bytes(b"SECRET")
    reached = 0

    def swap() -> None:
        os.rename(inside / "d" / "e", away / "e")
        os.rename(away / "e", inside / "d" / "e")

    def act(guest: Guest) -> None:
        nonlocal reached
        for path in ("d/e/../secret", "d/e/h/../../secret", "d/e/h/.././../secret"):
            found = opened_content(guest, path, READ | WRITE)
            assert b"SECRET" not in found
            reached += found == b"inside"
        guest.rename("d/e/../secret", "d/e/../other")
        guest.rename("d/e/../other", "d/e/../secret")
        guest.rename("d/other", "d/secret")

    race(attempt, swap, act)
    assert (away / "secret").read_bytes() == b"SECRET"
    assert sorted(os.listdir(away)) == ["secret"]
    assert reached
