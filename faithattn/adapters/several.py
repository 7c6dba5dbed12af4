"""Several views of the attention, read in as few runs as they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch

from faithattn.adapters.reading import Reading, as_adapter, read
from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
from faithattn.adapters.view import AttentionView

Views: TypeAlias = "Mapping[str, AttentionView | None]"


def grouped(model: object, inputs: Any, views: Views) -> list[dict[str, AttentionView | None]]:
    """Views that one run serves, together: those of the same sites, and all of a hand-written one.

    A model that is not known yet is run once for each view: what it gives
    afterwards does not depend on what was run before.
    """
    adapter = as_adapter(model)
    groups: dict[object, dict[str, AttentionView | None]] = {}
    for name, view in views.items():
        sites = _sites(adapter, inputs, view)
        groups.setdefault(name if sites is None else sites, {})[name] = view
    return list(groups.values())


def read_group(
    model: object, inputs: Any, views: Views, *, replay: int = 0, changes: bool = False
) -> dict[str, Reading]:
    """Readings of views that :func:`grouped` put together, by name; the rest as of :func:`read`."""
    adapter = as_adapter(model)
    found: dict[str, Reading] = {}
    first: Reading | None = None
    for name, view in views.items():
        same = None if first is None else seen_as(adapter, first, view)
        if same is None:
            same = read(adapter, inputs, view, replay=replay, changes=changes)
        found[name] = same
        first = first or same
    return found


def seen_as(adapter: object, reading: Reading, view: AttentionView | None) -> Reading | None:
    """A reading under another view; None where a run for that would look at other sites."""
    if not isinstance(adapter, TorchAdapter):
        return reading.viewed(view)
    known = adapter.recalled(view)  # in this run, layers are not numbered as in the model
    if known is None or known.names is None:
        return None
    shown = frozenset(reading.run.attention)
    return reading.viewed(known) if frozenset(known.names) == shown else None


def _sites(adapter: object, inputs: Any, view: AttentionView | None) -> frozenset[str] | None:
    """The sites that a run for a view looks at; None where only the run tells."""
    if not isinstance(adapter, TorchAdapter):
        return frozenset()
    known = adapter.recalled(view)
    if known is None or known.names is None:
        with torch.inference_mode(False), torch.no_grad():
            read(adapter, inputs, view)
        known = adapter.recalled(view)
    return None if known is None or known.names is None else frozenset(known.names)
