"""The published experiment from a task to its results."""

from faithattn.paper.experiment.measurement import Evidence
from faithattn.paper.experiment.preparation import Prepared, prepare
from faithattn.paper.experiment.settings import Settings
from faithattn.paper.experiment.study import Experiment, run

__all__ = ["Evidence", "Experiment", "Prepared", "Settings", "prepare", "run"]
