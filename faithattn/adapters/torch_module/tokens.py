"""Logits of one token of a sequence, for causal and sequence-to-sequence models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn.errors import AdapterError


@dataclass(frozen=True)
class TokenLogits:
    """Takes ``(B, C)`` out of ``(B, T, V)``; made by :func:`token_logits`.

    Attributes:
        position: Which of the T positions, None for the last real one.
        among: The vocabulary entries that are the classes; None for all.
    """

    position: int | None
    among: tuple[int, ...] | None

    def __call__(self, returned: Any) -> Tensor:
        """The logits at the position, of a batch without padding."""
        return self.take(returned, lambda _length: None)

    def take(self, returned: Any, real: Callable[[int], Tensor | None]) -> Tensor:
        """The logits at the position; ``real(T)`` tells which positions are no padding."""
        logits = sequence_logits(returned)
        if self.position is None:
            known = real(logits.shape[1])
            rows = torch.arange(logits.shape[0], device=logits.device)
            picked = logits[:, -1] if known is None else logits[rows, last_true(known)]
        elif -logits.shape[1] <= self.position < logits.shape[1]:
            picked = logits[:, self.position]
        else:
            raise AdapterError(
                f"position must be one of {logits.shape[1]} positions of the logits; "
                f"got {self.position}. Negative numbers count from the end."
            )
        return picked if self.among is None else picked[:, list(self.among)]


def token_logits(position: int | None = None, *, among: Sequence[int] | None = None) -> TokenLogits:
    """The logits of one token, for ``adapt(model, logits=token_logits(...))``.

    A causal or sequence-to-sequence model gives logits ``(B, T, V)``, one row
    for every position; the tests explain one of them. With ``among`` only
    some tokens compete, for instance the two that answer yes and no; class 0
    is then the first of them.

    Args:
        position: Which of the T positions; negative counts from the end; None
            is the last one that is no padding, of each instance.
        among: Token ids that are the classes; None for the whole vocabulary.

    Returns:
        A function of what the model returns.

    Raises:
        TypeError: If ``position`` is no whole number or ``among`` holds none.
        ValueError: If ``among`` is empty or repeats an id.

    Examples:
        >>> import torch
        >>> logits = torch.arange(12.0).view(1, 3, 4)
        >>> token_logits(-1, among=[2, 0])(logits)
        tensor([[10.,  8.]])
    """
    whole = position is None or (isinstance(position, int) and not isinstance(position, bool))
    if not whole:
        raise TypeError(
            f"position must be an int or None; got {position!r}. "
            "None is the last position that is no padding."
        )
    ids = None if among is None else tuple(among)
    if ids is not None and not all(isinstance(each, int) for each in ids):
        raise TypeError(f"among must hold token ids; got {among!r}. Pass whole numbers.")
    if ids is not None and (not ids or len(set(ids)) < len(ids)):
        raise ValueError(
            f"among must hold at least one token id, each once; got {among!r}. "
            "Leave it out for the whole vocabulary."
        )
    return TokenLogits(position, ids)


def sequence_logits(returned: Any) -> Tensor:
    """Logits ``(B, T, V)`` in what a model returns."""
    for candidate in (returned, getattr(returned, "logits", None)):
        if isinstance(candidate, Tensor) and candidate.ndim == 3:
            return candidate
    if isinstance(returned, tuple | list) and returned and isinstance(returned[0], Tensor):
        return sequence_logits(returned[0])
    got = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned).__name__
    raise AdapterError(
        f"model must return logits of shape (B, T, V) for token_logits; got {got}. "
        "Leave logits= out for a classifier."
    )


def last_true(flags: Tensor) -> Tensor:
    """Index of the last True of each row, ``(B,)``; 0 where there is none."""
    places = torch.arange(flags.shape[1], device=flags.device)
    return (flags * places).amax(1)
