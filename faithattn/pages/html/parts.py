"""Every kind of part as HTML."""

from __future__ import annotations

from faithattn.pages.document import (
    Bullets,
    Callout,
    Chart,
    Code,
    Explorer,
    Facts,
    Paragraph,
    Part,
    Section,
    Table,
)
from faithattn.pages.escaping import html_text, slug
from faithattn.pages.html.explorer import explorer
from faithattn.pages.numbers import typeset

_SIGNS = {"supports": "✓", "contradicts": "✗", "cannot tell": "?"}


def anchors(parts: tuple[Part, ...], taken: set[str] | None = None) -> dict[int, str]:
    """A name for the place of every section, none twice, by the identity of the section.

    Args:
        parts: Parts of a document.
        taken: Names that are in use.
    """
    taken = {"content"} if taken is None else taken
    found = {}
    for part in parts:
        if isinstance(part, Section):
            name = base = slug(part.title)
            again = 2
            while name in taken:
                name, again = f"{base}-{again}", again + 1
            taken.add(name)
            found[id(part)] = name
            found |= anchors(part.parts, taken)
    return found


def render(part: Part, level: int, places: dict[int, str]) -> str:
    """One part.

    Args:
        part: What to show.
        level: Level of a heading there.
        places: Names of the sections.
    """
    if isinstance(part, Section):
        inner = "\n".join(render(each, level + 1, places) for each in part.parts)
        name = places[id(part)]
        heading = f"h{min(level, 6)}"
        return (
            f'<section aria-labelledby="{name}">\n'
            f'<{heading} id="{name}">{html_text(part.title)}</{heading}>\n{inner}\n</section>'
        )
    if isinstance(part, Callout):
        return _callout(part, min(level, 6))
    if isinstance(part, Chart):
        return _chart(part)
    if isinstance(part, Table):
        return folded(part) if part.folded else table(part)
    if isinstance(part, Explorer):
        return explorer(part)
    return _text(part)


def table(part: Table) -> str:
    """A table with its caption, in a box that scrolls where the page is narrow.

    Args:
        part: The table.
    """
    caption = html_text(part.caption)
    head = "".join(
        f'<th scope="col" class="{side}">{html_text(name)}</th>'
        if name
        else f'<td class="{side}"></td>'
        for name, side in zip(part.columns, part.aligned, strict=True)
    )
    body = "\n".join(
        f'<tr><th scope="row">{html_text(first)}</th>'
        + "".join(
            f'<td class="{side}">{_cell(cell, side)}</td>'
            for cell, side in zip(rest, part.aligned[1:], strict=True)
        )
        + "</tr>"
        for first, *rest in part.rows
    )
    return (
        f'<div class="scroll" role="group" aria-label="{caption}" tabindex="0">'
        f"<table><caption>{caption}</caption>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def folded(part: Table, said: str = "") -> str:
    """A table that opens when it is asked for.

    Args:
        part: The table.
        said: What to click; its caption if empty.
    """
    return (
        f'<details class="data"><summary>{html_text(said or part.caption)}</summary>'
        f"{table(part)}</details>"
    )


def _text(part: Paragraph | Bullets | Code | Facts) -> str:
    if isinstance(part, Paragraph):
        return f"<p>{html_text(part.text)}</p>"
    if isinstance(part, Bullets):
        items = "\n".join(f"<li>{html_text(each)}</li>" for each in part.items)
        return f'<ul class="plain">{items}</ul>'
    if isinstance(part, Code):
        lines = "\n".join(html_text(line) for line in part.text.splitlines())
        return f"<pre><code>{lines}</code></pre>"
    entries = "\n".join(
        f"<dt>{html_text(key)}</dt><dd>{html_text(value)}</dd>" for key, value in part.entries
    )
    return f'<dl class="facts">{entries}</dl>'


def _callout(part: Callout, level: int) -> str:
    """A conclusion with its word, its sign and its rule."""
    kind = part.kind.replace(" ", "-") if part.kind in _SIGNS else "note"
    title = html_text(part.title)
    if part.kind in _SIGNS:
        sign = f'<span aria-hidden="true">{_SIGNS[part.kind]}</span> '
        title += f': <span class="word">{sign}{html_text(part.kind)}</span>'
    rule = f'<p class="rule">{html_text(part.rule)}</p>' if part.rule else ""
    return (
        f'<div class="verdict {kind}"><h{level}>{title}</h{level}>'
        f"<p>{html_text(part.text)}</p>{rule}</div>"
    )


def _chart(part: Chart) -> str:
    """A figure: what it shows, the drawing, its numbers."""
    title = html_text(part.title)
    return (
        f'<figure id="figure-{slug(part.name)}"><figcaption><strong>{title}</strong> '
        f"{html_text(part.description)}</figcaption>"
        f'<div class="scroll" role="group" aria-label="{title}" tabindex="0">{part.svg}</div>'
        f"{folded(part.data, 'The numbers of this figure')}</figure>"
    )


def _cell(text: str, side: str) -> str:
    """A cell; numbers get the sign that is as wide as a plus."""
    return html_text(typeset(text) if side == "r" else text)
