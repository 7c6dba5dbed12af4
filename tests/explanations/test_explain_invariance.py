"""What must not matter to an explanation: padding, batch, budget, mode, ambient state."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from cases import Case
from small_transformer import IDS, LAYERS, VIEWS, adapted, padded
from torch import Tensor

from faithattn import AdapterError, AttentionView, adapt, explain, memory_budget
from faithattn.explanations.kinds import KINDS

# Frequencies are those of the batch by definition; deletion is tested with its own function.
ELSEWHERE = {"frequency", "leave_one_out", "signed_leave_one_out"}
KIND = pytest.mark.parametrize("kind", sorted(KINDS.keys() - ELSEWHERE))
POOLING = AttentionView("attention")


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6, equal_nan=True)


@KIND
def test_padding_and_batch_of_single_rows(kind: str, case: Case) -> None:
    ids = torch.tensor([4, 9, 2, 7, 5])
    if kind in ("value_norm", "effective") and case.name.startswith("question"):
        with pytest.raises(AdapterError, match="logits must be affine in the chosen rows"):
            explain(case.model, case.inputs, kind=kind)
        inside = adapt(case.model, call=lambda model, inputs: model(inputs))
        case = dataclasses.replace(case, model=inside)
    whole = explain(case.model, case.inputs, kind=kind, instances=ids)
    assert whole.isfinite().all()
    for side in case.sides:
        wider = explain(
            case.model, case.pad(case.inputs, 3, side == "left"), kind=kind, instances=ids
        )
        begin = 3 if side == "left" else 0
        close(wider[:, begin : begin + case.width], whole)
    for rows in ([2], [4, 1]):
        part = explain(case.model, case.take(rows), kind=kind, instances=ids[rows])
        close(part, whole[rows])


@KIND
@pytest.mark.parametrize("causal", [False, True])
def test_padding_and_batch_of_a_transformer(kind: str, causal: bool) -> None:
    adapter, ids = adapted(causal=causal), torch.tensor([3, 1, 8])
    for view in (VIEWS["first token"], VIEWS["everything"]):
        whole = explain(adapter, IDS, kind=kind, view=view, instances=ids)
        assert whole.isfinite().all() and (whole[IDS < 2] == 0).all()
        wider = explain(adapter, padded(IDS, 2), kind=kind, view=view, instances=ids)
        close(wider[:, :6], whole)
        assert (wider[:, 6:] == 0).all()
        alone = explain(adapter, IDS[1:2, :3], kind=kind, view=view, instances=ids[1:2])
        close(alone[0], whole[1, :3])


@pytest.mark.parametrize("kind", ["rollout", "relevance", "value_norm", "effective"])
def test_padding_below_a_pooling_row(kind: str) -> None:
    adapter = adapted(pooling=True)
    whole = explain(adapter, IDS, kind=kind, view=POOLING)
    close(explain(adapter, padded(IDS, 2), kind=kind, view=POOLING)[:, :6], whole)
    close(explain(adapter, IDS[1:2, :3], kind=kind, view=POOLING)[0], whole[1, :3])


@KIND
def test_the_model_and_the_mode_stay_as_they_were(kind: str) -> None:
    adapter, view = adapted(), VIEWS["first token"]
    expected = explain(adapter, IDS, kind=kind, view=view)
    adapter.model.train()
    state = torch.get_rng_state()
    with memory_budget(0.001):
        close(explain(adapter, IDS, kind=kind, view=view), expected)
    with torch.no_grad():
        close(explain(adapter, IDS, kind=kind, view=view), expected)
    with torch.inference_mode():
        close(explain(adapter, IDS, kind=kind, view=view), expected)
    assert adapter.model.training and torch.equal(state, torch.get_rng_state())
    assert not expected.requires_grad
    assert all(each.grad is None and each.requires_grad for each in adapter.model.parameters())
    hooks = [part._forward_hooks for part in adapter.model.modules()]
    assert not any(hooks)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@KIND
def test_an_accelerator_gives_what_the_cpu_gives(kind: str) -> None:
    adapter, view = adapted(), VIEWS["everything"]
    expected = explain(adapter, IDS, kind=kind, view=view)
    adapter.model.cuda()
    found = explain(adapter, IDS.cuda(), kind=kind, view=view)
    assert found.is_cuda
    close(found.cpu(), expected)


@pytest.mark.parametrize("kind", ["gradient_attention", "rollout", "relevance", "value_norm"])
def test_single_precision_agrees(kind: str) -> None:
    adapter, view = adapted(), VIEWS["everything"]
    expected = explain(adapter, IDS, kind=kind, view=view)
    adapter.model.float()
    found = explain(adapter, IDS, kind=kind, view=view)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["attention", "attention_gradient", "value_norm", "effective"])
def test_half_precision_agrees_as_far_as_it_can(kind: str, dtype: torch.dtype) -> None:
    """Rounded values have all ranks there are: what moves nothing must be found all the same."""
    adapter, view = adapted(), AttentionView(LAYERS[0], query=0)
    target = torch.tensor([0, 1, 2])
    expected = explain(adapter, IDS, kind=kind, view=view, target=target)
    adapter.model.to(dtype)
    found = explain(adapter, IDS, kind=kind, view=view, target=target)
    assert found.dtype == torch.float32
    atol = 12 * torch.finfo(dtype).eps * float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, atol=atol, rtol=0)
