"""Small files of each task, with all that the published ones have in them and beside them."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

FILLERS = ("the", "of", "was", "on", "and", "today", "again", "there", "quite", "long")


def write_csv(
    path: str, rows: list[list[str]], quoting: int = csv.QUOTE_MINIMAL, end: str = "\n"
) -> str:
    Path(path).parent.mkdir(exist_ok=True)
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=quoting, lineterminator=end).writerows(rows)  # type: ignore[arg-type]
    return path


def some_words(rng: random.Random, *planted: str) -> str:
    return " ".join([*rng.choices(FILLERS, k=rng.randint(4, 9)), *planted])


def snli_row(number: int, label: str) -> dict[str, object]:
    premise = f"A man number {number} inspects the uniform of a figure."
    return {
        "annotator_labels": [label] * 5,
        "captionID": f"30{number}.jpg#4",
        "gold_label": label,
        "pairID": f"30{number}.jpg#4r1n",
        "sentence1": premise,
        "sentence1_binary_parse": f"( ( A man ) ( {number} . ) )",
        "sentence1_parse": "(ROOT (S (NP (DT A) (NN man)) (. .)))",
        "sentence2": f"The man isn't sleeping, {label}.",
        "sentence2_binary_parse": "( ( The man ) sleeps )",
        "sentence2_parse": "(ROOT (S (NP (DT The))))",
    }


def snli_folder(damage: str = "") -> str:
    """The files of the archive, in which other files stand beside them."""
    place = Path("snli_1.0")
    place.mkdir()
    usual = ("neutral", "contradiction", "entailment")
    for split, count in (("train", 30), ("dev", 9), ("test", 9)):
        rows = [snli_row(n, "-" if n % 10 == 8 else usual[n % 3]) for n in range(count)]
        lines = [json.dumps(row) for row in rows]
        if split == "test" and damage:
            lines.insert(4, damage)
        (place / f"snli_1.0_{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (place / f"snli_1.0_{split}.txt").write_text("gold_label\tsentence1\n")
    for name in ("README.txt", ".DS_Store", "._snli_1.0_train.jsonl", "Icon\r"):
        (place / name).write_bytes(b"\x00\x05\x16\x07")
    return "snli_1.0"


def labelled(count: int = 40) -> list[tuple[str, tuple[str, ...]]]:
    rng = random.Random(0)
    rows = []
    for number in range(count):
        held = tuple(name for bit, name in enumerate(("sepsis", "stroke")) if number >> bit & 1)
        rows.append((some_words(rng, *held), held))
    return rows


def agnews_folder(header: bool = False, damage: str = "") -> str:
    """The files as published: every field quoted, no header, backslashes in the texts."""
    rng = random.Random(1)
    topics = ("treaty", "match", "shares", "robot")
    for split, count in (("train", 60), ("test", 16)):
        rows = [
            [
                str(1 + n % 4),
                f'The "{topics[n % 4]}", again (Reuters)',
                f"Reuters - Street's {some_words(rng)}\\band of \\$5 #39;s &lt;b&gt; {n}.",
            ]
            for n in range(count)
        ]
        top = [["Class Index", "Title", "Description"]] if header else []
        path = write_csv(f"ag_news_csv/{split}.csv", top + rows, csv.QUOTE_ALL)
        if split == "test" and damage:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(damage)
    Path("ag_news_csv", "classes.txt").write_text("World\nSports\nBusiness\nSci/Tech\n")
    Path("ag_news_csv", "readme.txt").write_text("AG's News Topic Classification Dataset")
    return "ag_news_csv"


def newsgroups() -> str:
    """As people export scikit-learn's: posts with line breaks, numbers and names of the groups."""
    rng = random.Random(2)
    groups = ("alt.atheism", "rec.sport.baseball", "rec.sport.hockey")
    rows = [["", "text", "target", "target_names"]]
    for number in range(48):
        group = number % 3
        word = ("god", "pitcher", "goalie")[group]
        text = f"From: a{number}@b.edu\nSubject: Re: {word}\n\n> {some_words(rng)}\n\tYes.\r\n"
        rows.append([str(number), text, str((0, 9, 10)[group]), groups[group]])
    return write_csv("20_newsgroup.csv", rows)


def films() -> str:
    rng = random.Random(4)
    rows = [
        [some_words(rng, ("awful", "great")[number % 2]), str(number % 2)] for number in range(40)
    ]
    return write_csv("films.csv", [["text", "label"], *rows])
