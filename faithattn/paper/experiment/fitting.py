"""Whether data, settings and a loaded model fit each other."""

from __future__ import annotations

from dataclasses import replace
from os import fspath
from typing import Any

from faithattn.paper.data.examples import Dataset
from faithattn.paper.experiment.kinds import PRACTICE, kind_of, n_classes_of
from faithattn.paper.experiment.settings import Settings
from faithattn.paper.training.checkpoints import Checkpoint

_LOG_ODDS = "it is made of what single words say of a text's class"


def check_kind(dataset: Dataset, settings: Settings) -> None:
    """Raises unless the settings make sense for a kind of task.

    Args:
        dataset: What the model is for.
        settings: What is asked for.
    """
    if len(dataset.labels) < 2:
        raise ValueError(
            f"label must hold two classes or more; got {len(dataset.labels)} in {dataset.name}. "
            "Add another, or its opposite."
        )
    if dataset.kind in ("texts", "labels"):
        return
    asked: dict[str, Any] = {}
    if settings.attention == "log_odds":
        asked["attention"] = "log_odds"
    if settings.tie_attention:
        asked["tie_attention"] = settings.tie_attention
    for name, value in asked.items():
        raise ValueError(
            f"{name} must be left out for {dataset.kind}; got {value}. Log-odds attention is for "
            f"single texts: {_LOG_ODDS}."
        )


def seed_of_data(loaded: Checkpoint, default: int) -> int:
    """The seed that the data of a checkpoint were drawn with.

    Another one would split a file differently, and test on what was trained on.

    Args:
        loaded: The checkpoint.
        default: What it is where the checkpoint does not say.
    """
    seed = loaded.metadata.get("data_seed", default)
    return seed if isinstance(seed, int) and seed >= 0 else default


def check_checkpoint(loaded: Checkpoint, dataset: Dataset, settings: Settings) -> Settings:
    """Raises unless a loaded model does the task and is what was asked for.

    Args:
        loaded: The model and what was saved with it.
        dataset: What it is to be tested on.
        settings: What is asked for.

    Returns:
        The settings with what only the checkpoint knows.
    """
    kind = kind_of(loaded.model)
    if kind != dataset.kind:
        raise ValueError(
            f"checkpoint must hold a model that {PRACTICE[dataset.kind].does}; got one that "
            f"{PRACTICE[kind].does}. Name the task it was trained on."
        )
    labels = loaded.metadata.get("labels", list(dataset.labels))
    if labels != list(dataset.labels) or n_classes_of(loaded.model) != len(labels):
        raise ValueError(
            f"checkpoint must have the classes of {dataset.name}, {list(dataset.labels)[:6]}; got "
            f"{labels[:6]}. Name the task it was trained on."
        )
    asked = {"encoder": settings.encoder, "attention": settings.attention}
    for name, wanted in asked.items():
        if wanted is not None and wanted != loaded.model.config[name]:
            raise ValueError(
                f"{name} must be what the checkpoint holds, {loaded.model.config[name]}; got "
                f"{wanted}. Leave it out, or train a new model."
            )
    if settings.vectors is not None:
        raise ValueError(
            "vectors must be left out with a checkpoint, which has its own; got "
            f"{fspath(settings.vectors)}. Leave out one of them."
        )
    if settings.tie_attention:
        raise ValueError(
            "tie_attention must be left out with a checkpoint, which is trained; got "
            f"{settings.tie_attention}. Leave out one of them."
        )
    return replace(settings, tie_attention=_tied(loaded))


def _tied(loaded: Checkpoint) -> float:
    """The weight of the penalty that a model was trained with."""
    saved = loaded.metadata.get("settings")
    weight = saved.get("tie_attention", 0.0) if isinstance(saved, dict) else 0.0
    return float(weight) if isinstance(weight, int | float) else 0.0
