"""Thresholds are numbers in their range, in an order that leaves room between them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from faithattn.audits.verdicts.numbers import number
from faithattn.audits.verdicts.thresholds import Thresholds


def test_defaults_are_plain_values() -> None:
    assert json.loads(json.dumps(Thresholds().to_dict())) == {
        "least_tau": 0.3,
        "most_unrelated_tau": 0.1,
        "least_change": 0.05,
        "most_idle_change": 0.005,
        "least_top_effect": 0.005,
        "least_unhindered": 0.75,
        "most_reach": 0.75,
        "least_instances": 10,
        "most_undefined": 0.25,
        "regression_unit": None,
    }
    assert Thresholds(**Thresholds().to_dict()) == Thresholds()  # type: ignore[arg-type]


def test_the_page_has_the_defaults() -> None:
    page = (Path(__file__).parents[3] / "docs" / "verdicts.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|$", page, re.MULTILINE))
    assert listed == {
        name: "none" if value is None else number(value)
        for name, value in Thresholds().to_dict().items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"least_tau": 1.1}, r"least_tau must be in -1..1; got 1.1"),
        ({"most_unrelated_tau": -1.1}, r"most_unrelated_tau must be in -1..1"),
        ({"most_idle_change": -0.1}, r"most_idle_change must be 0 or more"),
        ({"least_top_effect": -0.1}, r"least_top_effect must be 0 or more"),
        ({"least_unhindered": 1.5}, r"least_unhindered must be in 0..1"),
        ({"most_reach": -0.5}, r"most_reach must be in 0..1"),
        ({"most_undefined": 2}, r"most_undefined must be in 0..1"),
        ({"least_tau": 0.1}, r"most_unrelated_tau must lie below least_tau; got 0.1 and 0.1"),
        ({"least_change": 0.001}, r"most_idle_change must lie below least_change"),
        ({"least_instances": 1}, r"least_instances must be a whole number of at least 2; got 1"),
        ({"least_instances": 10.5}, r"least_instances must be a whole number"),
        ({"regression_unit": 0}, r"regression_unit must be positive; got 0"),
        ({"least_change": float("nan")}, r"least_change must be finite; got nan"),
        ({"least_change": float("inf")}, r"least_change must be finite; got inf"),
    ],
)
def test_numbers_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Thresholds(**change)


@pytest.mark.parametrize("value", ["0.3", True, None])
def test_other_than_numbers(value: Any) -> None:
    with pytest.raises(TypeError, match="least_tau must be a number; got"):
        Thresholds(least_tau=value)
