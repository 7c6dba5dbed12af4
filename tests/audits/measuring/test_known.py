"""What is known of instances: labels, clusters, the text of positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from faithattn.audits.batch import Batch
from faithattn.audits.measuring.known import clusters_of, labels_of
from faithattn.audits.measuring.measure import measure
from faithattn.audits.measuring.plan import Plan
from faithattn.audits.part import Part
from tests.adapters.plain_modules import Plain

IDS = torch.tensor([[5, 6, 7, 8], [4, 9, 0, 0], [10, 11, 3, 0]])
PLAN = Plan.of("single_weight_erasure")


def part(**known: Any) -> Part:
    return measure(Plain(), Batch(IDS, **known), torch.tensor([4, 8, 9]), PLAN, number=2)


def test_what_is_unknown_is_minus_one() -> None:
    columns = part().columns
    assert columns["instance"].tolist() == [4, 8, 9]
    assert columns["batch"].tolist() == [2, 2, 2]
    assert columns["label"].tolist() == columns["cluster"].tolist() == [-1, -1, -1]
    assert set(columns["predicted"].tolist()) <= {0, 1}
    assert columns["length"].tolist() == [4, 2, 3]
    assert part().tokens is None


def test_labels_and_clusters_are_kept() -> None:
    columns = part(labels=torch.tensor([1, 0, 1]), clusters=["a", "b", "a"]).columns
    assert columns["label"].tolist() == [1, 0, 1]
    first, second, third = columns["cluster"].tolist()
    assert first == third != second and min(first, second) >= 0


def test_the_number_of_a_cluster_depends_on_its_name_alone() -> None:
    names = [f"document {number}" for number in range(2000)]
    numbers = clusters_of(names, len(names))
    assert len(set(numbers.tolist())) == len(names) and (numbers >= 0).all()
    assert np.array_equal(clusters_of(names[::-1], len(names)), numbers[::-1])
    assert clusters_of(torch.tensor([7, 0]), 2).tolist() == [7, 0]
    assert clusters_of(np.array([7, 0]), 2).tolist() == [7, 0]
    assert clusters_of(["\ud800", ""], 2).min() >= 0  # names as data hold them
    assert clusters_of([-1], 1)[0] >= 0  # a name of the user's, not an unknown one
    assert clusters_of(["5"], 1)[0] != 5
    assert clusters_of([2**63 - 1], 1)[0] == 2**63 - 1
    first, second = clusters_of([2**63, 2**64], 2)  # numbers of 64 bits, such as hashes
    assert first != second and min(first, second) >= 0


@pytest.mark.parametrize("kind", ["row", "mask"])
def test_texts_are_those_of_the_positions(kind: str) -> None:
    rows = [[f"w{number}" for number in row.tolist()] for row in IDS]
    kept = [[text for text in row if text != "w0"] for row in rows]
    assert part(tokens=rows if kind == "row" else kept).tokens == tuple(map(tuple, kept))


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"labels": [1, 0]}, "labels must hold one value for each of the 3 instances; got 2"),
        ({"labels": 1}, "labels must hold one value for each of the 3 instances; got int"),
        ({"clusters": "abc"}, "clusters must hold one value for each of the 3 instances"),
        ({"tokens": [["a"] * 4]}, "tokens must hold a list for each of the 3 instances; got 1"),
        (
            {"tokens": [["a"] * 4, ["a"] * 3, ["a"] * 4]},
            "tokens must hold 4 texts an instance, one a position of the mask, or the 2 of its "
            "real positions; got 3 for instance 1 of the batch",
        ),
        ({"tokens": [["a"] * 4, "ab", ["a"] * 4]}, "tokens must hold .* got 2 for instance 1"),
    ],
)
def test_what_does_not_fit_is_said(known: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part(**known)


def test_other_kinds_are_refused() -> None:
    with pytest.raises(TypeError, match=r"labels must be whole numbers; got 0\.5\. Number"):
        labels_of([0.5], 1)
    with pytest.raises(TypeError, match="labels must be whole numbers; got 'a'"):
        labels_of(["a"], 1)
    with pytest.raises(TypeError, match=r"clusters must be whole numbers or names; got \(1, 2\)"):
        clusters_of([(1, 2)], 1)
    with pytest.raises(TypeError, match="clusters must be whole numbers or names; got True"):
        clusters_of([True], 1)
