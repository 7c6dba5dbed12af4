"""Changes to attention rows that leave the model's inputs alone."""

from __future__ import annotations

from torch import Tensor


def without_positions(conditional: Tensor, gone: Tensor, *, renormalize: bool) -> Tensor:
    """Rows ``(B, R, L)`` without the weights of positions ``gone`` (K, B, L): ``(K, B, R, L)``.

    Renormalised rows divide what is left by its sum; a row whose whole weight
    was taken is undefined (nan): callers say what that means to them.
    """
    rows = conditional * ~gone[:, :, None]
    if not renormalize:
        return rows
    return rows.div_(rows.sum(-1, keepdim=True))
