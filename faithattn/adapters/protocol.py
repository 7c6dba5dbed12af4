"""What a model must offer: one required method, three optional ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Run:
    """What a model did with one batch.

    Attributes:
        logits: Model output before the squashing function, ``(B, C)``.
        attention: Weights by site: ``(B, Lk)``, ``(B, Lq, Lk)`` or
            ``(B, H, Lq, Lk)``; every row sums to one.
        mask: ``(B, L)`` bool, True where a position can be explained; padding
            and special tokens are False. A mapping by site or feature name
            where lengths differ.
        features: Differentiable inputs ``(B, L, E)`` by the names that
            ``run(features=...)`` takes back; empty if there are none.
        support: Bool tensors shaped like the attention: the keys each row may
            use. None means no limit.
        state: Opaque; what :meth:`SupportsReplay.replay` needs.

    Examples:
        >>> import torch
        >>> row = torch.tensor([[0.5, 0.3, 0.2]])
        >>> run = Run(torch.zeros(1, 2), {"pool": row}, mask=row > 0)
        >>> run.features, run.state is None
        ({}, True)
    """

    logits: Tensor
    attention: Mapping[str, Tensor]
    mask: Tensor | Mapping[str, Tensor]
    features: Mapping[str, Tensor] = field(default_factory=dict)
    support: Mapping[str, Tensor] | None = None
    state: Any = None


@runtime_checkable
class AttentionModel(Protocol):
    """A model whose attention can be read and replaced.

    ``run`` obeys the ambient grad mode: where gradients are on, the features
    carry them, frozen weights or not. It evaluates in eval mode by itself and
    leaves the model's mode as it was. Overrides are used as given.

    An optional attribute ``output`` says how logits become probabilities:
    ``"auto"`` (one logit: sigmoid, several: softmax), ``"sigmoid"``,
    ``"softmax"`` or ``"identity"``.

    Examples:
        >>> import torch
        >>> from faithattn import Run, check_adapter, permutation_test
        >>> class WeightedSum:
        ...     def run(self, inputs, *, attention=None, features=None):
        ...         x = (features or {"x": inputs})["x"]
        ...         if torch.is_grad_enabled() and not x.requires_grad:
        ...             x = x.detach().requires_grad_()
        ...         a = (attention or {"a": x[..., 0].softmax(-1)})["a"]
        ...         logits = (a * x[..., 1]).sum(-1, keepdim=True)
        ...         mask = torch.ones(a.shape, dtype=torch.bool)
        ...         return Run(logits, {"a": a}, mask, {"x": x})
        >>> x = torch.tensor([[[1.0, 2.0], [0.0, -1.0], [2.0, 0.5]]])
        >>> check_adapter(WeightedSum(), x)
        >>> permutation_test(WeightedSum(), x, seed=0).median_tvd
        tensor([0.1148])
    """

    def run(
        self,
        inputs: Any,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model once, with attention or features replaced if given."""
        ...


@runtime_checkable
class SupportsReplay(Protocol):
    """Optional: outputs under other attention without running the encoder.

    Examples:
        >>> from faithattn.paper.models import TextClassifier
        >>> isinstance(TextClassifier(9), SupportsReplay)
        True
    """

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        """Maps ``attention[site]`` of ``(K, B, ...)`` to logits ``(K, B, C)``.

        Takes K = 1, broadcasts the state over K, and is differentiable in the
        attention and in the state.
        """
        ...


@runtime_checkable
class SupportsRemoval(Protocol):
    """Optional: deletion for inputs that only the model's author can edit.

    Examples:
        >>> from faithattn.paper.models import TextClassifier
        >>> isinstance(TextClassifier(9), SupportsRemoval)
        True
    """

    def remove(self, inputs: Any, positions: Tensor) -> Any:
        """Deletes one position ``(rows,)`` in each row, shortening it by one.

        Whatever counts or marks positions, such as lengths, goes with it.
        """
        ...


@runtime_checkable
class SupportsSetRemoval(SupportsRemoval, Protocol):
    """Optional: deletion of several positions at once, more in some rows than in others.

    Without it positions are deleted one after the other, the last first, and
    rows that lose as many run together.

    Examples:
        >>> from faithattn.paper.models import TextClassifier
        >>> isinstance(TextClassifier(9), SupportsSetRemoval)
        True
    """

    def remove_sets(self, inputs: Any, gone: Tensor) -> Any:
        """Deletes the positions ``gone`` (rows, L) bool, which may be none of a row.

        A row that loses more than another is padded. Columns behind the last
        real position of all rows are best cut; those before it keep their
        numbers where nothing goes.
        """
        ...


@runtime_checkable
class SupportsSelection(Protocol):
    """Optional: for inputs that do not hold instances on dimension 0.

    Examples:
        >>> from faithattn.paper.models import TextClassifier
        >>> isinstance(TextClassifier(9), SupportsSelection)
        True
    """

    def select(self, inputs: Any, rows: Tensor) -> Any:
        """Returns the inputs of the given rows ``(n,)``, which may repeat."""
        ...
