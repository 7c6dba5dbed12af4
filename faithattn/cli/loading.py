"""What a command line names: objects in modules, and files of data."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faithattn.cli.errors import CommandError
from faithattn.cli.yours import BatchesOfYours, yours

if TYPE_CHECKING:
    from torch import Tensor

FILES = (".npz", ".pt", ".jsonl")


def object_at(name: str, argument: str) -> Any:
    """The object ``package.module:name``; the current folder is searched first.

    Raises:
        ValueError: If there is none.
    """
    module, colon, path = name.partition(":")
    if not colon or not path or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", module):
        raise ValueError(
            f"{argument} must be package.module:name; got {name!r}. "
            "Name a module that Python can import, without .py, and what it calls the object."
        )
    if module.endswith(".py"):
        raise ValueError(
            f"{argument} must be package.module:name; got {name!r}. Write {module[:-3]}:{path}."
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with yours(argument, name):
            found: Any = importlib.import_module(module)
    except CommandError as error:
        missing = error.__cause__
        if not isinstance(missing, ModuleNotFoundError) or not _is_in(missing.name, module):
            raise
        raise ValueError(
            f"{argument} must name a module that can be imported; got {module} "
            f"(no module {missing.name}). Run the command where it lies, or install it."
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(
                f"{argument} must name something in {module}; got {path}, which it does not have. "
                "Look at its spelling."
            )
        found = getattr(found, part)
    return found


def _is_in(missing: str | None, module: str) -> bool:
    """Whether what is missing is the module or a package that it is in, not what it imports."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def model_at(name: str) -> Any:
    """A model, or what the function of that name makes."""
    import torch

    from faithattn.adapters.protocol import AttentionModel

    found = object_at(name, "MODEL")
    if isinstance(found, type) or not isinstance(found, torch.nn.Module | AttentionModel):
        if not callable(found):
            raise TypeError(
                "MODEL must be a model, or a function that makes one; got "
                f"{type(found).__name__}. Name another object."
            )
        with yours("MODEL", name):
            found = found()
    return found


def batches_at(name: str, batch_size: int, prepare: Callable[[Any], Any] | None) -> Any:
    """Batches from a file, or the object of that name, or what it makes."""
    from faithattn.audits.feeding import check_batches

    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}. Pass 1 or more.")
    if Path(name).suffix in FILES or Path(name).exists():
        return _from_file(Path(name), batch_size, prepare)
    found = object_at(name, "data")
    if callable(found) and (isinstance(found, type) or not hasattr(found, "__iter__")):
        with yours("--data", name):
            found = found()
    check_batches(found)
    return BatchesOfYours(name, found)


def _from_file(path: Path, batch_size: int, prepare: Callable[[Any], Any] | None) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"data must be a file that exists; got {path}. Look at its path.")
    if path.suffix == ".npz":
        return _Sliced(_arrays(path), batch_size)
    if path.suffix == ".pt":
        return _Sliced(_tensors(path), batch_size)
    if path.suffix == ".jsonl":
        return _Rows(path, batch_size, padded=prepare is None)
    raise ValueError(
        f"data must be a {', '.join(FILES)} file or package.module:name; got {path}. "
        "Write a function that yields batches, and name it."
    )


class _Sliced:
    """Tensors that are cut into batches; ``labels`` and ``clusters`` are taken out."""

    def __init__(self, tensors: Mapping[str, Tensor], batch_size: int) -> None:
        self.tensors, self.batch_size = dict(tensors), batch_size
        sizes = {name: len(value) for name, value in self.tensors.items()}
        if not sizes or len(set(sizes.values())) > 1:
            raise ValueError(
                f"data must hold arrays with one row an instance; got {sizes or 'none'}. "
                "Give all as many rows."
            )
        self.size = next(iter(sizes.values()))

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        from faithattn.audits.batch import Batch

        for start in range(0, self.size, self.batch_size):
            cut = {k: v[start : start + self.batch_size] for k, v in self.tensors.items()}
            labels, clusters = cut.pop("labels", None), cut.pop("clusters", None)
            inputs = next(iter(cut.values())) if list(cut) in (["inputs"], ["0"]) else cut
            yield Batch(inputs, labels=labels, clusters=clusters)


@contextmanager
def _readable(path: Path, remedy: str) -> Iterator[None]:
    """Names a file that cannot be read."""
    try:
        yield
    except Exception as error:  # a damaged file makes its reader raise anything
        said = (str(error).splitlines() or [""])[0].rstrip(".")
        raise ValueError(
            f"data must be a file that can be read without running anything in it; got {path} "
            f"({type(error).__name__}: {said}). {remedy}"
        ) from error


def _arrays(path: Path) -> dict[str, Tensor]:
    import numpy as np
    import torch

    remedy = "Save arrays of numbers: numpy.savez(path, inputs=..., labels=...)."
    with _readable(path, remedy), np.load(path, allow_pickle=False) as data:
        return {name: torch.from_numpy(data[name]) for name in data.files}


def _tensors(path: Path) -> dict[str, Tensor]:
    import torch

    with _readable(path, "Save tensors: torch.save({'inputs': ..., 'labels': ...}, path)."):
        data = torch.load(path, weights_only=True)
    if isinstance(data, torch.Tensor):
        return {"inputs": data}
    if isinstance(data, dict) and all(isinstance(value, torch.Tensor) for value in data.values()):
        return data
    raise ValueError(
        f"data must hold a tensor, or a mapping from names to tensors; got {type(data).__name__} "
        f"in {path}. Save the inputs as the model takes them."
    )


class _Rows:
    """Rows of a JSONL file in batches: as they are for ``--prepare``, else padded to tensors."""

    def __init__(self, path: Path, batch_size: int, *, padded: bool) -> None:
        self.path, self.batch_size, self.padded = path, batch_size, padded
        with path.open("rb") as file:
            self.size = sum(1 for line in file if line.strip())

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        rows = self._rows()
        while batch := list(islice(rows, self.batch_size)):
            yield _padded(batch) if self.padded else batch

    def _rows(self) -> Iterator[dict[str, Any]]:
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ValueError(
                        f"data must hold one JSON object a line; got something else in line "
                        f"{number} of {self.path}. Mend the line."
                    ) from error
                if not isinstance(row, dict):
                    raise ValueError(
                        f"data must hold one JSON object a line; got {type(row).__name__} in line "
                        f"{number} of {self.path}. Mend the line."
                    )
                yield row


def _padded(rows: list[dict[str, Any]]) -> Any:
    """Rows with ``input_ids`` as a mapping with an attention mask; other lists go along."""
    import torch

    from faithattn.audits.batch import Batch

    if any("input_ids" not in row for row in rows):
        raise ValueError(
            "data must have input_ids in every row, or come with --prepare; got rows with "
            f"{', '.join(rows[0])}. Name a function that makes inputs of rows."
        )
    lists = [row["input_ids"] for row in rows]
    if not all(isinstance(each, list) for each in lists):
        raise ValueError(
            "data must have a list in input_ids of every row; got something else. Look at the file."
        )
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filling: int) -> Tensor:
        lists = [row[name] for row in rows]
        if not all(isinstance(n, int) for each in lists for n in each):
            raise ValueError(
                f"data must have whole numbers in {name}; got something else. "
                "Encode texts with the model's tokenizer, or name a function with --prepare."
            )
        return torch.tensor([each + [filling] * (longest - len(each)) for each in lists])

    inputs: dict[str, Tensor] = {
        name: padded(name, 0) for name in ("input_ids", "token_type_ids") if name in rows[0]
    }
    real = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]
    inputs["attention_mask"] = torch.tensor(real)

    def told(name: str) -> list[Any] | None:
        return [row[name] for row in rows] if all(name in row for row in rows) else None

    return Batch(inputs, labels=told("label"), tokens=told("tokens"), clusters=told("cluster"))
