"""Everything that must be in place before a model is trained or tested, checked."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from torch import Tensor

from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.batches import collate_questions, collate_texts
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.readers import read_texts
from faithattn.paper.data.vectors import load_vectors
from faithattn.paper.data.vocabulary import Vocabulary
from faithattn.paper.experiment.settings import Settings, check_settings
from faithattn.paper.models import PublishedModel, QuestionAnswerer, TextClassifier
from faithattn.paper.training import TrainingRecord, build
from faithattn.paper.training.checkpoints import Checkpoint, load
from faithattn.paper.training.evaluation import Collate

_BABI = re.compile(r"babi-([123])")
_BABI_SIZES = {
    "1": {"n_train": 4000, "n_dev": 500, "n_test": 500},
    "2": {"n_train": 8000, "n_dev": 500, "n_test": 500},
    "3": {"n_train": 8000, "n_dev": 500, "n_test": 500},
}


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
        instances: Places in the test split of what is tested, ascending.
    """

    dataset: Dataset
    vocabulary: Vocabulary
    model: PublishedModel
    settings: Settings
    data_seed: int
    record: TrainingRecord | None
    trained: bool
    coverage: float | None
    instances: tuple[int, ...]

    @property
    def collate(self) -> Collate:
        """Makes batches for the model."""
        if isinstance(self.model, TextClassifier):
            return partial(collate_texts, vocabulary=self.vocabulary)
        return partial(
            collate_questions, vocabulary=self.vocabulary, n_classes=len(self.dataset.labels)
        )

    @property
    def examples(self) -> tuple[Example, ...]:
        """The test examples that are tested."""
        return tuple(self.dataset.test[place] for place in self.instances)


def prepare(
    task: str | PathLike[str] | Dataset,
    settings: Settings | None = None,
    *,
    checkpoint: str | PathLike[str] | None = None,
) -> Prepared:
    """Gets data, vocabulary and model ready, and checks every setting.

    Args:
        task: ``babi-1``, ``babi-2``, ``babi-3``, a file for
            :func:`~faithattn.paper.data.readers.read_texts`, or a data set.
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
    with _argument("checkpoint"):
        loaded = None if checkpoint is None else load(checkpoint)
    data_seed = settings.seed if loaded is None else _data_seed(loaded, settings.seed)
    dataset = task if isinstance(task, Dataset) else _dataset(task, settings, data_seed)
    answers = bool(dataset.test and dataset.test[0].question)
    if not answers and len(dataset.labels) != 2:
        raise ValueError(
            f"label must hold two classes, as the published text model has one output; got "
            f"{len(dataset.labels)} in {dataset.name}. Keep or merge classes to have two."
        )
    settings = _resolved(settings, answers)
    coverage, record = None, None
    if loaded is None:
        vocabulary, model, coverage = _new_model(dataset, settings, answers)
    else:
        _check_checkpoint(loaded, dataset, settings, answers)
        vocabulary, model, record = loaded.vocabulary, loaded.model, loaded.record
    settings = replace(
        settings,
        encoder=str(model.config["encoder"]),
        attention=str(model.config["attention"]),
        embedding_size=int(model.config["embedding_size"]),
        hidden_size=int(model.config["hidden_size"]),
    )
    return Prepared(
        dataset=dataset,
        vocabulary=vocabulary,
        model=model,
        settings=settings,
        data_seed=data_seed,
        record=record,
        trained=loaded is not None,
        coverage=coverage,
        instances=_choice(dataset.test, settings),
    )


def _dataset(task: str | PathLike[str], settings: Settings, seed: int) -> Dataset:
    """Generates or reads a data set."""
    babi = _BABI.fullmatch(fspath(task))
    if babi:
        return generate_babi(int(babi[1]), seed=seed, **_BABI_SIZES[babi[1]])
    if not Path(task).suffix and not Path(task).exists():
        raise ValueError(
            "task must be babi-1, babi-2, babi-3 or a .csv, .tsv or .jsonl file; got "
            f"{fspath(task)}. Check the spelling."
        )
    with _argument("task"):
        return read_texts(
            task,
            text=settings.text,
            label=settings.label,
            split=settings.split,
            n_classes=2,
            seed=seed,
        )


@contextmanager
def _argument(name: str) -> Iterator[None]:
    """Names an argument of :func:`prepare` in the errors of a reader, who knows it as ``path``."""
    try:
        yield
    except (OSError, ValueError) as error:
        message = str(error)
        if not message.startswith("path "):
            raise
        raise type(error)(name + message.removeprefix("path")) from error


def _resolved(settings: Settings, answers: bool) -> Settings:
    """Fills in the defaults that depend on the kind of task."""
    return replace(
        settings,
        epsilon=settings.epsilon or (0.05 if answers else 0.01),
        epochs=settings.epochs or (16 if answers else 8),
    )


def _new_model(
    dataset: Dataset, settings: Settings, answers: bool
) -> tuple[Vocabulary, PublishedModel, float | None]:
    """Builds the vocabulary of the training split and a model with its first weights."""
    texts = [part for each in dataset.train for part in (each.tokens, each.question)]
    vocabulary = Vocabulary.build(texts, minimum_count=settings.minimum_count)
    matrix, coverage = _vectors(settings, vocabulary)
    options: dict[str, Any] = {
        "encoder": settings.encoder or "bilstm",
        "attention": settings.attention or "additive",
        "embedding_size": settings.embedding_size if matrix is None else matrix.shape[1],
        "hidden_size": settings.hidden_size,
        "vectors": matrix,
    }

    def make() -> TextClassifier | QuestionAnswerer:
        if answers:
            return QuestionAnswerer(len(vocabulary), len(dataset.labels), **options)
        return TextClassifier(len(vocabulary), **options)

    return vocabulary, build(make, seed=settings.seed), coverage


def _vectors(settings: Settings, vocabulary: Vocabulary) -> tuple[Tensor | None, float | None]:
    """Reads the pretrained vectors, if any."""
    if settings.vectors is None:
        return None, None
    with _argument("vectors"):
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


def _data_seed(loaded: Checkpoint, default: int) -> int:
    """Returns the seed the data of a checkpoint were drawn with.

    Another one would split a file differently, and test on what was trained on.
    """
    seed = loaded.metadata.get("data_seed", default)
    return seed if isinstance(seed, int) and seed >= 0 else default


def _check_checkpoint(
    loaded: Checkpoint, dataset: Dataset, settings: Settings, answers: bool
) -> None:
    """Raises unless a loaded model does the task and is what was asked for."""
    if answers != isinstance(loaded.model, QuestionAnswerer):
        kinds = ("answers questions", "classifies texts")
        raise ValueError(
            f"checkpoint must hold a model that {kinds[not answers]}; got one that "
            f"{kinds[answers]}. Name the task it was trained on."
        )
    labels = loaded.metadata.get("labels", list(dataset.labels))
    if labels != list(dataset.labels) or (
        answers and loaded.model.config["n_classes"] != len(labels)
    ):
        raise ValueError(
            f"checkpoint must have the classes of {dataset.name}, {list(dataset.labels)[:6]}; got "
            f"{labels}. Name the task it was trained on."
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
