"""The engines that run the official test scripts: a name, and what makes a new one for each script.

An engine is added by a line here; `test_spec.py` then runs every file of `files.py` on it.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.spec.embedder import Embedder
from tests.spec.reference_embedder import ReferenceEmbedder
from tests.spec.trapline_embedder import TraplineEmbedder
from trapline import Config

__all__ = ["EMBEDDERS"]

EMBEDDERS: dict[str, Callable[[], Embedder]] = {
    "reference": ReferenceEmbedder,
    "full": lambda: TraplineEmbedder(Config(debug="full")),
    "live": lambda: TraplineEmbedder(Config(debug="live")),
    "checked": lambda: TraplineEmbedder(Config(debug="live", memories="checked")),
}
