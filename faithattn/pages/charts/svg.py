"""Elements of a drawing, and how wide their text may be."""

from __future__ import annotations

import unicodedata

from faithattn.pages.escaping import html_text

FONT = 13.0  # units of the drawing, which are pixels where it is shown at its full width

# Widths by letter, in parts of the font's size: those of a wide font, as the page may be read
# with any. Text set narrower leaves room; text set wider would be cut.
_NARROW, _WIDE = frozenset("ijlI.,:;'|!()[]/ftr "), frozenset("mwMW@%—…&")


def text_width(text: str, size: float = FONT) -> float:
    """How wide a line of text is at most, in units of the drawing.

    Args:
        text: One line.
        size: Size of the font.

    Examples:
        >>> text_width("ii") < text_width("nn") < text_width("mm") <= text_width("日本")
        True
    """
    return size * sum(map(_width, text))


def shortened(text: str, room: float, size: float = FONT) -> str:
    """Text that fits the room, with an ellipsis where it was cut.

    Args:
        text: One line.
        room: Units there are.
        size: Size of the font.

    Examples:
        >>> shortened("gradient correlation", 80)
        'gradient …'
    """
    used, kept = 0.0, 0
    for place, character in enumerate(text):
        used += text_width(character, size)
        if used + text_width("…", size) <= room:
            kept = place + 1
        if used > room:
            return text[:kept] + "…"
    return text


def element(name: str, content: str | None = None, **attributes: object) -> str:
    """One element; numbers are rounded to hundredths, underscores become hyphens.

    Args:
        name: Its name.
        content: Markup inside it, already escaped; None for none.
        **attributes: Its attributes; ``cls`` is ``class``, None is left out.

    Examples:
        >>> element("circle", cx=1.2345, cls="mean")
        '<circle cx="1.23" class="mean"/>'
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            name_of = "class" if key == "cls" else key.replace("_", "-")
            parts.append(f'{name_of}="{_attribute(value)}"')
    opening = " ".join(parts)
    return f"<{opening}/>" if content is None else f"<{opening}>{content}</{name}>"


def line_of_text(
    x: float, y: float, text: str, *, cls: str = "label", anchor: str = "start", full: str = ""
) -> str:
    """A line of text with its middle at a height.

    Args:
        x: Where it begins, is centred or ends.
        y: Its middle.
        text: The text.
        cls: Class for its style.
        anchor: ``start``, ``middle`` or ``end``.
        full: The whole text, where this is shortened; shown on hovering.
    """
    content = html_text(text)
    if full and full != text:
        content = element("title", html_text(full, 300)) + content
    # A baseline at a third of the height is the middle in every renderer.
    return element("text", content, x=x, y=y + FONT * 0.35, cls=cls, text_anchor=anchor)


def drawing(width: float, height: float, title: str, description: str, body: str) -> str:
    """The whole drawing with its text alternatives.

    Args:
        width: Width in units.
        height: Height in units.
        title: What it shows.
        description: What there is to see.
        body: Its elements.
    """
    content = element("title", html_text(title)) + element("desc", html_text(description)) + body
    return element(
        "svg",
        content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        cls="chart",
        role="img",
        aria_label=title,
    )


def _attribute(value: object) -> str:
    """A number without noise, or escaped text."""
    if isinstance(value, float):
        return f"{round(value, 2):g}"
    return html_text(str(value))


def _width(character: str) -> float:
    """Of one letter, at most."""
    if unicodedata.combining(character):
        return 0.0
    if character in _NARROW:
        return 0.45
    if character in _WIDE or unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character.isascii():
        return 0.78 if character.isupper() else 0.65
    return 0.9
