"""Which columns a deletion leaves, and what stands where a row lost more than others."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn.adapters.inputs.structure import is_integer
from faithattn.errors import AdapterError


def kept_columns(gone: Tensor, real: Tensor) -> tuple[Tensor, Tensor | None]:
    """The columns each row keeps ``(B, L')``, and which of them padding is to be made of."""
    size = len(real)
    counts = gone.sum(1)
    if bool((counts == counts[:1]).all()):
        order = (~gone).nonzero()[:, 1].view(size, -1) if size else gone.long()
        left = real.gather(1, order).any(0).nonzero()
        return order[:, : int(left[-1]) + 1] if len(left) else order, None
    if (real[:, 1:] & ~real[:, :-1]).any():
        raise AdapterError(
            "inputs must be padded on the right for rows that lose different numbers of "
            "positions; got padding before a token. Delete as many from each row."
        )
    kept = real & ~gone
    order = (~kept).byte().argsort(dim=1, stable=True)
    number = kept.sum(1)
    width = int(number.max())
    blank = torch.arange(width, device=real.device) >= number[:, None]
    return order[:, :width], blank


def check_positions(positions: object) -> None:
    """Raises for what is no tensor ``(B,)`` of whole numbers."""
    _check_numbers(positions)
    if positions.ndim != 1:  # type: ignore[attr-defined]
        raise ValueError(
            "positions must have shape (B,), one for each row; got "
            f"{tuple(positions.shape)}. "  # type: ignore[attr-defined]
            "Repeat rows with select() to take away several of one row."
        )


def _check_numbers(positions: object) -> None:
    if not isinstance(positions, Tensor) or not is_integer(positions):
        got = positions.dtype if isinstance(positions, Tensor) else type(positions).__name__
        raise TypeError(
            f"positions must be an int64 tensor; got {got}. Use torch.tensor([...]), one a row."
        )


def checked_positions(positions: Tensor, real: Tensor) -> Tensor:
    """Positions ``(B, k)`` that can be deleted."""
    if isinstance(positions, Tensor) and positions.ndim == 2:
        _check_numbers(positions)
    else:
        check_positions(positions)
        positions = positions[:, None]
    size, length = real.shape
    if len(positions) != size or ((positions < 0) | (positions >= length)).any():
        raise ValueError(
            f"positions must name one of {length} positions for each of {size} rows; "
            f"got {_listed(positions)}. Choose positions where the mask is True."
        )
    positions = positions.to(real.device)
    astray = ~real.gather(1, positions)
    if astray.any():
        row, column = astray.nonzero()[0].tolist()
        raise ValueError(
            f"positions must be real ones; got {int(positions[row, column])}, which is padding "
            f"in row {row}. Choose positions where the mask is True."
        )
    ordered = positions.sort(1).values
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise ValueError(
            f"positions must differ within a row; got {_listed(positions)}. Name each once."
        )
    return positions


def _listed(positions: Tensor) -> list[int] | list[list[int]]:
    """Positions for messages, a plain list where there is one a row."""
    shown: list[int] | list[list[int]]
    shown = (positions[:, 0] if positions.shape[1] == 1 else positions).tolist()
    return shown


def at_padding(whole: Tensor, real: Tensor, padding: int | None) -> Tensor | None:
    """What a tensor ``(B, L, ...)`` holds at padding; in a batch without any, what it would.

    That is ``padding`` where given, what marks of the real positions do not
    say of these, and 0 for other whole numbers. None where that is not known.
    """
    seen = whole[~real.to(whole.device)]
    if len(seen):
        return seen[0] if bool((seen == seen[:1]).all()) else None
    if whole.ndim != 2 or whole.is_floating_point():
        return None
    if padding is not None:
        return whole.new_tensor(padding)
    first = whole.flatten()[0]
    marks = bool((whole == first).all()) and int(first) in (0, 1)
    return whole.new_tensor(not bool(first)) if marks else whole.new_tensor(0)


def with_padding(value: Tensor, blank: Tensor, known: Tensor) -> Tensor:
    """A tensor ``(B, L', ...)`` with what is known to be at padding put where ``blank``."""
    marks = blank.to(value.device).view(*blank.shape, *[1] * (value.ndim - 2))
    return torch.where(marks, known, value)
