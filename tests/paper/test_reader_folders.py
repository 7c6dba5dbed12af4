"""Folders, several text columns, chosen classes and cut texts of ``read_texts``."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn.paper.data.readers import read_texts
from faithattn.paper.data.vocabulary import tokenize


def table(*rows: tuple[str, ...]) -> str:
    return "".join(",".join(row) + "\n" for row in rows)


def fill(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


TRAIN = table(
    ("text", "label"), ("good film", "1"), ("bad film", "0"), ("fine", "1"), ("dull", "0")
)
TEST = table(("text", "label"), ("great", "1"))


def words(part) -> list[str]:
    return [" ".join(example.tokens) for example in part]


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "dev.csv", "test.csv"),
        ("Training.csv", "valid.csv", "testing.csv"),
        ("snli_1.0_train.csv", "snli_1.0_dev.csv", "snli_1.0_test.csv"),
        ("news-train-2.csv", "news validation.csv", "TEST_a.csv"),
    ],
)
def test_files_are_the_splits(tmp_path: Path, names: tuple[str, str, str]) -> None:
    folder = tmp_path / "films"
    dev = table(("text", "label"), ("odd", "0"))
    fill(folder, **dict(zip(names, (TRAIN, dev, TEST), strict=True)))
    fill(folder, README__txt="", **{".train.csv": "hidden", "classes.txt": "a"})
    (folder / "test").mkdir()
    data = read_texts(folder)
    assert (data.name, data.labels, data.left_out) == ("films", ("0", "1"), {})
    assert words(data.train) == ["good film", "bad film", "fine", "dull"]
    assert (words(data.dev), words(data.test)) == (["odd"], ["great"])


def test_files_of_a_folder_may_be_of_different_forms(tmp_path: Path) -> None:
    rows = json.dumps({"review": "great", "target": 1, "split": "train"})
    data = read_texts(
        fill(tmp_path / "films", train__csv=TRAIN, test__jsonl=rows), dev_fraction=0.4
    )
    assert words(data.test) == ["great"] and len(data.train) == len(data.dev) == 2


def test_the_name_of_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fill(tmp_path / "films", train__csv=TRAIN, test__csv=TEST))
    assert read_texts(".").name == "films"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {},
            r"path must name a file; got the folder .*films, which has no files for train",
        ),
        ({"notes.txt": "a"}, r"dev and test that end in \.csv"),
        ({"train.csv": "", "more.csv": ""}, r"named after train, dev or test.*; got more\.csv in"),
        ({"train.csv": "", "train_test.csv": ""}, r"one of them each; got train_test\.csv in"),
        (
            {"dev_a.csv": "", "dev_b.jsonl": "", "train.csv": ""},
            r"one file for each split; got dev_a\.csv and dev_b\.jsonl for dev in the folder",
        ),
        ({"train.csv": ""}, r"train and one for test; got none for test in .*\['train\.csv'\]"),
        ({"dev.csv": "", "test.csv": ""}, r"got none for train"),
        ({"train.csv": TRAIN, "test.csv": ""}, r"path must hold rows .* got none in .*test\.csv"),
        (
            {"train.csv": TRAIN, "test.csv": TEST + "odd,2\n"},
            r"unknown '2' at line 3 of .*test\.csv",
        ),
        ({"train.csv": TRAIN, "test.csv": TEST + "odd\n"}, r"got 1 at line 3 of .*test\.csv"),
        ({"train.csv": TRAIN, "test.csv": "a,b\nc,d\n"}, r"text must name a column of .*test\.csv"),
    ],
)
def test_folders_that_do_not_fit(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_texts(fill(tmp_path / "films", **files))


def test_a_split_column_cannot_be_named_for_a_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", train__csv=TRAIN, test__csv=TEST)
    with pytest.raises(ValueError, match=r"split must be left out for a folder.*; got 'fold'"):
        read_texts(folder, split="fold")


def test_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ValueError, match=r"path must name a readable folder; .*Permission denied"):
        read_texts(tmp_path)


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        (("content", "target", "target_names"), "content", "target_names"),
        (("target_name", "Data", "Target"), "Data", "target_name"),
        (("body", "newsgroup"), "body", "newsgroup"),
        (("article", "topic", "document"), "article", "topic"),
        (("text", "label", "label_text"), "text", "label_text"),
        (("document", "category", "content"), "content", "category"),
        (("text", "content", "class", "sentiment"), "text", "sentiment"),
        (("Label", "text", "label"), "text", "Label"),
    ],
)
def test_names_of_news_columns(
    tmp_path: Path, header: tuple[str, ...], text: str, label: str
) -> None:
    rows = [tuple(f"{name}{n % 2}" for name in header) for n in range(6)]
    path = fill(tmp_path, news__csv=table(header, *rows)) / "news.csv"
    data = read_texts(path)
    assert data.labels == (f"{label}0", f"{label}1")
    assert {*words(data.train)} == {f"{text.lower()}0", f"{text.lower()}1"}
    assert data == read_texts(path, text=text, label=label)


def test_texts_of_several_columns_follow_each_other(tmp_path: Path) -> None:
    header = ("title", "description", "label", "split")
    rows = [("Bears", "They won.", "a", "train"), ("", "Alone", "b", "train")]
    rows += [("Only", "", "a", "dev"), ("x", "y", "b", "test")]
    path = fill(tmp_path, news__csv=table(header, *rows)) / "news.csv"
    data = read_texts(path, text="title, description")
    assert words(data.train) == ["bears they won .", "alone"]
    assert (words(data.dev), words(data.test)) == (["only"], ["x y"])
    assert words(read_texts(path, text="description,title").test) == ["y x"]
    with pytest.raises(ValueError, match=r"text must name a column of .*; got 'body', not among"):
        read_texts(path, text="title,body")
    for text in ("title,label", "title,title"):
        with pytest.raises(ValueError, match=r"text, label and split must name different columns"):
            read_texts(path, text=text)
    path.write_text(table(header, *rows, ("", " ", "a", "test")))
    with pytest.raises(
        ValueError, match=r"got '' and ' ' in 'title' and 'description' at line 6 of"
    ):
        read_texts(path, text="title,description")


def test_a_column_with_a_comma_in_its_name(tmp_path: Path) -> None:
    rows = ['"a,b",a,label,split', "whole,part,x,train", "w,p,y,train", "w,p,x,dev", "w,p,y,test"]
    path = fill(tmp_path, odd__csv="\n".join(rows)) / "odd.csv"
    assert words(read_texts(path, text="a,b").train) == ["whole", "w"]


TOPICS = ("sport", "world", "trade", "9", "9.0", "1")


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(1, 9)), max_size=12),
    st.permutations(["sport", "world", "trade", "9"]),
    st.integers(2, 4),
    st.integers(1, 8),
)
def test_chosen_classes_and_cut_texts(tmp_path_factory, rows, order, n_chosen, maximum) -> None:
    chosen = order[:n_chosen]
    rows = rows + [(label, 1) for label in chosen for _ in range(3)]
    path = tmp_path_factory.mktemp("topics") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("text", "topic", "split"))
        texts = [" ".join(f"w{place}" for place in range(length)) for _, length in rows]
        splits = {len(rows) - 1: "test", len(rows) - 2: "dev"}
        for n, ((label, _), text) in enumerate(zip(rows, texts, strict=True)):
            writer.writerow((text, label, splits.get(n, "train")))
    data = read_texts(path, classes=chosen, maximum_words=maximum)
    same = {"9.0": "9"}
    kept = [(same.get(label, label), text) for (label, _), text in zip(rows, texts, strict=True)]
    left_out = Counter(label for label, _ in kept if label not in chosen)
    kept = [(label, tokenize(text)) for label, text in kept if label in chosen]
    assert data.labels == tuple(chosen)
    assert data.left_out == {f"label {label!r}": count for label, count in left_out.items()}
    assert data.cut == sum(len(tokens) > maximum for _, tokens in kept)
    read = [*data.train, *data.dev, *data.test]
    assert [(data.labels[e.label], list(e.tokens)) for e in read] == [
        (label, tokens[:maximum]) for label, tokens in kept
    ]


def test_classes_that_cannot_be_chosen(tmp_path: Path) -> None:
    rows = [(f"w{n}", "abc"[n % 3]) for n in range(12)]
    path = fill(tmp_path, news__csv=table(("text", "label"), *rows)) / "news.csv"
    with pytest.raises(
        ValueError,
        match=r"rows have; got 'd', and 'label' of .*news.csv has 'a', 'b', 'c'\. Choose",
    ):
        read_texts(path, classes=("a", "d"))
    for classes in (("a",), (), ("a", "a")):
        with pytest.raises(ValueError, match=r"classes must name two different classes or more"):
            read_texts(path, classes=classes)
    with pytest.raises(TypeError, match=r"classes must be a sequence of names; got 'a,b'"):
        read_texts(path, classes="a,b")
    with pytest.raises(ValueError, match=r"label must hold 2 classes; got 3"):
        read_texts(path, classes=("c", "a", "b"), n_classes=2)
    assert read_texts(path, classes=("c", "a"), n_classes=2).labels == ("c", "a")


def test_malformed_rows_of_other_classes_still_end_the_reading(tmp_path: Path) -> None:
    rows = [(f"w{n}", "abc"[n % 3]) for n in range(12)]
    path = fill(tmp_path, news__csv=table(("text", "label"), *rows, ("w", ""))) / "news.csv"
    with pytest.raises(ValueError, match=r"label must be given in every row; .* line 14"):
        read_texts(path, classes=("a", "b"))


def test_the_maximum_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"maximum_words must be at least 1"):
        read_texts(tmp_path, maximum_words=0)


def test_very_long_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faithattn.paper.data.records._LONGEST_LINE", 100)
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"text": "a" * 200, "label": 1}))
    with pytest.raises(ValueError, match=r"lines below 100 bytes; got a longer one at line 1"):
        read_texts(path)
