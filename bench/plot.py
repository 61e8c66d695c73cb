"""Plots as SVG, written by hand: bars in groups on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

COLOURS: Final = ("#8a8f98", "#c3c7ce", "#d98a3d", "#2f7fbf", "#4b9b5f", "#a05fb4")
LEFT, TOP, RIGHT, BOTTOM = 170, 64, 70, 34
BAR, GAP, PLOT = 9, 9, 560
"""Height of a bar, room between groups, width of the scale, in pixels."""
FONT: Final = 'font-family="system-ui, sans-serif" font-size="12"'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {FONT} fill="#444" {more}>{escape(text)}</text>'


def bars(title: str, unit: str, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """A group of bars for each name, a bar of each series in it; every value must be above zero."""
    values = [value for row in series.values() for value in row]
    low = math.floor(math.log10(min(values, default=1)))
    high = max(math.ceil(math.log10(max(values, default=10))), low + 1)
    group = BAR * len(series) + GAP
    width, height = LEFT + PLOT + RIGHT, TOP + group * len(names) + BOTTOM

    def x_of(value: float) -> float:
        return LEFT + PLOT * (math.log10(value) - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(LEFT, 20, f"{title} ({unit}, logarithmic)", 'font-weight="bold"'),
    ]
    at = float(LEFT)
    for number, name in enumerate(series):
        parts.append(f'<rect x="{at:.1f}" y="34" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(_text(at + 15, 43, name))
        at += 40 + 7 * len(name)
    for power in range(low, high + 1):
        x = x_of(10**power)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - BOTTOM + 4}" stroke="#ddd"/>')
        parts.append(_text(x, height - BOTTOM + 20, f"{10**power:,g}", 'text-anchor="middle"'))
    for row, name in enumerate(names):
        top = TOP + group * row
        parts.append(_text(LEFT - 8, top + BAR * len(series) / 2 + 4, name, 'text-anchor="end"'))
        for number, heights in enumerate(series.values()):
            x, y = x_of(heights[row]), top + BAR * number
            colour = COLOURS[number % len(COLOURS)]
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{max(x - LEFT, 1):.1f}" height="{BAR - 1}" fill="{colour}"/>'
            )
            parts.append(_text(x + 3, y + BAR - 1, f"{heights[row]:,.0f}", 'style="font-size:8px"'))
    return "\n".join([*parts, "</svg>", ""])
