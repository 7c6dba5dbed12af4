"""Do positions that are held up as the reason push the output the way they are said to?"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.importance.leave_one_out import (
    Removal,
    check_removal,
    expected_replays,
    leave_one_out_of,
)
from faithattn.measures.signs import sign_agreement, top_signs
from faithattn.metrics.correlation import output_noise
from faithattn.results.violation import PolarityResult, ViolationResult


def faithfulness_violation(
    model: object,
    inputs: Any,
    *,
    explanation: Explanation = "attention",
    removal: Removal = "delete",
    target: int | Tensor | None = None,
    view: AttentionView | None = None,
    seed: int = 0,
    instances: Tensor | None = None,
) -> ViolationResult:
    """Whether the top position of an explanation pushes the output the other way.

    With w the score of the position of largest absolute score and d = p(x) - p(x without
    it), an instance violates where w d < 0: the explanation says that the
    position supports the class, and the class is more probable without it.
    Attention has no sign; it says of every position that it supports.

    Not a violation is a d within float noise (5e-7 in single precision, 1e-13 in
    double), nor is one on a tie: of scores within 1e-6 of each other, relative to the
    largest, the first position is taken. Some positions of any text speak
    against the class, so chance is not .5: the result has the rate of
    a random position of the instance beside.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanation: Name of an explanation, or scores ``(B, L)`` of your own;
            larger is more important, negative speaks against the class.
        removal: How a position is taken away, by name or as a function; see
            :func:`leave_one_out_importance`.
        target: Class whose probability is watched, an int or ``(B,)``; None is
            the prediction, or the output of a regression with one output.
        view: Which attention is the explanation; not needed for one row.
        seed: Seed of explanations that are drawn.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``.

    Returns:
        One flag per instance, with position, score, change and chance; nan
        where there is no position, all scores are 0, a score is nan or the
        change at the top is undefined.

    Raises:
        AdapterError: If the model cannot remove positions, or breaks its contract.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or several outputs have no
            prediction and no target.

    References:
        Liu et al. (2022), "Rethinking attention-model explainability through
        faithfulness violation test", arXiv 2201.12114.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = faithfulness_violation(model, torch.tensor([[2, 5, 6, 7, 3]]))
        >>> result.violated.shape, result.removal
        (torch.Size([1]), 'delete')
    """
    name = check_removal(removal)
    drawn = _Drawn(target, seed, instances)
    reading, scores, effects = _read(model, inputs, explanation, removal, view, drawn)
    top = top_signs(scores, effects, reading.rows.mask, output_noise(reading.run.logits.dtype))
    return ViolationResult(
        **reading.described(),
        violated=top.violated,
        position=top.position,
        weight=top.score,
        change=top.effect,
        chance=top.chance,
        explanation=name_of_explanation(explanation),
        removal=name,
    )


def polarity_agreement(
    model: object,
    inputs: Any,
    *,
    explanation: Explanation = "attention",
    removal: Removal = "delete",
    target: int | Tensor | None = None,
    view: AttentionView | None = None,
    k: int = 3,
    seed: int = 0,
    instances: Tensor | None = None,
) -> PolarityResult:
    """How much of an explanation has the sign of what the model does.

    The share of positions whose score has the sign of p(x) - p(x without the
    position), of all positions where that change is above float noise (5e-7 in
    single precision, 1e-13 in double); the same share weighted by the absolute score, and
    among the k largest absolute scores. Each has the value beside it that the same scores give
    on average over all orders of these positions.

    Attention has no sign. Its unweighted share is the share of positions that
    support the class, which says nothing of the attention and equals its
    chance; the weighted share above that says that weight goes to support.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanation: Name of an explanation, or scores ``(B, L)`` of your own;
            larger is more important, negative speaks against the class.
        removal: How a position is taken away, by name or as a function; see
            :func:`leave_one_out_importance`.
        target: Class whose probability is watched, an int or ``(B,)``; None is
            the prediction, or the output of a regression with one output.
        view: Which attention is the explanation; not needed for one row.
        k: How many of the largest absolute scores to look at, at least 1; of
            near-ties the lower position comes first.
        seed: Seed of explanations that are drawn.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``.

    Returns:
        Shares in 0..1 per instance; nan where no position has an effect, a
        score is nan, or (weighted) all scores there are 0.

    Raises:
        AdapterError: If the model cannot remove positions, or breaks its contract.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or several outputs have no
            prediction and no target.

    References:
        Liu et al. (2022), "Rethinking attention-model explainability through
        faithfulness violation test", arXiv 2201.12114, for the signs; the
        shares over all positions are an addition.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> result = polarity_agreement(model, torch.tensor([[2, 5, 6, 7, 3]]), k=1)
        >>> torch.equal(result.agreement, result.agreement_chance)
        True
    """
    name = check_removal(removal)
    require_count("k", k)
    drawn = _Drawn(target, seed, instances)
    reading, scores, effects = _read(model, inputs, explanation, removal, view, drawn)
    mask, noise = reading.rows.mask, output_noise(reading.run.logits.dtype)
    found = sign_agreement(scores, effects, mask, noise, k)
    return PolarityResult(
        **reading.described(),
        agreement=found.share,
        weighted=found.weighted,
        top=found.top,
        agreement_chance=found.share_chance,
        weighted_chance=found.weighted_chance,
        top_chance=found.top_chance,
        positions=found.counted,
        k=k,
        explanation=name_of_explanation(explanation),
        removal=name,
    )


class _Drawn(NamedTuple):
    """What an explanation may depend on besides the reading."""

    target: int | Tensor | None
    seed: int
    instances: Tensor | None


def _read(
    model: object,
    inputs: Any,
    explanation: Explanation,
    removal: Removal,
    view: AttentionView | None,
    drawn: _Drawn,
) -> tuple[Reading, Tensor, Tensor]:
    """A reading, the scores of its positions, and how far the class falls without each."""
    replays = expected_replays(check_removal(removal))
    with torch.no_grad():
        reading = read(model, inputs, view, replay=replays)
        scores = scores_of(reading, explanation, **drawn._asdict(), removal=removal)
        effects = leave_one_out_of(reading, removal, drawn.target, signed=True)
    return reading, scores, effects.to(scores.dtype)
