"""A crash that is not native code's stays what it was: the same signal, the same traceback, the same handlers."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.conftest import Finished, RunPython
from tests.crash.scripts import PRELUDE, x86_64_only

pytestmark = x86_64_only

CRASHES = {
    "null store": "SIGSEGV",
    "null jump": "SIGSEGV",
    "ud2": "SIGILL",
    "int3": "SIGTRAP",
    "division": "SIGFPE",
    "hlt": "SIGSEGV",
    "bus": "SIGBUS",
    "stack overflow": "SIGSEGV",
    "abort": "SIGABRT",
    "kill SEGV": "SIGSEGV",
    "kill TRAP": "SIGTRAP",
    "raise FPE": "SIGFPE",
}
FATAL = {
    "SIGSEGV": "Segmentation fault",
    "SIGILL": "Illegal instruction",
    "SIGFPE": "Floating(?:-| )point exception",
    "SIGBUS": "Bus error",
    "SIGABRT": "Aborted",
}
# Where faulthandler.enable() stands relative to the import.
ORDERS = {
    "no faulthandler": "import trapline\n",
    "faulthandler first": "faulthandler.enable()\nimport trapline\n",
    "faulthandler last": "import trapline\nfaulthandler.enable()\n",
    "faulthandler unwrapped": "enable = faulthandler.enable\nimport trapline\nenable()\n",
    "faulthandler twice": "faulthandler.enable()\nimport trapline\nfaulthandler.disable()\nfaulthandler.enable()\n",
}


def check_death(run: Finished, died_of: str, traceback: bool) -> None:
    """It died of that signal, with one traceback of faulthandler or with none."""
    assert run.died_of == died_of, run
    assert "still alive" not in run.stdout, run
    count = len(re.findall("Fatal Python error", run.stderr))
    if traceback and died_of in FATAL:  # faulthandler leaves SIGTRAP alone
        assert count == 1, run
        assert re.search(f"Fatal Python error: {FATAL[died_of]}", run.stderr), run
        assert "script.py" in run.stderr, run
    else:
        assert count == 0, run


@pytest.mark.parametrize("order", ["no faulthandler", "faulthandler first", "faulthandler last"])
@pytest.mark.parametrize("kind", CRASHES)
def test_after_native_traps(run_python: RunPython, kind: str, order: str) -> None:
    script = PRELUDE + ORDERS[order] + f"trap_a_little()\ncrash({kind!r})\n"
    run = run_python(script, core=False)
    # The C stack overflow of faulthandler's own platform support: it has an alternate stack on the main thread.
    check_death(run, CRASHES[kind], order != "no faulthandler")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "where",
    [
        "crash(KIND)",
        "t = threading.Thread(target=crash, args=(KIND,)); t.start(); t.join()",
        "trap_a_little(); t = threading.Thread(target=crash, args=(KIND,)); t.start(); t.join()",
        "t = threading.Thread(target=lambda: (trap_a_little(), crash(KIND))); t.start(); t.join()",
        "trap_a_little(); pid = os.fork(); pid or crash(KIND); "
        "status = os.waitpid(pid, 0)[1]; os.kill(os.getpid(), os.WTERMSIG(status)) if pid else None",
        "pid = os.fork(); pid or (trap_a_little(), crash(KIND)); "
        "faulthandler.disable(); status = os.waitpid(pid, 0)[1]; os.kill(os.getpid(), os.WTERMSIG(status))",
    ],
    ids=["at once", "other thread", "other thread after traps", "thread with traps", "fork", "fork with traps"],
)
def test_where(run_python: RunPython, where: str, order: str) -> None:
    """In threads that never ran native code, in those that did, and in the children of forks."""
    script = PRELUDE + ORDERS[order] + where.replace("KIND", "'null store'") + "\n"
    if "fork" in where:
        script = script.replace("status = os.waitpid", "faulthandler.disable(); status = os.waitpid")
    run = run_python(script, core=False)
    check_death(run, "SIGSEGV", order != "no faulthandler")


def test_interpreter_option(run_python: RunPython) -> None:
    script = PRELUDE + "import trapline\ntrap_a_little()\nassert faulthandler.is_enabled()\ncrash('ud2')\n"
    check_death(run_python(script, core=False, options=["-X", "faulthandler"]), "SIGILL", True)


def test_disabled_faulthandler_stays_silent(run_python: RunPython) -> None:
    script = (
        PRELUDE
        + """
faulthandler.enable()
import trapline
faulthandler.disable()
assert not faulthandler.is_enabled()
trap_a_little()
crash("null store")
"""
    )
    check_death(run_python(script, core=False), "SIGSEGV", False)


def test_library_function_on_the_fiber(run_python: RunPython) -> None:
    """A crash inside a C function that native code called is a crash of that function."""
    script = (
        PRELUDE
        + """
faulthandler.enable()
import trapline
memset = ctypes.cast(libc.memset, ctypes.c_void_p).value
code = trapline.CodeImage(trapline.assemble(
    "sub rsp, 8\\nxor edi, edi\\nmov esi, 1\\nmov edx, 1\\nmov rax, memset\\ncall rax\\nadd rsp, 8\\nret",
    symbols={"memset": memset}))
trap_a_little()
code[0]()
"""
    )
    check_death(run_python(script, core=False), "SIGSEGV", True)


# A handler in machine code, called as handler(signal, siginfo, ucontext): says "T" on stderr, then END.
THIRD = """
def says_t(end):
    import trapline
    return trapline.assemble('''
        push rdi
        push rsi
        push rdx
        mov eax, 1
        mov edi, 2
        lea rsi, [rip + text]
        mov edx, 1
        syscall
        pop rdx
        pop rsi
        pop rdi
    ''' + end + '''
    text: .ascii "T"
    ''').code

EXIT = "mov edi, 42\\nmov eax, 231\\nsyscall"  # exit_group
SKIP = "add qword ptr [rdx + 168], 2\\nret"  # ucontext rip: go on two bytes further
CHAIN = "mov rax, {}\\njmp rax"
"""
# says_t imports trapline; these come before it is imported by a script that assembles in a child.
BEFORE_IMPORT = (
    THIRD
    + """
import subprocess
def assembled(name):
    text = ("import sys; sys.path[:0] = %r\\n" % sys.path + source + "\\nprint(says_t(%s).hex())" % name)
    return bytes.fromhex(subprocess.run([sys.executable, "-c", text], stdout=-1, check=True).stdout.decode())
"""
)


def third_script(body: str, first: str = "import trapline\n") -> str:
    return PRELUDE + f"source = {THIRD!r}\n" + BEFORE_IMPORT + first + body


@pytest.mark.parametrize("place", ["before", "after"])
def test_other_handler_gets_foreign_faults(run_python: RunPython, place: str) -> None:
    """Somebody's handler for SIGSEGV, installed before or after ours, ends the process as it likes."""
    install = "third_party(signal.SIGSEGV, assembled('EXIT'))\n"
    first = install + "import trapline\n" if place == "before" else "import trapline\ntrap_a_little()\n" + install
    body = "trapline.install_handlers()\ntrap_a_little()\nprint('trapped', flush=True)\ncrash('null store')\n"
    run = run_python(third_script(body, first), core=False)
    assert (run.returncode, run.stdout, run.stderr) == (42, "trapped\n", "T"), run


@pytest.mark.parametrize("enabled", [True, False])
def test_other_handler_chains_to_ours(run_python: RunPython, enabled: bool) -> None:
    """Their handler calls ours, ours is put on top again: a crash reaches both, then faulthandler, and dies."""
    first = ("faulthandler.enable()\n" if enabled else "") + "import trapline\ntrap_a_little()\n"
    body = """
before = handler_of(signal.SIGSEGV)
third_party(signal.SIGSEGV, says_t(CHAIN.format(before)))
trapline.install_handlers()
assert handler_of(signal.SIGSEGV) == before
trap_a_little()
crash("null store")
"""
    run = run_python(third_script(body, first), core=False)
    check_death(run, "SIGSEGV", enabled)
    assert run.stderr.startswith("T"), run


def test_other_handler_mends(run_python: RunPython) -> None:
    """A handler that changes the ucontext and returns: the crash never happened."""
    body = """
third_party(signal.SIGILL, says_t(SKIP))
trapline.install_handlers()
skipped = raw(bytes.fromhex("0f0bb807000000c3"))
for _ in range(20):
    assert skipped() == 7
    trap_a_little()
print("fine")
"""
    run = run_python(third_script(body))
    assert (run.returncode, run.stdout, run.stderr) == (0, "fine\n", "T" * 20), run


def test_handler_for_one_time(run_python: RunPython) -> None:
    """SA_RESETHAND: the handler is called once, the second fault takes the default action."""
    body = """
third_party(signal.SIGILL, says_t(SKIP), SA_SIGINFO | SA_ONSTACK | SA_RESETHAND)
trapline.install_handlers()
skipped = raw(bytes.fromhex("0f0bb807000000c3"))
assert skipped() == 7
trap_a_little()
print("once", flush=True)
skipped()
"""
    run = run_python(third_script(body), core=False)
    assert (run.died_of, run.stdout, run.stderr) == ("SIGILL", "once\n", "T"), run


def test_ignored_signal(run_python: RunPython) -> None:
    """SIG_IGN stays: a SIGSEGV that is sent is nothing, one that is a fault kills, as without us."""
    script = (
        PRELUDE
        + """
signal.signal(signal.SIGSEGV, signal.SIG_IGN)
import trapline
trap_a_little()
os.kill(os.getpid(), signal.SIGSEGV)
trap_a_little()
print("ignored", flush=True)
ctypes.memset(0, 1, 1)
"""
    )
    run = run_python(script, core=False)
    assert (run.died_of, run.stdout) == ("SIGSEGV", "ignored\n"), run


@pytest.mark.parametrize("place", ["before", "after"])
def test_python_handler(run_python: RunPython, place: str) -> None:
    """signal.signal(SIGSEGV, ...) sees the signals that are sent, and no native trap."""
    handle = "seen = []\nsignal.signal(signal.SIGSEGV, lambda number, frame: seen.append(number))\n"
    script = PRELUDE + (handle + "import trapline\n" if place == "before" else "import trapline\n" + handle)
    script += """
trapline.install_handlers()
for _ in range(5):
    trap_a_little()
    os.kill(os.getpid(), signal.SIGSEGV)
assert seen == [signal.SIGSEGV] * 5, seen
print("fine")
"""
    run = run_python(script)
    assert (run.returncode, run.stdout) == (0, "fine\n"), run


def test_registered_traceback(run_python: RunPython) -> None:
    """faulthandler.register: a signal in the middle of native code prints the stacks, and the code goes on."""
    script = (
        PRELUDE
        + """
import trapline
faulthandler.register(signal.SIGUSR1, all_threads=False)
count = ctypes.c_uint64()
loop = trapline.CodeImage(trapline.assemble('''
    l: inc qword ptr [rdi]
    cmp dword ptr [rsi], 0
    jz l
    ret
'''))
stop = ctypes.c_uint32()
main = threading.main_thread().ident
def other():
    while not count.value:
        pass
    for _ in range(3):
        signal.pthread_kill(main, signal.SIGUSR1)
    stop.value = 1
thread = threading.Thread(target=other)
thread.start()
loop[0](ctypes.addressof(count), ctypes.addressof(stop))
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
print("fine")
"""
    )
    run = run_python(script)
    assert (run.returncode, run.stdout) == (0, "fine\n"), run
    assert run.stderr.count("most recent call first") >= 2, run


WASM = """
import wasmtime
def wasm_trap(times):
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, '(module (memory 1) (func (export "u") unreachable) '
        '(func (export "m") (drop (i32.load (i32.const 0x7fffffff)))) '
        '(func (export "d") (drop (i32.div_s (i32.const 1) (i32.const 0)))))')
    instance = wasmtime.Instance(store, module, [])
    for _ in range(times):
        for name in "umd":
            try:
                instance.exports(store)[name](store)
            except wasmtime.Trap:
                continue
            raise AssertionError(name)
"""


@pytest.mark.skipif(importlib.util.find_spec("wasmtime") is None, reason="wasmtime is not installed")
@pytest.mark.parametrize("first", ["wasmtime", "trapline"])
def test_wasmtime_beside_us(run_python: RunPython, first: str) -> None:
    """Two runtimes that trap by signals in one process, each getting its own."""
    second = "trapline" if first == "wasmtime" else "wasmtime"
    warm = {"wasmtime": "wasm_trap(2)\n", "trapline": "trap_a_little()\n"}
    script = PRELUDE + WASM + "import trapline\n" + warm[first] + warm[second] + "trapline.install_handlers()\n"
    script += """
for _ in range(20):
    trap_a_little()
    wasm_trap(2)
threads = [threading.Thread(target=f, args=a) for f, a in [(wasm_trap, (30,)), (trap_a_little, ())] * 2]
[t.start() for t in threads]
[t.join() for t in threads]
print("fine", flush=True)
crash("null store")
"""
    run = run_python(script, core=False)
    assert run.stdout == "fine\n", run
    assert run.died_of == "SIGSEGV", run


@pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="numpy is not installed")
def test_numpy_beside_us(run_python: RunPython) -> None:
    script = (
        PRELUDE
        + """
import trapline
import numpy
with numpy.errstate(all="raise"):
    for _ in range(5):
        trap_a_little()
        try:
            numpy.float64(1) / numpy.float64(0)
        except FloatingPointError:
            continue
        raise AssertionError
assert numpy.longdouble(3) / 2 == 1.5
print("fine")
"""
    )
    run = run_python(script)
    assert (run.returncode, run.stdout) == (0, "fine\n"), run
