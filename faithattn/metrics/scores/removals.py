"""What the output does when an explanation's first positions go, or alone stay."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.adapters.reading import explained_class
from faithattn.metrics.attribution.infidelity import infidelity
from faithattn.metrics.removal.bounds import normalized_aopc
from faithattn.metrics.removal.curves import FRACTIONS, curves_of
from faithattn.metrics.removal.soft import soft_removal
from faithattn.metrics.scores.question import Question
from faithattn.results.removal import SoftRemoval

_STEPS = 20  # points of an area, so that long texts cost no more than short ones


def comprehensiveness(question: Question) -> Tensor:
    """Mean fall of the probability without the first positions, ``(B,)``."""
    return _curves(question)["aopc_comprehensiveness"]


def sufficiency(question: Question) -> Tensor:
    """Mean fall of the probability with the first positions alone, ``(B,)``."""
    return _curves(question)["aopc_sufficiency"]


def log_odds(question: Question) -> Tensor:
    """Mean fall of the log-odds without the first positions, ``(B,)``."""
    return _curves(question)["log_odds"].mean(-1)


def deletion_area(question: Question) -> Tensor:
    """Area under the probability as the first positions go, ``(B,)``."""
    return _curves(question)["deletion_area"]


def insertion_area(question: Question) -> Tensor:
    """Area under the probability as the first positions come, ``(B,)``."""
    return _curves(question)["insertion_area"]


def scaled_comprehensiveness(question: Question) -> Tensor:
    """The fall between those of the worst and the best order, ``(B,)``."""
    return normalized_aopc(
        question.model,
        question.inputs,
        explanation=question.scores,
        removal=question.removal,
        target=question.target,
        view=question.view,
    ).comprehensiveness


def soft_comprehensiveness(question: Question) -> Tensor:
    """Fall when elements go the likelier the more important they are, ``(B,)``."""
    return _soft(question).comprehensiveness


def soft_sufficiency(question: Question) -> Tensor:
    """What is kept when elements stay the likelier the more important they are, ``(B,)``."""
    return _soft(question).sufficiency


def misfit(question: Question) -> Tensor:
    """Captum's infidelity, scores scaled to fit best, ``(B,)``."""
    return infidelity(
        question.model,
        question.inputs,
        explanation=question.scores,
        target=question.target,
        view=question.view,
        seed=question.seed,
        instances=question.instances,
    ).infidelity


def _curves(question: Question) -> dict[str, Tensor]:
    def compute() -> dict[str, Tensor]:
        classes = explained_class(question.reading, question.target)
        with torch.inference_mode(False), torch.no_grad():
            return curves_of(
                question.reading, question.scores, classes, question.removal, FRACTIONS, _STEPS
            )

    return question.own("curves", compute)


def _soft(question: Question) -> SoftRemoval:
    def compute() -> SoftRemoval:
        return soft_removal(
            question.model,
            question.inputs,
            explanation=question.scores,
            target=question.target,
            view=question.view,
            seed=question.seed,
            instances=question.instances,
        )

    return question.own("soft", compute)
