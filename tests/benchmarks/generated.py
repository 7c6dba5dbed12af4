"""A model and a data set of any size, generated as they are read, for audits from the command line.

``FAITHATTN_INSTANCES`` says how many instances (default: 1,000).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from torch import nn

from faithattn.audits.batch import Batch
from tests.benchmarks.data import classifier

SIZE = 64
_WORDS = 500


def model() -> nn.Module:
    """The published model with an encoder without context, small and decisive."""
    return classifier("average", small=True)


class batches:  # noqa: N801 - named on command lines
    """Batches of 64 texts of 3 to 30 words."""

    def __init__(self) -> None:
        self.instances = int(os.environ.get("FAITHATTN_INSTANCES", "1000"))

    def __len__(self) -> int:
        return -(-self.instances // SIZE)

    def __iter__(self) -> Iterator[Batch]:
        for number in range(len(self)):
            size = min(SIZE, self.instances - number * SIZE)
            generator = torch.Generator().manual_seed(number)
            lengths = torch.randint(3, 31, (size,), generator=generator)
            ids = torch.randint(4, _WORDS, (size, 32), generator=generator)
            place = torch.arange(32)
            ids[:, 0] = 2
            ids[place > lengths[:, None] + 1] = 0
            ids[torch.arange(size), lengths + 1] = 3
            labels = torch.randint(0, 2, (size,), generator=generator)
            yield Batch(ids, labels=labels)
