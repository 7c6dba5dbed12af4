"""The figures that Jain and Wallace published, to show beside a reproduction.

They lie beside this module: ``correlations.csv`` (the tables) and ``drawings.csv`` (read off
drawings). The columns are the attributes of :class:`PublishedFigure`; empty means not published.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import nan

_PAPER = "Jain & Wallace 2019, arXiv 1902.10186"
_BY_CLASS = f"{_PAPER}, tables of Kendall tau by class"
_PAIRS = f"{_PAPER}, CorrStats tables (labels of the attention columns, swapped there, corrected)"
_SOURCES = {
    "gradient_correlation": _BY_CLASS,
    "loo_correlation": _BY_CLASS,
    "attention_gradient": _PAIRS,
    "attention_loo": _PAIRS,
    "gradient_loo": _PAIRS,
    "permutation_test": f"{_PAPER}, violins of the median output change, read off the drawing",
    "adversarial_attention": f"{_PAPER}, histograms of the epsilon-max JSD, read off the drawing",
}
_DRAWN = ("permutation_test", "adversarial_attention")


@dataclass(frozen=True)
class PublishedFigure:
    """One published number with its spread.

    Attributes:
        dataset: ``sst``, ``imdb``, ``babi-1``, ``snli`` ... in lower case,
            words joined by hyphens.
        encoder: ``bilstm``, ``cnn`` or ``average``.
        attention: ``additive`` or ``scaled_dot``.
        measure: ``gradient_correlation`` or ``loo_correlation`` (Kendall tau
            with attention); ``attention_gradient``, ``attention_loo`` or
            ``gradient_loo`` (tau of each pair); ``permutation_test`` (median
            TVD); ``adversarial_attention`` (epsilon-max JSD, nats).
        group: ``Overall``; a predicted class such as ``1``; for the
            permutation test a range of maximum attention such as
            ``[.25,.5)``, with ``class 1`` after it where classes, in their
            order, are drawn apart. (``9`` in ``babi-2`` stands so in the published table.)
        mean: Mean over instances; nan where not published.
        std: Standard deviation over instances; nan where not published.
        significant: Fraction of instances with p at most .05; nan where not
            published.
        q25: Lower quartile; nan where not published.
        median: Median; nan where not published.
        q75: Upper quartile; nan where not published.
        approximate: Whether the number was read off a drawing.
        source: Where it was published.
    """

    dataset: str
    encoder: str
    attention: str
    measure: str
    group: str
    mean: float
    std: float
    significant: float
    q25: float
    median: float
    q75: float
    approximate: bool
    source: str


def published(dataset: str | None = None) -> list[PublishedFigure]:
    """Returns the published figures of one data set or of all.

    Args:
        dataset: Name of a data set. Case does not matter, ``_`` reads as
            ``-``, and a last word ``dataset`` is left out, so that
            ``sst_dataset`` finds ``sst``. None for all.

    Returns:
        The figures, first the tables and then the drawings; empty for a data
        set that the study did not use.

    Raises:
        TypeError: If ``dataset`` is neither a string nor None.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", arXiv 1902.10186.

    Examples:
        >>> sorted({figure.encoder for figure in published("babi-1")})
        ['average', 'bilstm', 'cnn']
        >>> published("my-reviews")
        []
    """
    if dataset is None:
        return list(_figures())
    name = _canonical(dataset)
    return [figure for figure in _figures() if figure.dataset == name]


def published_row(
    dataset: str, encoder: str, attention: str, measure: str, group: str = "Overall"
) -> PublishedFigure | None:
    """Returns one published figure, or None where there is none.

    Args:
        dataset: Name of a data set, as in :func:`published`.
        encoder: ``bilstm``, ``cnn`` or ``average``.
        attention: ``additive`` or ``scaled_dot``.
        measure: Name of a measure, as in :class:`PublishedFigure`.
        group: Part of the instances, as in :class:`PublishedFigure`.

    Returns:
        The figure or None.

    Examples:
        >>> figure = published_row("sst", "bilstm", "additive", "gradient_correlation", "0")
        >>> figure.mean, figure.std, figure.significant
        (0.3432, 0.2114, 0.48)
    """
    wanted = (encoder, attention, measure, str(group))
    for figure in published(dataset):
        if (figure.encoder, figure.attention, figure.measure, figure.group) == wanted:
            return figure
    return None


def _canonical(dataset: str) -> str:
    """Returns the name under which the figures of a data set are kept."""
    if not isinstance(dataset, str):
        raise TypeError(
            f"dataset must be a string or None; got {type(dataset).__name__}. Pass its name."
        )
    return dataset.strip().lower().replace("_", "-").removesuffix("-dataset")


@lru_cache(maxsize=1)
def _figures() -> tuple[PublishedFigure, ...]:
    """Reads the tables that come with the package."""
    folder = resources.files("faithattn.paper.published")
    figures = []
    for name in ("correlations.csv", "drawings.csv"):
        text = (folder / name).read_text(encoding="utf-8")
        figures += [_figure(row) for row in csv.DictReader(text.splitlines())]
    return tuple(figures)


def _figure(row: dict[str, str]) -> PublishedFigure:
    """Returns one row; a number that is absent or empty is nan."""

    def number(column: str) -> float:
        return float(row.get(column) or nan)

    return PublishedFigure(
        dataset=row["dataset"],
        encoder=row["encoder"],
        attention=row["attention"],
        measure=row["measure"],
        group=row["group"],
        mean=number("mean"),
        std=number("std"),
        significant=number("significant"),
        q25=number("q25"),
        median=number("median"),
        q75=number("q75"),
        approximate=row["measure"] in _DRAWN,
        source=_SOURCES[row["measure"]],
    )
