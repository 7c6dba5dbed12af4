"""Keys that are no positions: a sink or a null key before the positions, or behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from faithattn.adapters.inputs.deletion import delete_positions
from faithattn.adapters.inputs.masks import known_real
from faithattn.adapters.inputs.source import tensor_at
from faithattn.adapters.inputs.structure import select_rows
from faithattn.adapters.interception.layout import Extras
from faithattn.adapters.torch_module.forward import Embedded, Seen
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.request import Pass, source_of
from faithattn.adapters.torch_module.runs import shown
from faithattn.errors import AdapterError

_MOST = 128  # a prompt of learned vectors may be long


def find_extras(runner: Runner, done: Pass, candidates: Sequence[Seen]) -> dict[str, Extras | None]:
    """Extra keys of sites that have more keys than a text has positions.

    The text is run again without its last position. If the keys are matched
    rightly, what remains of a row keeps its proportions in a first layer, and
    in every layer of a causal model; the other sites are taken to be like
    those. None stands for a site that was tried and has no such keys.
    """
    found: dict[str, Extras | None] = {}
    for feature in done.features(None):
        length = feature.value.shape[1]
        wide = [each for each in candidates if 0 < each.raw.shape[-1] - length <= _MOST]
        wide = [each for each in wide if found.get(each.place.name) is None]
        row, short = _without_last(runner, done, feature, wide) if wide else (0, {})
        found |= dict.fromkeys(short)
        follow = [each for each in wide if _follows(each, short.get(each.place.name))]
        own = {
            each.place.name: _extras(each, short[each.place.name], row, length) for each in follow
        }
        sure = {extras for extras in own.values() if extras is not None}
        for each in follow:
            name, count = each.place.name, each.raw.shape[-1] - length
            alike = [extras for extras in sure if sum(extras) == count]
            if own[name] is not None or len(alike) == 1:
                found[name] = own[name] or alike[0]
    return found


def _without_last(
    runner: Runner, done: Pass, feature: Embedded, wide: Sequence[Seen]
) -> tuple[int, dict[str, Seen]]:
    """An instance that ends in a real position, and what is seen of it without that position."""
    inputs, shape = done.request.inputs, (done.size, feature.value.shape[1])
    source = source_of(feature, inputs, set())
    real = known_real(None, inputs, source, shape)
    real = torch.ones(shape, dtype=torch.bool) if real is None else real
    rows = (real[:, -1] & (real.sum(1) > 1)).nonzero()[:1, 0]
    if source.path is None or len(rows) == 0:
        return 0, {}
    try:
        one, last = select_rows(inputs, rows), torch.tensor([shape[1] - 1], device=rows.device)
        shorter = delete_positions(one, last, real[rows], ids=tensor_at(one, source.path))
        only = frozenset(each.place.name for each in wide)
        request = replace(
            done.request, inputs=shorter, only=only, attention={}, features={}, alternatives=0
        )
        with torch.no_grad():
            short = runner.forward(request, 1)
    except (AdapterError, TypeError, ValueError):
        return 0, {}
    return int(rows[0]), {each.place.name: each for each in short.seen}


def _follows(seen: Seen, short: Seen | None) -> bool:
    """Whether there is one key less with one position less."""
    if short is None or seen.shown is None or short.shown is None:
        return False
    return short.raw.shape[-1] == seen.raw.shape[-1] - 1


def _extras(seen: Seen, short: Seen, row: int, length: int) -> Extras | None:
    """The only reading of the keys in which what remains of the rows keeps its proportions."""
    whole, after = _rows(shown(seen)[row]), _rows(shown(short)[0])
    count = whole.shape[-1] - length
    fitting = []
    for lead in range(count + 1):
        kept = [key for key in range(whole.shape[-1]) if key != lead + length - 1]
        square = whole.shape[1] == whole.shape[2]  # then its queries are its keys
        before = whole[:, kept if square else slice(after.shape[1])][..., kept]
        before = before / before.sum(-1, keepdim=True).clamp_min(1e-30)
        if before.shape == after.shape and torch.allclose(before, after, atol=1e-4):
            fitting.append(lead)
    return (fitting[0], count - fitting[0]) if len(fitting) == 1 else None


def _rows(weights: Tensor) -> Tensor:
    """The rows of one instance, (heads, queries, keys)."""
    rows = weights.detach().float()
    return rows if rows.ndim == 3 else rows.reshape(1, -1, rows.shape[-1])
