"""``faithattn calibrate``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from faithattn.cli import main

SMALL = ["--lengths", "5", "--depths", "0", "--sizes", "1", "2", "--pairs", "10"]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_calibrate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["permutation_test", "gradient_correlation"]
    assert main(["calibrate", *SMALL, "--metrics", *names, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "10 pairs a setting" in captured.out and "Written to" in captured.out
    folder = Path("faithattn-results", "calibration-seed0")
    found = json.loads((folder / "calibration.json").read_text())
    assert list(found["titles"]) == names and "torch" in found["versions"]
    assert {cell["size"] for cell in found["cells"]} == {1, 2}
    assert "| `permutation_test` |" in (folder / "calibration.md").read_text()
    assert (folder / "calibration.png").read_bytes().startswith(b"\x89PNG")

    again = ["calibrate", *SMALL, "--metrics", *names, "--out", "again"]
    assert main(again) == 0
    assert "calibrating" in capsys.readouterr().err
    repeated = json.loads(Path("again", "calibration.json").read_text())
    assert repeated["cells"] == found["cells"]


def test_quick_is_the_default_of_what_is_not_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from faithattn.planted.calibration import measuring

    seen: list[dict[str, object]] = []
    real = measuring.calibrate

    def spy(metrics: object, **options: object) -> object:
        seen.append(options)
        small = {"lengths": (4,), "depths": (0,), "sizes": (1,), "n_pairs": 2}
        return real(["permutation_test"], **(options | small))

    monkeypatch.setattr(measuring, "calibrate", spy)
    for options in ([], ["--quick"], ["--quick", "--pairs", "7", "--seed", "4"]):
        assert main(["calibrate", *options, "--out", str(tmp_path), "--quiet"]) == 0
    capsys.readouterr()
    assert [(call["lengths"], call["n_pairs"], call["seed"]) for call in seen] == [
        ([6, 16, 40], 100, 0), ([6, 16], 40, 0), ([6, 16], 7, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options, said",
    [
        (["--metrics", "tau"], "--metrics must be among gradient_correlation, "),
        (["--pairs", "0"], "--pairs must be at least 1; got 0."),
        (["--lengths", "1"], "--lengths must be at least 2; got 1."),
        (["--sizes", "x"], "'x'"),
        (["--seed", "-1"], "--seed must be at least 0; got -1."),
        (["--threads", "9999"], "--threads must be at most "),
        (["--out", "/dev/null/x"], "--out must be a folder that can be written"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["calibrate", *options])
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    assert captured.err.count("\n") == 1 and said in captured.err
