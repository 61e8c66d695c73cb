"""poll_oneoff: waiting for times and files.

Source: wasi_snapshot_preview1.witx, poll_oneoff, and $subscription and $event of its typenames.

Annotations are evaluated here, since they are read as types each time a module is linked.
"""

import select
from struct import Struct
from typing import Final, NamedTuple

from trapline.runtime.caller import Caller
from trapline.wasi.abi import EVENT, U32, ClockId, EventType, Rights, Version
from trapline.wasi.clocks import Clocks
from trapline.wasi.descriptor import Table
from trapline.wasi.errno import ERRORS, SUCCESS, Errno, Refused, errno_of
from trapline.wasi.guest import MASK32, check
from trapline.wasm.types import i32

__all__ = ["Poll"]

_ABSOLUTE: Final = 1
"""$subclockflags: subscription_clock_abstime."""
_HANGUP: Final = 1
"""$eventrwflags: fd_readwrite_hangup."""
_HEAD: Final = Struct("<QB")
_MAX_WAIT_MS: Final = 2**31 - 1


class _Event(NamedTuple):
    userdata: int
    error: int
    type: int
    nbytes: int = 0
    flags: int = 0


class _Timer(NamedTuple):
    """A clock subscribed to; `deadline_ns` by the monotonic clock."""

    userdata: int
    deadline_ns: int


class _Wait(NamedTuple):
    """A file subscribed to that the host has to wait for."""

    userdata: int
    type: int
    fd: int
    host_fd: int


class Poll:
    """poll_oneoff, over a table of open files."""

    def __init__(self, table: Table, clocks: Clocks, version: Version) -> None:
        self._table = table
        self._clocks = clocks
        self._clock_layout = version.subscription
        self._fd_offset = version.poll_fd

    def poll_oneoff(self, caller: Caller, subscriptions: i32, events: i32, count: i32, result: i32) -> i32:
        """A subscription that is wrong by itself is answered by an event with its errno."""
        try:
            memory = caller.memory
            number = count & MASK32
            size_bytes = self._clock_layout.size
            at = check(memory, subscriptions, size_bytes * number)
            out = check(memory, events, EVENT.size * number)
            check(memory, result, 4)
            if not number:
                return i32(Errno.INVAL)
            with memoryview(memory) as view:
                found = self._poll([view[at + i * size_bytes :][:size_bytes] for i in range(number)])
            for index, event in enumerate(found):
                EVENT.pack_into(memory, out + EVENT.size * index, *event)
            U32.pack_into(memory, result & MASK32, len(found))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def _poll(self, subscriptions: list[memoryview]) -> list[_Event]:
        """What has happened, at least one thing. Raises Refused for what is no subscription."""
        ready: list[_Event] = []
        timers: list[_Timer] = []
        waits: list[_Wait] = []
        now_ns = None
        for subscription in subscriptions:
            userdata, kind = _HEAD.unpack_from(subscription)
            if kind == EventType.CLOCK:
                if now_ns is None:
                    now_ns = self._clocks.now(ClockId.MONOTONIC)
                timer = self._timer(subscription, now_ns)
                if isinstance(timer, _Event):
                    ready.append(timer)
                else:
                    timers.append(timer)
            elif kind in (EventType.FD_READ, EventType.FD_WRITE):
                fd = U32.unpack_from(subscription, self._fd_offset)[0]
                file = self._subscribe(userdata, kind, fd)
                if isinstance(file, _Event):
                    ready.append(file)
                else:
                    waits.append(file)
            else:
                raise Refused(Errno.INVAL)
        ready += self._wait(timers, waits, bool(ready))
        return ready

    def _timer(self, subscription: memoryview, now_ns: int) -> _Timer | _Event:
        userdata, kind, clock, timeout_ns, _, flags = self._clock_layout.unpack(subscription)
        if clock not in (ClockId.REALTIME, ClockId.MONOTONIC):
            return _Event(userdata, Errno.INVAL, kind)
        if flags & ~_ABSOLUTE:
            raise Refused(Errno.INVAL)
        if flags & _ABSOLUTE and clock == ClockId.REALTIME:
            timeout_ns -= self._clocks.now(ClockId.REALTIME)
        elif flags & _ABSOLUTE:
            return _Timer(userdata, timeout_ns)
        return _Timer(userdata, now_ns + max(timeout_ns, 0))

    def _subscribe(self, userdata: int, kind: int, fd: int) -> _Wait | _Event:
        right = Rights.FD_READ if kind == EventType.FD_READ else Rights.FD_WRITE
        try:
            file = self._table[fd]
            file.need(Rights.POLL_FD_READWRITE)
            if not file.rights & right:
                raise Refused(Errno.BADF)
            host_fd = file.fileno()
            if host_fd is not None:
                return _Wait(userdata, kind, fd, host_fd)
            nbytes = file.available_bytes() if kind == EventType.FD_READ else 1
        except ERRORS as error:
            return _Event(userdata, int(errno_of(error)), kind)
        return _Event(userdata, 0, kind, nbytes, 0 if nbytes else _HANGUP)

    def _wait(self, timers: list[_Timer], waits: list[_Wait], at_once: bool) -> list[_Event]:
        """What happens first of these; at_once: only what has happened already."""
        clocks = self._clocks
        deadline_ns = min((timer.deadline_ns for timer in timers), default=None)
        events: list[_Event] = []
        poll = _registered(waits)
        while True:
            left_ns = None if deadline_ns is None else deadline_ns - clocks.now(ClockId.MONOTONIC)
            if left_ns is not None and left_ns < 0:
                left_ns = 0
            if at_once:
                left_ns = 0
            if waits:
                # Made-up clocks stand still while the host waits, so that time passes only where nothing else can.
                wait_ns = left_ns if clocks.real or left_ns is None else 0
                events = self._happened(waits, dict(poll.poll(_milliseconds(wait_ns))))
            if not events and left_ns and not (waits and clocks.real):
                clocks.sleep(left_ns)
            if timers:
                now_ns = clocks.now(ClockId.MONOTONIC)
                events += [
                    _Event(timer.userdata, 0, EventType.CLOCK) for timer in timers if timer.deadline_ns <= now_ns
                ]
            if events or at_once:
                return events

    def _happened(self, waits: list[_Wait], found: dict[int, int]) -> list[_Event]:
        events = []
        for userdata, kind, fd, host_fd in waits:
            wanted = select.POLLIN if kind == EventType.FD_READ else select.POLLOUT
            bits = found.get(host_fd, 0)
            if not bits & (wanted | select.POLLHUP | select.POLLERR | select.POLLNVAL):
                continue
            nbytes = self._table[fd].available_bytes() if kind == EventType.FD_READ else 1
            hangup = bits & (select.POLLHUP | select.POLLERR)
            events.append(_Event(userdata, 0, kind, nbytes, _HANGUP if hangup else 0))
        return events


def _registered(waits: list[_Wait]) -> select.poll:
    wanted: dict[int, int] = {}
    for wait in waits:
        bit = select.POLLIN if wait.type == EventType.FD_READ else select.POLLOUT
        wanted[wait.host_fd] = wanted.get(wait.host_fd, 0) | bit
    poll = select.poll()
    for host_fd, bits in wanted.items():
        poll.register(host_fd, bits)
    return poll


def _milliseconds(wait_ns: int | None) -> int | None:
    """For poll(2), which never returns before its time; very long waits go on in the loop."""
    return None if wait_ns is None else min(-(-wait_ns // 1_000_000), _MAX_WAIT_MS)
