"""What is measured on every batch of an audit, checked before the first."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from faithattn.adapters.view import AttentionView, Choice, check_view
from faithattn.audits.measuring.asked import Asked, Metrics, asked_of
from faithattn.audits.measuring.described import described
from faithattn.audits.measuring.metrics import CEILING, FLOAT, INT, METRICS
from faithattn.audits.measuring.scores import SIGNED
from faithattn.audits.measuring.shared import Needs
from faithattn.audits.part import keyed
from faithattn.importance.leave_one_out import Removal, changes, check_removal

Views = Mapping[str, AttentionView | None]
GRADIENT, LOO = "gradient_correlation", "loo_correlation"

_POSITIONS = {
    GRADIENT: "gradient",
    LOO: "leave_one_out",
    "adversarial_attention": "adversary",
}
OF_INSTANCE = ("instance", "batch", "label", "cluster", "predicted")
OF_VIEW = (("length", INT), ("max_attention", FLOAT), ("mass", FLOAT))


@dataclass(frozen=True, eq=False)
class Plan:
    """What is measured on every batch.

    Attributes:
        asked: The metrics.
        views: Views by name; ``{"": None}`` where none was named.
        seed: Seed of whatever is drawn.
        removal: How positions are taken away where a metric says nothing else.
        controls: Whether random and uniform explanations are measured beside.
        keep_positions: Whether scores of positions are kept.

    Examples:
        >>> plan = Plan.of({"permutation_test": {"n_permutations": 500}}, controls=False)
        >>> [name for name, _ in plan.columns if name.startswith("permutation_test")][:2]
        ['permutation_test.median_tvd', 'permutation_test.pvalue']
        >>> plan.to_dict()["metrics"]
        {'permutation_test': {'options': {'n_permutations': 500}}}
        >>> Plan.of({"permutation_test": {"n_permutations": 0}})
        Traceback (most recent call last):
        ...
        ValueError: n_permutations must be at least 1; got 0. Pass 1 or more.
    """

    asked: tuple[Asked, ...]
    views: Views
    seed: int
    removal: Removal = "delete"
    controls: bool = True
    keep_positions: bool = True

    @classmethod
    def of(
        cls,
        metrics: Metrics = None,
        view: AttentionView | Views | None = None,
        seed: int = 0,
        *,
        removal: Removal = "delete",
        controls: bool = True,
        keep_positions: bool = True,
    ) -> Plan:
        """Checks everything that can be known before the model runs.

        Args:
            metrics: Names of tests and scores, :class:`Score` objects, or a
                mapping from names to options; None is the four tests.
            view: A view, None, or a mapping from names to views.
            seed: Any whole number.
            removal: How positions are taken away; ``loo_correlation`` may name
                another in its options.
            controls: Whether random and uniform explanations are measured beside.
            keep_positions: Whether scores of positions are kept.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If a name, an option or a number is none that can be.
        """
        check_removal(removal)
        return cls(
            asked_of(metrics, removal), _views(view), _seed(seed), removal, controls, keep_positions
        )

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Keys and kinds of the columns of every part, in order."""
        found = [(name, INT) for name in OF_INSTANCE]
        for view in self.views:
            own = [*OF_VIEW]
            for each in self.asked:
                own += [(f"{each.metric}.{field}", kind) for field, kind in each.fields]
                if self.controls:
                    own += [(f"{each.metric}.{control}", FLOAT) for control in each.controls]
            if self.has_ceiling:
                own += [(f"{CEILING}.{field}", FLOAT) for field in ("statistic", "pvalue")]
            found += [(self.key(name, view), kind) for name, kind in own]
        return tuple(found)

    @property
    def positions(self) -> tuple[str, ...]:
        """Keys of the scores of positions of every part."""
        if not self.keep_positions:
            return ()
        names = [_POSITIONS[each.metric] for each in self.asked if each.metric in _POSITIONS]
        return tuple(self.key(name, view) for view in self.views for name in ("attention", *names))

    @property
    def has_ceiling(self) -> bool:
        """Whether both importances are there to be compared with each other."""
        return {GRADIENT, LOO} <= {each.metric for each in self.asked}

    @property
    def needs(self) -> Needs:
        """What a batch will be asked for, so that its run can be prepared."""
        tests = {each.metric: each.options for each in self.asked if each.score is None}
        replays = sum(METRICS[name].replays(options) for name, options in tests.items())
        uniform = self.controls and any("uniform" in each.controls for each in self.asked)
        removals = [tests[LOO]["removal"]] if LOO in tests else []
        scores = {each.metric for each in self.asked if each.score is not None}
        removals += [self.removal] if scores else []
        return Needs(
            replay=replays + uniform,
            changes=any(changes(check_removal(each)) for each in removals),
            signed=bool(SIGNED & scores),
            plain=bool(scores) or set(tests) != {GRADIENT},
            detach=bool(tests.get(GRADIENT, {}).get("detach_attention", True)),
        )

    def key(self, name: str, view: str) -> str:
        """The key of a column or a metric under a view, which is named where there are several."""
        return keyed(name, view if len(self.views) > 1 else "")

    def to_dict(self) -> dict[str, Any]:
        """Everything that the numbers depend on besides model and data, ready for JSON."""
        return {
            "metrics": {each.metric: each.to_dict() for each in self.asked},
            "views": {name: _described_view(view) for name, view in self.views.items()},
            "seed": self.seed,
            "removal": described(self.removal),
            "controls": self.controls,
            "positions": self.keep_positions,
        }


def _seed(seed: object) -> int:
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed must be a whole number; got {seed!r}. Pass an int.")
    return operator.index(seed)


def _views(view: object) -> dict[str, AttentionView | None]:
    """Views by name."""
    if not isinstance(view, Mapping):
        views: dict[str, Any] = {"": view}
    elif view and all(isinstance(name, str) and name for name in view):
        views = dict(view)
    else:
        got = "none" if not view else repr(next(n for n in view if not (n and isinstance(n, str))))
        raise ValueError(
            f"view must map names to views, one at least; got {got}. Pass one view, or a mapping "
            "such as head_views gives."
        )
    for each in views.values():
        check_view(each)
        if each is not None and isinstance(each.query, Tensor):
            raise ValueError(
                "view must be one for every batch; got a tensor of query rows, "
                f"{tuple(each.query.shape)}. Use a number, 'last' or None for all."
            )
    return views


def _described_view(view: AttentionView | None) -> dict[str, Any] | None:
    """All of a view, whose own text leaves out sites where there are many."""
    if view is None:
        return None
    site = str(view.site) if isinstance(view.site, Choice) else view.site
    return {
        "site": described(site),
        "heads": described(view.heads),
        "query": described(view.query),
        "feature": view.feature,
    }
