"""Tokens replaced by a mask token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.inputs import names
from faithattn.adapters.inputs.belonging import counts_up, is_flags, labelled
from faithattn.adapters.inputs.source import Path, paths, replaced_at
from faithattn.adapters.inputs.structure import is_integer
from faithattn.errors import AdapterError


def mask_token(token_id: int, *, key: str | int | None = None) -> Callable[[Any, Tensor], Any]:
    """A removal that puts the mask token in the place of a token.

    For :func:`leave_one_out_importance` and :func:`loo_correlation`. The
    inputs are a tensor of ids ``(B, L)``, or a tuple or mapping with one.

    Args:
        token_id: Id of the mask token, such as ``tokenizer.mask_token_id``.
        key: Name or place of the ids, where the inputs hold several texts;
            by default ``input_ids``, or the one tensor of ids.

    Returns:
        A function ``(inputs, positions (B,)) -> inputs`` that changes one
        position of each row and leaves the given inputs alone; its name in
        results is ``mask_token(103)``.

    Raises:
        TypeError: If ``token_id`` is no whole number.
        ValueError: If it is negative.

    Examples:
        >>> import torch
        >>> removal = mask_token(103)
        >>> ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
        >>> removal(ids, torch.tensor([1, 0]))
        tensor([[  5, 103,   7],
                [103,   9,   0]])
        >>> str(removal)
        'mask_token(103)'
    """
    return _MaskToken(require_count("token_id", token_id, least=0), key)


@dataclass(frozen=True)
class _MaskToken:
    token_id: int
    key: str | int | None

    def __call__(self, inputs: Any, positions: Tensor) -> Any:
        path, ids = _ids(inputs, self.key)
        rows = torch.arange(len(ids), device=ids.device)
        return self._with_token(inputs, path, ids, (rows, positions.to(ids.device)))

    def hide(self, inputs: Any, gone: Tensor) -> Any:
        """The same at all positions where ``gone`` (B, L)."""
        path, ids = _ids(inputs, self.key)
        return self._with_token(inputs, path, ids, gone.to(ids.device).nonzero(as_tuple=True))

    def _with_token(self, inputs: Any, path: Path, ids: Tensor, at: tuple[Tensor, ...]) -> Any:
        changed = ids.clone()
        changed[at] = self.token_id
        return replaced_at(inputs, path, changed)

    def __str__(self) -> str:
        place = "" if self.key is None else f", key={self.key!r}"
        return f"mask_token({self.token_id}{place})"


def _ids(inputs: Any, key: str | int | None) -> tuple[Path, Tensor]:
    """The ids that are asked for, those that are named so, or the only ones."""
    found = [(path, each) for path, each in paths(inputs) if each.ndim == 2 and is_integer(each)]
    if key is not None:
        found = [(path, each) for path, each in found if path == (key,)]
    elif isinstance(inputs, Mapping):
        texts = [(path, each) for path, each in found if names.is_text(path[-1])]
        found = texts or [(path, each) for path, each in found if not names.parsed(path[-1])]
    if len(found) > 1:
        found = [
            (path, each) for path, each in found if not (is_flags(each) or counts_up(each))
        ] or found
    if len(found) != 1:
        listing = ", ".join(labelled(path, each) for path, each in paths(inputs)) or "no tensor"
        asked = "" if key is None else f" at {key!r}"
        raise AdapterError(
            f"inputs must hold one tensor of ids (B, L){asked} to put mask tokens in; "
            f"got {len(found)} of them among {listing}. "
            "Use mask_token(token_id, key=...), or a function (inputs, positions) -> inputs."
        )
    return found[0]
