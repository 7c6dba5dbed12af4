"""Training the published models: balanced classes, the best epoch kept, nothing global touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn, TypeVar, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from faithattn._checks import require_count
from faithattn.adapters.protocol import AttentionModel
from faithattn.paper.data.examples import Example
from faithattn.paper.data.portions import portions
from faithattn.paper.training.evaluation import (
    Collate,
    check_examples,
    check_output,
    collated,
    evaluate,
    text_length,
)
from faithattn.paper.training.log import TrainingLog, TrainingRecord
from faithattn.paper.training.loss import ClassWeights, losses
from faithattn.paper.training.penalty import Penalty

_M = TypeVar("_M", bound=nn.Module)
_BATCHES_SORTED_TOGETHER = 50


def build(make: Callable[[], _M], *, seed: int) -> _M:
    """Makes a module from a seed and leaves the global random state as it was.

    Args:
        make: Returns the module, on the CPU.
        seed: Seed of its first weights.

    Returns:
        The module; the same seed gives the same weights.

    Examples:
        >>> first, second = (build(lambda: nn.Linear(3, 2), seed=0) for _ in range(2))
        >>> bool((first.weight == second.weight).all())
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def train_classifier(
    model: nn.Module,
    train: Sequence[Example],
    dev: Sequence[Example],
    *,
    collate: Collate,
    epochs: int = 8,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-5,
    patience: int | None = None,
    class_weights: bool = True,
    penalty: Penalty | None = None,
    seed: int = 0,
    progress: bool = True,
) -> TrainingRecord:
    """Trains a model in place and keeps the weights of its best epoch on ``dev``.

    Adam (amsgrad) with weight decay, as published. The loss is binary cross
    entropy for a model of one logit, else cross entropy; for several labels the
    mean of their binary cross entropies. Batches hold texts of similar length,
    in an order drawn from ``seed`` alone. A batch that would leave the memory
    budget is passed in parts, whose gradients are added up: the step is the
    same. The best epoch has the highest dev accuracy, for several labels the
    highest dev macro F1, and among equals the lowest dev loss; training stops
    once every dev example is right.

    Args:
        model: Maps collated inputs to logits ``(B, C)``.
        train: Examples to learn from.
        dev: Examples to choose the epoch with.
        collate: Maps examples to the model's inputs and classes ``(B,)``, int64,
            or which of C labels hold ``(B, C)``, bool.
        epochs: Passes over ``train`` at most.
        batch_size: Examples in a step.
        learning_rate: Of Adam.
        weight_decay: Of Adam, added to the gradient.
        patience: Stop after so many epochs in a row without a better one; None
            for no such limit.
        class_weights: Weight each example by the inverse frequency of its
            class, so that classes count alike; the mean weight is 1. Of each of
            several labels, examples with it and without it count alike.
        penalty: Maps inputs and the model's run to what is added to the loss of
            a step, such as :func:`attention_penalty`. The model must then have
            ``run``, which is in eval mode, and each step is one run.
        seed: Seed of the order of the examples.
        progress: Show progress bars on standard error.

    Returns:
        Losses and dev scores of every epoch. The model is left in the mode it
        came in.

    Raises:
        TypeError: If there is a penalty and the model has no ``run``, or labels
            are neither int64 nor bool.
        ValueError: If a set of examples is empty, a number or label out of range,
            or the model's output does not go with the labels.
        FloatingPointError: If the loss is not finite; the weights are then
            those of the step before.

    References:
        Jain and Wallace (2019), "Attention is not Explanation".

    Examples:
        >>> from faithattn.paper.data.batches import collate_texts
        >>> from faithattn.paper.models import TextClassifier
        >>> from faithattn.paper.data.vocabulary import Vocabulary
        >>> examples = [Example(("good", "film"), 1), Example(("bad", "film"), 0)] * 8
        >>> vocabulary = Vocabulary.build([example.tokens for example in examples])
        >>> model = build(lambda: TextClassifier(len(vocabulary), encoder="average"), seed=0)
        >>> record = train_classifier(
        ...     model, examples, examples, collate=lambda batch: collate_texts(batch, vocabulary),
        ...     epochs=3, batch_size=4, progress=False,
        ... )
        >>> record.dev_accuracy[record.best_epoch]
        1.0
    """
    check_examples("train", train)
    check_examples("dev", dev)
    _check_numbers(epochs, batch_size, learning_rate, weight_decay, patience)
    _check_penalty(model, penalty)
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=learning_rate,
        weight_decay=weight_decay,
        amsgrad=True,
        fused=True,  # several times faster on the CPU for large embeddings
    )
    step = _Step(model, optimizer, collate, ClassWeights(train) if class_weights else None, penalty)
    generator = torch.Generator().manual_seed(seed)
    log = TrainingLog(seed, several=train[0].labels is not None)
    total = epochs * math.ceil(len(train) / batch_size)
    with _training(model), tqdm(total=total, desc="training", disable=not progress) as bar:
        for _ in range(epochs):
            order = _bucketed(train, batch_size, generator)
            loss = _epoch(step, order, bar)
            log.add(loss, evaluate(model, dev, collate=collate), model)
            bar.set_postfix(log.shown())
            if log.dev[-1].accuracy == 1 or log.epochs_since_best == patience:
                break
    model.load_state_dict(log.best_weights)
    return log.record()


@contextmanager
def _training(model: nn.Module) -> Iterator[None]:
    """Puts a module in training mode and gives every submodule its own mode back."""
    modes = [(part, part.training) for part in model.modules()]
    model.train()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


class _Step(NamedTuple):
    """What a step of training needs, whatever the batch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    collate: Collate
    weights: ClassWeights | None
    penalty: Penalty | None

    def take(self, examples: Sequence[Example], number: int) -> float:
        """Takes step ``number`` on a batch and returns its loss."""
        self.optimizer.zero_grad()
        total = 0.0
        for part in portions([text_length(example) for example in examples], len(examples)):
            loss = self._loss(examples[part.start : part.stop]) * (len(part) / len(examples))
            value = loss.item()
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"loss must be finite; got {value} in step {number}. "
                    "Lower learning_rate, or look for nan in the vectors."
                )
            torch.autograd.backward(loss)
            total += value
        self.optimizer.step()
        return total

    def _loss(self, examples: Sequence[Example]) -> Tensor:
        """The mean loss of some examples, in one pass through the model."""
        inputs, labels = collated(self.model, examples, self.collate)
        if self.penalty is None:
            logits, extra = self.model(inputs), None
        else:
            run = cast(AttentionModel, self.model).run(inputs)
            logits, extra = run.logits, self.penalty(inputs, run)
        check_output(self.model, logits, labels)
        loss = losses(logits, labels, self.weights).mean()
        return loss if extra is None else loss + extra


def _epoch(step: _Step, batches: Sequence[Sequence[Example]], bar: tqdm[NoReturn]) -> float:
    """Takes one step a batch and returns the mean loss."""
    total = 0.0
    for examples in batches:
        total += step.take(examples, int(bar.n) + 1) * len(examples)
        bar.update()
    return total / sum(map(len, batches))


def _bucketed(
    examples: Sequence[Example], batch_size: int, generator: torch.Generator
) -> list[list[Example]]:
    """Returns shuffled batches of examples of similar length."""
    order = torch.randperm(len(examples), generator=generator).tolist()
    pool = batch_size * _BATCHES_SORTED_TOGETHER
    batches = []
    for start in range(0, len(order), pool):
        near = sorted((examples[i] for i in order[start : start + pool]), key=text_length)
        batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _check_penalty(model: nn.Module, penalty: Penalty | None) -> None:
    """Raises unless the model can show what is penalised."""
    if penalty is not None and not isinstance(model, AttentionModel):
        raise TypeError(
            f"model must have run, to show its attention to the penalty; got "
            f"{type(model).__name__}. Use one of the published models."
        )


def _check_numbers(
    epochs: int, batch_size: int, learning_rate: float, weight_decay: float, patience: int | None
) -> None:
    """Raises if an option is out of range."""
    require_count("epochs", epochs)
    require_count("batch_size", batch_size)
    if patience is not None:
        require_count("patience", patience)
    if not (0 < learning_rate < math.inf and 0 <= weight_decay < math.inf):
        raise ValueError(
            f"learning_rate must be positive and weight_decay not negative; got {learning_rate} "
            f"and {weight_decay}. Use the defaults."
        )
