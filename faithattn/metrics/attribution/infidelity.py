"""Infidelity: what scores say of removing positions, against what it does."""

from __future__ import annotations

from typing import Any

import torch
from captum import metrics
from torch import Tensor, nn

from faithattn._checks import require_count
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import Explanation, name_of_explanation, scores_of
from faithattn.importance.attribution.baselines import (
    Baseline,
    baselines_of,
    check_baseline,
    name_of_baseline,
)
from faithattn.importance.attribution.budget import rows_to_run
from faithattn.importance.attribution.explained import (
    OF,
    Explained,
    explained,
    explained_classes,
)
from faithattn.measures.draws import fresh_seed, instance_ids, noise_of, spans
from faithattn.results.attribution import Infidelity


def infidelity(
    model: object,
    inputs: Any,
    *,
    explanation: Explanation = "attention",
    view: AttentionView | None = None,
    target: int | Tensor | None = None,
    baseline: Baseline = "zero",
    of: str = "probability",
    normalize: bool = True,
    n_samples: int = 50,
    seed: int | None = None,
    instances: Tensor | None = None,
) -> Infidelity:
    """How far scores are from predicting what removing positions does, by Captum.

    The mean over random subsets S of (s(S) - (f(x) - f(x without S)))^2,
    where s(S) sums the scores of S and f is the output of the target: every
    position is in S with probability one half, and its embedding becomes the
    baseline. Attention has no unit of output; by default the scores of each
    instance are first scaled by the number that fits best, so that only their
    proportions count. 0 is an additive model with its own contributions. It
    does not apply to scores whose sign means nothing, and between models it
    compares only outputs that change alike.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanation: A name, or scores ``(B, L)`` such as
            :func:`captum_importance` gives.
        view: Which attention is the explanation; not needed for one row.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
        baseline: What stands for a removed position, as in
            :func:`captum_importance`.
        of: ``"probability"`` or ``"logit"`` of the target.
        normalize: Whether scores are scaled to fit best.
        n_samples: Number of subsets of each instance.
        seed: Any whole number; None draws a fresh one.
        instances: Ids of the rows, ``(B,)`` int64; default ``arange(B)``.

    Returns:
        One value an instance; nan without positions or with undefined scores.

    Raises:
        AdapterError: If the model has no differentiable input.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or several labels are
            predicted and ``target`` names none.

    References:
        Yeh et al. (2019), "On the (in)fidelity and sensitivity of
        explanations", definition 2.1 with subsets as perturbations.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> ids = torch.tensor([[2, 5, 6, 7, 3]])
        >>> infidelity(TextClassifier(10), ids, seed=0).infidelity.shape
        torch.Size([1])
    """
    count = require_count("n_samples", n_samples)
    if of not in OF:
        raise ValueError(f"of must be one of {', '.join(OF)}; got {of!r}. Choose one of those.")
    check_baseline(baseline, "infidelity", several=False)
    seed = fresh_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view)
        scores = scores_of(reading, explanation, target=target, seed=seed, instances=instances)
        subject = explained(reading, of, False)
        values = _values(subject, scores, baseline, target, count, normalize, seed, instances)
    return Infidelity(
        **reading.described(),
        infidelity=values,
        explanation=name_of_explanation(explanation),
        normalized=normalize,
        baseline=name_of_baseline(baseline),
        of=of,
        n_samples=count,
        seed=seed,
    )


class _Present(nn.Module):
    """Maps which positions are there, ``(n, N)`` of 0 and 1, to outputs ``(n,)``."""

    def __init__(self, subject: Explained, classes: Tensor, baseline: Tensor) -> None:
        super().__init__()
        self.subject, self.classes = subject, classes
        self.values, self.baseline = subject.values, baseline

    def forward(self, present: Tensor, rows: Tensor) -> Tensor:
        """The output of each row's class, absent positions at the baseline."""
        there = (present > 0.5)[..., None]
        values = torch.where(there, self.values[rows], self.baseline[rows])
        logits = self.subject.logits(self.subject.full(values, rows), rows)
        return self.subject.output(logits, self.classes[rows])


def _values(
    subject: Explained,
    scores: Tensor,
    baseline: Baseline,
    target: int | Tensor | None,
    count: int,
    normalize: bool,
    seed: int,
    instances: Tensor | None,
) -> Tensor:
    """Infidelity of each instance, ``(B,)``."""
    reading = subject.reading
    forward = _Present(subject, _class(reading, target), baselines_of(subject, baseline)[0])
    dtype = reading.outputs.dtype
    weights = subject.compact(scores[:, : subject.feature.shape[1]]).to(dtype)
    ids = instance_ids(instances, reading.outputs)
    result = weights.new_full((len(weights),), torch.nan)
    rows, limit = subject.counts.nonzero()[:, 0], rows_to_run(subject)
    for first, last in spans(len(rows), max(1, limit // count)):
        part = rows[first:last]
        found = metrics.infidelity(
            forward,
            _Subsets(subject.live[part], ids[part], seed),
            torch.ones_like(weights[part]),
            weights[part],
            additional_forward_args=(part,),
            n_perturb_samples=count,
            max_examples_per_batch=min(limit, count) if len(part) == 1 else None,
            normalize=normalize,
        )
        result[part] = found.clamp_min(0)  # its expanded square cancels
    return result


class _Subsets:
    """Draws the next subsets to remove: what is removed, and what is left."""

    def __init__(self, live: Tensor, ids: Tensor, seed: int) -> None:
        self.live, self.ids, self.seed, self.next = live, ids, seed, 0

    def __call__(self, present: Tensor) -> tuple[Tensor, Tensor]:
        draws = len(present) // len(self.live)
        numbers = torch.arange(self.next, self.next + draws, device=present.device)
        self.next += draws
        noise = noise_of(self.seed, self.ids, numbers, self.live)
        removed = ((noise > 0) & self.live).transpose(0, 1).reshape(present.shape)
        return removed.to(present.dtype), present - removed.to(present.dtype)


def _class(reading: Reading, target: int | Tensor | None) -> Tensor:
    """The one class of each instance."""
    classes = explained_classes(reading, target)
    if len(classes) > 1:
        raise ValueError(
            f"target must be a label from 0 to {len(classes) - 1}, as the model predicts several; "
            "got None. Choose the one to explain."
        )
    return classes[0]
