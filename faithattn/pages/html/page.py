"""The page around the parts: head, security policy, contents."""

from __future__ import annotations

import base64
import hashlib

from faithattn.pages.document import Document, Explorer, Part, Section
from faithattn.pages.escaping import html_text
from faithattn.pages.html.parts import anchors, render
from faithattn.pages.style import page_style, read


def html(document: Document) -> str:
    """The document as one page: no network, no script but that of its explorer.

    Args:
        document: What to show. All its text is escaped.

    Returns:
        The page, to be written in UTF-8. Its security policy allows the style
        and the script that it holds, by their digests, and nothing else.

    Examples:
        >>> from faithattn.pages.document import Paragraph
        >>> page = html(Document("Counts", "There are <twelve>.", (Paragraph("So."),)))
        >>> page.startswith("<!doctype html>"), "&lt;twelve&gt;" in page, "<script" in page
        (True, True, False)
    """
    style = page_style()
    script = read("explorer.js") if _explorers(document.parts) else ""
    places = anchors(document.parts)
    body = "\n".join(render(part, 2, places) for part in document.parts)
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; "
        f"script-src {_digest(script) if script else chr(39) + 'none' + chr(39)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="{html_text(document.language)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{html_text(document.title)}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the text</a>
<header>
<h1>{html_text(document.title)}</h1>
<p class="lead">{html_text(document.lead)}</p>
{_contents(document, places)}</header>
<main id="content" tabindex="-1">
{body}
</main>
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


def _contents(document: Document, places: dict[int, str]) -> str:
    """Links to the sections, where there are several."""
    if len(document.sections) < 3:
        return ""
    links = "".join(
        f'<li><a href="#{places[id(section)]}">{html_text(section.title)}</a></li>'
        for section in document.sections
    )
    return f'<nav class="toc" aria-label="Contents"><ul>{links}</ul></nav>\n'


def _explorers(parts: tuple[Part, ...]) -> bool:
    """Whether there is anything for the script to do."""
    return any(
        isinstance(part, Explorer) or (isinstance(part, Section) and _explorers(part.parts))
        for part in parts
    )


def _digest(text: str) -> str:
    """A source expression that allows this text and no other."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
