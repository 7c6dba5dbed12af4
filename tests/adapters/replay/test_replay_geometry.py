"""Places in storage, against index sets enumerated with as_strided."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faithattn.adapters.replay.geometry import Geometry, flatten, overwrite, region, write

SIZE = 20 + 3 * 3 * 24 + 1  # the last element of the largest place
places = st.integers(0, 3).flatmap(
    lambda rank: st.tuples(
        st.lists(st.integers(1, 4), min_size=rank, max_size=rank).map(tuple),
        st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 12, 24]), min_size=rank, max_size=rank).map(
            tuple
        ),
        st.integers(0, 20),
    ).map(lambda parts: Geometry(*parts))
)


def elements(place: Geometry) -> list[int]:
    steps = itertools.product(*(range(n) for n in place.size))
    return [
        place.offset + sum(i * s for i, s in zip(step, place.stride, strict=True)) for step in steps
    ]


@given(places)
def test_a_region_is_what_as_strided_shows(place: Geometry) -> None:
    flat = torch.arange(SIZE)
    assert torch.equal(region(flat, place), flat.as_strided(*place))
    twisted = torch.arange(2 * SIZE)[::2] // 2  # same elements, another layout
    assert torch.equal(region(twisted, place), flat.as_strided(*place))


@given(places, places)
def test_disjoint_and_injective_are_never_wrong(one: Geometry, two: Geometry) -> None:
    mine, theirs = elements(one), elements(two)
    if one.disjoint(two):
        assert not set(mine) & set(theirs)
    if one.injective():
        assert len(set(mine)) == len(mine)
    assert one.end == max(mine) + 1


@given(places)
def test_a_gapless_place_flattens_to_its_run(place: Geometry) -> None:
    order = place.order()
    run = sorted(elements(place))
    if order is None:
        assert run != list(range(run[0], run[0] + len(run))) or not place.injective()
    else:
        flat = torch.arange(SIZE).as_strided(*place)
        assert flatten(flat, order).tolist() == run


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (Geometry((3, 2), (8, 1), 0), Geometry((3, 2), (8, 1), 2)),  # two chunks of gates
        (Geometry((3, 4), (20, 1), 4), Geometry((3, 4), (20, 1), 8)),  # two steps of a decoder
        (Geometry((2, 2), (1, 8), 0), Geometry((2, 2), (1, 8), 2)),
    ],
)
def test_what_models_write_side_by_side_is_known_to_be_disjoint(
    one: Geometry, two: Geometry
) -> None:
    assert one.disjoint(two)


def test_writing_leaves_the_flat_tensor_alone_and_overwriting_does_not() -> None:
    flat, value = torch.zeros(12), torch.ones(3, 2)
    place = Geometry((3, 2), (4, 1), 1)
    written = write(flat, value, place)
    assert flat.sum() == 0
    assert written.tolist() == [0, 1, 1, 0] * 3
    assert overwrite(written, 2 * value, place) is written
    assert written.sum() == 12
    batched = torch.func.vmap(lambda v: write(flat, v, place))(torch.stack([value, 3 * value]))
    assert batched.sum(-1).tolist() == [6, 18]
