"""Published figures are shown beside those of the same classes only."""

from __future__ import annotations

import pytest

from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.experiment.comparable import published_class_of, published_name_of


def of_texts(name: str, *labels: str) -> Dataset:
    part = (Example(("a",), 0),)
    return Dataset(name, part, part, part, labels)


@pytest.mark.parametrize(
    ("name", "labels", "comparable"),
    [
        ("agnews", ("World", "Business"), True),
        ("agnews", ("Business", "world"), True),
        ("agnews", ("1", "3"), True),
        ("agnews", ("World", "Sports"), False),
        ("agnews", ("Sports", "Sci/Tech"), False),
        ("20news-sports", ("rec.sport.baseball", "rec.sport.hockey"), True),
        ("20news-sports", ("hockey", "baseball"), True),
        ("20news-sports", ("9", "10"), True),
        ("20news-sports", ("sci.med", "sci.space"), False),
        ("20news-sports", ("rec.sport.baseball", "sci.space"), False),
        ("sst", ("neg", "pos"), True),
        ("anemia", ("Acute", "Chronic"), True),
    ],
)
def test_other_topics_are_another_task(
    name: str, labels: tuple[str, ...], comparable: bool
) -> None:
    """Two topics of AG News that the study did not tell apart have no published figures."""
    assert published_name_of(of_texts(name, *labels)) == (name if comparable else None)


@pytest.mark.parametrize(
    ("name", "labels", "groups"),
    [
        ("agnews", ("World", "Business"), ("0", "1")),
        ("agnews", ("Business", "World"), ("1", "0")),
        ("agnews", ("World", "Sports"), ("", "")),
        ("sst", ("0", "1"), ("0", "1")),
        ("sst", ("1", "0"), ("1", "0")),
        ("sst", ("Positive", "Negative"), ("1", "0")),
        ("sst", ("neg", "pos"), ("0", "1")),
        ("kneesurgery", ("1", "0"), ("1", "0")),
        ("20news-sports", ("baseball", "hockey"), ("", "")),  # of unknown order
        ("reviews", ("0", "1"), ("", "")),
    ],
)
def test_classes_are_compared_by_name(
    name: str, labels: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    """Whoever gives the classes in another order numbers them otherwise than the study."""
    dataset = of_texts(name, *labels)
    assert tuple(published_class_of(dataset, number) for number in range(2)) == groups
