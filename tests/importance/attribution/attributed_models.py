"""Models whose attributions can be written down, and what Captum says of them by hand."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from cases import make_text, texts
from torch import Tensor, nn

SIZE, HIDDEN = 4, 6
IDS = torch.tensor([[5, 6, 7, 8], [4, 9, 3, 0], [10, 11, 0, 0]])


class Rectified(nn.Module):
    """Embedding, one layer with a ReLU, attention by a linear score, linear output."""

    def __init__(self, n_classes: int = 1, *, module: bool = True, twice: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(8)
            self.embed = nn.Embedding(12, SIZE, padding_idx=0)
            self.hidden = nn.Linear(SIZE, HIDDEN)
            self.score = nn.Linear(SIZE, 1)
            self.out = nn.Linear(HIDDEN, n_classes)
        self.relu = nn.ReLU() if module else None
        self.twice = twice
        self.double()

    def states(self, x: Tensor) -> Tensor:
        raised = self.hidden(x)
        rectified = F.relu(raised) if self.relu is None else self.relu(raised)
        return self.relu(rectified - 0.1) if self.twice else rectified

    def weights(self, x: Tensor, ids: Tensor) -> Tensor:
        scores = self.score(x).squeeze(-1).masked_fill(ids == 0, -torch.inf)
        return scores.softmax(-1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.out((self.weights(x, ids)[..., None] * self.states(x)).sum(1))


def text_function(encoder: str = "bilstm") -> tuple[Any, Tensor, Any, Tensor, Tensor]:
    """A published text classifier with a padded batch, and its probability as a function.

    Returns the model, ids, a function of embeddings and ids written without
    the library's run(), embeddings, and which positions are words.
    """
    model, ids = make_text(encoder), texts()
    words = ids > 3
    words |= ids == 1

    def probability(vectors: Tensor, given: Tensor) -> Tensor:
        inside = (given > 3) | (given == 1)
        states = model.encoder(vectors, given != 0)
        weights = model.attention(states, inside)
        positive = model.decoder((weights[..., None] * states).sum(1)).sigmoid()[:, 0]
        return torch.where(predicted[rows_of(given)] == 1, positive, 1 - positive)

    def rows_of(given: Tensor) -> Tensor:
        return (given[:, None] == ids).all(-1).long().argmax(1)

    vectors = model.embedding(ids).detach()
    predicted = (model(ids)[:, 0] > 0).long()
    return model, ids, probability, vectors, words
