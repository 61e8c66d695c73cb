"""Sets that do not keep their members, and locks that a forked child finds open.

Not done: `weakref.WeakSet`. It runs Python code as each member dies, and an exception that a signal handler raises
there, such as Ctrl-C, is printed and lost. Members are freed in long C calls, so that signals often fall just there.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

__all__ = ["Members", "fork_lock"]

Member = TypeVar("Member")

_LEAST: Final = 16


class Members(Generic[Member]):
    """Objects that are still there, each added once. The dead are forgotten when as many have joined as were alive.

    Threads, signal handlers and finalisers may add and iterate at any moment: the tuple is never changed but replaced.
    """

    __slots__ = ("_found", "_most")

    def __init__(self) -> None:
        self._found: tuple[weakref.ref[Member], ...] = ()
        self._most = _LEAST

    def add(self, member: Member) -> None:
        """Join."""
        reference = weakref.ref(member)
        while True:
            before = self._found
            living = before
            if len(before) >= self._most:
                living = tuple([other for other in before if other() is not None])
                self._most = max(_LEAST, 2 * len(living))
            fresh = (*living, reference)
            if self._found is before:  # nothing is called between this test and the store
                self._found = fresh
                return

    def __iter__(self) -> Iterator[Member]:
        for reference in self._found:
            member = reference()
            if member is not None:
                yield member


_locks: Final[Members[Any]] = Members()


def fork_lock() -> threading.RLock:
    """A lock for what takes one step after the other, each of which leaves it sound.

    Re-entrant, since a signal handler or a finaliser may come between two steps and want the same. In the child of a
    fork it is open: the thread that held it in the parent is not there.
    """
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _open_locks() -> None:
    for lock in _locks:
        if not lock._is_owned():
            lock._at_fork_reinit()


os.register_at_fork(after_in_child=_open_locks)
