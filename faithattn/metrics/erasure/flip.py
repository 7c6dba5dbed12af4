"""How many attention weights have to go before the decision flips?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.affine import Affine, fit_affine
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation
from faithattn.measures.draws import fresh_seed, instance_ids
from faithattn.metrics.erasure.orders import (
    Drawn,
    Orders,
    Ranked,
    is_named,
    named_orders,
    ranked,
)
from faithattn.metrics.erasure.steps import (
    first_flips,
    foresee,
    holds_without_weight,
    possible_steps,
)
from faithattn.results.erasure import FlipResult

_SHORT_TEXT = 16  # steps of each order, about


def erasure_to_flip(
    model: object,
    inputs: Any,
    *,
    orders: Orders = ("attention", "attention_gradient", "gradient_attention", "random"),
    renormalize: bool = True,
    n_random: int = 5,
    view: AttentionView | None = None,
    seed: int | None = None,
    instances: Tensor | None = None,
) -> FlipResult:
    """Share of the attention weights that have to be zeroed until the decision flips.

    Weights go one after the other, the highest ranked first, and the share
    counts at the first flip. The sooner an order flips the decision, the better
    it tells which weights it rests on. The encoder runs once; the states stay
    fixed. Where the logits are affine in the attention, the steps before the
    flip are known in closed form, and the model confirms the flip.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        orders: Names, or scores ``(B, L)`` of one's own, larger first, of equal
            ones the lower position first; a mapping gives them names.
            ``"attention"``: by weight. ``"attention_gradient"``: by the
            derivative of the predicted class's probability by the weight, with
            its sign. ``"gradient_attention"``: by the product of both.
            ``"random"``: ``n_random`` draws, reported by their mean.
            ``"optimal"``: the fewest weights that any set needs, a floor for
            every order; known where the logits are affine in the attention,
            of at most 16 classes, and the view has one row or nothing is
            renormalised. Other names are those of :func:`explain`, at the
            predicted class.
        renormalize: Whether the weights left are divided by their sum, as
            published; the last weight then cannot go. Otherwise all can.
        n_random: Number of random orders of each instance.
        view: Which attention is erased; not needed for one row. Several rows
            lose their weights at the same positions, in the order of their
            mean (attention), or of the sum of derivatives.
        seed: Any whole number; None draws a fresh one, kept in the result.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``. The
            same (seed, id) gets the same draws in any batch.

    Returns:
        Share of weights, of attention, and number removed at the flip, one
        column an order; nan where the decision never flips, and where nothing
        is decided or nothing can be removed (which also leaves ``flipped`` nan).

    Raises:
        AdapterError: If the model breaks its contract, or has no derivative
            that an order needs.
        TypeError: If an order is neither a name nor a tensor.
        ValueError: If an argument is out of range.

    References:
        Serrano & Smith (2019), "Is Attention Interpretable?", section 5.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = erasure_to_flip(
        ...     model, torch.tensor([[2, 5, 6, 7, 3]]), orders=("attention", "optimal"), seed=0
        ... )
        >>> result.orders, result.censored.shape
        (('attention', 'optimal'), torch.Size([1, 2]))
        >>> bool(result.censored[0, 1] <= result.censored[0, 0])
        True
    """
    named, seed = named_orders(orders), fresh_seed(seed)
    count = require_count("n_random", n_random)
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view, replay=replays_to_flip(named, count))
        ids = instance_ids(instances, reading.outputs)
        return flip_of(reading, named, Drawn(seed, ids, count), renormalize=renormalize)


def replays_to_flip(named: Mapping[str, Explanation], n_random: int) -> int:
    """How many outputs under other attention are asked for, about."""
    runs = sum(n_random if is_named(order, "random") else 1 for order in named.values())
    return runs * _SHORT_TEXT


def flip_of(
    reading: Reading, named: Mapping[str, Explanation], drawn: Drawn, *, renormalize: bool
) -> FlipResult:
    """Erasure in a reading, by orders with names; see :func:`erasure_to_flip`."""
    affine = _affine(reading, renormalize)
    order = ranked(reading, named, affine, drawn, renormalize=renormalize)
    found = _measure(reading, order, affine, named, renormalize)
    return FlipResult(
        **(reading.described() | found),
        orders=tuple(named),
        renormalize=renormalize,
        n_random=drawn.n_random,
        seed=drawn.seed,
    )


def _affine(reading: Reading, renormalize: bool) -> Affine | None:
    """The affine form of the logits, where it tells anything; looking costs a few steps."""
    several = renormalize and reading.rows.conditional.shape[1] > 1
    # In double precision, which Apple's graphics processors do not have.
    if several or reading.outputs.device.type == "mps" or bool((reading.predicted < 0).any()):
        return None
    affine = fit_affine(reading)
    if affine is None or renormalize:
        return affine
    return replace(affine, holds=affine.holds & holds_without_weight(reading, affine))


def _measure(
    reading: Reading,
    order: Ranked,
    affine: Affine | None,
    named: Mapping[str, Explanation],
    renormalize: bool,
) -> dict[str, Tensor]:
    """Steps to the flip of every order, and what had gone by then; by name."""
    possible = possible_steps(order, renormalize=renormalize)
    foreseen = foresee(reading, affine, order.places, renormalize=renormalize)
    steps = first_flips(reading, order.ranks, possible, foreseen, renormalize=renormalize)
    never = steps == 0
    share = order.share.double()[:, None].expand(order.places.shape)
    gone = share.gather(-1, order.places).cumsum(-1).clamp_max_(1)
    mass = gone.gather(-1, (steps - 1).clamp_min(0)[..., None])[..., 0]
    fraction = steps.double() / order.lengths[:, None].clamp_min(1)
    at_flip = torch.stack([fraction, steps.double(), mass]).masked_fill_(never, torch.nan)
    always = torch.stack([fraction.masked_fill(never, 1), (~never).double()])
    values = torch.cat([at_flip, always]).masked_fill_(order.undefined, torch.nan)
    values = values.to(reading.outputs.dtype)
    orders = list(named.values())
    columns = _by_name(values, order.owners, orders)
    names = ("fraction", "count", "removed_mass", "censored", "flipped")
    drawn = [index for index, owner in enumerate(order.owners) if is_named(orders[owner], "random")]
    return {**dict(zip(names, columns, strict=True)), "random_fraction": values[0][:, drawn]}


def _by_name(values: Tensor, owners: tuple[int, ...], orders: list[Explanation]) -> Tensor:
    """Of quantities (Q, B, N), the second a count, one column an order, (Q, B, names).

    The mean over random ones, and that with the least count of the optimal ones.
    """
    columns = []
    for owner, order in enumerate(orders):
        part = values[..., [index for index, other in enumerate(owners) if other == owner]]
        if is_named(order, "optimal"):
            least = part[1].nan_to_num(torch.inf).argmin(-1)[None, :, None]
            columns.append(part.gather(-1, least.expand(len(part), -1, 1))[..., 0])
        else:
            columns.append(part.mean(-1))
    return torch.stack(columns, -1)
