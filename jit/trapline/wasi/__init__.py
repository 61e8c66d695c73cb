"""WASI preview 1: the system that command-line programs compiled to WebAssembly expect.

abi, errno      numbers and layouts of the interface | errnos, and what errors of the host become
guest           the guest's memory, every pointer checked
descriptor      what an open thing can be asked, and the table of file descriptors
host, beneath   files of the host | how a path stays beneath its directory
in_memory       files that live in this process
streams, sockets, clocks   stdin, stdout, stderr | sockets and sock_* | time and random bytes
files, paths, poll   the functions fd_* | path_* | poll_oneoff
process         the functions args_*, environ_*, clock_*, random_get, proc_*, sched_yield
config, system  WasiConfig | Wasi

Source: wasi_snapshot_preview1.witx and typenames.witx, in legacy/preview1 of the WASI repository.
"""

from trapline.wasi.config import WasiConfig
from trapline.wasi.system import Wasi

__all__ = ["Wasi", "WasiConfig"]
