"""Does an explanation name what people say is the reason? Plausible is not faithful."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from faithattn._checks import require_count, require_floating, require_mask
from faithattn.adapters.reading import read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.measures.groups import aggregate_scores
from faithattn.measures.kendall.pairs import Tolerance
from faithattn.measures.rank import tolerance_pair
from faithattn.measures.rationale import agreement, checked_rationale, renumbered, runs, span_f1
from faithattn.measures.tops import falling_ranks, first_by_rank
from faithattn.results.plausibility import Plausibility

Rationale: TypeAlias = "Tensor | Sequence[Sequence[Any]]"


def rationale_agreement(
    explanation: Tensor,
    rationale: Rationale,
    *,
    mask: Tensor | None = None,
    k: int | None = None,
    groups: Tensor | None = None,
    tie_tolerance: Tolerance = "auto",
) -> Plausibility:
    """How well scores single out the positions that people marked, without any model.

    This is plausibility: whether an explanation looks right. It says nothing
    about what a model does; an explanation may be plausible and false, and
    faithful to a model that is right for the wrong reason.

    Args:
        explanation: Scores ``(B, L)``, floating point, larger is more important.
        rationale: What is marked: bool ``(B, L)``; or a list for each instance
            of spans ``(start, end)``, ``end`` not included, or of positions,
            of which neighbours are one span.
        mask: True where a position can be explained, ``(B, L)``; None for all.
            What is marked elsewhere is counted, and left out.
        k: How many positions with the largest scores are chosen for precision,
            recall and F1, at least 1; None for as many as are marked, where
            the three are equal. Of ties the lower position comes first.
        groups: Number of each position's group, ``(B, L)`` or ``(L,)``, -1 for
            none, such as :func:`word_groups` gives: scores are summed over
            groups, and the rationale counts groups, as that of words for a
            model of sub-words. None compares positions.
        tie_tolerance: Neighbouring scores closer than this count as tied:
            ``"auto"`` is 1e-6 of the row's largest value, 0 compares exactly.

    Returns:
        Average precision, AUROC, precision, recall, F1 of tokens and spans,
        share of the positive scores, per instance and each in 0..1, with what
        chance gives; nan where nothing is marked.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If shapes or devices differ, or an argument is out of range.

    References:
        DeYoung et al. (2020), "ERASER: a benchmark to evaluate rationalized NLP
        models", arXiv 1911.03429, for F1 of tokens and spans; Jacovi &
        Goldberg (2020), arXiv 2004.03685, for plausible against faithful.

    Examples:
        >>> import torch
        >>> scores = torch.tensor([[0.1, 0.6, 0.1, 0.2]])
        >>> result = rationale_agreement(scores, torch.tensor([[False, True, True, False]]))
        >>> result.precision.item(), round(result.rationale_mass.item(), 2)
        (0.5, 0.7)
    """
    if require_floating("explanation", explanation).ndim != 2:
        raise ValueError(
            f"explanation must have shape (batch, positions); got {tuple(explanation.shape)}. "
            "Add or choose dimensions."
        )
    scores = explanation.detach()
    scores = scores if scores.dtype == torch.float64 else scores.float()
    every = torch.ones_like(scores, dtype=torch.bool)
    mask = every if mask is None else require_mask(mask, "explanation", scores)
    nothing = scores.new_full(scores.shape[:1], torch.nan)
    about = {
        "predicted": torch.full_like(nothing, -1, dtype=torch.int64),
        "max_attention": nothing,
        "mass": nothing,
        "view": "none",
        "output": "none",
        "explanation": "given scores",
    }
    return _agree(scores, rationale, mask, k, groups, tie_tolerance, about)


def plausibility(
    model: object,
    inputs: Any,
    *,
    rationale: Rationale,
    explanation: Explanation = "attention",
    view: AttentionView | None = None,
    k: int | None = None,
    groups: Tensor | None = None,
    tie_tolerance: Tolerance = "auto",
    target: int | Tensor | None = None,
    seed: int = 0,
    instances: Tensor | None = None,
) -> Plausibility:
    """How well an explanation of a model singles out the positions that people marked.

    The model is run once, to be explained; whether the explanation is true of
    it is not asked. See :func:`rationale_agreement`.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        rationale: What is marked: bool ``(B, L)``; or a list for each instance
            of spans ``(start, end)``, ``end`` not included, or of positions.
        explanation: Name of an explanation, or scores ``(B, L)`` of your own.
        view: Which attention is the explanation; not needed for one row.
        k: How many positions are chosen, at least 1; None for as many as are
            marked.
        groups: Number of each position's group, which the rationale counts;
            None compares positions.
        tie_tolerance: Neighbouring scores closer than this count as tied.
        target: Class that a named explanation explains, an int or ``(B,)``;
            None is the prediction.
        seed: Seed of explanations that are drawn.
        instances: Ids ``(B,)`` of the rows, int64; default ``arange(B)``.

    Returns:
        The agreement of each instance; nan where nothing is marked.

    Raises:
        AdapterError: If the model breaks its contract.
        TypeError: If an argument has the wrong type.
        ValueError: If shapes differ, or an argument is out of range.

    References:
        DeYoung et al. (2020), "ERASER: a benchmark to evaluate rationalized NLP
        models", arXiv 1911.03429.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> model = TextClassifier(vocabulary_size=10)
        >>> ids = torch.tensor([[2, 5, 6, 7, 3]])
        >>> result = plausibility(model, ids, rationale=[[(1, 3)]])
        >>> result.average_precision.shape, result.density
        (torch.Size([1]), tensor([0.6667]))
    """
    with torch.no_grad():
        reading = read(model, inputs, view)
        scores = scores_of(reading, explanation, target=target, seed=seed, instances=instances)
    rows = reading.rows
    about = {
        "predicted": reading.predicted,
        "max_attention": rows.max_attention,
        "mass": rows.mean_mass,
        "view": str(rows.view),
        "output": reading.output,
        "explanation": name_of_explanation(explanation),
    }
    return _agree(scores, rationale, rows.mask, k, groups, tie_tolerance, about)


def _agree(
    scores: Tensor,
    rationale: Rationale,
    mask: Tensor,
    k: int | None,
    groups: Tensor | None,
    tie_tolerance: Tolerance,
    about: dict[str, Any],
) -> Plausibility:
    """Compares checked scores with a rationale and puts the result together."""
    if k is not None:
        require_count("k", k)
    tolerance, _ = tolerance_pair(tie_tolerance)
    if groups is not None:
        scores, mask = aggregate_scores(scores, groups, mask=mask)
    flags, spans = checked_rationale(rationale, scores)
    relevant = flags & mask
    ranks = falling_ranks(scores, mask, tolerance)
    found = agreement(ranks, scores, relevant, mask, k)
    cut = relevant.sum(1, keepdim=True) if k is None else k
    wanted = runs(relevant, mask) if spans is None else renumbered(spans, mask)
    matched = span_f1(runs(first_by_rank(ranks, mask, cut), mask), wanted)
    return Plausibility(
        **about,
        average_precision=found.average_precision,
        auroc=found.auroc,
        precision=found.precision,
        recall=found.recall,
        f1=found.f1,
        rationale_mass=found.share,
        span_f1=scores.new_tensor(matched).masked_fill(found.f1.isnan(), torch.nan),
        average_precision_chance=found.average_precision_chance,
        recall_chance=found.recall_chance,
        f1_chance=found.f1_chance,
        density=found.density,
        outside=(flags & ~mask).sum(1),
        k=k,
        grouped=groups is not None,
    )
