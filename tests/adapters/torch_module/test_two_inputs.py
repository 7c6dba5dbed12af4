"""Two texts: two features, two sites, each with the padding of its own text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from odd_modules import (
    CLOSE,
    FULL,
    IDS,
    QUESTIONS,
    REAL,
    Called,
    Words,
    changes,
    gradients,
)
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    adapt,
    check_adapter,
    gradient_correlation,
    loo_correlation,
)

LONG_QUESTIONS = torch.tensor([[5, 6, 1, 2, 0], [4, 0, 0, 0, 0], [3, 2, 3, 3, 3]])


class Asked(Words):
    """Attention to the words of the second text, or to both; a table for each, or one."""

    def __init__(self, *, shared: bool = False, both: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(9)
            own = nn.Embedding(7, self.word.embedding_dim, padding_idx=0).double()
        self.asked = self.word if shared else own
        self.both = both

    def decide_two(self, words: Tensor, asked: Tensor, real: Tensor, asked_real: Tensor) -> Tensor:
        pooled = (words * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        first = self.decide(words, real) if self.both else 0
        return first + self.decide(asked * (1 + pooled[:, None]), asked_real)

    def forward(self, text: Tensor, question: Tensor) -> Tensor:
        return self.decide_two(self.word(text), self.asked(question), text != 0, question != 0)


@pytest.mark.parametrize("questions", [QUESTIONS, LONG_QUESTIONS, IDS.clamp_max(6)])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["tuple", "mapping"])
def test_attention_to_the_second_text(questions: Tensor, shared: bool, kind: str) -> None:
    """As long as the first or not, of other content or the same."""
    model = Asked(shared=shared)
    inputs = (IDS, questions) if kind == "tuple" else {"text": IDS, "question": questions}
    adapter = adapt(model)
    run = adapter.run(inputs)
    names = ["word", "word#1"] if shared else ["word", "asked"]
    assert list(run.features) == names
    torch.testing.assert_close(run.features[names[0]], model.word(IDS), **CLOSE)
    torch.testing.assert_close(run.features[names[1]], model.asked(questions), **CLOSE)
    mask = run.mask if isinstance(run.mask, Tensor) else run.mask["attention"]
    assert torch.equal(mask, questions != 0)
    check_adapter(adapter, inputs)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("questions", [QUESTIONS, LONG_QUESTIONS])
def test_importance_is_that_of_the_attended_text(questions: Tensor, named: bool) -> None:
    """Where both texts are as long, their padding tells which is attended to."""
    model, inputs = Asked(), (IDS, questions)
    real = questions != 0
    view = AttentionView("attention", feature="asked") if named else None
    found = gradient_correlation(model, inputs, view=view, detach_attention=False)
    for row in range(3):
        alone = slice(row, row + 1)
        words, asked = model.word(IDS[alone]), model.asked(questions[alone])

        def decide(x: Tensor, at: slice = alone, words: Tensor = words) -> Tensor:
            return model.decide_two(words, x, REAL[at], real[at])

        expected = gradients(decide, asked).masked_fill(~real[alone], 0)
        torch.testing.assert_close(found.importance[alone], expected)

        def run(ids: Tensor, at: slice = alone) -> Tensor:
            return model(IDS[at], ids)

        without = changes(run, questions[alone], real[alone])
        if real[alone].sum() > 1:  # nothing is left of a single word
            one = loo_correlation(adapt(model), (IDS[alone], questions[alone]), view=view)
            torch.testing.assert_close(one.importance, without, rtol=1e-7, atol=1e-9)


def test_two_sites_have_two_masks() -> None:
    model = Asked(both=True)
    run = adapt(model).run((IDS, QUESTIONS))
    assert isinstance(run.mask, dict)
    assert torch.equal(run.mask["attention"], REAL)
    assert torch.equal(run.mask["attention#1"], QUESTIONS != 0)
    for site, feature, ids in (("attention", "word", IDS), ("attention#1", "asked", QUESTIONS)):
        result = gradient_correlation(model, (IDS, QUESTIONS), view=AttentionView(site))
        assert result.importance.shape == ids.shape
        run = adapt(model, site=site).run((IDS, QUESTIONS))
        assert list(run.attention) == [site] and run.features[feature].shape[1] == ids.shape[1]
    with pytest.raises(AdapterError, match="view must choose sites of one shape"):
        gradient_correlation(model, (IDS, QUESTIONS), view=AttentionView.mean())


def test_two_texts_of_one_length_keep_their_masks() -> None:
    run = adapt(Asked(both=True)).run((IDS, LONG_QUESTIONS))
    assert isinstance(run.mask, dict)
    assert torch.equal(run.mask["attention"], REAL)
    assert torch.equal(run.mask["attention#1"], LONG_QUESTIONS != 0)


def test_masks_by_name() -> None:
    def masks(inputs: Any) -> dict[str, Tensor]:
        return {"attention": inputs[0] > 3, "asked": inputs[1] > 1}

    run = adapt(Asked(both=True), mask=masks).run((IDS, QUESTIONS))
    assert isinstance(run.mask, dict)
    assert torch.equal(run.mask["attention"], IDS > 3)
    assert torch.equal(run.mask["attention#1"], QUESTIONS > 1)
    with pytest.raises(AdapterError, match="must cover the site 'attention#1' or its feature 'ask"):
        adapt(Asked(both=True), mask=lambda x: {"attention": x[0] > 3}).run((IDS, QUESTIONS))


class Decoder(Words):
    """Each target attends to the source; one table for both."""

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        states, queries = self.states(self.word(source)), self.states(self.word(target))
        scores = (queries @ states.transpose(1, 2)) * 3
        weights = scores.masked_fill((source == 0)[:, None], -1e9).softmax(-1)
        return self.out(weights @ states)[:, -1]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_decoder_that_shares_the_table_of_its_encoder(length: int) -> None:
    target = FULL.flip(1)[:, :length]
    model = Decoder()
    run = adapt(model).run((IDS, target))
    assert {key: each.shape[1] for key, each in run.features.items()} == {
        "word": 5,
        "word#1": length,
    }
    weights = run.attention["attention"]
    assert weights.shape == (3, length, 5)
    mask = run.mask if isinstance(run.mask, Tensor) else run.mask["attention"]
    assert torch.equal(mask, REAL)
    result = gradient_correlation(
        model, (IDS, target), view=AttentionView("attention", query=-1, feature="word")
    )
    torch.testing.assert_close(result.explanation, weights[:, -1].detach(), **CLOSE)


def test_one_text_twice() -> None:
    """The same content, or the very same tensor, in both places."""
    model = Asked(shared=True, both=True)
    for second in (IDS.clone(), IDS):
        run = adapt(model).run((IDS, second))
        assert list(run.features) == ["word", "word#1"]
        assert isinstance(run.mask, Tensor) and torch.equal(run.mask, REAL)
    found = gradient_correlation(
        model,
        (FULL, FULL.clone()),
        view=AttentionView("attention#1", feature="word#1"),
        detach_attention=False,
    )
    for row in range(3):
        text = model.word(FULL[row : row + 1])
        real = torch.ones(1, 5).bool()

        def decide(x: Tensor, text: Tensor = text, real: Tensor = real) -> Tensor:
            return model.decide_two(text, x, real, real)

        torch.testing.assert_close(found.importance[row : row + 1], gradients(decide, text))


def test_a_mapping_with_the_mask_of_one_text() -> None:
    def function(
        model: Words, input_ids: Tensor, attention_mask: Tensor, question: Tensor
    ) -> Tensor:
        first = model.decide(model.word(input_ids), attention_mask.bool())
        return first + model.decide(model.word(question), question != 0)

    inputs = {"input_ids": IDS, "attention_mask": REAL.long(), "question": LONG_QUESTIONS}
    run = adapt(Called(function, padding=None)).run(inputs)
    assert isinstance(run.mask, dict)
    assert torch.equal(run.mask["attention"], REAL)
    assert torch.equal(run.mask["attention#1"], LONG_QUESTIONS != 0)
