"""Plots of the bench are well-formed, and their bars are as long as their numbers say."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from bench.plot import LEFT, PLOT, bars

SVG = "{http://www.w3.org/2000/svg}"


def test_bars() -> None:
    text = bars("Times <of> & \"all\"", "ms", ["one", "two & three"], {"a": [1.0, 10.0], "b": [100.0, 31.6227766]})
    root = ElementTree.fromstring(text)
    widths = [float(bar.get("width", 0)) for bar in root.iter(f"{SVG}rect") if bar.get("x") == str(LEFT)]
    assert widths == [1.0, PLOT, PLOT / 2, round(PLOT * 0.75, 1)], "in the order of the groups"
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {"one", "two & three", "a", "b", "1", "10", "100"} <= set(texts)


def test_nothing_to_plot() -> None:
    ElementTree.fromstring(bars("none", "ms", [], {}))
