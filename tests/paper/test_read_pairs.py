from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn.paper.data.readers import read_pairs
from faithattn.paper.data.vocabulary import tokenize

SNLI = ("sentence1", "sentence2", "gold_label")
PLAIN = ("premise", "hypothesis", "label")
USUAL = ("entailment", "neutral", "contradiction")


def lines(rows, keys: tuple[str, ...] = SNLI) -> str:
    return "".join(json.dumps(dict(zip(keys, row, strict=False))) + "\n" for row in rows)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read(data, part) -> list[tuple[str, str, str]]:
    return [(" ".join(e.tokens), " ".join(e.question), data.labels[e.label]) for e in part]


LABEL = st.sampled_from([*USUAL, "-", "unknown", ""])
WORDS = st.lists(st.sampled_from(["A man", "runs.", "don't", "n/a"]), min_size=1, max_size=4)
ROWS = st.lists(st.tuples(WORDS.map(" ".join), WORDS.map(" ".join), LABEL), max_size=8)


@settings(max_examples=25)
@given(ROWS, ROWS, ROWS, st.sampled_from([SNLI, PLAIN]), st.sampled_from(["jsonl", "csv", "tsv"]))
def test_folders_of_snli(tmp_path_factory, train, dev, test, keys, ending: str) -> None:
    every = [("A man sleeps", "He rests", label) for label in USUAL]
    parts = {"train": every + train, "dev": dev + every[:1], "test": test + every[1:2]}
    folder = tmp_path_factory.mktemp("snli_1.0")
    for name, rows in parts.items():
        path = folder / f"snli_1.0_{name}.{ending}"
        if ending == "jsonl":
            write(path, lines([(*row, "x") for row in rows], (*keys, "captionID")))
            continue
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, delimiter="," if ending == "csv" else "\t")
            writer.writerow((*keys[::-1], "captionID"))
            writer.writerows((*row[::-1], "x") for row in rows)
    data = read_pairs(folder)
    assert (data.kind, data.labels, data.name) == ("pairs", USUAL, folder.name)
    for name, rows in parts.items():
        assert read(data, getattr(data, name)) == [
            (" ".join(tokenize(one)), " ".join(tokenize(two)), label)
            for one, two, label in rows
            if label in USUAL
        ]
    left_out = Counter(row[2] for rows in parts.values() for row in rows if row[2] not in USUAL)
    assert data.left_out == {f"label {label!r}": count for label, count in left_out.items()}
    assert sum(map(len, data.splits)) + sum(left_out.values()) == sum(map(len, parts.values()))


def pairs(*labels: object) -> list[tuple[str, str, object]]:
    return [(f"one{n}", f"two{n}", label) for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (("contradiction", "neutral", "ENTAILMENT"), USUAL),
        (("contradiction", "entailment"), ("entailment", "contradiction")),
        (("not_entailment", "entailment"), ("entailment", "not_entailment")),
        ((2, 0, 1), ("0", "1", "2")),
        (("yes", "no", "10"), ("10", "no", "yes")),
    ],
)
def test_order_of_labels(tmp_path: Path, labels, order: tuple[str, ...]) -> None:
    path = write(tmp_path / "p.jsonl", lines(pairs(*labels, *labels, *labels)))
    assert read_pairs(path).labels == order


def test_one_file_is_split_at_random_by_class(tmp_path: Path) -> None:
    labels = [USUAL[n % 3] if n % 10 else "-" for n in range(100)]
    path = write(tmp_path / "p.jsonl", lines(pairs(*labels)))
    data = read_pairs(path, dev_fraction=0.1, test_fraction=0.2)
    counts = Counter(label for label in labels if label != "-")
    for name, share in (("dev", 0.1), ("test", 0.2)):
        held = Counter(data.labels[e.label] for e in getattr(data, name))
        assert held == {label: round(count * share) for label, count in counts.items()}
    everything = [row for part in data.splits for row in read(data, part)]
    assert sorted(everything) == sorted(row for row in pairs(*labels) if row[2] != "-")
    assert data.left_out == {"label '-'": 10}
    assert data == read_pairs(path, dev_fraction=0.1, test_fraction=0.2)
    assert data != read_pairs(path, dev_fraction=0.1, test_fraction=0.2, seed=1)


def test_a_split_column_counts(tmp_path: Path) -> None:
    rows = [
        (*row, split)
        for row, split in zip(
            pairs("neutral", "entailment", "neutral", "entailment"),
            ("train", "train", "dev", "test"),
            strict=True,
        )
    ]
    data = read_pairs(write(tmp_path / "p.jsonl", lines(rows, (*SNLI, "split"))))
    assert read(data, data.test) == [("one3", "two3", "entailment")]


def test_numbered_labels_without_agreement(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", lines(pairs(0, 1, 2, -1, -1) * 3, PLAIN))
    assert read_pairs(path).left_out == {"label '-1'": 6}


def test_two_files_for_dev_are_not_chosen_between(tmp_path: Path) -> None:
    text = lines(pairs(*USUAL))
    for name in ("train", "dev_matched", "dev_mismatched"):
        write(tmp_path / f"multinli_1.0_{name}.jsonl", text)
    with pytest.raises(
        ValueError,
        match=r"got multinli_1.0_dev_matched.jsonl and multinli_1.0_dev_mismatched.jsonl",
    ):
        read_pairs(tmp_path)
    (tmp_path / "multinli_1.0_dev_mismatched.jsonl").rename(tmp_path / "test.jsonl")
    assert [len(part) for part in read_pairs(tmp_path).splits] == [3, 3, 3]


GOOD = pairs(*USUAL)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentence1": "a", "sentence2": "b"}, r"gold_label must be given in every row; got none"),
        ({"sentence2": "b", "gold_label": "-"}, r"sentence1 must be given in every row; got none"),
        ({"sentence1": "a", "gold_label": "neutral"}, r"sentence2 must be given in every row"),
        ({"sentence1": None, "sentence2": "b", "gold_label": "-"}, r"sentence1 must be given"),
        ({"sentence1": 3, "sentence2": "b", "gold_label": "-"}, r"premise must be a string"),
        ({"sentence1": "a", "sentence2": ["b"], "gold_label": "-"}, r"hypothesis must be a string"),
        (
            {"sentence1": " ", "sentence2": "b", "gold_label": "neutral"},
            r"premise must hold a word",
        ),
        (
            {"sentence1": "a", "sentence2": "", "gold_label": "neutral"},
            r"hypothesis must hold a wo",
        ),
        ({"sentence1": "a\0", "sentence2": "b", "gold_label": "neutral"}, r"NUL"),
        ({"sentence1": "a", "sentence2": "b", "gold_label": "maybe"}, r"got 'maybe'"),
        ({"sentence1": "a", "sentence2": "b", "gold_label": ["neutral"]}, r"a word or a number"),
        (["a", "b", "neutral"], r"one JSON object in each line; got list"),
    ],
)
def test_malformed_rows_name_the_line_and_the_file(tmp_path: Path, row, message: str) -> None:
    write(tmp_path / "train.jsonl", lines(GOOD))
    write(tmp_path / "test.jsonl", lines(GOOD) + "\n" + json.dumps(row))
    with pytest.raises(ValueError, match=rf"{message}.* line 5 of .*test\.jsonl"):
        read_pairs(tmp_path)


def test_a_misspelt_usual_label_is_no_class(tmp_path: Path) -> None:
    rows = pairs("neutral", "entailment", "contradicton")
    with pytest.raises(ValueError, match=r"one of entailment, .*; got 'contradicton' at line 3 of"):
        read_pairs(write(tmp_path / "p.jsonl", lines(rows)))


def test_files_without_labels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two classes or more; got none in 'gold_label'"):
        read_pairs(write(tmp_path / "p.jsonl", lines(pairs("-", "-"))))
    write(tmp_path / "snli" / "train.jsonl", lines(GOOD))
    write(tmp_path / "snli" / "test.jsonl", lines(pairs("-", "-")))
    with pytest.raises(ValueError, match=r"split must give rows to test; got none"):
        read_pairs(tmp_path / "snli")
    with pytest.raises(ValueError, match=r"premise must name a column .*sentence1 or premise"):
        read_pairs(write(tmp_path / "q.jsonl", lines(GOOD, ("text", "sentence2", "gold_label"))))
