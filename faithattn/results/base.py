"""What all results share: instances on dimension 0, joined and listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from faithattn.statistics import none_if_nan


@dataclass(frozen=True, eq=False)
class Result:
    """Base of the results: instances on dimension 0 of every tensor.

    Attributes:
        predicted: Predicted class, ``(B,)``; -1 where there is none.
        max_attention: Largest weight of the explanation's rows among the
            positions of the mask, ``(B,)``.
        mass: Attention on the positions of the mask before conditioning, ``(B,)``.
        view: The attention that was tested.
        output: How logits became outputs.
        replay: How outputs under given attention were computed:
            ``"adapter"`` (its own replay), ``"recorded"`` (only what depends
            on the attention), ``"whole forwards"``; ``"none"`` where there
            were none, ``"mixed"`` where batches differ.
    """

    predicted: Tensor
    max_attention: Tensor
    mass: Tensor
    view: str
    output: str
    replay: str = field(default="none", kw_only=True)

    _same: ClassVar[tuple[str, ...]] = ("view", "output")
    _mixed: ClassVar[tuple[str, ...]] = ("replay",)
    _padded: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def concatenate(cls, results: Sequence[Self]) -> Self:
        """Joins the results of several batches, padded to one length with zeros.

        Raises:
            ValueError: If there are none, or their settings differ.
        """
        if isinstance(results, Result) or not results:
            got = "a single result" if isinstance(results, Result) else "none"
            raise ValueError(f"results must be a list of results; got {got}. Pass a list.")
        for result in results:
            if not isinstance(result, cls):
                raise TypeError(
                    f"results must be of one kind, {cls.__name__}; got {type(result).__name__}. "
                    "Join the results of each test by themselves."
                )
        first = results[0]
        joined: dict[str, Any] = {}
        for name in (each.name for each in fields(cls)):
            values = [getattr(result, name) for result in results]
            if isinstance(values[0], Tensor):
                _require_shared(name, [value.shape[1:] for value in values], cls._padded)
                joined[name] = _join(values)
                continue
            if name in cls._same:
                _require_shared(name, values)
            joined[name] = getattr(first, name)
        for name in cls._mixed:
            if any(getattr(result, name) != getattr(first, name) for result in results):
                joined[name] = "mixed"
        return cls(**joined)

    def records(self) -> list[dict[str, float | int | None]]:
        """One row per instance with every scalar; nan becomes None."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        columns = {
            name: value.tolist()
            for name, value in values.items()
            if isinstance(value, Tensor) and value.ndim == 1
        }
        names = list(columns)
        return [
            {
                name: none_if_nan(value) if isinstance(value, float) else int(value)
                for name, value in zip(names, row, strict=True)
            }
            for row in zip(*columns.values(), strict=True)
        ]


def _require_shared(name: str, values: Sequence[object], exempt: Sequence[str] = ()) -> None:
    """Requires what must not differ between results to be the same."""
    others = [value for value in values if value != values[0]]
    if others and name not in exempt:
        raise ValueError(
            f"results must share their settings; got {name} {values[0]!r} and {others[0]!r}. "
            "Join only results of one test."
        )


def _join(values: Sequence[Tensor]) -> Tensor:
    """Concatenates along dimension 0, padding the others with zeros."""
    shape = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    if all(list(value.shape[1:]) == shape for value in values):
        return torch.cat(list(values))
    joined = values[0].new_zeros(sum(len(value) for value in values), *shape)
    start = 0
    for value in values:
        window = (slice(start, start + len(value)), *(slice(size) for size in value.shape[1:]))
        joined[window] = value
        start += len(value)
    return joined
