"""Patches of images replaced by a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from faithattn._checks import require_count
from faithattn.adapters.inputs.belonging import labelled
from faithattn.adapters.inputs.source import Path, paths, replaced_at
from faithattn.errors import AdapterError

_BASELINES = ("mean", "blur")
_PIXELS = "pixel_values"


def mask_patch(
    size: int, *, baseline: float | str = 0.0, prefix: int = 1
) -> Callable[[Any, Tensor], Any]:
    """A removal that hides one square patch of each image.

    For :func:`leave_one_out_importance` and :func:`loo_correlation`. Position
    ``prefix + n`` is the n-th patch, row by row from the top left. The inputs
    are pixels ``(B, C, H, W)``, or a tuple or mapping with one such tensor.

    Args:
        size: Side of a patch in pixels; height and width are multiples of it.
        baseline: What a hidden patch shows: a number in units of the pixels
            as the model takes them; ``"mean"``, the image's mean of each
            channel; or ``"blur"``, the image averaged over the square of
            side ``2 size + 1`` around each pixel.
        prefix: Number of positions before the patches, such as the CLS token
            (1); 0 where there is none.

    Returns:
        A function ``(inputs, positions (B,)) -> inputs`` that leaves the given
        inputs alone; its name in results is ``mask_patch(16, mean)``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of range or the baseline is unknown.

    Examples:
        >>> import torch
        >>> removal = mask_patch(2, baseline="mean", prefix=0)
        >>> pixels = torch.arange(8.0).view(1, 1, 2, 4)
        >>> removal(pixels, torch.tensor([1]))
        tensor([[[[0.0000, 1.0000, 3.5000, 3.5000],
                  [4.0000, 5.0000, 3.5000, 3.5000]]]])
        >>> str(removal)
        'mask_patch(2, mean, prefix=0)'
    """
    size = require_count("size", size)
    prefix = require_count("prefix", prefix, least=0)
    known = isinstance(baseline, int | float) and not isinstance(baseline, bool)
    if not known and baseline not in _BASELINES:
        raise ValueError(
            f"baseline must be a number, {' or '.join(map(repr, _BASELINES))}; got {baseline!r}. "
            "0.0 is the mean of images that were normalised."
        )
    return _MaskPatch(size, baseline, prefix)


@dataclass(frozen=True)
class _MaskPatch:
    size: int
    baseline: float | str
    prefix: int

    def __call__(self, inputs: Any, positions: Tensor) -> Any:
        path, pixels = _pixels(inputs)
        rows = torch.arange(len(pixels), device=pixels.device)
        return self._without(inputs, path, pixels, rows, positions.to(pixels.device))

    def hide(self, inputs: Any, gone: Tensor) -> Any:
        """The same of all patches where ``gone`` (B, L)."""
        path, pixels = _pixels(inputs)
        rows, positions = gone.to(pixels.device).nonzero(as_tuple=True)
        return self._without(inputs, path, pixels, rows, positions)

    def _without(
        self, inputs: Any, path: Path, pixels: Tensor, rows: Tensor, positions: Tensor
    ) -> Any:
        hidden = self._hidden(pixels, rows, positions)
        return replaced_at(inputs, path, torch.where(hidden, self._shown(pixels), pixels))

    def __str__(self) -> str:
        known = isinstance(self.baseline, str)
        shown = self.baseline if known else f"{float(self.baseline):g}"
        place = "" if self.prefix == 1 else f", prefix={self.prefix}"
        return f"mask_patch({self.size}, {shown}{place})"

    def _hidden(self, pixels: Tensor, images: Tensor, positions: Tensor) -> Tensor:
        """The pixels of patches, given by image and position: ``(B, 1, H, W)`` bool."""
        height, width = pixels.shape[-2:]
        if height % self.size or width % self.size:
            raise AdapterError(
                f"image must consist of whole patches of {self.size} pixels; "
                f"got {height} x {width}. Give mask_patch the model's patch size."
            )
        rows, columns = height // self.size, width // self.size
        number = positions - self.prefix
        if (number < 0).any():
            raise AdapterError(
                f"positions must be patches, {self.prefix} and above; got {int(positions.min())}, "
                f"one of the {self.prefix} before them. Leave those out of the mask, as in "
                "adapt(model, mask=function), or give mask_patch another prefix."
            )
        if (number >= rows * columns).any():
            raise AdapterError(
                f"positions must be among {self.prefix} + {rows} x {columns} patches; "
                f"got {int(positions.max())}. Give mask_patch the model's patch size and prefix."
            )
        hidden = torch.zeros(len(pixels), rows * columns, dtype=torch.bool, device=pixels.device)
        hidden[images, number] = True
        whole = hidden.view(-1, rows, columns)
        for axis in (1, 2):
            whole = whole.repeat_interleave(self.size, axis)
        return whole[:, None]

    def _shown(self, pixels: Tensor) -> Tensor:
        """What hidden pixels show instead."""
        if self.baseline == "mean":
            return pixels.mean((-2, -1), keepdim=True)
        if self.baseline == "blur":
            side = 2 * self.size + 1
            return F.avg_pool2d(pixels, side, 1, self.size, count_include_pad=False)
        return pixels.new_tensor(float(self.baseline))


def _pixels(inputs: Any) -> tuple[Path, Tensor]:
    """The pixels by name, or the only images."""
    found = [
        (path, each) for path, each in paths(inputs) if each.ndim == 4 and each.is_floating_point()
    ]
    if isinstance(inputs, Mapping):
        found = [leaf for leaf in found if leaf[0] == (_PIXELS,)] or found
    if len(found) != 1:
        listing = ", ".join(labelled(path, each) for path, each in paths(inputs)) or "no tensor"
        raise AdapterError(
            "inputs must hold one tensor of pixels (B, C, H, W) to hide a patch of; "
            f"got {len(found)} of them among {listing}. Name it pixel_values, or use a function "
            "(inputs, positions) -> inputs."
        )
    return found[0]
