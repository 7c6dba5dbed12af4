"""A curve over some positions is not lifted by what was found for a curve over all of them."""

from __future__ import annotations

import torch

from faithattn import Plausible, adversarial_attention, adversarial_frontier
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build


def test_a_curve_over_some_positions_is_their_optimum() -> None:
    model = build(lambda: TextClassifier(30, embedding_size=8, hidden_size=4), seed=0)
    ids = torch.randint(4, 30, (6, 9), generator=torch.Generator().manual_seed(0))
    some = Plausible(positions=torch.arange(9) < 4)
    curves = adversarial_frontier(
        model, ids, epsilons=(0.01, 0.1), constraints=(None, some), seed=0
    )
    for e, epsilon in enumerate(curves.epsilons):
        for q, limits in enumerate((None, some)):
            alone = adversarial_attention(model, ids, epsilon=epsilon, constraints=limits, seed=0)
            assert alone.method == "exact"
            torch.testing.assert_close(curves.max_jsd[:, q, e], alone.max_jsd, atol=1e-6, rtol=0)
    assert bool((curves.max_jsd[:, 1] < curves.max_jsd[:, 0] - 0.1).all())
