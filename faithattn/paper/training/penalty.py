"""A penalty that ties learned attention to that of a regression's log-odds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from faithattn.adapters.protocol import Run
from faithattn.paper.log_odds.weights import LogOdds
from faithattn.paper.training.evaluation import Inputs

Penalty: TypeAlias = Callable[[Inputs, Run], Tensor]


def attention_penalty(log_odds: LogOdds, weight: float, *, temperature: float = 1.0) -> Penalty:
    """Makes the penalty ``weight * mean KL(log-odds attention || learned attention)``.

    In this direction the derivative by an attention score is learned less
    log-odds attention: between -1 and 1 however far they are apart, and zero
    only where they are equal. The Jensen-Shannon divergence loses its gradient
    where they do not meet; the other direction is content with attention to one
    of the words that should have it.

    Args:
        log_odds: The regression; its attention is the target, without gradient.
        weight: What a nat of divergence costs, beside the cross entropy in nats.
        temperature: Of :meth:`LogOdds.attention`.

    Returns:
        A function for ``train_classifier``, from a model's inputs, token ids
        ``(B, L)``, and its run to a scalar. A text without words adds 0; padding
        and special tokens add nothing to value or gradient.

    Raises:
        ValueError: If ``weight`` is negative or not finite.

    References:
        Kullback and Leibler (1951), "On Information and Sufficiency".

    Examples:
        >>> log_odds = LogOdds(torch.tensor([[0.0, 0, 0, 0, 2.0, -1.0]]), torch.zeros(1))
        >>> ids = torch.tensor([[2, 4, 5, 3]])
        >>> row = log_odds.attention(ids)
        >>> run = Run(torch.zeros(1, 1), {"attention": row.flip(1)}, mask=row > 0)
        >>> attention_penalty(log_odds, 1.0)(ids, run)
        tensor(0.4621)
    """
    if not 0 <= weight < math.inf:
        raise ValueError(
            f"weight must be finite and not negative; got {weight}. Use 0 for no penalty."
        )

    def penalty(inputs: Inputs, run: Run) -> Tensor:
        learned, ids = _learned(run), _ids(inputs)
        target = log_odds.attention(ids, temperature=temperature).to(learned.dtype)
        # So small that only attention which has underflowed is beyond it, and so large that the
        # derivative, target / learned, does not overflow.
        limits = torch.finfo(learned.dtype)
        logs = learned.clamp_min(limits.tiny / limits.eps).log()
        return weight * (torch.xlogy(target, target) - target * logs).sum(1).mean()

    return penalty


def _ids(inputs: Inputs) -> Tensor:
    """Returns the inputs, which must be the ids of one text a row."""
    if not isinstance(inputs, Tensor):
        raise TypeError(
            f"inputs must be token ids (B, L); got {type(inputs).__name__}. Log-odds are of words "
            "of one text: leave out the penalty for pairs and questions."
        )
    return inputs


def _learned(run: Run) -> Tensor:
    """Returns the one row of attention that each text has."""
    rows = list(run.attention.values())
    if len(rows) != 1 or rows[0].ndim != 2:
        shapes = {name: tuple(each.shape) for name, each in run.attention.items()}
        raise ValueError(
            f"model must have one attention of shape (B, L); got {shapes}. Use one of the "
            "published models."
        )
    return rows[0]
