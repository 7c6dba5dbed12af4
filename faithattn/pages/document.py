"""What a page says, whatever it is rendered as.

All text is plain: renderers escape it, so text from data can go anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

SUPPORTS, CONTRADICTS, CANNOT_TELL, NOTE = "supports", "contradicts", "cannot tell", "note"


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """Sentences, one below the other."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines to copy as they are: commands, a reference."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row.

    Attributes:
        caption: What the table holds.
        columns: Their headings.
        rows: Cells, as many in each row as there are columns.
        alignment: One letter a column, ``l`` or ``r``; empty for a first
            column on the left and numbers on the right.
        folded: Shown when asked for, where the page can fold.

    Examples:
        >>> Table("Counts", ("class", "n"), (("good", "12"),)).aligned
        'lr'
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    alignment: str = ""
    folded: bool = False

    @property
    def aligned(self) -> str:
        """One letter a column."""
        return self.alignment or "l" + "r" * (len(self.columns) - 1)


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for."""

    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Callout:
    """A conclusion: the word says it, colour and sign only repeat it.

    Attributes:
        kind: ``"supports"``, ``"contradicts"``, ``"cannot tell"`` or ``"note"``.
        title: What is judged.
        text: What was found.
        rule: By which rule; empty if there is none.
    """

    kind: str
    title: str
    text: str
    rule: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure with what it says in words and as a table.

    Attributes:
        name: Name of its file, without an ending.
        title: What it shows.
        description: How to read it, and what there is to see.
        svg: The drawing, one ``<svg>`` element.
        data: Its numbers.
    """

    name: str
    title: str
    description: str
    svg: str
    data: Table


@dataclass(frozen=True)
class Track:
    """One number for each position of a specimen.

    Attributes:
        name: What the numbers are.
        values: As many as there are tokens; nan where undefined.
        strongest: The absolute value that is coloured darkest.
        kind: ``"weights"`` or ``"scores"``, which are coloured differently.
    """

    name: str
    values: tuple[float, ...]
    strongest: float
    kind: str = "weights"


@dataclass(frozen=True)
class Specimen:
    """One instance to look at.

    Attributes:
        title: Which one it is.
        group: What it can be chosen by, such as its predicted class.
        tokens: The text of each position.
        tracks: Numbers for the positions.
        values: Numbers to sort by, the same names in every specimen.
        text: What else there is to say.
        positions: Place of each token in the whole; empty where all are there.
    """

    title: str
    group: str
    tokens: tuple[str, ...]
    tracks: tuple[Track, ...]
    values: Mapping[str, float] = field(default_factory=dict)
    text: str = ""
    positions: tuple[int, ...] = ()

    @property
    def places(self) -> tuple[int, ...]:
        """Place of each token in the whole, from 0."""
        return self.positions or tuple(range(len(self.tokens)))


@dataclass(frozen=True)
class Explorer:
    """Instances to look at, one by one.

    Attributes:
        name: What the page calls the place.
        grouped_by: What the groups are, such as ``"predicted class"``.
        specimens: The instances.
    """

    name: str
    grouped_by: str
    specimens: tuple[Specimen, ...]


@dataclass(frozen=True)
class Section:
    """A heading and what follows it."""

    title: str
    parts: tuple[Part, ...]


Part: TypeAlias = Paragraph | Bullets | Code | Table | Facts | Callout | Chart | Explorer | Section


@dataclass(frozen=True)
class Document:
    """A page.

    Attributes:
        title: Its title.
        lead: The paragraph that stands for the whole.
        parts: What follows.
        language: The language of its own words.

    Examples:
        >>> page = Document("Counts", "There are twelve.", (Section("Why", ()),))
        >>> [section.title for section in page.sections]
        ['Why']
    """

    title: str
    lead: str
    parts: tuple[Part, ...]
    language: str = "en"

    @property
    def sections(self) -> tuple[Section, ...]:
        """The sections of the first level."""
        return tuple(part for part in self.parts if isinstance(part, Section))

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts, in the order of the page."""
        return tuple(part for part in _walk(self.parts) if isinstance(part, Chart))


def _walk(parts: tuple[Part, ...]) -> Iterator[Part]:
    """Parts, and the parts of sections."""
    for part in parts:
        yield part
        if isinstance(part, Section):
            yield from _walk(part.parts)
