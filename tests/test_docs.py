"""The code on the documentation's pages runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import faithattn

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    path.name for path in DOCS.glob("*.md") if BLOCK.search(path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_in_order(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in blocks:
            exec(compile(block, page, "exec"), names)
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_nothing_on_a_page_waits_to_be_filled_in(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"^[A-Z_]{4,}$|\bTODO\b|\bTBD\b|goes here", text, re.MULTILINE)
    for image in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
        assert (DOCS / image).is_file(), image


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    listed = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    public = {name for name in faithattn.__all__ if name != "__version__"}
    homes = {f"{getattr(faithattn, name).__module__}.{name}" for name in public}
    assert homes <= set(listed)
    assert len(listed) == len(set(listed))
