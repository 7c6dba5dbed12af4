"""Whether attention, gradients and leave-one-out put the same words first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn._memory import chunk_size
from faithattn.measures.draws import spans
from faithattn.measures.rank import top_k_kendall
from faithattn.paper.experiment.findings import TopK
from faithattn.paper.experiment.rankings import rankings
from faithattn.results.correlation import Correlation

PAIRS = {
    "attention_gradient": ("attention", "gradient"),
    "attention_loo": ("attention", "leave_one_out"),
    "gradient_loo": ("gradient", "leave_one_out"),
}


def top_k_agreement(
    gradient: Correlation, loo: Correlation, ks: Sequence[int] = (3, 5, 10)
) -> tuple[TopK, ...]:
    """Distances between the first k words by attention, gradients and leave-one-out.

    Near-ties are made equal first, with the tolerances of the correlations; of
    equal scores the earlier word is ahead, in every list. So repeated words,
    which all scores of a model without context tie, count as ordered alike,
    and no distance depends on float noise.

    Args:
        gradient: Attention and gradients of N texts.
        loo: Attention and leave-one-out of the same texts, in the same order.
        ks: Lengths of the lists, 1 or more each.

    Returns:
        For each k the three pairs, each with one distance a text and what it
        would be by chance.

    Raises:
        ValueError: If a k is below 1 or the two results are of other texts.

    References:
        Fagin, Kumar & Sivakumar (2003), "Comparing top k lists", with p = 1/2.

    Examples:
        >>> import torch
        >>> from faithattn import gradient_correlation, loo_correlation
        >>> from faithattn.paper.models import TextClassifier
        >>> model, ids = TextClassifier(10), torch.tensor([[2, 5, 6, 7, 3]])
        >>> found = top_k_agreement(
        ...     gradient_correlation(model, ids), loo_correlation(model, ids), ks=(1, 3)
        ... )
        >>> [(each.k, each.pair) for each in found[:2]], found[0].chance
        ([(1, 'attention_gradient'), (1, 'attention_loo')], tensor([0.6667]))
    """
    lengths = [require_count("ks", k) for k in ks]
    positions = gradient.mask.sum(1)
    count, width = gradient.mask.shape
    keys = [(k, pair) for k in lengths for pair in PAIRS]
    parts: dict[tuple[int, str], list[_Compared]] = {key: [] for key in keys}
    # Three rankings of 64 bits, and what sorting one of them takes.
    step = chunk_size(width, bytes_per_element=96)
    for first, last in spans(count, step):
        rows = torch.arange(first, last, device=positions.device)
        for key, compared in _compared(gradient, loo, rows, keys).items():
            parts[key].append(compared)
    found = []
    for k, pair in keys:
        distance, tied = (torch.cat(each) for each in zip(*parts[k, pair], strict=True))
        chance = expected_distance(positions, k).to(distance.dtype)
        chance = chance.masked_fill(distance.isnan(), math.nan)
        found.append(TopK(k, pair, distance, chance, positions, tied & ~distance.isnan()))
    return tuple(found)


def expected_distance(positions: Tensor, k: int) -> Tensor:
    """Mean distance of a top-k list from that of a random ranking, exact.

    Both lists have c = min(k, T) of T positions. Given that they share z, the
    pairs inside the shared part are ordered differently half of the time, as
    are pairs of which one list has both and the other has one; a pair of which
    each list has another one always is; one that a list has both of and the
    other none costs 1/2. Together ``3/4 z (z - 1) - (2c - 1) z + c (3c - 1) / 2``.
    z is hypergeometric: its mean is ``c^2 / T``, that of ``z (z - 1)`` is
    ``c^2 (c - 1)^2 / (T (T - 1))``.

    Args:
        positions: Numbers T of positions, int64, any shape.
        k: Length of the lists, at least 1.

    Returns:
        Expectations, float64 on the CPU where the device has none, in the shape
        of ``positions``: 1/2 where k is T or more; nan below two positions.

    Examples:
        >>> import torch
        >>> expected_distance(torch.tensor([1, 2, 4, 1000]), 2)
        tensor([   nan, 0.5000, 0.4500, 0.9976], dtype=torch.float64)
    """
    total = positions.cpu().double()
    cut = total.clamp(max=k)
    shared = cut**2 / total
    pairs = (cut * (cut - 1)) ** 2 / (total * (total - 1))
    cost = 0.75 * pairs - (2 * cut - 1) * shared + cut * (3 * cut - 1) / 2
    largest = cut * (cut - 1) / 2 + cut * torch.minimum(cut, total - cut)
    expected = (cost / largest).masked_fill(total < 2, math.nan)
    return expected if positions.device.type == "mps" else expected.to(positions.device)


class _Compared(NamedTuple):
    """Distances ``(n,)`` of some texts, and whether a tie goes beyond either list."""

    distance: Tensor
    tied: Tensor


def _compared(
    gradient: Correlation, loo: Correlation, rows: Tensor, keys: Sequence[tuple[int, str]]
) -> dict[tuple[int, str], _Compared]:
    """Some texts for each k and pair."""
    ranked, mask = rankings(gradient, loo, rows), gradient.mask[rows]
    dtype = gradient.explanation.dtype
    ascending = {name: _ascending(each.ranks, mask) for name, each in ranked.items()}
    found = {}
    for k, pair in keys:
        one, other = (ranked[name] for name in PAIRS[pair])
        distance = top_k_kendall(-one.ranks.to(dtype), -other.ranks.to(dtype), k=k, mask=mask)
        tied = torch.zeros_like(one.defined)
        for name in PAIRS[pair]:
            around = ascending[name][:, k - 1 : k + 1]
            tied |= (around[:, :1] == around[:, 1:]).any(1)
        found[k, pair] = _Compared(
            distance.masked_fill(~(one.defined & other.defined), math.nan), tied
        )
    return found


def _ascending(ranks: Tensor, mask: Tensor) -> Tensor:
    """Ranks ``(n, L)`` in order, those outside the mask behind all others, no two of them alike."""
    beyond = torch.arange(ranks.shape[1], device=ranks.device) + ranks.shape[1]
    return torch.where(mask, ranks, beyond).sort(1).values
