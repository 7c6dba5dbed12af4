from __future__ import annotations

from pathlib import Path

from faithattn.paper.data.examples import Dataset

FOLDERS = ("training", "validation", "test")


def write_questions(data: Dataset, folder: Path) -> Path:
    """Writes questions about entities as the public files have them, a folder for each split."""
    for split, examples in zip(FOLDERS, data.splits, strict=True):
        place = folder / split
        place.mkdir(parents=True)
        for number, example in enumerate(examples):
            names = [data.labels[candidate] for candidate in example.candidates]
            parts = (
                f"http://news/{split}/{number}",
                " ".join(example.tokens),
                " ".join(example.question),
                data.labels[example.label],
                "\n".join(f"{name}:Name of {name}" for name in names),
            )
            text = "\n\n".join(parts) + "\n"
            (place / f"{number:06d}.question").write_text(text, encoding="utf-8")
    return folder
