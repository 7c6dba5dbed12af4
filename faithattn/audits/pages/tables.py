"""Verdicts, evidence and failures as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from faithattn.audits.evidence import CANNOT_TELL, CONTRADICTS, SUPPORTS, Evidence, Failure, Verdict
from faithattn.audits.headlines import title_of
from faithattn.pages.document import Bullets, Callout, Paragraph, Part, Table
from faithattn.pages.numbers import UNDEFINED, count, digits_of, interval, number

FEW = 6  # metrics, or metrics under views, that can each have a figure or a column of their own
_ROWS = 50

_Cell = Callable[[Evidence], str]


def name_of(metric: str, view: str, quantity: str = "") -> str:
    """A metric under a view, as a reader knows it.

    Args:
        metric: Its name.
        view: Name of the view; empty where there is only one.
        quantity: What its numbers are.

    Examples:
        >>> name_of("permutation_test", "layer 2")
        'Attention shuffled (layer 2)'
    """
    title = title_of(metric, quantity)
    return f"{title} ({view})" if view else title


def verdict_parts(verdicts: Sequence[Verdict]) -> Iterator[Part]:
    """Each verdict with its rule; those of many views as counts and a table.

    Args:
        verdicts: What was concluded.
    """
    if not verdicts:
        yield Paragraph("None of the metrics decides anything by itself.")
    elif len(verdicts) <= 2 * FEW:
        for each in verdicts:
            title = name_of(each.metric, each.view)
            yield Callout(each.conclusion, title, each.because, each.rule)
    else:
        yield from _many_verdicts(verdicts)


def _many_verdicts(verdicts: Sequence[Verdict]) -> Iterator[Part]:
    """How many views each test supports, by which rule, and all of them."""
    kinds = (SUPPORTS, CONTRADICTS, CANNOT_TELL)
    metrics = list(dict.fromkeys(each.metric for each in verdicts))
    counts = Counter((each.metric, each.conclusion) for each in verdicts)
    rows = tuple(
        (title_of(metric), *(count(counts[metric, kind]) for kind in kinds)) for metric in metrics
    )
    yield Table("Verdicts by test, number of views", ("test", *kinds), rows)
    rules = dict.fromkeys((title_of(each.metric), each.rule) for each in verdicts)
    yield Bullets(tuple(f"{title}: {rule}" for title, rule in rules))
    cells = tuple(
        (title_of(each.metric), each.view, each.conclusion, each.because) for each in verdicts
    )
    columns = ("test", "attention", "verdict", "because")
    yield Table("All verdicts", columns, cells, "llll", folded=True)


def evidence_tables(evidence: Sequence[Evidence]) -> Iterator[Part]:
    """The numbers of every metric: side by side where they are few, else one a line.

    Several views have a table for each metric, a view a line.

    Args:
        evidence: What was measured.
    """
    if not evidence:
        yield Paragraph("Nothing was measured.")
        return
    if len({each.view for each in evidence}) > 1:
        yield from _by_view(evidence)
        return
    lines = {name: [cell(each) for each in evidence] for name, cell in _LINES.items()}
    shown = {name: cells for name, cells in lines.items() if set(cells) != {UNDEFINED}}
    names = [name_of(each.metric, each.view, each.quantity) for each in evidence]
    if len(evidence) <= FEW:
        rows = tuple((name, *cells) for name, cells in shown.items())
        yield Table("What was found", ("", *names), rows)
    else:
        columns = tuple(shown)
        rows = tuple(zip(names, *shown.values(), strict=True))
        yield Table("What was found", ("", *columns), rows, folded=len(evidence) > _ROWS)


def _by_view(evidence: Sequence[Evidence]) -> Iterator[Part]:
    """A table for each metric, whose lines are views."""
    for metric in dict.fromkeys(each.metric for each in evidence):
        members = [each for each in evidence if each.metric == metric]
        lines = {name: [cell(each) for each in members] for name, cell in _OF_VIEWS.items()}
        shown = {name: cells for name, cells in lines.items() if not set(cells) <= {UNDEFINED, "0"}}
        rows = tuple(zip([each.view for each in members], *shown.values(), strict=True))
        quantity = members[0].quantity
        title = f"{title_of(metric, quantity)}: {quantity}, {count(members[0].overall.n)} instances"
        yield Table(title, ("attention", *shown), rows, folded=len(members) > _ROWS)


def cautions(evidence: Sequence[Evidence]) -> Iterator[Part]:
    """Where calibration found metrics wanting, each caution once.

    Args:
        evidence: What was measured.
    """
    found: dict[str, list[str]] = {}
    for each in evidence:
        if each.caution:
            names = found.setdefault(each.caution, [])
            title = title_of(each.metric, each.quantity)
            names += [] if title in names else [title]
    if found:
        said = (f"{', '.join(names)}: {caution}" for caution, names in found.items())
        yield Paragraph("To be read with care, by what calibration on planted models found:")
        yield Bullets(tuple(said))


def failure_table(failures: Sequence[Failure]) -> Table:
    """The first failures, one a line.

    Args:
        failures: All of them.
    """
    rows = [
        (
            f"{each.batch}",
            f"{each.instances[0]} to {each.instances[1]}",
            each.metric or "the whole batch",
            each.reason,
        )
        for each in failures[:_ROWS]
    ]
    if len(failures) > _ROWS:
        rows.append(("…", "", "", f"and {len(failures) - _ROWS:,} more, in report.json"))
    return Table("Failures", ("batch", "instances", "metric", "reason"), tuple(rows), "llll")


def _digits(each: Evidence) -> int:
    """Digits that tell the ends of the interval apart, for all numbers of its unit."""
    return digits_of(each.overall.low, each.overall.high)


def _control(name: str) -> _Cell:
    return lambda each: (
        number(each.controls[name].mean, _digits(each)) if name in each.controls else UNDEFINED
    )


def _ceiling(each: Evidence) -> str:
    found = each.ceiling
    return (
        UNDEFINED
        if found is None
        else f"{number(found.mean)} ({interval(found.low, found.high, 2)})"
    )


_LINES: dict[str, _Cell] = {
    "quantity": lambda each: each.quantity,
    "faithful is": lambda each: "larger" if each.larger_is_faithful else "smaller",
    "instances": lambda each: count(each.overall.n),
    "undefined": lambda each: count(each.overall.undefined),
    "failed": lambda each: count(each.failed),
    "mean": lambda each: number(each.overall.mean, _digits(each)),
    "95 % interval": lambda each: interval(each.overall.low, each.overall.high, _digits(each)),
    "median": lambda each: number(each.overall.median, _digits(each)),
    "middle half": lambda each: interval(each.overall.q25, each.overall.q75, _digits(each)),
    "unrelated (95 %)": lambda each: UNDEFINED if each.null is None else interval(*each.null),
    "noise ceiling": _ceiling,
    "random explanation": _control("random"),
    "uniform attention": _control("uniform"),
    "significant": lambda each: count(each.significant),
    "detectable": lambda each: number(each.detectable, _digits(each)),
}
# What of it fits a line.
_OF_VIEWS: dict[str, _Cell] = {
    **{
        name: _LINES[name]
        for name in (
            *("mean", "95 % interval", "median", "undefined", "failed"),
            *("random explanation", "uniform attention", "significant"),
        )
    },
    "p, corrected": lambda each: UNDEFINED if each.adjusted is None else number(each.adjusted),
}
