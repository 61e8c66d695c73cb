"""Python's faulthandler beside our fault handlers.

`faulthandler.enable` would put its handlers over ours and take native traps for crashes; `faulthandler.disable`
would take ours away together with its own. Both are wrapped: every thread is brought out of native code, our handlers
step aside, the real function runs, ours go back on top. A crash that is not ours still reaches faulthandler.
"""

from __future__ import annotations

import faulthandler
import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from trapline import native, tuning

__all__ = ["wrap_faulthandler"]

P = ParamSpec("P")
R = TypeVar("R")


def _aside(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with native.handlers_aside(tuning.PARK_TIMEOUT_US):
            return function(*args, **kwargs)

    return wrapped


def wrap_faulthandler() -> None:
    """Wrap faulthandler.enable and disable, once."""
    if not hasattr(faulthandler.enable, "__wrapped__"):
        faulthandler.enable = _aside(faulthandler.enable)
        faulthandler.disable = _aside(faulthandler.disable)
    native.set_switch_interval(sys.getswitchinterval())
