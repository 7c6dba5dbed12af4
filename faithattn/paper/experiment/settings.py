"""The settings of an experiment."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from typing import Any

from faithattn._checks import require_count

_LARGEST_SEED = 2**63 - 1
# Far above any use; more would run for years or out of memory.
_LARGEST_COUNT = 1_000_000
_COUNTS = (
    "permutations",
    "adversaries",
    "instances",
    "epochs",
    "minimum_count",
    "minimum_words",
    "embedding_size",
    "hidden_size",
    "batch_size",
    "n_steps",
    "maximum_words",
)
_OPEN = ("instances", "epochs", "maximum_words")


@dataclass(frozen=True)
class Settings:
    """What an experiment does; the defaults are the published ones.

    Attributes:
        encoder: ``"bilstm"``, ``"cnn"`` or ``"average"``; None for
            ``"bilstm"``, or what the checkpoint holds.
        attention: ``"additive"``, ``"scaled_dot"`` or, for texts, ``"log_odds"``
            (fixed, from a logistic regression on the words); None for
            ``"additive"``, or what the checkpoint holds.
        tie_attention: Weight of the penalty that ties learned attention to that
            of the logistic regression; 0 for none, as published.
        seed: Seed of data, first weights, order of training and draws, 0 or more.
        epsilon: Output change allowed to an adversary, above 0 to 1; None for
            .01 (texts) or .05 (questions and pairs).
        permutations: Shuffles of each instance.
        adversaries: Adversaries of each instance.
        instances: Test instances to run the four tests on, drawn at random;
            None for all.
        minimum_words: Test instances with fewer words are left out of the four
            tests, and the report says how many are left.
        epochs: Passes over the training examples at most; None for 8 (texts)
            or 16 (questions and pairs).
        minimum_count: Words that are rarer in training are unknown.
        vectors: File of pretrained word vectors, or None.
        embedding_size: Features of one embedding; ``vectors`` has its own.
        hidden_size: Half the features of one state.
        batch_size: Instances in a batch, in training and in the tests.
        n_steps: Steps of the search for adversaries.
        task: What the files hold, such as ``"labels"`` or ``"snli"``; see
            :func:`~faithattn.paper.experiment.sources.load_data`; None for
            texts of one class each.
        text: Column of the texts; None for the common names.
        label: Column of the labels; None for the common names.
        split: Column of the splits; None for the common names.
        classes: Classes to keep, in this order; None for all.
        maximum_words: Longer texts are cut; None to cut none.
    """

    encoder: str | None = None
    attention: str | None = None
    tie_attention: float = 0.0
    seed: int = 0
    epsilon: float | None = None
    permutations: int = 100
    adversaries: int = 5
    instances: int | None = None
    minimum_words: int = 1
    epochs: int | None = None
    minimum_count: int = 1
    vectors: str | PathLike[str] | None = None
    embedding_size: int = 300
    hidden_size: int = 128
    batch_size: int = 32
    n_steps: int = 500
    task: str | None = None
    text: str | None = None
    label: str | None = None
    split: str | None = None
    classes: tuple[str, ...] | None = None
    maximum_words: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        vectors = None if self.vectors is None else fspath(self.vectors)
        return asdict(self) | {"vectors": vectors}


def check_settings(settings: Settings) -> None:
    """Raises if a number is out of range, before anything slow begins."""
    require_count("seed", settings.seed, least=0)
    if settings.seed > _LARGEST_SEED:
        raise ValueError(f"seed must be below 2**63; got {settings.seed}. Use a smaller number.")
    for name in _COUNTS:
        value = getattr(settings, name)
        if value is not None or name not in _OPEN:
            _check_count(name, value)
    if not (math.isfinite(settings.tie_attention) and settings.tie_attention >= 0):
        raise ValueError(
            f"tie_attention must be finite and not negative; got {settings.tie_attention}. "
            "Pass 0 for no penalty."
        )
    epsilon = settings.epsilon
    if epsilon is not None and not (math.isfinite(epsilon) and 0 < epsilon <= 1):
        raise ValueError(
            f"epsilon must be above 0 and at most 1; got {epsilon}. The published values are .01 "
            "for texts and .05 for questions and pairs."
        )


def _check_count(name: str, value: object) -> None:
    """Raises unless a count is a whole number of a size that can be computed."""
    if require_count(name, value) > _LARGEST_COUNT:
        raise ValueError(
            f"{name} must be at most {_LARGEST_COUNT}; got {value}. Use a smaller number."
        )
