"""Experiments of every kind of task, on models as they begin, with whatever findings are wanted."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from functools import partial

import torch
from experiments import FILLERS, SMALL
from torch import Tensor

from faithattn.metrics.correlation import importance_agreement
from faithattn.metrics.substitution import attention_substitution
from faithattn.paper.data.batches import collate_labels, collate_pairs, collate_texts
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.experiment import Experiment
from faithattn.paper.experiment.concentration import effective_words
from faithattn.paper.experiment.findings import LogOddsFindings, Replacement, TopK
from faithattn.paper.experiment.measurement import run_tests
from faithattn.paper.experiment.predictions import predicted_labels
from faithattn.paper.experiment.preparation import Prepared
from faithattn.paper.models import PairClassifier, PublishedModel, TextClassifier
from faithattn.paper.training import build
from faithattn.paper.training.evaluation import Collate, Evaluation
from faithattn.results.substitution import SubstitutionResult

SIZES = {"encoder": "average", "embedding_size": 8, "hidden_size": 4}
ORDERS = ("attention", "gradient", "leave_one_out", "random")


class ByKind(Prepared):
    """Batches by the kind of the data set."""

    @property
    def collate(self) -> Collate:
        if self.dataset.kind == "labels":
            n_labels = len(self.dataset.labels)
            return partial(collate_labels, vocabulary=self.vocabulary, n_labels=n_labels)
        return partial(
            collate_pairs if self.dataset.kind == "pairs" else collate_texts,
            vocabulary=self.vocabulary,
        )


def several_labels(count: int = 12, labels: tuple[str, ...] = ("a", "b", "c")) -> Dataset:
    """Texts of which none, one or more labels hold."""
    words = _words(count)
    held = [tuple(n for n in range(len(labels)) if (place >> n) & 1) for place in range(count)]
    return _dataset(
        "notes", [Example(w, -1, labels=h) for w, h in zip(words, held, strict=True)], labels
    )


def pairs(count: int = 12) -> Dataset:
    """Premises with hypotheses."""
    words = _words(count)
    examples = [
        Example(words[place], place % 3, question=("it", "was", *words[place - 1][:2]))
        for place in range(count)
    ]
    return _dataset("snli", examples, ("contradiction", "entailment", "neutral"))


def topics(count: int = 12, n_classes: int = 4) -> Dataset:
    """Texts of several classes."""
    examples = [Example(text, place % n_classes) for place, text in enumerate(_words(count))]
    return _dataset("agnews", examples, tuple(f"topic {n}" for n in range(n_classes)))


def experiment_of(dataset: Dataset, accuracy: float = 0.5, macro_f1: float = 0.4) -> Experiment:
    """The four tests on a model that was not trained."""
    prepared = _prepared(dataset)
    measured = run_tests(prepared, progress=False)
    return Experiment(
        prepared=prepared,
        record=None,
        test=Evaluation(accuracy, 0.7, len(dataset.test), macro_f1),
        gradient=measured.gradient,
        loo=measured.loo,
        gradient_loo=importance_agreement(measured.gradient, measured.loo),
        permutation=measured.permutation,
        adversarial=measured.adversarial,
        farthest=measured.farthest,
        evidence=None,
        seconds=measured.seconds,
        threads=1,
        checkpoint=None,
        log_odds=None,
        top_k=(),
        predicted_labels=predicted_labels(prepared),
    )


def with_findings(experiment: Experiment, ks: tuple[int, ...] = (1, 3)) -> Experiment:
    """The same with findings: real ones of attention by the length of words, drawn ones else."""
    draw = torch.Generator().manual_seed(0)
    count = len(experiment.examples)
    positions = experiment.gradient.mask.sum(1)
    few = positions < 2

    def values(*shape: int) -> Tensor:
        drawn = torch.rand(shape, generator=draw)
        return drawn.masked_fill(few.view(-1, *[1] * (len(shape) - 1)), torch.nan)

    top_k = tuple(
        TopK(k, pair, values(count), values(count) / 10 + 0.7, positions, positions % 4 == 3)
        for k in ks
        for pair in ("attention_gradient", "attention_loo", "gradient_loo")
    )
    several = experiment.dataset.kind == "labels"
    replaced = Replacement(
        (1, 2),
        {order: values(count, 2) for order in ORDERS},
        {order: (values(count, 2) > 0.5).double() for order in ORDERS},
    )
    own_words = effective_words(experiment.gradient.explanation)
    findings = LogOddsFindings(
        0.75,
        substituted(experiment),
        words=positions - 0.05 * values(count),
        own_words=own_words,
        replacement=None if several else replaced,
    )
    return replace(experiment, top_k=top_k, log_odds=findings)


def substituted(experiment: Experiment) -> SubstitutionResult:
    """Attention by the length of words put in the place of the model's."""
    prepared, results = experiment.prepared, []
    for example in experiment.examples:
        inputs, _ = prepared.collate([example])
        length = torch.tensor([[1.0, *(len(word) ** 2 for word in example.tokens), 1.0]])
        results.append(attention_substitution(prepared.model, inputs, length))
    return SubstitutionResult.concatenate(results)


def _prepared(dataset: Dataset) -> Prepared:
    texts = [part for each in dataset.train for part in (each.tokens, each.question)]
    vocabulary = Vocabulary.build(texts)

    def make() -> PublishedModel:
        size = len(vocabulary)
        if dataset.kind == "pairs":
            return PairClassifier(size, len(dataset.labels), **SIZES)  # type: ignore[arg-type]
        output = "sigmoid" if dataset.kind == "labels" else "softmax"
        return TextClassifier(size, n_outputs=len(dataset.labels), output=output, **SIZES)  # type: ignore[arg-type]

    model = build(make, seed=0)
    with torch.no_grad():  # so that texts differ in what is predicted
        for parameter in model.parameters():
            parameter.mul_(6)
    known = {
        "dataset": dataset,
        "vocabulary": vocabulary,
        "model": model,
        "settings": replace(SMALL, encoder="average", attention="additive", epsilon=0.01),
        "data_seed": 0,
        "trained": True,
        "instances": tuple(range(len(dataset.test))),
    }
    return ByKind(**(dict.fromkeys(field.name for field in fields(Prepared)) | known))  # type: ignore[arg-type]


def _words(count: int) -> list[tuple[str, ...]]:
    """Texts of one word and more."""
    rng = random.Random(1)
    return [tuple(rng.choices(FILLERS, k=1 + place % 9)) for place in range(count)]


def _dataset(name: str, examples: list[Example], labels: tuple[str, ...]) -> Dataset:
    every = tuple(examples)
    return Dataset(name, every, every, every, labels)
