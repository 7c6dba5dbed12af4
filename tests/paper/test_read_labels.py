from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn.paper.data.readers import read_labels

NAMES = ("cough", "fever", "pain")
ROWS = st.lists(st.sets(st.sampled_from(NAMES)), max_size=8)
SPLITS = ("train", "train", "dev", "test")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def held(data) -> list[tuple[str, set[str]]]:
    """Every text with the names of its labels, in the order of the splits."""
    return [
        (" ".join(example.tokens), {data.labels[number] for number in example.labels})
        for part in data.splits
        for example in part
    ]


def oracle(notes: list[set[str]]) -> list[tuple[str, set[str]]]:
    rows = [(SPLITS[n % 4], f"note{n}", labels) for n, labels in enumerate(notes)]
    return [
        (text, labels) for part in ("train", "dev", "test") for s, text, labels in rows if s == part
    ]


@settings(max_examples=25)
@given(ROWS, st.sampled_from("|;"), st.sampled_from(["labels", "Tags", "codes", "phenotypes"]))
def test_all_forms_hold_the_same(tmp_path_factory, rows, separator: str, column: str) -> None:
    notes = [{"cough", "fever"}, {"pain"}, set(), {"pain"}, *rows]
    folder = tmp_path_factory.mktemp("labels")
    with (
        (folder / "joined.csv").open("w", newline="") as joined,
        (folder / "flags.csv").open("w", newline="") as flags,
        (folder / "lists.jsonl").open("w") as lists,
    ):
        csv.writer(joined).writerow(("text", column, "split"))
        csv.writer(flags).writerow(("text", *NAMES, "split"))
        for n, labels in enumerate(notes):
            row = (f"note{n}", SPLITS[n % 4])
            joined_labels = f" {separator} ".join(sorted(labels, reverse=True))
            csv.writer(joined).writerow((row[0], joined_labels, row[1]))
            csv.writer(flags).writerow((row[0], *(int(name in labels) for name in NAMES), row[1]))
            line = {"text": row[0], column: sorted(labels), "split": row[1]}
            lists.write(json.dumps(line) + "\n")
    data = read_labels(folder / "joined.csv")
    assert (data.kind, data.labels, held(data)) == ("labels", NAMES, oracle(notes))
    assert {example.label for part in data.splits for example in part} == {-1}
    assert all(list(e.labels) == sorted(e.labels) for part in data.splits for e in part)
    assert held(read_labels(folder / "lists.jsonl")) == oracle(notes)
    columns = ("pain", "cough", "fever")
    data = read_labels(folder / "flags.csv", labels=", ".join(columns))
    assert (data.labels, held(data)) == (columns, oracle(notes))


HEADER = "text,labels,split\n"
GOOD = HEADER + "hot,fever|cough,train\nwell,,train\nsore,cough,dev\nill,fever,test\n"


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        ("10|9|2.5", ("2.5", "9", "10")),
        ("250.0|250.00|38.9", ("38.9", "250.0", "250.00")),
        ("1.00|1.0|1.0000|1|1.000", ("1", "1.0", "1.00", "1.000", "1.0000")),
        ("b|a|10", ("10", "a", "b")),
    ],
)
def test_order_of_labels(tmp_path: Path, labels: str, order: tuple[str, ...]) -> None:
    text = HEADER + "".join(f"x,{labels},{split}\n" for split in ("train", "dev", "test"))
    assert read_labels(write(tmp_path / "n.csv", text)).labels == order


@pytest.mark.parametrize("yes", ["1", "1.0", "true", "TRUE", " 1 "])
@pytest.mark.parametrize("no", ["0", "0.0", "False"])
def test_spellings_of_flags(tmp_path: Path, yes: str, no: str) -> None:
    text = f"text,a,b,split\nx,{yes},{no},train\ny,{no},{yes},train\nz,{yes},{yes},dev\n"
    data = read_labels(write(tmp_path / "n.csv", text + f"u,{no},{no},test\n"), labels="a,b")
    assert held(data) == [("x", {"a"}), ("y", {"b"}), ("z", {"a", "b"}), ("u", set())]


def test_flags_and_numbers_of_json(tmp_path: Path) -> None:
    rows = [
        {"text": "x", "a": 1, "b": False, "codes": [7, "8"], "split": "train"},
        {"text": "y", "a": 0.0, "b": True, "codes": "7|10", "split": "train"},
        {"text": "z", "a": 0, "b": 0, "codes": "", "split": "dev"},
        {"text": "u", "a": 1, "b": 1, "codes": [], "split": "test"},
    ]
    path = write(tmp_path / "n.jsonl", "\n".join(map(json.dumps, rows)))
    assert held(read_labels(path, labels="a,b")) == [
        *(("x", {"a"}), ("y", {"b"}), ("z", set()), ("u", {"a", "b"}))
    ]
    data = read_labels(path)
    assert data.labels == ("7", "8", "10")
    assert held(data) == [("x", {"7", "8"}), ("y", {"7", "10"}), ("z", set()), ("u", set())]


def test_rows_are_split_at_random_without_regard_to_labels(tmp_path: Path) -> None:
    rows = [f"note{n},{'a|b' if n % 2 else ''}" for n in range(40)]
    path = write(tmp_path / "n.csv", "text,labels\n" + "\n".join(rows))
    data = read_labels(path, dev_fraction=0.1, test_fraction=0.2, seed=1)
    assert [len(part) for part in data.splits] == [28, 4, 8]
    assert sorted(text for text, _ in held(data)) == sorted(f"note{n}" for n in range(40))
    for text, labels in held(data):
        assert labels == ({"a", "b"} if int(text.removeprefix("note")) % 2 else set())
    assert data == read_labels(path, dev_fraction=0.1, test_fraction=0.2, seed=1)
    assert data != read_labels(path, dev_fraction=0.1, test_fraction=0.2, seed=2)
    for part in data.splits:
        numbers = [int(e.tokens[0].removeprefix("note")) for e in part]
        assert numbers == sorted(numbers)


def test_folders_and_maximum_words(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.csv", f"text,labels\na b c {split},x\nd,y|x\n")
    data = read_labels(tmp_path, maximum_words=2)
    assert held(data) == 3 * [("a b", {"x"}), ("d", {"x", "y"})]
    assert (data.cut, data.left_out) == (3, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "x,fever|,train\n", r"different names with \| or ; .*'fever\|' .* at line 6 of"),
        (GOOD + "x,fever;;cough,train\n", r"labels must be different names"),
        (GOOD + "x,fever|fever,train\n", r"labels must be different names"),
        (GOOD + "x,nan,train\n", r"labels must be different names"),
        (
            GOOD + "x,[],train\n",
            r"or a list in a JSON-lines file; got '\[\]' in 'labels' at line 6",
        ),
        (GOOD + "x,fe\0ver,train\n", r"NUL"),
        (GOOD + ",fever,train\n", r"text must hold a word in every row; got '' .* line 6"),
        (GOOD + "x,fever,later\n", r"split must be train, dev or test.* line 6"),
        (GOOD + "x,fever\n", r"3 columns in each row.*got 2 at line 6"),
        (
            GOOD + "x,pain,test\n",
            r"each hold in a row for training; got none with 'pain', the first of 1",
        ),
        (GOOD + "x,pain,dev\n", r"got none with 'pain', the first of 1"),
        (
            HEADER + "a,x,train\nb,,dev\nc,x,test\n",
            r"two labels or more; got \['x'\] in 'labels' of",
        ),
        ("text,label,split\na,x,train\n", r"labels must name a column .* called labels or tags or"),
        ("text,labels\na,x|y\nb,x|y\n", r"path must hold 3 rows or more to split; got 2\. "),
        (
            HEADER + "a,1,train\nb,0,train\nc,1,dev\nd,0,test\n",
            r"two labels or more; got \['0', '1'\] in 'labels' .*which says whether one holds",
        ),
    ],
)
def test_malformed_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_labels(write(tmp_path / "notes.csv", text))


@pytest.mark.parametrize("value", ["2", "-1", "", "yes", "nan", "0.5"])
def test_flags_that_are_none(tmp_path: Path, value: str) -> None:
    text = f"text,a,b,split\nx,1,1,train\ny,{value},0,train\nz,1,1,dev\nu,1,1,test\n"
    with pytest.raises(ValueError, match=rf"must be 0 or 1 .*; got '{value}' in 'a' at line 3"):
        read_labels(write(tmp_path / "n.csv", text), labels="a,b")


@pytest.mark.parametrize("value", [None, 3, True, {"a": 1}, [["a"]], [None], ["a", True], [""]])
def test_lists_that_are_none(tmp_path: Path, value: object) -> None:
    rows = [{"text": "x", "labels": ["a", "b"]}, {"text": "y", "labels": value}]
    path = write(tmp_path / "n.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"labels must be .* at line 2 of .*n\.jsonl"):
        read_labels(path)


def test_a_row_without_the_column(tmp_path: Path) -> None:
    path = write(tmp_path / "n.jsonl", '{"text": "x", "labels": ["a", "b"]}\n{"text": "y"}\n')
    with pytest.raises(ValueError, match=r"labels must be a list or a string .*got None .* line 2"):
        read_labels(path)


def test_columns_must_differ(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", GOOD)
    with pytest.raises(ValueError, match=r"text, labels and split must name different columns"):
        read_labels(path, labels="text,labels")
    with pytest.raises(ValueError, match=r"labels must name a column of .*; got 'cold', not among"):
        read_labels(path, labels="labels,cold")
