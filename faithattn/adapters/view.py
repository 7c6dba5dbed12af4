"""AttentionView: which site, heads and query rows are "the attention"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

from torch import Tensor


@dataclass(frozen=True)
class AttentionView:
    """Which rows of which attention are taken as the explanation.

    The explanation is the mean of the chosen rows. A model with one site and
    one row needs no view.

    Attributes:
        site: Name of the attention, as in ``Run.attention``.
        heads: A head, several, or None for all.
        query: A query row (negative counts from the end), a tensor ``(B,)``
            with one row per instance, or None for all.
        feature: The differentiable input to attribute to, where a run has
            several; None where it has one.

    Examples:
        >>> str(AttentionView("encoder.layer.3", heads=(0, 2), query=0))
        'encoder.layer.3, heads 0 and 2, query 0'
    """

    site: str
    heads: int | Sequence[int] | None = None
    query: int | Tensor | None = None
    feature: str | None = None

    def __post_init__(self) -> None:
        heads = () if self.heads is None else self.heads
        if isinstance(heads, str) or not all(_is_index(head) for head in as_tuple(heads)):
            raise TypeError(
                f"heads must be an int, several, or None for all; got {self.heads!r}. "
                "Number them from 0."
            )
        if not (self.query is None or isinstance(self.query, Tensor) or _is_index(self.query)):
            raise TypeError(
                f"query must be an int, a tensor with one row per instance, or None for all; "
                f"got {self.query!r}. Number the rows from 0."
            )

    def __str__(self) -> str:
        heads = () if self.heads is None else as_tuple(self.heads)
        parts = [self.site]
        if heads:
            label = "head" if len(heads) == 1 else "heads"
            parts.append(f"{label} {' and '.join(str(head) for head in heads)}")
        if isinstance(self.query, Tensor):
            parts.append("one query per instance")
        elif self.query is not None:
            parts.append(f"query {self.query}")
        if self.feature is not None:
            parts.append(f"feature {self.feature}")
        return ", ".join(parts)


def as_tuple(heads: int | Sequence[int]) -> tuple[int, ...]:
    """One head, or several, as a tuple."""
    return tuple(heads) if isinstance(heads, Iterable) else (heads,)


def _is_index(value: object) -> bool:
    return isinstance(value, SupportsIndex) and not isinstance(value, bool | Tensor)
