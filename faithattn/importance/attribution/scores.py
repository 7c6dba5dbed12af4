"""Captum's attributions as importance: one score a position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn.adapters.contract.subject import modules
from faithattn.adapters.reading import Reading, read
from faithattn.adapters.state import differentiating
from faithattn.adapters.view import AttentionView
from faithattn.importance.attribution.attributing import REDUCTIONS, Task, attributions
from faithattn.importance.attribution.baselines import (
    Baseline,
    baselines_of,
    check_baseline,
    name_of_baseline,
)
from faithattn.importance.attribution.care import untouched
from faithattn.importance.attribution.explained import OF, explained, explained_classes
from faithattn.importance.attribution.methods import Method, Named, check_options, find_method
from faithattn.measures.draws import fresh_seed, instance_ids


@dataclass(frozen=True)
class Asked:
    """What :func:`captum_importance` is asked, but for model, inputs and instances."""

    method: Method
    target: int | Tensor | None
    baseline: Baseline | Sequence[Baseline]
    reduction: str
    of: str
    detach_attention: bool
    max_gap: float
    seed: int
    options: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Attributed:
    """Importance ``(B, L)``, convergence delta and evaluations ``(B,)``."""

    importance: Tensor
    delta: Tensor
    evaluations: Tensor
    baseline: str


def captum_importance(
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
) -> Tensor:
    """Importance of each position by one of Captum's attribution methods.

    Captum attributes the target's probability to the embedded input at the
    positions that can be explained; special tokens and padding keep their
    embeddings throughout. Methods by perturbation take a position as one
    feature. What is drawn is a function of (seed, instance id), and methods
    that draw run one instance after the other, so that the batch does not
    matter; only feature permutation compares the instances of a batch.

    Args:
        model: An :class:`AttentionModel` or a plain ``nn.Module``.
        inputs: What the model takes.
        method: ``"saliency"``, ``"input_x_gradient"``,
            ``"integrated_gradients"``, ``"layer_integrated_gradients"`` (by
            hooks on the embedding; the same values), ``"deep_lift"``,
            ``"deep_lift_shap"``, ``"gradient_shap"``, ``"guided_backprop"``,
            ``"feature_ablation"``, ``"occlusion"``,
            ``"shapley_value_sampling"``, ``"kernel_shap"``, ``"lime"`` (these
            two need scikit-learn) or ``"feature_permutation"``; or a class of
            ``captum.attr``, or an instance, which is copied with the forward
            function used here in the place of its own.
        view: Which attention the positions belong to; not needed for one row.
        target: Class to explain, an int or ``(B,)``; None is the prediction.
            Several independent labels (or regression outputs) then give the
            sum of their scores.
        baseline: What stands for an absent position: ``"zero"``; ``"mean"``
            of the instance's explained positions; the embedding of the
            ``"pad"`` or of the ``"mask"`` token; or a tensor ``(E,)``,
            ``(L, E)`` or ``(B, L, E)``. A sequence of them is the
            distribution of gradient SHAP and DeepLIFT SHAP.
        reduction: From the dimensions of the embedding to a score: ``"sum"``
            (signed), ``"abs_sum"`` (the absolute value of the sum), ``"l1"``
            or ``"l2"``.
        of: ``"probability"``, or ``"logit"``: the target's logit (of one
            sigmoid, the log-odds of the class).
        detach_attention: Whether the attention is held at its own weights.
        max_gap: The share of its attributions by which DeepLIFT may miss the
            change of the output before it is refused; ``math.inf`` for any.
        seed: Any whole number; None draws a fresh one.
        instances: Ids of the rows, ``(B,)`` int64; default ``arange(B)``.
        options: What the method's ``attribute`` takes besides, such as
            ``n_steps``, ``n_samples``, ``stdevs`` or ``perturbations_per_eval``
            (by default what the memory budget allows), and for occlusion
            ``window``, a number of positions. Defaults are Captum's.

    Returns:
        Importance ``(B, L)``, in units of the output (of the gradient for
        saliency and guided backpropagation), 0 outside the mask; nan where
        feature permutation finds no other instance with such a position.

    Raises:
        AdapterError: If the model has no differentiable input, or the method
            cannot be right on the model; the message says why.
        TypeError: If an option is none of the method's.
        ValueError: If an argument is out of range.

    References:
        Kokhlikyan et al. (2020), "Captum: A unified and generic model
        interpretability library for PyTorch"; Bastings & Filippova (2020),
        "The elephant in the interpretability room".

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> from faithattn.paper.training import build
        >>> model = build(lambda: TextClassifier(10, encoder="average"), seed=0)
        >>> ids = torch.tensor([[2, 5, 6, 7, 3]])
        >>> captum_importance(model, ids).shape
        torch.Size([1, 5])
        >>> signed = captum_importance(model, ids, method="input_x_gradient")
        >>> size = captum_importance(model, ids, method="input_x_gradient", reduction="abs_sum")
        >>> torch.equal(signed.abs(), size)
        True
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
        return attributed(reading, asked, instances).importance


def check(asked: Asked) -> Asked:
    """Raises for what can be said to be wrong without a model."""
    method = asked.method
    check_options(method, asked.options)
    for name, given, known in (("reduction", asked.reduction, REDUCTIONS), ("of", asked.of, OF)):
        if given not in known:
            raise ValueError(
                f"{name} must be one of {', '.join(known)}; got {given!r}. Choose one of those."
            )
    if not asked.max_gap >= 0 or math.isnan(asked.max_gap):
        raise ValueError(
            f"max_gap must be zero or more; got {asked.max_gap}. Leave it out for the default."
        )
    check_baseline(asked.baseline, method.name, several=method.from_many)
    if "baselines" not in method.accepts and name_of_baseline(asked.baseline) != "zero":
        raise ValueError(
            f"baseline must be left out for {method.name}, which has none; "
            f"got {name_of_baseline(asked.baseline)!r}. Leave it out."
        )
    return asked


def attributed(reading: Reading, asked: Asked, instances: Tensor | None) -> Attributed:
    """Attributions from a reading; see :func:`captum_importance`."""
    subject = explained(reading, asked.of, asked.detach_attention)
    takes = "baselines" in asked.method.accepts
    task = Task(
        explained=subject,
        method=asked.method,
        baselines=baselines_of(subject, asked.baseline if takes else "zero"),
        reduction=asked.reduction,
        options=asked.options,
        seed=asked.seed,
        ids=instance_ids(instances, reading.outputs),
        max_gap=asked.max_gap,
    )
    with untouched(modules(reading.model)):
        found = [
            attributions(task, classes) for classes in explained_classes(reading, asked.target)
        ]
    scores = torch.stack([score for score, _ in found]).sum(0)
    delta = torch.stack([gap for _, gap in found]).sum(0)
    name = name_of_baseline(asked.baseline) if takes else "none"
    return Attributed(subject.spread(scores), delta, subject.evaluations, name)
