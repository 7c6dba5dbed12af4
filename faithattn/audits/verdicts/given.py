"""Evidence from values at hand, without an audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from faithattn.audits.evidence import Evidence
from faithattn.audits.shares import share_of
from faithattn.audits.verdicts.reach import Values, reach
from faithattn.metrics.scores.table import SCORES
from faithattn.statistics import Statistics, describe

Numbers = Values | Tensor


def evidence_of_values(
    metric: str,
    values: Numbers,
    *,
    view: str = "",
    ceiling: Numbers | None = None,
    further: Mapping[str, Numbers] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Evidence:
    """Evidence for a verdict from one value an instance.

    Args:
        metric: The test; quantity, direction and caution are looked up.
        values: What it found, ``(N,)``; nan where undefined.
        view: Name of the view.
        ceiling: Agreement of the two importance scores with each other, ``(N,)``.
        further: Other quantities, ``(N,)`` each; see :class:`Evidence`.
        settings: How it was measured; see :class:`Evidence`.

    Returns:
        The evidence, without groups, controls and null band.

    Examples:
        >>> evidence = evidence_of_values("permutation_test", np.linspace(0.1, 0.2, 30))
        >>> evidence.quantity, round(evidence.overall.mean, 2)
        ('median TVD of shuffles', 0.15)
    """
    score = SCORES.get(metric)
    return Evidence(
        metric,
        view,
        score.title if score else metric,
        score.larger_is_faithful if score else True,
        _described(values),
        ceiling=None if ceiling is None else _described(ceiling),
        further={name: _described(each) for name, each in (further or {}).items()},
        caution=score.caution if score else "",
        settings=dict(settings or {}),
    )


def adversary_of_values(
    max_jsd: Numbers,
    upper_bound: Numbers,
    farthest: Values,
    length: Numbers,
    *,
    view: str = "",
    settings: Mapping[str, Any] | None = None,
) -> Evidence:
    """Evidence for a verdict from what :func:`faithattn.adversarial_attention` found.

    Args:
        max_jsd: The result's ``max_jsd``, ``(N,)``.
        upper_bound: Its ``upper_bound``, ``(N,)``.
        farthest: What :func:`faithattn.audits.verdicts.reach.farthest` gives, ``(N,)``.
        length: Real positions, ``(N,)``.
        view: Name of the view.
        settings: How it was measured; see :class:`Evidence`.

    Returns:
        The evidence, without groups, controls and null band.

    Examples:
        >>> far = np.full(30, 0.5)
        >>> adversary_of_values(far, far, far, np.full(30, 8)).further["unhindered"].mean
        1.0
    """
    found = _array(max_jsd)
    measured = reach(found, _array(upper_bound), farthest, _array(length))
    evidence = evidence_of_values("adversarial_attention", found, view=view, settings=settings)
    further = {
        "unhindered": share_of(measured.unhindered),
        "bound": _described(measured.bound),
    }
    return replace(evidence, further=further)


def _described(values: Numbers) -> Statistics:
    return describe(_array(values))


def _array(values: Numbers) -> Values:
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
