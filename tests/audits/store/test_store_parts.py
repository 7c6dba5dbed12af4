from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_parts import COLUMNS, assert_same, digest, made

from faithattn.audits.part import Part, Ragged
from faithattn.audits.store import encoding

TEXT = st.text(st.characters(exclude_categories=()), max_size=5)  # lone surrogates too


@st.composite
def parts(draw: Any) -> tuple[list[tuple[str, str]], Part]:
    """Columns and a part with them: any bits, any names, any tokens."""
    size = draw(st.integers(0, 4))
    names = draw(st.lists(TEXT, min_size=1, max_size=5, unique=True))
    kinds = [draw(st.sampled_from(["float64", "int64", "bool"])) for _ in names]
    columns = {
        name: draw(arrays.arrays(kind, size)) for name, kind in zip(names, kinds, strict=True)
    }
    positions = {}
    for name in draw(st.lists(TEXT, max_size=3, unique=True)):
        lengths = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
        values = draw(arrays.arrays(np.float32, sum(lengths)))
        positions[name] = Ragged(values, np.cumsum([0, *lengths], dtype=np.int64))
    row = st.lists(TEXT, max_size=3).map(tuple)
    tokens = draw(st.none() | st.lists(row, min_size=size, max_size=size).map(tuple))
    failures = draw(st.dictionaries(TEXT, TEXT, max_size=2))
    seconds = draw(st.dictionaries(TEXT, st.floats(0, 1e9), max_size=2))
    notes = draw(st.dictionaries(TEXT, TEXT, max_size=2))
    part = Part(columns, positions, tokens, failures, seconds, notes)
    return list(zip(names, kinds, strict=True)), part


@given(parts())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(given_: tuple[list[tuple[str, str]], Part]) -> None:
    columns, part = given_
    data = encoding.encode(part, columns, batch=7, first=40, digest="d")
    assert encoding.is_whole(data)
    about, found = encoding.decode(data, columns)
    assert about[:4] == (7, 40, len(part), "d") == encoding.about(data)[:4]
    assert_same(found, part)
    assert data == encoding.encode(found, columns, batch=7, first=40, digest="d")


def test_a_file_is_one_that_numpy_reads() -> None:
    data = encoding.encode(made(2), COLUMNS, batch=2, first=3, digest="d")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert set(archive) == {
            "about", "float64", "int64", "bool",
            "scores", "score_offsets", "text", "text_offsets", "text_rows",
        }  # fmt: skip
        np.testing.assert_array_equal(
            archive["float64"][0], made(2).columns["loo_correlation.statistic"]
        )


def test_any_damage_is_noticed() -> None:
    data = encoding.encode(made(2), COLUMNS, batch=2, first=3, digest="d")
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        assert not encoding.is_whole(bytes(changed))
        assert not encoding.is_whole(data[:place])
    assert not encoding.is_whole(data + b"0")


def _without(part: Part, name: str) -> Part:
    return replace(part, columns={key: v for key, v in part.columns.items() if key != name})


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (_without(made(1), "batch"), r"got none for batch\. Give int64 \(4,\)"),
        (
            replace(made(1), columns={**made(1).columns, "extra": np.zeros(4)}),
            r"got float64 \(4,\) for extra\. Give none",
        ),
        (
            replace(made(1), columns={**made(1).columns, "batch": np.zeros(4)}),
            r"got float64 \(4,\) for batch\. Give int64",
        ),
        (
            replace(made(1), columns={**made(1).columns, "batch": np.arange(3)}),
            r"got int64 \(3,\) for batch\. Give int64 \(4,\)",
        ),
        (replace(made(1), tokens=(("a",),)), "got 1 rows for 4"),
        (
            replace(made(1), positions={"attention": Ragged(np.zeros(2), np.array([0, 2]))}),
            "got float64 and offsets .* for attention. Give 4 rows",
        ),
    ],
)
def test_a_part_that_does_not_fit(part: Part, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoding.encode(part, COLUMNS, batch=1, first=0, digest=digest(1))
