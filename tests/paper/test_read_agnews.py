from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn.paper.data.readers import read_agnews
from faithattn.paper.data.vocabulary import tokenize

NAMES = ("World", "Sports", "Business", "Sci/Tech")


def write(path: Path, rows) -> Path:
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return path


def news(*classes: int) -> list[tuple[int, str, str]]:
    return [(number, f"title{n}", f"text{n}") for n, number in enumerate(classes)]


FIELD = st.sampled_from(["Bears", 'a "quote"', "x, y", "#39;s", "(Reuters)"])
ROWS = st.lists(st.tuples(st.integers(1, 4), FIELD, FIELD), max_size=10)


@settings(max_examples=25)
@given(ROWS, ROWS, st.permutations(NAMES), st.integers(2, 4))
def test_published_files(tmp_path_factory, train, test, order, count: int) -> None:
    folder = tmp_path_factory.mktemp("ag_news_csv")
    train, test = news(1, 2, 3, 4) * 2 + train, news(1, 2, 3, 4) + test
    write(folder / "train.csv", train)
    write(folder / "test.csv", test)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    chosen = order[:count]
    for classes in (None, chosen):
        data = read_agnews(folder, classes=classes)
        names = tuple(classes or NAMES)
        assert (data.labels, data.kind) == (names, "texts")

        def expected(rows, kept=names) -> list[tuple[str, tuple[str, ...]]]:
            return [
                (NAMES[number - 1], tuple(tokenize(f"{title} {text}")))
                for number, title, text in rows
                if NAMES[number - 1] in kept
            ]

        read = [[(names[e.label], tuple(e.tokens)) for e in part] for part in data.splits]
        assert read[2] == expected(test)
        assert Counter(read[0] + read[1]) == Counter(expected(train))
        assert {label for label, _ in read[1]} == set(names)
        left_out = Counter(NAMES[row[0] - 1] for row in train + test) - Counter(
            label for part in read for label, _ in part
        )
        assert data.left_out == {f"label {name!r}": count for name, count in left_out.items()}


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        (r"Street's dwindling\band of", "street 's dwindling band of"),
        (r"across the\nation of\new", "across the nation of new"),
        (r"ends.\nThe next\n\n", "ends . the next"),
        (r"\$5 or\\both", "$ 5 or both"),
        ('said ""yes"" loud', 'said " yes " loud'),
        ("two\nlines", "two lines"),
    ],
)
def test_backslashes_are_line_breaks(tmp_path: Path, written: str, tokens: str) -> None:
    for name in ("train.csv", "test.csv"):
        text = "".join(f'"{number}","A","{written}"\n' for number in (1, 1, 3, 3))
        (tmp_path / name).write_text(text, encoding="utf-8")
    data = read_agnews(tmp_path)
    assert {" ".join(e.tokens) for part in data.splits for e in part} == {f"a {tokens}"}


def test_a_header_is_no_row(tmp_path: Path) -> None:
    """The copy that most people have begins with one."""
    path = write(tmp_path / "train.csv", [("Class Index", "Title", "Description")] + news(1, 3) * 5)
    data = read_agnews(path)
    assert sum(map(len, data.splits)) == 10 and data.labels == ("World", "Business")


def test_one_file_is_split_at_random(tmp_path: Path) -> None:
    path = write(tmp_path / "news.csv", news(*[1, 2, 3, 4] * 10))
    data = read_agnews(path, classes=("Sci/Tech", "World"), test_fraction=0.2, maximum_words=1)
    assert (data.labels, data.name, data.cut) == (("Sci/Tech", "World"), "news", 20)
    assert [Counter(e.label for e in part) for part in data.splits] == [
        {0: 7, 1: 7},
        {0: 1, 1: 1},
        {0: 2, 1: 2},
    ]
    assert data.left_out == {"label 'Business'": 10, "label 'Sports'": 10}
    # Of the ninth class number on, ``title8`` and so on, the class is told by the remainder.
    for example in data.train:
        assert int(example.tokens[0].removeprefix("title")) % 4 == (3, 0)[example.label]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Class,Title,Description\n1,a,b\n",
            r"class must be 1, 2, 3 or 4.*; got 'Class' at line 1 of .*own",
        ),
        ("1,a,b\nClass Index,Title,Description\n", r"got 'Class Index' at line 2"),
        ("Class Index,Title,Description\n", r"path must hold rows of texts and labels; got none"),
        ("1,a,b\n5,a,b\n", r"class must be 1, 2, 3 or 4 in every row; got '5' at line 2 of .*news"),
        ("1,a,b\n\n,a,b\n", r"got '' at line 3 of"),
        ("1,a,b\n2,a\n", r"three columns in each row, .*; got 2 at line 2 of .*news\.csv"),
        ("1,a,b,c\n", r"got 4 at line 1 of"),
        ("1,a,b\n1, , \\\n", r"title and description must hold a word .* at line 2 of"),
        ("1,a,b\n1,a,b\0\n", r"NUL.* line 2 of"),
        ('1,a,b\n1,"a"b,c\n', r"well-formed rows; got a row at line 2"),
        ("", r"path must hold rows of texts and labels; got none in .*news\.csv"),
        ("1,a,b\n" * 3, r"got only 'World'"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "news.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_agnews(path)


def test_classes_that_cannot_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "news.csv", news(*[1, 3] * 5))
    with pytest.raises(ValueError, match=r"classes must be among World, .*; got 'Politics'"):
        read_agnews(path, classes=("World", "Politics"))
    with pytest.raises(ValueError, match=r"got 'Sports', and .*news.csv has 'Business', 'World'"):
        read_agnews(path, classes=("World", "Sports"))
    with pytest.raises(ValueError, match=r"which has no files .* that end in \.csv\. "):
        (tmp_path / "empty").mkdir()
        read_agnews(tmp_path / "empty")


def test_other_forms_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_text('{"text": "a"}')
    with pytest.raises(ValueError, match=r"path must end in \.csv; got .*news\.jsonl"):
        read_agnews(path)
