"""A small transformer learns to answer questions; the four tests are put to each of its heads.

Run with ``python examples/transformer_on_babi.py --out DIRECTORY``: a few
minutes on one core. The stories are generated, so it is known which sentence
holds the answer ("mary went to the office . john took ... where is mary ?"),
and attention can also be held against the truth. Tables and figure are
explained in docs/transformers.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from faithattn import (
    AttentionView,
    TorchAdapter,
    adapt,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
)
from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.examples import Example
from faithattn.paper.data.ids import END, PADDING
from faithattn.paper.data.vocabulary import Vocabulary

LAYERS, HEADS = 3, 4
ASKED = 3  # "<s> where is MARY ? </s> story </s>": the answer is read from this row
STORY = 6  # where the story begins
EPSILON = 0.01
COLUMNS = {
    "gradient": "tau with gradients",
    "loo": "tau with leave-one-out",
    "tvd": "median TVD, shuffled",
    "jsd": "eps-max JSD",
    "mass": "mass on the story",
    "precision": "precision@k",
}
Table = dict[str, list[tuple[float, float, float]]]  # column -> (mean, low, high) of each head


class Answerer(nn.Module):
    """A transformer encoder that knows of each word how many sentences follow it."""

    def __init__(self, n_words: int, n_answers: int, stop: int, width: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(n_words, width, padding_idx=PADDING)
        self.recency = nn.Embedding(16, width)
        layer = nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, LAYERS, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.answer = nn.Linear(width, n_answers)
        self.stop = stop
        for embedding in (self.words, self.recency):
            nn.init.normal_(embedding.weight, std=0.5)

    def forward(self, ids: Tensor) -> Tensor:
        following = (ids == self.stop).flip(1).cumsum(1).flip(1)
        states = self.words(ids) + self.recency(following)
        states = self.encoder(states, src_key_padding_mask=ids == PADDING)
        return self.answer(states[:, ASKED])


def encode(examples: Sequence[Example], vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Question and story as ids ``(B, L)``, and the answers ``(B,)``."""
    rows = [
        torch.tensor(vocabulary.encode(each.question) + vocabulary.encode(each.tokens)[1:])
        for each in examples
    ]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
    return ids, torch.tensor([each.label for each in examples])


def story_words(ids: Tensor) -> Tensor:
    """What may explain an answer: the words of the story, not those of the question."""
    return (ids > END) & (torch.arange(ids.shape[1]) >= STORY)


def train(model: Answerer, ids: Tensor, answers: Tensor, steps: int, batch: int = 64) -> None:
    """Two sentences at first, then ever longer stories: from the start, long ones teach nothing."""
    sentences = (ids == model.stop).sum(1)
    order = sentences.argsort()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=steps, pct_start=0.07, anneal_strategy="linear"
    )
    for step in range(steps):
        longest = max(2, 2 + 20 * (step / steps - 0.25))
        rows = order[torch.randint(int((sentences <= longest).sum()), (batch,))]
        shortened = ids[rows, : int((ids[rows] != PADDING).sum(1).max())]
        loss = nn.functional.cross_entropy(model(shortened), answers[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % (steps // 10) == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


@torch.no_grad()
def accuracy(model: Answerer, ids: Tensor, answers: Tensor) -> float:
    model.eval()
    found = torch.cat([model(part).argmax(-1) for part in ids.split(100)])
    return (found == answers).float().mean().item()


def precision_at_k(attention: Tensor, evidence: Tensor) -> Tensor:
    """Share of the k words with most attention that hold the answer, k such words in all."""
    k = evidence.sum(1, keepdim=True)
    rank = attention.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return ((rank < k) & evidence).sum(1) / k[:, 0]
