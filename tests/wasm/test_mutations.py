"""Changed modules are accepted and refused as wasmtime does, in bounded time: a small run of tests/fuzz."""

from __future__ import annotations

import pytest

from tests.fuzz.mutate_modules import run, seeds
from tests.spec.scripts import ScriptsAbsent

SEED = 20261120
COUNT = 15_000
CORPUS_COUNT = 600


@pytest.mark.parametrize(("corpus_only", "count"), [(False, COUNT), (True, CORPUS_COUNT)], ids=["mixed", "corpus"])
def test_mutations(corpus_only: bool, count: int) -> None:
    try:
        start = seeds(corpus_only=corpus_only)
    except ScriptsAbsent as absent:
        pytest.skip(str(absent))
    print(f"seed {SEED}, {count} modules from {len(start)}")
    report = run(count, SEED, start)
    print(dict(report.verdicts), f"slowest {report.slowest[0]:.3f} s")
    assert not report.failures, [(why, data[:200].hex()) for why, data in report.failures[:5]]
    assert report.verdicts["accepted by both"] > count // 100
    assert report.verdicts.total() == count
