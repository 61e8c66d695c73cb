"""Changes WebAssembly modules at random and compares the verdict of trapline with that of wasmtime.

    python -m tests.fuzz.mutate_modules --count 100000 --seed 7

Seeds are the modules of the official test scripts and of the corpus of real programs. Two engines of wasmtime are the
oracle: `plain` has the features that trapline supports, `wide` all that wasmtime knows. What holds for every module:

- trapline accepts it: then wide accepts it, and plain does, or refuses it for one of DIFFERENCES;
- trapline refuses it as malformed or invalid: then both refuse it, so that nothing of a proposal is called malformed;
- trapline refuses it as unsupported: then plain refuses it;
- no exception but ModuleError, in at most TIME_LIMIT_S.
"""

from __future__ import annotations

import argparse
import itertools
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import wasmtime

from tests.spec.files import LATER, PARTLY, SUPPORTED
from tests.spec.scripts import load, shared_folder
from trapline.errors import ModuleError, UnsupportedError
from trapline.wasm.body import decode_body
from trapline.wasm.decode import decode
from trapline.wasm.validate import validate

TIME_LIMIT_S = 5.0
MAX_SEED_BYTES = 60_000

PROPOSALS = (
    "tail_call",
    "simd",
    "relaxed_simd",
    "multi_memory",
    "memory64",
    "exceptions",
    "function_references",
    "gc",
    "threads",
    "wide_arithmetic",
    "custom_page_sizes",
    "stack_switching",
)

# Words of plain's errors for modules that trapline accepts: rules that version 3.0 of the specification relaxed for
# everyone, which wasmtime ties to the proposals they came with.
DIFFERENCES = (
    "global.get of locally defined global",
    "invalid var_u32: integer representation too long",
    "invalid var_u32: integer too large",
    "zero byte expected",
)


def make_engine(enabled: bool) -> wasmtime.Engine:
    config = wasmtime.Config()
    for name in PROPOSALS:
        setattr(config, f"wasm_{name}", enabled)
    return wasmtime.Engine(config)


@dataclass
class Report:
    """What came of many modules. `failures` holds (why, module); `slowest` is (seconds, bytes of that module)."""

    verdicts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, bytes]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)


class Oracle:
    def __init__(self) -> None:
        self.plain = make_engine(False)
        self.wide = make_engine(True)

    def refuses(self, engine: wasmtime.Engine, data: bytes) -> str | None:
        """Why an engine refuses a module, None if it is valid."""
        try:
            wasmtime.Module.validate(engine, data)
        except wasmtime.WasmtimeError as error:
            return str(error)
        return None

    def judge(self, data: bytes, report: Report) -> None:
        """Adds the verdict on one module to the report."""
        error: Exception | None = None
        start = time.perf_counter()
        try:
            validate(decode(data), bodies=True)
        except ModuleError as refused:
            error = refused
            str(error)
        except Exception as bad:  # what must not happen, whatever it is
            report.failures.append((f"raised {bad!r}", data))
            return
        spent = time.perf_counter() - start
        if spent > report.slowest[0]:
            report.slowest = (spent, len(data))
        if spent > TIME_LIMIT_S:
            report.failures.append((f"took {spent:.1f} s", data))
        plain = self.refuses(self.plain, data)
        verdict, complaint = self.compare(error, plain, data)
        report.verdicts[verdict] += 1
        if complaint is not None:
            report.failures.append((complaint, data))

    def compare(self, error: Exception | None, plain: str | None, data: bytes) -> tuple[str, str | None]:
        if error is None:
            if plain is None:
                return "accepted by both", None
            if any(words in plain for words in DIFFERENCES):
                wide = self.refuses(self.wide, data)
                return "accepted by rules of 3.0", None if wide is None else f"accepted, but wide says {wide}"
            return "accepted wrongly", f"accepted, but plain says {plain}"
        if isinstance(error, UnsupportedError):
            return "unsupported", None if plain is not None else f"unsupported, but plain accepts: {error}"
        kind = type(error).__name__
        if plain is None:
            return "refused wrongly", f"plain accepts, but {kind}: {error}"
        if self.refuses(self.wide, data) is None and "malformed limits flags" not in str(error):
            return "not refused by name", f"wide accepts, but {kind}: {error}"
        return f"refused by both, {kind}", None


# Changing modules


def read_unsigned(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sections(data: bytes) -> list[tuple[int, bytes]]:
    """(id, contents) of each section of a module that is well-formed so far; raises IndexError if it is not."""
    found = []
    position = 8
    while position < len(data):
        section_id = data[position]
        size, position = read_unsigned(data, position + 1)
        found.append((section_id, data[position : position + size]))
        position += size
    return found


def joined(parts: list[tuple[int, bytes]]) -> bytes:
    return b"\0asm\1\0\0\0" + b"".join(
        bytes([section_id]) + unsigned(len(contents)) + contents for section_id, contents in parts
    )


def bodies(contents: bytes) -> list[bytes]:
    count, position = read_unsigned(contents, 0)
    found = []
    for _ in range(count):
        size, position = read_unsigned(contents, position)
        found.append(contents[position : position + size])
        position += size
    return found


INTERESTING = bytes.fromhex(
    "00 01 02 03 04 05 0b 0c 0d 0e 0f 10 11 1a 1b 1c 20 21 23 3f 40 41 60 64 6f 70 7b 7c 7f 80 d0 d2 fc ff"
)


def changed_bytes(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """One small change to a run of bytes, which may have another length after it."""
    if not data:
        return bytes([chance.choice(INTERESTING)])
    at = chance.randrange(len(data))
    match chance.randrange(8):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes([chance.choice(INTERESTING)]) + data[at + 1 :]
        case 2:
            return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        case 3:
            return data[:at] + bytes([chance.choice(INTERESTING)]) + data[at:]
        case 4:
            return data[:at] + data[at + chance.randint(1, 4) :]
        case 5:
            return data[:at] + data[at : at + chance.randint(1, 12)] + data[at:]
        case 6:
            start = chance.randrange(len(other)) if other else 0
            return data[:at] + other[start : start + chance.randint(1, 16)] + data[at + chance.randint(0, 8) :]
        case _:
            padded = bytes([data[at] | 0x80, *[0x80] * chance.randrange(4), 0])
            return data[:at] + padded + data[at + 1 :]


SIMPLE = bytes([0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, *range(0x45, 0xC5), 0xD1])
"""Opcodes without immediates."""


def changed_instruction(chance: random.Random, data: bytes) -> bytes | None:
    """A module with one instruction removed, doubled, replaced or put elsewhere; None if it has none to be found."""
    try:
        module = decode(data)
        body = decode_body(module, chance.randrange(len(module.code)))
    except (ModuleError, ValueError):
        return None
    code = module.code[body.function_index - module.imported_functions]
    borders = [*body.offsets, code.stop]
    first, second = (chance.randrange(len(body.offsets)) for _ in range(2))
    start, stop = borders[first : first + 2]
    instruction = data[start:stop]
    another = data[borders[second] : borders[second + 1]]
    simple = bytes([chance.choice(SIMPLE)])
    new = chance.choice((b"", instruction * 2, simple, another, another + instruction, instruction + simple))
    parts = sections(data)
    place = next(index for index, part in enumerate(parts) if part[0] == 10)
    functions = bodies(parts[place][1])
    functions[body.function_index - module.imported_functions] = data[code.start : start] + new + data[stop : code.stop]
    parts[place] = (10, code_section(functions))
    return joined(parts)


def code_section(functions: list[bytes]) -> bytes:
    return unsigned(len(functions)) + b"".join(unsigned(len(function)) + function for function in functions)


def changed(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A module with one to three changes: anywhere, or inside a section or body whose sizes are then made right."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        choice = chance.random()
        if choice < 0.15:
            data = changed_bytes(chance, data, other)
            continue
        if choice < 0.6 and (with_instruction := changed_instruction(chance, data)) is not None:
            data = with_instruction
            continue
        try:
            parts = sections(data)
            others = sections(other)
        except IndexError:
            data = changed_bytes(chance, data, other)
            continue
        if not parts:
            data = changed_bytes(chance, data, other)
            continue
        place = chance.randrange(len(parts))
        section_id, contents = parts[place]
        code = [index for index, part in enumerate(parts) if part[0] == 10]
        try:
            if code and chance.random() < 0.6:
                place = code[0]
                functions = bodies(parts[place][1])
                which = chance.randrange(len(functions))
                functions[which] = changed_bytes(chance, functions[which], other)
                parts[place] = (10, code_section(functions))
            elif chance.random() < 0.1:
                same = [part for part in others if part[0] == section_id]
                parts[place] = chance.choice(same or parts)
            else:
                parts[place] = (section_id, changed_bytes(chance, contents, other))
            data = joined(parts)
        except (IndexError, ValueError):
            data = changed_bytes(chance, data, other)
    return data


# How often modules are taken to start from: much those that are valid and need nothing that is not supported.
WEIGHTS = {"module": 1.0, "assert_invalid": 0.2, "assert_malformed": 0.02}
LATER_WEIGHT = 0.05
CORPUS_WEIGHT = 20.0


def seeds(*, corpus_only: bool = False) -> dict[bytes, float]:
    """Modules to start from, with how often they are taken: those of all test scripts, the smaller ones of the corpus.

    With `corpus_only` all of the corpus, and nothing else. Larger modules are taken less often, by their size.
    """
    found: dict[bytes, float] = {}
    for path in sorted((shared_folder() / "corpus").glob("*/*.wasm")):
        content = path.read_bytes()
        if corpus_only or len(content) <= MAX_SEED_BYTES:
            found[content] = CORPUS_WEIGHT * by_size(content)
    if corpus_only:
        return found
    supported = set(itertools.chain(PARTLY, *SUPPORTED.values()))
    for name in sorted(supported.union(*LATER.values())):
        for command in load(name):
            content = command.get("content")
            if content is not None and len(content) <= MAX_SEED_BYTES:
                share = WEIGHTS.get(command["type"], 1.0) * (1.0 if name in supported else LATER_WEIGHT)
                found.setdefault(content, share * by_size(content))
    return found


def by_size(content: bytes) -> float:
    return min(1.0, 2000 / (1 + len(content)))


def modules(count: int, seed: int, start: dict[bytes, float]) -> Iterator[bytes]:
    """`count` changed modules, the same for the same seed."""
    chance = random.Random(seed)
    contents = list(start)
    weights = list(itertools.accumulate(start.values()))
    for _ in range(count):
        data, other = chance.choices(contents, cum_weights=weights, k=2)
        yield changed(chance, data, other)


def run(count: int, seed: int, start: dict[bytes, float], *, progress: bool = False) -> Report:
    oracle = Oracle()
    report = Report()
    for number, data in enumerate(modules(count, seed, start), 1):
        oracle.judge(data, report)
        if progress and number % 10_000 == 0:
            print(number, dict(report.verdicts), f"{len(report.failures)} failures", flush=True)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", action="store_true", help="change only the programs of the corpus")
    parser.add_argument("--save", type=Path, help="folder for the modules that fail")
    arguments = parser.parse_args()
    began = time.perf_counter()
    report = run(arguments.count, arguments.seed, seeds(corpus_only=arguments.corpus), progress=True)
    for verdict, number in report.verdicts.most_common():
        print(f"{number:8} {verdict}")
    spent = time.perf_counter() - began
    print(f"slowest {report.slowest[0]:.3f} s ({report.slowest[1]} bytes), all {spent:.0f} s")
    print(f"most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")
    for number, (why, data) in enumerate(report.failures):
        print(f"failure {number}: {why.splitlines()[0]} ({len(data)} bytes) {data[:60].hex()}")
        if arguments.save is not None:
            arguments.save.mkdir(parents=True, exist_ok=True)
            (arguments.save / f"failure{number}.wasm").write_bytes(data)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
