"""Everything that must be in place before a model is trained or tested, checked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from torch import Tensor

from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.vectors import load_vectors
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.experiment.fitting import check_checkpoint, check_kind, seed_of_data
from faithattn.paper.experiment.kinds import PRACTICE, Model
from faithattn.paper.experiment.settings import Settings, check_settings
from faithattn.paper.experiment.sources import load_data, naming
from faithattn.paper.log_odds import LogOdds, fit_log_odds
from faithattn.paper.training import TrainingRecord, build
from faithattn.paper.training.checkpoints import load
from faithattn.paper.training.evaluation import Collate


@dataclass(frozen=True)
class Prepared:
    """A data set with a model for it, trained if it comes from a checkpoint.

    Attributes:
        dataset: The examples.
        vocabulary: The words the model knows.
        model: The model.
        settings: The settings, nothing left open.
        data_seed: Seed the data set was made or split with.
        record: How the model was trained; None if it was not yet, or not by us.
        trained: Whether the model comes from a checkpoint.
        coverage: Share of the words that have a pretrained vector; None without.
        log_odds: What a logistic regression makes of the words of the training
            texts; None for pairs and questions.
        instances: Places in the test split of what is tested, ascending.
    """

    dataset: Dataset
    vocabulary: Vocabulary
    model: Model
    settings: Settings
    data_seed: int
    record: TrainingRecord | None
    trained: bool
    coverage: float | None
    log_odds: LogOdds | None
    instances: tuple[int, ...]

    @property
    def collate(self) -> Collate:
        """Makes batches for the model."""
        practice = PRACTICE[self.dataset.kind]
        return practice.collate(self.vocabulary, len(self.dataset.labels))

    @property
    def examples(self) -> tuple[Example, ...]:
        """The test examples that are tested."""
        return tuple(self.dataset.test[place] for place in self.instances)


def prepare(
    data: str | PathLike[str] | Dataset,
    settings: Settings | None = None,
    *,
    checkpoint: str | PathLike[str] | None = None,
) -> Prepared:
    """Gets data, vocabulary and model ready, and checks every setting.

    Args:
        data: ``babi-1``, ``babi-2``, ``babi-3``, ``generated``, a file or
            folder of the kind that ``settings.task`` names, or a data set.
        settings: What to do; None for the published settings.
        checkpoint: A trained model to load instead of making one. The data
            are then drawn or split as when it was trained.

    Returns:
        What :func:`~faithattn.paper.experiment.run` takes.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If a setting has the wrong type.
        ValueError: If a file cannot be read, a setting is out of range, or the
            checkpoint is for another task.
    """
    settings = settings or Settings()
    check_settings(settings)
    with naming("checkpoint"):
        loaded = None if checkpoint is None else load(checkpoint)
    data_seed = settings.seed if loaded is None else seed_of_data(loaded, settings.seed)
    dataset = load_data(data, settings, data_seed)
    check_kind(dataset, settings)
    practice = PRACTICE[dataset.kind]
    settings = replace(
        settings,
        epsilon=settings.epsilon or practice.epsilon,
        epochs=settings.epochs or practice.epochs,
    )
    coverage, record = None, None
    if loaded is None:
        vocabulary = _vocabulary(dataset, settings)
        log_odds = _log_odds(dataset, vocabulary)
        model, coverage = _new_model(dataset, vocabulary, log_odds, settings)
    else:
        settings = check_checkpoint(loaded, dataset, settings)
        vocabulary, model, record = loaded.vocabulary, loaded.model, loaded.record
        log_odds = _log_odds(dataset, vocabulary)
    return Prepared(
        dataset=dataset,
        vocabulary=vocabulary,
        model=model,
        settings=_as_made(settings, model),
        data_seed=data_seed,
        record=record,
        trained=loaded is not None,
        coverage=coverage,
        log_odds=log_odds,
        instances=_choice(dataset.test, settings),
    )


def _as_made(settings: Settings, model: Model) -> Settings:
    """The settings with what the model is in fact."""
    return replace(
        settings,
        encoder=str(model.config["encoder"]),
        attention=str(model.config["attention"]),
        embedding_size=int(model.config["embedding_size"]),
        hidden_size=int(model.config["hidden_size"]),
    )


def _vocabulary(dataset: Dataset, settings: Settings) -> Vocabulary:
    """The words of the training split."""
    texts = (part for each in dataset.train for part in (each.tokens, each.question))
    return Vocabulary.build(texts, minimum_count=settings.minimum_count)


def _log_odds(dataset: Dataset, vocabulary: Vocabulary) -> LogOdds | None:
    """What words say by themselves, where there is one text to say it of."""
    if dataset.kind not in ("texts", "labels"):
        return None
    return fit_log_odds(dataset.train, vocabulary, len(dataset.labels), kind=dataset.kind)


def _new_model(
    dataset: Dataset, vocabulary: Vocabulary, log_odds: LogOdds | None, settings: Settings
) -> tuple[Model, float | None]:
    """A model with its first weights, and how many words have a pretrained vector."""
    matrix, coverage = _vectors(settings, vocabulary)
    options: dict[str, Any] = {
        "encoder": settings.encoder or "bilstm",
        "attention": settings.attention or "additive",
        "embedding_size": settings.embedding_size if matrix is None else matrix.shape[1],
        "hidden_size": settings.hidden_size,
        "vectors": matrix,
    }
    if settings.attention == "log_odds" and log_odds is not None:
        options["strength"] = log_odds.strength()
    practice, n_classes = PRACTICE[dataset.kind], len(dataset.labels)
    model = build(lambda: practice.make(len(vocabulary), n_classes, **options), seed=settings.seed)
    return model, coverage


def _vectors(settings: Settings, vocabulary: Vocabulary) -> tuple[Tensor | None, float | None]:
    """Reads the pretrained vectors, if any."""
    if settings.vectors is None:
        return None, None
    with naming("vectors"):
        return load_vectors(settings.vectors, vocabulary, seed=settings.seed)


def _choice(test: Sequence[Example], settings: Settings) -> tuple[int, ...]:
    """Draws test instances that are long enough; at random, as files may be sorted by class."""
    least = settings.minimum_words
    places = [place for place, example in enumerate(test) if len(example.tokens) >= least]
    if not places:
        raise ValueError(
            f"minimum_words must leave test texts; got {least}, and the longest has "
            f"{max(len(example.tokens) for example in test)}. Lower it."
        )
    if settings.instances is None or settings.instances >= len(places):
        return tuple(places)
    return tuple(sorted(random.Random(settings.seed).sample(places, settings.instances)))
