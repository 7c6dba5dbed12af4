"""Modules as their authors write them, for adapt(): nothing in them knows of the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.adapters.adapter_models import sparsemax

VOCABULARY, SIZE = 12, 4


class Plain(nn.Module):
    """Embedding, states, masked scores, weights by some spelling of softmax, linear output."""

    def __init__(self, *, padding: int | None = 0, n_classes: int = 1, dropout: float = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.embed = nn.Embedding(VOCABULARY, SIZE, padding_idx=padding)
            self.hidden = nn.Linear(SIZE, SIZE)
            self.drop = nn.Dropout(dropout)
            self.score = nn.Linear(SIZE, 1)
            self.out = nn.Linear(SIZE, n_classes)
        self.double()

    def states(self, ids: Tensor) -> Tensor:
        return self.drop(self.hidden(self.embed(ids)).tanh())

    def scores(self, states: Tensor, ids: Tensor) -> Tensor:
        return self.score(states).masked_fill((ids == 0)[..., None], -1e9)

    def weigh(self, scores: Tensor) -> Tensor:
        """From scores (B, L, 1) to weights (B, L)."""
        return scores.squeeze(-1).softmax(-1)

    def decode(self, weights: Tensor, states: Tensor) -> Tensor:
        return self.out((weights[..., None] * states).sum(1))

    def forward(self, ids: Tensor) -> Any:
        states = self.states(ids)
        return self.decode(self.weigh(self.scores(states, ids)), states)


class Function(Plain):
    def weigh(self, scores: Tensor) -> Tensor:
        return F.softmax(scores.squeeze(-1), dim=1)


class FunctionOfDtype(Plain):
    def weigh(self, scores: Tensor) -> Tensor:
        return F.softmax(scores.squeeze(-1), -1, dtype=torch.float64)


class TorchFunction(Plain):
    def weigh(self, scores: Tensor) -> Tensor:
        return torch.softmax(scores, dim=1).squeeze(-1)


class TorchFunctionNegative(Plain):
    def weigh(self, scores: Tensor) -> Tensor:
        return torch.softmax(scores, -2).squeeze(-1)


class Special(Plain):
    def weigh(self, scores: Tensor) -> Tensor:
        return torch.special.softmax(scores.squeeze(-1), 1)


class RowVector(Plain):
    """Weights as one row of a matrix, (B, 1, L)."""

    def weigh(self, scores: Tensor) -> Tensor:
        return scores.transpose(1, 2).softmax(dim=-1).squeeze(1)


class TimeFirst(Plain):
    def weigh(self, scores: Tensor) -> Tensor:
        return scores.transpose(0, 1).softmax(0).squeeze(-1).T


class Module(Plain):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.normalise = nn.Softmax(dim=-1)

    def weigh(self, scores: Tensor) -> Tensor:
        return self.normalise(scores.squeeze(-1))


class Part(nn.Module):
    """A submodule around a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, scores: Tensor) -> Tensor:
        return self.function(scores)


def logarithms(scores: Tensor) -> Tensor:
    return scores.log_softmax(-1).exp()


def by_hand(scores: Tensor) -> Tensor:
    raised = (scores - scores.amax(-1, keepdim=True)).exp()
    return raised / raised.sum(-1, keepdim=True)


class Submodule(Plain):
    """Weights by a function that no one watches, in a submodule of its own."""

    def __init__(self, function: Callable[[Tensor], Tensor] = logarithms, **options: Any) -> None:
        super().__init__(**options)
        self.normalise = Part(function)

    def weigh(self, scores: Tensor) -> Tensor:
        return self.normalise(scores.squeeze(-1))


class Column(Submodule):
    """The submodule returns (B, L, 1)."""

    def weigh(self, scores: Tensor) -> Tensor:
        return self.normalise(scores.transpose(1, 2)).squeeze(1)


class ColumnOutput(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.normalise = Part(lambda scores: by_hand(scores.squeeze(-1)).unsqueeze(-1))

    def weigh(self, scores: Tensor) -> Tensor:
        return self.normalise(scores).squeeze(-1)


class Pool(nn.Module):
    """Attention and pooling in one: what it returns is no attention."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1)

    def forward(self, states: Tensor, ids: Tensor) -> Tensor:
        scores = self.score(states).squeeze(-1).masked_fill(ids == 0, -1e9)
        return (scores.softmax(-1)[..., None] * states).sum(1)


class Pooling(Plain):
    """Several sites, each in a module of its own; the last in the model itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.second = Pool(SIZE).double(), Pool(SIZE).double()

    def forward(self, ids: Tensor) -> Tensor:
        states = self.states(ids)
        pooled = self.first(states, ids) + self.first(states * 2, ids) + self.second(states, ids)
        return self.out(pooled) + super().forward(ids)


class Returning(Plain):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, ids: Tensor) -> Any:
        return self.wrap(super().forward(ids))


def sparse(scores: Tensor) -> Tensor:
    return sparsemax(scores * 20)


SPELLINGS: dict[str, tuple[nn.Module, str | None, str]] = {
    "tensor.softmax": (Plain(), None, "attention"),
    "F.softmax": (Function(), None, "attention"),
    "F.softmax with dtype": (FunctionOfDtype(), None, "attention"),
    "torch.softmax over (B, L, 1)": (TorchFunction(), None, "attention"),
    "torch.softmax over dim -2": (TorchFunctionNegative(), None, "attention"),
    "torch.special.softmax": (Special(), None, "attention"),
    "softmax of (B, 1, L)": (RowVector(), None, "attention"),
    "softmax of (L, B, 1)": (TimeFirst(), None, "attention"),
    "nn.Softmax": (Module(), None, "normalise"),
    "nn.Softmax by name": (Module(), "normalise", "normalise"),
    "log_softmax().exp()": (Submodule(), "normalise", "normalise"),
    "by hand": (Submodule(by_hand), "normalise", "normalise"),
    "sparsemax": (Submodule(sparse), "normalise", "normalise"),
    "submodule of (B, 1, L)": (Column(by_hand), "normalise", "normalise"),
    "submodule to (B, L, 1)": (ColumnOutput(), "normalise", "normalise"),
}


def other_weights(like: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return noise / noise.sum(-1, keepdim=True)
