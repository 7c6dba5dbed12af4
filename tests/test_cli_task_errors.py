"""What the command says of damaged files of each task, and of options that do not fit it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import refused
from task_files import agnews_folder, snli_folder, snli_row


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"gold_label": "neutral"', "invalid JSON at line 5 of "),
        ('["neutral"]', "got list at line 5 of "),
        (json.dumps(snli_row(1, "neutral") | {"sentence2": ""}), "hypothesis must hold a word"),
        (json.dumps(snli_row(1, "neutral") | {"sentence2": 7}), "got int in 'sentence2' at line 5"),
        (json.dumps(snli_row(1, "maybe")), "gold_label must be one of entailment, neutral"),
        (json.dumps({"gold_label": "neutral"}), "sentence1 must be given in every row; got none"),
    ],
)
def test_malformed_pairs(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, snli_folder(line), "--task", "snli")
    assert said in message and "line 5 of snli_1.0/snli_1.0_test.jsonl" in message


@pytest.mark.parametrize(
    ("row", "options", "said"),
    [
        ("a b,2,0", "a,b", "labels must be 0 or 1 in every row; got '2' in 'a' at line 4 of"),
        ('"a\nb",1,,', "a,b", "got 4 at line 4 of"),
        (",1,1", "a,b", "text must hold a word in every row; got '' in 'text' at line 4 of"),
        ("a b,1,x||y", "b", "labels must be different names with | or ; between them"),
        ("a b,1,1", "a,c", ": --label must name a column of notes.csv; got 'c', not among"),
        ("a b,1,1", "a,a", ": --text, --label and --split must name different columns"),
        ("a b,1,1", None, ": --label must name a column of notes.csv; got none that is called"),
        ("a b,1,1", "a", "Name the right columns with --label, or use --task texts for one class"),
    ],
)
def test_malformed_labels(
    row: str, options: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'text,a,b\n"two\nlines",1,0\n{row}\n' + "c d,0,1\n" * 3
    Path("notes.csv").write_text(text, encoding="utf-8")
    label = () if options is None else ("--label", options)
    assert said in refused(capsys, "notes.csv", "--task", "labels", *label)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ('"5","a","b"\n', "class must be 1, 2, 3 or 4 in every row; got '5' at line 17 of"),
        ('"1","a"\n', "got 2 at line 17 of ag_news_csv/test.csv. Correct the row, or use --task"),
        ('"1","\\",""\n', "title and description must hold a word in every row"),
        ('"1","a","b\n', "got a row at line 17 of ag_news_csv/test.csv that cannot be read"),
    ],
)
def test_malformed_news(damage: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, agnews_folder(damage=damage), "--task", "agnews")
    assert said in message and "line 17 of ag_news_csv/test.csv" in message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("@placeholder", "whoever", "must hold questions with @placeholder; got"),
        ("\n\n@entity1\n", "\n\nBob\n", "must hold answers such as @entity3; got 'Bob' at line 7"),
        ("\n\n@entity1\n", "\n\n@entity7\n", "got @entity7 at line 7 of"),
        ("@entity0:Ann", "Ann", "got 'Ann' at line 9 of"),
        ("@entity1 met", "He met\n@entity1", "one line; got a second at line 4 of"),
        ("@entity0:Ann\n@entity1:Bob\n", "", "got 4 of them, the last at line 7 of"),
    ],
)
def test_malformed_questions(
    old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "url\n\n@entity1 met @entity0 .\n\n@placeholder met\n\n@entity1\n\n"
    text += "@entity0:Ann\n@entity1:Bob\n"
    for split in ("training", "test"):
        Path("cnn", split).mkdir(parents=True)
        for number in range(3):
            Path("cnn", split, f"{number}.question").write_text(text, encoding="utf-8")
    Path("cnn", "test", "1.question").write_text(text.replace(old, new), encoding="utf-8")
    message = refused(capsys, "cnn", "--task", "cnn")
    assert message.startswith("faithattn reproduce: DATA must hold ")
    assert said in message and "cnn/test/1.question" in message


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ("x.csv", "--task pairs --text a", "--text must be left out for task pairs; got 'a'"),
        ("x.csv", "--task snli --class a", "--class must be left out for task snli"),
        ("x.csv", "--task snli --maximum-words 9", "--maximum-words must be left out for task"),
        ("x.csv", "--task agnews --label a", "--label must be left out for task agnews"),
        ("x.csv", "--task cnn --split a", "--split must be left out for task cnn; got 'a'"),
        ("x.csv", "--task labels --class a", "--class must be left out for task labels"),
        ("generated", "--text a", "--text must be left out for generated data"),
        ("babi-1", "--task sst", "--task must be left out for babi-1; got 'sst'"),
        ("x.csv", "--task nosuch", "--task must be one of texts, documents, topics, labels"),
        ("x.csv", "--maximum-words 0", "--maximum-words must be at least 1; got 0"),
        ("x.csv", "--tie-attention -1", "--tie-attention must be finite and not negative"),
        ("x.csv", "--class a", "--class must name two different classes or more; got ('a',)"),
    ],
)
def test_options_that_a_task_does_not_take(
    data: str, options: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.csv").write_text("text,label\na,0\nb,1\n")
    assert f"faithattn reproduce: {said}" in refused(capsys, data, *options.split())


@pytest.mark.parametrize("option", [("--attention", "log_odds"), ("--tie-attention", "1")])
def test_log_odds_are_of_single_texts(
    option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = f": {option[0]} must be left out for pairs; got {option[1]}"
    assert said in refused(capsys, snli_folder(), "--task", "snli", *option)


def test_folders_without_a_split(capsys: pytest.CaptureFixture[str]) -> None:
    place = agnews_folder()
    Path(place, "test.csv").unlink()
    assert "got none for test in the folder ag_news_csv, but ['train.csv']" in refused(
        capsys, place, "--task", "agnews"
    )
    Path("empty").mkdir()
    for task in ("texts", "snli", "agnews", "labels", "cnn"):
        message = refused(capsys, "empty", "--task", task)
        assert message.startswith("faithattn reproduce: DATA must ") and "empty" in message
