"""LEB128 integers and names: all that can be written is read, nothing else. Core specification 5.2.2 and 5.2.4."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trapline.errors import DecodeError
from trapline.wasm.reader import read_count, read_name, read_signed, read_u32, read_unsigned

WIDTHS = st.sampled_from([1, 7, 8, 16, 32, 33, 64])


def unsigned(value: int, length: int = 1) -> bytes:
    """The LEB128 of a value, padded to at least `length` bytes."""
    out = []
    while True:
        byte, value = value & 0x7F, value >> 7
        if value == 0 and len(out) + 1 >= length:
            return bytes([*out, byte])
        out.append(byte | 0x80)


def signed(value: int, length: int = 1) -> bytes:
    out = []
    while True:
        byte, value = value & 0x7F, value >> 7
        if len(out) + 1 >= length and value == (-1 if byte & 0x40 else 0):
            return bytes([*out, byte])
        out.append(byte | 0x80)


@given(WIDTHS, st.data())
def test_unsigned(bits: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, 2**bits - 1))
    longest = (bits + 6) // 7
    encoded = unsigned(value, data.draw(st.integers(1, longest)))
    before, after = data.draw(st.binary(max_size=3)), data.draw(st.binary(max_size=3))
    whole = before + encoded + after
    end = len(before) + len(encoded)
    assert read_unsigned(whole, len(before), len(whole), bits) == (value, end)
    assert read_unsigned(whole, len(before), end, bits) == (value, end)
    with pytest.raises(DecodeError, match=r"^unexpected end") as caught:
        read_unsigned(whole, len(before), end - 1, bits)
    assert caught.value.offset == end - 1
    if bits == 32:
        assert read_u32(whole, len(before), end) == (value, end)


@given(WIDTHS, st.data())
def test_signed(bits: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    encoded = signed(value, data.draw(st.integers(1, (bits + 6) // 7)))
    assert read_signed(encoded, 0, len(encoded), bits) == (value, len(encoded))


@given(WIDTHS, st.integers(1, 2**70))
def test_unsigned_too_large(bits: int, above: int) -> None:
    encoded = unsigned(2**bits - 1 + above)
    with pytest.raises(DecodeError, match=r"^integer (too large|representation too long)"):
        read_unsigned(encoded, 0, len(encoded), bits)


@given(WIDTHS, st.integers(0, 2**70), st.booleans())
def test_signed_too_large(bits: int, above: int, negative: bool) -> None:
    half = 2 ** (bits - 1)
    encoded = signed(-half - 1 - above if negative else half + above)
    with pytest.raises(DecodeError, match=r"^integer (too large|representation too long)"):
        read_signed(encoded, 0, len(encoded), bits)


@given(st.sampled_from([32, 64]), st.integers(0, 100))
def test_too_long(bits: int, value: int) -> None:
    """A padding byte more than ceil(bits / 7) is refused, whatever the value."""
    encoded = unsigned(value, (bits + 6) // 7 + 1)
    for read in (read_unsigned, read_signed):
        with pytest.raises(DecodeError, match=r"^integer representation too long"):
            read(encoded, 0, len(encoded), bits)


@given(st.binary(min_size=1, max_size=12), st.integers(0, 12))
def test_any_bytes(data: bytes, stop: int) -> None:
    """Whatever the bytes: a value in range and a position in bounds, or a DecodeError."""
    stop = min(stop, len(data))
    for read, low, high in ((read_unsigned, 0, 2**32), (read_signed, -(2**31), 2**31)):
        with contextlib.suppress(DecodeError):
            value, end = read(data, 0, stop, 32)
            assert low <= value < high
            assert 0 < end <= min(5, stop)


@given(st.text(), st.binary(max_size=3))
def test_names(text: str, after: bytes) -> None:
    encoded = text.encode("utf-8", "surrogatepass")
    data = unsigned(len(encoded)) + encoded + after
    stop = len(data) - len(after)
    assert read_name(data, 0, len(data)) == (text, stop)
    if encoded:
        with pytest.raises(DecodeError, match=r"^length out of bounds"):
            read_name(data, 0, stop - 1)


@given(st.binary(max_size=20))
def test_names_are_utf8(encoded: bytes) -> None:
    data = unsigned(len(encoded)) + encoded
    try:
        expected = encoded.decode("utf-8")
    except UnicodeDecodeError:
        with pytest.raises(DecodeError, match=r"^malformed UTF-8 encoding"):
            read_name(data, 0, len(data))
    else:
        assert read_name(data, 0, len(data)) == (expected, len(data))


def test_surrogates_are_no_utf8() -> None:
    with pytest.raises(DecodeError, match=r"^malformed UTF-8 encoding"):
        read_name(b"\3\xed\xa0\x80", 0, 4)


def test_count_beyond_the_input() -> None:
    """A count larger than the input can hold is left to the reader of the elements, who meets the end."""
    assert read_count(b"\xff\xff\xff\xff\x0f", 0, 5, 10, "things") == (2**32 - 1, 5)
