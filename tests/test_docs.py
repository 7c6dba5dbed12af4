"""The code on the documentation's pages runs."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import faithattn
from faithattn.cli import main

DOCS = Path(__file__).parent.parent.resolve() / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(
    path.name for path in DOCS.glob("*.md") if BLOCK.search(path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_in_order(
    page: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in blocks:
            exec(compile(block, page, "exec"), names)
    assert capsys.readouterr().out


def test_the_commands_of_the_page_about_audits_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the module of the page, on fewer tickets; limits may be met or not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    page = (DOCS / "audits.md").read_text(encoding="utf-8")
    held_out = "tickets({}, seed=2)), batch_size={}"
    module = BLOCK.findall(page)[0]
    assert held_out.format(96, 32) in module
    module = module.replace(held_out.format(96, 32), held_out.format(16, 6))
    Path("tickets.py").write_text(module, encoding="utf-8")
    lines = [line for line in page.splitlines() if re.match("faithattn (audit|report|c|m)", line)]
    assert len(lines) == 9
    with torch.random.fork_rng():
        first = lines[0].replace("results/cli", "results/before")
        for line in (first, *lines):
            if "results/after" in line and not Path("results/after").exists():
                shutil.copytree("results/before", "results/after")
            status = main([*shlex.split(line)[1:], *["--quiet"] * ("faithattn audit" in line)])
            captured = capsys.readouterr()
            assert captured.out, line
            assert status in (0, 3), captured.err
            assert (status == 3) == ("must not be" in captured.err), line
    assert Path("results/joined/report.html").is_file()
    sys.modules.pop("tickets", None)


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
