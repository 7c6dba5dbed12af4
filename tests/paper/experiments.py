"""Small tasks and settings that finish in a second."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from faithattn.paper.data.babi import generate_babi
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.experiment import Settings

SMALL = Settings(
    embedding_size=8, hidden_size=4, epochs=2, permutations=10, adversaries=2, n_steps=10
)
# Enough to learn the planted word, so that both classes are predicted.
LEARNING = replace(SMALL, embedding_size=64, hidden_size=16, batch_size=4, epochs=12)
FILLERS = ("the", "film", "was", "long", "and", "quiet", "tonight", "again")


def text_rows(count: int = 60) -> list[tuple[str, str, str]]:
    """Texts whose label a planted word tells, with split; lengths from one word up."""
    rng = random.Random(0)
    rows = []
    for number in range(count):
        label = ("bad", "good")[number % 2]
        words = rng.choices(FILLERS, k=rng.randrange(3, 9))
        words.insert(rng.randrange(len(words) + 1), ("awful", "great")[number % 2])
        split = "train" if number < count // 2 else ("dev" if number % 3 == 0 else "test")
        rows.append((" ".join(words), label, split))
    return [*rows, ("great", "good", "test")]


def write_texts(path: Path) -> Path:
    """The texts as a CSV file."""
    lines = [",".join(row) for row in text_rows()]
    path.write_text("\n".join(["text,label,split", *lines]) + "\n", encoding="utf-8")
    return path


def stories() -> Dataset:
    """A bAbI of a few stories."""
    return generate_babi(1, n_train=24, n_dev=6, n_test=9)


def hostile() -> Dataset:
    """Words and class names that mean something to Matplotlib, Markdown, XML or CSV."""
    words = ("$x^$", "a|b", "<b>", "&", "#_{", "\\frac", "日本", "w" * 60, "-->", '"', ",")
    labels = ("$\\alpha_", "a,b\n|<i>\x00\ud800")
    examples = [
        Example(words[place % 5 :] + words[: 3 + place % 7], place % 2) for place in range(12)
    ]
    return Dataset("$_{<odd>|\n", tuple(examples), tuple(examples[:4]), tuple(examples), labels)
