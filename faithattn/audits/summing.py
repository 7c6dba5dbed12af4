"""From columns of numbers to evidence: statistics of each metric, its groups and controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faithattn.audits.evidence import Evidence
from faithattn.audits.headlines import Headline
from faithattn.audits.part import keyed
from faithattn.audits.shares import share_of
from faithattn.audits.verdicts.reach import reach
from faithattn.statistics import (
    ATTENTION_BINS,
    Statistics,
    benjamini_hochberg,
    describe,
    length_bins,
    mean_pvalue,
    minimum_detectable_effect,
    null_band,
)

Values = NDArray[np.float64]
_CONTROLS = ("random", "uniform")
_MOST_GROUPS = 20  # classes with a line of their own; more would be no table


@dataclass(frozen=True)
class Columns:
    """The columns of an audit by name.

    Attributes:
        names: Those there are.
        read: Reads one, ``(N,)``.
    """

    names: frozenset[str]
    read: Callable[[str], NDArray[Any]]

    def get(self, name: str) -> NDArray[Any] | None:
        """A column, None where there is none."""
        return self.read(name) if name in self.names else None

    def values(self, name: str) -> Values:
        """A column in double precision."""
        return np.asarray(self.read(name), dtype=np.float64)


def all_evidence(
    columns: Columns,
    headlines: Sequence[Headline],
    views: Sequence[str],
    failed: Mapping[str, int],
    settings: Mapping[str, Any],
    notes: Mapping[str, Sequence[str]],
) -> tuple[Evidence, ...]:
    """The evidence of every metric under every view, in order.

    Args:
        columns: What was measured.
        headlines: The metrics.
        views: Names of the views; one empty name where there is only one.
        failed: Instances of batches in which a metric failed, by key.
        settings: What was asked, as in the manifest.
        notes: What batches noted, as in the store.
    """
    found = []
    for headline in headlines:
        each = [_evidence(columns, headline, view) for view in views]
        found += [
            replace(
                one,
                failed=failed.get(keyed(one.metric, one.view), 0),
                settings=dict(_settings(one, settings, notes)),
            )
            for one in _adjusted(each)
        ]
    return tuple(found)


def _settings(
    evidence: Evidence, settings: Mapping[str, Any], notes: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Any]]:
    """How it was measured, as far as that decides what follows."""
    options = settings["metrics"].get(evidence.metric, {}).get("options", {})
    if "removal" in options:
        yield "removal", options["removal"]
    for output in notes.get(keyed("output", evidence.view), ()):
        yield "output", output


def _evidence(columns: Columns, headline: Headline, view: str) -> Evidence:
    """What one metric found under one view."""
    metric = headline.metric
    values = columns.values(keyed(f"{metric}.{headline.field}", view))
    clusters = _clusters(columns)
    pvalues = None
    if headline.pvalue:
        pvalues = columns.values(keyed(f"{metric}.{headline.pvalue}", view))
    controls = {
        name: _describe(columns.values(key), None, clusters, share=headline.share)
        for name in _CONTROLS
        if (key := keyed(f"{metric}.{name}", view)) in columns.names
    }
    return Evidence(
        metric=metric,
        view=view,
        quantity=headline.quantity,
        larger_is_faithful=headline.larger_is_faithful,
        overall=_describe(values, pvalues, clusters, share=headline.share),
        groups=dict(_groups(columns, view, values, pvalues, clusters, share=headline.share)),
        controls=controls,
        null=_null(columns, view, values) if headline.correlation else None,
        ceiling=_ceiling(columns, view, clusters) if headline.correlation else None,
        significant=None if pvalues is None else _significant(pvalues, values),
        detectable=minimum_detectable_effect(values, clusters=clusters),
        caution=headline.caution,
        clusters=None if clusters is None else _count(clusters[~np.isnan(values)]),
        further=_further(columns, metric, view, clusters),
        pvalue=mean_pvalue(values, 0.0, clusters=clusters) if headline.correlation else None,
    )


def _describe(
    values: Values,
    pvalues: Values | None,
    clusters: NDArray[np.int64] | None,
    *,
    share: bool,
) -> Statistics:
    """Statistics of one group."""
    summed = share_of if share else describe
    return summed(values, pvalues, clusters=clusters)


def _count(clusters: NDArray[np.int64]) -> int:
    """How many clusters there are; an instance without one is on its own."""
    return len(np.unique(clusters[clusters >= 0])) + int((clusters < 0).sum())


def _further(
    columns: Columns, metric: str, view: str, clusters: NDArray[np.int64] | None
) -> dict[str, Statistics]:
    """How far the adversary went, of the way that any attention can go."""
    if metric != "adversarial_attention":
        return {}
    names = (f"{metric}.{name}" for name in ("max_jsd", "upper_bound", "farthest"))
    measured = [columns.values(keyed(name, view)) for name in (*names, "length")]
    found = reach(*measured)
    return {
        "unhindered": _describe(found.unhindered, None, clusters, share=True),
        "bound": describe(found.bound, clusters=clusters),
    }


def _clusters(columns: Columns) -> NDArray[np.int64] | None:
    """What instances have in common, None where they have nothing."""
    clusters = columns.get("cluster")
    return None if clusters is None or (clusters < 0).all() else np.asarray(clusters)


def _groups(
    columns: Columns,
    view: str,
    values: Values,
    pvalues: Values | None,
    clusters: NDArray[np.int64] | None,
    *,
    share: bool,
) -> Iterator[tuple[str, dict[str, Statistics]]]:
    """Statistics by predicted class, label, length and largest attention."""
    for kind, members in _members(columns, view):
        if members:
            yield (
                kind,
                {
                    name: _describe(
                        values[chosen],
                        None if pvalues is None else pvalues[chosen],
                        None if clusters is None else clusters[chosen],
                        share=share,
                    )
                    for name, chosen in members
                },
            )


def _members(
    columns: Columns, view: str
) -> Iterator[tuple[str, list[tuple[str, NDArray[np.bool_]]]]]:
    """Kinds of groups, and who belongs to each."""
    for kind, name in (("predicted", keyed("predicted")), ("label", "label")):
        column = columns.get(name)
        if column is not None:
            classes = np.unique(column[column >= 0])
            if len(classes) <= _MOST_GROUPS:
                yield kind, [(str(each), np.asarray(column == each)) for each in classes]
    lengths = columns.get(keyed("length", view))
    if lengths is not None:
        known = np.where(np.asarray(lengths) < 0, np.nan, lengths)  # where a batch failed
        bins = length_bins(known)
        place = bins.place(known)
        yield "length", [(name, place == index) for index, name in enumerate(bins.labels)]
    highest = columns.get(keyed("max_attention", view))
    if highest is not None:
        place = np.clip(np.floor(np.nan_to_num(highest, nan=-1.0) * 4), -1, 3).astype(np.int64)
        named = ((name, place == index) for index, name in enumerate(ATTENTION_BINS))
        yield "max attention", [(name, chosen) for name, chosen in named if chosen.any()]


def _null(columns: Columns, view: str, values: Values) -> tuple[float, float] | None:
    """Where 95 % of the means of unrelated rankings of these lengths lie."""
    lengths = columns.get(keyed("length", view))
    return None if lengths is None else null_band(np.asarray(lengths)[~np.isnan(values)])


def _ceiling(columns: Columns, view: str, clusters: NDArray[np.int64] | None) -> Statistics | None:
    """How far the two importance scores agree."""
    key = keyed("gradient_loo.statistic", view)
    return describe(columns.values(key), clusters=clusters) if key in columns.names else None


def _significant(pvalues: Values, values: Values) -> int:
    """Instances that stay significant among all those tested."""
    return int(benjamini_hochberg(np.where(np.isnan(values), np.nan, pvalues))[0].sum())


def _adjusted(several: list[Evidence]) -> list[Evidence]:
    """The same with p-values adjusted for the number of views."""
    known = [each.pvalue for each in several if each.pvalue is not None]
    if len(known) < len(several):
        return several
    adjusted = benjamini_hochberg(np.array(known))[1]
    return [
        replace(each, adjusted=float(value)) for each, value in zip(several, adjusted, strict=True)
    ]
