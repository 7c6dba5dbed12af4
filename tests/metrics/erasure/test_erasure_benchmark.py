"""The loops that erasure is timed against compute what it computes."""

from __future__ import annotations

import torch

from faithattn import erasure_to_flip
from tests.benchmarks import data, erasure


def test_the_loops_find_the_same_flips() -> None:
    model, ids = data.classifier(small=True), data.sst_like(3, 8)[1]
    batch = erasure.encoded(model, ids)
    scores = erasure.order_scores(batch)
    names = ("attention", "attention_gradient", "gradient_attention", *scores[3:])
    ours = erasure_to_flip(model, ids, orders=names).count.nan_to_num(0).T
    for steps in (erasure.text_by_text, erasure.whole_batches):
        assert torch.equal(erasure.to_flip(batch, steps), ours.long())
    assert torch.equal(erasure._forwards(model, ids), ours[0].long())
    assert len(ours.unique()) > 4
