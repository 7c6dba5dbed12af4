"""Planted models G to J: what each test must say about models that were trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from faithattn import (
    Planted,
    adversarial_attention,
    check_adapter,
    gradient_correlation,
    kendall_tau,
    leave_one_out_importance,
    loo_correlation,
    permutation_test,
    permute_attention,
    planted,
    rank_correlation,
)


@pytest.fixture(scope="module")
def honest() -> Planted:
    return planted.deceptive(penalty=0)


@pytest.fixture(scope="module")
def deceptive() -> Planted:
    return planted.deceptive()


@pytest.fixture(scope="module")
def bag() -> Planted:
    return planted.contextual(encoder="average")


@pytest.fixture(scope="module")
def recurrent() -> Planted:
    return planted.contextual()


def mass(case: Planted) -> Tensor:
    """Attention on the evidence, (B,)."""
    attention = case.model.run(case.inputs).attention["attention"].detach()
    return (attention * case.evidence).sum(-1)


def first(case: Planted, scores: Tensor) -> float:
    """Precision@1: how often the evidence has the largest score."""
    return float((scores.argmax(-1) == case.evidence.int().argmax(-1)).double().mean())


def test_g_honest_attention_is_on_the_evidence(honest: Planted) -> None:
    assert float(mass(honest).mean()) > 0.4
    result = gradient_correlation(*honest)
    assert first(honest, result.importance) > 0.8
    assert first(honest, leave_one_out_importance(*honest)) == 1
    assert float(permutation_test(*honest, seed=0).median_tvd.mean()) > 0.15


def test_g_deceptive_attention_hides_what_the_output_needs(deceptive: Planted) -> None:
    assert float(mass(deceptive).max()) < 0.01
    removed = loo_correlation(*deceptive)
    assert float(removed.importance[deceptive.evidence].min()) > 0.4
    assert first(deceptive, removed.importance) == 1
    assert first(deceptive, removed.explanation) == 0


def test_g_deceptive_attention_does_not_matter(honest: Planted, deceptive: Planted) -> None:
    shuffled, open_ = (permutation_test(*case, seed=0) for case in (deceptive, honest))
    assert float(shuffled.median_tvd.mean()) < float(open_.median_tvd.mean()) / 3
    far, near = (adversarial_attention(*case, seed=0).max_jsd for case in (deceptive, honest))
    assert float(far.mean()) > 0.6 > float(near.mean()) + 0.1
    # Setting a weight to 0 asks attention about itself, and hears what attention says.
    masked = loo_correlation(*deceptive, removal="mask_attention")
    assert float(masked.statistic.mean()) > 0.6
    assert first(deceptive, masked.importance) == 0


def test_g_both_are_right_about_the_class(honest: Planted, deceptive: Planted) -> None:
    assert torch.equal(honest.inputs, deceptive.inputs)
    classes = (honest.inputs[honest.evidence] - 64) // 2
    for case in (honest, deceptive):
        predicted = case.model(case.inputs)[:, 0] > 0
        assert torch.equal(predicted.long(), classes)


def test_h_tau_falls_where_states_hold_other_words(bag: Planted, recurrent: Planted) -> None:
    assert torch.equal(bag.inputs, recurrent.inputs)
    alone, mixed = (gradient_correlation(*case).statistic.mean() for case in (bag, recurrent))
    assert float(alone) > 0.8
    assert float(mixed) < float(alone) - 0.15
    removed = [loo_correlation(*case).statistic.mean() for case in (bag, recurrent)]
    assert float(removed[1]) < float(removed[0])
    shuffled = [permutation_test(*case, seed=0).median_tvd.mean() for case in (bag, recurrent)]
    assert float(shuffled[1]) < float(shuffled[0])


def test_h_the_bag_of_words_finds_the_teachers_attention(bag: Planted, recurrent: Planted) -> None:
    alone, mixed = (
        kendall_tau(
            case.model.run(case.inputs).attention["attention"].detach().double(), case.truth.abs()
        ).statistic.mean()
        for case in (bag, recurrent)
    )
    assert float(alone) > 0.8
    assert float(alone) > float(mixed) + 0.1


@pytest.mark.parametrize("test", [gradient_correlation, loo_correlation])
def test_i_random_weights_agree_no_better_than_shuffled_ones(test: Callable[..., object]) -> None:
    gains = []
    for seed in range(30):
        result = test(*planted.random_weights(size=15, seed=seed))
        shuffled = permute_attention(
            result.explanation, mask=result.mask, n_permutations=10, seed=0
        ).flatten(0, 1)
        importance, mask = (
            each.repeat_interleave(10, 0) for each in (result.importance, result.mask)
        )
        matched = rank_correlation(shuffled, importance, mask=mask).statistic
        gains.append(result.statistic.nanmean() - matched.nanmean())
    found = torch.stack(gains)
    assert abs(float(found.mean())) < 3 * float(found.std()) / len(found) ** 0.5
    assert float(found.std()) < 0.15  # else the bound above would hold of anything


def test_i_random_weights_hardly_use_their_attention() -> None:
    case = planted.random_weights()
    assert float(permutation_test(*case, seed=0).median_tvd.max()) < 1e-3
    assert float(adversarial_attention(*case, seed=0).max_jsd.min()) > 0.5


@pytest.mark.parametrize("encoder, by_gradient", [("bilstm", 0.8), ("average", 0.5)])
def test_j_the_shortcut_is_found(encoder: str, by_gradient: float) -> None:
    case = planted.shortcut(encoder=encoder)
    shortcut = case.inputs[case.evidence] - 64
    assert torch.equal((case.model(case.inputs)[:, 0] > 0).long(), shortcut)
    for removal in ("delete", "zero_embedding"):
        assert first(case, leave_one_out_importance(*case, removal=removal)) == 1
    attention = gradient_correlation(*case)
    assert first(case, attention.importance) > by_gradient
    assert first(case, attention.explanation) > 0.9
    # Without it the words decide, and they say the other class.
    places = case.evidence.int().argmax(-1)
    without = case.model.remove(case.inputs, places)
    turned = (case.model(case.inputs)[:, 0] > 0) != (case.model(without)[:, 0] > 0)
    assert float(turned.double().mean()) > 0.8


def test_the_same_seed_gives_the_same_model_and_nothing_global_is_drawn(honest: Planted) -> None:
    state = torch.random.get_rng_state()
    again = planted.deceptive(size=7, penalty=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    for one, other in zip(honest.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not again.model.training
    check_adapter(*again)
    first_texts, others = (planted.random_weights(seed=seed).inputs for seed in (0, 1))
    assert not torch.equal(first_texts, others)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"penalty must be 0 or more; got -1. Pass 0"):
        planted.deceptive(penalty=-1)
    with pytest.raises(ValueError, match="encoder must be one of average, bilstm; got 'cnn'"):
        planted.contextual(encoder="cnn")
    with pytest.raises(ValueError, match="length must be at least 2; got 1"):
        planted.shortcut(length=1)
    with pytest.raises(ValueError, match="seed must be at least 0; got -1"):
        planted.random_weights(seed=-1)
