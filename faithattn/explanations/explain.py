"""explain(): scores of positions by the name of an explanation."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.reading import read
from faithattn.adapters.state import differentiating
from faithattn.adapters.view import AttentionView
from faithattn.explanations.asked import Asked
from faithattn.explanations.kinds import GRADIENTS, kind_of
from faithattn.importance.leave_one_out import Removal, check_removal


def explain(
    model: object,
    inputs: Any,
    *,
    kind: str = "attention",
    view: AttentionView | None = None,
    target: int | Tensor | None = None,
    seed: int | None = 0,
    instances: Tensor | None = None,
    removal: Removal = "delete",
) -> Tensor:
    """Scores of each position as the reason of an output, by the name of an explanation.

    Larger is more important; signed kinds are negative where a position speaks
    against the target. Kinds are not on one scale: compare orders, or signs.
    Where several rows are chosen, a kind is averaged over them (the gradients
    are summed).

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        kind: Of the chosen rows: ``"attention"``, their mean weights;
            ``"gradient_attention"`` (signed), gradient of the target's
            probability by the weights, times the weights;
            ``"attention_gradient"`` (signed), that gradient alone;
            ``"value_norm"``, weights times transformed values, summed over
            heads, as a norm; ``"effective"`` (signed), weights without the part
            that the values send to zero.
            Through all layers of self-attention up to the chosen site, from the
            chosen queries: ``"rollout"``, the product of attention with its
            residual; ``"flow"``, its maximum flow (slow on long texts);
            ``"relevance"``, attention times its gradient accumulated.
            Controls: ``"random"``, ``"uniform"``, ``"reversed"`` (attention
            from the other end), ``"position"`` (the first highest),
            ``"position_reversed"``, ``"frequency"`` (tokens that are rare in
            the given batch highest).
            Importances, to have one list of names: ``"gradient_importance"``,
            ``"leave_one_out"``, ``"signed_leave_one_out"`` (how far the target's
            probability falls), and Captum's methods as ``"captum:saliency"`` or
            ``"saliency"``.
        view: Which attention is meant; not needed for one row.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
        seed: Of random scores and of methods that draw; None draws a fresh one.
        instances: Ids of the rows, ``(B,)``, int64; default ``arange(B)``.
        removal: How leave-one-out takes positions away; see
            :func:`leave_one_out_importance`.

    Returns:
        Scores ``(B, L)``, 0 outside the mask. nan where a score is undefined.

    Raises:
        AdapterError: If the model cannot be explained this way, with the reason.
        ValueError: If ``kind`` is unknown or ``target`` is no class.

    References:
        Abnar & Zuidema (2020), rollout and flow; Kobayashi et al. (2020), value
        norms; Brunner et al. (2020), effective attention; Chefer et al.
        (2021), relevance; Serrano & Smith (2019), attention times gradient.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> ids = torch.tensor([[2, 5, 6, 7, 3]])
        >>> explain(model, ids, kind="position")
        tensor([[0.0000, 0.5000, 0.3333, 0.1667, 0.0000]])
        >>> explain(model, ids, kind="gradient_attention").shape
        torch.Size([1, 5])
    """
    function = kind_of(_checked(kind), argument="kind")
    check_removal(removal)
    with torch.inference_mode(False):
        with _mode(kind):
            reading = read(model, inputs, view)
        return function(Asked(reading, target, seed, instances, removal)).detach()


def _checked(kind: object) -> str:
    if not isinstance(kind, str):
        raise TypeError(
            f"kind must be the name of an explanation; got {type(kind).__name__}. "
            "Scores of your own need no explain(): pass them to a metric."
        )
    return kind


def _mode(kind: str) -> AbstractContextManager[Any]:
    return differentiating() if kind in GRADIENTS else torch.no_grad()
