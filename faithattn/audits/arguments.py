"""What an audit is told: checked before anything runs."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch

from faithattn.audits.verdicts.thresholds import Thresholds

ON_ERROR = ("raise", "record")


def check_on_error(on_error: object) -> None:
    """Raises unless it is one of the ways to treat a failure."""
    if on_error not in ON_ERROR:
        raise ValueError(
            f"on_error must be one of {', '.join(ON_ERROR)}; got {on_error!r}. "
            "Leave it out to stop at the first failure."
        )


def check_prepare(prepare: object) -> None:
    """Raises unless it is a function, or None."""
    if prepare is not None and not callable(prepare):
        raise TypeError(
            "prepare must be a function from what batches yield to inputs or a Batch; got "
            f"{type(prepare).__name__}. Leave it out where they yield what the model takes."
        )


def check_device(device: torch.device | str | None) -> None:
    """Raises unless this machine has the device."""
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    # PyTorch says each of these where a device has no name, no driver or no such number.
    except (RuntimeError, AssertionError, TypeError) as error:
        said = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"device must be one that this machine has; got {device!r} ({said}). Leave it out to "
            "compute where model and inputs are."
        ) from error


def as_folder(name: str, folder: str | PathLike[str]) -> Path:
    """The path of a folder.

    Raises:
        TypeError: If it is no path.
    """
    if not isinstance(folder, str | PathLike):
        raise TypeError(
            f"{name} must be the path of a folder; got {type(folder).__name__}. Pass a str or Path."
        )
    return Path(folder)


def as_thresholds(thresholds: Thresholds | None) -> Thresholds:
    """The thresholds, the calibrated ones for None.

    Raises:
        TypeError: If it is something else.
    """
    if thresholds is not None and not isinstance(thresholds, Thresholds):
        raise TypeError(
            f"thresholds must be Thresholds or None; got {type(thresholds).__name__}. "
            "Pass Thresholds(least_tau=...)."
        )
    return thresholds or Thresholds()
