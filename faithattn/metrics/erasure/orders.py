"""In which order attention weights are taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from faithattn.adapters.affine import Affine
from faithattn.adapters.reading import Reading
from faithattn.errors import AdapterError
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.measures.draws import POSITION_BITS, sort_keys

Orders: TypeAlias = "Explanation | Sequence[Explanation] | Mapping[str, Explanation]"


class Ranked(NamedTuple):
    """N orders of removal, several of which may belong to one name.

    Attributes:
        ranks: Place of each position in each order from 0, ``(B, N, L)``; those
            that cannot be erased come last.
        undefined: Orders that there are not, ``(B, N)`` bool.
        owners: Number of the name that each order belongs to.
    """

    ranks: Tensor
    undefined: Tensor
    owners: tuple[int, ...]


def named_orders(orders: Orders) -> dict[str, Explanation]:
    """The orders by name; two of one name are numbered."""
    if isinstance(orders, Mapping):
        return dict(orders)
    single = isinstance(orders, str | Tensor)
    every: Sequence[Explanation] = [orders] if single else list(orders)  # type: ignore[list-item]
    if not every:
        raise ValueError("orders must name at least one order; got none. Pass ('attention',).")
    named: dict[str, Explanation] = {}
    for order in every:
        if not isinstance(order, str | Tensor):
            raise TypeError(
                "orders must hold names or scores (B, L); got "
                f"{type(order).__name__}. Convert with torch.as_tensor."
            )
        plain = name = name_of_explanation(order)
        number = 1
        while name in named:
            number += 1
            name = f"{plain} {number}"
        if number > 1 and isinstance(order, str):
            raise ValueError(f"orders must name each order once; got {order!r} twice. Drop one.")
        named[name] = order
    return named


def ranked(
    reading: Reading,
    orders: Mapping[str, Explanation],
    affine: Affine | None,
    draws: Tensor,
    *,
    renormalize: bool,
) -> Ranked:
    """Ranks positions by every order; ``draws`` (B, n, L) are the keys of random ones."""
    erasable = erasable_positions(reading)
    scores, owners = [], []
    for owner, order in enumerate(orders.values()):
        if isinstance(order, str) and order == "random":
            each = -draws.double()
        elif isinstance(order, str) and order == "optimal":
            each = _optimal(reading, affine, renormalize=renormalize)
        else:
            each = _by_one(reading, order)[:, None].double()
        scores.append(each)
        owners += [owner] * each.shape[1]
    every = torch.cat(scores, 1)
    undefined = (every.isnan() & erasable[:, None]).any(-1)
    undefined |= (reading.predicted < 0)[:, None]
    undefined |= (erasable.sum(-1) < (2 if renormalize else 1))[:, None]
    every = every.nan_to_num(0).masked_fill(~erasable[:, None], -torch.inf)
    ranks = every.argsort(dim=-1, descending=True, stable=True).argsort(-1)
    return Ranked(ranks, undefined, tuple(owners))


def erasable_positions(reading: Reading) -> Tensor:
    """Positions ``(B, L)`` that some row may attend to."""
    return reading.rows.valid.any(1)


def shares_of_weight(reading: Reading) -> Tensor:
    """Attention of each position, the rows' mean, as a share of all that is erasable, (B, L)."""
    weights = reading.rows.explanation.masked_fill(~erasable_positions(reading), 0)
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, 1)


def draw_keys(reading: Reading, seed: int, ids: Tensor, count: int) -> Tensor:
    """Keys of random orders, ``(B, count, L)``, exact in double precision."""
    return sort_keys(seed, ids, 0, count, reading.rows.mask) >> POSITION_BITS


def _by_one(reading: Reading, order: Explanation) -> Tensor:
    if isinstance(order, str) and order in ("gradient", "gradient_attention"):
        return _gradient(reading, times_attention=order == "gradient_attention")
    return scores_of(reading, order)


def _gradient(reading: Reading, *, times_attention: bool) -> Tensor:
    """Derivative of the decision by the weights of each position, over its rows, (B, L).

    Of the log-odds of the predicted class: the derivative of its probability p
    is p (1 - p) times that, so that both rank alike, but this one does not
    vanish where p is 1 in floating point.
    """
    rows = reading.rows
    point = rows.conditional.detach().requires_grad_()
    try:
        with torch.enable_grad():
            logits = reading.replay_override(rows.override(point[None]))[0]
            odds = _log_odds(logits, reading)
            (slope,) = torch.autograd.grad(odds.sum(), point, allow_unused=True)
    except (RuntimeError, AdapterError) as error:
        raise AdapterError(
            "orders must not hold a gradient where the model has none by its attention; got "
            f"{type(error).__name__}: {error}. Leave 'gradient' and 'gradient_attention' out."
        ) from error
    if slope is None:
        return torch.zeros_like(rows.explanation)
    if times_attention:
        return (slope * rows.conditional).sum(1)
    # By the weights themselves: conditional ones are the weights divided by the mass.
    per_weight = torch.where(rows.valid, slope / rows.mass[..., None], 0)
    return per_weight.sum(1)


def _log_odds(logits: Tensor, reading: Reading) -> Tensor:
    """Log-odds of the predicted class, ``(B,)``; 0 where there is none."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    predicted = reading.predicted
    if bool((predicted < 0).any()):
        return wide.sum(-1) * 0
    if reading.output == "sigmoid":
        return torch.where(predicted == 1, wide[:, 0], -wide[:, 0])
    own = wide.gather(-1, predicted[:, None])
    others = wide.scatter(-1, predicted[:, None], -torch.inf)
    return own[:, 0] - others.logsumexp(-1)


def _optimal(reading: Reading, affine: Affine | None, *, renormalize: bool) -> Tensor:
    """Scores whose order flips an affine decision earliest, one for each other class, (B, C', L).

    See docs/erasure.md: what is left over of the margin to class d is a sum over
    the weights kept, so that the largest terms go first.
    """
    rows = reading.rows
    count = reading.outputs.shape[-1]
    classes = max(count - 1, 1)
    unknown = rows.conditional.new_full((len(rows.mask), classes, rows.mask.shape[1]), torch.nan)
    several = renormalize and rows.conditional.shape[1] > 1
    if affine is None or several or bool((reading.predicted < 0).any()):
        return unknown.double()
    scores = affine.scores.double().view(*rows.conditional.shape, count)
    if renormalize:
        scores = scores + affine.constant.double()[:, None, None]
    terms = torch.einsum("brl,brlc->bcl", rows.conditional.double(), scores)
    own, others = against_others(terms, reading)
    return (own - others).masked_fill(~affine.holds[:, None, None], torch.nan)


def against_others(values: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
    """Values ``(B, C, ...)`` of the predicted class, (B, 1, ...), and of the others, (B, C', ...).

    One logit is that of class 1 over class 0: its value counts towards the
    predicted class, and the other has 0.
    """
    predicted = reading.predicted.view(-1, *[1] * (values.ndim - 1))
    if values.shape[1] == 1:
        return torch.where(predicted == 0, -values, values), torch.zeros_like(values)
    rest = values.shape[2:]
    others = torch.arange(values.shape[1] - 1, device=values.device)
    others = others.view(1, -1, *[1] * len(rest))
    others = (others + (others >= predicted)).expand(len(values), -1, *rest)
    return values.gather(1, predicted.expand(-1, 1, *rest)), values.gather(1, others)
