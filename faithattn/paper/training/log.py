"""What happens while a model trains: losses, dev scores, the best weights."""

from __future__ import annotations

import copy
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
        dev_accuracy: Accuracy on the dev examples.
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


class TrainingLog:
    """Collects epochs and keeps the weights of the best one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
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
        best = self.dev[self.best]
        if len(self.dev) == 1 or (dev.accuracy, -dev.loss) > (best.accuracy, -best.loss):
            self.best = len(self.dev) - 1
            self.best_weights = copy.deepcopy(model.state_dict())

    def record(self) -> TrainingRecord:
        """Returns what was collected."""
        return TrainingRecord(
            train_loss=tuple(self.losses),
            dev_loss=tuple(dev.loss for dev in self.dev),
            dev_accuracy=tuple(dev.accuracy for dev in self.dev),
            best_epoch=self.best,
            seconds=time.perf_counter() - self.start,
            seed=self.seed,
        )
