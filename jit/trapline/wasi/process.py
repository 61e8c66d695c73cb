"""Arguments, environment, clocks, random bytes, and the end of the program.

Source: wasi_snapshot_preview1.witx, args_*, environ_*, clock_*, random_get, proc_*, sched_yield; wasi_unstable has the
same.

Annotations are evaluated here, since they are read as types each time a module is linked.
"""

import struct
import time
from collections.abc import Sequence

from trapline import tuning
from trapline.errors import ExitTrap
from trapline.runtime.caller import Caller
from trapline.runtime.memory import Memory
from trapline.wasi.abi import U32, U64
from trapline.wasi.clocks import Clocks, RandomBytes
from trapline.wasi.errno import ERRORS, SUCCESS, Errno, errno_of
from trapline.wasi.guest import MASK32, check, store
from trapline.wasm.types import i32, i64

__all__ = ["Process"]

_IGNORED = frozenset((0, 13, 16, 17, 22, 27))
"""$signal: none, pipe, chld, cont, urg, winch."""
_STOPPING = frozenset((18, 19, 20, 21))
"""stop, tstp, ttin, ttou."""
_LAST_SIGNAL = 30


def _strings(memory: Memory, strings: Sequence[bytes], pointers: int, texts: int) -> None:
    """Write texts that end with their zero byte, and an array of where each one is."""
    whole = b"".join(strings)
    pointers, texts = check(memory, pointers, 4 * len(strings)), check(memory, texts, len(whole))
    addresses = []
    at = texts
    for text in strings:
        addresses.append(at)
        at += len(text)
    memory[texts : texts + len(whole)] = whole
    store(memory, pointers, struct.pack(f"<{len(addresses)}I", *addresses))


class Process:
    """The functions that know of no files. Strings in `args` and `env` end with a zero byte."""

    def __init__(self, args: Sequence[bytes], env: Sequence[bytes], clocks: Clocks, random: RandomBytes) -> None:
        self._args = args
        self._env = env
        self._clocks = clocks
        self._random = random

    def args_sizes_get(self, caller: Caller, count: i32, size_bytes: i32) -> i32:
        try:
            memory = caller.memory
            U32.pack_into(memory, count & MASK32, len(self._args))
            U32.pack_into(memory, size_bytes & MASK32, sum(map(len, self._args)))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def args_get(self, caller: Caller, pointers: i32, texts: i32) -> i32:
        try:
            _strings(caller.memory, self._args, pointers, texts)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def environ_sizes_get(self, caller: Caller, count: i32, size_bytes: i32) -> i32:
        try:
            memory = caller.memory
            U32.pack_into(memory, count & MASK32, len(self._env))
            U32.pack_into(memory, size_bytes & MASK32, sum(map(len, self._env)))
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def environ_get(self, caller: Caller, pointers: i32, texts: i32) -> i32:
        try:
            _strings(caller.memory, self._env, pointers, texts)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def clock_res_get(self, caller: Caller, clock: i32, result: i32) -> i32:
        try:
            U64.pack_into(caller.memory, result & MASK32, self._clocks.resolution(clock))
        except LookupError:
            return i32(Errno.INVAL)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def clock_time_get(self, caller: Caller, clock: i32, precision: i64, result: i32) -> i32:
        try:
            U64.pack_into(caller.memory, result & MASK32, self._clocks.now(clock))
        except LookupError:
            return i32(Errno.INVAL)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def random_get(self, caller: Caller, at: i32, size_bytes: i32) -> i32:
        try:
            memory = caller.memory
            size = size_bytes & MASK32
            start = check(memory, at, size)
            for piece in range(start, start + size, tuning.WASI_RANDOM_BYTES):
                stop = min(piece + tuning.WASI_RANDOM_BYTES, start + size)
                memory[piece:stop] = self._random(stop - piece)
        except ERRORS as error:
            return errno_of(error)
        return SUCCESS

    def proc_exit(self, code: i32) -> None:
        raise ExitTrap(code & MASK32)

    def proc_raise(self, signal: i32) -> i32:
        """Ends the program where that is what the signal does by its witx; the host's process gets none."""
        number = signal & MASK32
        if number > _LAST_SIGNAL:
            return i32(Errno.INVAL)
        if number in _IGNORED:
            return SUCCESS
        if number in _STOPPING:
            return i32(Errno.NOTSUP)
        raise ExitTrap(128 + number)

    def sched_yield(self) -> i32:
        time.sleep(0)  # other Python threads run meanwhile
        return SUCCESS
