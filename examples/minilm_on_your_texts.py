"""Fine-tunes a BERT-like encoder on your texts and asks what its CLS attention explains.

    python examples/minilm_on_your_texts.py --data reviews.csv --weights DIRECTORY --out DIRECTORY

``reviews.csv`` has the columns text, label and split (train, dev, test);
``--data babi-1`` generates questions over stories instead. ``--weights`` is a
folder with a BERT-like model and its tokenizer, such as all-MiniLM-L6-v2;
``--epochs 0`` audits one that is fine-tuned already. docs/transformers.md
explains the tables.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from faithattn import (
    AdversarialResult,
    AttentionView,
    Correlation,
    PermutationResult,
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

EPSILON = 0.01
FLOAT_NOISE = 5e-7  # of leave-one-out, in units of the output
Encoder = Callable[[Sequence[Example]], Any]
Batches = list[tuple[Any, Tensor]]  # what the tokenizer returns, and the ids of its texts
Result = TypeVar("Result", Correlation, PermutationResult, AdversarialResult)


def encoder(tokenizer: Any, length: int) -> Encoder:
    """A function from examples to the model's inputs: a text, or a question and its story."""

    def encode(examples: Sequence[Example]) -> Any:
        texts = [" ".join(each.tokens) for each in examples]
        questions = [" ".join(each.question) for each in examples]
        columns = (questions, texts) if questions[0] else (texts,)
        options = {"padding": True, "truncation": True, "return_tensors": "pt"}
        return tokenizer(*columns, max_length=length, **options)

    return encode


def in_batches(examples: Sequence[Example], size: int) -> Iterator[list[Example]]:
    """Texts of similar length together, in windows that keep the order random."""
    for start in range(0, len(examples), 32 * size):
        window = sorted(examples[start : start + 32 * size], key=lambda each: len(each.tokens))
        yield from (window[first : first + size] for first in range(0, len(window), size))


def fine_tune(model: nn.Module, encode: Encoder, data: Dataset, epochs: int) -> None:
    examples, done = list(data.train), 0
    total = epochs * len(list(in_batches(examples, 32)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 4e-5, total_steps=total, pct_start=0.1, anneal_strategy="linear"
    )
    for epoch in range(epochs):
        model.train()
        random.shuffle(examples)
        for batch in in_batches(examples, 32):
            labels = torch.tensor([each.label for each in batch])
            loss = nn.functional.cross_entropy(model(**encode(batch)).logits, labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            if done % 50 == 0:
                print(f"step {done} of {total}: loss {loss.item():.3f}", flush=True)
        print(f"epoch {epoch + 1}: dev accuracy {accuracy(model, encode, data.dev):.3f}")


@torch.no_grad()
def accuracy(model: nn.Module, encode: Encoder, examples: Sequence[Example]) -> float:
    model.eval()
    right = 0
    for batch in in_batches(examples, 32):
        labels = torch.tensor([each.label for each in batch])
        right += int((model(**encode(batch)).logits.argmax(-1) == labels).sum())
    return right / len(examples)


def story_words(inputs: Any) -> Tensor:
    """What may explain an answer: the second text of a pair, without the separator."""
    second = inputs["token_type_ids"] == 1
    return second & second.roll(-1, 1)  # its last token is the separator


def over(batches: Batches, test: Callable[[Any, Tensor], Result]) -> Result:
    results = [test(inputs, ids) for inputs, ids in batches]
    return type(results[0]).concatenate(results)


def audit_layer(
    adapter: TorchAdapter, batches: Batches, view: AttentionView, steps: int
) -> dict[str, Any]:
    """The four tests of one view; two adversaries and few steps, for time's sake."""
    gradient = over(batches, lambda x, _: gradient_correlation(adapter, x, view=view))
    loo = over(batches, lambda x, _: loo_correlation(adapter, x, view=view))
    shuffled = over(
        batches, lambda x, ids: permutation_test(adapter, x, view=view, seed=0, instances=ids)
    )
    other = over(
        batches,
        lambda x, ids: adversarial_attention(
            adapter,
            x,
            epsilon=EPSILON,
            n_adversaries=2,
            n_steps=steps,
            seed=0,
            instances=ids,
            view=view,
        ),
    )
    return {
        "tau gradient": gradient.statistic,
        "tau LOO": loo.statistic,
        "median TVD": shuffled.median_tvd,
        "eps-max JSD": other.max_jsd,
        "mass": gradient.mass,
        "largest": gradient.max_attention,
    }


def audit_heads(adapter: TorchAdapter, batches: Batches, layers: int, heads: int) -> dict[str, Any]:
    """Means over texts of the cheaper tests, one number a layer and head."""
    loo = over(batches, lambda x, _: loo_correlation(adapter, x, view=AttentionView.cls()))
    maps = {
        name: np.zeros((layers, heads)) for name in ("tau gradient", "tau LOO", "median TVD", "mass")
    }
    for layer, head in np.ndindex(layers, heads):
        view = AttentionView.cls(layer, heads=head)
        gradient = over(batches, lambda x, _, v=view: gradient_correlation(adapter, x, view=v))
        shuffled = over(
            batches,
            lambda x, ids, v=view: permutation_test(
                adapter, x, view=v, n_permutations=20, seed=0, instances=ids
            ),
        )
        # What deletion does to the output is the same for every head.
        removal = rank_correlation(
            gradient.explanation,
            loo.importance,
            mask=loo.mask,
            tie_tolerance=("auto", FLOAT_NOISE),
        )
        maps["tau gradient"][layer, head] = gradient.statistic.nanmean()
        maps["tau LOO"][layer, head] = removal.statistic.nanmean()
        maps["median TVD"][layer, head] = shuffled.median_tvd.nanmean()
        maps["mass"][layer, head] = gradient.mass.mean()
    return {name: values.tolist() for name, values in maps.items()}


def destinations(adapter: TorchAdapter, batches: Batches, separator: int) -> list[dict[str, float]]:
    """Where the CLS row of each layer looks: at CLS, at separators, and elsewhere."""
    shares: list[Tensor] = []
    for inputs, _ in batches:
        rows = torch.stack([site[:, :, 0].mean(1) for site in adapter.run(inputs).attention.values()])
        to_separator = (rows * (inputs["input_ids"] == separator)).sum(-1)
        shares.append(torch.stack([rows[..., 0], to_separator], -1).detach())
    means = torch.cat(shares, 1).mean(1).tolist()
    return [{"CLS": first, "SEP": separators} for first, separators in means]


def draw(maps: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(3.2 * len(maps), 3.2), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        image = axes.imshow(values, cmap="viridis")
        axes.set(title=name, xlabel="head", ylabel="layer")
        figure.colorbar(image, ax=axes, shrink=0.6)
    figure.savefig(path, dpi=110)
