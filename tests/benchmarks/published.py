"""Speed of the four published tests against one forward pass and against plain loops.

BiLSTM with 128 hidden units a direction, 300-dimensional embeddings, batches
of 32 texts with the lengths of movie-review sentences, one thread.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from faithattn import (
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build
from tests.benchmarks.timing import Row, compared, seconds

_VOCABULARY = 15_000
_BATCH = 32


def rows(smoke: bool) -> list[Row]:
    """Ratios to one forward pass F over the data, to F + B, and to the plain loops."""
    model = build(lambda: TextClassifier(_VOCABULARY), seed=0).eval()
    batches = _batches(2 if smoke else 20)
    few = batches[:1] if smoke else batches[2::5]
    repeats = 1 if smoke else 5
    steps = 20 if smoke else 500
    return [
        *_permutation_rows(model, batches, few, repeats),
        _gradient_row(model, batches, repeats),
        _loo_row(model, few, 1 if smoke else 3),
        _search_row(model, few, steps, 1 if smoke else 2),
    ]


def _permutation_rows(
    model: TextClassifier, batches: list[Tensor], few: list[Tensor], repeats: int
) -> list[Row]:
    task = "permutation_test, 100 shuffles"

    def ours(some: list[Tensor]) -> None:
        for ids in some:
            permutation_test(model, ids, seed=0)

    return [
        compared(
            task,
            lambda: ours(batches),
            lambda: _forward(model, batches),
            repeats,
            "one forward pass F",
            1.5,
        ),
        compared(
            task,
            lambda: ours(few),
            lambda: [_decoder_loop(model, ids, 100) for ids in few],
            repeats,
            "decoder in a loop",
        ),
        compared(
            task,
            lambda: ours(few),
            lambda: [_forward(model, few) for _ in range(5)],
            repeats,
            "100 forward passes",
            times=20,
        ),
    ]


def _gradient_row(model: TextClassifier, batches: list[Tensor], repeats: int) -> Row:
    return compared(
        "gradient_correlation, tau included",
        lambda: [gradient_correlation(model, ids) for ids in batches],
        lambda: [_forward_backward(model, ids) for ids in batches],
        repeats,
        "forward + backward",
        1.2,
    )


def _loo_row(model: TextClassifier, batches: list[Tensor], repeats: int) -> Row:
    shortened = _shortened(batches)
    sizes = (32, 64, 128, 256, 512)
    spent = {
        size: min(seconds(lambda size=size: _bare(model, shortened, size)) for _ in "12")
        for size in sizes
    }
    best = min(spent, key=spent.__getitem__)
    return compared(
        f"loo_correlation, tau included (bare: batches of {best})",
        lambda: [loo_correlation(model, ids) for ids in batches],
        lambda: _bare(model, shortened, best),
        repeats,
        "bare forward, shortened texts",
        1.2,
    )


def _search_row(model: TextClassifier, batches: list[Tensor], steps: int, repeats: int) -> Row:
    return compared(
        f"adversarial_attention, {steps} steps",
        lambda: [adversarial_attention(model, ids, n_steps=steps, seed=0) for ids in batches],
        lambda: [_search_loop(model, ids, steps) for ids in batches],
        repeats,
        "decoder at each step",
        1 / 3,
    )


def _batches(count: int) -> list[Tensor]:
    """Texts of 2 to 52 words, mean about 19, sorted by length into batches of 32."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(count * _BATCH, generator=generator)
    lengths = (19 + 9.3 * normal).round().long().clamp(2, 52).sort().values
    batches = []
    for part in lengths.split(_BATCH):
        ids = torch.zeros(len(part), int(part.max()) + 2, dtype=torch.long)
        for row, length in zip(ids, part.tolist(), strict=True):
            row[0], row[length + 1] = 2, 3
            row[1 : length + 1] = torch.randint(4, _VOCABULARY, (length,), generator=generator)
        batches.append(ids)
    return batches


def _forward(model: TextClassifier, batches: list[Tensor]) -> None:
    with torch.no_grad():
        for ids in batches:
            model(ids)


def _forward_backward(model: TextClassifier, ids: Tensor) -> Tensor:
    """Probability and its gradient by the embeddings, nothing else."""
    mask = ids > 3
    vectors = model.embedding(ids).detach().requires_grad_()
    states = model.encoder(vectors, ids != 0)
    weights = model.attention(states, mask)
    logits = model.decoder(torch.einsum("bl,blh->bh", weights.detach(), states))
    return torch.autograd.grad(logits.sigmoid().sum(), vectors)[0]


def _decoder_loop(model: TextClassifier, ids: Tensor, count: int) -> list[Tensor]:
    """Encoder once; NumPy shuffles each row, the decoder runs once a shuffle."""
    generator = np.random.default_rng(0)
    mask = ids > 3
    with torch.no_grad():
        states = model.encoder(model.embedding(ids), ids != 0)
        weights = model.attention(states, mask)
        spots = [np.flatnonzero(row) for row in mask.numpy()]
        original = model.decoder(torch.einsum("bl,blh->bh", weights, states)).sigmoid()
        changes = []
        for _ in range(count):
            shuffled = weights.numpy().copy()
            for row, spot in zip(shuffled, spots, strict=True):
                row[spot] = row[generator.permutation(spot)]
            context = torch.einsum("bl,blh->bh", torch.from_numpy(shuffled), states)
            changes.append((model.decoder(context).sigmoid() - original).abs())
    return changes


def _shortened(batches: list[Tensor]) -> list[Tensor]:
    """Every text without each of its words, shortest first, not padded."""
    texts = [row[row != 0] for ids in batches for row in ids]
    shortened = [
        torch.cat([text[:at], text[at + 1 :]])
        for text in texts
        if len(text) > 3
        for at in range(1, len(text) - 1)
    ]
    return sorted(shortened, key=len)


def _bare(model: TextClassifier, texts: list[Tensor], size: int) -> None:
    with torch.no_grad():
        for start in range(0, len(texts), size):
            chunk = texts[start : start + size]
            model(torch.nn.utils.rnn.pad_sequence(chunk, batch_first=True))


def _search_loop(model: TextClassifier, ids: Tensor, steps: int, count: int = 5) -> Tensor:
    """Encoder once; every step takes the states through the decoder, by autograd."""
    mask = ids > 3
    with torch.no_grad():
        states = model.encoder(model.embedding(ids), ids != 0)
        weights = model.attention(states, mask)
        original = model.decoder(torch.einsum("bl,blh->bh", weights, states)).sigmoid()
    scores = (3 * torch.randn(len(ids), count, ids.shape[1])).requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.01, amsgrad=True)
    for _ in range(steps):
        rows = scores.masked_fill(~mask[:, None], -1e9).softmax(-1)
        outputs = model.decoder(torch.einsum("bkl,blh->bkh", rows, states)).sigmoid()
        change = (outputs - original[:, None]).abs().squeeze(-1)
        pairs = _divergence(rows[:, :, None], rows[:, None]).sum((1, 2)) / 2
        gain = _divergence(rows, weights[:, None]).sum(1) + pairs / (count * (count - 1))
        loss = (500 * (change - 0.01).clamp_min(0).sum(1) - gain).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return scores.detach()


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    middle = (p + q) / 2
    terms = p * ((p + 1e-10) / (middle + 1e-10)).log() + q * ((q + 1e-10) / (middle + 1e-10)).log()
    return terms.sum(-1) / 2
