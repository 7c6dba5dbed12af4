"""Parts of made-up audits: numbers that follow from the number of the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from faithattn.audits.part import Part, Ragged
from faithattn.audits.store import Manifest, Store

COLUMNS = (
    ("instance", "int64"),
    ("loo_correlation.statistic", "float64"),
    ('permutation_test.exact@layer "3"/é\n', "bool"),
    ("batch", "int64"),
    ("permutation_test.pvalue", "float64"),
)
MANIFEST = Manifest(1, {"seed": 0}, {"class": "M", "digest": "m0"}, {"torch": "2.6"}, COLUMNS)


def size_of(batch: int) -> int:
    """Batches have one to four instances, one has none."""
    return 0 if batch == 3 else 1 + batch * 7 % 4


def first_of(batch: int) -> int:
    return sum(map(size_of, range(batch)))


def digest(batch: int) -> str:
    return f"inputs {batch}"


def made(batch: int) -> Part:
    """The part of a batch; every fourth without tokens, every fifth with a failure."""
    size, first = size_of(batch), first_of(batch)
    rng = np.random.default_rng(batch)
    statistic = rng.random(size)
    statistic[rng.random(size) < 0.2] = np.nan
    lengths = rng.integers(0, 5, size)
    offsets = np.cumsum([0, *lengths])
    scores = {
        name: Ragged(rng.random(offsets[-1]).astype(np.float32), offsets)
        for name in ("attention", 'gradient@"/../é')
    }
    words = tuple(tuple(f"wörd{k}\x00" for k in range(length)) for length in lengths)
    return Part(
        {
            "instance": np.arange(first, first + size),
            "loo_correlation.statistic": statistic,
            COLUMNS[2][0]: rng.random(size) < 0.5,
            "batch": np.full(size, batch),
            "permutation_test.pvalue": rng.random(size),
        },
        scores,
        None if batch % 4 == 3 else words,
        {"loo_correlation": f"failed on {batch}"} if batch % 5 == 4 else {},
        {"loo_correlation": 0.25, "permutation_test": 0.5},
    )


def write(store: Store, batches: Any) -> None:
    for batch in batches:
        store.write(batch, made(batch), first=first_of(batch), digest=digest(batch))


def audited(folder: Path, batches: int = 12) -> Store:
    """A finished audit."""
    with Store.begin(folder, MANIFEST) as store:
        write(store, range(batches))
        store.end(batches, first_of(batches), "all")
        store.finish()
    return Store.open(folder)


def expected(name: str, batches: int = 12) -> np.ndarray:
    """A column of all batches, put together in memory."""
    return np.concatenate([made(batch).columns[name] for batch in range(batches)])


def assert_same(found: Part, part: Part) -> None:
    """Every value of two parts agrees to the bit."""
    assert list(found.columns) == list(part.columns)
    for name, value in part.columns.items():
        assert found.columns[name].dtype == value.dtype
        assert found.columns[name].tobytes() == value.tobytes(), name
    assert list(found.positions) == list(part.positions)
    for name, ragged in part.positions.items():
        again = found.positions[name]
        assert again.values.dtype == np.float32 and again.offsets.dtype == np.int64
        assert again.values.tobytes() == ragged.values.tobytes()
        assert again.offsets.tolist() == ragged.offsets.tolist()
    assert found.tokens == part.tokens
    assert dict(found.failures) == dict(part.failures)
    assert dict(found.seconds) == dict(part.seconds)
    assert dict(found.notes) == dict(part.notes)


def with_seed(seed: int) -> Manifest:
    return replace(MANIFEST, settings={"seed": seed})
