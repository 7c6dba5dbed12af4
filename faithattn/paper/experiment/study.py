"""The published experiment on one task: train or load a model, run the four tests on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path

import torch

from faithattn.metrics.correlation import importance_agreement
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.experiment.comparable import published_name_of
from faithattn.paper.experiment.description import Described, describe_findings
from faithattn.paper.experiment.exchange import find_log_odds
from faithattn.paper.experiment.findings import LogOddsFindings, TopK
from faithattn.paper.experiment.kinds import PRACTICE
from faithattn.paper.experiment.measurement import (
    Evidence,
    Measurements,
    evidence_shares,
    run_tests,
)
from faithattn.paper.experiment.predictions import predicted_labels
from faithattn.paper.experiment.preparation import Prepared
from faithattn.paper.experiment.settings import Settings
from faithattn.paper.experiment.topk import top_k_agreement
from faithattn.paper.log_odds import accuracy
from faithattn.paper.published import PublishedFigure, published_row
from faithattn.paper.training import TrainingRecord, attention_penalty, train_classifier
from faithattn.paper.training.checkpoints import save
from faithattn.paper.training.evaluation import Evaluation, evaluate
from faithattn.results.adversarial import AdversarialResult
from faithattn.results.correlation import Correlation
from faithattn.results.permutation import PermutationResult
from faithattn.statistics import Summary

CHECKPOINT = "model.npz"


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
        farthest: The most different there is, or that our search finds: one of each instance.
        evidence: Shares of the scores on the supporting sentences; None where
            these are not known.
        log_odds: What the words say by themselves, and what the model makes of
            attention to that; None for pairs and questions.
        top_k: Agreement of the three rankings over the words ranked first.
        seconds: Wall time of each step.
        threads: PyTorch's threads; another number may change the last digits.
        checkpoint: Where the model was saved or loaded from; None if only in memory.
        predicted_labels: Labels that the model says hold, of each instance;
            None where there is one class.
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
    log_odds: LogOddsFindings | None
    top_k: tuple[TopK, ...]
    seconds: Mapping[str, float]
    threads: int
    checkpoint: Path | None
    predicted_labels: tuple[tuple[int, ...], ...] | None

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
        return published_name_of(self.dataset)

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
    start = time.perf_counter()
    findings = _log_odds(prepared, measured, progress)
    of_words = {} if findings is None else {"log-odds": time.perf_counter() - start}
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
        log_odds=findings,
        top_k=top_k_agreement(measured.gradient, measured.loo),
        seconds=seconds | measured.seconds | of_words,
        threads=torch.get_num_threads(),
        checkpoint=None if checkpoint is None else Path(checkpoint),
        predicted_labels=predicted_labels(prepared),
    )


def _log_odds(prepared: Prepared, measured: Measurements, progress: bool) -> LogOddsFindings | None:
    """What words say by themselves beside what the model attends to; None for two texts."""
    log_odds, dataset = prepared.log_odds, prepared.dataset
    if log_odds is None:
        return None
    right = accuracy(log_odds, dataset.test, prepared.vocabulary)
    return find_log_odds(
        prepared, log_odds, right, measured.gradient, measured.loo, progress=progress
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
    settings, dataset, log_odds = prepared.settings, prepared.dataset, prepared.log_odds
    practice, penalty = PRACTICE[dataset.kind], None
    if settings.tie_attention and log_odds is not None:
        penalty = attention_penalty(log_odds, settings.tie_attention)
    return train_classifier(
        prepared.model,
        dataset.train,
        dataset.dev,
        collate=prepared.collate,
        epochs=settings.epochs or practice.epochs,
        batch_size=settings.batch_size,
        patience=practice.patience,
        penalty=penalty,
        seed=settings.seed,
        progress=progress,
    )
