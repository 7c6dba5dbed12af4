"""The data sets of the published figures: what each is, and which figures it has."""

from __future__ import annotations

from dataclasses import dataclass

from faithattn.paper.published.figures import published

_NOTES = "clinical notes of MIMIC-III"


@dataclass(frozen=True)
class PublishedDataset:
    """One data set of the published figures.

    Attributes:
        name: Its name in :class:`~faithattn.paper.published.PublishedFigure`.
        task: What is predicted, and from what.
        classes: Names of the classes; empty where they are not known, or many.
        ordered: Whether there are two classes, 0 and 1 in the order of
            ``classes``, so that figures by class can be compared by number.

    Examples:
        >>> agnews = next(each for each in published_datasets() if each.name == "agnews")
        >>> agnews.classes, agnews.ordered, agnews.encoders, agnews.figures
        (('World', 'Business'), True, ('average', 'bilstm', 'cnn'), 95)
    """

    name: str
    task: str
    classes: tuple[str, ...] = ()
    ordered: bool = False

    @property
    def encoders(self) -> tuple[str, ...]:
        """Encoders that have figures, in alphabetical order."""
        return tuple(sorted({figure.encoder for figure in published(self.name)}))

    @property
    def figures(self) -> int:
        """How many figures there are."""
        return len(published(self.name))


def published_datasets() -> tuple[PublishedDataset, ...]:
    """Returns every data set that has published figures, in alphabetical order.

    References:
        Jain & Wallace (2019), "Attention is not Explanation", arXiv 1902.10186.

    Examples:
        >>> names = [each.name for each in published_datasets()]
        >>> len(names), names[0], names == sorted(names)
        (17, '20news-sports', True)
    """
    return _DATASETS


_YES_OR_NO = ("no", "yes")
_DATASETS = (
    PublishedDataset(
        "20news-sports", "newsgroup of a post, of two (20 Newsgroups)", ("baseball", "hockey")
    ),
    PublishedDataset(
        "agnews", "topic of a news article, of two (AG News)", ("World", "Business"), True
    ),
    PublishedDataset("anemia", f"kind of anemia, {_NOTES}", ("acute", "chronic"), True),
    PublishedDataset("babi-1", "answer to a question over a story, one supporting fact (bAbI)"),
    PublishedDataset("babi-2", "answer to a question over a story, two supporting facts (bAbI)"),
    PublishedDataset("babi-3", "answer to a question over a story, three supporting facts (bAbI)"),
    PublishedDataset("cnn", "entity left out of a sentence about a news article (CNN)"),
    PublishedDataset("diab", f"diabetes, {_NOTES}", _YES_OR_NO, True),
    PublishedDataset("hipsurgery", "outcome of hip surgery, clinical notes", ordered=True),
    PublishedDataset("imdb", "sentiment of a film review (IMDB)", ("negative", "positive"), True),
    PublishedDataset("kneesurgery", "outcome of knee surgery, clinical notes", ordered=True),
    PublishedDataset("mortality", f"death in hospital, {_NOTES}", _YES_OR_NO, True),
    PublishedDataset("phenotyping", f"conditions, several labels at once, {_NOTES}"),
    PublishedDataset("readmission", f"return to hospital, {_NOTES}", _YES_OR_NO, True),
    PublishedDataset(
        "snli",
        "whether a hypothesis follows from a premise (SNLI)",
        ("contradiction", "entailment", "neutral"),
    ),
    PublishedDataset(
        "sst", "sentiment of a sentence of a film review (SST)", ("negative", "positive"), True
    ),
    PublishedDataset("tweet", "adverse drug reaction mentioned in a tweet", _YES_OR_NO, True),
)
