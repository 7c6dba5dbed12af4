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
    Orders,
    Ranked,
    draw_keys,
    named_orders,
    ranked,
    shares_of_weight,
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
    orders: Orders = ("attention", "gradient", "gradient_attention", "random"),
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
            ``"attention"``: by weight. ``"gradient"``: by the
            derivative of the predicted class's probability by the weight, with
            its sign. ``"gradient_attention"``: by the product of both.
            ``"random"``: ``n_random`` draws, reported by their mean.
            ``"optimal"``: the fewest weights that any set needs, a floor for
            every order; known where the logits are affine in the attention,
            of at most 16 classes, and the view has one row or nothing is
            renormalised.
        renormalize: Whether the weights left are divided by their sum, as
            published; the last weight then cannot go. Otherwise all can.
        n_random: Number of random orders of each instance.
        view: Which attention is erased; not needed for one row. Several rows
            lose their weights at the same positions, in the order of their
            mean (attention), or of the sum of derivatives.
        seed: Any whole number; None draws a fresh one, kept in the result.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``. The
            same (seed, id) gets the same random orders in any batch.

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
    runs = len(named) + _asks_for(named, "random") * (count - 1)
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view, replay=runs * _SHORT_TEXT)
        ids = instance_ids(instances, reading.outputs)
        affine = _affine(reading, renormalize)
        draws = draw_keys(reading, seed, ids, count)
        order = ranked(reading, named, affine, draws, renormalize=renormalize)
        found = _measure(reading, order, affine, named, renormalize)
    rows = reading.rows
    return FlipResult(
        predicted=reading.predicted,
        max_attention=rows.max_attention,
        mass=rows.mean_mass,
        view=str(rows.view),
        output=reading.output,
        replay=reading.replayed,
        **found,
        orders=tuple(named),
        renormalize=renormalize,
        n_random=count,
        seed=seed,
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
    possible = possible_steps(reading, order.ranks, renormalize=renormalize)
    possible = possible & ~order.undefined[..., None]
    foreseen = foresee(reading, affine, order.ranks, renormalize=renormalize)
    steps = first_flips(reading, order.ranks, possible, foreseen, renormalize=renormalize)
    dtype, never = reading.outputs.dtype, steps == 0
    share = shares_of_weight(reading).double()[:, None].expand(order.ranks.shape)
    gone = share.gather(-1, order.ranks.argsort(-1)).cumsum(-1)
    at = (steps - 1).clamp_min(0)[..., None]
    length = reading.rows.valid.any(1).sum(-1, keepdim=True).clamp_min(1)
    values = {
        "count": steps.double().masked_fill(never, torch.nan),
        "fraction": (steps / length).double().masked_fill(never, torch.nan),
        "removed_mass": gone.gather(-1, at)[..., 0].clamp_max(1).masked_fill(never, torch.nan),
        "censored": (steps / length).double().masked_fill(never, 1.0),
        "flipped": (~never).double(),
    }
    values = {
        name: value.masked_fill(order.undefined, torch.nan).to(dtype)
        for name, value in values.items()
    }
    draws = [
        index
        for index, owner in enumerate(order.owners)
        if _is(list(named.values())[owner], "random")
    ]
    found = _by_name(values, order.owners, list(named.values()))
    return {**found, "random_fraction": values["fraction"][:, draws]}


def _by_name(
    values: Mapping[str, Tensor], owners: tuple[int, ...], orders: list[Explanation]
) -> dict[str, Tensor]:
    """One column an order: the mean over random ones, the least count over optimal ones."""
    columns: dict[str, list[Tensor]] = {name: [] for name in values}
    for owner, order in enumerate(orders):
        runs = [index for index, other in enumerate(owners) if other == owner]
        least = values["count"][:, runs].nan_to_num(torch.inf).argmin(-1, keepdim=True)
        for name, value in values.items():
            part = value[:, runs]
            one = part.gather(-1, least)[:, 0] if _is(order, "optimal") else part.mean(-1)
            columns[name].append(one)
    return {name: torch.stack(each, -1) for name, each in columns.items()}


def _asks_for(named: Mapping[str, Explanation], name: str) -> bool:
    return any(_is(order, name) for order in named.values())


def _is(order: Explanation, name: str) -> bool:
    return isinstance(order, str) and order == name
