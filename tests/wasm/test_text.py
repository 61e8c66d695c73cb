"""The text format by the optional library: modules, errors with their place, and the library's absence."""

from __future__ import annotations

import pytest

from tests.conftest import RunPython
from trapline.errors import ModuleError, TextError
from trapline.wasm.decode import decode
from trapline.wasm.text import parse_text
from trapline.wasm.validate import validate


def test_absence_in_words(run_python: RunPython) -> None:
    script = """
        import sys
        sys.modules["wasmtime"] = None
        from trapline.errors import TextError
        from trapline.wasm.text import parse_text
        try:
            parse_text("(module)")
        except TextError as error:
            print(error)
    """
    run = run_python(script)
    assert "pip install wasmtime" in run.stdout, run


def test_modules() -> None:
    pytest.importorskip("wasmtime")
    content = parse_text('(module (func (export "f") (result i32) i32.const 7))')
    assert isinstance(content, bytes)
    module = decode(content)
    validate(module, bodies=True)
    assert [export.name for export in module.exports] == ["f"]
    assert parse_text(b"(module)") == parse_text("(module) ;; \u00e9")


def test_place_of_an_error() -> None:
    pytest.importorskip("wasmtime")
    with pytest.raises(TextError, match=r"^line 3, column 5: unknown operator.*\n    i32\.cnst 7\)\)$") as caught:
        parse_text("(module\n  (func (result i32)\n    i32.cnst 7))")
    error = caught.value
    assert isinstance(error, ModuleError)
    assert (error.line, error.column, error.text) == (3, 5, "    i32.cnst 7))")


TWICE = "(module (func $a) (func $a))"


@pytest.mark.parametrize("text", ["", "(", TWICE, "\0asm", b"\xff\xfe", "(module \ud800)", ")"])
def test_no_modules(text: str | bytes) -> None:
    pytest.importorskip("wasmtime")
    with pytest.raises(TextError) as caught:
        parse_text(text)
    assert str(caught.value)
