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
        train_loss: Mean training loss, class weights and penalty included.
        dev_loss: Mean cross entropy on the dev examples, unweighted.
        dev_accuracy: Accuracy on the dev examples.
        best_epoch: Epoch whose weights were kept, counted from 0.
        seconds: Wall time of all epochs.
        seed: Seed of the order of the examples.
        dev_f1: Macro F1 on the dev examples; empty in records of earlier versions.
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
        several: Whether examples have several labels. Of rare labels nearly all
            are right in any epoch, so the best one then has the highest F1.
    """

    def __init__(self, seed: int, *, several: bool = False) -> None:
        self.seed = seed
        self.several = several
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
        if len(self.dev) == 1 or self._merit(dev) > self._merit(self.dev[self.best]):
            self.best = len(self.dev) - 1
            self.best_weights = copy.deepcopy(model.state_dict())

    def shown(self) -> dict[str, str]:
        """What the progress bar tells of the latest epoch."""
        shown = {"dev_accuracy": f"{self.dev[-1].accuracy:.3f}"}
        return {**shown, "dev_f1": f"{self.dev[-1].macro_f1:.3f}"} if self.several else shown

    def _merit(self, dev: Evaluation) -> tuple[float, float]:
        """What epochs are compared by."""
        return dev.macro_f1 if self.several else dev.accuracy, -dev.loss

    def record(self) -> TrainingRecord:
        """Returns what was collected."""
        return TrainingRecord(
            train_loss=tuple(self.losses),
            dev_loss=tuple(dev.loss for dev in self.dev),
            dev_accuracy=tuple(dev.accuracy for dev in self.dev),
            best_epoch=self.best,
            seconds=time.perf_counter() - self.start,
            seed=self.seed,
            dev_f1=tuple(dev.macro_f1 for dev in self.dev),
        )
