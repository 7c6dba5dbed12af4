"""Peak memory of 100 permutations of 32 texts of 4,000 words, above the model's own pass."""

from __future__ import annotations

import resource
import subprocess
import sys

import torch

from faithattn import permutation_test
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build

LIMIT_MEGABYTES = 1024


def megabytes(length: int, batch: int = 32) -> float:
    """Measures in a process of its own and returns the growth of the peak."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", str(length), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _growth(length: int, batch: int) -> float:
    torch.set_num_threads(1)
    model = build(lambda: TextClassifier(1000, encoder="average"), seed=0)
    ids = torch.randint(4, 1000, (batch, length), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(ids)
    permutation_test(model, ids[:2, :8], n_permutations=1, seed=0)
    before = _peak()
    permutation_test(model, ids, n_permutations=100, seed=0)
    return _peak() - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(_growth(int(sys.argv[1]), int(sys.argv[2])))
