"""The name section: every subsection, and what is left of a damaged one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.wasm.build import custom, leb, module, name, section, vector
from trapline.wasm.decode import decode
from trapline.wasm.names import Names, decode_names

NAME_MAP = st.dictionaries(st.integers(0, 2**32 - 1), st.text(max_size=8), max_size=4)
INDIRECT_MAP = st.dictionaries(st.integers(0, 2**32 - 1), NAME_MAP, max_size=3)


def name_map(names: dict[int, str]) -> bytes:
    return vector(*(leb(index) + name(text) for index, text in names.items()))


def indirect_map(names: dict[int, dict[int, str]]) -> bytes:
    return vector(*(leb(index) + name_map(inner) for index, inner in names.items()))


def names_of(contents: bytes) -> Names:
    return decode(module(custom("name", contents))).names


@given(st.text(max_size=8), st.lists(NAME_MAP, min_size=8, max_size=8), st.lists(INDIRECT_MAP, min_size=3, max_size=3))
def test_all_subsections(text: str, maps: list[dict[int, str]], indirect: list[dict[int, dict[int, str]]]) -> None:
    contents = section(0, name(text))
    for number, kind in enumerate((1, 4, 5, 6, 7, 8, 9, 11)):
        contents += section(kind, name_map(maps[number]))
    for number, kind in enumerate((2, 3, 10)):
        contents += section(kind, indirect_map(indirect[number]))
    contents += section(99, b"what a later version may hold")
    assert names_of(contents) == Names(
        text, maps[0], indirect[0], indirect[1], *maps[1:7], fields=indirect[2], tags=maps[7]
    )


@given(st.binary(max_size=40))
def test_damage(contents: bytes) -> None:
    names_of(contents)  # raises nothing
    names_of(section(1, vector(leb(3) + name("f"))) + contents)


def test_what_precedes_damage_is_kept() -> None:
    """A subsection that breaks off leaves what it had and does not touch the next."""
    broken = section(1, leb(3) + leb(0) + name("zero") + leb(1) + name("one") + leb(2) + b"\x7f")
    names = names_of(section(0, name("m")) + broken + section(7, name_map({5: "g"})))
    assert (names.module, names.functions, names.globals) == ("m", {0: "zero", 1: "one"}, {5: "g"})
    assert names.damaged_at is not None
    truncated = (section(0, name("m")) + section(1, name_map({0: "zero", 1: "one"})))[:-1]
    assert names_of(truncated).functions == {0: "zero"}
    assert names_of(section(0, b"\2\xff\xff")).module is None
    assert decode_names(b"", 0, 0) == Names()


def test_first_name_section_counts() -> None:
    decoded = decode(module(custom("name", section(0, name("a"))), custom("name", section(0, name("b")))))
    assert decoded.names.module == "a"
    assert decode(module()).names == Names()
