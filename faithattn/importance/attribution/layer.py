"""Integrated gradients of the embedding module's output, by Captum's hooks on it."""

from __future__ import annotations

from typing import Any

import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor, nn

from faithattn.errors import AdapterError
from faithattn.importance.attribution.baselines import embedding_of
from faithattn.importance.attribution.explained import Explained
from faithattn.importance.attribution.methods import LAYER


class LayerForward(nn.Module):
    """Maps flags ``(n,)`` and row numbers to outputs, the features made by the model itself.

    Captum puts its own output in the place of the layer's. It asks for the
    baseline's as what the layer makes of other inputs; where the flag is 0,
    that is the baseline.
    """

    def __init__(
        self, explained: Explained, classes: Tensor, layer: nn.Module, baseline: Tensor
    ) -> None:
        super().__init__()
        self.explained = explained
        self.classes = classes
        self.layer = layer
        self.baseline = baseline

    def forward(self, flags: Tensor, rows: Tensor) -> Tensor:
        """The output of each row's class."""
        if bool(flags.all()):
            return self._run(rows)
        replaced = self.explained.full(self.baseline[rows], rows)
        handle = self.layer.register_forward_hook(lambda *_: replaced, prepend=True)
        try:
            return self._run(rows)
        finally:
            handle.remove()

    def _run(self, rows: Tensor) -> Tensor:
        logits = self.explained.logits(None, rows)
        return self.explained.output(logits, self.classes[rows])


def layer_gradients(
    explained: Explained, classes: Tensor, baseline: Tensor, rows: Tensor, options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Attributions ``(n, M, E)`` at the first places, and their convergence delta ``(n,)``."""
    layer = embedding_of(explained)
    if layer is None:
        raise AdapterError(
            f"model must have a module whose output is the feature for {LAYER!r}; got feature "
            f"{explained.name!r}, which is none. Use 'integrated_gradients', which is the same."
        )
    forward = LayerForward(explained, classes, layer, baseline)
    _require_one_call(explained, layer, rows)
    flags = torch.ones(len(rows), device=rows.device)
    found, delta = LayerIntegratedGradients(forward, layer).attribute(
        flags,
        baselines=torch.zeros_like(flags),
        additional_forward_args=(rows,),
        return_convergence_delta=True,
        **options,
    )
    full = found[0] if isinstance(found, tuple) else found
    count = int(explained.counts[rows].max())
    places = explained.places[rows, :count, None].expand(-1, -1, full.shape[2])
    padded = torch.nn.functional.pad(full, (0, 0, 0, 1))
    return padded.gather(1, places), delta


def _require_one_call(explained: Explained, layer: nn.Module, rows: Tensor) -> None:
    """Captum puts the same output, instances first, in the place of every call of a layer."""
    shapes: list[tuple[int, ...]] = []
    handle = layer.register_forward_hook(
        lambda _part, _given, made: shapes.append(tuple(getattr(made, "shape", ())))
    )
    try:
        with torch.no_grad():
            explained.logits(None, rows)
    finally:
        handle.remove()
    expected = tuple(explained.feature[rows].shape)
    if shapes != [expected]:
        raise AdapterError(
            f"model must call {explained.name!r} once, for features {expected}, for {LAYER!r}; "
            f"got {', '.join(map(str, shapes)) or 'no call'}. "
            "Use 'integrated_gradients', which does not look at the module."
        )
