"""Pages in a real browser: nothing runs or loads that should not, and what should works."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from documents import BROWSER, browse, full_document, hostile

from faithattn.pages.document import Document
from faithattn.pages.html import html

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

_PROBE = """
const found = {};
const press = (key, on) => on.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const choose = (select, index) => {
  select.selectedIndex = index;
  select.dispatchEvent(new Event("change", {bubbles: true}));
};
window.addEventListener("load", () => {
  console.error("seen");
  found.clipped = [...document.querySelectorAll("svg")].flatMap((svg) => {
    const box = svg.viewBox.baseVal;
    return [...svg.querySelectorAll("text")].filter((text) => {
      const at = text.getBBox();
      return at.x < 0 || at.y < 0 || at.x + at.width > box.width || at.y + at.height > box.height;
    }).map((text) => text.textContent.slice(0, 60));
  });
  const explorer = document.querySelector(".explorer");
  const [group, sort, order] = explorer.querySelectorAll("select");
  const items = () => [...explorer.querySelectorAll(".instance")];
  const shown = () => items().filter((item) => !item.hidden).map((item) => item.dataset.values);
  found.before = shown();
  choose(sort, 1);
  found.falling = shown();
  choose(order, 1);
  found.rising = shown();
  choose(group, 2);
  found.group = shown();
  found.said = explorer.querySelector("output").textContent;
  choose(group, 0);
  explorer.querySelector("[data-open=yes]").click();
  found.open = items().every((item) => item.open);
  const words = explorer.querySelector(".words");
  const first = words.querySelector("span");
  first.focus();
  press("ArrowRight", first);
  found.focused = document.activeElement === first.nextElementSibling;
  found.stops = words.querySelectorAll("[tabindex='0']").length;
  found.readout = words.closest(".instance").querySelector(".readout").textContent;
  const frame = document.createElement("iframe");
  frame.width = "360";
  frame.srcdoc = document.querySelector("#page").textContent;
  frame.onload = () => {
    const root = frame.contentDocument.documentElement;
    found.narrow = [root.scrollWidth, root.clientWidth];
    const said = document.createElement("script");
    said.type = "application/json";
    said.id = "found";
    said.textContent = JSON.stringify(found);
    document.body.append(said);
  };
  document.body.append(frame);
});
"""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    """An address, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_hostile_text_is_only_shown(server: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = server
    document = full_document(hostile(address))
    page = tmp_path / "page.html"
    page.write_text(html(document), encoding="utf-8")
    seen = browse(page, tmp_path / "profile")
    assert "data-ran" not in re.findall("<html[^>]*>", seen.page)[0]
    assert asked == []
    assert seen.console == ()
    for name in ("img", "iframe", "link", "base", "object", "form"):
        assert not re.search(f"<{name}[ >]", seen.page), name
    assert seen.page.count("<script") == 1 and seen.page.count("<style") == 1
    # The page's own script did run.
    assert f"{len(hostile())} of {len(hostile())} shown</output>" in seen.page
    assert not re.search(r'class="controls"[^>]* hidden', seen.page)


def test_what_the_page_offers_works(server: tuple[str, list[str]], tmp_path: Path) -> None:
    """With the security policy taken away, so that a probe can run."""
    address, asked = server
    names = ("one class", "another of them, with a name too long for any label", "W" * 30, "日本語")
    document: Document = full_document(("good", "film", "", "awful" * 30), names)
    text = html(document)
    assert "<script>" in text
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    # Also what shows that the test before could fail.
    careless = "".join(hostile(address)[:6])
    page = tmp_path / "probe.html"
    page.write_text(
        bare.replace(
            "</body>",
            f'<script type="text/plain" id="page"></script>'
            f"<script>document.querySelector('#page').textContent = "
            f"JSON.parse('{quote(bare)}');{_PROBE}</script>"
            f"<div>{careless}</div></body>",
        ),
        encoding="utf-8", errors="replace",
    )  # fmt: skip
    seen = browse(page, tmp_path / "profile")
    assert "data-ran" in re.findall("<html[^>]*>", seen.page)[0]
    assert asked and seen.console
    (data,) = re.findall(r'id="found">(.*?)</script>', seen.page)
    found = json.loads(data)
    assert found["clipped"] == []
    rank = ["0 0", "- 1", "0.2 2", "0.3 3"]
    assert found["before"] == rank
    assert found["falling"] == ["0.3 3", "0.2 2", "0 0", "- 1"]
    assert found["rising"] == ["0 0", "0.2 2", "0.3 3", "- 1"]
    assert found["group"] == ["- 1"] and found["said"] == "1 of 4 shown"
    assert found["open"] and found["focused"] and found["stops"] == 1
    assert found["readout"] == "one class: 2. film: 0.100"
    assert found["narrow"][0] <= found["narrow"][1]


def quote(text: str) -> str:
    """Text as JSON within a script's single quotes."""
    body = json.dumps(text).replace("<", "\\u003c")
    return body.replace("\\", "\\\\").replace("'", "\\'")
