"""Reading the parts that everything is made of: bytes, LEB128 integers, names. Core specification 5.1 and 5.2.

The functions take the bytes, a position and where they must stop; they give the value and the next position. They
allocate nothing by a count that the input gives, and raise DecodeError with the offset. An integer is read whole before
its end is compared with `stop`, so that a bad integer is called so, whatever the size of its section says.
"""

from __future__ import annotations

from trapline.errors import DecodeError, UnsupportedError


def unexpected_end(offset: int, what: str) -> DecodeError:
    """The error for input that ends, or whose section or function ends, inside something."""
    return DecodeError("unexpected end of section or function", offset=offset, expected=what)


def read_byte(data: bytes, position: int, stop: int, what: str) -> int:
    """One byte; the next position is one further."""
    if position >= stop:
        raise unexpected_end(position, what)
    return data[position]


def read_unsigned(data: bytes, position: int, stop: int, bits: int) -> tuple[int, int]:
    """An unsigned LEB128 of at most `bits` bits: ceil(bits / 7) bytes, and no bit set beyond them (5.2.2)."""
    start = position
    readable = len(data)
    result = 0
    shift = 0
    while True:
        if position >= readable:
            raise unexpected_end(position, "the rest of an integer")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift >= bits:
            raise DecodeError(
                "integer representation too long", offset=start, expected=f"at most {(bits + 6) // 7} bytes"
            )
    if result >> bits:
        raise DecodeError("integer too large", offset=start, expected=f"at most {bits} bits", found=hex(result))
    if position > stop:
        raise unexpected_end(stop, "the rest of an integer")
    return result, position


def read_signed(data: bytes, position: int, stop: int, bits: int) -> tuple[int, int]:
    """A signed LEB128 of at most `bits` bits: ceil(bits / 7) bytes, the unused bits of the last equal the sign."""
    start = position
    readable = len(data)
    result = 0
    shift = 0
    while True:
        if position >= readable:
            raise unexpected_end(position, "the rest of an integer")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift >= bits:
            raise DecodeError(
                "integer representation too long", offset=start, expected=f"at most {(bits + 6) // 7} bytes"
            )
    if byte & 0x40:
        result -= 1 << shift
    half = 1 << (bits - 1)
    if not -half <= result < half:
        raise DecodeError("integer too large", offset=start, expected=f"at most {bits} bits, signed", found=hex(result))
    if position > stop:
        raise unexpected_end(stop, "the rest of an integer")
    return result, position


def read_u32(data: bytes, position: int, stop: int) -> tuple[int, int]:
    """An unsigned LEB128 of at most 32 bits; one byte is the common case."""
    if position < stop:
        byte = data[position]
        if byte < 0x80:
            return byte, position + 1
    return read_unsigned(data, position, stop, 32)


def read_name(data: bytes, position: int, stop: int) -> tuple[str, int]:
    """A name: its length in bytes, then UTF-8 (5.2.4)."""
    start = position
    length, position = read_u32(data, position, stop)
    if length > stop - position:
        raise DecodeError(
            "length out of bounds", offset=start, expected=f"at most {stop - position} bytes", found=str(length)
        )
    end = position + length
    try:
        return str(data[position:end], "utf-8"), end
    except UnicodeDecodeError as error:
        raise DecodeError(
            "malformed UTF-8 encoding", offset=position + error.start, found=repr(data[position:end][:40])
        ) from None


def read_count(data: bytes, position: int, stop: int, limit: int, what: str) -> tuple[int, int]:
    """The length of a vector whose elements take a byte or more each; `limit` is an implementation limit."""
    start = position
    count, position = read_u32(data, position, stop)
    if count > limit and count <= stop - position:
        raise UnsupportedError(f"too many {what}", offset=start, expected=f"at most {limit}", found=str(count))
    return count, position
