"""Training, evaluation and checkpoints of the published models."""

from faithattn.paper.training.evaluation import Evaluation, evaluate
from faithattn.paper.training.fit import build, train_classifier
from faithattn.paper.training.log import TrainingRecord
from faithattn.paper.training.penalty import attention_penalty

__all__ = [
    "Evaluation",
    "TrainingRecord",
    "attention_penalty",
    "build",
    "evaluate",
    "train_classifier",
]
