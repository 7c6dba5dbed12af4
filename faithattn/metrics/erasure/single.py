"""Does the top attention weight matter more than another one?"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.interventions.attention import without_positions
from faithattn.measures.draws import fresh_seed, instance_ids, sort_keys, spans
from faithattn.measures.outputs import output_divergence, predicted_class
from faithattn.metrics.erasure.orders import erasable_positions, shares_of_weight
from faithattn.results.erasure import SingleErasure

_SHORT_TEXT = 16  # positions, where all are looked at; longer texts need the more replays


def single_weight_erasure(
    model: object,
    inputs: Any,
    *,
    view: AttentionView | None = None,
    renormalize: bool = True,
    seed: int | None = None,
    instances: Tensor | None = None,
    n_random: int | None = 1,
) -> SingleErasure:
    """Output change without the largest attention weight, and without a random other one.

    If attention says what matters, taking the top weight away moves the output
    further, and turns the decision more often, than taking another. Published:
    one random other weight of the same instance, the rest renormalised. The
    encoder runs once; the states stay fixed.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        view: Which attention is erased; not needed for one row. Of several
            rows, each loses its weight at the same position.
        renormalize: Whether the weights left are divided by their sum. A row's
            mass on the real positions is kept then.
        seed: Any whole number; None draws a fresh one, kept in the result.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``. The
            same (seed, id) gets the same other weights in any batch.
        n_random: How many other weights, all different, the top is compared
            with. None takes every other one: nothing is drawn then. Each
            weight costs one replay of what depends on the attention.

    Returns:
        Flips of the decision, changes of the output in nats, and their
        differences, one value per instance; nan with fewer than two positions,
        and where the top weight was the only one and the rest is to be
        renormalised. Flips are nan where nothing is decided (regression,
        several labels).

    Raises:
        AdapterError: If the model breaks its contract.
        ValueError: If an argument is out of range.

    References:
        Serrano & Smith (2019), "Is Attention Interpretable?", section 4.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = single_weight_erasure(model, torch.tensor([[2, 5, 6, 7, 3]]), n_random=None)
        >>> result.delta_change.shape, int(result.n_others)
        (torch.Size([1]), 2)
    """
    count = None if n_random is None else require_count("n_random", n_random)
    seed = fresh_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view, replay=replays_of_single(count))
        ids = instance_ids(instances, reading.outputs)
        return single_erasure_of(reading, count, renormalize, seed, ids)


def replays_of_single(n_random: int | None) -> int:
    """How many outputs under other attention are asked for, about."""
    return 1 + (n_random or _SHORT_TEXT)


def single_erasure_of(
    reading: Reading, n_random: int | None, renormalize: bool, seed: int, ids: Tensor
) -> SingleErasure:
    """Erasure in a reading, whose rows have ids ``(B,)``; see :func:`single_weight_erasure`."""
    found = _compare(reading, _columns(reading, seed, ids, n_random), renormalize)
    return SingleErasure(
        **(reading.described() | found),
        renormalize=renormalize,
        seed=seed,
        n_random=n_random,
    )


class _Columns(NamedTuple):
    """Positions (B, J) to erase, the top first, and which of them there are."""

    places: Tensor
    real: Tensor


def _columns(reading: Reading, seed: int, ids: Tensor, count: int | None) -> _Columns:
    """The top position, of equal ones the first, and others in random order."""
    erasable = erasable_positions(reading)
    lengths = erasable.sum(-1)
    top = shares_of_weight(reading).masked_fill(~erasable, -1).argmax(-1, keepdim=True)
    keys = sort_keys(seed, ids, 0, 1, reading.rows.mask)[:, 0]
    keys = keys.masked_fill(~erasable, torch.iinfo(keys.dtype).max).scatter(-1, top, -1)
    most = max(int(lengths.max()), 2)
    some = most if count is None else min(1 + count, most)
    places = keys.argsort(dim=-1, stable=True)[:, :some]
    real = torch.arange(places.shape[1], device=places.device) < lengths[:, None]
    return _Columns(places, real)


def _compare(reading: Reading, columns: _Columns, renormalize: bool) -> dict[str, Tensor]:
    """Top against others, (B,) each."""
    change, flipped = _erase(reading, columns, renormalize)
    others = columns.real[:, 1:]
    n_others = others.sum(-1)
    undefined = (n_others < 1) | change[:, 0].isnan()

    def mean(values: Tensor) -> Tensor:
        return torch.where(others, values[:, 1:], 0).sum(-1) / n_others.clamp_min(1)

    weights = shares_of_weight(reading).gather(-1, columns.places).to(change.dtype)
    lengths = erasable_positions(reading).sum(-1)
    found = {
        "flipped_top": flipped[:, 0],
        "flipped_other": mean(flipped),
        "change_top": change[:, 0],
        "change_other": mean(change),
        "delta_change": change[:, 0] - mean(change),
        "delta_attention": weights[:, 0] - mean(weights),
    }
    result = {name: value.masked_fill(undefined, torch.nan) for name, value in found.items()}
    exact = (n_others == lengths - 1) & ~undefined
    return {**result, "n_others": n_others.masked_fill(undefined, 0), "exact": exact}


def _erase(reading: Reading, columns: _Columns, renormalize: bool) -> tuple[Tensor, Tensor]:
    """Change of the output, and whether the decision flips, without each position, (B, J)."""
    rows, change, flipped = reading.rows, [], []
    share = shares_of_weight(reading)
    erased = torch.zeros_like(share, dtype=torch.bool).expand(columns.places.shape[1], -1, -1)
    erased = erased.scatter(-1, columns.places.T[..., None], columns.real.T[..., None])
    step = reading.alternatives_at_once(bytes_per_element=48)
    for first, last in spans(len(erased), step):
        gone = erased[first:last]
        left = without_positions(rows.conditional, gone, renormalize=renormalize)
        outputs = reading.replay(left.nan_to_num_(0))
        nothing = (share * ~gone).sum(-1) <= 0 if renormalize else torch.zeros_like(gone[..., 0])
        moved = output_divergence(outputs, reading.outputs, reading.output)
        turned = (predicted_class(outputs, reading.output) != reading.predicted).to(moved.dtype)
        turned = turned.masked_fill(reading.predicted < 0, torch.nan)
        change.append(moved.masked_fill(nothing, torch.nan).T)
        flipped.append(turned.masked_fill(nothing, torch.nan).T)
    return torch.cat(change, 1), torch.cat(flipped, 1)
