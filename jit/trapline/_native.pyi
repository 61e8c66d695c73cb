"""The cffi module; native.py is its only user and gives everything in it a type."""

from typing import Any

ffi: Any
lib: Any
