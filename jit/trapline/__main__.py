"""``python -m trapline`` is the command ``trapline``."""

from __future__ import annotations

import sys

from trapline.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
