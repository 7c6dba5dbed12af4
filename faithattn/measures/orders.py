"""All orders of a row: each of them where they are few, their moments whatever the length."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from faithattn._memory import chunk_size
from faithattn.measures.draws import POSITION_BITS, spans


def all_orders(length: int, device: torch.device | None = None) -> Tensor:
    """Every order of ``length`` items, ``(length!, length)`` int64."""
    orders = torch.zeros(1, 0, dtype=torch.int64, device=device)
    for item in range(length):
        added = orders.new_full((len(orders), 1), item)
        orders = torch.cat(
            [
                torch.cat([orders[:, :place], added, orders[:, place:]], 1)
                for place in range(item + 1)
            ]
        )
    return orders


def order_keys(valid: Tensor, first: int, last: int) -> Tensor:
    """Sort keys (B, last - first, L) that put valid (B, L) into its orders first..last.

    Where an instance has fewer orders, or none valid, the keys keep its row.
    """
    count = valid.sum(-1)
    keys = torch.zeros(len(valid), last - first, valid.shape[1], dtype=torch.int64).to(valid.device)
    for length in sorted({*count.tolist()}):
        members = (count == length).nonzero()[:, 0]
        orders = all_orders(length, valid.device)[first:last]
        columns = valid[members].nonzero()[:, 1].view(len(members), 1, length)
        ranks = (orders << POSITION_BITS).expand(len(members), -1, -1)
        part = keys.new_zeros(len(members), *keys.shape[1:])
        part[:, : len(orders)].scatter_(-1, columns.expand_as(ranks), ranks)
        keys[members] = part
    return keys


def order_sums(attention: Tensor, scores: Tensor) -> Tensor:
    """What each order of few positions adds to the sums, ``(T!, N, C)`` in double precision.

    The sum over rows r and positions t of a[r, order(t)] s[r, t] is one over
    t of m[t, order(t)], with m[t, u] = sum_r s[r, t] a[r, u]: however many rows
    there are, an order costs T additions.

    Args:
        attention: Rows ``(N, R, T)``, moved together.
        scores: What each weight is multiplied with, ``(N, R, T, C)``.
    """
    size, length = attention.shape[0], attention.shape[-1]
    products = torch.einsum("nrtc,nru->tunc", scores.double(), attention.double())
    own = torch.einsum("ttnc->nc", products)
    chosen = _selection(length).to(products.device)
    return (chosen @ products.reshape(length * length, -1)).view(len(chosen), size, -1) - own


@cache
def _selection(length: int) -> Tensor:
    """Which entries (t, order(t)) each order adds up, (T!, T * T) of zeros and ones."""
    return one_hot(all_orders(length), length).flatten(1).double()


def order_moments(attention: Tensor, scores: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Distance from the mean over all orders, and their standard deviation, (B,) each.

    Of sum_rt a[r, order(t)] s[r, t], in double precision: with rows centred
    over the valid positions, sum_rt a s and the norm of the (T, T) matrix
    sum_r a[r, u] s[r, t] divided by sqrt(T - 1) (Hoeffding 1951, "A
    combinatorial central limit theorem"). The spread is nan below two positions.

    Args:
        attention: Rows ``(B, R, L)``, moved together; 0 outside ``valid``.
        scores: What each weight is multiplied with, likewise.
        valid: ``(B, R, L)`` bool; an instance's rows have the same or none.
    """
    step = chunk_size(attention[0].numel(), bytes_per_element=40)
    pieces = [
        _moments(attention[first:last], scores[first:last], valid[first:last])
        for first, last in spans(len(attention), step)
    ]
    return torch.cat([each[0] for each in pieces]), torch.cat([each[1] for each in pieces])


def _moments(attention: Tensor, scores: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    a, s = _centred(torch.stack([attention, scores]), valid)
    if a.shape[1] <= a.shape[2]:  # the same norm by the smaller of two matrices
        square = (torch.bmm(a, a.mT) * torch.bmm(s, s.mT)).sum((1, 2)).clamp_min(0)
    else:
        square = torch.bmm(a.mT, s).square().sum((1, 2))
    count = valid.any(1).sum(-1)
    spread = (square / (count - 1).clamp_min(1)).sqrt()
    return (a * s).sum((1, 2)), spread.masked_fill(count < 2, torch.nan)


def _centred(rows: Tensor, valid: Tensor) -> Tensor:
    wide = rows.double()
    mean = wide.sum(-1, keepdim=True) / valid.sum(-1, keepdim=True).clamp_min(1)
    return (wide - mean).masked_fill_(~valid, 0)
