"""The planted model that uses its attention to a known degree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn import (
    check_adapter,
    gradient_correlation,
    leave_one_out_importance,
    loo_correlation,
    permutation_test,
)
from faithattn.planted import Compensating, compensating

SHARES = (0.0, 0.3, 0.7, 1.0)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("unused", [0.0, 0.4, 1.0])
def test_it_keeps_the_contract(depth: int, unused: float) -> None:
    check_adapter(*compensating(4, 6, depth=depth, unused=unused))


@settings(max_examples=20, deadline=None)
@given(depth=st.integers(0, 4), length=st.integers(1, 20), seed=st.integers(0, 1000))
def test_outputs_do_not_depend_on_what_is_unused(depth: int, length: int, seed: int) -> None:
    first, *others = (
        compensating(3, length, unused=share, depth=depth, seed=seed) for share in SHARES
    )
    logits = first.model.run(first.inputs).logits
    for case in others:
        assert torch.equal(case.inputs, first.inputs)
        torch.testing.assert_close(case.model.run(case.inputs).logits, logits)
        torch.testing.assert_close(case.truth, first.truth)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("unused", [0.0, 0.6])
def test_the_truth_is_what_the_logit_loses_with_a_value(depth: int, unused: float) -> None:
    case = compensating(5, 7, depth=depth, unused=unused)
    run = case.model.run(case.inputs)
    logits, vectors = run.logits[:, 0].detach(), run.features["embedding"].detach()
    towards = logits.sign()
    for position in range(7):
        changed = vectors.clone()
        changed[:, position, 2] = 0
        lost = logits - case.model.run(case.inputs, features={"embedding": changed}).logits[:, 0]
        torch.testing.assert_close(towards * lost, case.truth[:, position])
    torch.testing.assert_close(case.truth.sum(-1), logits.abs())


@pytest.mark.parametrize("unused", SHARES)
def test_other_attention_moves_the_logit_by_what_is_used(unused: float) -> None:
    used = compensating(5, 8, unused=0.0)
    case = compensating(5, 8, unused=unused)
    run = case.model.run(case.inputs)
    other = run.attention["attention"].roll(1, -1).detach()
    moved = case.model.replay(run.state, {"attention": other[None]})[0] - run.logits
    values = used.model.run(used.inputs).state[..., 0]
    expected = (1 - unused) * ((other - run.attention["attention"]) * values).sum(-1)
    torch.testing.assert_close(moved[:, 0], expected)


def test_padding_changes_nothing() -> None:
    case = compensating(4, 6, depth=2, unused=0.5)
    padded = torch.nn.functional.pad(case.inputs, (0, 3))
    run, wide = case.model.run(case.inputs), case.model.run(padded)
    torch.testing.assert_close(wide.logits, run.logits)
    torch.testing.assert_close(wide.attention["attention"][:, :6], run.attention["attention"])
    assert wide.mask.sum() == run.mask.sum()
    torch.testing.assert_close(case.model.truth(padded)[:, :6], case.truth)


def test_without_mixing_deletion_is_running_the_shorter_text() -> None:
    case = compensating(3, 5)
    importance = leave_one_out_importance(*case)
    before = case.model(case.inputs).sigmoid()
    for position in range(5):
        rest = [place for place in range(5) if place != position]
        after = case.model(case.inputs[:, rest]).sigmoid()
        torch.testing.assert_close(importance[:, position], (after - before).abs()[:, 0].detach())


def test_the_less_is_used_the_less_tests_find() -> None:
    cases = [compensating(150, 12, unused=share) for share in SHARES]
    shuffled = [float(permutation_test(*case, seed=0).median_tvd.mean()) for case in cases]
    assert shuffled == sorted(shuffled, reverse=True)
    assert shuffled[-1] < 1e-12 and shuffled[0] > 0.05
    for test in (gradient_correlation, loo_correlation):
        taus = [float(test(*case).statistic.mean()) for case in cases]
        assert taus == sorted(taus, reverse=True) and taus[0] > 0.6
        assert abs(taus[-1]) < 0.1
    masked = [
        float(loo_correlation(*case, removal="mask_attention").statistic.mean()) for case in cases
    ]
    assert (
        masked[-1] == pytest.approx(1) and masked[0] < 0.95
    )  # the wrong way, as calibration shows


def test_attention_is_as_peaked_whatever_is_unused() -> None:
    peaks = [
        case.model.run(case.inputs).attention["attention"].amax(-1).mean().item()
        for case in (compensating(2000, 12, unused=share) for share in SHARES)
    ]
    assert max(peaks) - min(peaks) < 0.03


def test_bad_options_are_refused() -> None:
    for unused in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"unused must lie in 0..1; got"):
            Compensating(unused=unused)
    with pytest.raises(ValueError, match="depth must be at least 0; got -1"):
        compensating(depth=-1)


def test_a_word_alone_is_not_mixed() -> None:
    ids = torch.tensor([[4], [250]])
    plain, mixed = (Compensating(depth=depth) for depth in (0, 2))
    for model in (plain, mixed):
        values = model.embedding.weight[ids[:, 0], 2]
        torch.testing.assert_close(model(ids)[:, 0], 3 * values)
        torch.testing.assert_close(model.truth(ids)[:, 0], 3 * values.abs())
