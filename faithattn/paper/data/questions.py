"""A reader for questions on news passages in the files of the CNN and Daily Mail data."""

from __future__ import annotations

import hashlib
import random
import re
import sys
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from faithattn._checks import require_count
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.question_files import file_names, read_parts, split_folders
from faithattn.paper.data.splits import check_fractions
from faithattn.paper.data.store import TokenStore

_PLACEHOLDER = "@placeholder"
_ENTITY = re.compile(r"@entity\d+", re.ASCII)
_MARKED = re.compile(r"(@entity\d+|@placeholder)", re.ASCII)


class _Asked(NamedTuple):
    """What one file holds, with the entities of the passage in numeric order."""

    passage: Sequence[str]
    question: Sequence[str]
    answer: str
    entities: tuple[str, ...]
    cut: bool


def read_questions(
    path: str | PathLike[str],
    *,
    dev_fraction: float = 0.1,
    test_fraction: float = 0.1,
    maximum_words: int | None = None,
    seed: int = 0,
) -> Dataset:
    r"""Reads ``*.question`` files: a passage and a question whose answer is an entity of it.

    A file has five parts with an empty line between: an address, the passage,
    the question with ``@placeholder`` in place of the answer, the answer such
    as ``@entity3``, and one line ``@entity3:Name`` for each entity. Passage and
    question are one line each, tokenised already: they are split at spaces and
    put in lower case; ``@entity3`` and ``@placeholder`` are tokens of their own
    even where another mark touches them.

    The folder holds one folder of files for each split (``training``,
    ``validation`` and ``test``, or any name that the split column of
    :func:`~faithattn.paper.data.readers.read_texts` may hold), or the files
    themselves, which are then split at random; questions about one passage
    stay in one split. Without a folder for dev, a share of train is taken.
    Files are read in the order of their names. Hidden ones are passed over.

    The candidates of a question are the entities of its passage.

    Args:
        path: The folder.
        dev_fraction: Share of the questions for dev, where folders do not say.
        test_fraction: Share of the questions for test, where folders do not say.
        maximum_words: Longer passages are cut at the end. A question whose
            answer is cut away is left out and counted.
        seed: Seed of the random split.

    Returns:
        The data set, named like the folder. Its classes are the entities that
        any passage holds, in numeric order. ``cut`` counts the questions whose
        passage was cut, ``left_out`` those without their answer.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder holds no such files, a file cannot be read or
            is malformed (it is named, with the line), or nothing is left for a
            split.

    References:
        Hermann et al. (2015), "Teaching Machines to Read and Comprehend",
        arXiv 1506.03340.

    Examples:
        >>> import tempfile
        >>> text = "url\n\n@entity1 met @entity0 .\n\n@placeholder met @entity0\n\n@entity1\n\n"
        >>> text += "@entity0:Ann\n@entity1:Bob\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for split in ("training", "validation", "test"):
        ...         Path(folder, split).mkdir()
        ...         _ = Path(folder, split, "1.question").write_text(text, encoding="utf-8")
        ...     data = read_questions(folder)
        >>> data.labels, data.test[0].candidates, data.test[0].label
        (('@entity0', '@entity1'), (0, 1), 1)
        >>> data.test[0].tokens
        ('@entity1', 'met', '@entity0', '.')
    """
    check_fractions(dev_fraction, test_fraction)
    require_count("seed", seed, least=0)
    if maximum_words is not None:
        require_count("maximum_words", maximum_words)
    reader = _Reader(maximum_words)
    folder = Path(path)
    folders = split_folders(folder)
    if folders:
        parts = {split: reader.read(place) for split, place in folders.items()}
        if "dev" not in parts:
            parts["train"], parts["dev"] = _parted(parts["train"], [dev_fraction], seed)
    else:
        shares = [test_fraction, dev_fraction]
        parts = dict(
            zip(("train", "test", "dev"), _parted(reader.read(folder), shares, seed), strict=True)
        )
    return _dataset(folder.resolve().name, parts, reader)


class _Reader:
    """Reads files one by one; equal passages are one object, and long data stay on disk."""

    def __init__(self, maximum_words: int | None) -> None:
        self.maximum_words = maximum_words
        self.left_out = 0
        self._store = TokenStore()
        self._passages: dict[bytes, Sequence[str]] = {}

    def read(self, folder: Path) -> list[_Asked]:
        """Reads the files of a folder whose answer is in the passage as cut."""
        asked = [self._file(folder / name) for name in file_names(folder)]
        kept = [each for each in asked if each.answer in each.entities]
        self.left_out += len(asked) - len(kept)
        if not kept:
            raise ValueError(
                f"maximum_words must leave questions with their answer; got {self.maximum_words}, "
                f"and none of {len(asked)} in {folder} keeps it. Raise it."
            )
        return kept

    def _file(self, file: Path) -> _Asked:
        """Reads and checks one file."""
        _, passage, question, answer, _ = read_parts(file)
        whole, asked = _tokens(passage.text), _tokens(question.text)
        entities = _entities(whole)
        if _PLACEHOLDER not in asked:
            raise ValueError(
                f"path must hold questions with {_PLACEHOLDER}; got {question.text[:60]!r} at line "
                f"{question.line} of {file}. Put it where the answer belongs."
            )
        if not _ENTITY.fullmatch(answer.text):
            raise ValueError(
                f"path must hold answers such as @entity3; got {answer.text[:60]!r} at line "
                f"{answer.line} of {file}. Correct the answer."
            )
        if answer.text not in entities:
            raise ValueError(
                f"path must hold answers that the passage names; got {answer.text} at line "
                f"{answer.line} of {file}, not among its {len(entities)} entities. Correct the "
                "answer or remove the file."
            )
        kept = whole[: self.maximum_words]
        cut = len(kept) < len(whole)
        return _Asked(
            self._shared(kept),
            self._store.add(asked),
            sys.intern(answer.text),
            _entities(kept) if cut else entities,
            cut,
        )

    def _shared(self, tokens: list[str]) -> Sequence[str]:
        """Returns the tokens as one object for all questions about a passage."""
        # A digest, so that passages in the store need not be read again to be compared.
        key = hashlib.sha256(" ".join(tokens).encode()).digest()
        if key not in self._passages:
            self._passages[key] = self._store.add(tokens)
        return self._passages[key]


def _dataset(name: str, parts: dict[str, list[_Asked]], reader: _Reader) -> Dataset:
    """Numbers the entities and makes the examples."""
    everything = [each for part in parts.values() for each in part]
    labels = _in_order({entity for each in everything for entity in each.entities})
    index = {entity: number for number, entity in enumerate(labels)}
    train, dev, test = (
        tuple(
            Example(
                tokens=each.passage,
                label=index[each.answer],
                question=each.question,
                candidates=tuple(index[entity] for entity in each.entities),
            )
            for each in parts[split]
        )
        for split in ("train", "dev", "test")
    )
    reason = f"answer not among the first {reader.maximum_words} words"
    left_out = {reason: reader.left_out} if reader.left_out else {}
    cut = sum(each.cut for each in everything)
    return Dataset(name, train, dev, test, labels, left_out, cut)


def _tokens(text: str) -> list[str]:
    """Splits a text at spaces and around the marks of entities."""
    return _MARKED.sub(r" \1 ", text.lower()).split()


def _entities(tokens: Sequence[str]) -> tuple[str, ...]:
    """Returns the entities among tokens."""
    return _in_order({sys.intern(token) for token in tokens if token.startswith("@entity")})


def _in_order(entities: set[str]) -> tuple[str, ...]:
    """Returns entities in numeric order."""
    known = [entity for entity in entities if _ENTITY.fullmatch(entity)]
    return tuple(sorted(known, key=lambda entity: (int(entity[len("@entity") :]), entity)))


def _parted(asked: Sequence[_Asked], shares: Sequence[float], seed: int) -> Iterator[list[_Asked]]:
    """Yields what is left, then a random share for each of ``shares``, passages kept together."""
    groups: dict[int, list[int]] = {}
    for place, each in enumerate(asked):
        groups.setdefault(id(each.passage), []).append(place)
    if len(groups) <= len(shares):
        raise ValueError(
            f"path must hold questions about {len(shares) + 1} passages or more to split; got "
            f"{len(groups)}. Add files, or make folders training, validation and test."
        )
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    taken: list[list[int]] = []
    for number, share in enumerate(shares):
        part = order.pop()
        # One passage at least stays for each later part and for what is left.
        while len(part) < share * len(asked) and len(order) > len(shares) - number:
            part += order.pop()
        taken.append(part)
    yield [asked[place] for place in sorted(place for group in order for place in group)]
    for part in taken:
        yield [asked[place] for place in sorted(part)]
