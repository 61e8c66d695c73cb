"""What do copies and patches of code cost?"""

from __future__ import annotations

import trapline
from bench.floors import floors
from bench.measure import Case

TITLE = "Copies, patches, breakpoints"
SWAP = "C: one page swapped by mmap(MAP_FIXED)"
STORE = "C: one byte through a writable alias"
PAGE = 4096


def cases() -> list[Case]:
    c = floors()
    nops = b"\x90" * (PAGE - 1) + b"\xc3"
    small = trapline.CodeImage(nops * 256)
    large = trapline.CodeImage(nops * 2560)
    copy, stopped = small.copy(), small.copy()
    copy.patch(0, b"\x90")

    def first_patches(n: int) -> None:
        done = 0
        while done < n:
            fresh = small.copy()
            count = min(n - done, 256)
            for page in range(count):
                fresh.patch(page * PAGE, b"\x90")
            done += count

    def later_patches(n: int) -> None:
        for _ in range(n):
            copy.patch(0, b"\x90")

    def breakpoints(n: int) -> None:
        for _ in range(n):
            stopped.add_breakpoint(8)
            stopped.remove_breakpoint(8)

    def copies(image: trapline.CodeImage, n: int) -> None:
        for _ in range(n):
            image.copy()

    def step_copies(n: int) -> None:
        for _ in range(n):
            fresh = trapline.CodeImage(b"\x90\xc3")
            trapline.Fiber(fresh[0]).step()

    return [
        Case(SWAP, c.page_swaps),
        Case(STORE, c.alias_stores),
        Case("C: mprotect, store, mprotect", c.mprotect_pairs),
        Case("patch, first on its page", first_patches, SWAP),
        Case("patch, later on its page", later_patches, STORE),
        Case("breakpoint added and removed", breakpoints, STORE),
        Case("private copy of 1 MiB", lambda n: copies(small, n)),
        Case("private copy of 10 MiB", lambda n: copies(large, n)),
        Case("small image with its stepping copy, first step", step_copies),
    ]
