"""Changes to embedded inputs at some positions of each row."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.measures.draws import sort_keys

DRAWS = 5  # how many other positions are put in the place of one
_SEED = 0
_KEYS_BELOW = 2.0**62


def replaced(features: Tensor, rows: Tensor, gone: Tensor, values: Tensor | float) -> Tensor:
    """Rows ``(n,)`` of features with a number, or values ``(n, E)``, put where ``gone`` (n, L)."""
    changed = features[rows]
    index, position = gone.nonzero(as_tuple=True)
    changed[index, position] = values[index] if isinstance(values, Tensor) else values
    return changed


def mean_feature(features: Tensor, mask: Tensor) -> Tensor:
    """The mean feature ``(B, E)`` of the positions of each row's mask."""
    inside = mask[..., None].to(features.dtype)
    return (features * inside).sum(1) / inside.sum(1).clamp_min(1)


def donors(mask: Tensor) -> tuple[Tensor, Tensor]:
    """For each draw and position, another position to take from: row and column.

    The donor is any position of the mask in another row or, in a batch of one
    row, another position of that row. It is a function of (row, draw,
    position) and of what the batch holds. Returns rows and columns, each
    ``(DRAWS, B, L)``; -1 where nothing can be taken.
    """
    ids = torch.arange(len(mask), device=mask.device)
    keys = sort_keys(_SEED, ids, 0, DRAWS, mask).transpose(0, 1)
    share = keys.double() / _KEYS_BELOW  # in [0, 1), exact
    rows, columns = mask.nonzero(as_tuple=True)
    total = len(rows)
    own = mask.sum(1)
    before = own.cumsum(0) - own
    rank = mask.long().cumsum(1) - 1
    alone = bool((own == total).any())
    # What may not be taken is one block of the pool: the row itself, or the one position.
    start = before[:, None] + rank if alone else before[:, None].expand_as(rank)
    block = torch.ones_like(own) if alone else own
    left = (total - block)[:, None]
    pick = (share * left).long()
    pick = torch.where(pick >= start, pick + block[:, None], pick)
    allowed = mask & (left > 0)
    pick = pick.clamp(0, max(0, total - 1))
    if total == 0:
        return torch.full_like(pick, -1), torch.full_like(pick, -1)
    return rows[pick].where(allowed, -1), columns[pick].where(allowed, -1)
