"""Python's faulthandler beside our fault handlers.

`faulthandler.enable` would put its handlers over ours and take native traps for crashes; `faulthandler.disable`
would take ours away together with its own. Both are wrapped: every thread is brought out of native code, our handlers
step aside, the real function runs, ours go back on top. A crash that is not ours still reaches faulthandler.

`sys.setswitchinterval` is wrapped too, so that native code keeps the GIL for as long as Python code does.
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
        return native.run_with_handlers_aside(lambda: function(*args, **kwargs), tuning.PARK_TIMEOUT_US)

    return wrapped


def _followed(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        result = function(*args, **kwargs)
        native.set_switch_interval(sys.getswitchinterval())
        return result

    return wrapped


def wrap_faulthandler() -> None:
    """Wrap faulthandler.enable and disable and sys.setswitchinterval, once."""
    if not hasattr(faulthandler.enable, "__wrapped__"):
        faulthandler.enable = _aside(faulthandler.enable)
        faulthandler.disable = _aside(faulthandler.disable)
    if not hasattr(sys.setswitchinterval, "__wrapped__"):
        sys.setswitchinterval = _followed(sys.setswitchinterval)
    native.set_switch_interval(sys.getswitchinterval())
