"""Single instances, word by word."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from faithattn.audits.evidence import Instance
from faithattn.audits.headlines import LN2
from faithattn.audits.pages.columns import column_of
from faithattn.audits.pages.reported import Reported
from faithattn.audits.part import keyed
from faithattn.pages.document import Explorer, Specimen, Track
from faithattn.pages.numbers import number
from faithattn.pages.specimens import strongest_positions

_MOST_TOKENS, _MOST_TRACKS, _MOST_VALUES = 100, 8, 6
_WEIGHTS = {"attention": "attention", "adversary": "other attention, same output"}
_SCORES = {"gradient": "gradient times input", "leave_one_out": "leave-one-out"}


def explorer(report: Reported, count: int) -> Explorer | None:
    """The most telling instances; None where none has scores for its words.

    Args:
        report: The audit.
        count: How many.
    """
    found = [each for each in report.instances(report.telling(count)) if each.scores]
    if not found:
        return None
    names = dict(_values(report))
    specimens = tuple(_specimen(each, names) for each in found)
    return Explorer("instances", "predicted class", specimens)


def _values(report: Reported) -> Iterator[tuple[str, str]]:
    """What instances can be sorted by: a name and its column."""
    for each in report.evidence[:_MOST_VALUES]:
        column = column_of(report, each)
        if column is not None:
            yield (f"{each.quantity} ({each.view})" if each.view else each.quantity), column
    views = dict.fromkeys(each.view for each in report.evidence[:1])
    for view in views:
        for name, column in (("largest weight", "max_attention"), ("length", "length")):
            if keyed(column, view) in report.columns:
                yield name, keyed(column, view)


def _specimen(instance: Instance, names: Mapping[str, str]) -> Specimen:
    """One instance, cut around its strongest words where it is long."""
    tracks = _tracks(instance)
    kept = _kept(tracks, len(instance.tokens))
    shown = tuple(
        Track(each.name, tuple(each.values[place] for place in kept), each.strongest, each.kind)
        for each in tracks
    )
    values = {name: _value(instance.values.get(column)) for name, column in names.items()}
    predicted, label = _class(instance, "predicted"), _class(instance, "label")
    title = f"#{instance.number}"
    title += "" if predicted is None else f", predicted {predicted}"
    title += "" if label is None else f", labelled {label}"
    return Specimen(
        title,
        "none" if predicted is None else f"{predicted}",
        tuple(instance.tokens[place] for place in kept),
        shown,
        values,
        _text(instance, len(kept)),
        tuple(kept),
    )


def _tracks(instance: Instance) -> list[Track]:
    """The scores of an instance, those of attention on one scale."""
    found = []
    for key, values in list(instance.scores.items())[:_MOST_TRACKS]:
        base, _, view = key.partition("@")
        names = _WEIGHTS if base in _WEIGHTS else _SCORES
        name = names.get(base, base.replace("_", " ")) + (f" ({view})" if view else "")
        alike = [keyed(each, view) for each in _WEIGHTS] if base in _WEIGHTS else [key]
        rows = [instance.scores[each] for each in alike if each in instance.scores]
        strongest = max(
            (abs(value) for row in rows for value in row if not math.isnan(value)), default=0.0
        )
        kind = "weights" if base in _WEIGHTS else "scores"
        found.append(Track(name, tuple(map(float, values)), float(strongest), kind))
    return found


def _kept(tracks: Sequence[Track], count: int) -> list[int]:
    """Positions to show: those that are strong in any of the tracks."""
    weights = [0.0] * count
    for track in tracks:
        for place, value in enumerate(track.values):
            if track.strongest > 0 and not math.isnan(value):
                weights[place] = max(weights[place], abs(value) / track.strongest)
    return strongest_positions(weights, _MOST_TOKENS)


def _text(instance: Instance, shown: int) -> str:
    """What the colours do not say."""
    said = []
    if shown < len(instance.tokens):
        said.append(f"{shown} of its {len(instance.tokens)} words are shown.")
    divergence = _number(instance.values.get("adversarial_attention.max_jsd"))
    if divergence > 0:
        bound = instance.values.get("adversarial_attention.certified")
        proven = ", proven to be the largest" if bound else ""
        said.append(
            f"The other attention keeps the output; its divergence is {number(divergence, 2)} of "
            f"at most {LN2:.2f}{proven}."
        )
    elif divergence == 0:
        said.append("No other attention that keeps the output was found.")
    return " ".join(said)


def _class(instance: Instance, name: str) -> int | None:
    """A class, None where there is none."""
    value = instance.values.get(name)
    return None if value is None or value < 0 else int(value)


def _value(value: float | int | bool | None) -> float | int:
    """To sort by; whole numbers stay whole."""
    return math.nan if value is None else value


def _number(value: float | int | bool | None) -> float:
    return math.nan if value is None else float(value)
