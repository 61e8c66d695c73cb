"""After a fork parent and child each go on with fibers and code of their own."""

from __future__ import annotations

import pytest

from tests.conftest import Finished, RunPython
from tests.crash.scripts import PRELUDE, x86_64_only

pytestmark = x86_64_only

FORK = (
    PRELUDE
    + r'''
import trapline
from trapline import CodeError, CodeImage, Fiber, FiberError, FiberState, StopReason, assemble


def asm(text):
    return assemble(text.replace(" | ", "\n"))


def in_child(body):
    "Runs a function in a child; raises what it raised as text."
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException as error:
            import traceback
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    def join():
        text = open(reader, "rb").read().decode()
        ended = os.waitpid(pid, 0)[1]
        assert ended == 0, (ended, text)
    return join


def until(condition):
    while not condition():
        pass


LOOP = "l: inc qword ptr [rdi] | cmp dword ptr [rsi], 0 | jz l | mov eax, 5 | ret"
'''
)


def check(run: Finished) -> None:
    assert (run.returncode, run.stdout, run.stderr) == (0, "fine\n", ""), run


def test_suspended_fibers_go_on_in_both(run_python: RunPython) -> None:
    """Stack, registers and events are the child's own copies."""
    script = """
code = CodeImage(asm("push rdi | int3 | pop rax | add rax, rcx | int3 | ret"))
fibers = [Fiber(code[0], (number,)) for number in range(50)]
events = [fiber.resume() for fiber in fibers]
def body(shift):
    for number, (fiber, event) in enumerate(zip(fibers, events)):
        assert event.valid and fiber.state is FiberState.SUSPENDED
        event.registers.rcx = shift
        assert fiber.resume().reason is StopReason.TRAP
        assert fiber.resume() is None
        assert fiber.result == number + shift, (fiber.result, number, shift)
join = in_child(lambda: body(1000))
body(2000)
join()
print("fine")
"""
    check(run_python(FORK + script))


def test_dropped_in_both(run_python: RunPython) -> None:
    script = """
code = CodeImage(asm("int3 | ret"))
fibers = [Fiber(code[0]) for _ in range(100)]
for fiber in fibers: fiber.resume()
def body():
    fibers.clear(); gc.collect(); trapline.trim_pool()
    for _ in range(200): Fiber(code[0]).resume()
join = in_child(body)
body()
join()
print("fine")
"""
    check(run_python(FORK + script))


def test_code_is_apart(run_python: RunPython) -> None:
    """Patches, breakpoints and appended code of one side are not seen by the other."""
    script = """
image = CodeImage(asm("a: mov eax, 7 | ret"))
patched, fresh, stopped = image.copy(), image.copy(), image.copy()
patched.patch(1, b"\\x08")
stopped.add_breakpoint("a")
def bytes_now():
    return [code.read(0, 6).hex() for code in (image, patched, fresh, stopped)]
before = bytes_now()
assert before == ["b807000000c3", "b808000000c3", "b807000000c3", "cc07000000c3"], before
def mine(number):
    patched.patch(1, bytes([number]))
    fresh.patch(1, bytes([number + 1]))
    stopped.remove_breakpoint("a")
    fresh.add_breakpoint(5)
    at = image.append(asm(f"b: mov eax, {number} | ret"))
    assert [code["b"]() for code in (image, patched, fresh, stopped)] == [number] * 4
    assert (image["a"](), patched["a"](), stopped["a"]()) == (7, number, 7)
    fiber = Fiber(fresh["a"])
    event = fiber.resume()
    assert event.reason is StopReason.BREAKPOINT and event.where == "a+0x5", str(event)
    assert fiber.resume() is None and fiber.result == number + 1
    return bytes_now()
ready, go = os.pipe(), os.pipe()
def body():
    mine(20)
    os.write(ready[1], b"r")
    os.read(go[0], 1)
    assert bytes_now() == ["b807000000c3", "b814000000c3", "b815000000cc", "b807000000c3"], bytes_now()
    assert image["b"]() == patched["b"]() == fresh["b"]() == 20
join = in_child(body)
os.read(ready[0], 1)
assert bytes_now() == before, bytes_now()
assert "b" not in image.labels
assert mine(40) == ["b807000000c3", "b828000000c3", "b829000000cc", "b807000000c3"]
os.write(go[1], b"g")
join()
print("fine")
"""
    check(run_python(FORK + script))


def test_many_pages_and_copies(run_python: RunPython) -> None:
    """Copies with own pages in between shared ones, stepping copies and slots included, in two generations of forks."""
    script = """
page = bytes.fromhex("b807000000c3").ljust(4096, b"\\x90")
image = CodeImage(page * 8)
copy = image.copy()
for index in (1, 3, 6):
    copy.patch(index * 4096 + 1, bytes([index + 100]))
copy.add_breakpoint(2 * 4096)
fiber = Fiber(copy[4 * 4096])
fiber.step()
def body(depth):
    image.append(page * 2)
    assert [copy[index * 4096]() for index in (0, 1, 3, 4, 6, 7, 8, 9)] == [7, 101, 103, 7, 106, 7, 7, 7]
    event = Fiber(copy[2 * 4096]).resume()
    assert event.reason is StopReason.BREAKPOINT
    assert event.fiber.resume() is None and event.fiber.result == 7
    other = Fiber(copy[5 * 4096])
    assert other.step().reason is StopReason.STEP and other.step() is None and other.result == 7
    if depth:
        inner = in_child(lambda: body_again())
        inner()
    copy.patch(1, bytes([depth + 50]))
    assert copy[0]() == depth + 50
def body_again():
    image.append(page)
    copy.patch(4097, b"\\x09")
    assert (copy[0](), copy[4096](), copy[10 * 4096]()) == (7, 9, 7)
join = in_child(lambda: body(1))
body(0)
join()
assert fiber.step() is None and fiber.result == 7
print("fine")
"""
    check(run_python(FORK + script))


def test_parent_patches_at_once(run_python: RunPython) -> None:
    """What the parent patches right after the fork is never seen by the child."""
    script = """
image = CodeImage(bytes.fromhex("b807000000c3") * 50)
for _ in range(60):
    copy = image.copy(breakpoints=64)
    copy.patch(1, b"\\x08")
    def body():
        assert copy.read(1, 1) == b"\\x08", copy.read(1, 1)
        assert copy[0]() == 8
    join = in_child(body)
    copy.patch(1, b"\\x09")
    join()
    assert copy[0]() == 9
print("fine")
"""
    check(run_python(FORK + script))


@pytest.mark.parametrize("gil", ["lazy", "release"])
def test_running_fiber_is_lost(run_python: RunPython, gil: str) -> None:
    """A fiber that another thread runs at the fork is LOST in the child, and says so; in the parent it goes on."""
    script = f"""
code = CodeImage(asm(LOOP))
count, stop = ctypes.c_uint64(), ctypes.c_uint32()
fiber = Fiber(code[0], (ctypes.addressof(count), ctypes.addressof(stop)), gil={gil!r})
thread = threading.Thread(target=fiber.resume)
thread.start()
until(lambda: count.value)
""" + """
def body():
    assert fiber.state is FiberState.LOST, fiber.state
    for use in (fiber.resume, fiber.unwind, fiber.interrupt, fiber.step, fiber.skip, lambda: next(fiber),
                lambda: fiber.registers.rax, lambda: fiber.result, lambda: fiber.run(lambda event: None),
                lambda: fiber.grow_stack(4096), lambda: fiber.last_event(), lambda: setattr(fiber, "pc", 1)):
        try:
            use()
        except FiberError as error:
            assert "lost" in str(error), error
        else:
            raise AssertionError(use)
    value = count.value
    other = Fiber(code[0], (ctypes.addressof(count), ctypes.addressof(stop)), gil="release")
    stop.value = 1
    assert other.resume() is None and other.result == 5
for _ in range(10):
    in_child(body)()
until(lambda: fiber.state is FiberState.RUNNING)
stop.value = 1
thread.join()
assert fiber.state is FiberState.FINISHED and fiber.result == 5
print("fine")
"""
    check(run_python(FORK + script))


def test_in_an_event_handler(run_python: RunPython) -> None:
    """fork() in a handler: both sides return from it into native code, nested calls included."""
    script = """
code = CodeImage(asm("inner: int3 | mov eax, 5 | ret | outer: int3 | mov eax, 6 | int3 | ret"))
pids = []
def fork(event):
    pids.append(os.fork())
inner = code.function("inner", handler=fork)
outer = code.function("outer", handler=lambda event: (None if pids else inner()) and None)
assert outer() == 6 and len(pids) == 1
if pids[0] == 0:
    os._exit(inner() + outer())
assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 11
print("fine")
"""
    # The child forks once more in its own inner(): the grandchild ends with 11 as well.
    check(run_python(FORK + script))


def test_in_a_python_signal_handler(run_python: RunPython) -> None:
    """fork() in a signal handler in the middle of native code: the child goes on there too, and nothing is lost."""
    script = """
code = CodeImage(asm(LOOP))
count, stop = ctypes.c_uint64(), ctypes.c_uint32()
fiber = Fiber(code[0], (ctypes.addressof(count), ctypes.addressof(stop)))
pids = []
def on_alarm(number, frame):
    pids.append(os.fork())
    assert fiber.state is FiberState.RUNNING, fiber.state
    stop.value = 1
signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.05)
assert fiber.resume() is None and fiber.result == 5
if pids[0] == 0:
    stop.value = 0
    Fiber(code[0], (ctypes.addressof(count), ctypes.addressof(stop))).interrupt()
    os._exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 3
print("fine")
"""
    check(run_python(FORK + script))


@pytest.mark.parametrize("from_thread", [False, True])
def test_ticker_and_interrupts_work_in_the_child(run_python: RunPython, from_thread: bool) -> None:
    """An endless loop in the child: SIGALRM ends it, other threads run beside it, interrupt() stops it."""
    script = """
code = CodeImage(asm("l: jmp l"))
Fiber(code[0]).interrupt()
CodeImage(bytes.fromhex("c3"))[0]()
class Alarm(Exception): pass
def on_alarm(number, frame): raise Alarm
signal.signal(signal.SIGALRM, on_alarm)
def body():
    for _ in range(3):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            code[0]()
        except Alarm:
            pass
        else:
            raise AssertionError
    fiber = Fiber(code[0])
    thread = threading.Thread(target=lambda: (until(lambda: fiber.state is FiberState.RUNNING), fiber.interrupt()))
    thread.start()
    assert fiber.resume().reason is StopReason.INTERRUPT
    thread.join()
"""
    fork = "in_child(body)()\n"
    if from_thread:
        fork = "failed = []\ndef run():\n    try: in_child(body)()\n"
        fork += "    except BaseException as error: failed.append(error)\n"
        fork += "thread = threading.Thread(target=run); thread.start(); thread.join(); assert not failed, failed\n"
    check(run_python(FORK + script + fork + "body()\nprint('fine')\n"))


def test_stack_overflow_in_the_child(run_python: RunPython) -> None:
    """The guard of a fiber's stack is inherited."""
    script = """
code = CodeImage(asm("l: push rax | jmp l"))
fibers = [Fiber(code[0]) for _ in range(3)]
def body():
    for fiber in (*fibers, Fiber(code[0])):
        event = fiber.resume()
        assert event.trap is trapline.TrapCode.STACK_OVERFLOW, str(event)
        fiber.grow_stack(1 << 20)
        assert fiber.resume().trap is trapline.TrapCode.STACK_OVERFLOW
join = in_child(body)
body()
join()
print("fine")
"""
    check(run_python(FORK + script))


def test_without_descriptors(run_python: RunPython) -> None:
    """A child that cannot have memory of its own for a patched copy says so, and the parent keeps its own."""
    script = """
import resource
image = CodeImage(bytes.fromhex("b807000000c3"))
copy = image.copy()
copy.patch(1, b"\\x08")
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
used = max(map(int, os.listdir("/proc/self/fd")))
reader, writer = os.pipe()
resource.setrlimit(resource.RLIMIT_NOFILE, (writer + 1, hard))
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
pid = os.fork()
if pid == 0:
    failed = []
    for use in (lambda: copy.patch(1, b"\\x09"), lambda: copy.add_breakpoint(0), lambda: image.append(b"\\xc3")):
        try:
            use()
        except trapline.TraplineError as error:
            failed.append(str(error))
    os.write(writer, repr(failed).encode())
    os._exit(0)
os.close(writer)
text = os.read(reader, 9999).decode()
assert os.waitpid(pid, 0)[1] == 0, text
assert len(eval(text)) == 3, text
assert copy[0]() == 8 and image[0]() == 7
print("fine")
"""
    check(run_python(FORK + script))


def test_multiprocessing(run_python: RunPython) -> None:
    """Pools of forked workers share the code, and each traps for itself."""
    script = """
import multiprocessing
code = CodeImage(asm("mov eax, edi | cdq | idiv esi | ret"))
def quotient(*pair):
    return code[0](*pair)
def divide(pair):
    try:
        return code[0](*pair)
    except trapline.Trap as trap:
        return trap.code.name
if __name__ == "__main__":
    divide((1, 0))
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(divide, [(42, 6), (1, 0), (9, 3)] * 20) == [7, "DIVISION", 3] * 20
        try:
            pool.apply(quotient, (1, 0))
        except trapline.Trap as trap:
            assert trap.code is trapline.TrapCode.DIVISION and "division" in str(trap)
        else:
            raise AssertionError
    print("fine")
"""
    check(run_python(FORK + script, options=["-W", "ignore::DeprecationWarning"]))


def test_other_programs(run_python: RunPython) -> None:
    """subprocess, posix_spawn and system start programs with default signal handling while fibers are suspended."""
    script = """
import subprocess
code = CodeImage(asm("int3 | ret"))
copy = code.copy()
copy.add_breakpoint(1)
fibers = [Fiber(copy[0]) for _ in range(5)]
for fiber in fibers: fiber.resume()
look = ("import signal; print([s.name for s in (signal.SIGSEGV, signal.SIGTRAP, signal.SIGURG) "
        "if signal.getsignal(s) is not signal.SIG_DFL])")
for extra in ({}, {"preexec_fn": lambda: None}, {"close_fds": False}, {"start_new_session": True}):
    assert subprocess.run([sys.executable, "-c", look], stdout=-1, **extra).stdout == b"[]\\n"
pid = os.posix_spawn(sys.executable, [sys.executable, "-c", "raise SystemExit(7)"], os.environ)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert os.waitstatus_to_exitcode(os.system("exit 3")) == 3
for fiber in fibers:
    assert fiber.resume().reason is StopReason.BREAKPOINT
    assert fiber.resume() is None
print("fine")
"""
    check(run_python(FORK + script))


def test_threads_fork_while_others_run(run_python: RunPython) -> None:
    """Forks amid threads that trap, patch and append: no lock is inherited held."""
    script = """
stop = False
image = CodeImage(asm("int3 | mov eax, 7 | ret"))
failed = []
def guarded(work):
    def run():
        try:
            while not stop: work()
        except BaseException as error:
            failed.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    return thread
def trap():
    fiber = Fiber(image[0]); fiber.resume(); fiber.resume()
def patch():
    copy = image.copy(breakpoints=16); copy.add_breakpoint(1); copy.remove_breakpoint(1)
def append():
    CodeImage(b"\\xc3").append(b"\\xc3")
threads = [guarded(work) for work in (trap, patch, append)]
def body():
    trap(); patch(); append()
for _ in range(25):
    in_child(body)()
stop = True
for thread in threads: thread.join()
assert not failed, failed
print("fine")
"""
    check(run_python(FORK + script, options=["-W", "ignore::DeprecationWarning"]))
