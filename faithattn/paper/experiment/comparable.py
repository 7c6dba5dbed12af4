"""Which data set of the published study, if any, an experiment's own may be compared with."""

from __future__ import annotations

import re

from faithattn.paper.data.examples import Dataset
from faithattn.paper.published import published

# How many classes the study had where it was not two; entities of CNN and bAbI differ by file.
_CLASSES = {"snli": 3}
_KINDS = {"snli": "pairs", "phenotyping": "labels", "cnn": "questions"}


def published_name_of(dataset: Dataset) -> str | None:
    """The published data set that this is, as far as name, kind and number of classes tell.

    Args:
        dataset: Any.

    Returns:
        Its name among the published figures; None where it is none of these,
        or where it has other classes: four topics of AG News are not the two
        that the study told apart.

    Examples:
        >>> from faithattn.paper.data.babi import generate_babi
        >>> published_name_of(generate_babi(1, n_train=1, n_dev=1, n_test=1))
        'babi-1'
    """
    name = _named(dataset.name)
    if name is None:
        return None
    kind = "questions" if name.startswith("babi") else _KINDS.get(name, "texts")
    if kind != dataset.kind:
        return None
    if kind in ("texts", "pairs") and len(dataset.labels) != _CLASSES.get(name, 2):
        return None
    return name


def _named(name: str) -> str | None:
    """The published data set of that name."""
    known = published(name)
    if known:
        return known[0].dataset
    # "my-sst-v2" and "sst2" are SST, "lesstalk" is not.
    return "sst" if re.search(r"(?<![a-z])sst(?![a-z])", name.lower()) else None
