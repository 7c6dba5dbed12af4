"""Kendall's tau-b and its two-sided p-value from counts of pairs, by SciPy's rules."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

_EXACT_LENGTH = 33  # SciPy's limit for the exact distribution of any tie-free row
_LONGEST_FACTORIAL = 170  # 171! overflows a float, and SciPy calls the p-value 0 from there


class TieSums(NamedTuple):
    """Sums over the groups of ``c`` tied positions of each row, zero without ties."""

    pairs: Tensor  # c (c - 1) / 2
    cubic: Tensor  # c (c - 1) (c - 2)
    variance: Tensor  # c (c - 1) (2 c + 5)


class PairCounts(NamedTuple):
    """What tau-b and its p-value depend on; integers, one a row."""

    positions: Tensor
    discordant: Tensor
    x_ties: TieSums
    y_ties: TieSums
    joint_pairs: Tensor

    def cpu(self) -> PairCounts:
        """Returns the counts on the CPU."""
        x, y = (TieSums(*(value.cpu() for value in ties)) for ties in (self.x_ties, self.y_ties))
        return PairCounts(self.positions.cpu(), self.discordant.cpu(), x, y, self.joint_pairs.cpu())


def tie_sums(group_sizes: Tensor) -> TieSums:
    """Sums over groups, (rows, groups) -> (rows,)."""
    c = group_sizes.long()
    power = c * c
    # From sums of powers, multiplied out: half the passes over memory of the products themselves.
    first, second, third = c.sum(1), power.sum(1), power.mul_(c).sum(1)
    return TieSums(
        pairs=(second - first) // 2,
        cubic=third - 3 * second + 2 * first,
        variance=2 * third + 3 * second - 5 * first,
    )


def tau_b(counts: PairCounts) -> tuple[Tensor, Tensor]:
    """Returns tau-b and its p-value in float64; nan for constant or too short rows."""
    n, discordant = counts.positions, counts.discordant
    x, y = counts.x_ties, counts.y_ties
    total = n * (n - 1) // 2
    excess = total - x.pairs - y.pairs + counts.joint_pairs - 2 * discordant
    # A constant row divides by zero: excess is 0 there, and 0 / 0 is the nan that is due.
    scale = (total - x.pairs).double().sqrt(), (total - y.pairs).double().sqrt()
    statistic = (excess / scale[0] / scale[1]).clamp(-1, 1)
    fewest = torch.minimum(discordant, total - discordant)
    exact = (x.pairs + y.pairs == 0) & ((n <= _EXACT_LENGTH) | (fewest <= 1))
    pvalue = torch.where(exact, _exact_pvalue(n, fewest), _normal_pvalue(counts, excess))
    return statistic, pvalue.where(statistic == statistic, math.nan)


def _normal_pvalue(counts: PairCounts, excess: Tensor) -> Tensor:
    """Normal approximation, its variance corrected for ties (Kendall 1970)."""
    n, x, y = counts.positions.double(), counts.x_ties, counts.y_ties
    m = n * (n - 1)
    variance = (
        (m * (2 * n + 5) - x.variance - y.variance) / 18
        + 2 * x.pairs.double() * y.pairs / m
        + x.cubic.double() * y.cubic / (9 * m * (n - 2))
    )
    return torch.erfc((excess / variance.sqrt()).abs() / math.sqrt(2))


def _exact_pvalue(positions: Tensor, fewest: Tensor) -> Tensor:
    """Exact p-value of rows up to the table's length, or with at most one odd pair."""
    table, factorials = _null_table(), _inverse_factorials()
    by_table = table[positions.clamp(max=_EXACT_LENGTH), fewest.clamp(0, table.shape[1] - 1)]
    # One odd pair has n - 1 places, so 2 (1 + n - 1) / n! = 2 / (n - 1)!.
    odd = fewest.clamp(0, 1)
    closed = factorials[(positions - odd).clamp(0, _LONGEST_FACTORIAL + 1)]
    return torch.where(positions <= _EXACT_LENGTH, by_table, closed)


@cache
def _null_table() -> Tensor:
    """Two-sided p-values by length and the smaller of discordant and concordant pairs."""
    columns = _EXACT_LENGTH * (_EXACT_LENGTH - 1) // 4 + 1
    table = torch.ones(_EXACT_LENGTH + 1, columns, dtype=torch.float64)
    permutations = [1] + [0] * (columns - 1)  # with c inversions, of the length so far
    for n in range(2, _EXACT_LENGTH + 1):
        permutations = [sum(permutations[max(0, c - n + 1) : c + 1]) for c in range(columns)]
        tail = 0
        for c, count in enumerate(permutations):
            tail += count
            table[n, c] = min(1.0, 2 * tail / math.factorial(n))
    return table


@cache
def _inverse_factorials() -> Tensor:
    """Returns ``2 / n!`` by ``n``, and 0 from where the factorial overflows."""
    values = [2 / math.factorial(n) for n in range(_LONGEST_FACTORIAL + 1)]
    return torch.tensor([*values, 0.0], dtype=torch.float64)
