"""The published experiment from a task to its results."""

from faithattn.paper.experiment.findings import LogOddsFindings, Replacement, TopK
from faithattn.paper.experiment.measurement import Evidence
from faithattn.paper.experiment.preparation import Prepared, prepare
from faithattn.paper.experiment.settings import Settings
from faithattn.paper.experiment.study import Experiment, run
from faithattn.paper.experiment.topk import top_k_agreement

__all__ = [
    "Evidence",
    "Experiment",
    "LogOddsFindings",
    "Prepared",
    "Replacement",
    "Settings",
    "TopK",
    "prepare",
    "run",
    "top_k_agreement",
]
