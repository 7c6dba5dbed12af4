"""AOPC between the best and the worst that any order reaches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.reading import Reading, explained_class, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.importance.leave_one_out import Removal, changes, check_removal, expected_replays
from faithattn.importance.removal.outputs import removed_probabilities
from faithattn.measures.lattice import MOST, chain_bounds, subset_marks
from faithattn.measures.outputs import class_probability
from faithattn.metrics.correlation import output_noise
from faithattn.metrics.removal.beam import Drop, beam_bounds
from faithattn.metrics.removal.order import ranks_of, undefined_rows
from faithattn.results.removal import NormalizedAOPC

_SETS_AT_ONCE = 1 << 14


def normalized_aopc(
    model: object,
    inputs: Any,
    *,
    explanation: Explanation = "attention",
    removal: Removal = "delete",
    target: int | Tensor | None = None,
    view: AttentionView | None = None,
    exact_up_to: int = 8,
    width: int = 5,
    seed: int = 0,
    instances: Tensor | None = None,
) -> NormalizedAOPC:
    """AOPC scaled by the best and the worst that any order of the positions reaches.

    AOPC here is the mean of p(x) - p(x without the k first positions) over
    k = 1..T-1. What a model's outputs allow differs from model to model and
    text to text, so AOPC is no scale by itself: 0 is now the order with the
    smallest mean and 1 that with the largest. Larger is more faithful. The
    same is done with the first positions alone (sufficiency), whose orders
    have the same bounds; there, smaller is more faithful. (k = T is the same
    for every order and falls out of the scale.)

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanation: A name that ``explain`` knows, or scores ``(B, L)`` of
            one's own, larger ones more important; ties as in :func:`removal_curves`.
        removal: How positions are taken away, as in
            :func:`leave_one_out_importance`.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
        view: Which attention is explained; not needed for one row.
        exact_up_to: Texts of so many positions have their bounds from all
            2^T subsets, at most 16; 0 searches for all of them.
        width: Sets that the beam search for longer ones keeps at each step;
            about width times T^2 forward passes a text.
        seed: Seed of an explanation that is drawn.
        instances: Ids ``(B,)`` of the rows for it; default ``arange(B)``.

    Returns:
        Scaled values in 0..1, with the bounds and how they were found: exact
        ones, or those of the best and worst orders met, the explanation's own
        among them, which lie inside the true ones. nan for fewer than two
        positions, where no order matters, and where nothing can be said
        without some set.

    Raises:
        AdapterError: If the model cannot remove positions this way.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    References:
        Edin et al. (2024), "Normalized AOPC: Fixing misleading faithfulness
        metrics for feature attribution explainability". The subset lattice in
        the place of all orders is an addition, with the same bounds.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> result = normalized_aopc(TextClassifier(10), torch.tensor([[2, 5, 6, 7, 3]]))
        >>> result.exact, bool((result.lower <= result.upper).all())
        (tensor([True]), True)
    """
    name = check_removal(removal)
    exact_up_to = _at_most(require_count("exact_up_to", exact_up_to, least=0))
    width = require_count("width", width)
    with torch.no_grad():
        reading = read(
            model, inputs, view, replay=2 * expected_replays(name), changes=changes(name)
        )
    scores = scores_of(
        reading, explanation, target=target, seed=seed, instances=instances, removal=removal
    )
    classes = explained_class(reading, target)
    with torch.no_grad():
        drop = _drop_from(reading, removal, classes)
        rows = reading.rows
        defined = ~undefined_rows(scores, rows.mask) & (rows.mask.sum(-1) > 1)
        own = _own(drop, ranks_of(scores, rows.mask), rows.mask, defined)
        low, high, exact = _bounds(drop, rows.mask, defined, exact_up_to, width)
    return _result(reading, own, (low, high, exact), name_of_explanation(explanation), name, width)


def _at_most(exact_up_to: int) -> int:
    if exact_up_to > MOST:
        raise ValueError(
            f"exact_up_to must be at most {MOST}, which are 2^{MOST} subsets a text; "
            f"got {exact_up_to}. Longer texts are searched."
        )
    return exact_up_to


def _drop_from(reading: Reading, removal: Removal, classes: Tensor) -> Drop:
    """Maps sets to p(x) - p(x without the set)."""
    whole = class_probability(reading.outputs, classes, reading.output)

    def drop(rows: Tensor, gone: Tensor) -> Tensor:
        return whole[rows] - removed_probabilities(reading, removal, rows, gone, classes)

    return drop


def _own(drop: Drop, ranks: Tensor, mask: Tensor, defined: Tensor) -> Tensor:
    """AOPC comprehensiveness and sufficiency ``(B, 2)`` of the explanation's own order."""
    lengths = mask.sum(-1)
    cuts = torch.arange(1, mask.shape[1], device=mask.device)
    inner = (cuts < lengths[:, None]) & defined[:, None]
    rows, at = inner.nonzero(as_tuple=True)
    first = ranks[rows] < cuts[at][:, None]
    total = torch.full((len(mask), 2), torch.nan, dtype=torch.float64, device=mask.device)
    total[defined] = 0
    for side, gone in enumerate((first, ~first)):
        total[:, side].index_add_(0, rows, drop(rows, gone & mask[rows]).double())
    return total / (lengths - 1)[:, None]


def _bounds(
    drop: Drop, mask: Tensor, defined: Tensor, exact_up_to: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Least and largest AOPC ``(B,)``, and whether they are exact."""
    lengths = mask.sum(-1)
    low, high = torch.full((2, len(mask)), torch.nan, dtype=torch.float64, device=mask.device)
    few = lengths <= exact_up_to
    for length in sorted(set(lengths[defined & few].tolist())):
        rows = (defined & (lengths == length)).nonzero()[:, 0]
        for part in rows.split(max(1, _SETS_AT_ONCE >> length)):
            low[part], high[part] = _exact(drop, mask, part, length)
    long = (defined & ~few).nonzero()[:, 0]
    if len(long):
        low[long], high[long] = beam_bounds(drop, mask, long, width)
    return low / (lengths - 1), high / (lengths - 1), few & defined


def _exact(drop: Drop, mask: Tensor, rows: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Least and largest sum over the orders of rows of one length."""
    subsets = subset_marks(length, mask.device)[1:-1]
    places = mask[rows].nonzero()[:, 1].view(len(rows), length)
    gone = torch.zeros(len(rows), len(subsets), mask.shape[1], dtype=torch.bool, device=mask.device)
    gone.scatter_(
        2, places[:, None].expand(-1, len(subsets), -1), subsets.expand(len(rows), -1, -1)
    )
    found = drop(rows.repeat_interleave(len(subsets)), gone.flatten(0, 1)).double()
    return chain_bounds(torch.nn.functional.pad(found.view(len(rows), -1), (1, 1)))


def _result(
    reading: Reading,
    own: Tensor,
    bounds: tuple[Tensor, Tensor, Tensor],
    explanation: str,
    removal: str,
    width: int,
) -> NormalizedAOPC:
    low, high, exact = bounds
    # A search may miss what the explanation's own order reaches.
    low = torch.where(exact, low, low.minimum(own.amin(-1)))
    high = torch.where(exact, high, high.maximum(own.amax(-1)))
    spread = high - low
    matters = spread > output_noise(reading.run.logits.dtype)
    scaled = ((own - low[:, None]) / spread[:, None]).clamp(0, 1)
    scaled = scaled.masked_fill(~matters[:, None], torch.nan)
    dtype = reading.outputs.dtype
    return NormalizedAOPC(
        **reading.described(),
        comprehensiveness=scaled[:, 0].to(dtype),
        sufficiency=scaled[:, 1].to(dtype),
        aopc_comprehensiveness=own[:, 0].to(dtype),
        aopc_sufficiency=own[:, 1].to(dtype),
        lower=low.to(dtype),
        upper=high.to(dtype),
        exact=exact,
        width=width,
        explanation=explanation,
        removal=removal,
    )
