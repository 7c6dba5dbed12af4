"""What a run may not be, said before anything is computed from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn import AdapterError, Run
from faithattn.adapters.validate import require_support, run_violations, validate_run

MASK = torch.tensor([[True, True, False], [True, True, True]])


def make_run(**fields: Any) -> Run:
    whole: dict[str, Any] = {
        "logits": torch.tensor([[0.5], [-2.0]]),
        "attention": {"a": torch.tensor([[0.25, 0.75, 0.0], [0.2, 0.3, 0.5]])},
        "mask": MASK,
        "features": {"x": torch.zeros(2, 3, 4)},
    }
    return Run(**{**whole, **fields})


def attention(dtype: torch.dtype, excess: float) -> dict[str, Tensor]:
    return {"a": torch.tensor([[0.5, 0.5 + excess]] * 2, dtype=dtype)}


MASK_OF_TWO = torch.ones(2, 2, dtype=torch.bool)
FINE: dict[str, dict[str, Any]] = {
    "as made": {},
    "no features": {"features": {}},
    "a fully masked row": {"attention": {"a": torch.tensor([[0.0, 0, 0], [0.2, 0.3, 0.5]])}},
    "three dimensions": {"attention": {"a": torch.full((2, 5, 3), 1 / 3)}},
    "four dimensions": {"attention": {"a": torch.full((2, 4, 5, 3), 1 / 3)}},
    "half precision": {"attention": attention(torch.bfloat16, 0.012), "mask": MASK_OF_TWO},
    "float noise": {"attention": attention(torch.float32, 5e-4), "mask": MASK_OF_TWO},
    "masks by site": {"mask": {"a": MASK}},
    "masks by feature": {"mask": {"x": MASK}},
    "support": {"support": {"a": MASK}},
    "support of another site": {"support": {"b": MASK[:1]}},
    "two sites": {
        "attention": {"a": torch.full((2, 3), 1 / 3), "b": torch.full((2, 2, 5), 0.2)},
    },
    # Both are the logit of a class that is excluded; their sum is beyond the largest number.
    "lowest numbers": {"logits": torch.finfo(torch.float64).min * torch.ones(2, 2).double()},
    "lowest numbers, single": {"logits": torch.full((2, 2), torch.finfo(torch.float32).min)},
}


@pytest.mark.parametrize("fields", FINE.values(), ids=FINE)
def test_what_is_fine(fields: dict[str, Any]) -> None:
    validate_run(make_run(**fields))
    assert run_violations(make_run(**fields)) == []


NAN = float("nan")
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "logits list": ({"logits": [1.0]}, "logits must be a floating-point tensor; got list"),
    "logits int": ({"logits": torch.ones(2, 1).int()}, "got torch.int32. Return them before"),
    "logits (B,)": ({"logits": torch.ones(2)}, r"got \(2,\). Reduce or unsqueeze"),
    "empty batch": ({"logits": torch.ones(0, 1)}, r"neither empty; got \(0, 1\)"),
    "logits nan": (
        {"logits": torch.tensor([[1.0], [NAN]])},
        r"logits must be finite; got NaN or infinity in instance 1 \(1 of 2 instances\)",
    ),
    "opposite infinities": (
        {"logits": torch.tensor([[float("inf")], [float("-inf")]])},
        r"in instance 0 \(2 of 2 instances\)",
    ),
    "attention none": ({"attention": {}}, "attention must hold at least one site; got none"),
    "attention tensor": ({"attention": torch.ones(2, 3)}, "must hold at least one site"),
    "attention list": ({"attention": {"a": [1.0]}}, "floating-point tensor; got list"),
    "five dimensions": ({"attention": {"a": torch.ones(2, 1, 1, 1, 3)}}, r"\(2, 1, 1, 1, 3\)"),
    "no keys": ({"attention": {"a": torch.ones(2, 0)}}, r"with B = 2; got \(2, 0\)"),
    "sum single": (
        {"attention": attention(torch.float32, 2e-3), "mask": MASK_OF_TWO},
        r"attention\['a'\] must have rows that sum to 1; got 1.002 in row \(0,\)",
    ),
    "sum half": (
        {"attention": attention(torch.float16, 0.05), "mask": MASK_OF_TWO},
        "must have rows that sum to 1; got 1.05",
    ),
    "sum of one head": (
        {"attention": {"a": torch.tensor([[[0.5, 0.5, 0], [0.5, 0, 0]]] * 2)}},
        r"got 0.5 in row \(0, 1\). Return the weights after normalising",
    ),
    "attention nan": (
        {"attention": {"a": torch.tensor([[NAN] * 3, [1.0, 0, 0]])}},
        r"attention\['a'\] must be finite; .* instance 0 \(1 of 2",
    ),
    "mask (B, 1)": ({"mask": MASK[:, :1]}, r"mask must have shape \(2, 3\), as the keys of 'a'"),
    "mask of ints": ({"mask": MASK.long()}, "mask must be a boolean tensor, .*got torch.int64"),
    "mask list": ({"mask": [1]}, "mask must be a boolean tensor, .*got list"),
    "mask elsewhere": ({"mask": MASK.to("meta")}, "mask must be on the device of the attention"),
    "mask by site": ({"mask": {"a": MASK[:1]}}, r"mask\['a'\] must have shape \(2, 3\); got \(1"),
    "feature of ints": ({"features": {"x": MASK}}, r"features\['x'\] must be a floating-point"),
    "feature (L, E)": ({"features": {"x": torch.ones(3, 4)}}, r"got \(3, 4\). Return the embedded"),
    "feature batch": ({"features": {"x": torch.ones(1, 3, 4)}}, "with B = 2; got .1, 3, 4"),
    "features none": ({"features": None}, "features must be a mapping; got NoneType"),
    "support shape": ({"support": {"a": MASK[:1]}}, r"support\['a'\] must have the shape of the"),
    "support floats": ({"support": {"a": MASK.float()}}, r"support\['a'\] must be a boolean"),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        validate_run(make_run(**fields))
    assert len(run_violations(make_run(**fields))) == 1


def test_what_is_no_run() -> None:
    with pytest.raises(AdapterError, match=r"run must return a faithattn\.Run; got tuple"):
        validate_run((torch.ones(1, 1),))


def test_every_violation_is_listed() -> None:
    run = make_run(mask=MASK.float(), features={"x": torch.ones(2, 3), "y": torch.ones(2, 3)})
    assert [text.split(" must")[0] for text in run_violations(run)] == [
        "mask",
        "features['x']",
        "features['y']",
    ]


def test_values_are_checked_without_touching_the_graph() -> None:
    logits = torch.ones(2, 1, requires_grad=True)
    weights = torch.full((2, 3), 1 / 3, requires_grad=True)
    run = make_run(logits=logits * 2, attention={"a": weights * 1})
    validate_run(run)
    (run.logits.sum() + run.attention["a"].sum()).backward()
    assert logits.grad is not None and weights.grad is not None


def test_support_can_be_left_for_later() -> None:
    run = make_run(support={"a": MASK[:1]})
    validate_run(run, support=False)
    assert run_violations(run, support=False) == []
    with pytest.raises(AdapterError, match=r"support\['a'\] must have the shape"):
        require_support(run, "a")
