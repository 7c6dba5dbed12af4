"""Whether two computations of the same logits agree."""

from __future__ import annotations

import torch
from torch import Tensor

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_MASKING = 1e3  # times the median: a constant that excludes a class, no measure of scale


def agree(expected: Tensor, actual: Tensor) -> bool:
    """True if all elements agree to the tolerance of their dtype, relative to their scale."""
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    if not (expected.is_floating_point() or expected.is_complex()) or not expected.numel():
        return torch.equal(expected, actual)
    real = torch.empty(0, dtype=expected.dtype).abs().dtype
    same = (expected == actual) | (expected.isnan() & actual.isnan())
    size = expected.abs().to(torch.promote_types(real, torch.float32))
    finite = size[size.isfinite() & (size > 0)]
    ordinary = finite[finite <= _MASKING * finite.median()] if len(finite) else finite
    scale = ordinary.max() if len(ordinary) else size.new_zeros(())
    error = (expected - actual).abs().to(size.dtype)
    return bool((same | (error <= _TOLERANCE.get(real, 1e-4) * (size + scale))).all())
