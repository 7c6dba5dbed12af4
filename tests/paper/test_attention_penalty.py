"""The regulariser that ties attention to log-odds, beside a slow loop, and in training."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from faithattn import jensen_shannon_divergence
from faithattn.paper.data.batches import collate_texts
from faithattn.paper.data.generated import generate
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.log_odds import LogOdds, attention_penalty, fit_log_odds
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build, evaluate, train_classifier

IDS = torch.tensor([[2, 4, 5, 6, 1, 3], [2, 7, 7, 3, 0, 0], [2, 3, 0, 0, 0, 0]])


def made_up() -> LogOdds:
    generator = torch.Generator().manual_seed(1)
    weights = 2 * torch.randn(1, 9, generator=generator, dtype=torch.float64)
    weights[:, :4] = 0
    return LogOdds(weights, torch.zeros(1, dtype=torch.float64))


def classifier(size: int = 9, encoder: str = "bilstm") -> TextClassifier:
    return build(
        lambda: TextClassifier(size, encoder=encoder, embedding_size=8, hidden_size=4), seed=0
    ).double()


def slow(log_odds: LogOdds, weights: Tensor, ids: Tensor) -> list[float]:
    """KL(log-odds || learned) of each row, one word at a time."""
    found = []
    for row, text in zip(weights.tolist(), ids.tolist(), strict=True):
        places = [place for place, number in enumerate(text) if number == 1 or number > 3]
        strengths = [abs(float(log_odds.weights[0, text[place]])) for place in places]
        total = sum(map(math.exp, strengths))
        wanted = [math.exp(strength) / total for strength in strengths]
        found.append(
            sum(w * math.log(w / row[place]) for w, place in zip(wanted, places, strict=True))
        )
    return found


def test_a_slow_loop_says_the_same() -> None:
    log_odds, model = made_up(), classifier()
    run = model.run(IDS)
    found = attention_penalty(log_odds, 0.7)(run, IDS)
    expected = [0.7 * value for value in slow(log_odds, run.attention["attention"], IDS)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert found[2] == 0


def test_padding_changes_nothing() -> None:
    log_odds, model = made_up(), classifier()
    alone = IDS[1:2, :4]
    whole = attention_penalty(log_odds, 1.0)(model.run(IDS), IDS)
    found = attention_penalty(log_odds, 1.0)(model.run(alone), alone)
    torch.testing.assert_close(found, whole[1:2], rtol=0, atol=1e-12)


def test_gradients_are_those_of_differences() -> None:
    log_odds, model = made_up(), classifier(encoder="average")
    penalty = attention_penalty(log_odds, 1.0)
    loss = penalty(model.run(IDS), IDS).sum()
    loss.backward()
    weight = model.attention.score.weight  # type: ignore[union-attr]
    grad = weight.grad.clone()
    assert torch.isfinite(torch.cat([p.grad.flatten() for p in model.parameters()
                                     if p.grad is not None])).all()  # fmt: skip
    for place in range(weight.numel()):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight.flatten()[place] += step
                values.append(float(penalty(model.run(IDS), IDS).sum()))
                weight.flatten()[place] -= step
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(
            float(grad.flatten()[place]), abs=1e-7
        )


def test_attention_that_vanished_leaves_value_and_gradient_finite() -> None:
    log_odds = made_up()
    model = classifier().float()
    with torch.no_grad():
        model.attention.score.weight.mul_(1e6)  # type: ignore[union-attr]
    run = model.run(IDS)
    assert (run.attention["attention"][0, 1:5] == 0).any()
    found = attention_penalty(log_odds, 1.0)(run, IDS)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_training_ties_attention_and_keeps_accuracy() -> None:
    data = generate("texts", n_train=300, n_dev=60, n_test=60)
    vocabulary = Vocabulary.build([example.tokens for example in data.train])
    log_odds = fit_log_odds(data.train, vocabulary, 2)
    collate = partial(collate_texts, vocabulary=vocabulary)
    ids, _ = collate(data.test)

    def trained(weight: float | None) -> tuple[TextClassifier, float]:
        model = build(
            lambda: TextClassifier(
                len(vocabulary), encoder="bilstm", embedding_size=32, hidden_size=16
            ),
            seed=0,
        )
        train_classifier(
            model, data.train, data.dev, collate=collate, epochs=6, learning_rate=0.01,
            penalty=None if weight is None else attention_penalty(log_odds, weight),
            patience=None, progress=False,
        )  # fmt: skip
        with torch.no_grad():
            learned = model.run(ids).attention["attention"]
        return model, float(jensen_shannon_divergence(learned, log_odds.attention(ids)).mean())

    free, far = trained(None)
    tied, near = trained(3.0)
    zero, _ = trained(0.0)
    assert near < 0.02 < far / 4
    right = [evaluate(model, data.test, collate=collate).accuracy for model in (free, tied)]
    assert right[1] >= right[0] - 0.05 > 0.7
    for mine, other in zip(free.parameters(), zero.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"weight must be finite and not negative; got -1"):
        attention_penalty(made_up(), -1)
    with pytest.raises(TypeError, match=r"inputs must be token ids \(B, L\); got dict"):
        attention_penalty(made_up(), 1)(classifier().run(IDS), {"premise": IDS})
