"""One view for every head of every layer, for a picture of all of them."""

from __future__ import annotations

import re
from typing import Any

import torch

from faithattn.adapters.reading import as_adapter
from faithattn.adapters.roles import is_cross, listing
from faithattn.adapters.view import AttentionView
from faithattn.errors import AdapterError

_QUERIES: dict[str | None, int | str | None] = {None: None, "cls": 0, "last": "last"}
_NAME = re.compile(r"layer (\d+), head (\d+)")


def head_views(model: object, inputs: Any, *, query: str | None = None) -> dict[str, AttentionView]:
    """A view for each head of each layer of self attention, such as an audit takes.

    Layers are numbered from 0 in call order, as :meth:`AttentionView.cls`
    numbers them: cross attention and pooling are not among them.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes; one instance is enough.
        query: ``"cls"`` for the row of the first token, ``"last"`` for that of
            each instance's last real token; None for the mean of all rows
            that are not padding.

    Returns:
        Views by name, ``"layer 3, head 5"``, layer by layer.

    Raises:
        AdapterError: If the model has no self attention, or breaks its contract.
        ValueError: If ``query`` is unknown.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> class Classifier(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.embed, self.out = nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 2)
        ...         self.encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        ...     def forward(self, ids):
        ...         return self.out(self.encoder(self.embed(ids))[:, 0])
        >>> views = head_views(Classifier(), torch.tensor([[5, 6, 7]]), query="cls")
        >>> {name: str(view) for name, view in views.items()}
        {'layer 0, head 0': 'encoder.self_attn, head 0, query 0',
         'layer 0, head 1': 'encoder.self_attn, head 1, query 0'}
    """
    if query not in _QUERIES:
        raise ValueError(
            f'query must be "cls", "last" or None for all; got {query!r}. '
            "Write other views with AttentionView(site, heads=..., query=...)."
        )
    with torch.inference_mode(False), torch.no_grad():
        attention = as_adapter(model).run(inputs).attention
    layers = [
        name for name, each in attention.items() if each.ndim > 2 and not is_cross(name, attention)
    ]
    if not layers:
        raise AdapterError(
            "model must have self attention, as many queries as keys; got "
            f"{listing(attention) or 'no attention'}. A model with one row needs no view."
        )
    return {
        f"layer {layer}, head {head}": AttentionView(name, heads=head, query=_QUERIES[query])
        for layer, name in enumerate(layers)
        for head in range(attention[name].shape[1] if attention[name].ndim == 4 else 1)
    }


def layer_and_head(name: str) -> tuple[int, int] | None:
    """The numbers in the name of a view, as :func:`head_views` gives it; None for another name.

    Examples:
        >>> layer_and_head("layer 3, head 5"), layer_and_head("last layer")
        ((3, 5), None)
    """
    found = _NAME.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2]))
