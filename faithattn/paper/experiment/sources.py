"""Where the data of an experiment come from: generated here, or read from the user's files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.examples import Dataset
from faithattn.paper.data.generated import generate
from faithattn.paper.data.questions import read_questions
from faithattn.paper.data.readers import read_agnews, read_labels, read_pairs, read_texts
from faithattn.paper.experiment.settings import Settings

GENERATED = "generated"

_BABI = re.compile(r"babi-([123])")
_BABI_SIZES = {
    "1": {"n_train": 4000, "n_dev": 500, "n_test": 500},
    "2": {"n_train": 8000, "n_dev": 500, "n_test": 500},
    "3": {"n_train": 8000, "n_dev": 500, "n_test": 500},
}


class Task(NamedTuple):
    """How the files of a task are read.

    Attributes:
        read: The reader; takes the path, ``seed`` and the options by name.
        options: Settings that the reader takes, by its own names for them.
        generated: The kind that ``generated`` stands for.
    """

    read: Callable[..., Dataset]
    options: Mapping[str, str]
    generated: str


_COLUMNS = {"text": "text", "label": "label", "split": "split"}
_CUT = {"maximum_words": "maximum_words"}
_CLASSES = {"classes": "classes"}
_TEXTS = Task(read_texts, _COLUMNS | _CUT | _CLASSES, "texts")
_LABELS = Task(read_labels, {"text": "text", "label": "labels", "split": "split"} | _CUT, "labels")
_PAIRS = Task(read_pairs, {}, "pairs")
_QUESTIONS = Task(read_questions, _CUT, "questions")
_AGNEWS = Task(read_agnews, _CUT | _CLASSES, "topics")

KINDS: Mapping[str, Task] = {
    "texts": _TEXTS,
    "documents": _TEXTS._replace(generated="documents"),
    "topics": _TEXTS._replace(generated="topics"),
    "labels": _LABELS,
    "pairs": _PAIRS,
    "questions": _QUESTIONS,
}
STUDIED: Mapping[str, Task] = {
    **dict.fromkeys(("sst", "imdb", "tweet", "20news-sports"), _TEXTS),
    **dict.fromkeys(
        ("anemia", "diab", "hipsurgery", "kneesurgery", "mortality", "readmission"),
        KINDS["documents"],
    ),
    "phenotyping": _LABELS,
    "agnews": _AGNEWS,
    "snli": _PAIRS,
    "cnn": _QUESTIONS,
}


def load_data(data: str | PathLike[str] | Dataset, settings: Settings, seed: int) -> Dataset:
    """Generates or reads a data set.

    Args:
        data: ``babi-1``, ``babi-2``, ``babi-3``, ``generated``, a file or a
            folder; a data set is returned as it is.
        settings: Its ``task`` says how to read; columns, classes and the
            largest length as they are for the reader.
        seed: Seed of what is generated and of splits.

    Returns:
        The data set, named as the study's where the task is one of those.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the task is unknown, does not take an option that is
            given, or a file cannot be read.
    """
    if isinstance(data, Dataset):
        _refuse_options(settings, (), "a data set")
        return data
    babi = _BABI.fullmatch(fspath(data))
    if babi:
        _refuse_options(settings, (), fspath(data))
        return generate_babi(int(babi[1]), seed=seed, **_BABI_SIZES[babi[1]])
    name = settings.task or "texts"
    task = _task(name)
    if fspath(data) == GENERATED:
        _refuse_options(settings, ("task",), "generated data")
        return generate(task.generated, seed=seed)
    if not Path(data).suffix and not Path(data).exists():
        raise ValueError(
            f"data must be babi-1, babi-2, babi-3, {GENERATED}, or a file or folder; got "
            f"{fspath(data)}. Check the spelling."
        )
    _refuse_options(settings, ("task", *task.options), f"task {name}")
    given = {own: getattr(settings, option) for option, own in task.options.items()}
    with naming("data"):
        dataset = task.read(data, **given, seed=seed)
    return replace(dataset, name=name) if name in STUDIED else dataset


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Names an argument in the errors of a reader, who knows it as ``path``.

    Args:
        name: The argument.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        message = str(error)
        if not message.startswith("path "):
            raise
        raise type(error)(name + message.removeprefix("path")) from error


def _task(name: str) -> Task:
    """Returns how the files of a task are read."""
    tasks = {**KINDS, **STUDIED}
    if name not in tasks:
        raise ValueError(
            f"task must be one of {', '.join(tasks)}; got {name}. Choose the one whose files yours "
            "look like."
        )
    return tasks[name]


def _refuse_options(settings: Settings, taken: Any, what: str) -> None:
    """Raises if an option is given that would be ignored."""
    for name in ("task", "text", "label", "split", "classes", "maximum_words"):
        value = getattr(settings, name)
        if value is not None and name not in taken:
            raise ValueError(
                f"{name} must be left out for {what}; got {value!r}. It has no use there."
            )
