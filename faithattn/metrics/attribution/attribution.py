"""Attribution by Captum as a result: scores, convergence delta, and what was done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.reading import read
from faithattn.adapters.state import differentiating
from faithattn.adapters.view import AttentionView
from faithattn.importance.attribution.baselines import Baseline
from faithattn.importance.attribution.methods import Named, find_method
from faithattn.importance.attribution.scores import Asked, attributed, check
from faithattn.measures.draws import fresh_seed
from faithattn.results.attribution import Attribution


def captum_attribution(
    model: object,
    inputs: Any,
    *,
    method: Named = "integrated_gradients",
    view: AttentionView | None = None,
    target: int | Tensor | None = None,
    baseline: Baseline | Sequence[Baseline] = "zero",
    reduction: str = "sum",
    of: str = "probability",
    detach_attention: bool = False,
    max_gap: float = 0.01,
    seed: int | None = 0,
    instances: Tensor | None = None,
    **options: Any,
) -> Attribution:
    """Importance by one of Captum's methods, with its convergence delta and cost.

    The same as :func:`captum_importance`, whose arguments it takes.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        method: A name, a class of ``captum.attr``, or an instance.
        view: Which attention the positions belong to; not needed for one row.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
        baseline: ``"zero"``, ``"mean"``, ``"pad"``, ``"mask"`` or a tensor.
        reduction: ``"sum"``, ``"abs_sum"``, ``"l1"`` or ``"l2"``.
        of: ``"probability"`` or ``"logit"``.
        detach_attention: Whether the attention is held at its own weights.
        max_gap: Share of its attributions that DeepLIFT may miss.
        seed: Any whole number; None draws a fresh one.
        instances: Ids of the rows, ``(B,)`` int64; default ``arange(B)``.
        options: What the method's ``attribute`` takes besides.

    Returns:
        Importance ``(B, L)``, convergence delta and number of evaluations
        ``(B,)``, and the names of method, baseline and reduction.

    Raises:
        AdapterError: If the method cannot be right on the model.
        TypeError: If an option is none of the method's.
        ValueError: If an argument is out of range.

    References:
        Kokhlikyan et al. (2020), "Captum: A unified and generic model
        interpretability library for PyTorch".

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3]])
        >>> result = captum_attribution(TextClassifier(10), ids, n_steps=20)
        >>> result.importance.shape, int(result.evaluations) >= 20
        (torch.Size([1, 5]), True)
    """
    asked = check(
        Asked(
            method=find_method(method),
            target=target,
            baseline=baseline,
            reduction=reduction,
            of=of,
            detach_attention=detach_attention,
            max_gap=max_gap,
            seed=fresh_seed(seed),
            options=options,
        )
    )
    with differentiating():
        with torch.no_grad():
            reading = read(model, inputs, view)
        found = attributed(reading, asked, instances)
    return Attribution(
        **reading.described(),
        importance=found.importance,
        mask=reading.rows.mask,
        delta=found.delta,
        evaluations=found.evaluations,
        method=asked.method.name,
        baseline=found.baseline,
        reduction=reduction,
        of=of,
        detached=detach_attention,
        seed=asked.seed,
    )
