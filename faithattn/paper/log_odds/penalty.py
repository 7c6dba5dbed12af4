"""The regulariser that ties learned attention to that of the log-odds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from faithattn.adapters.protocol import Run
from faithattn.paper.log_odds.weights import LogOdds
from faithattn.paper.models.common import SITE


def attention_penalty(
    log_odds: LogOdds, weight: float
) -> Callable[[Run, Tensor | Mapping[str, Tensor]], Tensor]:
    """Makes a penalty on attention that is not where the log-odds of words are.

    It is ``weight`` times KL(r || a) in nats, of the attention ``r`` by log-odds
    to the learned attention ``a``: zero only where they are equal, and with a
    slope however far apart they are, while that of the Jensen-Shannon
    divergence vanishes when they have nothing in common. ``r`` is positive at
    every word, so that the penalty asks for some attention to each.

    Args:
        log_odds: A regression on the words of the training texts.
        weight: How much it counts beside the loss, 0 or more.

    Returns:
        What :func:`~faithattn.paper.training.train_classifier` takes as
        ``penalty``: from a run of a :class:`~faithattn.paper.models.TextClassifier`
        and its ids ``(B, L)`` to ``(B,)``; 0 for a text without words.
        Positions that are no words add nothing to value or gradient.

    Raises:
        ValueError: If the weight is negative or not finite.

    Examples:
        >>> from faithattn.paper.models import TextClassifier
        >>> log_odds = LogOdds(torch.tensor([[0.0, 0, 0, 0, 2.0, -1.0]]), torch.zeros(1))
        >>> ids = torch.tensor([[2, 4, 5, 3]])
        >>> model = TextClassifier(6, attention="log_odds", strength=log_odds.strength())
        >>> attention_penalty(log_odds, 1.0)(model.run(ids), ids).abs() < 1e-6
        tensor([True])
    """
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(
            f"weight must be finite and not negative; got {weight}. Pass 0 for no penalty."
        )

    def penalty(run: Run, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        if not isinstance(inputs, Tensor):
            raise TypeError(
                f"inputs must be token ids (B, L); got {type(inputs).__name__}. Log-odds are of "
                "single texts."
            )
        learned = run.attention[SITE]
        wanted = log_odds.attention(inputs).to(learned)
        tiny = torch.finfo(learned.dtype).tiny
        words = wanted > 0
        # Outside the words both are 0, whose logarithm would have no slope.
        ratio = (wanted.clamp(min=tiny) / learned.clamp(min=tiny)).where(words, 1.0)
        return weight * (wanted * ratio.log()).sum(1)

    return penalty
