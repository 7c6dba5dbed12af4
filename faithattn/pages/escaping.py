"""Foreign text made safe to show: in HTML, in attributes, in SVG and in Markdown."""

from __future__ import annotations

import re
from html import escape

# Joiners are invisible, but words of Persian, Hindi or emoji are wrong without them.
_JOINERS = "\u200c\u200d"
_MARKS = re.compile(r"([\\`*_{}\[\]<>#|~$])")
_STARTS = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")


def plain(text: str, width: int | None = None) -> str:
    r"""Text on one line, without control characters, of ``width`` at most.

    Marks that change the direction of writing, lone surrogates and everything
    else that is not to be seen are replaced by U+FFFD.

    Args:
        text: Any text.
        width: Characters to keep; None keeps all.

    Examples:
        >>> plain("a\tb\nsentence", 8)
        'a b sen…'
        >>> plain("\u202eevil\x00")
        '�evil�'
    """
    visible = "".join(
        character if character.isprintable() or character in _JOINERS else "\ufffd"
        for character in " ".join(text.split())
    )
    if width is not None and len(visible) > width:
        return visible[: max(0, width - 1)] + "…"
    return visible


def html_text(text: str, width: int | None = None) -> str:
    """Text for HTML or SVG, within elements and within quoted attributes alike.

    Args:
        text: Any text.
        width: Characters to keep; None keeps all.

    Examples:
        >>> html_text('"><svg onload=x>')
        '&quot;&gt;&lt;svg onload=x&gt;'
    """
    return escape(plain(text, width), quote=True)


def markdown_text(text: str, width: int | None = None) -> str:
    r"""Text that Markdown and HTML show as it is.

    Args:
        text: Any text.
        width: Characters to keep; None keeps all.

    Examples:
        >>> print(markdown_text("a|b <i> *c*"))
        a\|b \<i\> \*c\*
        >>> print(markdown_text("1. & so on"))
        1\. &amp; so on
    """
    marked = _MARKS.sub(r"\\\1", plain(text, width)).replace("&", "&amp;")
    # At the beginning of a line these would open a list or underline a heading.
    if marked[:1] in ("-", "+", "="):
        return "\\" + marked
    return _STARTS.sub(r"\1\\\2", marked)


def slug(text: str) -> str:
    """A name for files and for places in a page: letters of ASCII, digits and hyphens.

    Args:
        text: Any text.

    Examples:
        >>> slug("Attention against gradients (layer 3)")
        'attention-against-gradients-layer-3'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80] or "part"
