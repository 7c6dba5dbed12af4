"""Attention, other explanations and Captum beside each other: faithful, plausible, or neither.

    python examples/compare_explanations.py [reviews.csv] [--out DIRECTORY]

Without a file two models learn to answer questions over generated stories,
whose supporting facts are known: the published BiLSTM answerer, and a small
transformer. With a file of the columns text, label and split it is the
published BiLSTM classifier, without facts to compare with. Each takes some minutes on
one core. docs/comparison.md shows what comes out; pictures, whole tables and
compare.json go to the folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformer_on_babi import ASKED, Answerer, accuracy, encode, in_story, train

from faithattn import (
    AttentionView,
    Comparison,
    DeceptionResult,
    adapt,
    compare_explanations,
    deception_screen,
)
from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.batches import evidence_mask
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.experiment import Prepared, Settings, prepare
from faithattn.paper.training import evaluate, train_classifier

Batches: TypeAlias = Iterator[tuple[Any, Tensor, Tensor | None]]
SIZE = 25  # texts of a batch
ATTENTION = ("attention", "gradient_attention", "attention_gradient", "value_norm")
LAYERS = ("rollout", "flow", "relevance")  # of models with several layers
IMPORTANCE = ("gradient_importance", "leave_one_out", "signed_leave_one_out")
CAPTUM = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "gradient_shap",
    "deep_lift",
    "feature_ablation",
    "shapley_value_sampling",
    "lime",
)
CONTROLS = ("random", "position", "reversed")
SHOWN = (  # of all metrics, in the picture and on the screen
    "loo_correlation",
    "erasure_to_flip",
    "comprehensiveness",
    "sufficiency",
    "insertion_area",
    "infidelity",
    "faithfulness_violation",
    "polarity_agreement",
    "average_precision",
    "rationale_mass",
)


@dataclass(frozen=True)
class Subject:
    """A trained model and the texts that it is asked about.

    Attributes:
        name: What it is called.
        model: What is explained.
        accuracy: On its test split.
        batches: Gives inputs, ids of the instances, and evidence where it is known.
        explanations: The rows of its table.
        view: Its attention.
    """

    name: str
    model: Any
    accuracy: float
    batches: Callable[[], Batches]
    explanations: tuple[str, ...]
    view: AttentionView | None = None


def published(task: Any, settings: Settings, texts: int) -> Subject:
    """Trains the published model of a task, as ``faithattn reproduce`` does."""
    prepared = prepare(task, settings)
    data, answers = prepared.dataset, bool(prepared.dataset.train[0].question)
    train_classifier(
        prepared.model,
        data.train,
        data.dev,
        collate=prepared.collate,
        epochs=settings.epochs or (16 if answers else 8),
        batch_size=settings.batch_size,
        patience=5 if answers else 3,
        seed=settings.seed,
        progress=False,
    )
    return Subject(
        "BiLSTM",
        prepared.model.eval(),
        evaluate(prepared.model, data.test, collate=prepared.collate).accuracy,
        lambda: collated(prepared, texts, answers),
        ATTENTION + IMPORTANCE + CAPTUM + CONTROLS,
    )


def collated(prepared: Prepared, texts: int, answers: bool) -> Batches:
    """The test texts in batches of similar length."""
    examples = prepared.examples[:texts]
    order = sorted(range(len(examples)), key=lambda place: len(examples[place].tokens))
    for first in range(0, len(order), SIZE):
        places = order[first : first + SIZE]
        chosen = [examples[place] for place in places]
        inputs, _ = prepared.collate(chosen)
        length = (inputs["passage"] if answers else inputs).shape[1]
        evidence = evidence_mask(chosen, length) if answers else None
        yield inputs, torch.tensor(places), evidence


def transformer(steps: int, texts: int) -> Subject:
    """Trains the transformer of transformer_on_babi.py."""
    torch.manual_seed(0)
    data = generate_babi(1, n_train=20 * steps, n_test=max(500, texts))
    vocabulary = Vocabulary.build(each.tokens + each.question for each in data.train)
    (stop,) = vocabulary.encode(["."])[1:-1]
    model = Answerer(len(vocabulary), len(data.labels), stop)
    ids, _, answers = encode(data.train, vocabulary)
    train(model, ids, answers, steps)
    ids, evidence, answers = encode(data.test, vocabulary)

    def batches() -> Batches:
        for places in torch.arange(texts).split(SIZE):
            yield ids[places], places, evidence[places]

    return Subject(
        "transformer",
        adapt(model, mask=in_story, embedding="words"),
        accuracy(model, ids, answers),
        batches,
        ATTENTION + LAYERS + IMPORTANCE + CAPTUM + CONTROLS,
        AttentionView(1, query=ASKED),
    )


def subjects(options: argparse.Namespace) -> Iterator[Subject]:
    """The models, each trained when its turn has come."""
    size = {"embedding_size": 16, "hidden_size": 8, "epochs": 1} if options.smoke else {}
    if options.file:
        settings = Settings(instances=options.texts, **size)
        yield published(options.file, settings, options.texts)
        return
    size = size or {"embedding_size": 64, "hidden_size": 64}
    settings = Settings(instances=options.texts, **size)
    task: Any = generate_babi(1, n_train=32, n_dev=4, n_test=4) if options.smoke else "babi-1"
    yield published(task, settings, options.texts)
    yield transformer(2 if options.smoke else 1000, options.texts)


def compare(subject: Subject, metrics: Sequence[str] | None) -> Comparison:
    """All explanations by all metrics, over all batches."""
    found = [
        compare_explanations(
            subject.model,
            inputs,
            explanations=subject.explanations,
            metrics=metrics,
            rationale=evidence,
            view=subject.view,
            instances=instances,
        )
        for inputs, instances, evidence in subject.batches()
    ]
    return Comparison.concatenate(found)


def screened(subject: Subject) -> DeceptionResult:
    """Whether the attention hides the facts that the answer rests on."""
    found = [
        deception_screen(subject.model, inputs, positions=evidence, view=subject.view)
        for inputs, _, evidence in subject.batches()
        if evidence is not None
    ]
    return DeceptionResult.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", help="texts; without, stories are generated")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for pictures and numbers")
    parser.add_argument("--texts", type=int, default=100, help="texts to explain")
    parser.add_argument("--metrics", nargs="+", help="names of metrics; all by default")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, learns nothing")
    options = parser.parse_args()
    if options.smoke:
        options.texts = 4
    report: dict[str, Any] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    for subject in subjects(options):
        print(f"## {subject.name}: accuracy {subject.accuracy:.3f}\n", flush=True)
        start = time.perf_counter()
        found = compare(subject, options.metrics)
        every = [column.name for column in found.columns]
        shown = found.select(metrics=[name for name in SHOWN if name in every] or every)
        print(shown.markdown(), flush=True)
        stem = options.out / f"compare_{subject.name.lower()}"
        shown.draw(stem.with_suffix(".png"))
        stem.with_suffix(".txt").write_text(f"{found}\n", encoding="utf-8")
        report[subject.name] = {"accuracy": subject.accuracy, **found.to_dict()}
        if not options.file:
            screen = screened(subject)
            print(f"{screen.summary()}\n")
            report[subject.name]["screen"] = screen.summary().to_dict()
        print(f"{time.perf_counter() - start:.0f} s\n", flush=True)
    (options.out / "compare.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
