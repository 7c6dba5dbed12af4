from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn.pages.escaping import html_text, markdown_text, plain, slug

# Surrogates too: text from data may hold them, and files of UTF-8 may not.
ANY_TEXT = st.text(st.characters(), max_size=40)


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags, self.attributes = "", [], []

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


@settings(max_examples=50)
@given(ANY_TEXT)
def test_html_shows_the_text_and_nothing_else(text: str) -> None:
    reader = read(f'<p title="{html_text(text)}">{html_text(text)}</p>')
    assert reader.tags == ["p"]
    assert reader.text == plain(text)
    assert reader.attributes == [("title", plain(text))]


@settings(max_examples=50)
@given(ANY_TEXT)
def test_plain_text_can_be_written_and_stays_on_its_line(text: str) -> None:
    shown = plain(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert plain(shown) == shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x1f\x7f\ud800-\udfff]", shown)


@settings(max_examples=50)
@given(ANY_TEXT, st.integers(1, 20))
def test_width_is_kept(text: str, width: int) -> None:
    assert len(plain(text, width)) <= width
    if len(plain(text)) > width:
        assert plain(text, width).endswith("…")


@settings(max_examples=50)
@given(ANY_TEXT)
def test_markdown_is_undone_by_taking_the_marks_away(text: str) -> None:
    marked = markdown_text(text)
    undone = re.sub(r"\\([^a-zA-Z0-9\s])", r"\1", marked).replace("&amp;", "&")
    assert undone == plain(text)
    # Every mark that could begin anything has its backslash.
    assert not re.search(
        r"(?<!\\)(?:\\\\)*[<>|*_`\[\]#$~]", re.sub(r"\\[<>|*_`\[\]#$~]", "", marked)
    )


def test_markdown_at_the_beginning_of_a_line() -> None:
    for text, said in (("- a", r"\- a"), ("12. a", r"12\. a"), ("1.5 a", "1.5 a"), ("=", r"\=")):
        assert markdown_text(text) == said


def test_joiners_stay() -> None:
    family = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}"
    assert plain(family) == family


@settings(max_examples=50)
@given(ANY_TEXT)
def test_slugs_are_safe_file_names(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-?", slug(text))
    assert len(slug(text)) <= 80
