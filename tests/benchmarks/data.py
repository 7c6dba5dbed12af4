"""What is measured on: texts like those of SST, and models as decisive as trained ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build
from tests.benchmarks import models
from tests.benchmarks.models import VOCABULARY, Additive, Case

BATCH = 32
_START, _END, _FIRST_WORD = 2, 3, 4
_ATTENTION_SPREAD, _SCORE_SPREAD = 1.5, 2.0


def sst_like(count: int, size: int = BATCH) -> list[Tensor]:
    """Batches of so many texts of 2 to 52 words, mean about 19, sorted by length."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(count * size, generator=generator)
    lengths = (19 + 9.3 * normal).round().long().clamp(2, 52).sort().values
    batches = []
    for part in lengths.split(size):
        ids = torch.zeros(len(part), int(part.max()) + 2, dtype=torch.long)
        for row, length in zip(ids, part.tolist(), strict=True):
            row[0], row[length + 1] = _START, _END
            row[1 : length + 1] = torch.randint(
                _FIRST_WORD, VOCABULARY, (length,), generator=generator
            )
        batches.append(ids)
    return batches


def texts(size: int, length: int) -> Tensor:
    """One batch of texts of so many words each, without padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(_FIRST_WORD, VOCABULARY, (size, length + 2), generator=generator)
    ids[:, 0], ids[:, -1] = _START, _END
    return ids


def classifier(encoder: str = "bilstm", *, small: bool = False) -> TextClassifier:
    """The published model, its random weights scaled as :func:`_sharpen` does."""
    sizes = {"embedding_size": 16, "hidden_size": 8} if small else {}
    model = build(lambda: TextClassifier(VOCABULARY, encoder=encoder, **sizes), seed=0).eval()
    ids = texts(16, 20)
    with torch.no_grad():
        run = model.run(ids)
        logits = run.state + model.decoder.bias
    _sharpen(model.attention.score, model.decoder, run.attention["attention"], logits, run.mask)
    return model


def own_model(make_head: Callable[[], nn.Sequential], size: int, length: int) -> Case:
    """The plain BiLSTM of ``models.Additive`` under a head of one's own, scaled alike."""
    case = models.additive("mul-sum", size, length)
    assert isinstance(case.model, Additive)
    head = build(make_head, seed=0).eval()
    case.model.out = head
    real = case.inputs != 0
    with torch.no_grad():
        weights, states = case.model.encode(case.inputs, case.model.embedding(case.inputs))
        logits = head(states)
    _sharpen(case.model.score, head[-1], weights, logits, real)
    return case


def _sharpen(
    score: nn.Linear, last: nn.Linear, weights: Tensor, logits: Tensor, real: Tensor
) -> None:
    """Has attention and output differ between positions as after training, in place.

    Under random weights every output is almost the same, any attention is
    within epsilon, and a search has nothing to do. Here the logarithm of the
    attention spreads by 1.5 and the logit under all attention on one position
    by 2, around 0: the random cases of docs/definitions.md, "Exact adversary".
    """
    with torch.no_grad():
        score.weight.mul_(_ATTENTION_SPREAD / weights[real].log().std())
        scale = _SCORE_SPREAD / logits[real].std(0)
        last.weight.mul_(scale[:, None])
        last.bias.sub_(logits[real].mean(0)).mul_(scale)
