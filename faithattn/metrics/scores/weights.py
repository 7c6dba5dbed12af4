"""What the output does when attention itself is changed."""

from __future__ import annotations

from torch import Tensor

from faithattn.metrics.adversarial.attention import adversarial_attention
from faithattn.metrics.erasure.flip import erasure_to_flip
from faithattn.metrics.erasure.single import single_weight_erasure
from faithattn.metrics.permutation import permutation_test
from faithattn.metrics.scores.question import Question


def median_change(question: Question) -> Tensor:
    """Median output change of shuffled attention, ``(B,)``."""
    return permutation_test(
        question.model,
        question.inputs,
        seed=question.seed,
        instances=question.instances,
        view=question.view,
    ).median_tvd


def farthest(question: Question) -> Tensor:
    """Largest divergence of attention at almost the same output, ``(B,)``."""
    return adversarial_attention(
        question.model,
        question.inputs,
        n_adversaries=1,
        seed=question.seed,
        instances=question.instances,
        view=question.view,
    ).max_jsd


def top_weight(question: Question) -> Tensor:
    """Output change without the top weight less the mean without another, ``(B,)``."""
    return single_weight_erasure(
        question.model,
        question.inputs,
        view=question.view,
        seed=question.seed,
        instances=question.instances,
        n_random=None,
    ).delta_change


def until_flip(question: Question) -> Tensor:
    """Share of the weights that go, in the order of the scores, until the decision flips."""
    return erasure_to_flip(
        question.model,
        question.inputs,
        orders={"explanation": question.scores},
        view=question.view,
        seed=question.seed,
        instances=question.instances,
    ).censored[:, 0]
