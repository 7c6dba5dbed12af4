"""Do attention weights rank positions as gradients and leave-one-out do?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading, read
from faithattn.adapters.state import differentiating
from faithattn.adapters.view import AttentionView
from faithattn.importance.gradient import gradient_of
from faithattn.importance.leave_one_out import (
    Removal,
    changes,
    check_removal,
    expected_replays,
    leave_one_out_of,
)
from faithattn.measures.groups import aggregate_scores
from faithattn.measures.rank import Tolerance, rank_correlation, tolerance_pair
from faithattn.results.correlation import Correlation

Tolerances: TypeAlias = "Tolerance | tuple[Tolerance, Tolerance]"


def output_noise(dtype: torch.dtype) -> float:
    """Float noise of leave-one-out in output units: repeated words tie to within it."""
    return 1e-13 if dtype == torch.float64 else 5e-7


def gradient_correlation(
    model: object,
    inputs: Any,
    *,
    view: AttentionView | None = None,
    detach_attention: bool = True,
    target: int | Tensor | None = None,
    tie_tolerance: Tolerances = "auto",
    groups: Tensor | None = None,
) -> Correlation:
    """Kendall's tau between attention and gradient importance.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        view: Which attention is the explanation; not needed for one row.
        detach_attention: Whether the gradient holds the attention fixed, as
            published; the two are different quantities.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
        tie_tolerance: Neighbouring values closer than this count as tied:
            ``"auto"`` is 1e-6 of the row's largest value, 0 is SciPy's tau-b; a
            pair holds one for attention and one for importance.
        groups: Number of each position's group, ``(B, L)`` or ``(L,)``, -1 for
            none, such as :func:`word_groups` gives: both scores are summed
            over groups before they are ranked. None ranks positions.

    Returns:
        One tau in -1..1 and its two-sided p-value per instance, with both
        scores; nan where fewer than two positions or a constant score.

    Raises:
        AdapterError: If the model has no differentiable input, or breaks its contract.
        ValueError: If an argument is out of range.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.1.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = gradient_correlation(model, torch.tensor([[2, 5, 6, 7, 3]]))
        >>> result.statistic.shape, result.detached
        (torch.Size([1]), True)
    """
    tolerance_pair(tie_tolerance)
    with differentiating():
        reading = read(model, inputs, view, replay=int(detach_attention))
        importance = gradient_of(reading, detach_attention, target)
    return gradient_correlation_of(
        reading,
        importance,
        detached=detach_attention,
        tie_tolerance=tie_tolerance,
        groups=groups,
    )


def gradient_correlation_of(
    reading: Reading,
    importance: Tensor,
    *,
    detached: bool,
    tie_tolerance: Tolerances,
    groups: Tensor | None = None,
    explanation: Tensor | None = None,
) -> Correlation:
    """The correlation of a reading with gradient importance ``(B, L)`` from it.

    ``explanation`` ``(B, L)`` takes the place of the attention.
    """
    return _correlate(
        reading,
        importance,
        measure="gradient_correlation",
        removal=None,
        detached=detached,
        tie_tolerance=tie_tolerance,
        tolerances=tolerance_pair(tie_tolerance),
        groups=groups,
        explanation=explanation,
    )


def loo_correlation(
    model: object,
    inputs: Any,
    *,
    removal: Removal = "delete",
    view: AttentionView | None = None,
    target: int | Tensor | None = None,
    tie_tolerance: Tolerances = "auto",
    groups: Tensor | None = None,
) -> Correlation:
    """Kendall's tau between attention and leave-one-out importance.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        removal: How a position is taken away, by name or as a function of
            inputs and positions; see :func:`leave_one_out_importance`.
            Published: ``"delete"``.
        view: Which attention is the explanation; not needed for one row.
        target: Class whose probability is watched, an int or ``(B,)``; None
            takes the total variation distance of the outputs.
        tie_tolerance: Neighbouring values closer than this count as tied:
            ``"auto"`` is 1e-6 of the row's largest attention, and 5e-7 in
            output units for importance (1e-13 in double precision); 0 is
            SciPy's tau-b; a pair holds one for each.
        groups: Number of each position's group, ``(B, L)`` or ``(L,)``, -1 for
            none, such as :func:`word_groups` gives: both scores are summed
            over groups before they are ranked. None ranks positions.

    Returns:
        One tau in -1..1 and its two-sided p-value per instance, with both
        scores; nan where fewer than two positions or a constant score.

    Raises:
        AdapterError: If the model cannot remove positions, or breaks its contract.
        ValueError: If an argument is out of range.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", section 4.1.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = loo_correlation(model, torch.tensor([[2, 5, 6, 7, 3]]))
        >>> result.statistic.shape, result.removal
        (torch.Size([1]), 'delete')
    """
    name = check_removal(removal)
    tolerance_pair(tie_tolerance)
    with torch.no_grad():
        reading = read(model, inputs, view, replay=expected_replays(name), changes=changes(name))
        importance = leave_one_out_of(reading, removal, target)
    return loo_correlation_of(
        reading, importance, removal=name, tie_tolerance=tie_tolerance, groups=groups
    )


def loo_correlation_of(
    reading: Reading,
    importance: Tensor,
    *,
    removal: str,
    tie_tolerance: Tolerances,
    groups: Tensor | None = None,
    explanation: Tensor | None = None,
) -> Correlation:
    """The correlation of a reading with leave-one-out importance ``(B, L)``, by a removal's name.

    ``explanation`` ``(B, L)`` takes the place of the attention.
    """
    attention, other = tolerance_pair(tie_tolerance)
    noise = output_noise(reading.run.logits.dtype)
    return _correlate(
        reading,
        importance,
        measure="loo_correlation",
        removal=removal,
        detached=None,
        tie_tolerance=tie_tolerance,
        tolerances=(attention, noise if other == "auto" else other),
        groups=groups,
        explanation=explanation,
    )


def importance_agreement(gradient: Correlation, loo: Correlation) -> Correlation:
    """Kendall's tau between gradient and leave-one-out importance, ``gradient_loo``."""
    tau = rank_correlation(
        gradient.importance,
        loo.importance.to(gradient.importance.dtype),
        mask=gradient.mask,
        tie_tolerance=("auto", output_noise(loo.importance.dtype)),
    )
    return replace(
        gradient,
        statistic=tau.statistic,
        pvalue=tau.pvalue,
        explanation=gradient.importance,
        importance=loo.importance,
        measure="gradient_loo",
        removal=loo.removal,
    )


def _correlate(
    reading: Reading,
    importance: Tensor,
    *,
    measure: str,
    removal: str | None,
    detached: bool | None,
    tie_tolerance: Tolerances,
    tolerances: tuple[Tolerance, Tolerance],
    groups: Tensor | None,
    explanation: Tensor | None,
) -> Correlation:
    """Ranks both scores and puts the result together."""
    rows = reading.rows
    explanation, mask = rows.explanation if explanation is None else explanation, rows.mask
    if groups is not None:
        importance = aggregate_scores(importance, groups, mask=mask)[0]
        explanation, mask = aggregate_scores(explanation, groups, mask=mask)
    tau = rank_correlation(
        explanation,
        importance.to(explanation.dtype),
        mask=mask,
        tie_tolerance=tolerances,
    )
    return Correlation(
        **reading.described(),
        statistic=tau.statistic,
        pvalue=tau.pvalue,
        explanation=explanation,
        importance=importance,
        mask=mask,
        measure=measure,
        removal=removal,
        detached=detached,
        tie_tolerance=tie_tolerance,
        grouped=groups is not None,
    )
