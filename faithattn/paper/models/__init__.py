"""The published models, to train and to measure."""

from typing import TypeAlias

from faithattn.paper.models.answerer import QuestionAnswerer
from faithattn.paper.models.classifier import TextClassifier
from faithattn.paper.models.pairs import PairClassifier

__all__ = ["PairClassifier", "PublishedModel", "QuestionAnswerer", "TextClassifier"]

PublishedModel: TypeAlias = TextClassifier | QuestionAnswerer | PairClassifier
