"""Maximum sensitivity: how far scores change in a small box around the input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from captum import metrics
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.inputs.structure import select
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.view import AttentionView
from faithattn.explanations.given import scores_of
from faithattn.importance.attribution.budget import rows_to_run
from faithattn.importance.attribution.explained import Explained, explained
from faithattn.importance.removal.naming import name_of
from faithattn.measures.draws import fresh_seed, instance_ids, noise_of, spans
from faithattn.metrics.attribution.moved import Moved, Point
from faithattn.results.attribution import Sensitivity

Explaining: TypeAlias = "str | Callable[[Any, Any], Tensor]"


def max_sensitivity(
    model: object,
    inputs: Any,
    *,
    explanation: Explaining = "attention",
    view: AttentionView | None = None,
    radius: float = 0.02,
    n_samples: int = 10,
    seed: int | None = None,
    instances: Tensor | None = None,
) -> Sensitivity:
    """The largest relative change of scores near the embedded input, by Captum.

    The maximum over points x' drawn in a box around x of
    ||s(x') - s(x)|| / ||s(x)||, where s are the scores of the explained
    positions. The box is ``radius`` root mean squares of the instance's
    features to each side; other positions stay. It says how stable an
    explanation is, not how faithful: constant scores have 0. It does not
    apply where the model has no embedded input. Scores by name are always of
    the class predicted at x, and their draws are held; a function decides for
    itself, and may be of another class where the prediction turns.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        explanation: A name, or a function ``(model, inputs) -> (B, L)`` that
            explains the model it is given on the inputs it is given, such as
            ``functools.partial(captum_importance, method="saliency")``.
        view: Which attention is the explanation; not needed for one row.
        radius: Half the width of the box, positive; Captum's own is .02, in
            units of the input.
        n_samples: Number of points.
        seed: Any whole number; None draws a fresh one.
        instances: Ids of the rows, ``(B,)`` int64; default ``arange(B)``.

    Returns:
        One value an instance, 0 or more; nan without positions, or where all
        scores are 0 or one is undefined.

    Raises:
        AdapterError: If the model has no differentiable input.
        TypeError: If ``explanation`` is no name and no function, or ``radius`` no number.
        ValueError: If an argument is out of range.

    References:
        Yeh et al. (2019), "On the (in)fidelity and sensitivity of
        explanations", definition 2.2.

    Examples:
        >>> from functools import partial
        >>> import torch
        >>> from faithattn import captum_importance
        >>> from faithattn.paper.models import TextClassifier
        >>> model, ids = TextClassifier(10), torch.tensor([[2, 5, 6, 7, 3]])
        >>> saliency = partial(captum_importance, method="saliency")
        >>> max_sensitivity(model, ids, explanation=saliency, seed=0).sensitivity.shape
        torch.Size([1])
    """
    if not (isinstance(explanation, str) or callable(explanation)):
        raise TypeError(
            "explanation must be a name or a function (model, inputs) -> scores; "
            f"got {type(explanation).__name__}. Scores alone say nothing of other inputs."
        )
    count = require_count("n_samples", n_samples)
    if not isinstance(radius, int | float):
        raise TypeError(f"radius must be a number; got {radius!r}. Leave it out for the default.")
    if not 0 < radius < math.inf:
        raise ValueError(
            f"radius must be positive and finite; got {radius}. Leave it out for the default."
        )
    seed = fresh_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        reading = read(model, inputs, view)
        subject = explained(reading, "probability", False)
        values = _values(subject, explanation, view, float(radius), count, seed, instances)
    return Sensitivity(
        **reading.described(),
        sensitivity=values,
        explanation=explanation if isinstance(explanation, str) else name_of(explanation),
        radius=float(radius),
        n_samples=count,
        seed=seed,
    )


def _values(
    subject: Explained,
    explanation: Explaining,
    view: AttentionView | None,
    radius: float,
    count: int,
    seed: int,
    instances: Tensor | None,
) -> Tensor:
    """Sensitivity of each instance, ``(B,)``."""
    reading, values = subject.reading, subject.values
    ids = instance_ids(instances, reading.outputs)
    result = reading.outputs.new_full((len(values),), torch.nan)
    rows, limit = subject.counts.nonzero()[:, 0], rows_to_run(subject)
    for first, last in spans(len(rows), max(1, limit // count)):
        part = rows[first:last]
        scores = _Scores(subject, explanation, view, ids)
        largest = metrics.sensitivity_max(
            scores,
            values[part],
            _Box(subject, part, ids[part], seed, radius),
            n_perturb_samples=count,
            max_examples_per_batch=min(limit, count) if len(part) == 1 else None,
            additional_forward_args=(part,),
        )
        result[part] = largest.to(result.dtype).masked_fill(scores.size == 0, torch.nan)
    return result


class _Scores:
    """Scores ``(n, N)`` of the explained positions at features ``(n, N, E)``, for Captum."""

    def __init__(
        self,
        subject: Explained,
        explanation: Explaining,
        view: AttentionView | None,
        ids: Tensor,
    ) -> None:
        self.subject, self.explanation, self.view, self.ids = subject, explanation, view, ids
        reading = subject.reading
        self.model = Moved(reading.model, subject.name, reading.output)
        self.size = torch.empty(0)  # of the scores at the input itself, the first it is asked for

    def __call__(self, given: Any, additional_forward_args: tuple[Tensor]) -> Any:
        (rows,) = additional_forward_args
        (values,) = given if isinstance(given, tuple) else (given,)
        subject = self.subject
        inputs = select(subject.reading.model, subject.reading.inputs, rows)
        point = Point(inputs, subject.full(values, rows))
        scores = self._explain(point, rows)
        places = subject.places[rows]
        padded = torch.nn.functional.pad(scores[:, : subject.feature.shape[1]], (0, 1))
        taken = padded.gather(1, places)
        if not len(self.size):
            self.size = taken.norm(dim=1)
        return (taken,) if isinstance(given, tuple) else taken

    def _explain(self, point: Point, rows: Tensor) -> Tensor:
        if isinstance(self.explanation, str):
            there: Reading = read(self.model, point, self.view)
            predicted = self.subject.reading.predicted[rows]
            target = None if bool((predicted < 0).any()) else predicted
            return scores_of(there, self.explanation, target=target, instances=self.ids[rows])
        found = self.explanation(self.model, point)
        expected = (len(point.features), self.subject.reading.rows.mask.shape[1])
        if not isinstance(found, Tensor) or found.shape != expected:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"explanation must return one score a position, shape {expected}; got {got}. "
                "Explain the model and the inputs that the function is given."
            )
        return found.detach()


class _Box:
    """Draws the next points around the input, uniformly."""

    def __init__(
        self, subject: Explained, rows: Tensor, ids: Tensor, seed: int, radius: float
    ) -> None:
        live, values = subject.live[rows], subject.values[rows]
        self.flags = live[..., None].expand_as(values).flatten(1)
        square = values.double().square().sum((1, 2)) / self.flags.sum(1)
        self.width = radius * square.sqrt()
        self.ids, self.seed, self.next = ids, seed, 0

    def __call__(self, values: Tensor) -> Tensor:
        draws = len(values) // len(self.ids)
        numbers = torch.arange(self.next, self.next + draws, device=values.device)
        self.next += draws
        noise = noise_of(self.seed, self.ids, numbers, self.flags)
        uniform = 2 * torch.special.ndtr(noise) - 1
        moved: Tensor = (uniform * self.width[:, None]).masked_fill(~self.flags, 0)
        shifts = moved.transpose(0, 1).reshape(values.shape).to(values.dtype)
        return values + shifts
