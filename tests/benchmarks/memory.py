"""Peak memory of 100 permutations above the model's own pass, each in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from faithattn import AttentionView, adapt, permutation_test
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build
from tests.benchmarks import models

LIMIT_MEGABYTES = 1024


def lines(smoke: bool) -> list[str]:
    """What the table says about memory."""
    length, size, words = 400 if smoke else 4000, 8, 64
    named = {"paper's model": ("paper", 32, length), "adapted BiLSTM": ("lstm", 32, length)}
    if not smoke:
        named["nn.TransformerEncoder, last layer"] = ("encoder", size, words)
    if models.HAS_TRANSFORMERS and not smoke:
        named["MiniLM, last layer"] = ("bert", size, words)
    return [
        f"permutation_test, 100 shuffles, {name}, {size} x {length:,}: "
        f"{megabytes(kind, size, length):.0f} MB above the model (goal: under {LIMIT_MEGABYTES} MB)"
        for name, (kind, size, length) in named.items()
    ]


def megabytes(kind: str, size: int, length: int) -> float:
    """Measures in a process of its own and returns the growth of the peak."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", kind, str(size), str(length)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _growth(kind: str, size: int, length: int) -> float:
    torch.set_num_threads(1)
    model, inputs, small, view, forward = _subject(kind, size, length)
    with torch.no_grad():
        forward()
    permutation_test(model, small, view=view, n_permutations=1, seed=0)
    before = _peak()
    permutation_test(model, inputs, view=view, n_permutations=100, seed=0)
    return _peak() - before


def _subject(
    kind: str, size: int, length: int
) -> tuple[Any, Any, Any, AttentionView | None, Callable[[], object]]:
    """A model, a batch, a smaller one, the view, and the model's own pass."""
    if kind == "paper":
        model = build(lambda: TextClassifier(1000, encoder="average"), seed=0)
        ids = torch.randint(4, 1000, (size, length), generator=torch.Generator().manual_seed(0))
        return model, ids, ids[:2, :8], None, lambda: model(ids)
    make = {"lstm": lambda *n: models.additive("mul-sum", *n), "encoder": models.encoder}
    case, small = (
        models.bert("sdpa", *n) if kind == "bert" else make[kind](*n)
        for n in ((size, length), (2, 8))
    )
    view = None if kind == "lstm" else AttentionView.cls()
    return adapt(case.model), case.inputs, small.inputs, view, case.forward


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(_growth(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
