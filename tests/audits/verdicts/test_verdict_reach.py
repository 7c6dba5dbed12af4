"""How far any attention can go, against SciPy and against every corner."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from faithattn.audits.shares import share_of
from faithattn.audits.verdicts.given import adversary_of_values, evidence_of_values
from faithattn.audits.verdicts.reach import farthest, reach
from faithattn.statistics import describe


@pytest.mark.parametrize("length", [2, 3, 7, 40])
def test_the_farthest_corner_is_that_of_the_least_weight(length: int) -> None:
    rows = np.random.default_rng(length).dirichlet(np.ones(length), 20)
    rows[0] = np.eye(length)[0]
    rows[1] = 1 / length
    corners = np.array([[jensenshannon(row, one) ** 2 for one in np.eye(length)] for row in rows])
    assert farthest(rows.min(-1)) == pytest.approx(corners.max(-1), abs=1e-12)


def test_only_the_corner_itself_is_unhindered() -> None:
    far = farthest(np.full(6, 0.01))
    short = np.array([1, 1 - 0.9e-4, 1 - 1.1e-4, 0.5, 1, 1])
    found = reach(short * far, far, far, np.array([40, 40, 40, 40, 2, 3]))
    assert found.unhindered == pytest.approx([1, 1, 0, 0, np.nan, 1], nan_ok=True)
    assert found.bound == pytest.approx([1, 1, 1, 1, np.nan, 1], nan_ok=True)


def test_long_texts_are_asked_more_exactly() -> None:
    """Two positions against each other come close to a corner, and are not the corner."""
    length = 400
    scores = np.where(np.arange(length) % 2, 1.0, -1.0)
    attention = np.full(length, 1 / length)
    pair = np.zeros(length)
    pair[:2] = 0.5
    assert pair @ scores == attention @ scores == 0  # the same output
    one = jensenshannon(attention, pair) ** 2
    far = farthest(np.array([1 / length]))
    assert 0.98 < one / far[0] < 0.99
    assert reach(np.array([one]), far, far, np.array([length])).unhindered == 0
    almost = far * (1 - 2e-5)
    assert reach(almost, far, far, np.array([length])).unhindered == 0
    assert reach(almost, far, far, np.array([40])).unhindered == 1


def test_undefined_stays_undefined() -> None:
    far = np.array([0.5, 0.0])
    found = reach(np.array([np.nan, 0.0]), far, far, np.array([5, 5]))
    assert np.isnan(found.unhindered).all() and np.isnan(found.bound).all()


def test_shares_have_wilsons_interval() -> None:
    z = 1.959963984540054
    found = share_of(np.array([1.0] * 12 + [0.0] * 3 + [np.nan]))
    middle = (12 + z * z / 2) / (15 + z * z)
    half = z * np.sqrt(12 * 3 / 15 + z * z / 4) / (15 + z * z)
    assert (found.n, found.undefined, found.mean) == (16, 1, 0.8)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert np.isnan(share_of(np.array([np.nan])).mean)


def test_shares_that_do_not_vary_by_cluster_are_of_as_many_instances_as_clusters() -> None:
    for ones, clusters in ((20, 2), (15, 5), (0, 4)):
        values = (np.arange(20) < ones).astype(float)
        found = share_of(values, clusters=np.arange(20) % clusters)
        alike = np.arange(clusters) < round(found.mean * clusters)
        assert (found.low, found.high) == (
            share_of(alike.astype(float)).low,
            share_of(alike.astype(float)).high,
        )
        assert found.low < 0.75  # what a verdict asks for
    values = np.array([1.0, 1, 1, 0, 1, 0, 1, 1, np.nan])
    numbers = np.arange(9) // 3
    described = describe(values, clusters=numbers)
    assert share_of(values, clusters=numbers) == described and described.low < described.high
    assert np.isnan(share_of(np.ones(5), clusters=np.zeros(5, int)).low)
    assert share_of(values, clusters=np.arange(9)) == share_of(values)


def test_evidence_from_values() -> None:
    values = torch.tensor([0.1, 0.2, torch.nan])
    found = evidence_of_values(
        "gradient_correlation", values, view="layer 1", ceiling=values, settings={"output": "x"}
    )
    assert (found.view, found.quantity) == ("layer 1", "tau with gradients")
    assert (found.overall.n, found.overall.undefined) == (3, 1)
    assert found.ceiling == found.overall and found.caution and found.settings == {"output": "x"}
    own = evidence_of_values("own", np.ones(3), further={"more": np.zeros(3)})
    assert (own.quantity, own.caution, own.further["more"].mean) == ("own", "", 0)
    far = farthest(np.full(20, 0.1))
    adversary = adversary_of_values(far, far, far, np.full(20, 10), view="v")
    assert adversary.view == "v" and not adversary.larger_is_faithful
    assert adversary.further["unhindered"].low == share_of(np.ones(20)).low
    assert adversary.further["bound"].low == 1
