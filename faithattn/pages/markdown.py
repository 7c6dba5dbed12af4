"""A document as Markdown, as GitHub and most others read it."""

from __future__ import annotations

from faithattn.pages.document import (
    Bullets,
    Callout,
    Chart,
    Code,
    Document,
    Explorer,
    Facts,
    Paragraph,
    Part,
    Section,
    Table,
)
from faithattn.pages.escaping import markdown_text as text
from faithattn.pages.specimens import in_words

_INSTANCES = 10


def markdown(document: Document, *, figures: str | None = None) -> str:
    r"""The document as Markdown.

    Args:
        document: What to show. All its text is escaped.
        figures: Folder of the charts as seen from the page, such as
            ``"figures"``; None shows their numbers alone.

    Examples:
        >>> print(markdown(Document("Counts", "Twelve.", (Paragraph("So *be* it."),))))
        # Counts
        <BLANKLINE>
        Twelve.
        <BLANKLINE>
        So \*be\* it.
        <BLANKLINE>
    """
    blocks = [f"# {text(document.title)}", text(document.lead)]
    blocks += [_part(part, 2, figures) for part in document.parts]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _part(part: Part, level: int, figures: str | None) -> str:
    """One part."""
    if isinstance(part, Section):
        inner = (_part(each, level + 1, figures) for each in part.parts)
        return "\n\n".join([f"{'#' * min(level, 6)} {text(part.title)}", *filter(None, inner)])
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Chart):
        return _chart(part, figures)
    if isinstance(part, Callout):
        kind = f": *{text(part.kind)}*" if part.kind != "note" else ""
        rule = f"\n\n{text(part.rule)}" if part.rule else ""
        return f"**{text(part.title)}**{kind}. {text(part.text)}{rule}"
    if isinstance(part, Explorer):
        return _explorer(part)
    return _plain_part(part)


def _plain_part(part: Paragraph | Bullets | Code | Facts) -> str:
    if isinstance(part, Paragraph):
        return text(part.text)
    if isinstance(part, Bullets):
        return "\n".join(f"- {text(each)}" for each in part.items)
    if isinstance(part, Code):
        return "\n".join(f"    {line}" for line in part.text.splitlines())
    return "\n".join(f"- {text(key)}: {text(value)}" for key, value in part.entries)


def _table(part: Table) -> str:
    """A table under its caption."""
    rules = ("---" if side == "l" else "--:" for side in part.aligned)
    lines = [_row(part.columns), "| " + " | ".join(rules) + " |", *map(_row, part.rows)]
    return f"*{text(part.caption)}*\n\n" + "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(text(cell) for cell in cells) + " |"


def _chart(part: Chart, figures: str | None) -> str:
    """A link to the drawing, or its numbers."""
    said = f"**{text(part.title)}.** {text(part.description)}"
    if figures is None:
        return f"{said}\n\n{_table(part.data)}"
    return f"![{text(part.title)}]({figures}/{part.name}.svg)\n\n{said}"


def _explorer(part: Explorer) -> str:
    """The first instances with their strongest words."""
    blocks = []
    for specimen in part.specimens[:_INSTANCES]:
        lines = [f"**{text(specimen.title)}**"]
        lines += [text(specimen.text)] if specimen.text else []
        lines += [""]
        lines += [
            f"- {text(track.name)}: {text(in_words(specimen, track))}" for track in specimen.tracks
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
