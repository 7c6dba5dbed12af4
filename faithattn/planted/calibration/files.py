"""What a calibration leaves behind: JSON, a page to read, and an image."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from os import PathLike
from pathlib import Path

from faithattn._version import __version__
from faithattn.planted.calibration.outcome import Calibration

_PACKAGES = ("torch", "numpy", "scipy", "captum", "matplotlib")


def write_calibration(calibration: Calibration, folder: str | PathLike[str]) -> list[Path]:
    """Writes ``calibration.json``, ``calibration.md`` and ``calibration.png``.

    Args:
        calibration: What to write.
        folder: A folder that exists.

    Returns:
        The files, in that order.

    Raises:
        OSError: If a file cannot be written.
    """
    target = Path(folder)
    versions = {"faithattn": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in _PACKAGES}
    data = json.dumps(calibration.to_dict() | {"versions": versions}, indent=1, allow_nan=False)
    (target / "calibration.json").write_text(data + "\n", encoding="utf-8")
    page = (
        f"# Calibration\n\n{calibration.markdown()}\n"
        "![Every metric in every setting](calibration.png)\n"
    )
    (target / "calibration.md").write_text(page, encoding="utf-8")
    image = calibration.draw(target / "calibration.png")
    return [target / "calibration.json", target / "calibration.md", image]
