"""Hidden patches, against loops over pixels."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from faithattn import AdapterError
from faithattn.interventions.patches import mask_patch

PIXELS = torch.rand(3, 2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
AT = torch.tensor([1, 6, 3])  # after one CLS token: patches 0, 5 and 2 of 2 x 3


def slow_patch(pixels: Tensor, number: int, size: int, baseline: Any) -> Tensor:
    """One image (C, H, W) with a patch hidden."""
    channels, height, width = pixels.shape
    top, left = number // (width // size) * size, number % (width // size) * size
    result = pixels.clone()
    for c in range(channels):
        for y in range(top, top + size):
            for x in range(left, left + size):
                if baseline == "mean":
                    result[c, y, x] = sum(pixels[c].flatten().tolist()) / (height * width)
                elif baseline == "blur":
                    near = [
                        float(pixels[c, v, u])
                        for v in range(max(0, y - size), min(height, y + size + 1))
                        for u in range(max(0, x - size), min(width, x + size + 1))
                    ]
                    result[c, y, x] = sum(near) / len(near)
                else:
                    result[c, y, x] = baseline
    return result


@pytest.mark.parametrize("baseline", [0.0, -1.5, 2, "mean", "blur"])
def test_patches_agree_with_a_slow_loop(baseline: Any) -> None:
    before = PIXELS.clone()
    changed = mask_patch(2, baseline=baseline)(PIXELS, AT)
    expected = [
        slow_patch(image, int(at) - 1, 2, baseline) for image, at in zip(PIXELS, AT, strict=True)
    ]
    torch.testing.assert_close(changed, torch.stack(expected))
    assert torch.equal(PIXELS, before)
    without = mask_patch(2, baseline=baseline, prefix=0)(PIXELS, AT - 1)
    assert torch.equal(changed, without)


def test_pixels_are_found() -> None:
    expected = mask_patch(2)(PIXELS, AT)
    labels, other = torch.tensor([1, 0, 1]), torch.rand(3, 2, 4, 6)
    assert torch.equal(mask_patch(2)((PIXELS, labels), AT)[0], expected)
    named = {"pixel_values": PIXELS, "more_pixels": other, "labels": labels}
    changed = mask_patch(2)(named, AT)
    assert torch.equal(changed["pixel_values"], expected) and changed["more_pixels"] is other
    assert torch.equal(mask_patch(2)({"image": PIXELS}, AT)["image"], expected)
    message = r"one tensor of pixels \(B, C, H, W\) to hide a patch of; got 2 of them among "
    with pytest.raises(AdapterError, match=message):
        mask_patch(2)((PIXELS, other), AT)
    with pytest.raises(AdapterError, match=r"got 0 of them among int64 \(3,\)\. Name it pixel_val"):
        mask_patch(2)(labels, AT)


def test_positions_that_are_no_patches() -> None:
    with pytest.raises(
        AdapterError, match=r"positions must be patches, 1 and above; got 0, one of"
    ):
        mask_patch(2)(PIXELS, torch.tensor([0, 1, 2]))
    with pytest.raises(AdapterError, match=r"among 1 \+ 2 x 3 patches; got 7\. Give mask_patch"):
        mask_patch(2)(PIXELS, torch.tensor([1, 7, 2]))
    with pytest.raises(AdapterError, match="whole patches of 4 pixels; got 4 x 6"):
        mask_patch(4)(PIXELS, AT)


def test_names() -> None:
    assert str(mask_patch(16)) == "mask_patch(16, 0)"
    assert str(mask_patch(16, baseline=0.5)) == "mask_patch(16, 0.5)"
    assert str(mask_patch(16, baseline="mean")) == "mask_patch(16, mean)"
    assert str(mask_patch(8, baseline="blur", prefix=0)) == "mask_patch(8, blur, prefix=0)"
    assert str(pickle.loads(pickle.dumps(mask_patch(16)))) == "mask_patch(16, 0)"


def test_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="size must be at least 1; got 0"):
        mask_patch(0)
    with pytest.raises(TypeError, match="prefix must be a whole number; got 'CLS'"):
        mask_patch(2, prefix="CLS")  # type: ignore[arg-type]
    for baseline in ("black", None, True):
        with pytest.raises(ValueError, match="baseline must be a number, 'mean' or 'blur'; got"):
            mask_patch(2, baseline=baseline)  # type: ignore[arg-type]
