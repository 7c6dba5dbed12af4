"""Pairs of known relative faithfulness."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn.planted.calibration.pairs import make_setting, spoiled


@given(length=st.integers(2, 30), share=st.floats(0.01, 1), seed=st.integers(0, 1000))
def test_spoiled_scores_change_places(length: int, share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, length, generator=generator)
    order = torch.rand(3, length, generator=generator).argsort(-1)
    changed = spoiled(scores, order, share)
    assert torch.equal(changed.sort(-1).values, scores.sort(-1).values)
    moved = (changed != scores).sum(-1)
    assert moved.tolist() == [max(2, round(share * length))] * 3
    assert torch.equal(spoiled(scores, order, 0.0), scores)


@settings(max_examples=10)
@given(length=st.integers(4, 20), seed=st.integers(0, 1000))
def test_a_larger_contrast_spoils_what_a_smaller_one_does(length: int, seed: int) -> None:
    options = {"n_pairs": 3, "most": 2, "seed": seed}
    made = make_setting(length, 0, contrasts=(0.3, 1.0), **options)
    truth, less, more = (made.explanations[share] for share in (0.0, 0.3, 1.0))
    assert ((less != truth) <= (more != truth)).all()
    assert len(made.ids) == 6 and made.ids.shape[1] == length
    assert all(len(set(row)) == length for row in made.ids.tolist())


def test_the_models_of_a_setting_agree_on_every_output() -> None:
    made = make_setting(9, 2, contrasts=(0.3, 1.0), n_pairs=20, most=3, seed=0)
    used, *others = (model.run(made.ids).logits for model in made.models.values())
    for logits in others:
        torch.testing.assert_close(logits, used)
    assert len({model.unused for model in made.models.values()}) == 3
