"""Fine-tunes a BERT-like encoder on your texts and asks what its CLS attention explains.

    python examples/minilm_on_your_texts.py --data reviews.csv --weights DIRECTORY --out DIRECTORY

``reviews.csv`` has the columns text, label and split (train, dev, test);
``--data babi-1`` generates questions over stories. ``--weights`` is a folder
with a BERT-like model and its tokenizer, such as all-MiniLM-L6-v2; ``--epochs
0`` audits a model that is trained already. docs/transformers.md explains the
tables.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from faithattn import (
    AttentionView,
    TorchAdapter,
    adapt,
    adversarial_attention,
    gradient_correlation,
    loo_correlation,
    permutation_test,
    rank_correlation,
    word_groups,
)
from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.readers import read_texts
from faithattn.statistics import describe

Batch = tuple[Any, Sequence[Example]]  # what the tokenizer returns, and of which examples
Scores = dict[str, Tensor]  # name -> one value per text
FLOAT_NOISE = 5e-7  # of leave-one-out, in units of the output


def encode(tokenizer: Any, examples: Sequence[Example], length: int) -> Any:
    """One text each, or a pair of question and story."""
    texts = [" ".join(each.tokens) for each in examples]
    questions = [" ".join(each.question) for each in examples]
    columns = (questions, texts) if questions[0] else (texts,)
    return tokenizer(*columns, padding=True, truncation=True, max_length=length, return_tensors="pt")


def in_batches(examples: Sequence[Example], size: int) -> list[Sequence[Example]]:
    """Texts of similar length together."""
    ordered = sorted(examples, key=lambda each: len(each.tokens))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def fine_tune(
    model: nn.Module, make: Callable[[Sequence[Example]], Any], train: list[Example], epochs: int
) -> None:
    """AdamW, batches of 32, warm-up and linear decay."""
    total = epochs * sum(len(in_batches(part, 32)) for part in windows(train))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 4e-5, total_steps=total, pct_start=0.1, anneal_strategy="linear"
    )
    model.train()
    for _ in range(epochs):
        random.shuffle(train)
        for batch in (batch for part in windows(train) for batch in in_batches(part, 32)):
            labels = torch.tensor([each.label for each in batch])
            loss = nn.functional.cross_entropy(model(**make(batch)).logits, labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if schedule.last_epoch % 50 == 0:
                print(f"step {schedule.last_epoch} of {total}: loss {loss.item():.3f}", flush=True)
