"""Metrics as they are asked for: by name, as a score, with options."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from faithattn.metrics.adversarial.attention import adversarial_attention
from faithattn.metrics.correlation import gradient_correlation, loo_correlation
from faithattn.metrics.erasure.flip import erasure_to_flip
from faithattn.metrics.erasure.single import single_weight_erasure
from faithattn.metrics.permutation import permutation_test
from faithattn.metrics.scores.question import Score
from faithattn.metrics.scores.table import SCORES

_GIVEN = ("model", "inputs", "view", "target", "seed", "instances")  # by the caller or the batch


@dataclass(frozen=True)
class Asked:
    """One metric with its options.

    Attributes:
        name: What it is called.
        quantity: What its number is, in a few words.
        larger_is_faithful: Which way it points.
        options: Options of its function.
        range: The smallest and the largest number that it can be.
        function: The function of a test; None for a score.
        attribute: Where a test's result holds the number.
        score: A score; None for a test.
    """

    name: str
    quantity: str
    larger_is_faithful: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    range: tuple[float, float] = (-math.inf, math.inf)
    function: Callable[..., Any] | None = None
    attribute: str = "value"
    score: Score | None = None

    @property
    def column(self) -> str:
        """Its column in an audit."""
        return f"{self.name}.{self.attribute}"


def _test(
    function: Callable[..., Any], quantity: str, attribute: str, up: bool, *ends: float
) -> Asked:
    low, high = ends
    return Asked(function.__name__, quantity, up, {}, (low, high), function, attribute)


_INF, _LN2 = math.inf, math.log(2)
TESTS = {
    asked.name: asked
    for asked in (
        _test(gradient_correlation, "tau with gradients", "statistic", True, -1, 1),
        _test(loo_correlation, "tau with leave-one-out", "statistic", True, -1, 1),
        _test(permutation_test, "median TVD", "median_tvd", True, 0, _INF),
        _test(adversarial_attention, "eps-max JSD", "max_jsd", False, 0, _LN2),
        _test(single_weight_erasure, "Delta JS, top - other", "delta_change", True, -_INF, _INF),
        _test(erasure_to_flip, "share of weights to the flip", "censored", False, 0, 1),
    )
}


def ask(metric: str | Score, options: Mapping[str, Any] | None = None) -> Asked:
    """A metric by name or as a score, its options checked.

    Raises:
        TypeError: If it is neither.
        ValueError: If the name or an option is unknown.
    """
    options = dict(options or {})
    if isinstance(metric, str) and metric in TESTS:
        return _with_options(TESTS[metric], options)
    score = SCORES.get(metric) if isinstance(metric, str) else metric
    if isinstance(metric, str) and score is None:
        known = ", ".join(dict.fromkeys([*TESTS, *SCORES]))
        raise ValueError(
            f"metric must be one of {known}, or a Score; got {metric!r}. Check the spelling."
        )
    if not isinstance(score, Score):
        raise TypeError(
            f"metric must be a name or a Score; got {type(metric).__name__}. "
            "Wrap a function as Score(name, title, larger_is_faithful, compute=function)."
        )
    if options:
        raise ValueError(
            f"{score.name} must be given no options; got {next(iter(options))!r}. Drop it, or "
            "pass a Score of your own."
        )
    return Asked(score.name, score.title, score.larger_is_faithful, score=score)


def ask_all(
    metrics: Sequence[str | Score] | Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, Asked]:
    """Several metrics by name; None is the four published tests.

    Raises:
        TypeError: If it is one name rather than several.
        ValueError: If there are none, a name is unknown or is there twice.
    """
    if metrics is None:
        metrics = list(TESTS)[:4]
    if isinstance(metrics, str | Score) or not isinstance(metrics, Sequence | Mapping):
        raise TypeError(
            f"metrics must be several names or a mapping; got {metrics!r}. "
            "Pass ['gradient_correlation']."
        )
    options = metrics if isinstance(metrics, Mapping) else {}
    asked: dict[str, Asked] = {}
    for metric in metrics:
        one = ask(metric, options.get(metric) if isinstance(metric, str) else None)
        if one.name in asked:
            raise ValueError(f"metrics must be named once each; got {one.name!r} twice. Drop one.")
        asked[one.name] = one
    if not asked:
        raise ValueError("metrics must name at least one; got none. Leave it out for the four.")
    return asked


def _with_options(asked: Asked, options: dict[str, Any]) -> Asked:
    if asked.function is None or not options:
        return asked
    known = [each for each in inspect.signature(asked.function).parameters if each not in _GIVEN]
    unknown = [each for each in options if each not in known]
    if unknown:
        raise ValueError(
            f"options of {asked.name} must be among {', '.join(known)}; got {unknown[0]!r}. "
            "Check the spelling."
        )
    return replace(asked, options=options)
