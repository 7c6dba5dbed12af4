"""Do several ways of taking positions away say the same?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.reading import Reading, explained_class, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.importance.leave_one_out import (
    Removal,
    changes,
    check_removal,
    expected_replays,
    leave_one_out_of,
)
from faithattn.measures.rank import rank_correlation
from faithattn.metrics.correlation import output_noise
from faithattn.metrics.removal.curves import FRACTIONS, curves_of
from faithattn.metrics.removal.order import check_fractions
from faithattn.results.removal import RemovalAgreement

REMOVALS = ("delete", "mask_attention", "zero_embedding", "mean_embedding")


def removal_agreement(
    model: object,
    inputs: Any,
    *,
    explanation: Explanation = "attention",
    removals: Sequence[Removal] = REMOVALS,
    fractions: tuple[float, ...] = FRACTIONS,
    target: int | Tensor | None = None,
    view: AttentionView | None = None,
    seed: int = 0,
    instances: Tensor | None = None,
) -> RemovalAgreement:
    """How far removals agree: on what matters, and on how good an explanation is.

    Each removal gives a leave-one-out importance of the positions; Kendall's
    tau says of each two how far they rank alike. A low tau is a warning: what
    is concluded from one removal then need not hold under another. The
    explanation's AOPC comprehensiveness and sufficiency stand beside it, under
    each removal.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanation: A name that ``explain`` knows, or scores ``(B, L)`` of
            one's own, larger ones more important.
        removals: Two or more removals, as :func:`leave_one_out_importance` takes.
        fractions: Shares of positions for AOPC.
        target: Class to explain, an int or ``(B,)``. None explains the
            prediction, and its leave-one-out importance is by the total
            variation distance.
        view: Which attention is meant; not needed for one row.
        seed: Seed of an explanation that is drawn.
        instances: Ids ``(B,)`` of the rows for it; default ``arange(B)``.

    Returns:
        One matrix of taus an instance, with mean and undefined counts.

    Raises:
        AdapterError: If the model cannot remove positions in one of the ways.
        TypeError: If an argument has the wrong type.
        ValueError: If removals are fewer than two, or one is named twice.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = removal_agreement(model, torch.tensor([[2, 5, 6, 7, 3]]))
        >>> result.tau.shape, result.aopc_comprehensiveness.shape
        (torch.Size([1, 4, 4]), torch.Size([1, 4]))
    """
    names, shares = _check_removals(removals), check_fractions(fractions)
    with torch.no_grad():
        replays = sum(map(expected_replays, names))
        reading = read(model, inputs, view, replay=replays, changes=any(map(changes, names)))
    scores = scores_of(
        reading, explanation, target=target, seed=seed, instances=instances, removal=removals[0]
    )
    classes = explained_class(reading, target)
    with torch.no_grad():
        importance = torch.stack([leave_one_out_of(reading, each, target) for each in removals], 1)
        curves = [curves_of(reading, scores, classes, each, shares, 0) for each in removals]
    return RemovalAgreement(
        **reading.described(),
        tau=_taus(reading, importance),
        aopc_comprehensiveness=torch.stack([each["aopc_comprehensiveness"] for each in curves], 1),
        aopc_sufficiency=torch.stack([each["aopc_sufficiency"] for each in curves], 1),
        importance=importance,
        removals=names,
        fractions=shares,
        explanation=name_of_explanation(explanation),
    )


def _check_removals(removals: object) -> tuple[str, ...]:
    if not isinstance(removals, Sequence) or isinstance(removals, str):
        raise TypeError(
            f"removals must be a sequence of removals; got {type(removals).__name__}. "
            f"Use {REMOVALS}."
        )
    names = tuple(check_removal(each) for each in removals)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"removals must be two or more different ones; got {names}. Name each once."
        )
    return names


def _taus(reading: Reading, importance: Tensor) -> Tensor:
    """Kendall's tau ``(B, N, N)`` between importance ``(B, N, L)``; near-ties tie."""
    size, count, length = importance.shape
    shape = (size, count, count, length)
    tau = rank_correlation(
        importance[:, :, None].expand(shape).contiguous(),
        importance[:, None].expand(shape).contiguous(),
        mask=reading.rows.mask[:, None, None].expand(shape),
        tie_tolerance=output_noise(reading.run.logits.dtype),
    )
    return tau.statistic
