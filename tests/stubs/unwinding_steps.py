"""Run by gdb: stops a program at every instruction of every stub and looks for tl_fiber_run in the backtrace.

Prints one line `place <address> <stub> ok`, or `wrong` and the frames, for each instruction that was reached.
"""

import gdb

STUBS = ("enter", "exit", "inject", "resume", "check", "host", "resume_host", "unwind", "leave_handler")

for setting in ("pagination off", "confirm off", "debuginfod enabled off"):
    gdb.execute(f"set {setting}")
for signal in ("SIGSEGV", "SIGURG"):
    gdb.execute(f"handle {signal} nostop noprint pass", to_string=True)


def callers() -> list[str]:
    names = []
    frame = gdb.selected_frame()
    try:
        while frame is not None and len(names) < 12:
            names.append(frame.name() or "?")
            frame = frame.older()
    except gdb.error as error:
        names.append(str(error))
    return names


def instructions(stub: str) -> list[int]:
    """The addresses in the symbol's size, as gdb disassembles them."""
    lines = gdb.execute(f"disassemble {stub}", to_string=True).splitlines()
    return [int(line.replace("=>", "").split()[0], 16) for line in lines if line.lstrip(" =>").startswith("0x")]


gdb.execute("tbreak main", to_string=True)
gdb.execute("run all 1", to_string=True)
breakpoints = {}
for stub in STUBS:
    start = int(gdb.parse_and_eval(f"(unsigned long)&tl_stub_{stub}"))
    block = gdb.execute(f"info symbol {start}", to_string=True).split()[0]
    for pc in instructions(block):
        if pc >= start and pc not in breakpoints:
            breakpoints[pc] = (stub, gdb.Breakpoint(f"*{pc:#x}", internal=True))
while True:
    try:
        gdb.execute("continue", to_string=True)
        pc = gdb.selected_frame().pc()
    except gdb.error:
        break
    if pc not in breakpoints:
        break
    stub, breakpoint = breakpoints.pop(pc)
    names = callers()
    print(f"place {pc:#x} {stub}", "ok" if "tl_fiber_run" in names else f"wrong {names}")
    breakpoint.delete()
