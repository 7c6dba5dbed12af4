"""adapt(): any module as an attention model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from faithattn.adapters.interception.guards import refuse_hidden, unwrapped
from faithattn.adapters.parts import Tree
from faithattn.adapters.torch_module.calls import Call, check_options
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.plan import Plan, plan_of
from faithattn.adapters.torch_module.torch_adapter import MaskRule, Options, TorchAdapter


def adapt(
    model: nn.Module,
    *,
    site: str | None = None,
    call: Call | None = None,
    logits: Callable[[Any], Tensor] | None = None,
    mask: MaskRule | None = None,
    embedding: str | None = None,
    output: str = "auto",
) -> TorchAdapter:
    """Adapts a module without touching its code.

    Attention is found where the model computes a softmax over positions (as a
    function, a tensor method, ``nn.Softmax`` or the exponential of a
    log_softmax), ``F.scaled_dot_product_attention``, ``nn.MultiheadAttention``
    or flex attention, or taken from the output of the submodule that ``site``
    names. The differentiable input is the output of the word embedding, or
    the continuous input itself, or (images) the first tensor with a row for
    every key. The model itself is left exactly as it is.

    Args:
        model: The module.
        site: Name of the attention: the path of the module that computes it
            ("attention" for the model itself) or whose output it is. None
            takes every one; a view chooses among several.
        call: How to run the model, ``call(model, inputs)``; by default a
            mapping is passed as keywords, a tuple as positions.
        logits: Takes the logits ``(B, C)`` from what the model returns; by
            default a tensor, a ``.logits`` attribute or the first of a tuple.
            :func:`token_logits` for causal and sequence-to-sequence models.
        mask: Which positions can be explained: a function of the inputs that
            returns ``(B, L)`` bool (or a mapping of them by site or feature),
            the id of the padding, a tokenizer (whose special tokens are then
            left out), or a tensor (which belongs to one batch: it cannot
            follow a deletion). By default an ``attention_mask`` in the inputs,
            else the embedding's ``padding_idx``, else what the attention
            itself may use; a fast tokenizer's output tells its special tokens.
        embedding: Path of the module to differentiate by: an ``nn.Embedding``
            where there are several, or any whose output is ``(B, L, E)``.
        output: How logits become probabilities: ``"auto"``, ``"sigmoid"``,
            ``"softmax"`` or ``"identity"``.

    Returns:
        An adapter with ``run``, ``replay``, ``remove``, ``select`` and
        ``sites``. Its replay computes only what depends on the attention,
        where that can be recorded, else the whole model once per alternative.

    Raises:
        TypeError: If ``model`` is not a module, ``call`` or ``logits`` is not
            a function, ``site`` or ``embedding`` is no name, or ``mask`` is
            none of the above.
        ValueError: If ``output`` is unknown.
        AdapterError: If the model hides its calls, as a scripted one does.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> class Pooled(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.embed = nn.Embedding(10, 4, padding_idx=0)
        ...         self.score, self.out = nn.Linear(4, 1), nn.Linear(4, 1)
        ...     def forward(self, ids):
        ...         x = self.embed(ids)
        ...         scores = self.score(x).squeeze(-1).masked_fill(ids == 0, -1e9)
        ...         return self.out((scores.softmax(-1)[..., None] * x).sum(1))
        >>> adapter = adapt(Pooled())
        >>> run = adapter.run(torch.tensor([[1, 2, 3], [4, 5, 0]]))
        >>> {site: tuple(weights.shape) for site, weights in run.attention.items()}
        {'attention': (2, 3)}
        >>> run.mask
        tensor([[ True,  True,  True],
                [ True,  True, False]])
    """
    check_options(model, call, logits, mask, output, site=site, embedding=embedding)
    module = unwrapped(model)
    refuse_hidden(module, chosen=site is not None)
    custom = call is not None or logits is not None
    plan = Plan() if custom else plan_of(module, (site, embedding))
    options = Options(site, mask, embedding, output)
    runner = Runner(module, call, logits, embedding, plan, Tree(module))
    return TorchAdapter(model, runner, options)
