"""With pytest-xdist the table, the report and the baselines are those of one process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import faithattn

ROOT = Path(faithattn.__file__).parent.parent
MEASURED = """
def test_keeps(faithfulness):
    from faithattn import planted

    case = planted.indifferent(size=12)
    faithfulness.check(case.model, [case.inputs], metrics=["permutation_test"])
    faithfulness.assert_permutation_effect(case.model, [case.inputs], at_least=0.1)
"""
# What the other worker finds is made up: loading PyTorch twice would take most of the time.
MADE_UP = """
import pytest

@pytest.mark.parametrize("mean", [0.5, None])
def test_finds(faithfulness, mean):
    faithfulness._record(
        {"metric": "made_up", "asked": "at most 1", "outcome": "passed", "passed": True}
        | {"mean": mean, "low": mean, "high": mean, "n": 3, "text": ""}
    )
"""


@pytest.mark.skipif(find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_two_workers_report_and_write_everything(tmp_path: Path) -> None:
    (tmp_path / "test_measured.py").write_text(MEASURED, encoding="utf-8")
    (tmp_path / "test_made_up.py").write_text(MADE_UP, encoding="utf-8")
    plugins = ["-p", "xdist.plugin", "-p", "faithattn.pytest_plugin", "-p", "no:cacheprovider"]
    options = [*plugins, "-W", "error", "-n", "2", "--dist", "loadfile", "-v"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *options),
            *("--faithattn-report", "out", "--faithattn-update"),
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    workers = dict(re.findall(r"\[(gw\d)\].*(PASSED|FAILED) test_m", done.stdout))
    assert set(workers) == {"gw0", "gw1"}
    assert "4 checks of faithfulness: 3 passed, 1 failed" in done.stdout
    index = json.loads((tmp_path / "out" / "index.json").read_text(encoding="utf-8"))
    found = [(each["test"].split("::")[1], each["outcome"]) for each in index["checks"]]
    assert sorted(found) == [
        ("test_finds[0.5]", "passed"),
        ("test_finds[None]", "passed"),
        ("test_keeps", "below"),
        ("test_keeps", "written"),
    ]
    assert all((tmp_path / "out" / each["file"]).exists() for each in index["checks"])
    pages = [each["report"] for each in index["checks"] if each["report"]]
    assert len(pages) == 2 and all((tmp_path / "out" / each).exists() for each in pages)
    folder = tmp_path / "faithattn-baselines" / "test_measured"
    assert [path.name for path in folder.iterdir()] == ["test_keeps.json"]
