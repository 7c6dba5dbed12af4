"""The published experiment on one task: train or load a model, run the four tests on it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path

import torch

from faithattn.metrics.correlation import importance_agreement
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.experiment.description import Described, describe_findings
from faithattn.paper.experiment.findings import LogOddsFindings, TopK
from faithattn.paper.experiment.measurement import (
    Evidence,
    evidence_shares,
    run_tests,
)
from faithattn.paper.experiment.predictions import predicted_labels
from faithattn.paper.experiment.preparation import Prepared
from faithattn.paper.experiment.settings import Settings
from faithattn.paper.published import PublishedFigure, published, published_row
from faithattn.paper.training import TrainingRecord, train_classifier
from faithattn.paper.training.checkpoints import save
from faithattn.paper.training.evaluation import Evaluation, evaluate
from faithattn.results.adversarial import AdversarialResult
from faithattn.results.correlation import Correlation
from faithattn.results.permutation import PermutationResult
from faithattn.statistics import Summary

CHECKPOINT = "model.npz"

# Epochs without a better one after which training stops. Questions need more: the model sits on
# a plateau for some epochs before it learns to find the sentence that answers.
_PATIENCE_TEXTS = 3
_PATIENCE_QUESTIONS = 5


@dataclass(frozen=True)
class Experiment:
    """A model and what the four tests say about its attention.

    The N tested instances are in the order of the test split everywhere.

    Attributes:
        prepared: The data set, the trained model, its vocabulary, the settings.
        record: How the model was trained; None if its checkpoint does not say.
        test: Accuracy and loss on the whole test split.
        gradient: Agreement of attention with gradients.
        loo: Agreement of attention with leave-one-out.
        gradient_loo: Agreement of gradients with leave-one-out.
        permutation: Output change under shuffled attention.
        adversarial: Different attention that keeps the output, as the published search finds it.
        farthest: The most different there is, or that our search finds.
        evidence: Shares of the scores on the supporting sentences; None where
            these are not known.
        seconds: Wall time of each step.
        threads: PyTorch's threads; another number may change the last digits.
        checkpoint: Where the model was saved or loaded from; None if only in memory.
        predicted_labels: Labels that the model says hold, of each instance;
            None where there is one class.
        log_odds: What attention and words by log-odds do; None where not asked for.
        top_k: Distances of the words ranked first, by their number and by pair.
    """

    prepared: Prepared
    record: TrainingRecord | None
    test: Evaluation
    gradient: Correlation
    loo: Correlation
    gradient_loo: Correlation
    permutation: PermutationResult
    adversarial: AdversarialResult
    farthest: AdversarialResult
    evidence: Evidence | None
    seconds: Mapping[str, float]
    threads: int
    checkpoint: Path | None
    predicted_labels: tuple[tuple[int, ...], ...] | None = None
    log_odds: LogOddsFindings | None = None
    top_k: tuple[TopK, ...] = ()

    @property
    def settings(self) -> Settings:
        """What was done."""
        return self.prepared.settings

    @property
    def dataset(self) -> Dataset:
        """What it was done on."""
        return self.prepared.dataset

    @property
    def instances(self) -> tuple[int, ...]:
        """Places of the tested instances in the test split, ascending."""
        return self.prepared.instances

    @property
    def examples(self) -> tuple[Example, ...]:
        """The tested examples."""
        return self.prepared.examples

    @property
    def published_name(self) -> str | None:
        """The data set of the published study that this is, as far as its name tells."""
        name = self.dataset.name
        known = published(name)
        if known:
            return known[0].dataset
        # "my-sst-v2" and "sst2" are SST, "lesstalk" is not.
        return "sst" if re.search(r"(?<![a-z])sst(?![a-z])", name.lower()) else None

    def published(self, measure: str, group: str = "Overall") -> PublishedFigure | None:
        """The published figure for the same data set and model, None where there is none.

        Args:
            measure: Name of a measure, as in ``PublishedFigure``.
            group: Part of the instances, as in ``PublishedFigure``.
        """
        encoder, attention = self.settings.encoder, self.settings.attention
        if self.published_name is None or encoder is None or attention is None:
            return None
        return published_row(self.published_name, encoder, attention, measure, group)

    @cached_property
    def summaries(self) -> Mapping[str, Summary]:
        """The six summaries by measure, named as in the published figures."""
        results = (self.gradient, self.loo, self.gradient_loo, self.permutation, self.adversarial)
        every = [result.summary() for result in results]
        every.append(replace(self.farthest.summary(), measure="farthest_attention"))
        return {summary.measure: summary for summary in every}

    @cached_property
    def described(self) -> Described:
        """Statistics of the words ranked first and of what log-odds do."""
        return describe_findings(self.top_k, self.log_odds)


def run(
    prepared: Prepared, *, checkpoint: str | PathLike[str] | None = None, progress: bool = False
) -> Experiment:
    """Trains the model, unless it is, and runs the four tests.

    Args:
        prepared: What :func:`prepare` returned. Its model is trained in place.
        checkpoint: File to save the trained model in, before the tests; None
            to save nothing.
        progress: Show progress bars on standard error.

    Returns:
        The results.

    Raises:
        OSError: If the checkpoint cannot be written.
        FloatingPointError: If training diverges.
    """
    start = time.perf_counter()
    record = prepared.record if prepared.trained else _train(prepared, progress)
    seconds = {} if prepared.trained else {"training": time.perf_counter() - start}
    if checkpoint is not None:
        save_model(prepared, record, checkpoint)
    test = evaluate(prepared.model, prepared.dataset.test, collate=prepared.collate)
    measured = run_tests(prepared, progress=progress)
    return Experiment(
        prepared=replace(prepared, record=record, trained=True),
        record=record,
        test=test,
        gradient=measured.gradient,
        loo=measured.loo,
        gradient_loo=importance_agreement(measured.gradient, measured.loo),
        permutation=measured.permutation,
        adversarial=measured.adversarial,
        farthest=measured.farthest,
        evidence=evidence_shares(prepared, measured.gradient, measured.loo),
        seconds=seconds | measured.seconds,
        threads=torch.get_num_threads(),
        checkpoint=None if checkpoint is None else Path(checkpoint),
        predicted_labels=predicted_labels(prepared),
    )


def save_model(
    prepared: Prepared, record: TrainingRecord | None, path: str | PathLike[str]
) -> None:
    """Saves a model with what is needed to test it on the same data again."""
    metadata = {
        "data": prepared.dataset.name,
        "labels": list(prepared.dataset.labels),
        "data_seed": prepared.data_seed,
        "settings": prepared.settings.to_dict(),
    }
    save(path, prepared.model, prepared.vocabulary, record=record, metadata=metadata)


def _train(prepared: Prepared, progress: bool) -> TrainingRecord:
    """Trains the model in place."""
    settings, dataset = prepared.settings, prepared.dataset
    return train_classifier(
        prepared.model,
        dataset.train,
        dataset.dev,
        collate=prepared.collate,
        epochs=8 if settings.epochs is None else settings.epochs,
        batch_size=settings.batch_size,
        patience=_PATIENCE_QUESTIONS if dataset.train[0].question else _PATIENCE_TEXTS,
        seed=settings.seed,
        progress=progress,
    )
