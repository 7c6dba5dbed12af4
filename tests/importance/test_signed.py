"""Signed leave-one-out against shortened texts and written-down answers."""

from __future__ import annotations

from collections.abc import Mapping

import planted
import pytest
import torch
from cases import Case, make_case
from torch import Tensor

from faithattn import Run, leave_one_out_importance
from faithattn.importance.removal.operators import REMOVALS
from faithattn.measures.outputs import class_probability, probabilities

CLOSE = {"atol": 1e-12, "rtol": 1e-9}
CHANGES = sorted(set(REMOVALS) - {"mask_token", "resample"})


def outputs(case: Case, inputs: object) -> Tensor:
    run = case.model.run(inputs)
    return probabilities(run.logits, "sigmoid" if run.logits.shape[1] == 1 else "softmax")


@pytest.mark.parametrize("target", [None, 0])
def test_deletion_against_texts_that_are_really_shorter(case: Case, target: int | None) -> None:
    signed = leave_one_out_importance(case.model, case.inputs, target=target, signed=True)
    mask = case.model.run(case.inputs).mask
    assert (signed[~mask] == 0).all()
    for row in range(case.size):
        one = case.take([row])
        before = outputs(case, one)
        kind = "sigmoid" if before.shape[1] == 1 else "softmax"
        predicted = (before[:, 0] > 0.5).long() if kind == "sigmoid" else before.argmax(-1)
        wanted = predicted if target is None else torch.tensor([target])
        for at in mask[row].nonzero()[:, 0].tolist():
            after = outputs(case, case.model.remove(one, torch.tensor([at])))
            expected = class_probability(before, wanted, kind) - class_probability(
                after, wanted, kind
            )
            torch.testing.assert_close(signed[row, at], expected[0], **CLOSE)


@pytest.mark.parametrize("removal", CHANGES)
def test_its_size_is_the_unsigned_importance_of_the_class(case: Case, removal: str) -> None:
    plain = leave_one_out_importance(case.model, case.inputs, removal=removal, target=0)
    signed = leave_one_out_importance(
        case.model, case.inputs, removal=removal, target=0, signed=True
    )
    torch.testing.assert_close(signed.abs(), plain, equal_nan=True, **CLOSE)
    assert (signed < 0).any()


def test_of_one_sigmoid_the_other_class_has_the_opposite_sign() -> None:
    case = make_case("text-bilstm-additive")
    one, other = (
        leave_one_out_importance(case.model, case.inputs, target=target, signed=True)
        for target in (0, 1)
    )
    torch.testing.assert_close(one, -other, **CLOSE)


def test_one_regression_output_is_its_own_class() -> None:
    model, inputs = planted.faithful()
    signed = leave_one_out_importance(model, inputs, removal="mask_attention", signed=True)
    torch.testing.assert_close(signed, inputs[0] * inputs[1], **CLOSE)


def test_draws_of_resampling_keep_their_signs() -> None:
    """What is put in its place may be better or worse: the signed mean is not the larger."""
    case = make_case("text-bilstm-additive")
    plain, signed = (
        leave_one_out_importance(
            case.model, case.inputs, removal="resample", target=1, signed=signed
        )
        for signed in (False, True)
    )
    assert (signed.abs() <= plain + 1e-12).all() and (signed.abs() < plain - 1e-3).any()


def test_several_outputs_without_a_prediction_need_a_target() -> None:
    class Several(planted.Linear):
        def run(self, inputs: planted.Inputs, **options: Mapping[str, Tensor] | None) -> Run:
            one = super().run(inputs, **options)
            return Run(one.logits.expand(-1, 2), one.attention, one.mask)

    model, (attention, scores, mask) = Several(), planted.faithful()[1]
    inputs, options = (attention, scores, mask), {"removal": "mask_attention", "signed": True}
    message = r"target must name an output .* got None for 2 outputs of kind 'identity'"
    with pytest.raises(ValueError, match=message):
        leave_one_out_importance(model, inputs, **options)
