"""What Captum is given: the features of the explained positions, and the output they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from faithattn.adapters.contract.subject import modules
from faithattn.adapters.inputs.structure import select
from faithattn.adapters.reading import Reading, chosen_feature, resolve_target
from faithattn.errors import AdapterError
from faithattn.importance.removal.guard import fits
from faithattn.measures.outputs import class_probability, probabilities

OF = ("probability", "logit")


@dataclass(frozen=True, eq=False)
class Explained:
    """A reading as a function of the features at its explained positions.

    These come first and in order, ``(B, N, E)`` with N the most that any
    instance has; all others, such as padding and special tokens, are fixed.

    Attributes:
        reading: The run that is explained.
        name: Name of the feature.
        feature: All of it, ``(B, L, E)``, detached.
        places: Where each explained position is among the L, ``(B, N)``; L
            where an instance has fewer than N.
        counts: How many positions each instance has, ``(B,)``.
        of: ``"probability"`` or ``"logit"``.
        detached: Whether the attention is held at its own weights.
        evaluations: How often each instance was run, ``(B,)``; it counts on.
    """

    reading: Reading
    name: str
    feature: Tensor
    places: Tensor
    counts: Tensor
    of: str
    detached: bool
    evaluations: Tensor

    @property
    def values(self) -> Tensor:
        """The features of the explained positions, ``(B, N, E)``, 0 where there is none."""
        return self.compact(self.feature)

    @property
    def live(self) -> Tensor:
        """Which of the N places hold a position, ``(B, N)`` bool."""
        return self.places < self.feature.shape[1]

    def compact(self, full: Tensor) -> Tensor:
        """Takes ``(B, L, ...)`` to ``(B, N, ...)``."""
        padded = torch.cat([full, torch.zeros_like(full[:, :1])], 1)
        rows = torch.arange(len(full), device=full.device)[:, None]
        return padded[rows, self.places]

    def spread(self, scores: Tensor) -> Tensor:
        """Takes scores ``(B, N)`` to the length of the mask, ``(B, L)``, 0 elsewhere."""
        mask = self.reading.rows.mask
        wide = scores.new_zeros(len(scores), mask.shape[1] + 1)
        return wide.scatter(1, self.places, scores)[:, :-1].masked_fill(~mask, 0)

    def full(self, values: Tensor, rows: Tensor) -> Tensor:
        """Features ``(n, L, E)`` of some rows with values ``(n, M, E)`` at their first places."""
        length, size = self.feature.shape[1:]
        places = self.places[rows, : values.shape[1], None].expand(-1, -1, size)
        padded = torch.nn.functional.pad(self.feature[rows], (0, 0, 0, 1))
        return padded.scatter(1, places, values.to(padded.dtype))[:, :length]

    def logits(self, features: Tensor | None, rows: Tensor) -> Tensor:
        """Logits ``(n, C)`` of some rows, which may repeat, with features ``(n, L, E)``."""
        reading = self.reading
        self.evaluations.index_add_(0, rows, torch.ones_like(rows))
        overrides: dict[str, Any] = {} if features is None else {"features": {self.name: features}}
        if self.detached:
            overrides["attention"] = {
                name: weights[rows] for name, weights in reading.rows.attention.items()
            }
        every = torch.arange(len(self.counts), device=rows.device)
        whole = rows.shape == every.shape and torch.equal(rows, every)
        inputs = reading.inputs if whole else select(reading.model, reading.inputs, rows)
        return reading.model.run(inputs, **overrides).logits

    def output(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Probability or logit of the classes, both ``(n,)``."""
        kind = self.reading.output
        if self.of == "probability":
            return class_probability(probabilities(logits, kind), classes, kind)
        wide = probabilities(logits, "identity")
        if kind == "sigmoid" and wide.shape[1] == 1:
            return torch.where(classes == 1, wide[:, 0], -wide[:, 0])
        return wide.gather(1, classes[:, None])[:, 0]


class Forward(nn.Module):
    """Maps features ``(n, M, E)`` and row numbers ``(n,)`` to outputs ``(n,)``."""

    def __init__(self, explained: Explained, classes: Tensor) -> None:
        super().__init__()
        self.explained = explained
        self.classes = classes

    def forward(self, values: Tensor, rows: Tensor) -> Tensor:
        """The output of each row's class."""
        logits = self.explained.logits(self.explained.full(values, rows), rows)
        _require_gradient(self.explained, values, logits)
        return self.output(logits, self.classes[rows])

    def output(self, logits: Tensor, classes: Tensor) -> Tensor:
        """From logits to the outputs of the classes."""
        return self.explained.output(logits, classes)


class Hooked(Forward):
    """The same with all modules inside, for methods that hook them.

    The last step is a module, too: the probability is the sigmoid of the
    class's log-odds, so that a rule for ``nn.Sigmoid`` reaches it.
    """

    def __init__(self, explained: Explained, classes: Tensor) -> None:
        super().__init__(explained, classes)
        self.parts = nn.ModuleList(modules(explained.reading.model))
        self.squash = nn.Sigmoid()

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Visits every part once, also one that several parts share."""
        for part in self.modules():
            fn(part)
        return self

    def output(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The same outputs as of :class:`Forward`."""
        kind = self.explained.reading.output
        if self.explained.of == "logit" or kind == "identity":
            return self.explained.output(logits, classes)
        wide = probabilities(logits, "identity")
        if wide.shape[1] == 1:
            odds = torch.where(classes == 1, wide[:, 0], -wide[:, 0])
        else:
            odds = wide.gather(1, classes[:, None])[:, 0]
            if kind == "softmax":
                others = wide.scatter(1, classes[:, None], -torch.inf)
                odds = odds - others.logsumexp(1)
        squashed: Tensor = self.squash(odds)
        return squashed


def explained(reading: Reading, of: str, detached: bool) -> Explained:
    """Prepares a reading for attribution."""
    name, feature = chosen_feature(reading)
    mask = reading.rows.mask
    if not fits(feature, mask):
        raise AdapterError(
            f"features[{name!r}] must be as long as the mask, {tuple(mask.shape)}; "
            f"got {tuple(feature.shape)}. Name another feature in the view."
        )
    length = feature.shape[1]
    inside = mask[:, :length]
    counts = inside.sum(1)
    rank = (inside.long().cumsum(1) - 1).masked_fill(~inside, length)
    columns = torch.arange(length, device=mask.device).expand_as(rank)
    places = columns.new_full((len(mask), length + 1), length).scatter(1, rank, columns)
    places[:, length] = length
    places = places[:, : max(1, int(counts.max()))]
    evaluations = torch.zeros_like(counts)
    return Explained(reading, name, feature.detach(), places, counts, of, detached, evaluations)


def explained_classes(reading: Reading, target: int | Tensor | None) -> list[Tensor]:
    """The classes ``(B,)`` to explain: one of each instance, or every label in turn."""
    count = reading.outputs.shape[-1]
    unnamed = target is None and reading.output != "softmax"
    if unnamed and (count > 1 or reading.output == "identity"):
        return [torch.full_like(reading.predicted, label) for label in range(count)]
    return [resolve_target(target, reading)]


def _require_gradient(explained: Explained, values: Tensor, logits: Tensor) -> None:
    if torch.is_grad_enabled() and values.requires_grad and not logits.requires_grad:
        raise AdapterError(
            f"logits must depend on features[{explained.name!r}]; got logits without gradient. "
            "Take out what cuts it, such as detach() or torch.no_grad(), or use a method without "
            "gradients such as 'feature_ablation'."
        )
