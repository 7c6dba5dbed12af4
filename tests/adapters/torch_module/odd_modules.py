"""Modules with unusual inputs and calls, as their authors write them, and what they do by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# No row counts up by one, as positions do.
IDS = torch.tensor([[5, 9, 7, 8, 2], [4, 9, 3, 0, 0], [10, 11, 3, 6, 0]])
REAL = IDS != 0
QUESTIONS = torch.tensor([[5, 6, 1], [4, 0, 0], [3, 2, 0]])
FULL = torch.tensor([[5, 9, 7, 8, 2], [4, 9, 3, 1, 6], [10, 11, 3, 6, 1]])
SIZE = 6
CLOSE: dict[str, float] = {"rtol": 1e-9, "atol": 1e-12}


class Words(nn.Module):
    """Embeds, transforms, scores and pools; parts for the modules below."""

    def __init__(
        self, *, vocabulary: int = 12, places: int = 40, padding: int | None = 0, classes: int = 2
    ) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.word = nn.Embedding(vocabulary, SIZE, padding_idx=padding)
            self.place = nn.Embedding(places, SIZE)
            self.segment = nn.Embedding(2, SIZE)
            self.hidden = nn.Linear(SIZE, SIZE)
            self.score = nn.Linear(SIZE, 1)
            self.out = nn.Linear(SIZE, classes)
        self.double()

    def states(self, vectors: Tensor) -> Tensor:
        return self.hidden(vectors).tanh()

    def weigh(self, states: Tensor, real: Tensor | None = None) -> Tensor:
        scores = self.score(states).squeeze(-1) * 3
        return (scores if real is None else scores.masked_fill(~real, -1e9)).softmax(-1)

    def pool(self, weights: Tensor, states: Tensor) -> Tensor:
        return self.out((weights[..., None] * states).sum(-2))

    def decide(self, vectors: Tensor, real: Tensor | None = None) -> Tensor:
        states = self.states(vectors)
        return self.pool(self.weigh(states, real), states)

    def forward(self, ids: Tensor) -> Any:
        return self.decide(self.word(ids), ids != 0)


class Called(Words):
    """Any forward, with the parts of Words."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__(**options)
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def places_of(ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1]).expand(len(ids), -1)


class Image(nn.Module):
    """Patches, perhaps a class token, positions, one layer of attention."""

    def __init__(self, *, size: int = 8, cls: bool = True, places: str = "parameter") -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.patches = nn.Conv2d(3, size, 4, 4)
            self.cls = nn.Parameter(torch.randn(1, 1, size)) if cls else None
            self.places = nn.Embedding(4 + cls, size)
            self.flat = nn.Parameter(torch.randn(1, 4 + cls, size))
            self.out = nn.Linear(size, 3)
            self.query = nn.Linear(size, size)
        self.by_table = places == "table"
        self.double()

    def tokens(self, pixels: Tensor) -> Tensor:
        """What the positions are, by hand: (B, L, E)."""
        found = self.patches(pixels).flatten(2).transpose(1, 2)
        if self.cls is None:
            return found
        return torch.cat([self.cls.expand(len(found), -1, -1), found], 1)

    def decide(self, tokens: Tensor) -> Tensor:
        numbers = torch.arange(tokens.shape[1])[None]
        states = tokens + (self.places(numbers) if self.by_table else self.flat)
        mixed = F.scaled_dot_product_attention(self.query(states), states, states)
        return self.out((states + mixed)[:, 0])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.decide(self.tokens(pixels))


# --- slow and by hand ----------------------------------------------------------------------


def tau(x: Tensor, y: Tensor) -> float:
    """Kendall's tau-b, pair by pair."""
    concordant = ties_x = ties_y = pairs = 0
    for i in range(len(x)):
        for j in range(i):
            a, b = (x[i] - x[j]).sign().item(), (y[i] - y[j]).sign().item()
            concordant += a * b
            ties_x, ties_y, pairs = ties_x + (a == 0), ties_y + (b == 0), pairs + 1
    return float(concordant / ((pairs - ties_x) * (pairs - ties_y)) ** 0.5)


def gradients(decide: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
    """|sum_e x_e dp/dx_e| of the predicted class, instance by instance, (B, L)."""
    rows = []
    for vector in vectors.detach():
        leaf = vector[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(decide(leaf).softmax(-1).max(), leaf)
        rows.append((gradient * leaf).sum(-1).abs()[0].detach())
    return torch.stack(rows)


def changes(run: Callable[[Tensor], Tensor], inputs: Tensor, real: Tensor) -> Tensor:
    """Total variation distance without each position, each instance alone and unpadded."""
    result = torch.zeros(real.shape, dtype=torch.float64)
    with torch.no_grad():
        for row, (each, flags) in enumerate(zip(inputs, real, strict=True)):
            given = each[flags]
            whole = run(given[None]).softmax(-1)
            for place, at in enumerate(flags.nonzero()[:, 0].tolist()):
                left = torch.cat([given[:place], given[place + 1 :]])
                result[row, at] = (run(left[None]).softmax(-1) - whole).abs().sum() / 2
    return result
