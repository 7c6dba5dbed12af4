"""Features put in the place of others: means, and positions of the batch."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from faithattn.interventions.features import DRAWS, donors, mean_feature, replaced

MASK = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]]).bool()


def test_marked_positions_of_each_row_are_replaced() -> None:
    features, rows = torch.rand(3, 3, 4), torch.tensor([2, 0])
    gone = torch.tensor([[False, False, True], [True, True, False]])
    before = features.clone()
    changed = replaced(features, rows, gone, torch.tensor([[1.0], [2.0]]).expand(2, 4))
    expected = features[rows]
    expected[0, 2], expected[1, :2] = 1, 2
    assert torch.equal(features, before)
    assert torch.equal(replaced(features, rows, gone, 0.0), features[rows] * ~gone[..., None])
    assert torch.equal(changed, expected) and not torch.equal(changed, features)


def test_the_mean_is_over_what_can_be_explained() -> None:
    features = torch.rand(4, 4, 2).double()
    mean = mean_feature(features, MASK)
    for row, flags in enumerate(MASK):
        expected = features[row][flags].mean(0) if flags.any() else torch.zeros(2).double()
        torch.testing.assert_close(mean[row], expected)


def taken(mask: Tensor) -> list[tuple[int, int, int, int, int]]:
    """Every (draw, row, position, donor row, donor position)."""
    rows, columns = donors(mask)
    assert rows.shape == columns.shape == (DRAWS, *mask.shape)
    return [
        (draw, row, at, int(rows[draw, row, at]), int(columns[draw, row, at]))
        for draw in range(DRAWS)
        for row in range(mask.shape[0])
        for at in range(mask.shape[1])
    ]


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
def test_donors_are_other_instances_where_there_are_any(flags: list[list[bool]]) -> None:
    mask = torch.tensor(flags)
    for _, row, at, other, column in taken(mask):
        elsewhere = [r for r in range(len(flags)) if r != row and any(flags[r])]
        possible = flags[row][at] and (bool(elsewhere) or sum(flags[row]) > 1)
        if not possible:
            assert (other, column) == (-1, -1)
            continue
        assert flags[other][column]
        assert other in elsewhere if elsewhere else (other == row and column != at)


def test_donors_do_not_depend_on_padding() -> None:
    right = torch.nn.functional.pad(MASK, (0, 3))
    left = torch.nn.functional.pad(MASK, (3, 0))
    rows, columns = donors(MASK)
    for wide, shift, part in ((right, 0, slice(0, 4)), (left, 3, slice(3, 7))):
        again, more = donors(wide)
        assert torch.equal(again[..., part], rows)
        assert torch.equal(torch.where(more < 0, more, more - shift)[..., part], columns)


def test_every_position_is_drawn_about_equally_often() -> None:
    rows, columns = donors(torch.ones(40, 25).bool())
    for values, size in ((rows, 40), (columns, 25)):
        share = torch.bincount(values.flatten(), minlength=size) / values.numel()
        assert ((share * size - 1).abs() < 0.5).all()  # 5 standard deviations of 125 draws
    assert (rows[0] != rows[1]).float().mean() > 0.9
