"""The penalty on attention: value and gradient against slow loops, and what training does of it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from faithattn import jensen_shannon_divergence
from faithattn.adapters.protocol import Run
from faithattn.paper.data.batches import collate_texts
from faithattn.paper.data.examples import Example
from faithattn.paper.data.ids import word_mask
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.log_odds import LogOdds, fit_log_odds
from faithattn.paper.models import TextClassifier
from faithattn.paper.models.attention import masked_softmax
from faithattn.paper.training import attention_penalty, build, evaluate, train_classifier

IDS = torch.tensor([[2, 4, 5, 1, 6, 3], [2, 7, 4, 3, 0, 0], [2, 3, 0, 0, 0, 0]])
LOG_ODDS = LogOdds(
    torch.tensor([[0, 0, 0, 0, 2.0, -1.0, 0.3, -3.0], [0, 0, 0, 0, -0.5, 1.5, 0.1, 1.0]]),
    torch.zeros(2),
    independent=True,
)


def scores(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 6, dtype=torch.float64, generator=generator)


def run_of(each: Tensor) -> Run:
    mask = word_mask(IDS)
    return Run(torch.zeros(3, 1), {"attention": masked_softmax(each, mask)}, mask)


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_value_is_a_loop_over_words(temperature: float) -> None:
    attention = run_of(scores()).attention["attention"]
    strength = [max(abs(row[v]) for row in LOG_ODDS.weights.tolist()) for v in range(8)]
    total = 0.0
    for ids, row in zip(IDS.tolist(), attention.tolist(), strict=True):
        words = [place for place, number in enumerate(ids) if number in (1, 4, 5, 6, 7)]
        raised = {place: math.exp(strength[ids[place]] / temperature) for place in words}
        for place in words:
            target = raised[place] / sum(raised.values())
            total += target * math.log(target / row[place])
    penalty = attention_penalty(LOG_ODDS, 0.7, temperature=temperature)
    assert penalty(IDS, run_of(scores())).item() == pytest.approx(0.7 * total / 3, rel=1e-6)


def test_gradient_is_that_of_finite_differences_and_of_the_formula() -> None:
    penalty = attention_penalty(LOG_ODDS, 0.7)
    each = scores().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: penalty(IDS, run_of(given)), (each,))
    run = run_of(each)
    penalty(IDS, run).backward()
    expected = 0.7 / 3 * (run.attention["attention"] - LOG_ODDS.attention(IDS).double())
    torch.testing.assert_close(each.grad, expected.detach(), atol=1e-7, rtol=1e-6)
    assert each.grad is not None
    assert not each.grad[~word_mask(IDS)].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_however_far_attention_is(dtype: torch.dtype) -> None:
    penalty = attention_penalty(LOG_ODDS, 1000.0)
    for far in (10.0, 60.0, 100.0, 1e4, 1e30):
        each = (scores().sign() * far).to(dtype).requires_grad_()
        value = penalty(IDS, run_of(each))
        value.backward()
        assert value.isfinite() and each.grad is not None and each.grad.isfinite().all()
        assert each.grad.abs().max() > 1  # and still there


def test_zero_only_where_attention_is_equal() -> None:
    penalty = attention_penalty(LOG_ODDS, 1.0)
    target = LOG_ODDS.attention(IDS)
    equal = Run(torch.zeros(3, 1), {"attention": target}, word_mask(IDS))
    assert abs(penalty(IDS, equal).item()) < 1e-6
    for seed in range(20):
        assert penalty(IDS, run_of(scores(seed))) > 1e-3


def test_padding_changes_nothing() -> None:
    penalty = attention_penalty(LOG_ODDS, 1.0)
    row = torch.tensor([[0.0, 0.2, 0.5, 0.3, 0.0]])
    values = []
    for extra in (0, 3):
        ids = nn.functional.pad(torch.tensor([[2, 4, 5, 6, 3]]), (0, extra))
        run = Run(torch.zeros(1, 1), {"a": nn.functional.pad(row, (0, extra))}, word_mask(ids))
        values.append(penalty(ids, run))
    torch.testing.assert_close(values[0], values[1])


FILLERS = ("the", "film", "was", "and", "tonight", "we", "saw", "it")
WORDS = (("bad", "dull"), ("good", "great"))
VOCABULARY = Vocabulary.build([(*FILLERS, *WORDS[0], *WORDS[1])])


def reviews(n: int, seed: int) -> list[Example]:
    rng = random.Random(seed)
    examples = []
    for number in range(n):
        words = [*rng.choices(FILLERS, k=rng.randrange(2, 8)), rng.choice(WORDS[number % 2])]
        rng.shuffle(words)
        examples.append(Example(words, number % 2))
    return examples


def collate(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    return collate_texts(examples, VOCABULARY)


def make() -> TextClassifier:
    return build(
        lambda: TextClassifier(len(VOCABULARY), encoder="average", embedding_size=8, hidden_size=8),
        seed=0,
    )


def fit(model: nn.Module, **options: Any) -> Any:
    given = {"epochs": 3, "batch_size": 8, "learning_rate": 0.02, "progress": False, **options}
    return train_classifier(model, reviews(120, 0), reviews(40, 1), collate=collate, **given)


def test_a_large_weight_teaches_the_attention_and_the_task_as_well() -> None:
    log_odds = fit_log_odds(reviews(120, 0), VOCABULARY, 2)
    test = reviews(40, 2)
    apart = {}
    for weight in (0.0, 20.0):
        model = make()
        dev = [*reviews(40, 1), Example(("good",), 0)]  # one wrong: no early end of training
        train_classifier(
            model, reviews(120, 0), dev, collate=collate, epochs=25, batch_size=8,
            learning_rate=0.02, progress=False, penalty=attention_penalty(log_odds, weight),
        )  # fmt: skip
        ids = collate(test)[0]
        with torch.no_grad():
            learned = model.run(ids).attention["attention"]
        apart[weight] = jensen_shannon_divergence(learned, log_odds.attention(ids)).mean().item()
        assert evaluate(model, test, collate=collate).accuracy == 1
    assert apart[20.0] < 0.002
    assert apart[0.0] > 0.02


def test_weight_zero_is_no_penalty_to_the_bit() -> None:
    log_odds = fit_log_odds(reviews(120, 0), VOCABULARY, 2)
    models = [make(), make(), make()]
    penalties = [None, attention_penalty(log_odds, 0.0), attention_penalty(log_odds, 0.5)]
    records = [fit(m, penalty=p) for m, p in zip(models, penalties, strict=True)]
    plain, zero, half = (model.state_dict() for model in models)
    assert all(value.equal(zero[name]) for name, value in plain.items())
    assert records[0].train_loss == records[1].train_loss
    assert not plain["attention.key.weight"].equal(half["attention.key.weight"])


def test_each_step_is_one_pass_in_the_mode_of_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model, modes = make(), []
    forward = model.encoder.forward

    def watch(*args: Any) -> Tensor:
        modes.append((model.training, torch.is_grad_enabled()))
        return forward(*args)

    monkeypatch.setattr(model.encoder, "forward", watch)
    alike = LogOdds(torch.zeros(1, len(VOCABULARY)), torch.zeros(1))
    fit(model, epochs=1, penalty=attention_penalty(alike, 1.0))
    assert modes == [(False, True)] * 15 + [(False, False)]  # 120 / 8 steps, one dev batch
    assert model.training


def test_penalty_is_part_of_the_training_loss_only() -> None:
    constant = torch.tensor(3.0)
    plain, record = fit(make(), epochs=1), fit(make(), epochs=1, penalty=lambda *_: constant)
    assert record.train_loss[0] == pytest.approx(plain.train_loss[0] + 3, rel=1e-6)
    assert record.dev_loss == plain.dev_loss


def test_what_does_not_fit_is_named() -> None:
    penalty = attention_penalty(LOG_ODDS, 1.0)
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="weight must be finite and not negative; got"):
            attention_penalty(LOG_ODDS, weight)
    with pytest.raises(ValueError, match="temperature must be positive and finite; got 0"):
        attention_penalty(LOG_ODDS, 1.0, temperature=0)(IDS, run_of(scores()))
    with pytest.raises(TypeError, match=r"inputs must be token ids \(B, L\); got dict"):
        penalty({"premise": IDS}, run_of(scores()))
    heads = Run(torch.zeros(3, 1), {"heads": torch.zeros(3, 2, 6, 6)}, word_mask(IDS))
    with pytest.raises(ValueError, match=r"model must have one attention of shape \(B, L\); got"):
        penalty(IDS, heads)
    with pytest.raises(TypeError, match="model must have run, to show its attention"):
        fit(nn.Linear(2, 1), penalty=penalty)
