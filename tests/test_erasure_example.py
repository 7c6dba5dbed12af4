"""The example that erases attention runs on stories and on texts, and its tables are whole."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "erase_attention.py"
FILMS = [
    f"{word} {thing} was {how},{label},{split}"
    for split, thing in (("train", "film"), ("dev", "book"), ("test", "show"))
    for how in ("long and quiet", "old")
    for word, label in (("great", 1), ("awful", 0))
]


@pytest.mark.parametrize("data", ["stories", "texts"])
def test_the_tables_are_whole(
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    films = tmp_path / "films.csv"
    films.write_text("\n".join(["text,label,split", *FILMS]) + "\n", encoding="utf-8")
    files = [str(films)] if data == "texts" else []
    monkeypatch.setattr(sys, "argv", [EXAMPLE.name, "--quick", *files])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert len(re.findall(r"^## .*: test accuracy [01]\.\d+", printed, re.MULTILINE)) == 2
    assert len(re.findall(r"^top weight .* p [\d.e-]+; Delta JS", printed, re.MULTILINE)) == 4
    row = r"^\| (\w+) \| ([\d.]+|-) \(.* to .*\)( \| ([\d.]+|-)){5} \|$"
    rows = re.findall(row, printed, re.MULTILINE)
    assert len(rows) == 20
    for name, mean, *_ in rows:
        assert (name == "optimal" and mean == "-") or 0 < float(mean) <= 1
