"""A run is checked before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from faithattn.adapters.protocol import Run
from faithattn.errors import AdapterError

_LAYOUTS = "(B, Lk), (B, Lq, Lk) or (B, H, Lq, Lk)"


def validate_run(run: object, *, support: bool = True) -> None:
    """Raises AdapterError with the first violation of a run.

    Support may be computed only when it is asked for; it can be left for later.
    """
    for violation in run_violations(run, support=support):
        raise AdapterError(violation)


def require_support(run: Run, site: str) -> None:
    """Raises AdapterError unless the support of a site fits its attention."""
    for violation in _support(run, site, run.attention[site]):
        raise AdapterError(violation)


def require_logits(logits: object) -> None:
    """Raises AdapterError unless logits are finite and of shape (B, C)."""
    for violation in _logits(logits):
        raise AdapterError(violation)


def require_replayed(logits: object, shape: tuple[int, ...]) -> None:
    """Raises AdapterError unless replayed logits are finite and of shape (K, B, C)."""
    if not isinstance(logits, Tensor) or tuple(logits.shape) != shape:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise AdapterError(
            f"replay must return logits of shape (K, B, C), here {shape}; got {got}. "
            "Keep the alternatives first and broadcast the state over them."
        )
    for violation in _finite("replayed logits", logits.transpose(0, 1)):
        raise AdapterError(violation)


def run_violations(run: object, *, support: bool = True) -> list[str]:
    """Every rule of the contract that a run's values break."""
    if not isinstance(run, Run):
        return [f"run must return a faithattn.Run; got {type(run).__name__}. Build one."]
    found = _logits(run.logits)
    if found:
        return found
    size = run.logits.shape[0]
    if not isinstance(run.attention, Mapping) or not run.attention:
        return ["attention must hold at least one site; got none. Name the weights it uses."]
    for name, value in run.attention.items():
        found += _attention(name, value, size)
    if found:
        return found
    for name, value in run.attention.items():
        found += _mask(run, name, value) + (_support(run, name, value) if support else [])
    if not isinstance(run.features, Mapping):
        return [*found, f"features must be a mapping; got {type(run.features).__name__}."]
    for name, value in run.features.items():
        found += _feature(name, value, size)
    return found


def _logits(logits: object) -> list[str]:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        got = getattr(logits, "dtype", type(logits).__name__)
        return [f"logits must be a floating-point tensor; got {got}. Return them before argmax."]
    if logits.ndim != 2 or logits.numel() == 0:
        return [
            f"logits must have shape (batch, outputs), neither empty; got {tuple(logits.shape)}. "
            "Reduce or unsqueeze, or pass logits= to adapt()."
        ]
    return _finite("logits", logits)


def _attention(name: str, value: object, size: int) -> list[str]:
    label = f"attention[{name!r}]"
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return [f"{label} must be a floating-point tensor; got {type(value).__name__}."]
    if value.ndim not in (2, 3, 4) or value.shape[0] != size or value.shape[-1] == 0:
        return [
            f"{label} must have shape {_LAYOUTS} with B = {size}; got {tuple(value.shape)}. "
            "Put the batch first and the keys last."
        ]
    found = _finite(label, value)
    if found:
        return found
    wide = value.detach().float()
    if (wide < 0).any():
        return [f"{label} must not be negative; got {float(wide.min()):.4g}. Pass weights."]
    sums = wide.sum(-1)
    tolerance = 1e-3 if value.dtype in (torch.float32, torch.float64) else 2e-2
    off = ((sums - 1).abs() > tolerance) & (sums != 0)
    if off.any():
        row = tuple(int(index) for index in off.nonzero()[0])
        return [
            f"{label} must have rows that sum to 1; got {float(sums[row]):.4g} in row {row}. "
            "Return the weights after normalising and before dropout."
        ]
    return []


def _mask(run: Run, name: str, value: Tensor) -> list[str]:
    if isinstance(run.mask, Mapping):
        mask = run.mask.get(name)
        if mask is None:  # a mask under a feature's name is looked up through the view
            return []
        label = f"mask[{name!r}]"
    else:
        mask, label = run.mask, "mask"
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = getattr(mask, "dtype", type(mask).__name__)
        return [f"{label} must be a boolean tensor, True at real positions; got {got}."]
    expected = (value.shape[0], value.shape[-1])
    if mask.shape != expected and isinstance(run.mask, Mapping):
        return [f"{label} must have shape {expected}; got {tuple(mask.shape)}."]
    if mask.shape != expected and len(run.attention) == 1:
        return [
            f"{label} must have shape {expected}, as the keys of {name!r}; "
            f"got {tuple(mask.shape)}. Return one flag a position."
        ]
    if mask.device != value.device:
        return [f"{label} must be on the device of the attention; got {mask.device}."]
    return []


def _support(run: Run, name: str, value: Tensor) -> list[str]:
    support = None if run.support is None else run.support.get(name)
    if support is None:
        return []
    if not isinstance(support, Tensor) or support.dtype != torch.bool:
        got = getattr(support, "dtype", type(support).__name__)
        return [f"support[{name!r}] must be a boolean tensor, True at allowed keys; got {got}."]
    if support.shape != value.shape:
        return [
            f"support[{name!r}] must have the shape of the attention, {tuple(value.shape)}; "
            f"got {tuple(support.shape)}. Expand it over the batch."
        ]
    return []


def _feature(name: str, value: object, size: int) -> list[str]:
    label = f"features[{name!r}]"
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return [f"{label} must be a floating-point tensor; got {type(value).__name__}."]
    if value.ndim != 3 or value.shape[0] != size:
        return [
            f"{label} must have shape (B, L, E) with B = {size}; got {tuple(value.shape)}. "
            "Return the embedded inputs."
        ]
    return _finite(label, value)


def _finite(label: str, value: Tensor) -> list[str]:
    """Names the first instance with NaN or infinity, if any."""
    value = value.detach()
    if bool(torch.isfinite(value.sum())):  # one pass settles the usual case
        return []
    good = torch.isfinite(value).flatten(1).all(1)
    bad = (~good).nonzero()[:, 0].tolist()
    if not bad:  # finite numbers whose sum is not
        return []
    return [
        f"{label} must be finite; got NaN or infinity in instance {bad[0]} "
        f"({len(bad)} of {len(good)} instances). Check the model, or leave those instances out."
    ]
