"""Two audits beside each other: has faithfulness changed?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from faithattn.audits.part import keyed
from faithattn.errors import AuditError
from faithattn.statistics import Difference, benjamini_hochberg, compare_means, none_if_nan

if TYPE_CHECKING:
    from faithattn.audits.report import Report


@dataclass(frozen=True)
class Change:
    """How one metric differs between two audits.

    Attributes:
        metric: The metric.
        view: Name of the view; empty where there is only one.
        quantity: What the numbers are.
        larger_is_faithful: Which way they point.
        difference: Second less first: mean with its 95 % interval, effect sizes.
        adjusted: Its p-value after Benjamini and Hochberg's correction over all lines.
    """

    metric: str
    view: str
    quantity: str
    larger_is_faithful: bool
    difference: Difference
    adjusted: float

    @property
    def direction(self) -> str:
        """``"more faithful"``, ``"less faithful"``, or ``"no difference shown"``."""
        low, high = self.difference.low, self.difference.high
        if np.isnan(low) or low <= 0 <= high:
            return "no difference shown"
        return "more faithful" if (low > 0) == self.larger_is_faithful else "less faithful"


@dataclass(frozen=True)
class Changes:
    """Two audits compared, metric by metric.

    Attributes:
        changes: One line a metric and view that both have.
        paired: Whether the same instances were audited, so that each is
            compared with itself.
        left_out: Metrics that only one of them has.

    Examples:
        >>> import torch
        >>> from faithattn import audit
        >>> from faithattn.paper.models import TextClassifier
        >>> batches = [torch.tensor([[2, 5, 6, 7, 3], [2, 4, 8, 3, 0]])]
        >>> first, second = (audit(TextClassifier(9), batches) for _ in range(2))
        >>> found = first.compare(second)
        >>> found.paired, found.changes[0].metric
        (True, 'gradient_correlation')
    """

    changes: tuple[Change, ...]
    paired: bool
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined numbers become None."""
        return {
            "paired": self.paired,
            "left_out": list(self.left_out),
            "changes": [
                {
                    "metric": each.metric,
                    "view": each.view,
                    "quantity": each.quantity,
                    "larger_is_faithful": each.larger_is_faithful,
                    "direction": each.direction,
                    "adjusted": none_if_nan(each.adjusted),
                    **{
                        key: none_if_nan(value) if isinstance(value, float) else value
                        for key, value in asdict(each.difference).items()
                    },
                }
                for each in self.changes
            ],
        }

    def __str__(self) -> str:
        how = "each instance with itself" if self.paired else "other instances: unpaired"
        lines = [
            f"Second less first ({how}), 95 % intervals",
            f"{'metric':<36}{'difference':>11}{'interval':>20}{'effect':>8}{'adj. p':>8}"
            f"{'n':>7}  direction",
        ]
        for each in self.changes:
            found = each.difference
            name = keyed(each.metric, each.view)
            interval = f"{found.low:.3f}..{found.high:.3f}"
            lines.append(
                f"{name:<36}{found.mean:>11.3f}{interval:>20}{found.effect:>8.2f}"
                f"{each.adjusted:>8.3f}{found.n:>7}  {each.direction}"
            )
        if self.left_out:
            lines.append(f"Only in one of them: {', '.join(self.left_out)}.")
        return "\n".join(lines)


def compare_reports(first: Report, second: Report) -> Changes:
    """Compares two audits; see :meth:`Report.compare`."""
    mine, theirs = _by_key(first), _by_key(second)
    common = [key for key in mine if key in theirs]
    if not common:
        raise AuditError(
            "reports must have a metric in common; got "
            f"{', '.join(mine)} and {', '.join(theirs)}. Audit both with one metric."
        )
    paired = _same_instances(first, second)
    clusters = first.clusters if paired else _clusters_of_both(second, first)
    differences = {
        key: compare_means(
            _values(second, key), _values(first, key), paired=paired, clusters=clusters
        )
        for key in common
    }
    adjusted = benjamini_hochberg(np.array([each.pvalue for each in differences.values()]))[1]
    changes = [
        Change(
            mine[key].metric,
            mine[key].view,
            mine[key].quantity,
            mine[key].larger_is_faithful,
            difference,
            float(value),
        )
        for (key, difference), value in zip(differences.items(), adjusted, strict=True)
    ]
    left_out = [key for key in {**mine, **theirs} if key not in common]
    return Changes(tuple(changes), paired, tuple(left_out))


def _same_instances(first: Report, second: Report) -> bool:
    """Whether both have the same instances of the same data, one beside the other.

    Shards have seen the same data, and yet hold others of its instances.
    """
    known = first.data_digest != "" and first.data_digest == second.data_digest
    return known and np.array_equal(first.column("instance"), second.column("instance"))


def _clusters_of_both(a: Report, b: Report) -> tuple[Any, Any] | None:
    """The clusters of two sets of instances; None where neither has any."""
    found = a.clusters, b.clusters
    return None if all(each is None for each in found) else found


def _by_key(report: Report) -> Mapping[str, Any]:
    return {keyed(each.metric, each.view): each for each in report.evidence}


def _values(report: Report, key: str) -> Any:
    metric, _, view = key.partition("@")
    return np.asarray(report.headline_values(metric, view), dtype=np.float64)
