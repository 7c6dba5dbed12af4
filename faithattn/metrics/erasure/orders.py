"""In which order attention weights are taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from faithattn.adapters.affine import Affine
from faithattn.adapters.reading import Reading
from faithattn.errors import AdapterError
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.explanations.kinds import kind_of
from faithattn.measures.draws import POSITION_BITS, sort_keys

Orders: TypeAlias = "Explanation | Sequence[Explanation] | Mapping[str, Explanation]"


class Drawn(NamedTuple):
    """What draws depend on: seed, ids of the rows ``(B,)``, and the number of random orders."""

    seed: int
    instances: Tensor
    n_random: int


class Ranked(NamedTuple):
    """N orders of removal, several of which may belong to one name.

    Attributes:
        places: Positions in the order in which they go, ``(B, N, L)``; those
            that cannot be erased come last.
        ranks: Place of each position in each order from 0, likewise.
        undefined: Orders that there are not, ``(B, N)`` bool.
        owners: Number of the name that each order belongs to.
        share: Attention of each position as a share of all, ``(B, L)``.
        lengths: Number of positions that can be erased, ``(B,)``.
    """

    places: Tensor
    ranks: Tensor
    undefined: Tensor
    owners: tuple[int, ...]
    share: Tensor
    lengths: Tensor


def named_orders(orders: Orders) -> dict[str, Explanation]:
    """The orders by name; two of one name are numbered."""
    if isinstance(orders, Mapping):
        named = dict(orders)
    else:
        named = _numbered([orders] if isinstance(orders, str | Tensor) else orders)
    if not named:
        raise ValueError("orders must name at least one order; got none. Pass ('attention',).")
    for order in named.values():
        _check_order(order)
    return named


def _numbered(orders: object) -> dict[str, Explanation]:
    """Several orders under their own names; scores, which have none, by number."""
    if not isinstance(orders, Sequence):
        raise TypeError(
            "orders must be a name, scores (B, L), several of these, or a mapping of them; "
            f"got {type(orders).__name__}. Pass ('attention',)."
        )
    named: dict[str, Explanation] = {}
    for order in orders:
        plain = name = name_of_explanation(order)
        number = 1
        while name in named:
            number += 1
            name = f"{plain} {number}"
        if number > 1 and isinstance(order, str):
            raise ValueError(f"orders must name each order once; got {order!r} twice. Drop one.")
        named[name] = order
    return named


def _check_order(order: object) -> None:
    if not isinstance(order, str | Tensor):
        raise TypeError(
            f"orders must hold names or scores (B, L); got {type(order).__name__}. "
            "Convert with torch.as_tensor."
        )
    if isinstance(order, str) and order != "optimal":
        try:
            kind_of(order)
        except ValueError as error:
            raise ValueError(
                f"orders must hold 'optimal' or names that explain() knows; got {order!r}. "
                f"Of those, {error}"
            ) from None


def ranked(
    reading: Reading,
    orders: Mapping[str, Explanation],
    affine: Affine | None,
    drawn: Drawn,
    *,
    renormalize: bool,
) -> Ranked:
    """Ranks positions by every order."""
    erasable = erasable_positions(reading)
    scores, owners = [], []
    slopes = _Slopes(reading, affine)
    for owner, order in enumerate(orders.values()):
        if is_named(order, "random"):
            each = -_draw_keys(reading, drawn).double()
        elif is_named(order, "optimal"):
            each = _optimal(reading, affine, renormalize=renormalize)
        elif is_named(order, "attention_gradient"):
            each = slopes.by_weight[:, None].double()
        elif is_named(order, "gradient_attention"):
            each = slopes.times_weight[:, None].double()
        else:
            scored = scores_of(reading, order, seed=drawn.seed, instances=drawn.instances)
            each = scored[:, None].double()
        scores.append(each)
        owners += [owner] * each.shape[1]
    every, lengths = torch.cat(scores, 1), erasable.sum(-1)
    undefined = (every.isnan() & erasable[:, None]).any(-1)
    undefined |= ((reading.predicted < 0) | (lengths < (2 if renormalize else 1)))[:, None]
    every = every.nan_to_num(0).masked_fill(~erasable[:, None], -torch.inf)
    places = every.argsort(dim=-1, descending=True, stable=True)
    numbers = torch.arange(places.shape[-1], device=places.device).expand_as(places)
    ranks = torch.empty_like(places).scatter_(-1, places, numbers)
    return Ranked(places, ranks, undefined, tuple(owners), shares_of_weight(reading), lengths)


def erasable_positions(reading: Reading) -> Tensor:
    """Positions ``(B, L)`` that some row may attend to."""
    return reading.rows.valid.any(1)


def shares_of_weight(reading: Reading) -> Tensor:
    """Attention of each position, the rows' mean, as a share of all that is erasable, (B, L)."""
    weights = reading.rows.explanation.masked_fill(~erasable_positions(reading), 0)
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, 1)


def _draw_keys(reading: Reading, drawn: Drawn) -> Tensor:
    """Keys of random orders, ``(B, count, L)``, exact in double precision."""
    keys = sort_keys(drawn.seed, drawn.instances, 0, drawn.n_random, reading.rows.mask)
    return keys >> POSITION_BITS


def is_named(order: Explanation, name: str) -> bool:
    """Whether an order is the one of that name."""
    return isinstance(order, str) and order == name


class _Slopes:
    """Derivatives of the decision by the weights of each position, over its rows, (B, L).

    Of the log-odds of the predicted class: the derivative of its probability p
    is p (1 - p) times that, so that both rank alike, but this one does not
    vanish where p is 1 in floating point.
    """

    def __init__(self, reading: Reading, affine: Affine | None) -> None:
        self._reading, self._affine = reading, affine

    @cached_property
    def _slope(self) -> Tensor:
        """By the conditional rows, (B, R, L)."""
        rows, affine = self._reading.rows, self._affine
        if affine is not None:  # which was found by this derivative
            odds = _by_logits(self._reading, self._reading.run.logits.detach())
            return (affine.scores @ odds[..., None]).view(rows.conditional.shape)
        point = rows.conditional.detach().requires_grad_()
        try:
            with torch.enable_grad():
                logits = self._reading.replay_override(rows.override(point[None]))[0]
                odds = _by_logits(self._reading, logits.detach()).to(logits.dtype)
                (slope,) = torch.autograd.grad(logits, point, odds, allow_unused=True)
        except (RuntimeError, AdapterError) as error:
            raise AdapterError(
                "orders must not hold a gradient where the model has none by its attention; got "
                f"{type(error).__name__}: {error}. "
                "Leave 'attention_gradient' and 'gradient_attention' out."
            ) from error
        return torch.zeros_like(point) if slope is None else slope

    @property
    def by_weight(self) -> Tensor:
        """By the weights themselves: conditional ones are the weights divided by the mass."""
        rows = self._reading.rows
        return torch.where(rows.valid, self._slope / rows.mass[..., None], 0).sum(1)

    @property
    def times_weight(self) -> Tensor:
        """The same times the weights."""
        return (self._slope * self._reading.rows.conditional).sum(1)


def _by_logits(reading: Reading, logits: Tensor) -> Tensor:
    """Derivative (B, C) of the predicted class's log-odds by the logits; 0 without a class."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    predicted = reading.predicted[:, None]
    if bool((predicted < 0).any()):
        return torch.zeros_like(wide)
    if reading.output == "sigmoid":
        return torch.where(predicted == 1, 1, -1).to(wide.dtype)
    return -wide.scatter(-1, predicted, -torch.inf).softmax(-1).scatter(-1, predicted, -1)


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
