"""What happens while a model trains: losses, dev scores, the best weights."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

from torch import Tensor, nn

from faithattn.paper.training.evaluation import Evaluation


@dataclass(frozen=True)
class TrainingRecord:
    """What happened in training, one entry an epoch.

    Attributes:
        train_loss: Mean training loss, class weights included.
        dev_loss: Mean loss on the dev examples, unweighted.
        dev_accuracy: Accuracy on the dev examples; of several labels, the
            share of labels right.
        dev_f1: Macro F1 on the dev examples; empty in records from before it
            was measured.
        best_epoch: Epoch whose weights were kept, counted from 0.
        seconds: Wall time of all epochs.
        seed: Seed of the order of the examples.
    """

    train_loss: tuple[float, ...]
    dev_loss: tuple[float, ...]
    dev_accuracy: tuple[float, ...]
    best_epoch: int
    seconds: float
    seed: int
    dev_f1: tuple[float, ...] = ()


class TrainingLog:
    """Collects epochs and keeps the weights of the best one.

    Args:
        seed: Seed of the order of the examples.
        by_f1: Whether macro F1 says which is best, instead of accuracy.
    """

    def __init__(self, seed: int, *, by_f1: bool = False) -> None:
        self.seed, self.by_f1 = seed, by_f1
        self.start = time.perf_counter()
        self.losses: list[float] = []
        self.dev: list[Evaluation] = []
        self.best = 0
        self.best_weights: dict[str, Tensor] = {}

    @property
    def epochs_since_best(self) -> int:
        """Epochs in a row without a better one."""
        return len(self.dev) - 1 - self.best

    def add(self, loss: float, dev: Evaluation, model: nn.Module) -> None:
        """Notes one epoch."""
        self.losses.append(loss)
        self.dev.append(dev)
        if len(self.dev) == 1 or self._rank(dev) > self._rank(self.dev[self.best]):
            self.best = len(self.dev) - 1
            self.best_weights = copy.deepcopy(model.state_dict())

    def _rank(self, dev: Evaluation) -> tuple[float, float]:
        """What the best epoch has most of; undefined F1 is the least there is."""
        score = dev.macro_f1 if self.by_f1 else dev.accuracy
        return (-1.0 if math.isnan(score) else score, -dev.loss)

    def record(self) -> TrainingRecord:
        """Returns what was collected."""
        return TrainingRecord(
            train_loss=tuple(self.losses),
            dev_loss=tuple(dev.loss for dev in self.dev),
            dev_accuracy=tuple(dev.accuracy for dev in self.dev),
            dev_f1=tuple(dev.macro_f1 for dev in self.dev),
            best_epoch=self.best,
            seconds=time.perf_counter() - self.start,
            seed=self.seed,
        )
