"""What an x86-64 processor can do beyond the baseline that every one of them has (SSE2).

CPUID cannot be asked from Python; Linux lists its answers, with what the kernel withholds taken away.

Source: Intel SDM volume 2, CPUID; arch/x86/include/asm/cpufeatures.h for the names ("abm" stands for LZCNT).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Features", "host_features"]

_CPUINFO: Final = Path("/proc/cpuinfo")
_FLAGS: Final = {"lzcnt": "abm", "bmi1": "bmi1", "popcnt": "popcnt", "sse41": "sse4_1"}


@dataclass(frozen=True, slots=True)
class Features:
    """Instructions that code may use. The default is the baseline, right on every processor.

    lzcnt   LZCNT, which elsewhere runs as BSR and gives other numbers
    bmi1    TZCNT, which elsewhere runs as BSF and gives nothing for 0
    popcnt  POPCNT
    sse41   ROUNDSS and ROUNDSD
    """

    lzcnt: bool = False
    bmi1: bool = False
    popcnt: bool = False
    sse41: bool = False


def features_of(cpuinfo: str) -> Features:
    """From the text of /proc/cpuinfo: what all of its processors can do."""
    common: set[str] | None = None
    for line in cpuinfo.splitlines():
        name, colon, flags = line.partition(":")
        if colon and name.strip() == "flags":
            common = set(flags.split()) if common is None else common & set(flags.split())
    return Features(**{feature: flag in (common or ()) for feature, flag in _FLAGS.items()})


@functools.cache
def host_features() -> Features:
    """This machine's; the baseline where they cannot be read."""
    try:
        return features_of(_CPUINFO.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return Features()
