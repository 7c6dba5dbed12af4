"""Instances one by one: texts coloured by their scores, and the numbers behind the colours.

Without a script every instance can be opened and read; the script sorts and chooses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from faithattn.pages.document import Explorer, Specimen, Track
from faithattn.pages.escaping import html_text, plain, slug
from faithattn.pages.numbers import number, typeset
from faithattn.pages.specimens import shown_token
from faithattn.pages.style import STEPS

_OPEN = 2  # instances that are open from the start


def explorer(part: Explorer) -> str:
    """All instances, with what chooses among them.

    Args:
        part: The explorer.
    """
    groups = list(dict.fromkeys(each.group for each in part.specimens))
    name = f"explorer-{slug(part.name)}"
    keys = list(part.specimens[0].values) if part.specimens else []
    items = "\n".join(
        _instance(each, groups.index(each.group), keys, place < _OPEN)
        for place, each in enumerate(part.specimens)
    )
    return (
        f'<div class="explorer" id="{name}">\n{_controls(part, groups, keys)}\n'
        f'<div class="instances">\n{items}\n</div></div>'
    )


def _controls(part: Explorer, groups: list[str], keys: list[str]) -> str:
    """Choices, hidden until the script works."""
    chosen = _options(["all", *groups])
    sorted_by = _options(["as chosen", *keys])
    return (
        f'<div class="controls" role="group" aria-label="Choose instances" hidden>'
        f"<label>{html_text(part.grouped_by)} <select>{chosen}</select></label>"
        f"<label>sorted by <select>{sorted_by}</select></label>"
        f"<label>order <select>{_options(['largest first', 'smallest first'])}</select></label>"
        '<button type="button" data-open="yes">open all</button>'
        '<button type="button" data-open="no">close all</button>'
        '<output aria-live="polite"></output></div>'
    )


def _options(names: list[str]) -> str:
    return "".join(f"<option>{html_text(name, 60)}</option>" for name in names)


def _instance(specimen: Specimen, group: int, keys: list[str], opened: bool) -> str:
    """One instance, folded but for its title and numbers."""
    numbers = (specimen.values.get(key, math.nan) for key in keys)
    values = " ".join("-" if math.isnan(each) else f"{each:.6g}" for each in numbers)
    told = [f"{html_text(key)} {typeset(number(specimen.values.get(key)))}" for key in keys]
    # The dot stays with what is before it, so that no line begins with one.
    said = " ".join(f"<span>{each}{' ·' if each != told[-1] else ''}</span>" for each in told)
    tracks = "\n".join(_track(specimen, each) for each in specimen.tracks)
    text = f"<p>{html_text(specimen.text)}</p>" if specimen.text else ""
    return (
        f'<details class="instance" data-group="{group}" data-values="{values}"'
        f"{' open' if opened else ''}>"
        f"<summary><strong>{html_text(specimen.title)}</strong> "
        f'<span class="values">{said}</span></summary>\n{text}{tracks}\n'
        f'<p class="readout" aria-live="polite"></p>{_numbers(specimen)}</details>'
    )


def _track(specimen: Specimen, track: Track) -> str:
    """The text, coloured by one row of numbers."""
    words = " ".join(_words(specimen, track))
    name = html_text(track.name, 60)
    darkest = f"full colour: {number(track.strongest)}" if track.strongest > 0 else "all 0"
    return (
        f'<div class="track"><div class="track-name">{name}<br>{darkest}</div>'
        f'<p class="words" dir="auto" data-name="{name}">{words}</p></div>'
    )


def _words(specimen: Specimen, track: Track) -> Iterator[str]:
    """Each word on its colour, and an ellipsis where words are left out."""
    before = -1
    for token, value, place in zip(specimen.tokens, track.values, specimen.places, strict=True):
        if place != before + 1:
            yield "<span>…</span>"
        before = place
        shown = shown_token(token)
        title = html_text(f"{place + 1}. {plain(token, 120)}: {number(value)}")
        yield f'<span class="{_colour(value, track)}" title="{title}">{html_text(shown)}</span>'


def _colour(value: float, track: Track) -> str:
    """Class of a word: the kind of number, how strong, and whether negative."""
    if math.isnan(value) or track.strongest <= 0:
        return f"{track.kind[0]}0"
    step = min(STEPS, round(STEPS * abs(value) / track.strongest))
    return f"{track.kind[0]}{step}" + (" minus" if value < 0 and step else "")


def _numbers(specimen: Specimen) -> str:
    """All numbers as a table, for those who do not see colours."""
    head = "".join(f'<th scope="col" class="r">{html_text(t.name)}</th>' for t in specimen.tracks)
    rows = "\n".join(
        f'<tr><td class="r">{place + 1}</td><th scope="row">{html_text(shown_token(token))}</th>'
        + "".join(f'<td class="r">{number(t.values[each])}</td>' for t in specimen.tracks)
        + "</tr>"
        for each, (token, place) in enumerate(zip(specimen.tokens, specimen.places, strict=True))
    )
    caption = html_text(f"Numbers of {specimen.title}", 120)
    return (
        '<details class="data"><summary>The numbers</summary>'
        f'<div class="scroll" role="group" aria-label="{caption}" tabindex="0">'
        f"<table><caption>{caption}</caption><thead><tr>"
        f'<th scope="col" class="r">place</th><th scope="col">token</th>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div></details>"
    )
