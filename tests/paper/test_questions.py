from __future__ import annotations

import random
from pathlib import Path

import pytest

from faithattn.paper.data.batches import collate_questions
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.questions import read_questions
from faithattn.paper.data.vocabulary import Vocabulary

GOOD = {
    "address": "http://news/1",
    "passage": "( @entity3 ) the mayor of @entity11 met @entity2 , @entity3 's friend .",
    "question": "@placeholder met the mayor of @entity11",
    "answer": "@entity2",
    "entities": "@entity2:Ann Lee\n@entity3:CNN\n@entity11:Oslo: the city",
}


def text(**parts: str) -> str:
    return "\n\n".join({**GOOD, **parts}.values()) + "\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return folder


def three(folder: Path, **parts: str) -> Path:
    """One good file in each split, but for a malformed one in train."""
    splits = {f"{split}/a.question": text() for split in ("validation", "test")}
    return write(folder, {"training/a.question": text(**parts), **splits})


def entities(tokens: list[str]) -> set[str]:
    return {token for token in tokens if token[:7] == "@entity" and token[7:].isdigit()}


def slow(folder: Path, maximum_words: int | None) -> list[tuple[list[str], list[str], str]]:
    """Reads well-formed files by their line numbers, those whose answer is kept."""
    found = []
    for file in sorted(folder.glob("*.question"), key=lambda file: file.name):
        lines = file.read_text(encoding="utf-8").split("\n")
        passage = lines[2].lower().split()[:maximum_words]
        if lines[6] in passage:
            found.append((passage, lines[4].lower().split(), lines[6]))
    return found


def news(n: int, seed: int) -> dict[str, str]:
    """Random passages with a question each, in files whose names say nothing of the order."""
    rng, files = random.Random(seed), {}
    for _ in range(n):
        names = [f"@entity{k}" for k in rng.sample(range(120), rng.randint(2, 9))]
        words = rng.choices(["the", "Said", "on", ",", *names], k=rng.randint(10, 60)) + names
        files[f"{rng.getrandbits(60):x}.question"] = text(
            passage=" ".join(words),
            question=f"who saw @placeholder {rng.choice(names)} ?",
            answer=rng.choice(names),
            entities="\n".join(f"{name}:Name {name}" for name in names),
        )
    return files


@pytest.mark.parametrize("maximum_words", [None, 20])
def test_files_as_a_slow_reader_reads_them(tmp_path: Path, maximum_words: int | None) -> None:
    sizes = {"training": 40, "validation": 15, "test": 15}
    for seed, (split, n) in enumerate(sizes.items()):
        write(tmp_path / split, news(n, seed))
    data = read_questions(tmp_path, maximum_words=maximum_words)
    expected = {split: slow(tmp_path / split, maximum_words) for split in sizes}
    held = set().union(*(entities(p) for part in expected.values() for p, _, _ in part))
    assert list(data.labels) == sorted(held, key=lambda entity: int(entity[7:]))
    for examples, wanted in zip(data.splits, expected.values(), strict=True):
        assert len(examples) == len(wanted) > 0
        for example, (passage, question, answer) in zip(examples, wanted, strict=True):
            assert list(example.tokens) == passage and list(example.question) == question
            assert data.labels[example.label] == answer
            assert {data.labels[number] for number in example.candidates} == entities(passage)
            assert list(example.candidates) == sorted(example.candidates)
    left_out = sum(sizes.values()) - sum(map(len, expected.values()))
    if maximum_words is None:
        assert (data.cut, data.left_out, left_out) == (0, {}, 0)
    else:
        assert data.left_out == {"answer not among the first 20 words": left_out} and left_out > 5
        longer = [
            len(file.read_text(encoding="utf-8").split("\n")[2].split()) > 20
            and file.read_text(encoding="utf-8").split("\n")[6]
            in file.read_text(encoding="utf-8").split("\n")[2].lower().split()[:20]
            for file in tmp_path.rglob("*.question")
        ]
        assert data.cut == sum(longer) > 5


def test_one_file_in_detail(tmp_path: Path) -> None:
    data = read_questions(three(tmp_path / "cnn", passage=GOOD["passage"] + " (@entity2-Led)"))
    example = data.train[0]
    assert data.name == "cnn" and data.kind == "questions"
    assert data.labels == ("@entity2", "@entity3", "@entity11")
    assert example.candidates == (0, 1, 2) and example.label == 0
    assert example.tokens[-3:] == ("(", "@entity2", "-led)")
    assert example.question == ("@placeholder", "met", "the", "mayor", "of", "@entity11")
    assert data.dev == data.test and data.dev[0].tokens == example.tokens[:-3]


def test_candidates_of_a_batch_are_the_passage_entities(tmp_path: Path) -> None:
    data = read_questions(write(tmp_path, news(30, 0)))
    vocabulary = Vocabulary.build([example.tokens for example in data.train])
    inputs, labels = collate_questions(data.train, vocabulary, len(data.labels))
    for row, example in enumerate(data.train):
        for number, entity in enumerate(data.labels):
            assert bool(inputs["candidates"][row, number]) == (entity in example.tokens)
        assert bool(inputs["candidates"][row, labels[row]])


def test_random_split_keeps_passages_together_and_repeats(tmp_path: Path) -> None:
    files = news(60, 3)
    for name, content in list(files.items())[:30]:
        lines = content.split("\n")
        lines[4] = "@placeholder again"
        files[f"x{name}"] = "\n".join(lines)
    data = read_questions(write(tmp_path, files), dev_fraction=0.2, test_fraction=0.3, seed=4)
    train, dev, test = ({example.tokens for example in part} for part in data.splits)
    assert not (train & dev or train & test or dev & test)
    assert sum(map(len, data.splits)) == 90
    # A passage has two questions at most, so a part is one too large at most.
    assert len(data.dev) in (18, 19) and len(data.test) in (27, 28)
    assert data == read_questions(tmp_path, dev_fraction=0.2, test_fraction=0.3, seed=4)
    assert data.test != read_questions(tmp_path, dev_fraction=0.2, test_fraction=0.3).test


def test_equal_words_and_passages_are_one_object(tmp_path: Path) -> None:
    data = read_questions(three(tmp_path))
    assert data.train[0].tokens is data.test[0].tokens
    assert data.train[0].question[0] is data.test[0].question[0]


def test_dev_comes_from_train_where_there_is_none(tmp_path: Path) -> None:
    write(tmp_path / "Train", news(40, 1))
    write(tmp_path / "TEST", {**news(5, 2), "._hidden.question": "\0"})
    data = read_questions(tmp_path, dev_fraction=0.25)
    assert [len(part) for part in data.splits] == [30, 10, 5]


MALFORMED = [
    ({"question": "who met the mayor"}, r"questions with @placeholder; got 'who met .*' at line 5"),
    ({"answer": "Ann Lee"}, r"answers such as @entity3; got 'Ann Lee' at line 7"),
    ({"answer": "@entity"}, r"answers such as @entity3; got '@entity' at line 7"),
    ({"answer": "@entity9"}, r"that the passage names; got @entity9 at line 7 .* its 3 entities"),
    ({"passage": "none here ."}, r"that the passage names; got @entity2 at line 7 .* its 0 ent"),
    ({"entities": "@entity2 Ann"}, r"such as @entity3:Name as its last part; got .* at line 9"),
    ({"entities": "@entity2:A\nBob"}, r"as its last part; got 'Bob' at line 10"),
    ({"entities": ""}, r"got 4 of them, the last at line 7 of .* Add the names of the entities\."),
    ({"entities": "@entity2:A\n\nmore"}, r"got a sixth at line 11"),
    ({"passage": ""}, r"got the names after three others, at line 9 of .* Add the part"),
    ({"question": "@placeholder\nmet"}, r"a question in one line; got a second at line 6"),
]


@pytest.mark.parametrize(("parts", "message"), MALFORMED)
def test_malformed_files_are_named_with_the_line(
    tmp_path: Path, parts: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_questions(three(tmp_path, **parts))
    assert str(tmp_path / "training" / "a.question") in str(raised.value)


def test_other_unreadable_files(tmp_path: Path) -> None:
    three(tmp_path)
    file = tmp_path / "test" / "a.question"
    file.write_bytes(text().encode().replace(b"mayor", b"may\xe9r", 1))
    with pytest.raises(ValueError, match=r"UTF-8 text; got the byte 0xe9 at line 3 of .*a\.q"):
        read_questions(tmp_path)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"got 0 of them, an empty file of .*Add an address\."):
        read_questions(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=r"\.question files in each folder; got none in .*test"):
        read_questions(tmp_path)
    file.mkdir()
    with pytest.raises(ValueError, match=r"path must name a file; got the folder .*a\.question"):
        read_questions(tmp_path)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path must name an existing folder; got .*nowh"):
        read_questions(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"folders training, validation and test .* with nothing"):
        read_questions(tmp_path)
    three(tmp_path / "questions")
    with pytest.raises(ValueError, match=r"with questions, none for train\. Name the folder that"):
        read_questions(tmp_path)
    with pytest.raises(ValueError, match=r"folder of \.question files; got the file .*a\.question"):
        read_questions(tmp_path / "questions" / "test" / "a.question")
    write(tmp_path / "questions", {"b.question": text()})
    with pytest.raises(ValueError, match=r"or \.question files; got both"):
        read_questions(tmp_path / "questions")
    write(tmp_path / "two", {"train/a.question": text(), "Training/a.question": text()})
    with pytest.raises(ValueError, match=r"one folder for train; got Training and train"):
        read_questions(tmp_path / "two")


def test_nothing_left_to_read_or_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"maximum_words must leave .* got 2, and none of 1 in "):
        read_questions(three(tmp_path / "cut"), maximum_words=2)
    write(tmp_path / "few", {f"{number}.question": text() for number in range(9)})
    with pytest.raises(ValueError, match=r"about 3 passages or more to split; got 1"):
        read_questions(tmp_path / "few")


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"maximum_words must be at least 1"):
        read_questions(tmp_path, maximum_words=0)
    with pytest.raises(ValueError, match=r"dev_fraction must lie between"):
        read_questions(tmp_path, dev_fraction=0)
    with pytest.raises(ValueError, match=r"seed must be at least 0"):
        read_questions(tmp_path, seed=-1)


def test_examples_and_data_sets_say_what_was_cut() -> None:
    part = (Example(("a",), 0),)
    assert Dataset("texts", part, part, part, ("0", "1")).cut == 0
