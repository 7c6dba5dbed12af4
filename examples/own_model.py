"""The four tests on a model of your own: a plain module, and then a ten-line adapter.

Run with ``python examples/own_model.py``. The task is planted: a text is
positive if it holds more of the words 1..9 than of the words 10..19; all other
words mean nothing. Attention that has learned this is faithful.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faithattn import (
    Run,
    adapt,
    adversarial_attention,
    check_adapter,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)


class Pooled(nn.Module):
    """Embeddings, one softmax over positions, one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16, padding_idx=0)
        self.score = nn.Linear(16, 1)
        self.out = nn.Linear(16, 1)

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.score(x).squeeze(-1).masked_fill(~mask, -1e9).softmax(-1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.out((self.weights(x, ids != 0)[..., None] * x).sum(1))


class PooledAdapter:
    """The same model by hand: ``replay`` spares the encoder for every alternative."""

    output = "sigmoid"

    def __init__(self, model: Pooled) -> None:
        self.model = model.eval()

    def run(self, inputs, *, attention=None, features=None) -> Run:
        mask = inputs != 0
        x = (features or {"words": self.model.embed(inputs)})["words"]
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()
        a = (attention or {"pool": self.model.weights(x, mask)})["pool"]
        values = self.model.out.weight[0] @ x.transpose(1, 2)
        logits = self.replay(values, {"pool": a[None]})[0]
        return Run(logits, {"pool": a}, mask, {"words": x}, state=values)

    def replay(self, state: Tensor, attention: dict[str, Tensor]) -> Tensor:
        return (attention["pool"] * state).sum(-1, keepdim=True) + self.model.out.bias


def make_texts(count: int) -> tuple[Tensor, Tensor]:
    lengths = torch.randint(5, 20, (count, 1))
    ids = torch.randint(1, 100, (count, 20)).masked_fill(torch.arange(20) >= lengths, 0)
    good = ((ids >= 1) & (ids < 10)).sum(1)
    bad = ((ids >= 10) & (ids < 20)).sum(1)
    return ids, (good > bad).float()


def train(model: Pooled, steps: int = 400) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        ids, labels = make_texts(64)
        loss = nn.functional.binary_cross_entropy_with_logits(model(ids)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    torch.manual_seed(0)
    model = Pooled()
    train(model)
    ids, _ = make_texts(64)
    check_adapter(adapt(model), ids[:4])
    check_adapter(PooledAdapter(model), ids[:4])
    print(gradient_correlation(model, ids).summary(), end="\n\n")
    print(loo_correlation(model, ids).summary(), end="\n\n")
    fast = PooledAdapter(model)
    print(permutation_test(fast, ids, seed=0).summary(), end="\n\n")
    print(adversarial_attention(fast, ids, seed=0).summary())


if __name__ == "__main__":
    main()
