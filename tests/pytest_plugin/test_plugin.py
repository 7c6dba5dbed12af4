"""The plugin in sessions of its own: fixture, marker, options, table, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch._dynamo  # noqa: F401 -- measuring may load it, and it cannot be loaded twice

import faithattn.testing  # before a session of pytester, which forgets what it loads
import faithattn.testing.checking
from faithattn import pytest_plugin
from faithattn.pytest_plugin.names import file_name

pytest_plugins = ["pytester"]
ROOT = Path(faithattn.__file__).parent.parent
Run = Callable[..., pytest.RunResult]

MODELS = """
import pytest
from faithattn import planted

USED, UNUSED = planted.faithful(size=12), planted.indifferent(size=12)
"""
TWO = (
    MODELS
    + """
def test_good(faithfulness):
    found = faithfulness.assert_gradient_correlation(USED.model, [USED.inputs], at_least=0.3)
    assert found.lower == 1
    faithfulness.assert_permutation_effect(USED.model, [USED.inputs], at_least=0.01)

def test_bad(faithfulness):
    faithfulness.assert_permutation_effect(UNUSED.model, [UNUSED.inputs], at_least=0.05)

def test_plain():
    pass
"""
)
AGAIN = TWO.replace("def test_", "def test_again_")
STORED = (
    MODELS
    + """
import os
SHARE = float(os.environ.get("SHARE", 0))

class TestModel:
    @pytest.mark.parametrize("length", [9, 10])
    def test_keeps(self, faithfulness, length):
        case = planted.compensating(size=24, length=length, unused=SHARE)
        faithfulness.check(case.model, [case.inputs], metrics=["permutation_test"])
"""
)


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a test file in this process, with this plugin alone."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_model=text)
        usual = ("-p", "no:cacheprovider", "-W", "error", "--strict-markers")
        return pytester.runpytest_inprocess(*usual, *options, plugins=[pytest_plugin])

    return run


def section(result: pytest.RunResult) -> list[list[str]]:
    """Rows of the table, as cells."""
    lines = result.outlines
    start = next(at for at, line in enumerate(lines) if line.strip("= ") == "faithfulness")
    end = next(at for at, line in enumerate(lines) if "of faithfulness: " in line)
    return [[cell for cell in line.split("  ") if cell.strip()] for line in lines[start + 1 : end]]


def test_every_check_has_a_line(session: Run) -> None:
    result = session(TWO)
    result.assert_outcomes(passed=2, failed=1)
    head, *rows = section(result)
    assert [cell.strip() for cell in head] == [
        "test",
        "metric",
        "n",
        "mean",
        "95 % interval",
        "limit",
        "outcome",
    ]
    rows = [[cell.strip() for cell in row] for row in rows]
    assert rows[0] == [
        "test_model.py::test_good",
        "gradient_correlation",
        "12",
        "1.000",
        "1.000 to 1.000",
        "at least 0.3",
        "passed",
    ]
    assert [row[0].split("::")[1] for row in rows] == ["test_good", "test_good", "test_bad"]
    assert [row[-1] for row in rows] == ["passed", "passed", "below"]
    assert "3 checks of faithfulness: 2 passed, 1 failed" in result.stdout.str()


def test_a_failure_shows_the_evidence_and_the_line_of_the_test_alone(session: Run) -> None:
    result = session(TWO)
    result.stdout.fnmatch_lines(
        [
            ">*faithfulness.assert_permutation_effect(UNUSED.model*",
            "E*permutation_test: clearly below the limit: mean *",
            "E*5 lowest instances:",
        ]
    )
    assert "faithattn/" not in result.stdout.str().replace("faithattn/pytest_plugin", "")


@pytest.mark.parametrize("option", [(), ("-q",), ("--collect-only",), ("-v",)])
def test_nothing_is_said_where_nothing_is_checked(session: Run, option: tuple[str, ...]) -> None:
    result = session("def test_plain():\n    pass\n", *option)
    assert result.ret == 0 and "faithfulness" not in result.stdout.str()


def test_quiet_sessions_show_failures_alone(session: Run) -> None:
    result = session(TWO, "-q")
    assert [row[-1].strip() for row in section(result)[1:]] == ["below"]
    assert "faithfulness" not in session(TWO, "-qq", "--tb=no", "-r", "N").stdout.str()
    assert "of faithfulness" not in session(TWO, "--no-summary").stdout.str()


def test_a_session_that_stops_at_the_first_failure_reports_what_it_did(
    session: Run, pytester: pytest.Pytester
) -> None:
    result = session(
        TWO.replace("test_bad", "test_a").replace("test_good", "test_b"),
        "-x",
        "--faithattn-report",
        "out",
    )
    found = json.loads((pytester.path / "out" / "index.json").read_text(encoding="utf-8"))
    assert len(found["checks"]) == len(section(result)) - 1 == 3


def test_the_report_holds_the_evidence(session: Run, pytester: pytest.Pytester) -> None:
    result = session(TWO, "--faithattn-report", "new/out")
    folder = pytester.path / "new" / "out"
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert [each["outcome"] for each in index["checks"]] == ["passed", "passed", "below"]
    evidence = json.loads((folder / index["checks"][2]["file"]).read_text(encoding="utf-8"))
    assert evidence["test"] == "test_model.py::test_bad"
    (check,) = evidence["checks"]
    assert check["n"] == 12 and check["upper"] < 0.05 and check["groups"]["max attention"]
    assert [each["instance"] for each in check["worst"]] == [0, 1, 2, 3, 4]
    pages = [each["report"] for each in index["checks"]]
    first = index["checks"][0]["file"].removesuffix(".json")
    assert pages[:2] == [f"{first}/report.html", f"{first}-2/report.html"]
    assert all((folder / each).read_text("utf-8").startswith("<!doctype html>") for each in pages)
    assert "Attention shuffled" in (folder / pages[2]).read_text("utf-8")
    page = (folder / "index.md").read_text(encoding="utf-8")
    assert f"| [below]({pages[2]}) |" in page
    assert "3 checks of faithfulness: 2 passed, 1 failed." in page
    assert f"]({index['checks'][2]['file']}) |" in page and check["text"] in page
    assert f"report: {folder / 'index.md'}" in result.stdout.str()


def test_hostile_names_are_only_text(session: Run, pytester: pytest.Pytester) -> None:
    text = TWO.replace(
        "def test_bad(faithfulness)",
        '@pytest.mark.parametrize("name", ["../../x|y](z)<script>```"])\n'
        "def test_bad(faithfulness, name)",
    )
    session(text, "--faithattn-report", "out")
    folder = pytester.path / "out"
    assert {path.parent.name for path in folder.rglob("*.json") if path.stem != "report"} == {
        "out",
        "tests",
    }
    assert {path.parent.parent.name for path in folder.rglob("report.html")} == {"tests"}
    page = (folder / "index.md").read_text(encoding="utf-8")
    table = page.split("## ")[0]
    assert "<script>" not in table and r"x\|y\](z)&lt;script&gt;\`\`\`" in table


def test_a_report_that_cannot_be_written(session: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "file").write_text("", encoding="utf-8")
    result = session(TWO, "--faithattn-report", "file")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--faithattn-report must name a folder that can be written; got file" in (
        result.stderr.str()
    )


def test_a_disk_that_fills_up_ends_no_session(
    session: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def full(self: Path, text: str, **options: Any) -> int:
        if self.suffix == ".json" and "out" in self.parts:
            raise OSError(28, "No space left on device")
        return write(self, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    result = session(TWO, "--faithattn-report", "out")
    result.assert_outcomes(passed=2, failed=1)
    assert "The report is not whole: [Errno 28] No space left" in result.stdout.str()


def test_markers_set_what_calls_do_not(session: Run) -> None:
    text = (
        MODELS
        + """
CASE = planted.independent(size=12)
HALF = dict(at_least=0.55, removal="mask_attention")

@pytest.mark.faithattn(undecided="skip", seed=3)
class TestModel:
    def test_skips(self, faithfulness):
        assert faithfulness._settings == {"undecided": "skip", "seed": 3}
        faithfulness.assert_loo_correlation(CASE.model, [CASE.inputs], **HALF)

    @pytest.mark.faithattn(undecided="pass")
    def test_passes(self, faithfulness):
        found = faithfulness.assert_loo_correlation(CASE.model, [CASE.inputs], **HALF)
        assert found.outcome == "cannot tell"

    def test_fails(self, faithfulness):
        faithfulness.assert_loo_correlation(
            CASE.model, [CASE.inputs], **HALF, undecided="fail"
        )

def test_has_the_seed_of_the_command_line(faithfulness):
    assert faithfulness._settings == {"seed": 7}
"""
    )
    result = session(text, "--faithattn-seed", "7", "-rs")
    result.assert_outcomes(passed=2, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*loo_correlation (at least 0.55): cannot tell: mean*"])
    assert "3 checks of faithfulness: 1 passed, 1 skipped, 1 failed" in result.stdout.str()
    session(text, "-m", "not faithattn").assert_outcomes(deselected=4)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("sed=1", "marker faithattn must have settings among seed, .*; got 'sed'"),
        ("3", "marker faithattn must have settings by name; got 3"),
    ],
)
def test_bad_markers(session: Run, marker: str, message: str) -> None:
    text = (
        f"import pytest\n@pytest.mark.faithattn({marker})\ndef test_it(faithfulness):\n    pass\n"
    )
    result = session(text)
    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines([f".*{message}"])


def test_baselines_are_written_when_asked_and_compared(
    session: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = session(STORED)
    missing.assert_outcomes(failed=2)
    command = "pytest 'test_model.py::TestModel::test_keeps[9]' --faithattn-update"
    assert command in missing.stdout.str()
    folder = pytester.path / "faithattn-baselines"
    assert not folder.exists(), "nothing is written silently"
    written = session(STORED, "--faithattn-update")
    written.assert_outcomes(passed=2)
    names = sorted(path.name for path in (folder / "test_model").iterdir())
    assert len(names) == 2 and all(name.startswith("TestModel.test_keeps-") for name in names)
    assert [row[-1].strip() for row in section(written)[1:]] == ["written", "written"]
    session(STORED).assert_outcomes(passed=2)
    monkeypatch.setenv("SHARE", "0.5")  # half of the attention is for show
    changed = session(STORED, "--faithattn-report", "out")
    changed.assert_outcomes(failed=2)
    row = section(changed)[1]
    assert row[-1].strip() == "worse" and row[-2].strip() == "change within 0.01"
    assert "permutation_test (median TVD of shuffles), worse: " in changed.stdout.str()
    index = json.loads((pytester.path / "out" / "index.json").read_text(encoding="utf-8"))
    assert {each["outcome"] for each in index["checks"]} == {"worse"}


def test_baselines_in_a_folder_of_choice(session: Run, pytester: pytest.Pytester) -> None:
    options = ("--faithattn-baselines", "kept", "--faithattn-seed", "2")
    missing = session(STORED, *options)
    assert "--faithattn-update --faithattn-baselines kept --faithattn-seed 2" in (
        missing.stdout.str()
    )
    session(STORED, *options, "--faithattn-update")
    assert len(list((pytester.path / "kept" / "test_model").iterdir())) == 2
    session(STORED, *options).assert_outcomes(passed=2)
    other = session(STORED, "--faithattn-baselines", "kept")
    assert "seed was 2 and is 0" in other.stdout.str()


def test_several_checks_of_a_test_have_names(session: Run, pytester: pytest.Pytester) -> None:
    text = (
        MODELS
        + """
def test_both(faithfulness):
    for name in ("a", "b", "b"):
        faithfulness.check(USED.model, [USED.inputs], metrics=["permutation_test"], name=name)
"""
    )
    result = session(text, "--faithattn-update")
    assert "name must be used once in a test; got 'b' twice" in result.stdout.str()
    found = (pytester.path / "faithattn-baselines" / "test_model").iterdir()
    assert sorted(path.name for path in found) == ["test_both.a.json", "test_both.b.json"]


def test_the_example(session: Run) -> None:
    text = (ROOT / "examples" / "test_my_model.py").read_text(encoding="utf-8")
    session(text, "--faithattn-update").assert_outcomes(passed=3)
    result = session(text)
    result.assert_outcomes(passed=3)
    outcomes = [row[-1].strip() for row in section(result)[1:]]
    assert outcomes == ["passed", "passed", "unchanged", "unchanged"]
    flat = text.replace("torch.tensor([[0.0, 2.0]])", "torch.tensor([[0.0, 1.0]])")
    assert flat != text
    result = session(flat)
    assert "permutation_test (median TVD of shuffles), worse: " in result.stdout.str()


def python(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loading_loads_nothing_that_computes(tmp_path: Path) -> None:
    test = tmp_path / "test_plain.py"
    test.write_text("def test_plain(pytestconfig):\n    pass\n", encoding="utf-8")
    options = ["-q", "-p", "faithattn.pytest_plugin", "-p", "no:cacheprovider", str(test)]
    heavy = ("torch", "numpy", "scipy", "matplotlib", "captum")
    printed = python(
        "import sys, time, pytest; before = time.perf_counter(); import faithattn.pytest_plugin\n"
        f"spent = time.perf_counter() - before; assert pytest.main({options}) == 0\n"
        f"print('loaded', [each for each in {heavy!r} if each in sys.modules], spent < 0.5)"
    )
    assert "loaded [] True" in printed  # some 20 ms; a loaded machine may take longer


def test_tests_of_like_names_have_files_of_their_own() -> None:
    tests = [f"test_p[{case}]" for case in ("a/b", "a-b", "a b", "1", "1.0", "True")]
    assert len({file_name(each) for each in [*tests, "test_p", "test_p-a-b"]}) == 8
