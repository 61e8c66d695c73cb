"""Modules from text, and instances of them, at every level."""

from __future__ import annotations

from typing import Any

import pytest

from trapline import Config, Engine, Instance, Module, Store, parse_text

__all__ = ["LEVELS", "instance"]

LEVELS = (Config(), Config(debug="live"), Config(memories="checked"))
IDS = ("full", "live", "checked")

every_level = pytest.mark.parametrize("config", LEVELS, ids=IDS)


def instance(text: str, imports: Any = (), config: Config | None = None, store: Store | None = None) -> Instance:
    """An instance of a module in the text format."""
    store = Store(Engine(config)) if store is None else store
    return Instance(store, Module(store.engine, parse_text(text)), imports)
