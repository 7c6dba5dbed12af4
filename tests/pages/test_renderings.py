from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from documents import full_document, hostile

from faithattn.pages.charts.charts import grid_chart
from faithattn.pages.document import (
    Callout,
    Document,
    Explorer,
    Paragraph,
    Section,
    Specimen,
    Table,
    Track,
)
from faithattn.pages.escaping import plain
from faithattn.pages.files import figure, prepare_folder, write_figures, write_text
from faithattn.pages.html import html
from faithattn.pages.markdown import markdown
from faithattn.pages.specimens import strongest_positions
from faithattn.pages.text import text

VOID = {"meta", "input", "br", "link", "img"}


class Checker(HTMLParser):
    """Notes the elements of a page, and whether they close as they opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return html(full_document(hostile()))


def test_html_is_well_formed_and_accessible(page: str) -> None:
    checked = Checker(page)
    assert checked.all("html") == [{"lang": "en"}]
    assert len(checked.all("h1")) == len(checked.all("main")) == 1
    levels = [int(tag[1]) for tag, _ in checked.found if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [each["id"] for _, each in checked.found if "id" in each]
    assert len(ids) == len(set(ids))
    for link in checked.all("a"):
        assert str(link["href"]).removeprefix("#") in ids
    for _, each in checked.found:
        if "aria-labelledby" in each:
            assert each["aria-labelledby"] in ids
        assert not any(key.startswith("on") for key in each)
        assert "style" not in each and "src" not in each
    assert len(checked.all("caption")) == len(checked.all("table"))
    assert {each.get("scope") for each in checked.all("th")} == {"col", "row"}
    for svg in checked.all("svg"):
        assert svg["role"] == "img" and svg["aria-label"] is not None


def test_the_policy_allows_what_the_page_holds(page: str) -> None:
    policy = next(
        str(each["content"]) for each in Checker(page).all("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    assert policy.endswith("base-uri 'none'; form-action 'none'")
    for tag in ("style", "script"):
        (inner,) = re.findall(f"(?s)<{tag}>(.*?)</{tag}>", page)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    quiet = html(Document("a", "b", (Paragraph("c"),)))
    assert "script-src 'none'" in quiet and "<script" not in quiet


def test_verdicts_are_words() -> None:
    for kind in ("supports", "contradicts", "cannot tell"):
        document = Document("a", "b", (Callout(kind, "Shuffled", "Because.", "Above .1."),))
        assert f"{kind}</span>" in html(document)
        assert f"*{kind}*" in markdown(document)
        assert kind.upper() in text(document)
        assert "Above .1." in html(document) and "Above .1." in text(document)


def test_no_word_is_lost(page: str) -> None:
    document = full_document(hostile())
    for word in map(plain, hostile()):
        if word and word.isascii() and len(word) < 90:
            for rendered in (markdown(document).replace("\\", ""), text(document, 300)):
                assert word.replace("&", "&amp;") in rendered or word in rendered


def test_hostile_markdown_stays_in_its_cell() -> None:
    words = hostile()
    table = Table("t", ("a", "b"), tuple((word, word) for word in words))
    lines = markdown(Document("a", "b", (table,))).split("\n\n")[-1].splitlines()
    assert len(lines) == len(words) + 2
    for line in lines:
        bare = re.sub(r"\\.", "", line)
        assert bare.count("|") == 3
        assert not re.search(r"[<>`\[\]*_$]", bare)


def test_text_keeps_its_width_and_harms_no_terminal() -> None:
    for width in (40, 100):
        lines = text(full_document(hostile()), width).splitlines()
        assert max(len(line) for line in lines if not line.startswith("  ")) <= width
        assert all(line.isprintable() or "\u200d" in line for line in lines)


def test_markdown_links_figures_that_are_there(tmp_path: Path) -> None:
    document = full_document(("good", "<b>"))
    written = write_figures(document, tmp_path / "figures")
    page = markdown(document, figures="figures")
    assert [path.name for path in written] == ["rows.svg", "grid.svg"]
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page):
        ElementTree.parse(tmp_path / target)
    assert write_figures(Document("a", "b", ()), tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_a_figure_alone_is_whole() -> None:
    chart = grid_chart("x", "<b>", "", [[0.1]], rows=["]]>"], columns=['"'], quantity="&")
    root = ElementTree.fromstring(figure(chart))
    assert "]]>" in "".join(root.itertext())


def test_sections_of_one_name_have_their_own_places() -> None:
    document = Document("a", "b", tuple(Section("Same", ()) for _ in range(3)))
    assert re.findall(r'<h2 id="([^"]+)"', html(document)) == ["same", "same-2", "same-3"]


def test_explorer_marks_what_was_left_out_and_what_is_negative() -> None:
    tracks = (Track("gradient", (0.1, -0.4, float("nan")), 0.4, "scores"),)
    specimen = Specimen("#1", "0", ("a", "b", "c"), tracks, positions=(0, 1, 7))
    page = html(Document("a", "b", (Explorer("x", "class", (specimen,)),)))
    assert '<span class="s2" title="1. a: 0.100">a</span>' in page
    assert '<span class="s10 minus" title="2. b: -0.400">b</span>' in page
    assert "<span>…</span>" in page and "8. c: " in page


def test_long_texts_are_shown_around_what_is_strong() -> None:
    weights = [0.0] * 200
    weights[50], weights[150] = 0.9, 0.5
    kept = strongest_positions(weights, 12)
    assert {*range(48, 53), *range(148, 153)} <= set(kept)
    assert len(kept) <= 12 and kept == sorted(set(kept))
    assert strongest_positions([float("nan")] * 4, 9) == [0, 1, 2, 3]


def test_files_are_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    write_text(path, "old \ud800")
    assert path.read_text() == "old ?"

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old ?" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(OSError, match="out must be a folder that can be written; got"):
        prepare_folder(file)
