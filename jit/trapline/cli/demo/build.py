"""Makes what `trapline demo` ships: thumbnail.wasm from thumbnail.c, and the two pictures it reads.

Run by hand, with `pip install ziglang`, in any folder: ``python jit/trapline/cli/demo/build.py``. The results are
committed. The pictures are painted here, so everything in this folder is of this project and under its licence.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["build", "encode", "paint"]

FOLDER = Path(__file__).resolve().parent
_TARGET = "wasm32-freestanding -mcpu=mvp+bulk_memory+sign_ext+mutable_globals+nontrapping_fptoint"
_FLAGS = (
    "-O1 -g -std=c11 -Wall -Wextra -nostdlib -fno-builtin -fno-sanitize=all -fno-vectorize -fno-unroll-loops"
    " -Wl,--no-entry -Wl,--export=image -Wl,--export=converters -Wl,-z,stack-size=16384"
)
Pixel = tuple[int, int, int]


def build() -> None:
    """Compile the program and encode the pictures."""
    flags = [*_TARGET.split(), *_FLAGS.split(), f"-ffile-prefix-map={FOLDER}=."]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", *flags, "-o", "thumbnail.wasm", "thumbnail.c"]
    subprocess.run(command, cwd=FOLDER, check=True)
    (FOLDER / "sunset.qoi").write_bytes(encode(paint(720, 440), 720, channels=4, colour_space=0))
    # The damage: another byte for the colour space. The rest is a picture like any other.
    (FOLDER / "damaged.qoi").write_bytes(encode(paint(700, 440), 700, channels=3, colour_space=7))


def _mix(one: Pixel, other: Pixel, share: float) -> Pixel:
    red, green, blue = (int(a + (b - a) * min(1.0, max(0.0, share))) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _ridge(x: float) -> float:
    """The height of the mountains, in parts of the picture, at a place from 0 to 1."""
    peaks = ((0.08, 0.16, 0.10), (0.2, 0.22, 0.13), (0.34, 0.09, 0.09), (0.68, 0.1, 0.1), (0.82, 0.24, 0.15))
    return max(0.02, *(height * (1 - abs(x - at) / width) for at, height, width in (*peaks, (0.96, 0.17, 0.12))))


def _grid(depth: float) -> int:
    """The number of the square of the ground that lies so deep in the picture, counted from the front."""
    return int(1.7 / (0.07 + max(0.0, depth)))


def paint(width: int, height: int) -> list[Pixel]:
    """A sunset: sky, a striped sun, mountains, and a grid that runs to the horizon."""
    horizon = int(height * 0.64)
    night, dusk, glow = (16, 8, 48), (126, 22, 112), (255, 120, 80)
    found: list[Pixel] = []
    for y in range(height):
        share = y / horizon
        sky = _mix(night, dusk, share / 0.65) if share < 0.65 else _mix(dusk, glow, (share - 0.65) / 0.35)
        sun = _mix((255, 236, 110), (255, 48, 130), (y / height - 0.14) / 0.46)
        above = (horizon - y) / height
        stripe = above < 0.3 and (above * 22) % 1 < 0.55 - above * 1.6
        depth = (y - horizon) / (height - horizon)
        for x in range(width):
            at = x / width - 0.5
            if y >= horizon:
                crossing = abs(at / (0.12 + depth) * 14) % 1 < 0.07 + 0.03 / (0.1 + depth)
                line = _grid(depth) != _grid(depth - 0.008 - 0.02 * depth) or y < horizon + 4
                found.append((255, 70, 220) if crossing or line else _mix((44, 10, 74), (14, 4, 32), depth))
            elif above < _ridge(x / width):
                face = above / _ridge(x / width)
                found.append(_mix((30, 8, 58), (86, 30, 120), int(face * 6) / 6))
            elif (at * width) ** 2 + (y - height * 0.38) ** 2 < (height * 0.27) ** 2 and not stripe:
                found.append(sun)
            else:
                found.append((255, 255, 255) if y < horizon * 0.6 and hash((x * 7919, y * 104729)) % 1201 == 0 else sky)
    return found


def encode(pixels: Iterable[Pixel], width: int, *, channels: int, colour_space: int) -> bytes:
    """Pixels as a QOI file."""
    pixels = list(pixels)
    out = bytearray(struct.pack(">4sIIBB", b"qoif", width, len(pixels) // width, channels, colour_space))
    seen: list[Pixel | None] = [None] * 64
    before: Pixel = (0, 0, 0)
    run = 0
    for pixel in pixels:
        if pixel == before:
            run += 1
            if run == 62:
                out.append(0xC0 | 61)
                run = 0
            continue
        if run:
            out.append(0xC0 | run - 1)
            run = 0
        red, green, blue = pixel
        slot = (red * 3 + green * 5 + blue * 7 + 255 * 11) % 64
        steps = [(a - b + 128) % 256 - 128 for a, b in zip(pixel, before, strict=True)]
        around = steps[0] - steps[1], steps[2] - steps[1]
        if seen[slot] == pixel:
            out.append(slot)
        elif all(-2 <= step < 2 for step in steps):
            out.append(0x40 | steps[0] + 2 << 4 | steps[1] + 2 << 2 | steps[2] + 2)
        elif -32 <= steps[1] < 32 and all(-8 <= step < 8 for step in around):
            out += bytes((0x80 | steps[1] + 32, around[0] + 8 << 4 | around[1] + 8))
        else:
            out += bytes((0xFE, red, green, blue))
        seen[slot] = pixel
        before = pixel
    if run:
        out.append(0xC0 | run - 1)
    return bytes(out) + bytes(7) + b"\x01"


if __name__ == "__main__":
    build()
