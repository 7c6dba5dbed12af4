"""Peak memory of one call, as Linux counts it for the process.

The highest resident size since the process began is of no use twice over: it
never falls, and a child process starts with its parent's. Linux also keeps one
that can be set back, which is read here; elsewhere nothing is measured.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(work: Callable[[], object]) -> float | None:
    """Calls it once; how many megabytes the process grew in between, at its highest.

    What was freed before the call, and kept by the C library, is given back
    first. None where the system does not tell.
    """
    _give_back()
    try:
        _RESET.write_text("5", encoding="ascii")
        before = _megabytes("VmRSS")
    except OSError:
        work()
        return None
    work()
    return max(0.0, _megabytes("VmHWM") - before)


def _give_back() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library
        return


def _megabytes(field: str) -> float:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))
