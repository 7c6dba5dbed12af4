"""Whether the statistics are right as often as they say; the whole table has a command.

Tolerances are some three standard errors of the simulation, in which an interval of 90 %, clusters
ignored, uncorrected tests or an effect for power .7 fall outside.
"""

from __future__ import annotations

import pytest

from tests.benchmarks.coverage import (
    bound_coverage,
    cluster_coverage,
    difference_coverage,
    false_discoveries,
    interval_coverage,
    lines,
    power_reached,
    size_of_clustered_test,
    size_of_test,
)


@pytest.mark.parametrize("name", ["normal", "tau-like", "zero-heavy"])
@pytest.mark.parametrize(("size", "replications"), [(20, 600), (2000, 1500)])
def test_intervals_cover(name: str, size: int, replications: int) -> None:
    assert interval_coverage(name, size, replications) == pytest.approx(0.948, abs=0.025)


def test_bounds_cover_on_their_side() -> None:
    for share in bound_coverage("tau-like", 2000, 1500):
        assert share == pytest.approx(0.95, abs=0.018)


def test_clustered_intervals_cover_and_plain_ones_do_not() -> None:
    assert cluster_coverage("normal", 20, 500) == pytest.approx(0.945, abs=0.03)
    assert cluster_coverage("normal", 20, 200, ignored=True) < 0.85


@pytest.mark.parametrize("paired", [True, False])
def test_differences_cover(paired: bool) -> None:
    covered, rejected = difference_coverage(30, paired, 500)
    assert covered == pytest.approx(0.945, abs=0.03)
    assert rejected == pytest.approx(0.05, abs=0.03)


def test_pvalues_reject_the_truth_as_often_as_they_say() -> None:
    assert size_of_test("exponential", 50, 3000) == pytest.approx(0.055, abs=0.013)
    assert size_of_clustered_test("normal", 20, 1000) == pytest.approx(0.055, abs=0.021)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_false_discoveries_are_as_few_as_promised(correlation: float) -> None:
    found = false_discoveries(correlation, 10, 1500)
    assert found <= 0.05
    if not correlation:
        assert found == pytest.approx(0.04, abs=0.0095)  # 40 of 50 are null


def test_the_detectable_effect_is_detected() -> None:
    assert power_reached("normal", 50, 2500) == pytest.approx(0.8, abs=0.025)


def test_the_tables_are_printed() -> None:
    printed = list(lines(1))
    assert sum("---" in line for line in printed) == 6
    assert any(line.startswith("| share .1, Wilson | 1.000*") for line in printed)
