"""Verdicts on models whose answer is known; docs/verdicts.md has the same over many seeds."""

from __future__ import annotations

import json

import pytest
import torch

from faithattn.audits.audit import audit
from faithattn.audits.evidence import CONTRADICTS, SUPPORTS
from faithattn.audits.verdicts.judging import judge_all
from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.planted.calibration.verdicts import measuring
from faithattn.planted.calibration.verdicts.cases import CASES
from faithattn.planted.calibration.verdicts.measuring import (
    calibrate_verdicts,
    evidences_of,
    measured,
)
from faithattn.planted.calibration.verdicts.outcome import VerdictCalibration, VerdictCell

NAMED = {case.name: case for case in CASES}
QUICK = (
    "A, 9 positions",
    "B",
    "E",
    "F",
    "used, length 16, depth 0",
    "weakly used, length 16, depth 1",
    "unused, length 16, depth 0",
)


@pytest.fixture(scope="module")
def found() -> VerdictCalibration:
    return calibrate_verdicts(cases=[NAMED[name] for name in QUICK], n_seeds=1, seed=3)


def test_right_with_two_hundred_texts(found: VerdictCalibration) -> None:
    verdicts = {
        (cell.case, cell.test): cell
        for cell in found.of(size=200)
        if cell.answer in ("yes", "no") and cell.right
    }
    assert not any(cell.wrong for cell in found.of(size=200))
    ranks = ("permutation_test", "gradient_correlation", "planted importance")
    for name in ("A, 9 positions", "F", "used, length 16, depth 0"):
        assert {(name, test) for test in ranks} <= verdicts.keys()
    for test in (*ranks, "loo_correlation", "adversarial_attention"):
        assert ("unused, length 16, depth 0", test) in verdicts
    assert ("used, length 16, depth 0", "loo_correlation") in verdicts
    assert {("B", "permutation_test"), ("B", "adversarial_attention")} <= verdicts.keys()
    assert ("E", "planted importance") in verdicts
    # Gradients and weights of 0 agree perfectly with attention that does nothing.
    for test in ("gradient_correlation", "loo_correlation"):
        assert found.of(case="B", test=test, size=200)[0].cannot_tell == 1


def test_weak_use_cannot_be_told_with_twenty_texts(found: VerdictCalibration) -> None:
    weak = found.of(answer="weak", size=20)
    assert len(weak) == 6 and all(cell.cannot_tell == cell.total for cell in weak)


def test_the_lines_matter() -> None:
    lines = Thresholds(least_change=0.9, least_tau=0.99, least_top_effect=0.9)
    case = NAMED["used, length 16, depth 0"]
    strict = calibrate_verdicts(cases=[case], n_seeds=1, sizes=(30,), thresholds=lines)
    assert all(cell.supports == 0 for cell in strict.cells)
    usual = calibrate_verdicts(cases=[case], n_seeds=1, sizes=(30,))
    assert usual.of(test="gradient_correlation")[0].supports == 1
    assert strict.to_dict()["thresholds"]["least_tau"] == 0.99
    json.dumps(strict.to_dict())


def test_fewer_texts_are_the_first_of_more(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.full((40,), 0.5, dtype=torch.float64)
    values[20:] = 0
    names = ("gradient_correlation", "loo_correlation", "ceiling", "single_weight_erasure")
    names += ("permutation_test", "max_jsd", "upper_bound", "smallest", "length")
    monkeypatch.setattr(measuring, "measured", lambda *_, **__: dict.fromkeys(names, values))
    both = calibrate_verdicts(cases=[NAMED["B"]], n_seeds=1, sizes=(40, 20))
    assert {cell.size for cell in both.cells} == {20, 40}
    assert both.of(test="permutation_test", size=20)[0].supports == 1


def test_counts_and_tables() -> None:
    cells = (
        VerdictCell("one", "permutation_test", 20, "yes", 3, 1, 4),
        VerdictCell("two", "permutation_test", 20, "no", 2, 5, 1),
        VerdictCell("three", "permutation_test", 20, "weak", 1, 1, 6),
        VerdictCell("four", "permutation_test", 20, "", 1, 0, 0),
    )
    assert [(cell.right, cell.wrong) for cell in cells] == [(3, 1), (5, 2), (6, 0), (0, 0)]
    text = str(VerdictCalibration(cells, Thresholds(), 0))
    for part in ("37.5 % / 12.5 % / 50 %", "62.5 % / 25 % / 12.5 %", "75 % / 25 % |"):
        assert part in text
    assert "| one | 20 | +3 -1! |" in text and "| four | 20 | +1 |" in text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"n_seeds": 0}, "n_seeds must be"),
        ({"seed": -1}, "seed must be"),
        ({"sizes": (0,)}, "sizes must be"),
        ({"sizes": ()}, "sizes and cases must hold something; got 0 and"),
        ({"cases": ()}, "sizes and cases must hold something; got 2 and 0"),
    ],
)
def test_arguments_are_checked(asked: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate_verdicts(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["A, 9 positions", "B", "used, length 16, depth 0", "unused, length 16, depth 0"]
)
def test_an_audit_concludes_as_the_calibration_did(name: str) -> None:
    """With null bands and controls, which the calibration has not."""
    case = NAMED[name]
    planted = case.make(200, 3)
    removal = "delete" if case.deletes else "mask_attention"
    metrics = {
        "permutation_test": {},
        "gradient_correlation": {},
        "loo_correlation": {"removal": removal},
        "adversarial_attention": {"n_adversaries": 1},
        "single_weight_erasure": {"n_random": None},
    }
    report = audit(planted.model, [planted.inputs], metrics=metrics)
    found = evidences_of(measured(planted, deletes=case.deletes), case.deletes)
    expected = judge_all([found[metric] for metric in metrics], Thresholds())
    for verdict, known in zip(report.verdicts, expected, strict=True):
        assert (verdict.metric, verdict.conclusion) == (known.metric, known.conclusion)
        answer = case.answers.get(verdict.metric)
        assert (answer, verdict.conclusion) not in (("yes", CONTRADICTS), ("no", SUPPORTS))
