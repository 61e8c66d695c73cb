"""Fibers, threads, the interpreter and the process end in every order, and others change what is shared meanwhile."""

from __future__ import annotations

import pytest

from tests.conftest import Finished, RunPython
from tests.crash.scripts import PRELUDE, x86_64_only

pytestmark = x86_64_only

START = (
    PRELUDE
    + r'''
import trapline
from trapline import CodeError, CodeImage, Fiber, FiberError, FiberState, StopReason, TrapCode, assemble


def asm(text):
    return assemble(text.replace(" | ", "\n"))


def until(condition):
    while not condition():
        pass


def mappings():
    with open("/proc/self/maps") as file:
        return sum(1 for _ in file)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


TRAP = "int3 | mov eax, 7 | ret"
OVERFLOW = "l: push rax | jmp l"
LOOP = "l: inc qword ptr [rdi] | cmp dword ptr [rsi], 0 | jz l | mov eax, 5 | ret"
'''
)


def check(run: Finished) -> None:
    assert (run.returncode, run.stdout, run.stderr) == (0, "fine\n", ""), run


def test_dropped_while_suspended(run_python: RunPython) -> None:
    """Stacks of dropped fibers are used again; code lives as long as a fiber, function or event needs it."""
    script = """
def make():
    code = CodeImage(asm("int3 | mov eax, 7 | ret"))
    copy = code.copy(breakpoints=16)
    fiber = Fiber(copy[0])
    return fiber, fiber.resume(), code[1], Fiber(code[0])
for _ in range(50): make()
gc.collect()
before = mappings(), descriptors()
for _ in range(2000): make()
gc.collect()
assert mappings() <= before[0] + 4 and descriptors() == before[1], (mappings(), descriptors(), before)
fiber, event, function, ready = make()
gc.collect()
assert event.where == "code+0x0" and event.code is fiber.owner
assert function() == 7 and fiber.resume() is None and fiber.result == 7
assert ready.resume().valid
print("fine")
"""
    check(run_python(START + script))


@pytest.mark.parametrize(
    "ending",
    ["", "sys.exit(0)", "os._exit(0)", "raise SystemExit", "threading.Thread(target=sys.exit).start()"],
    ids=["end", "exit", "_exit", "SystemExit", "exit in thread"],
)
def test_exit_with_everything_alive(run_python: RunPython, ending: str) -> None:
    """The interpreter ends with suspended fibers, handlers in cycles, and endless loops on daemon threads."""
    script = """
code = CodeImage(asm(TRAP))
copy = code.copy()
copy.add_breakpoint(1)
fibers = [Fiber(copy[0]) for _ in range(20)]
events = [fiber.resume() for fiber in fibers]
fibers[0].step()
counts = [ctypes.c_uint64() for _ in range(4)]
never = ctypes.c_uint32()
loop = CodeImage(asm(LOOP))
fibers += [Fiber(loop[0], (ctypes.addressof(count), ctypes.addressof(never)), gil=gil)
           for count, gil in zip(counts, ("lazy", "release") * 2)]
for fiber in fibers[-4:-1]:
    threading.Thread(target=fiber.resume, daemon=True).start()
function = loop.function(0, handler=lambda event: None)
threading.Thread(target=function, args=(ctypes.addressof(counts[3]), ctypes.addressof(never)), daemon=True).start()
until(lambda: all(count.value for count in counts))
sys.modules["keep"] = fibers, events, copy
print("fine", flush=True)
"""
    check(run_python(START + script + ending + "\n"))


def test_native_code_while_the_interpreter_ends(run_python: RunPython) -> None:
    """atexit handlers, __del__ at shutdown and finalisers of globals call functions, trap, and drop what is left."""
    script = """
import atexit
code = CodeImage(asm(TRAP))
function, handled = code[1], code.function(0, handler=lambda event: None)
fiber = Fiber(code[0]); event = fiber.resume()
def use(where):
    assert function() == 7
    try:
        code_0()
    except BaseException as error:
        kind = type(error).__name__
    sys.__stdout__.write(where + " " + kind + "\\n")
    sys.__stdout__.flush()
code_0 = code[0]
class Late:
    def __init__(self, name):
        self.name, self.use, self.cycle = name, use, self
    def __del__(self):
        self.use(self.name)
atexit.register(use, "atexit")
atexit.register(lambda: handled())
import builtins
builtins.late = Late("builtins")
late = Late("module")
local = threading.local(); local.late = Late("local")
sys.stdout.flush()
"""
    run = run_python(START + script)
    assert run.returncode == 0, run
    assert run.stdout.startswith("atexit Trap\n"), run


def test_threads_end_before_their_fibers(run_python: RunPython) -> None:
    """A fiber that stopped on a thread which is gone goes on on another; so do its event and its stack."""
    script = """
code = CodeImage(asm("push rdi | int3 | pop rax | int3 | ret"))
fibers = []
def start(number):
    fiber = Fiber(code[0], (number,), path=("inject", "direct")[number % 2])
    fibers.append((number, fiber, fiber.resume()))
for number in range(100):
    thread = threading.Thread(target=start, args=(number,)); thread.start(); thread.join()
def go_on(number, fiber, event):
    assert event.valid and event.fiber is fiber
    assert fiber.resume().pc != event.fiber.owner.base
for row in fibers:
    thread = threading.Thread(target=go_on, args=row); thread.start(); thread.join()
for number, fiber, event in fibers:
    assert not event.valid and fiber.resume() is None and fiber.result == number
print("fine")
"""
    check(run_python(START + script))


@pytest.mark.parametrize("trap", ["TRAP", "OVERFLOW"])
def test_threads_leave_nothing(run_python: RunPython, trap: str) -> None:
    """2,000 threads, each trapping once: no mapping, no descriptor, no thread is left of them."""
    script = f"code = CodeImage(asm({trap}))\n" + """
def trap():
    fiber = Fiber(code[0])
    assert fiber.resume().reason is StopReason.TRAP
    try:
        code[0]()
    except trapline.Trap:
        pass
def threads(count):
    for _ in range(count // 8):
        some = [threading.Thread(target=trap) for _ in range(8)]
        [t.start() for t in some]
        [t.join() for t in some]
def now():
    until(lambda: len(os.listdir("/proc/self/task")) == 2)  # join() returns a little before the thread is gone
    return mappings(), descriptors()
threads(80)
before = now()
threads(2000)
after = now()
# Each fiber's stack may be one mapping more, of the few that eight threads need at once.
assert after[0] <= before[0] + 24 and after[1] == before[1], (before, after)
print("fine")
"""
    check(run_python(START + script))


def test_subinterpreters_are_refused(run_python: RunPython) -> None:
    """With a clear ImportError, whether or not the main interpreter has trapline already."""
    script = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
def attempt():
    for config in ({}, {"isolated": False}) if sys.version_info < (3, 13) else ("isolated", "legacy"):
        if sys.version_info < (3, 13):
            made = interpreters.create(**config)
        else:
            made = interpreters.create(config)
        source = '''
try:
    import trapline
except ImportError as error:
    import os
    os.write(1, (str(error) + "\\\\n").encode())
'''
        try:
            failed = interpreters.run_string(made, source)
        except Exception as error:
            failed = error
        assert failed is None, failed
        interpreters.destroy(made)
attempt()
import trapline
attempt()
assert trapline.CodeImage(bytes.fromhex("c3"))[0]() == 0
"""
    run = run_python(script)
    assert run.returncode == 0, run
    assert run.stdout.count("\n") == 4, run
    assert run.stdout.count("interpreter") == 4, run


def test_exec_in_a_handler(run_python: RunPython) -> None:
    """os.execv in an event handler: the new program starts with default handling and no descriptor of ours."""
    script = """
code = CodeImage(asm(TRAP))
copy = code.copy(); copy.patch(1, b"\\xb8")
look = '''
import os, signal
assert signal.getsignal(signal.SIGSEGV) is signal.SIG_DFL
assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
assert not [name for fd in os.listdir("/proc/self/fd") if "memfd" in (name := os.path.realpath(f"/proc/self/fd/{fd}"))]
print("fine")
'''
code.function(0, handler=lambda event: os.execv(sys.executable, [sys.executable, "-c", look]))()
"""
    check(run_python(START + script))


def test_blocked_signals(run_python: RunPython) -> None:
    """A thread that blocked the fault signals or ours before its first native code, or since, still traps."""
    script = """
code, loop = CodeImage(asm(TRAP)), CodeImage(asm("l: jmp l"))
blocked = [signal.SIGSEGV, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGURG]
def interrupted():
    fiber = Fiber(loop[0])
    thread = threading.Thread(target=lambda: (until(lambda: fiber.state is FiberState.RUNNING), fiber.interrupt()))
    thread.start()
    assert fiber.resume().reason is StopReason.INTERRUPT
    thread.join()
def run():
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    trap_a_little()
    interrupted()
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    trapline.install_handlers()
    trap_a_little()
    interrupted()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    trap_a_little()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGUSR1}
    done.append(True)
done = []
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads: thread.start(); thread.join()
run()
assert len(done) == 4
print("fine")
"""
    check(run_python(START + script))


def test_alternate_stack_of_others(run_python: RunPython) -> None:
    """Somebody disables or replaces the thread's alternate stack: ordinary traps go on, overflow after a check."""
    script = """
code, overflow = CodeImage(asm(TRAP)), CodeImage(asm(OVERFLOW))
def overflows():
    event = Fiber(overflow[0]).resume()
    assert event.trap is TrapCode.STACK_OVERFLOW, str(event)
def run():
    overflows()
    off = stack_t(None, 2, 0)  # SS_DISABLE
    for size in (None, 4096, 8192, 1 << 16):
        if size is None:
            assert libc.sigaltstack(ctypes.byref(off), None) == 0
        else:
            memory = mmap.mmap(-1, 1 << 17)
            keep.append(memory)
            other = stack_t(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 0, size)
            if libc.sigaltstack(ctypes.byref(other), None): continue  # the kernel wants it larger
        if size is None or size > 8192:
            for _ in range(100): trap_a_little()
        trapline.install_handlers()
        trap_a_little()
        overflows()
    done.append(True)
done = []
run()
thread = threading.Thread(target=run); thread.start(); thread.join()
assert len(done) == 2
print("fine")
"""
    check(run_python(START + script))


def test_handlers_replaced_by_others(run_python: RunPython) -> None:
    """sigaction behind our back between calls: install_handlers() puts ours back, by any number of rounds."""
    script = """
faults = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGURG)
trap_a_little()
ours = {sig: handler_of(sig) for sig in faults}
code, loop = CodeImage(asm(TRAP)), CodeImage(asm("l: jmp l"))
for round in range(40):
    for sig in faults:
        action = sigaction_t()  # SIG_DFL, SIG_IGN
        action.handler = round % 2
        assert libc.sigaction(sig, ctypes.byref(action), None) == 0
    trapline.install_handlers()
    assert {sig: handler_of(sig) for sig in faults} == ours
    trap_a_little()
fiber = Fiber(loop[0])
thread = threading.Thread(target=lambda: (until(lambda: fiber.state is FiberState.RUNNING), fiber.interrupt()))
thread.start()
assert fiber.resume().reason is StopReason.INTERRUPT
thread.join()
print("fine")
"""
    check(run_python(START + script))


def test_python_handlers_come_and_go(run_python: RunPython) -> None:
    """signal.signal before, during and after native code: the handler of the moment is called, loops end by it."""
    script = """
loop = CodeImage(asm("l: jmp l"))
class Stop(Exception): pass
def make(number):
    def handler(sig, frame):
        seen.append((number, sig)); raise Stop
    return handler
seen = []
for number in range(12):
    sig, timer = [(signal.SIGALRM, signal.ITIMER_REAL), (signal.SIGVTALRM, signal.ITIMER_VIRTUAL),
                  (signal.SIGPROF, signal.ITIMER_PROF)][number % 3]
    handler = make(number)
    signal.signal(sig, handler)
    assert signal.getsignal(sig) is handler
    if number % 2: signal.siginterrupt(sig, False)
    signal.setitimer(timer, 0.01)
    try:
        loop.function(0, gil=("lazy", "release")[number % 2])()
    except Stop:
        pass
    signal.signal(sig, signal.SIG_DFL)
    assert signal.getsignal(sig) is signal.SIG_DFL
    assert seen[-1] == (number, sig) and len(seen) == number + 1
try:
    thread = threading.Thread(target=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    fiber = Fiber(loop[0])
    thread.start()
    fiber.resume()
except KeyboardInterrupt:
    pass
thread.join()
assert fiber.state is not FiberState.RUNNING
print("fine")
"""
    check(run_python(START + script))


def test_switch_interval(run_python: RunPython) -> None:
    """sys.setswitchinterval: Python threads run beside native loops at any interval, and the core follows it."""
    script = """
from trapline import native
told = []
real = native.set_switch_interval
native.set_switch_interval = lambda seconds: (told.append(seconds), real(seconds))
loop = CodeImage(asm(LOOP))
for interval in (1e-6, 0.0005, 0.1, 0.005):
    sys.setswitchinterval(interval)
    assert told[-1] == sys.getswitchinterval()
    if interval > 0.01: continue
    count, stop = ctypes.c_uint64(), ctypes.c_uint32()
    def end():
        until(lambda: count.value)
        stop.value = 1
    thread = threading.Thread(target=end)
    thread.start()
    assert loop[0](ctypes.addressof(count), ctypes.addressof(stop)) == 5
    thread.join()
try:
    sys.setswitchinterval(-1)
except ValueError:
    pass
assert told[-1] == sys.getswitchinterval()
print("fine")
"""
    check(run_python(START + script))


def test_faulthandler_keeps_its_ways(run_python: RunPython) -> None:
    """enable, disable, is_enabled, enable(file=...), dump_traceback and dump_traceback_later do what they did."""
    script = """
import tempfile
assert not faulthandler.is_enabled()
assert faulthandler.disable() is False
faulthandler.enable()
assert faulthandler.is_enabled()
trap_a_little()
with tempfile.TemporaryFile() as file:
    faulthandler.enable(file=file, all_threads=False)
    trap_a_little()
    faulthandler.dump_traceback(file=file)
    file.seek(0)
    assert b"most recent call first" in file.read()
    pid = os.fork()
    if pid == 0: ctypes.memset(0, 1, 1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGSEGV
    file.seek(0)
    assert b"Fatal Python error: Segmentation fault" in file.read()
    for wrong in ({"file": -5}, {"file": object()}, {"nonsense": 1}):
        try:
            faulthandler.enable(**wrong)
        except (ValueError, RuntimeError, TypeError, AttributeError):
            pass
        else:
            raise AssertionError(wrong)
    trap_a_little()
    count, stop = ctypes.c_uint64(), ctypes.c_uint32()
    loop = CodeImage(asm(LOOP))
    file.truncate(0)
    # No other Python thread: the dump reads frames without the GIL, and crashes when a thread ends meanwhile.
    def look(number, frame):
        stop.value = os.fstat(file.fileno()).st_size > 50
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    faulthandler.dump_traceback_later(0.01, file=file)
    loop[0](ctypes.addressof(count), ctypes.addressof(stop))
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
    assert faulthandler.disable() is True
assert not faulthandler.is_enabled()
assert faulthandler.enable.__name__ == "enable" and faulthandler.disable.__doc__
trap_a_little()
print("fine")
"""
    check(run_python(START + script))


def test_faulthandler_while_native_code_runs(run_python: RunPython) -> None:
    """enable and disable on one thread while others trap, loop and sit in C functions: no trap becomes a crash."""
    script = """
stop = False
failed = []
def work():
    try:
        while not stop: trap_a_little()
    except BaseException as error:
        failed.append(error)
count, end = ctypes.c_uint64(), ctypes.c_uint32()
loop = CodeImage(asm(LOOP))
forever = loop.function(0, gil="release")
looping = threading.Thread(target=forever, args=(ctypes.addressof(count), ctypes.addressof(end)))
threads = [threading.Thread(target=work) for _ in range(3)] + [looping]
for thread in threads: thread.start()
for _ in range(60):
    faulthandler.enable()
    faulthandler.disable()
stop, end.value = True, 1
for thread in threads: thread.join()
assert not failed, failed
print("fine")
"""
    check(run_python(START + script))


def test_ctrl_c_anywhere_in_enable(run_python: RunPython) -> None:
    """An exception of a signal handler behind any call of the wrapper: handlers are back, no thread stays parked."""
    script = """
from trapline import native
class Stop(Exception): pass
class Interrupted:
    "The core's functions, of which one raises behind its work: where the interpreter runs signal handlers."
    def __init__(self, lib, left): self.lib, self.left = lib, left
    def __getattr__(self, name):
        real = getattr(self.lib, name)
        if not callable(real): return real
        def call(*arguments):
            result = real(*arguments)
            self.left -= 1
            if self.left == 0: raise Stop
            return result
        return call
trap_a_little()
ours, real = handler_of(signal.SIGSEGV), native.lib
results = []
def other():
    trap_a_little()
    results.append(True)
for limit in range(1, 20):
    native.lib = Interrupted(real, limit)
    stopped = False
    try:
        (faulthandler.enable, faulthandler.disable)[limit % 2]()
    except Stop:
        stopped = True
    native.lib = real
    trapline.install_handlers()
    assert handler_of(signal.SIGSEGV) == ours
    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), limit
    if not stopped: break
assert limit == 5, limit
print("fine")
"""
    check(run_python(START + script))


@pytest.mark.parametrize("seed", [1, 2])
def test_ctrl_c_while_breakpoints_change(run_python: RunPython, seed: int) -> None:
    """An exception of a signal handler leaves each breakpoint set or not, never a trap that nobody knows."""
    script = f"""
import random
print("seed {seed}", file=sys.stderr)
random.seed({seed})
""" + """
class Stop(Exception): pass
armed = False
def spin():  # a function, because Python 3.13.0 leaves the jump of such a loop out of a `try` around it
    while signal.getitimer(signal.ITIMER_REAL)[0]: pass
def stop(number, frame):
    if armed: raise Stop
signal.signal(signal.SIGALRM, stop)
copy = CodeImage(bytes.fromhex("90") * 64 + bytes.fromhex("c3")).copy(breakpoints=256)
for offset in range(8): copy.add_breakpoint(offset)  # decoded once: capstone swallows what a handler raises
for offset in range(8): copy.remove_breakpoint(offset)
hits = 0
for _ in range(1500):
    try:
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-6, 120e-6))
            for offset in range(8): copy.add_breakpoint(offset)
            for offset in range(8): copy.remove_breakpoint(offset)
            spin()
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Stop:
        hits += 1
    known = {found.offset for found in copy.breakpoints}
    there = {offset for offset in range(8) if copy.read(offset, 1) == b"\\xcc"}
    assert known == there, (known, there)
    for offset in known:
        while offset in {found.offset for found in copy.breakpoints}: copy.remove_breakpoint(offset)
    assert copy.read(0, 8) == bytes.fromhex("90") * 8
copy[0]()
assert hits > 1000, hits
print("fine")
"""
    run = run_python(START + script)
    assert (run.returncode, run.stdout) == (0, "fine\n"), run


def test_code_made_in_handlers_and_finalisers(run_python: RunPython) -> None:
    """Signal handlers and __del__ make and find code in the middle of code being made and found."""
    script = """
class Late:
    def __del__(self):
        assert CodeImage(asm_ret)[0]() == 0
asm_ret = bytes.fromhex("31c0c3")
calls = 0
def on_alarm(number, frame):
    global calls
    calls += 1
    image = CodeImage(asm_ret)
    assert trapline.find_code(image.base) is image
    kept.append(image)
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
kept = []
signal.signal(signal.SIGALRM, on_alarm)
gc.set_threshold(7)
signal.setitimer(signal.ITIMER_REAL, 0.0003)
mine = []
while calls < 200:
    late = Late(); late.cycle = late; del late
    image = CodeImage(asm_ret)
    assert trapline.find_code(image.base) is image
    if len(mine) < 100: mine.append(image)
signal.setitimer(signal.ITIMER_REAL, 0)
for image in kept + mine:
    assert trapline.find_code(image.base) is image
print("fine")
"""
    check(run_python(START + script))
