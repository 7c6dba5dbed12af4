"""Agreement of removals against SciPy, and beside the curves it takes over."""

from __future__ import annotations

from typing import Any

import planted
import pytest
import torch
from cases import Case
from scipy import stats

from faithattn import (
    RemovalAgreement,
    leave_one_out_importance,
    mask_token,
    removal_agreement,
    removal_curves,
)


def test_each_pair_of_removals(text_case: Case) -> None:
    model, ids = text_case.model, text_case.inputs
    removals: tuple[Any, ...] = ("delete", "mean_embedding", mask_token(5))
    found = removal_agreement(model, ids, removals=removals)
    assert found.removals == ("delete", "mean_embedding", "mask_token(5)")
    importance = [leave_one_out_importance(model, ids, removal=each) for each in removals]
    real = (ids > 3) | (ids == 1)
    for row in range(text_case.size):
        for i, first in enumerate(importance):
            for j, second in enumerate(importance):
                wanted = stats.kendalltau(first[row][real[row]], second[row][real[row]]).statistic
                assert float(found.tau[row, i, j]) == pytest.approx(wanted, abs=1e-9)
    for number, each in enumerate(removals):
        curves = removal_curves(model, ids, removal=each)
        torch.testing.assert_close(
            found.aopc_comprehensiveness[:, number], curves.aopc_comprehensiveness
        )
        torch.testing.assert_close(found.aopc_sufficiency[:, number], curves.aopc_sufficiency)
    pairs = found.tau[:, [0, 0, 1], [1, 2, 2]]
    torch.testing.assert_close(found.agreement, pairs.mean(-1))
    torch.testing.assert_close(found.mean_tau, found.tau.mean(0))


def test_removals_that_disagree_by_construction() -> None:
    """The toy of definitions.md: tau with attention is 1 without renormalising, 1/3 with."""
    weights = torch.tensor([[0.45, 0.40, 0.15]]).double()
    inputs = planted.whole(weights, torch.tensor([[1.0, -1.0, 1.0]]).double())
    found = removal_agreement(
        planted.Linear(), inputs, removals=("mask_attention", "mask_attention_renormalize")
    )
    assert found.tau[0].flatten().tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1])


def test_undefined_taus_are_counted() -> None:
    weights = planted.rows(3, 5)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 1:] = False
    weights = weights * mask / (weights * mask).sum(-1, keepdim=True)
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()
    inputs = (weights, scores, mask)
    found = removal_agreement(
        planted.Linear(), inputs, removals=("mask_attention", "zero_embedding")
    )
    assert found.undefined.tolist() == [[1, 1], [1, 1]]
    assert found.mean_tau.flatten().tolist() == pytest.approx([1.0] * 4)
    summary = found.summary()
    assert summary.overall.undefined == 1
    assert summary.notes["undefined, mask_attention and zero_embedding"] == 1
    joined = RemovalAgreement.concatenate([found, found])
    assert joined.undefined.tolist() == [[2, 2], [2, 2]] and joined.importance.shape == (6, 2, 5)


def test_effects_that_differ_by_rounding_are_tied() -> None:
    weights = planted.rows(4, 6)
    inputs = planted.whole(weights, 0.3 / weights)  # every position does .3, but for rounding
    found = removal_agreement(
        planted.Linear(), inputs, removals=("mask_attention", "zero_embedding")
    )
    assert (found.importance != 0.3).any()
    assert found.tau.isnan().all()


def test_bad_arguments(text_case: Case) -> None:
    for bad in (("delete",), ("delete", "delete")):
        with pytest.raises(ValueError, match="removals must be two or more different ones; got"):
            removal_agreement(text_case.model, text_case.inputs, removals=bad)
    with pytest.raises(TypeError, match="removals must be a sequence of removals; got str"):
        removal_agreement(text_case.model, text_case.inputs, removals="delete")
