"""Pages and figures as files."""

from __future__ import annotations

import os
from os import PathLike, fspath
from pathlib import Path

from faithattn.pages.document import Chart, Document
from faithattn.pages.style import colours, figure_style


def prepare_folder(out: str | PathLike[str]) -> Path:
    """Makes a folder, and makes sure that files can be written there.

    Args:
        out: The folder; it may exist, and files of earlier results in it are
            replaced later.

    Returns:
        The folder.

    Raises:
        OSError: If it cannot be made or written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     prepare_folder(Path(folder, "a", "b")).is_dir()
        True
    """
    folder = Path(out)
    probe = folder / ".faithattn-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"out must be a folder that can be written; got {fspath(out)} ({error.strerror}). "
            "Choose another folder."
        ) from error
    return folder


def write_text(path: Path, text: str) -> Path:
    """Writes a file as a whole: a reader finds the old one or the new one, never half of it.

    Args:
        path: The file.
        text: What it holds, in UTF-8; what UTF-8 cannot hold becomes a question mark.

    Raises:
        OSError: If it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def figure(chart: Chart) -> str:
    """A chart as a drawing of its own, on white, for papers and slides.

    Args:
        chart: The chart.

    Examples:
        >>> from faithattn.pages.charts.charts import grid_chart
        >>> chart = grid_chart("heads", "Heads", "", [[0.5]], rows=["1"], columns=["1"],
        ...                    quantity="tau")
        >>> "var(" in figure(chart), figure(chart).count("<style>")
        (False, 1)
    """
    opening, rest = chart.svg.split(">", 1)
    paper = f'<rect width="100%" height="100%" fill="{colours()[0]["paper"]}"/>'
    return f"{opening}><style>\n{figure_style()}</style>{paper}{rest}\n"


def write_figures(document: Document, folder: Path) -> list[Path]:
    """Writes every chart of a document as SVG.

    Args:
        document: The document.
        folder: Where to; made if need be.

    Returns:
        The files written.

    Raises:
        OSError: If one cannot be written.
    """
    if not document.charts:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    return [write_text(folder / f"{chart.name}.svg", figure(chart)) for chart in document.charts]
