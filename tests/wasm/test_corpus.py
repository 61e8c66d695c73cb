"""Real programs: all of them decode and validate, but for those that need what is not supported, refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.spec.scripts import ScriptsAbsent, shared_folder
from trapline.errors import UnsupportedError
from trapline.wasm.body import decode_body
from trapline.wasm.decode import decode
from trapline.wasm.validate import validate, validate_body

SIMD = {"blake3-simd", "sodium-box", "sodium-hash"}


def programs() -> list[Path]:
    try:
        return sorted((shared_folder() / "corpus").glob("*/*.wasm"))
    except ScriptsAbsent:
        return []


@pytest.mark.parametrize("path", programs(), ids=lambda path: path.stem)
def test_program(path: Path) -> None:
    data = path.read_bytes()
    module = decode(data)
    assert module.bytecode == data
    validate(module)
    refused = []
    for index in range(len(module.code)):
        try:
            body = decode_body(module, index)
            validate_body(module, body)
        except UnsupportedError as error:
            refused.append(error.reason)
            continue
        assert body.offsets[0] >= module.code[index].start
        assert body.stop == module.code[index].stop
        assert module.function_at(body.offsets[-1]) == body.function_index
        # Validation depends on nothing but the decoded body: again it says the same.
        before = (body.heights, body.reachable)
        validate_body(module, body)
        assert (body.heights, body.reachable) == before
    assert set(refused) == ({"SIMD proposal: not supported"} if path.stem in SIMD else set())
    if module.custom_sections("name"):
        assert module.names.functions
        assert module.names.damaged_at is None
