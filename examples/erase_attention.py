"""Attention weights taken away until the answer changes, and the fewest that would do.

    python examples/erase_attention.py [reviews.csv]

Without a file two models learn to answer questions over generated stories: the
published answerer, and one that is linear in its attention. With a file of the
columns text, label and split two published text models are trained. A model
takes a minute or so on one core. docs/erasure.md explains the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from faithattn import FlipResult, SingleErasure, erasure_to_flip, single_weight_erasure
from faithattn.paper.data.babi import generate_babi
from faithattn.paper.experiment import Prepared, Settings, prepare
from faithattn.paper.models import QuestionAnswerer
from faithattn.paper.models.common import alternatives, pool
from faithattn.paper.models.two_texts import TwoTextsState
from faithattn.paper.training import build, evaluate, train_classifier

ORDERS = ("attention", "attention_gradient", "gradient_attention", "random", "optimal")
TEXT_MODELS = (("bilstm", "additive"), ("average", "additive"))
_R = TypeVar("_R", SingleErasure, FlipResult)


class LinearAnswerer(QuestionAnswerer):
    """The published answerer without its tanh, over all answers: logits affine in the attention."""

    def replay(self, state: TwoTextsState, attention: Mapping[str, Tensor]) -> Tensor:
        pooled = pool(alternatives(attention, state.values), state.values)
        return self.decoder(pooled + state.asked)


def models(options: argparse.Namespace) -> Iterator[tuple[str, Prepared]]:
    small = {"embedding_size": 16, "hidden_size": 8, "epochs": 1} if options.quick else {}
    settings = Settings(**small)
    if options.file:
        for encoder, attention in TEXT_MODELS:
            chosen = replace(settings, encoder=encoder, attention=attention)
            yield f"{encoder} {attention.replace('_', ' ')}", prepare(options.file, chosen)
        return
    task: Any = generate_babi(1, n_train=64, n_dev=8, n_test=8) if options.quick else "babi-1"
    prepared = prepare(task, settings)
    yield "answerer, tanh", prepared
    names = ("n_classes", "embedding_size", "hidden_size")
    shape = {name: prepared.model.config[name] for name in names}
    model = build(lambda: LinearAnswerer(len(prepared.vocabulary), **shape), seed=0)
    yield "answerer, linear", replace(prepared, model=model)


def train(prepared: Prepared) -> float:
    """Trains as ``faithattn reproduce`` does; the accuracy on the test split."""
    settings, data = prepared.settings, prepared.dataset
    train_classifier(
        prepared.model, data.train, data.dev, collate=prepared.collate,
        epochs=settings.epochs or 8, batch_size=settings.batch_size,
        patience=5 if data.train[0].question else 3, seed=settings.seed, progress=False,
    )  # fmt: skip
    return evaluate(prepared.model, data.test, collate=prepared.collate).accuracy


def over(prepared: Prepared, test: Callable[..., _R], **options: Any) -> _R:
    """A test on the test split, in batches of similar length."""
    data, size = prepared.dataset.test, prepared.settings.batch_size
    places = sorted(range(len(data)), key=lambda place: len(data[place].tokens))
    results = []
    for batch in (places[start : start + size] for start in range(0, len(places), size)):
        inputs, _ = prepared.collate([data[place] for place in batch])
        ids = torch.tensor(batch)
        results.append(test(prepared.model, inputs, seed=0, instances=ids, **options))
    return type(results[0]).concatenate(results)


def show_single(result: SingleErasure) -> None:
    flips, change = result.flips(), result.summary()
    others = "one random other" if result.n_random == 1 else "any other, on average"
    print(
        f"\ntop weight against {others}: flips by both {flips.both:.1f}, by the top alone "
        f"{flips.only_top:.1f}, by the other alone {flips.only_other:.1f}, by neither "
        f"{flips.neither:.1f}, p {flips.pvalue:.2g}; Delta JS "
        f"{change.overall.mean:.4f} ({change.overall.low:.4f} to {change.overall.high:.4f}), "
        f"negative in {100 * change.notes['share of negative differences']:.1f} %"
    )


def show_flip(result: FlipResult) -> None:
    rest = "the rest renormalised" if result.renormalize else "the rest as it is"
    print(f"\n| {rest} | share of weights, 1 if never | median | flips | share at flip | "
          "attention at flip | earlier than random |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for row in result.table():
        cells = [
            f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
            *(f"{row[name]:.3f}" for name in ("median", "flipped", "fraction_at_flip")),
            *(f"{row[name]:.2f}" for name in ("mass_at_flip", "earlier_than_random")),
        ]
        print(f"| {row['order']} | {' | '.join(cells).replace('nan', '-')} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", help="texts; without, stories are generated")
    parser.add_argument("--quick", action="store_true", help="a few seconds, learns nothing")
    for name, prepared in models(parser.parse_args()):
        accuracy = train(prepared)
        n_test = len(prepared.dataset.test)
        print(f"\n## {name}: test accuracy {accuracy:.3f}, {n_test} instances")
        for n_random in (1, None):
            show_single(over(prepared, single_weight_erasure, n_random=n_random))
        for renormalize in (True, False):
            show_flip(over(prepared, erasure_to_flip, orders=ORDERS, renormalize=renormalize))


if __name__ == "__main__":
    main()
