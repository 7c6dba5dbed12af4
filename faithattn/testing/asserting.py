"""Assertions on the mean of a metric, by its confidence bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from faithattn.adapters.view import AttentionView
from faithattn.audits.headlines import headlines_of
from faithattn.metrics.scores.question import Score
from faithattn.testing.finding import Finding, judge
from faithattn.testing.gathering import gather, only, planned
from faithattn.testing.limits import Limits


def assert_metric(
    metric: str | Score,
    model: object,
    batches: Iterable[Any],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 0.95,
    undecided: str = "fail",
    max_undefined: float = 0.5,
    seed: int = 0,
    view: AttentionView | None = None,
    prepare: Callable[[Any], Any] | None = None,
    **options: Any,
) -> Finding:
    """Requires the mean of a metric to keep to a limit, sampling error included.

    Not the mean but its one-sided confidence bound is held against the limit,
    so that a lucky sample does not pass. Two failures are told apart: a mean
    that is clearly beyond the limit, and a sample too small to tell, which
    says about how many instances would do.

    Args:
        metric: Name of a metric, or a :class:`~faithattn.Score`.
        model: An :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
        batches: Inputs, or :class:`~faithattn.audits.batch.Batch` objects, whose
            ``clusters`` are drawn as a whole and whose ``tokens`` are shown.
        at_least: The lower bound must not be below this.
        at_most: The upper bound must not be above this.
        confidence: Of the one-sided bound.
        undecided: What to do where the sample is too small to tell: ``"fail"``,
            ``"skip"`` (raises ``unittest.SkipTest``) or ``"pass"``.
        max_undefined: Fails where a larger share of instances has no value.
        seed: Seed of whatever is drawn; the same seed gives the same outcome.
        view: Which attention is meant; not needed for one row.
        prepare: Turns what ``batches`` yields into inputs or a ``Batch``.
        options: Options of the metric's function, such as ``n_permutations``.

    Returns:
        The evidence, which prints itself.

    Raises:
        AssertionError: If the limit is not kept; the text is the evidence.
        ValueError: If an argument is out of range or there is no instance.
        TypeError: If an argument has the wrong type.

    Examples:
        >>> from faithattn import planted
        >>> case = planted.faithful(size=12)
        >>> found = assert_metric("permutation_test", case.model, [case.inputs], at_least=0.05)
        >>> found.outcome, found.evidence.overall.n
        ('passed', 12)
    """
    __tracebackhide__ = True
    return examine(
        metric,
        model,
        batches,
        at_least=at_least,
        at_most=at_most,
        confidence=confidence,
        undecided=undecided,
        max_undefined=max_undefined,
        seed=seed,
        view=view,
        prepare=prepare,
        **options,
    ).settle()


def examine(
    metric: str | Score,
    model: object,
    batches: Iterable[Any],
    *,
    seed: int = 0,
    view: AttentionView | None = None,
    prepare: Callable[[Any], Any] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 0.95,
    undecided: str = "fail",
    max_undefined: float = 0.5,
    **options: Any,
) -> Finding:
    """What :func:`assert_metric` finds, whatever the outcome.

    Examples:
        >>> from faithattn import planted
        >>> case = planted.indifferent(size=12)
        >>> examine("permutation_test", case.model, [case.inputs], at_least=0.05).outcome
        'below'
    """
    asked = only(metric, options)
    (headline,) = headlines_of(planned(asked, view, seed))
    limits = Limits(at_least, at_most, confidence, undecided, max_undefined)
    limits.check(headline)
    return judge(gather(model, batches, asked, view=view, seed=seed, prepare=prepare), limits)


def assert_gradient_correlation(model: object, batches: Iterable[Any], **settings: Any) -> Finding:
    """Requires of Kendall's tau between attention and gradients what a limit says.

    Args:
        model: An :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
        batches: Inputs or ``Batch`` objects.
        settings: ``at_least`` or ``at_most`` within -1..1, everything else
            that :func:`assert_metric` takes, and options of
            :func:`~faithattn.gradient_correlation`.

    Returns:
        The evidence.

    Raises:
        AssertionError: If the limit is not kept; the text is the evidence.

    Examples:
        >>> from faithattn import planted
        >>> case = planted.faithful(size=12)
        >>> assert_gradient_correlation(case.model, [case.inputs], at_least=0.3).lower
        1.0
    """
    __tracebackhide__ = True
    return assert_metric("gradient_correlation", model, batches, **settings)


def assert_loo_correlation(model: object, batches: Iterable[Any], **settings: Any) -> Finding:
    """Requires of Kendall's tau between attention and leave-one-out what a limit says.

    Args:
        model: An :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
        batches: Inputs or ``Batch`` objects.
        settings: ``at_least`` or ``at_most`` within -1..1, everything else
            that :func:`assert_metric` takes, and options of
            :func:`~faithattn.loo_correlation`.

    Returns:
        The evidence.

    Raises:
        AssertionError: If the limit is not kept; the text is the evidence.

    Examples:
        >>> from faithattn import planted
        >>> case = planted.faithful(size=12)
        >>> found = assert_loo_correlation(
        ...     case.model, [case.inputs], at_least=0.3, removal="mask_attention"
        ... )
        >>> round(found.lower, 6)
        1.0
    """
    __tracebackhide__ = True
    return assert_metric("loo_correlation", model, batches, **settings)


def assert_permutation_effect(model: object, batches: Iterable[Any], **settings: Any) -> Finding:
    """Requires of the output's median change when attention is shuffled what a limit says.

    Args:
        model: An :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
        batches: Inputs or ``Batch`` objects.
        settings: ``at_least`` or ``at_most``, 0 or more (for classes at most 1
            means something), everything else that :func:`assert_metric` takes,
            and options of :func:`~faithattn.permutation_test`.

    Returns:
        The evidence.

    Raises:
        AssertionError: If the limit is not kept; the text is the evidence.

    Examples:
        >>> from faithattn import planted
        >>> case = planted.indifferent(size=12)
        >>> assert_permutation_effect(case.model, [case.inputs], at_most=0.01).outcome
        'passed'
    """
    __tracebackhide__ = True
    return assert_metric("permutation_test", model, batches, **settings)


def assert_adversarial_distance(model: object, batches: Iterable[Any], **settings: Any) -> Finding:
    """Requires of the divergence of the furthest attention with the same output what a limit says.

    Args:
        model: An :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
        batches: Inputs or ``Batch`` objects.
        settings: ``at_most`` or ``at_least`` within 0..ln 2, everything else
            that :func:`assert_metric` takes, and options of
            :func:`~faithattn.adversarial_attention`.

    Returns:
        The evidence.

    Raises:
        AssertionError: If the limit is not kept; the text is the evidence.

    Examples:
        >>> from faithattn import planted
        >>> case = planted.two_positions()
        >>> found = assert_adversarial_distance(
        ...     case.model, [case.inputs], at_most=0.01, undecided="pass"
        ... )
        >>> round(found.evidence.overall.mean, 6)
        8.4e-05
    """
    __tracebackhide__ = True
    return assert_metric("adversarial_attention", model, batches, **settings)


def assert_single_weight_erasure(model: object, batches: Iterable[Any], **settings: Any) -> Finding:
    """Requires of the top weight's effect on the output, less another's, what a limit says.

    Args:
        model: An :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
        batches: Inputs or ``Batch`` objects.
        settings: ``at_least`` or ``at_most``, everything else that
            :func:`assert_metric` takes, and options of
            :func:`~faithattn.single_weight_erasure`.

    Returns:
        The evidence.

    Raises:
        AssertionError: If the limit is not kept; the text is the evidence.

    Examples:
        >>> from faithattn import planted
        >>> case = planted.faithful(size=12)
        >>> assert_single_weight_erasure(case.model, [case.inputs], at_least=0).outcome
        'passed'
    """
    __tracebackhide__ = True
    return assert_metric("single_weight_erasure", model, batches, **settings)


def assert_erasure_to_flip(model: object, batches: Iterable[Any], **settings: Any) -> Finding:
    """Requires of the share of weights that go before the decision flips what a limit says.

    Args:
        model: An :class:`~faithattn.AttentionModel` or a plain ``nn.Module``.
        batches: Inputs or ``Batch`` objects.
        settings: ``at_most`` or ``at_least`` within 0..1, everything else that
            :func:`assert_metric` takes, and options of
            :func:`~faithattn.erasure_to_flip`, whose first order counts.

    Returns:
        The evidence.

    Raises:
        AssertionError: If the limit is not kept; the text is the evidence.

    Examples:
        >>> from faithattn import planted
        >>> case = planted.indifferent(size=12)
        >>> assert_erasure_to_flip(case.model, [case.inputs], at_least=0.9).evidence.overall.mean
        1.0
    """
    __tracebackhide__ = True
    return assert_metric("erasure_to_flip", model, batches, **settings)
