"""Words replaced by those of another class, against a loop over texts and planted models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn import Run, memory_budget
from faithattn.measures.draws import sort_keys
from faithattn.paper.experiment import Replacement, word_replacement
from faithattn.paper.log_odds import LogOdds
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build

VOCABULARY = 24
LENGTHS = (6, 1, 9, 3, 0, 5)
MASKED = torch.iinfo(torch.int64).max


def texts(*, width: int = 11) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.zeros(len(LENGTHS), width, dtype=torch.int64)
    for row, length in enumerate(LENGTHS):
        words = torch.randint(4, VOCABULARY, (length,), generator=generator)
        ids[row, : length + 2] = torch.cat([torch.tensor([2]), words, torch.tensor([3])])
    return ids


def classifier(n_outputs: int, *, n_labels: bool = False) -> TextClassifier:
    """Decisive enough that words turn decisions."""
    model = build(
        lambda: TextClassifier(
            VOCABULARY, n_outputs=n_outputs, output="sigmoid" if n_labels else "auto",
            encoder="cnn", embedding_size=5, hidden_size=4,
        ),
        seed=0,
    ).double()  # fmt: skip
    with torch.no_grad():
        model.embedding.weight.mul_(20)
        model.decoder.weight.mul_(8)
    return model


def log_odds(rows: int) -> LogOdds:
    generator = torch.Generator().manual_seed(rows)
    weights = torch.randn(rows, VOCABULARY, generator=generator)
    return LogOdds(weights, torch.zeros(rows))


def ranks_of(ids: Tensor) -> dict[str, Tensor]:
    """One order with ties, and reading order; nonsense outside the words."""
    generator = torch.Generator().manual_seed(5)
    tied = torch.randint(0, 3, ids.shape, generator=generator)
    return {"tied": tied, "reading": torch.arange(ids.shape[1]).expand(ids.shape)}


def probability(model: TextClassifier, words: list[int], number: int) -> tuple[float, int, list]:
    """Probability of a class for one text alone, the predicted class, all probabilities."""
    logits = model(torch.tensor([[2, *words, 3]])).detach()[0]
    if len(logits) == 1:
        positive = float(logits.sigmoid())
        both = [1 - positive, positive]
    else:
        both = logits.softmax(-1).tolist()
    return both[number], max(range(len(both)), key=lambda c: both[c]), both


def one_text(
    model: TextClassifier, row: Tensor, ranks: Tensor, words: LogOdds, count: int, top: int,
    seed: int, number: int,
) -> tuple[float, float]:  # fmt: skip
    """Fall and flip of one text, word by word; the draws are hashes that others test."""
    old = row[row > 3].tolist()
    _, predicted, every = probability(model, old, 0)
    others = [c for c in range(len(every)) if c != predicted]
    other = max(others, key=lambda c: every[c])
    weights = (
        words.weights if len(words.weights) > 1 else torch.cat([-words.weights, words.weights])
    )
    ranked = sorted(range(4, VOCABULARY), key=lambda w: -float(weights[other, w]))
    best = [word for word in ranked if weights[other, word] > 0][:top]
    ids, flags = torch.tensor([number]), torch.ones(1, min(top, VOCABULARY), dtype=torch.bool)
    drawn = sort_keys(seed ^ 0x776F726473, ids, 0, 1, flags)[0, 0].tolist()
    turn = sorted(range(len(best)), key=lambda place: drawn[place])
    keys = sort_keys(seed, ids, 0, 1, torch.ones(1, max(len(old), 1), dtype=torch.bool))[0, 0]
    inside = ranks[row > 3].tolist()
    places = sorted(range(len(old)), key=lambda place: (inside[place], int(keys[place])))
    new = list(old)
    for slot, place in enumerate(places[:count]):
        new[place] = best[turn[slot % len(turn)]]
    before, after = probability(model, old, predicted), probability(model, new, predicted)
    return before[0] - after[0], float(after[1] != predicted)


@pytest.mark.parametrize(("n_outputs", "rows"), [(1, 1), (2, 1), (3, 3)])
@pytest.mark.parametrize("top", [2, 6, 50])
def test_against_a_loop(n_outputs: int, rows: int, top: int) -> None:
    model, ids, words = classifier(n_outputs), texts(), log_odds(rows)
    ranks, numbers = ranks_of(ids), torch.tensor([4, 9, 2, 7, 1, 30])
    found = word_replacement(
        model, ids, ranks, words, counts=(1, 2, 5), top=top, seed=3, instances=numbers
    )
    assert set(found.change) == set(found.flipped) == {"tied", "reading", "random"}
    assert found.counts == (1, 2, 5)
    every = {**ranks, "random": torch.zeros_like(ids)}
    flips = 0
    for name, order in every.items():
        for row, length in enumerate(LENGTHS):
            for column, count in enumerate(found.counts):
                fall, flip = found.change[name][row, column], found.flipped[name][row, column]
                if count > length:
                    assert fall.isnan() and flip.isnan()
                    continue
                expected = one_text(
                    model, ids[row], order[row], words, count, top, 3, int(numbers[row])
                )
                assert float(fall) == pytest.approx(expected[0], abs=1e-12)
                assert float(flip) == expected[1]
                flips += int(flip)
    assert flips > 3


def assert_same(one: Replacement, other: Replacement) -> None:
    for part, second in ((one.change, other.change), (one.flipped, other.flipped)):
        for name in second:
            torch.testing.assert_close(
                part[name], second[name], atol=1e-12, rtol=1e-9, equal_nan=True
            )


def test_batches_order_padding_and_chunks_do_not_matter() -> None:
    model, ids, words = classifier(3), texts(), log_odds(3)
    ranks, numbers = ranks_of(ids), torch.arange(len(ids)) + 10
    expected = word_replacement(model, ids, ranks, words, seed=1, instances=numbers)
    wide = torch.nn.functional.pad(ids, (0, 4))
    more = {name: torch.nn.functional.pad(each, (0, 4)) for name, each in ranks.items()}
    assert_same(word_replacement(model, wide, more, words, seed=1, instances=numbers), expected)
    with memory_budget(1e-6):
        assert_same(word_replacement(model, ids, ranks, words, seed=1, instances=numbers), expected)
    order = torch.tensor([3, 0, 5, 2, 1, 4])
    parts = [
        word_replacement(
            model, ids[part], {name: each[part] for name, each in ranks.items()}, words, seed=1,
            instances=numbers[part],
        )
        for part in (order[:2], order[2:])
    ]  # fmt: skip
    back = order.argsort()
    joined = Replacement(
        expected.counts,
        {n: torch.cat([part.change[n] for part in parts])[back] for n in expected.change},
        {n: torch.cat([part.flipped[n] for part in parts])[back] for n in expected.change},
    )
    assert_same(joined, expected)
    other = word_replacement(model, ids, ranks, words, seed=2, instances=numbers)
    assert not torch.equal(other.change["random"][2], expected.change["random"][2])


class Spoken:
    """Words speak for class 1 by their value; attention is a given function of the ids.

    Attention that is ``ignored`` is there, but the output is that of the mean.
    """

    output = "sigmoid"

    def __init__(self, kind: str) -> None:
        self.kind, self.seen = kind, []  # type: ignore[var-annotated]
        self.value = torch.zeros(40, dtype=torch.float64)
        self.value[4:14], self.value[14:24] = 4.0, -4.0

    def run(
        self,
        inputs: Tensor,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        self.seen.append(inputs)
        mask, value = inputs > 3, self.value[inputs]
        sign = {"faithful": 3.0, "uniform": 0.0, "ignored": -3.0}[self.kind]
        own = (sign * value.abs()).masked_fill(~mask, -torch.inf).softmax(-1)
        used = own if attention is None else attention["row"]
        weights = mask / mask.sum(-1, keepdim=True) if self.kind == "ignored" else used
        return Run((weights * value).sum(-1, keepdim=True), {"row": used}, mask)


def planted(size: int = 200) -> tuple[Tensor, LogOdds]:
    """Texts of eight words, one of which tells the class; log-odds that know the telling words."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(24, 40, (size, 8), generator=generator)
    telling = torch.randint(4, 24, (size, 1), generator=generator)
    ids.scatter_(1, torch.randint(0, 8, (size, 1), generator=generator), telling)
    weights = torch.zeros(1, 40)
    weights[0, 4:14], weights[0, 14:24] = 2.0, -2.0
    return ids, LogOdds(weights, torch.zeros(1))


def falls(kind: str) -> tuple[Replacement, Tensor]:
    ids, words = planted()
    model = Spoken(kind)
    own = model.run(ids).attention["row"]
    # Rounded, so that equal weights tie.
    ranks = {"attention": (-own * 1000).round().long()}
    found = word_replacement(model, ids, ranks, words, counts=(1, 3))
    difference = found.change["attention"] - found.change["random"]
    return found, difference


def test_attention_on_the_words_that_decide_falls_further_than_random() -> None:
    found, difference = falls("faithful")
    error = difference.std(0) / len(difference) ** 0.5
    assert float(found.change["attention"][:, 0].min()) > 0.9
    assert (difference.mean(0) > 10 * error).all() and float(difference[:, 0].mean()) > 0.3
    assert float(found.flipped["attention"].mean()) == 1
    assert float(found.flipped["random"][:, 0].mean()) < 0.7


def test_equal_attention_is_the_random_order_itself() -> None:
    found, difference = falls("uniform")
    assert (difference == 0).all() and float(found.change["random"].mean()) > 0.1


def test_attention_elsewhere_falls_less_than_random() -> None:
    _, difference = falls("ignored")
    assert float(difference[:, 0].mean()) < -0.01


def test_orders_get_the_same_words_and_none_twice() -> None:
    ids, words = planted(30)
    model = Spoken("uniform")
    ranks = {"reading": torch.arange(8).expand(30, 8)}
    word_replacement(model, ids, ranks, words, counts=(5,), top=6)
    reading, random = model.seen[1:]
    best = {1: set(range(4, 10)), 0: set(range(14, 20))}
    for row in range(30):
        new = [(each[row] != ids[row]) & (each[row] < 24) for each in (reading, random)]
        put = [
            each[row][there].tolist() for each, there in zip((reading, random), new, strict=True)
        ]
        class_one = bool((ids[row] < 14).any())
        assert set(put[0]) <= best[0 if class_one else 1] and len(set(put[0])) == len(put[0]) >= 4
        # A replaced word that was there before is no change, so that one may be missing.
        assert len(set(put[0]) ^ set(put[1])) <= 1
        assert torch.equal(reading[row, 5:], ids[row, 5:])


def test_no_word_for_the_other_class_leaves_nothing_to_put_in() -> None:
    ids, _ = planted(40)
    weights = torch.zeros(1, 40)
    weights[0, 4:14] = 1.0  # no word speaks for class 0
    model = Spoken("faithful")
    found = word_replacement(model, ids, {}, LogOdds(weights, torch.zeros(1)), counts=(1,))
    predicted = model.run(ids).logits[:, 0] > 0
    assert torch.equal(found.change["random"][:, 0].isnan(), predicted)
    assert torch.equal(found.flipped["random"][:, 0].isnan(), predicted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counts": (2, 1)}, r"counts must ascend; got \[2, 1\]. Sort them"),
        ({"counts": ()}, r"counts must ascend; got \[\]"),
        ({"counts": (0, 1)}, "counts must be at least 1; got 0"),
        ({"top": 0}, "top must be at least 1; got 0"),
        ({"words": log_odds(3)}, "log-odds of the model's 2 classes; got 3 rows. Fit them"),
        ({"ranks": {"random": texts()}}, "ranks must not hold 'random'"),
        (
            {"ranks": {"a": texts().double()}},
            r"whole numbers of shape \(6, 11\); got torch.float64",
        ),
        ({"ranks": {"a": texts()[1:]}}, r"got torch.int64 \(5, 11\) for 'a'. Rank scores"),
        (
            {"model": classifier(3, n_labels=True)},
            "model must predict one of several classes; got 3 outputs of kind 'sigmoid'. Leave",
        ),
    ],
)
def test_what_cannot_be_replaced(options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"model": classifier(1), "words": log_odds(1), "ranks": {}, **options}
    model, words, ranks = (given.pop(name) for name in ("model", "words", "ranks"))
    with pytest.raises(ValueError, match=message):
        word_replacement(model, texts(), ranks, words, **given)
