"""Attributions by Captum, and Captum's own measures of explanations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from faithattn.results.base import Result
from faithattn.statistics import Summary, summarize


@dataclass(frozen=True, eq=False)
class Attribution(Result):
    """Importance of positions by one of Captum's methods.

    Attributes:
        importance: ``(B, L)``, 0 outside the mask.
        mask: Bool, likewise.
        delta: Convergence delta ``(B,)``: what the attributions sum to, less
            the change of the output from the baseline to the input; nan where
            the method has none. Of several samples, their mean.
        evaluations: How many times the instance was run, ``(B,)``.
        method: Name of the method.
        baseline: Name of what stood for absent positions; ``"none"`` where
            the method has none.
        reduction: From the dimensions of the embedding to one score.
        of: ``"probability"`` or ``"logit"``.
        detached: Whether the attention was held at its own weights.
        seed: Seed of the draws.

    Examples:
        >>> import torch
        >>> from faithattn import captum_attribution
        >>> from faithattn.paper.models import TextClassifier
        >>> result = captum_attribution(TextClassifier(9), torch.tensor([[2, 5, 6, 7, 3]]))
        >>> result.method, result.baseline, bool(result.delta.abs() < 1e-4)
        ('integrated_gradients', 'zero', True)
    """

    importance: Tensor
    mask: Tensor
    delta: Tensor
    evaluations: Tensor
    method: str
    baseline: str
    reduction: str
    of: str
    detached: bool
    seed: int

    _same: ClassVar[tuple[str, ...]] = (
        *("view", "output", "method", "baseline", "reduction", "of", "detached", "seed"),
    )
    _padded: ClassVar[tuple[str, ...]] = ("importance", "mask")

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of the size of the convergence delta."""
        return summarize(
            self.method,
            "|convergence delta|",
            self.delta.abs(),
            predicted=self.predicted,
            max_attention=self.max_attention,
            notes={"mean evaluations": float(self.evaluations.double().mean())},
        )


@dataclass(frozen=True, eq=False)
class Infidelity(Result):
    """How far scores are from what removing positions does to the output.

    Attributes:
        infidelity: Mean squared error, ``(B,)``, 0 or more, in squared units
            of the output; nan where undefined.
        explanation: Name of the scores.
        normalized: Whether the scores were scaled to fit best first.
        baseline: What stood for removed positions.
        of: ``"probability"`` or ``"logit"``.
        n_samples: Number of subsets that were removed.
        seed: Seed of the draws.

    Examples:
        >>> import torch
        >>> from faithattn import infidelity
        >>> from faithattn.paper.models import TextClassifier
        >>> result = infidelity(TextClassifier(9), torch.tensor([[2, 5, 6, 7, 3]]), seed=0)
        >>> result.explanation, result.records()[0]["infidelity"] < 1e-3
        ('attention', True)
    """

    infidelity: Tensor
    explanation: str
    normalized: bool
    baseline: str
    of: str
    n_samples: int
    seed: int

    _same: ClassVar[tuple[str, ...]] = (
        *("view", "output", "explanation", "normalized", "baseline", "of", "n_samples", "seed"),
    )

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of the infidelity."""
        return summarize(
            "infidelity",
            "mean squared error",
            self.infidelity,
            predicted=self.predicted,
            max_attention=self.max_attention,
        )


@dataclass(frozen=True, eq=False)
class Sensitivity(Result):
    """How far scores can change when the embedded input hardly does.

    Attributes:
        sensitivity: Largest relative change, ``(B,)``, 0 or more; nan where
            undefined.
        explanation: Name of the scores.
        radius: Half the width of the box, in root mean squares of the
            instance's features.
        n_samples: Number of points drawn in the box.
        seed: Seed of the draws.

    Examples:
        >>> import torch
        >>> from faithattn import max_sensitivity
        >>> from faithattn.paper.models import TextClassifier
        >>> result = max_sensitivity(TextClassifier(9), torch.tensor([[2, 5, 6, 7, 3]]), seed=0)
        >>> result.explanation, result.records()[0]["sensitivity"] < 0.1
        ('attention', True)
    """

    sensitivity: Tensor
    explanation: str
    radius: float
    n_samples: int
    seed: int

    _same: ClassVar[tuple[str, ...]] = (
        *("view", "output", "explanation", "radius", "n_samples", "seed"),
    )

    def summary(self) -> Summary:
        """Mean, spread, quartiles and undefined count of the sensitivity."""
        return summarize(
            "max_sensitivity",
            "largest relative change",
            self.sensitivity,
            predicted=self.predicted,
            max_attention=self.max_attention,
        )
