from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faithattn.paper.data.examples import Dataset
from faithattn.paper.data.readers import read_texts

GOOD = "text,label,split\ngood film,1,train\nbad film,0,train\nfine,1,dev\ndull,0,test\n"


def write(tmp_path: Path, text: str | bytes, name: str = "films.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def words(data: Dataset, part: str) -> list[str]:
    return [" ".join(example.tokens) for example in getattr(data, part)]


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_reads_csv(tmp_path: Path) -> None:
    data = read_texts(write(tmp_path, GOOD))
    assert (data.name, data.labels) == ("films", ("0", "1"))
    assert words(data, "train") == ["good film", "bad film"]
    assert words(data, "dev") == ["fine"]
    assert words(data, "test") == ["dull"]
    assert [example.label for example in data.train] == [1, 0]


@pytest.mark.parametrize("change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n")])
def test_byte_order_mark_and_line_ends(tmp_path: Path, change) -> None:
    assert read_texts(write(tmp_path, change(GOOD))) == read_texts(write(tmp_path, GOOD))


def test_tsv_and_jsonl_hold_the_same(tmp_path: Path) -> None:
    expected = read_texts(write(tmp_path, GOOD))
    rows = list(csv.DictReader(GOOD.splitlines()))
    assert read_texts(write(tmp_path, GOOD.replace(",", "\t"), "films.tsv")) == expected
    assert read_texts(write(tmp_path, jsonl(*rows), "films.jsonl")) == expected
    numbers = [{**row, "label": int(row["label"])} for row in rows]
    assert read_texts(write(tmp_path, jsonl(*numbers), "films.JSONL")) == expected


def test_quoted_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    text = 'text,label,split\n"a, ""b""\nc",x,train\nd,y,train\ne,x,test\nf,x,dev\n'
    data = read_texts(write(tmp_path, text))
    assert data.train[0].tokens == ("a", ",", '"', "b", '"', "c")


@given(
    st.lists(
        st.tuples(st.text(alphabet='a,"\n\r;\t é', max_size=8), st.sampled_from("xy")), max_size=8
    )
)
def test_what_the_csv_module_writes_is_read(tmp_path_factory, rows) -> None:
    rows = [("a" + text, label, "train") for text, label in rows]
    rows += [("a", "x", "train"), ("b", "y", "train"), ("c", "x", "dev"), ("d", "y", "test")]
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("text", "label", "split"))
        writer.writerows(rows)
    data = read_texts(path)
    assert len(data.train) == len(rows) - 2
    assert [data.labels[example.label] for example in data.train] == [
        label for _, label, split in rows if split == "train"
    ]


@pytest.mark.parametrize("text", ["text", "Sentence", "REVIEW"])
@pytest.mark.parametrize("label", ["label", "sentiment", "Target", "class"])
@pytest.mark.parametrize("split", ["split", "exp_split", "Set", "fold", "partition"])
def test_common_column_names(tmp_path: Path, text: str, label: str, split: str) -> None:
    table = GOOD.replace("text,label,split", f"{text},{label},{split}")
    assert len(read_texts(write(tmp_path, table)).train) == 2


def test_named_columns(tmp_path: Path) -> None:
    table = "text,label,words,kind,use\n" + "".join(
        f"id,7,{row}\n" for row in GOOD.splitlines()[1:]
    )
    data = read_texts(write(tmp_path, table), text="words", label="kind", split="use")
    assert words(data, "train") == ["good film", "bad film"]
    assert data.labels == ("0", "1")


@pytest.mark.parametrize("train", ["train", "TRAIN", " training "])
@pytest.mark.parametrize("dev", ["dev", "Valid", "validation", "val", "development"])
def test_names_of_splits(tmp_path: Path, train: str, dev: str) -> None:
    table = GOOD.replace("train", train).replace("dev", dev)
    assert words(read_texts(write(tmp_path, table)), "dev") == ["fine"]


@pytest.mark.parametrize(
    ("given_labels", "labels"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["pos", "neg", "10"], ("10", "neg", "pos")),
        (["1.0", "1", "0.50"], ("0.5", "1")),
        (["9007199254740993", "9007199254740992"], ("9007199254740992", "9007199254740993")),
        ([True, False], ("False", "True")),
        ([2, 0, 1.0], ("0", "1", "2")),
    ],
)
def test_order_of_classes(tmp_path: Path, given_labels: list[object], labels) -> None:
    rows = [
        {"text": "a", "label": label, "split": split}
        for label in given_labels
        for split in ("train", "dev", "test")
    ]
    assert read_texts(write(tmp_path, jsonl(*rows), "t.jsonl")).labels == labels


def unsplit(n_a: int, n_b: int) -> str:
    rows = [f"word{i},{'a' if i < n_a else 'b'}" for i in range(n_a + n_b)]
    return "text,label\n" + "\n".join(rows) + "\n"


def test_made_split_is_stratified_complete_and_repeatable(tmp_path: Path) -> None:
    path = write(tmp_path, unsplit(60, 40))
    data = read_texts(path, dev_fraction=0.1, test_fraction=0.2, seed=3)
    shares = {
        part: Counter(example.label for example in getattr(data, part))
        for part in ("train", "dev", "test")
    }
    assert shares == {"train": {0: 42, 1: 28}, "dev": {0: 6, 1: 4}, "test": {0: 12, 1: 8}}
    everything = words(data, "train") + words(data, "dev") + words(data, "test")
    assert sorted(everything) == sorted(f"word{i}" for i in range(100))
    assert data == read_texts(path, dev_fraction=0.1, test_fraction=0.2, seed=3)
    assert data != read_texts(path, dev_fraction=0.1, test_fraction=0.2, seed=4)
    numbers = [int(word.removeprefix("word")) for word in words(data, "train")]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("share", [0.1, 0.45])
def test_smallest_split_gives_each_part_a_row_of_each_class(tmp_path: Path, share: float) -> None:
    path = write(tmp_path, unsplit(3, 4))
    data = read_texts(path, dev_fraction=share, test_fraction=share)
    for part in (data.train, data.dev, data.test):
        assert {example.label for example in part} == {0, 1}


def test_dev_is_taken_out_of_train(tmp_path: Path) -> None:
    rows = [f"word{i},{i % 2},train" for i in range(40)] + ["x,0,test"]
    data = read_texts(write(tmp_path, "text,label,split\n" + "\n".join(rows)), dev_fraction=0.2)
    assert Counter(example.label for example in data.dev) == {0: 4, 1: 4}
    assert len(data.train) == 32
    assert sorted(words(data, "train") + words(data, "dev")) == sorted(
        f"word{i}" for i in range(40)
    )
    assert words(data, "test") == ["x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"path must hold rows of texts and labels; got none"),
        ("\n\n", r"path must hold rows"),
        ("text,label\n", r"path must hold rows"),
        (GOOD + "a,b,1,train\n", r"3 columns in each row.*; got 4 at line 6"),
        (GOOD + "\nonly\n", r"3 columns in each row.*; got 1 at line 7"),
        ('text,label,split\n"a\nb",1,train\nc,1\n', r"got 2 at line 4"),
        (GOOD + '"open,1,train\nmore\n', r"well-formed rows; got a row at line 6 .*unexpected end"),
        (GOOD + '"a"b,1,train\n', r"well-formed rows; got a row at line 6"),
        (GOOD + "a" * 200_000 + ",1,train\n", r"got a row at line 6 .*field larger"),
        (GOOD + "good,,train\n", r"label must be given in every row; got '' in 'label' at line 6"),
        (GOOD + "good,nan,train\n", r"label must be given in every row; got 'nan'"),
        (
            GOOD + "good,1,later\n",
            r"split must be train, dev or test.*'later' in 'split' at line 6",
        ),
        (GOOD + "good,1,\n", r"split must be train, dev or test in every row; got ''"),
        (GOOD + " ,1,train\n", r"text must hold a word in every row; got ' ' in 'text' at line 6"),
        (GOOD + "\u200b,1,train\n", r"text must hold a word in every row; .* at line 6"),
        (GOOD + "odd,2,test\n", r"training rows, '0', '1'; got the unknown '2' at line 6"),
        (GOOD + "odd,2,dev\n", r"got the unknown '2' at line 6"),
        (GOOD.replace(",0,", ",1,"), r"two classes or more; got only '1' in 'label'"),
        (GOOD.replace("test", "dev"), r"split must give rows to test; got none"),
        (GOOD.replace("train", "dev"), r"split must give rows to train; got none"),
        (GOOD.replace("dev", "test"), r"split must leave rows for dev; got 2 training rows"),
        (GOOD.replace("text", "words"), r"text must name a column.*text or sentence or review"),
        (GOOD.replace("label", "stars"), r"label must name a column of .*films.csv; got none"),
        ("good film,1,train\nbad,0,train\n", r"a delimited file begins with a header"),
        ("text,text,label\na,b,1\n", r"name each column once; got 'text' twice at line 1"),
        (unsplit(9, 2), r"each class 3 rows or more to split; got 2 of 'b'"),
        (GOOD.encode() + b"caf\xe9,1,train\n", r"UTF-8 text; got the byte 0xe9 at line 6"),
        (GOOD.encode("utf-16"), r"UTF-8 text; got the byte 0xff at line 1"),
    ],
)
def test_malformed_tables_name_the_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_texts(write(tmp_path, text))


ROW = {"text": "good", "label": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (jsonl(ROW) + "{text: 1}\n", r"one JSON object in each line; got invalid JSON at line 2"),
        (jsonl(ROW) + "\n" + jsonl([1, 2]), r"one JSON object in each line; got list at line 3"),
        ("[" * 100_000, r"invalid JSON at line 1"),
        (jsonl(ROW, {"text": "good"}), r"label must be given in every row; got None .* line 2"),
        (jsonl(ROW, {"label": 0}), r"text must hold a word in every row; got None .* line 2"),
        (jsonl(ROW, {"text": 3, "label": 0}), r"text must be a string in every row; got int"),
        (jsonl(ROW, {"text": "a", "label": [0]}), r"a word or a number in every row; got list"),
        (jsonl(ROW, {"text": "a", "label": float("nan")}), r"label must be given in every row"),
        (jsonl(ROW, {**ROW, "split": "dev"}), r"split must be train, dev or test.*got None"),
        (jsonl(ROW, {**ROW, "split": 3}), r"split must be train, dev or test"),
    ],
)
def test_malformed_json_lines_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_texts(write(tmp_path, text, "films.jsonl"))


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path must name an existing file; got .*none.csv"):
        read_texts(tmp_path / "none.csv")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    with pytest.raises(
        ValueError, match=r"path must name a file; got the folder .*folder\.csv, which"
    ):
        read_texts(folder)
    with pytest.raises(ValueError, match=r"path must end in .csv, .tsv or .jsonl; got .*films.txt"):
        read_texts(write(tmp_path, GOOD, "films.txt"))


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"path must name a readable file; .*Permission denied"):
        read_texts(path)


def test_wrong_arguments(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    with pytest.raises(ValueError, match=r"label must name a column of .*films.csv; got 'stars'"):
        read_texts(path, label="stars")
    with pytest.raises(ValueError, match=r"split must name a column of .*films.csv; got 'use'"):
        read_texts(path, split="use")
    with pytest.raises(ValueError, match=r"must name different columns; got"):
        read_texts(path, text="label")
    for fraction in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"dev_fraction must lie between 0 and 1"):
            read_texts(path, dev_fraction=fraction)
    with pytest.raises(ValueError, match=r"must add up to less than 1; got 0.5 and 0.5"):
        read_texts(path, dev_fraction=0.5, test_fraction=0.5)
    with pytest.raises(ValueError, match=r"seed must be at least 0"):
        read_texts(path, seed=-1)


def test_the_field_limit_of_the_csv_module_is_left_alone(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    read_texts(write(tmp_path, GOOD))
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("name", ["films.csv", "films.jsonl"])
def test_nul_characters_are_refused_not_swallowed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_bytes(b"text,label\na,0\nb\0c,1\n")
        line = 3
    else:
        path.write_text('{"text": "a", "label": "0"}\n{"text": "b\\u0000c", "label": "1"}\n')
        line = 2
    with pytest.raises(ValueError, match=rf"NUL.* line {line} of .*{name}"):
        read_texts(path)


def test_number_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text("text,label\na,0\nb,1\nc,2\n")
    with pytest.raises(ValueError, match=r"label must hold 2 classes; got 3 in 'label' of .*films"):
        read_texts(path, n_classes=2)
