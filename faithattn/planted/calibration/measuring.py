"""Metrics asked about pairs whose order is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor
from tqdm import tqdm

from faithattn.errors import AdapterError
from faithattn.importance.leave_one_out import Removal, check_removal
from faithattn.metrics.scores.question import Question, Score
from faithattn.planted.calibration.cells import Cell, wilson
from faithattn.planted.calibration.outcome import Calibration
from faithattn.planted.calibration.pairs import KINDS, Setting, make_setting
from faithattn.planted.calibration.plan import Plan, checked_plan
from faithattn.planted.compensating import Compensating

_BATCH = 256  # texts a metric is asked about at once
# Numbers this close are tied: sums in another order differ by as much.
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12
# A metric that does not apply says so; the others go on.
_NOT_APPLICABLE = (AdapterError, ValueError, NotImplementedError)


def calibrate(
    metrics: Iterable[str | Score] | None = None,
    *,
    lengths: Sequence[int] = (6, 16, 40),
    depths: Sequence[int] = (0, 1, 3),
    sizes: Sequence[int] = (1, 4, 16),
    contrasts: Sequence[float] = (0.3, 1.0),
    n_pairs: int = 100,
    removal: Removal = "delete",
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """Scores metrics on pairs of known relative faithfulness.

    Two kinds of pairs are planted. **Models**: both have the same outputs on
    the same texts; one uses its attention, the other does so to a smaller
    degree (see :class:`faithattn.planted.Compensating`), and a metric is asked
    about ``"attention"``. **Explanations**: one model, and as explanation what
    each word really adds to the output, or the same scores with those of a
    share of the positions passed around; metrics that judge attention as such
    are not asked. A metric ranks a pair rightly if its mean over the texts
    speaks for the more faithful one.

    Args:
        metrics: Names in ``faithattn.metrics.scores.table.SCORES``, or
            :class:`Score` objects; None takes every faithfulness metric that a
            comparison asks by default.
        lengths: Numbers of words of a text, at least 2 each.
        depths: Layers of mixing between words and attention, 0 or more.
        sizes: Numbers of texts that are averaged for one number.
        contrasts: How far apart the two of a pair are, above 0 and at most 1:
            how far the second model's output does without its attention, and
            the share of positions whose scores are spoiled.
        n_pairs: Pairs in each setting, each with texts of its own.
        removal: How metrics take positions away; see
            :func:`leave_one_out_importance`.
        seed: Seed of models, texts and the metrics' own draws.
        progress: Show a progress bar on standard error.

    Returns:
        For every metric, kind and setting the share of pairs that were ranked
        rightly, ties and undefined numbers counted one half, with a 95 %
        interval (Wilson), and a verdict.

    Raises:
        TypeError: If a metric is neither a name nor a :class:`Score`.
        ValueError: If a metric is unknown or an argument out of range.

    References:
        Zaman and Srivastava (2025), "A causal lens for evaluating faithfulness
        metrics", arXiv 2502.18848, for scoring metrics on such pairs.

    Examples:
        >>> found = calibrate(["permutation_test"], lengths=(6,), depths=(0,), sizes=(4,))
        >>> found.probability("permutation_test", "models", contrast=1.0)
        1.0
    """
    plan = checked_plan(metrics, lengths, depths, sizes, contrasts, n_pairs, seed)
    removed = check_removal(removal)
    chosen = plan.metrics
    cells: list[Cell] = []
    seconds = dict.fromkeys((score.name for score in chosen), 0.0)
    with tqdm(
        total=len(plan.places) * len(chosen), disable=not progress, desc="calibrating"
    ) as bar:
        for length, depth in plan.places:
            setting = make_setting(
                length,
                depth,
                contrasts=plan.contrasts,
                n_pairs=plan.n_pairs,
                most=max(plan.sizes),
                seed=plan.seed,
            )
            asked = _Questions(setting, removal, plan.seed)
            for score in chosen:
                bar.set_postfix_str(f"{score.name}, length {length}, depth {depth}")
                start = perf_counter()
                cells += _asked(score, asked, plan)
                seconds[score.name] += perf_counter() - start
                bar.update()
    order = {score.name: place for place, score in enumerate(chosen)}
    cells.sort(key=lambda cell: (order[cell.metric], KINDS.index(cell.kind)))
    return Calibration(
        tuple(cells), {score.name: score.title for score in chosen}, plan.seed, seconds, removed
    )


def _asked(score: Score, asked: _Questions, plan: Plan) -> Iterator[Cell]:
    """Every cell of one metric in one length and depth."""
    for kind in KINDS:
        if kind == "explanations" and score.attention_only:
            continue
        try:
            values, reason = _values(score, asked[kind]), ""
        except _NOT_APPLICABLE as error:
            values, reason = {}, " ".join(str(error).split())
        for contrast in plan.contrasts:
            for size in plan.sizes:
                pair = (values[0.0], values[contrast]) if values else None
                counted = _counted(pair, score, size, plan.n_pairs)
                length, depth = asked.setting.length, asked.setting.depth
                yield Cell(score.name, kind, contrast, length, depth, size, *counted, reason)


class _Questions:
    """What all metrics are asked in one length and depth, by how much is wrong, in batches.

    Metrics share what the model did: it runs once, not once a metric.
    """

    def __init__(self, setting: Setting, removal: Removal, seed: int) -> None:
        self.setting = setting
        self._removal, self._seed = removal, seed
        self._by_kind = {"models": self._of_models(), "explanations": self._of_explanations()}

    def __getitem__(self, kind: str) -> dict[float, list[Question]]:
        return self._by_kind[kind]

    def _of_models(self) -> dict[float, list[Question]]:
        return {wrong: list(self._batches(model)) for wrong, model in self.setting.models.items()}

    def _of_explanations(self) -> dict[float, list[Question]]:
        each = list(self._batches(self.setting.models[0.0]))
        return {
            wrong: [replace(one, explanation=scores[one.instances]) for one in each]
            for wrong, scores in self.setting.explanations.items()
        }

    def _batches(self, model: Compensating) -> Iterator[Question]:
        for rows in torch.split(torch.arange(len(self.setting.ids)), _BATCH):
            yield Question(
                model,
                self.setting.ids[rows],
                removal=self._removal,
                seed=self._seed,
                instances=rows,
            )


def _values(score: Score, asked: dict[float, list[Question]]) -> dict[float, Tensor]:
    """The metric of every text, float64, by how much is wrong with the model or explanation."""
    values = {}
    for wrong, questions in asked.items():
        parts = []
        for question in questions:
            found, size = score.compute(question), len(question.inputs)
            if found.shape != (size,):
                raise ValueError(
                    f"compute must return one value a text, shape ({size},); got "
                    f"{tuple(found.shape)}. Average over positions."
                )
            parts.append(found.detach().double().cpu())
        values[wrong] = torch.cat(parts)
    return values


def _counted(
    pair: tuple[Tensor, Tensor] | None, score: Score, size: int, n_pairs: int
) -> tuple[int, int, int, float, float, float, float]:
    """What a :class:`Cell` counts, from ``n_pairs`` on."""
    if pair is None:
        return n_pairs, 0, 0, 1.0, math.nan, math.nan, math.nan
    texts = torch.stack([values[: size * n_pairs].view(size, n_pairs) for values in pair])
    # Both sides over the same texts: one that a side has no value of is left out of both.
    together = texts.masked_fill(texts.isnan().any(0), torch.nan)
    better, worse = (each.nanmean(0) for each in together)
    gain = (better - worse) * (1 if score.larger_is_faithful else -1)
    slack = _ABSOLUTE + _RELATIVE * torch.maximum(better.abs(), worse.abs())
    right = int((gain > slack).sum())
    # A number that is not defined says nothing about the pair, as a tie does.
    tied = int(((gain.abs() <= slack) | gain.isnan()).sum())
    undefined = float(texts.isnan().double().mean())
    probability = (right + tied / 2) / n_pairs
    return n_pairs, right, tied, undefined, probability, *wilson(probability, n_pairs)
