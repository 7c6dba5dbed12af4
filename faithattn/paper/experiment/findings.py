"""What the experiments with log-odds and with the first words of each ranking return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from faithattn.results.substitution import SubstitutionResult


class Replacement(NamedTuple):
    """What happens to the prediction when the words ranked first are replaced.

    Every order replaces by the same words of another class, drawn from those
    with the highest log-odds for it, so that orders differ in the places only.

    Attributes:
        counts: K numbers of words replaced, ascending.
        change: By order (``"attention"``, ``"gradient"``, ``"leave_one_out"``,
            ``"random"``), fall of the predicted class's probability, ``(N, K)``
            in -1..1; nan where a text has fewer words.
        flipped: By order, 1 where the predicted class changed, 0 where not,
            ``(N, K)``; nan likewise.
    """

    counts: tuple[int, ...]
    change: Mapping[str, Tensor]
    flipped: Mapping[str, Tensor]


class LogOddsFindings(NamedTuple):
    """What the log-odds of a bag-of-words logistic regression say of a model.

    Attributes:
        accuracy: Share of the test split that the regression itself gets right;
            of several labels, the share of all labels.
        substitution: Attention by log-odds in the place of the model's.
        words: On how many words attention by log-odds lies, ``(N,)``: even
            attention to so many has the same entropy. Over thousands of words
            it is nearly even, and then says little of single ones.
        own_words: The same of the model's attention, ``(N,)``.
        replacement: The first words replaced by words of another class; None
            where there are no classes to exchange, such as several labels.
    """

    accuracy: float
    substitution: SubstitutionResult
    words: Tensor
    own_words: Tensor
    replacement: Replacement | None


class TopK(NamedTuple):
    """Distance of the first k positions of two rankings of each text.

    Attributes:
        k: Length of the lists.
        pair: ``"attention_gradient"``, ``"attention_loo"`` or ``"gradient_loo"``.
        distance: Kendall distance of the lists, ``(N,)`` in 0..1; nan with
            fewer than two positions or where a score is constant.
        chance: Its exact expectation where one of the rankings is drawn at
            random, ``(N,)``; nan likewise.
        positions: How many positions a text has, ``(N,)`` int64. Texts with no
            more than k are compared over all of them.
        tied: Whether a tie in either ranking goes beyond the first k, ``(N,)``
            bool, so that its earlier words are taken; False where there is no
            distance. Where words that say nothing are tied, so are they: the
            lists then agree by their places alone.
    """

    k: int
    pair: str
    distance: Tensor
    chance: Tensor
    positions: Tensor
    tied: Tensor
