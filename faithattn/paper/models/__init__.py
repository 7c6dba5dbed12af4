"""The published models, to train and to measure."""

from faithattn.paper.models.answerer import QuestionAnswerer
from faithattn.paper.models.classifier import TextClassifier

__all__ = ["QuestionAnswerer", "TextClassifier"]
