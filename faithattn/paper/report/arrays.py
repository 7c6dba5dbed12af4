"""Tensors as arrays to describe and to draw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float64]


def array(tensor: Tensor) -> Values:
    """A tensor as an array of double precision.

    Args:
        tensor: Numbers.
    """
    return np.asarray(tensor.detach().double().cpu().numpy(), dtype=np.float64)
