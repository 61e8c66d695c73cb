"""WebAssembly code in processes that fork, recurse without end, are interrupted everywhere and exit in the middle."""

from __future__ import annotations

import pytest

from tests.conftest import Finished, RunPython
from tests.crash.scripts import PRELUDE, x86_64_only

pytestmark = x86_64_only

START = (
    PRELUDE
    + r'''
import random, time
os.environ["TRAPLINE_CHECK"] = "0"  # the checker is imported when it is first asked for, which fails at exit
from trapline import *

WASM = parse_text("""(module (import "m" "f" (func $f (param i32) (result i32))) (memory (export "memory") 1 1000)
    (table (export "table") 10 funcref) (elem (i32.const 0) $g)
    (func $g (export "g") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
    (func $trap (export "trap") (param i32) (result i32) (i32.div_s (i32.const 1) (local.get 0)))
    (func (export "count") (param i32) (result i32) (local i32)
        (loop $again
            (local.set 1 (i32.add (local.get 1) (i32.const 1)))
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 1)))""")


def made(engine, host=lambda x: x, module=None):
    return Instance(Store(engine), Module(engine, WASM) if module is None else module, [host])


def use(instance):
    exports = instance.exports
    assert exports.g(5) == 6 and exports.count(100) == 100 and exports.table[0](3) == 4
    try:
        exports.trap(0)
    except WasmTrap as error:
        assert (error.reason, error.frames[0].label) == (WasmTrapCode.DIVIDE_BY_ZERO, "trap"), error
    else:
        raise AssertionError
    call = exports.trap.start(0)
    for event in call:
        assert list(event.frames[0].locals) == [0]
        event.skip(4)
    assert call.result == 4


def in_child(function):
    """Runs it in a forked child, which must end well in 10 seconds."""
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        try:
            function()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
'''
)


def check(run: Finished) -> None:
    assert (run.returncode, run.stdout, run.stderr) == (0, "fine\n", ""), run


@pytest.mark.parametrize("stack_kib", [256, 1024, 8192])
def test_recursion_through_the_host_ends_before_the_stack_does(run_python: RunPython, stack_kib: int) -> None:
    script = f"""
sys.setrecursionlimit(100_000)
threading.stack_size({stack_kib} << 10)
engine = Engine()
deepest = []


def again(x):
    deepest.append(x)
    return instance.exports.g(x + 1)


instance = made(engine, again)


def run():
    try:
        instance.exports.g(0)
    except RecursionError as error:
        own = "maximum recursion depth exceeded"  # from 3.12 on CPython counts calls through C, and may be first
        assert "have filled the stack of the thread" in str(error) or own in str(error), error
        assert deepest[-1] > {stack_kib} / 4, deepest[-1]
        use(made(engine))
        print("fine")


thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    check(run_python(START + script))


def test_children_forked_while_other_threads_compile(run_python: RunPython) -> None:
    """The locks of the threads that are not in the child are open there."""
    script = """
engine = Engine()
shared = [Module(engine, WASM)]
stop = []


def compile_always():
    while not stop:
        shared[0] = Module(engine, WASM)
        use(made(engine, module=shared[0]))


threads = [threading.Thread(target=compile_always) for _ in range(2)]
for thread in threads: thread.start()
for _ in range(40):
    in_child(lambda: (use(made(engine, module=shared[0])), use(made(engine))))
stop.append(1)
for thread in threads: thread.join()
print("fine")
"""
    check(run_python(START + script))


def test_a_fork_in_a_host_function(run_python: RunPython) -> None:
    """Both processes return through the code, compile, trap, and do not see each other's."""
    script = """
engine = Engine()
children = []


def fork(x):
    children.append(os.fork())
    return x


instance = made(engine, fork)
assert instance.exports.g(1) == 2
instance.exports.memory[0] = 1 + (children[0] == 0)
use(made(engine, module=instance.module))
if not children[0]:
    os._exit(40 + instance.exports.memory[0])
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 42
assert instance.exports.memory[0] == 1
print("fine")
"""
    check(run_python(START + script))


@pytest.mark.parametrize("gil", ["lazy", "release"])
def test_signal_handlers_do_everything_everywhere(run_python: RunPython, gil: str) -> None:
    """Handlers call, trap, instantiate, compile, collect and fork in the middle of all of that."""
    script = f"""
engine = Engine(Config(gil={gil!r}))
chance = random.Random(1)
modules, instances, depth, rung = [], [], [0], [0]


def fresh():
    modules.append(Module(engine, WASM))
    instances.append(made(engine, module=modules[-1]))
    use(instances[-1])
    del modules[:-3], instances[:-3]


def ring(*_):
    if depth[0] > 2 or not instances:
        return
    depth[0] += 1
    rung[0] += 1
    try:
        chance.choice([
            lambda: use(instances[-1]),
            lambda: use(made(engine, module=modules[-1])),
            lambda: use(made(engine)),
            gc.collect,
            lambda: in_child(lambda: use(made(engine, module=modules[-1]))),
            lambda: threading.Thread(target=use, args=[made(engine, module=modules[-1])]).start(),
        ])()
    finally:
        depth[0] -= 1


signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
until = time.monotonic() + 4
while time.monotonic() < until: fresh()
signal.setitimer(signal.ITIMER_REAL, 0)
assert rung[0] > 20, rung
print("fine")
"""
    check(run_python(START + script))


@pytest.mark.parametrize("path", ["inject", "direct"])
def test_exceptions_of_signal_handlers_at_every_moment(run_python: RunPython, path: str) -> None:
    """Wherever one falls, in compiling, instantiating, calls or traps, the next round is right."""
    script = f"""
class Alarm(Exception):
    pass


def ring(*_):
    raise Alarm


engine = Engine(Config(path={path!r}))
chance = random.Random(2)
modules = [Module(engine, WASM) for _ in range(3)]
signal.signal(signal.SIGALRM, ring)
rung = 0
until = time.monotonic() + 5
while time.monotonic() < until:
    try:
        # Repeated: an exception that falls into a finaliser or a callback of Python's is printed and lost.
        signal.setitimer(signal.ITIMER_REAL, chance.choice([1e-3, 2e-2]) * chance.uniform(0.01, 1), 0.3)
        modules[chance.randrange(3)] = Module(engine, WASM)
        while True:
            use(made(engine, module=chance.choice(modules)))
    except Alarm:
        rung += 1
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            break
        except Alarm:
            pass
for module in modules: use(made(engine, module=module))
assert rung > 50, rung
print("fine")
"""
    check(run_python(START + script))


def test_exit_in_the_middle(run_python: RunPython) -> None:
    """Suspended calls, kept frames, daemon threads in loops and in traps, finalisers that call: all are left behind."""
    script = """
import atexit


class Last:
    def __init__(self, function):
        self.function = function

    def __del__(self):
        assert self.function(5) == 6


engine = Engine()
instance, looped, trapping, other = made(engine), made(engine), made(engine), made(engine)
call = instance.exports.trap.start(0)
event = next(call)
values = event.frames[0].locals
atexit.register(lambda: print("fine" if list(values) == [0] else values))
threading.Thread(target=looped.exports.count, args=[0], daemon=True).start()
trapping.store.set_trap_handler(lambda event: time.sleep(1000))
threading.Thread(target=trapping.exports.trap, args=[0], daemon=True).start()
other.store.data = last = Last(other.exports.g)
sys.modules["last"] = Last(made(engine).exports.g)
cycle = made(engine)
cycle.store.data = Last(cycle.exports.g)
del cycle
gc.collect()
time.sleep(0.1)
"""
    check(run_python(START + script))
