"""References in a store: Python objects as words of compiled code.

A funcref is the address of a function's record, an externref a number that stands for a Python object; 0 is null.
Objects are numbered when they first go in and forgotten by `Store.gc`, while no call is under way: then globals and
tables are all there is to look at.
"""

from __future__ import annotations

from collections.abc import Container

__all__ = ["Externals"]


class Externals:
    """The Python objects that externrefs of one store stand for."""

    __slots__ = ("_free", "_number_of", "_objects")

    def __init__(self) -> None:
        self._objects: list[object] = [None]
        self._number_of: dict[int, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._number_of)

    def number(self, value: object) -> int:
        """The word for an object; the same for the same object."""
        found = self._number_of.get(id(value))
        if found is not None:
            return found
        if self._free:
            number = self._free.pop()
            self._objects[number] = value
        else:
            number = len(self._objects)
            self._objects.append(value)
        self._number_of[id(value)] = number
        return number

    def object(self, number: int) -> object:
        """The object of a word."""
        return self._objects[number]

    def knows(self, number: int) -> bool:
        """Whether a word is null or stands for an object."""
        return 0 <= number < len(self._objects) and number not in self._free

    def sweep(self, live: Container[int]) -> int:
        """Forget objects whose words are not among the live ones; returns how many."""
        dead = [number for number in self._number_of.values() if number not in live]
        for number in dead:
            del self._number_of[id(self._objects[number])]
            self._objects[number] = None
        self._free.extend(dead)
        return len(dead)
