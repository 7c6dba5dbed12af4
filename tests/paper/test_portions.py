"""Batches larger than the memory budget: the step is the same, and so is what is measured."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from faithattn import memory_budget
from faithattn.paper.data.batches import collate_texts
from faithattn.paper.data.examples import Example
from faithattn.paper.data.portions import portions
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build, evaluate, train_classifier

VOCABULARY = Vocabulary.build([["good", "bad", "film"]])
collate = partial(collate_texts, vocabulary=VOCABULARY)


def reviews(n: int) -> list[Example]:
    """Every fortieth is much longer than the others."""
    return [
        Example((("bad", "good")[row % 2],) + ("film",) * (300 if row % 40 == 7 else row % 9),
                row % 2)
        for row in range(n)
    ]  # fmt: skip


@given(
    st.lists(st.integers(1, 400), max_size=60), st.integers(1, 70), st.sampled_from([0.05, 1, 256])
)
def test_portions_cover_all_and_fit(lengths: list[int], most: int, megabytes: float) -> None:
    with memory_budget(megabytes):
        found = portions(lengths, most)
    assert [place for part in found for place in part] == list(range(len(lengths)))
    for part in found:
        assert 1 <= len(part) <= most
        size = 4 * 3000 * len(part) * max(lengths[part.start : part.stop])
        assert len(part) == 1 or size <= megabytes * 2**20
    for part, following in itertools.pairwise(found):
        joined = range(part.start, following.start + 1)
        size = 4 * 3000 * len(joined) * max(lengths[joined.start : joined.stop])
        assert len(part) == most or size > megabytes * 2**20


def test_a_batch_in_portions_takes_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> TextClassifier:
        return build(
            lambda: TextClassifier(len(VOCABULARY), embedding_size=6, hidden_size=4), seed=0
        ).double()

    whole, parts, sizes = make(), make(), []
    forward = parts.forward

    def counted(ids: Tensor) -> Tensor:
        sizes.append(len(ids))
        return forward(ids)

    monkeypatch.setattr(parts, "forward", counted)

    def fit(model: TextClassifier) -> tuple[float, ...]:
        record = train_classifier(
            model, reviews(41), reviews(20), collate=collate, epochs=2, batch_size=41,
            progress=False,
        )  # fmt: skip
        return (*record.train_loss, *record.dev_loss)

    one = fit(whole)
    with memory_budget(0.2):
        two = fit(parts)
    assert max(sizes) < 41 and min(sizes) == 1
    assert one == pytest.approx(two, rel=1e-9)
    for mine, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-9)
    with memory_budget(0.2):
        small = evaluate(whole, reviews(90), collate=collate)
    large = evaluate(whole, reviews(90), collate=collate)
    assert (small.accuracy, small.macro_f1) == (large.accuracy, large.macro_f1)
    assert small.loss == pytest.approx(large.loss, rel=1e-9)
