"""The text format, by the optional library wasmtime.

trapline runs the binary format; whoever writes modules by hand installs `trapline[wat]`. The source is that library's
parser, so what it accepts is the text format of its version, proposals included: decoding refuses those.
"""

from __future__ import annotations

import re

from trapline.errors import TextError

__all__ = ["parse_text"]


def parse_text(text: str | bytes) -> bytes:
    """The binary format of a module in the text format.

    Raises TextError, with line and column where the library tells them, for a text that is no module, and where the
    library is not installed.
    """
    try:
        import wasmtime
    except ImportError as error:
        raise TextError(
            f"the text format needs the library wasmtime: pip install wasmtime (found: {error})"
        ) from None
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TextError(f"malformed UTF-8 encoding: {error.reason} at byte {error.start:#x} of the text") from None
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise _translated(str(error), text) from None
    except UnicodeEncodeError as error:
        raise TextError(f"malformed UTF-8 encoding: {error.reason} at character {error.start} of the text") from None


def _translated(message: str, text: str) -> TextError:
    """The library's message, which is its reason and a picture of the place, as an error of ours."""
    reason, _, picture = message.partition("\n")
    place = re.search(r"-->\s*\S*?:(\d+):(\d+)", picture)
    if place is None:
        return TextError(reason)
    line, column = int(place[1]), int(place[2])
    lines = text.split("\n")
    return TextError(reason, line=line, column=column, text=lines[line - 1] if line <= len(lines) else None)
