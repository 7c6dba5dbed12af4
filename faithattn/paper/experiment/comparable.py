"""Which data set of the published study, if any, an experiment's own may be compared with."""

from __future__ import annotations

import re
from collections.abc import Sequence

from faithattn.paper.data.examples import Dataset
from faithattn.paper.published import published, published_datasets

# How many classes the study had where it was not two; entities of CNN and bAbI differ by file.
_CLASSES = {"snli": 3}
_KINDS = {"snli": "pairs", "phenotyping": "labels", "cnn": "questions"}
# Of these collections the study took two classes of more.
_TWO_OF_MORE = ("20news-sports", "agnews")


def published_name_of(dataset: Dataset) -> str | None:
    """The published data set that this is, as far as name, kind and number of classes tell.

    Args:
        dataset: Any.

    Returns:
        Its name among the published figures; None where it is none of these,
        or where it has other classes: four topics of AG News, or World and
        Sports, are not the two that the study told apart.

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
    return None if name in _TWO_OF_MORE and _has_others(name, dataset.labels) else name


def published_class_of(dataset: Dataset, number: int) -> str:
    """The group of published figures that a class is.

    Numbers of classes mean the same only where the order of the published
    classes is known; entities, for one, are numbered anew by every reader.

    Args:
        dataset: What the class belongs to.
        number: Its number.

    Returns:
        Its number among the published classes: by name where the names are the
        published ones or 0 and 1, in whatever order, else as it is. Empty
        where that cannot be told.
    """
    name = published_name_of(dataset)
    known = {each.name: each.classes for each in published_datasets() if each.ordered}
    if name not in known or len(dataset.labels) != 2:
        return ""
    own = [label.lower() for label in dataset.labels]
    for names in ([each.lower() for each in known[name]], ["0", "1"]):
        if sorted(names) == sorted(own):
            return str(names.index(own[number]))
    return str(number)


def _has_others(name: str, labels: Sequence[str]) -> bool:
    """Whether classes that have names are not those that the study took."""
    wanted = next(each.classes for each in published_datasets() if each.name == name)
    words = {word for label in labels for word in re.findall("[a-z]+", label.lower())}
    return bool(words) and not words.issuperset(map(str.lower, wanted))


def _named(name: str) -> str | None:
    """The published data set of that name."""
    known = published(name)
    if known:
        return known[0].dataset
    # "my-sst-v2" and "sst2" are SST, "lesstalk" is not.
    return "sst" if re.search(r"(?<![a-z])sst(?![a-z])", name.lower()) else None
