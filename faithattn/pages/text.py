"""A document for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

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
from faithattn.pages.escaping import plain
from faithattn.pages.specimens import in_words

_INSTANCES = 5
_GAP = 2


def text(document: Document, width: int = 100) -> str:
    """The document as plain text; charts become their numbers.

    Args:
        document: What to show; control characters are replaced.
        width: Columns of the terminal, 40 or more; no line is longer.

    Examples:
        >>> from faithattn.pages.document import Table
        >>> counts = Table("Counts", ("class", "n"), (("good", "12"), ("bad", "7")))
        >>> print(text(Document("Texts", "Nineteen of them.", (counts,))))
        Texts
        =====
        <BLANKLINE>
        Nineteen of them.
        <BLANKLINE>
        Counts
        class   n
        good   12
        bad     7
        <BLANKLINE>
    """
    title = plain(document.title, width)
    blocks = [f"{title}\n{'=' * len(title)}", _wrapped(document.lead, width)]
    blocks += [block for part in document.parts for block in _part(part, width, 0)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def table_lines(part: Table, width: int) -> Iterator[str]:
    """Lines of a table; columns that find no room follow below.

    Args:
        part: The table.
        width: Columns of the terminal.
    """
    cells = [[plain(cell) for cell in row] for row in (part.columns, *part.rows)]
    first = min(max(len(row[0]) for row in cells), max(12, width // 3))
    room = width - first
    widths = [
        _GAP + min(max(len(row[place]) for row in cells), room - _GAP)
        for place in range(len(part.columns))
    ]
    for number, columns in enumerate(_side_by_side(widths, room)):
        if number:
            yield ""
        for row in cells:
            line = plain(row[0], first).ljust(first)
            for place in columns:
                cell = plain(row[place], widths[place] - _GAP)
                left = part.aligned[place] == "l"
                line += f"{'':{_GAP}}{cell:{'<' if left else '>'}{widths[place] - _GAP}}"
            yield line.rstrip()


def _part(part: Part, width: int, depth: int) -> Iterator[str]:
    """Blocks of one part."""
    if isinstance(part, Section):
        title = plain(part.title, width)
        yield f"{title}\n{'-' * len(title)}" if depth == 0 else title
        for each in part.parts:
            yield from _part(each, width, depth + 1)
    elif isinstance(part, Table):
        yield "\n".join([*_lines(part.caption, width), *table_lines(part, width)])
    elif isinstance(part, Chart):
        yield _wrapped(f"{part.title}. {part.description}", width)
        yield "\n".join(table_lines(part.data, width))
    elif isinstance(part, Callout):
        kind = "" if part.kind == "note" else f": {part.kind.upper()}"
        lines = [*_lines(part.title + kind, width), *_lines(part.text, width, "  ")]
        yield "\n".join([*lines, *(_lines(part.rule, width, "  ") if part.rule else ())])
    elif isinstance(part, Explorer):
        for specimen in part.specimens[:_INSTANCES]:
            lines = [*_lines(specimen.title, width), *_lines(specimen.text, width, "  ")]
            for track in specimen.tracks:
                lines += _lines(f"{track.name}: {in_words(specimen, track)}", width, "  ")
            yield "\n".join(lines)
    else:
        yield _plain_part(part, width)


def _plain_part(part: Paragraph | Bullets | Code | Facts, width: int) -> str:
    if isinstance(part, Paragraph):
        return _wrapped(part.text, width)
    if isinstance(part, Bullets):
        return "\n".join(line for each in part.items for line in _item(each, width))
    if isinstance(part, Code):
        return "\n".join(f"  {plain(line)}" for line in part.text.splitlines())
    return "\n".join(
        line for key, value in part.entries for line in _lines(f"{key}: {value}", width)
    )


def _side_by_side(widths: list[int], room: int) -> list[list[int]]:
    """The columns after the first, as many side by side as there is room for."""
    found: list[list[int]] = [[]]
    used = 0
    for place in range(1, len(widths)):
        if found[-1] and used + widths[place] > room:
            found.append([])
            used = 0
        found[-1].append(place)
        used += widths[place]
    return found


def _wrapped(said: str, width: int) -> str:
    return "\n".join(_lines(said, width))


def _item(said: str, width: int) -> list[str]:
    return textwrap.wrap(plain(said), width, initial_indent="- ", subsequent_indent="  ")


def _lines(said: str, width: int, indent: str = "") -> list[str]:
    """Text broken into lines of at most the width."""
    return textwrap.wrap(plain(said), width, initial_indent=indent, subsequent_indent=indent)
