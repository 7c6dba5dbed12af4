"""Every task from files as they are published, or made by users, to the folder of results."""

from __future__ import annotations

import csv
import json
import random
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commands import refused, small_models
from question_folders import write_questions
from task_files import (
    FILLERS,
    agnews_folder,
    films,
    labelled,
    newsgroups,
    snli_folder,
    some_words,
    write_csv,
)

from faithattn.cli import main
from faithattn.paper import experiment
from faithattn.paper.data.examples import Dataset, Example
from faithattn.paper.data.generated import KINDS, generate
from faithattn.paper.experiment import sources
from faithattn.paper.experiment.preparation import Prepared
from faithattn.paper.published import published_row

QUICK = (
    *("--encoder", "average", "--epochs", "1", "--instances", "4", "--permutations", "5"),
    *("--adversaries", "1", "--threads", "1", "--quiet", "--out", "out"),
)
SIZES = {"n_train": 24, "n_dev": 6, "n_test": 6}
LENGTHS = {"documents": (200, 300), "questions": (24, 30), "labels": (20, 30)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and models small enough to wait for."""
    monkeypatch.chdir(tmp_path)
    small_models(monkeypatch, embedding_size=32, hidden_size=16)
    return tmp_path


class Done(NamedTuple):
    """What a command printed, what its folder says, and the data that it read."""

    out: str
    results: dict[str, Any]
    data: Dataset

    @property
    def about(self) -> dict[str, Any]:
        """What the folder says of the data."""
        found: dict[str, Any] = self.results["data"]
        return found

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Every text with its class, or its labels."""
        every = [example for part in self.data.splits for example in part]
        return [(" ".join(each.tokens), named(self.data, each)) for each in every]


def reproduced(capsys: pytest.CaptureFixture[str], data: str, *options: str) -> Done:
    """Runs the command, which must succeed and write what can be read."""
    read: list[Prepared] = []
    prepare = experiment.prepare

    def spy(*given: Any, **more: Any) -> Prepared:
        read.append(prepare(*given, **more))
        return read[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "prepare", spy)
        assert main(["reproduce", data, *QUICK, *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert max(map(len, captured.out.splitlines()[:-3])) <= 100
    assert Path("out", "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(instances()) == 4
    data_read = read[0].dataset
    for row in instances():
        example = data_read.test[int(row["id"])]
        assert row["label"] == named(data_read, example)
        assert int(row["length"]) == len(example.tokens)
    results = json.loads(Path("out", "results.json").read_text(encoding="utf-8"))
    return Done(captured.out, results, data_read)


def named(data: Dataset, example: Example) -> str:
    held = (example.label,) if example.labels is None else example.labels
    return "|".join(data.labels[number] for number in held)


def instances() -> list[dict[str, str]]:
    with Path("out", "instances.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def beside(done: Done, name: str) -> bool:
    """Whether the published figures stand beside ours, in the table and in the folder."""
    figure = published_row(name, "average", "additive", "gradient_correlation")
    assert figure is not None
    shown = f"{figure.mean:.3f} +- {figure.std:.3f}" in done.out
    assert shown == ("Jain" in done.out) == bool(done.results["published"])
    return shown


def test_snli(capsys: pytest.CaptureFixture[str]) -> None:
    done = reproduced(capsys, snli_folder(), "--task", "snli")
    assert beside(done, "snli")
    assert "5 rows were left out: label '-' 5." in done.out
    data = done.about
    assert (data["name"], data["kind"]) == ("snli", "pairs")
    assert data["labels"] == ["entailment", "neutral", "contradiction"]
    assert (data["train"], data["dev"], data["test"]) == (27, 8, 8)
    assert data["left_out"] == {"label '-'": 5}
    for example in done.data.test:
        label = done.data.labels[example.label]
        assert " ".join(example.question) == f"the man is n't sleeping , {label} ."
        assert example.tokens[:3] == ("a", "man", "number")


def test_phenotypes(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["text", "labels"], *([text, "|".join(held)] for text, held in labelled())]
    done = reproduced(capsys, write_csv("notes.csv", rows), "--task", "phenotyping")
    assert beside(done, "phenotyping") and "macro F1" in done.out
    data = done.about
    assert (data["name"], data["kind"]) == ("phenotyping", "labels")
    assert data["labels"] == ["sepsis", "stroke"]
    assert sorted(done.texts) == sorted((text, "|".join(held)) for text, held in labelled())


def test_columns_of_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """As pandas writes them: with an index that has no name."""
    rows = [["", "note", "stroke", "sepsis"]]
    rows += [
        [str(number), text, str(float("stroke" in held)), str("sepsis" in held)]
        for number, (text, held) in enumerate(labelled())
    ]
    options = ("--task", "labels", "--text", "note", "--label", "stroke,sepsis")
    done = reproduced(capsys, write_csv("notes.csv", rows, end="\r\n"), *options)
    assert not beside(done, "phenotyping")
    assert done.about["labels"] == ["stroke", "sepsis"]
    assert done.about["name"] == "notes"


@pytest.mark.parametrize("header", [False, True])
def test_two_topics_of_agnews(header: bool, capsys: pytest.CaptureFixture[str]) -> None:
    two = ("--class", "World", "--class", "Business")
    done = reproduced(capsys, agnews_folder(header), "--task", "agnews", *two)
    assert beside(done, "agnews")
    assert "38 rows were left out: label 'Sci/Tech' 19, label 'Sports' 19." in done.out
    data = done.about
    assert (data["name"], data["labels"], data["test"]) == ("agnews", ["World", "Business"], 8)
    assert data["train"] + data["dev"] == 30
    for text, label in done.texts:
        topic = {"World": "treaty", "Business": "shares"}[label]
        assert text.startswith(f'the " {topic} " , again ( reuters ) reuters - street \'s ')
        assert "band of $ 5 # 39 ; s & lt ; b & gt ;" in text


def test_other_topics_of_agnews_have_no_published_figures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = agnews_folder()
    done = reproduced(capsys, data, "--task", "agnews")
    assert len(done.about["labels"]) == 4
    assert not beside(done, "agnews")
    two = ("--class", "Sports", "--class", "World")
    done = reproduced(capsys, data, "--task", "agnews", *two)
    assert not beside(done, "agnews")


def test_two_newsgroups(capsys: pytest.CaptureFixture[str]) -> None:
    sports = ("--class", "rec.sport.baseball", "--class", "rec.sport.hockey")
    done = reproduced(capsys, newsgroups(), "--task", "20news-sports", *sports)
    assert beside(done, "20news-sports")
    assert done.about["left_out"] == {"label 'alt.atheism'": 16}
    for text, label in done.texts:
        word = {"rec.sport.baseball": "pitcher", "rec.sport.hockey": "goalie"}[label]
        assert f"b . edu subject : re : {word} >" in text and text.endswith(" yes .")
    others = ("--class", "alt.atheism", "--class", "rec.sport.hockey")
    done = reproduced(capsys, newsgroups(), "--task", "20news-sports", *others)
    assert not beside(done, "20news-sports")


def test_cnn(capsys: pytest.CaptureFixture[str]) -> None:
    data = generate("questions", n_train=24, n_dev=4, n_test=6, words=(24, 30))
    place = write_questions(data, Path("questions"))
    for number, file in enumerate(sorted(place.glob("*/*.question"))):
        # The public files are named by a digest; Windows tools leave other line ends.
        text = file.read_text(encoding="utf-8").rstrip("\n")
        text = text.replace("http://news/", "http://web.archive.org/2011id_/http://cnn.com:80/")
        file.unlink()
        end = "\r\n" if number % 2 else "\n"
        file.with_name(f"{number:02d}c8d5a1f.question").write_bytes(
            text.replace("\n", end).encode()
        )
    (place / "training" / ".DS_Store").write_bytes(b"\0")
    done = reproduced(capsys, "questions", "--task", "cnn")
    assert beside(done, "cnn")
    told = done.about
    assert (told["name"], told["kind"]) == ("cnn", "questions")
    assert (told["train"], told["dev"], told["test"]) == (24, 4, 6)
    for ours, theirs in zip(done.data.splits, data.splits, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one.tokens, one.question) == (other.tokens, other.question)
            assert named(done.data, one) == named(data, other)
            assert [done.data.labels[n] for n in one.candidates] == [
                data.labels[n] for n in other.candidates
            ]


def test_passages_that_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    data = generate("questions", n_train=24, n_dev=8, n_test=12, words=(60, 70))
    write_questions(data, Path("questions"))
    options = ("--task", "questions", "--maximum-words", "40")
    done = reproduced(capsys, "questions", *options)
    every = [example for part in data.splits for example in part]
    gone = [each for each in every if data.labels[each.label] not in each.tokens[:40]]
    assert done.about["left_out"] == {"answer not among the first 40 words": len(gone)}
    assert done.about["cut"] == len(every) - len(gone)
    assert f"{len(every) - len(gone)} texts were longer than the most words" in done.out


def test_clinical_notes(capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(3)
    rows = [["SUBJECT_ID", "TEXT", "LABEL"]]
    for number in range(30):
        sign = ("acute bleeding", "chronic fatigue")[number % 2]
        note = f'Admission Date:  [**2101-1-{number}**]\n\nHPI:\n"{sign}", {some_words(rng)}\n'
        rows.append([str(number), note, ("acute", "chronic")[number % 2]])
    rows[3][1] += " ".join(rng.choices(FILLERS, k=4000))
    options = ("--task", "anemia", "--maximum-words", "200")
    done = reproduced(capsys, write_csv("notes.csv", rows), *options)
    assert beside(done, "anemia")
    assert "1 text was longer than the most words allowed, and cut at the end." in done.out
    data = done.about
    assert (data["name"], data["labels"], data["cut"]) == ("anemia", ["acute", "chronic"], 1)
    assert done.results["settings"]["maximum_words"] == 200
    assert sum(len(text.split()) == 200 for text, _ in done.texts) == 1
    for text, label in done.texts:
        sign = {"acute": "bleeding", "chronic": "fatigue"}[label]
        assert text.startswith("admission date : [ * * 2101 - 1 - ")
        assert f'* * ] hpi : " {label} {sign} " , ' in text


def small_generate(kind: str, **options: Any) -> Any:
    return generate(kind, words=LENGTHS.get(kind), **SIZES, **options)


@pytest.mark.parametrize("task", KINDS)
def test_generated_data_of_each_kind(
    task: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "generate", small_generate)
    done = reproduced(capsys, "generated", "--task", task)
    assert done.about["name"] == f"generated-{task}"
    assert done.about["labels"] == list(generate(task, **SIZES).labels)
    assert "Jain" not in done.out


def test_every_task_has_generated_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "generate", partial(generate, **SIZES))
    told = {
        task: sources.load_data("generated", sources.Settings(task=task), 0)
        for task in (*sources.KINDS, *sources.STUDIED)
    }
    kinds = {task: data.kind for task, data in told.items() if data.kind != "texts"}
    assert kinds == {
        "labels": "labels", "phenotyping": "labels", "pairs": "pairs", "snli": "pairs",
        "questions": "questions", "cnn": "questions",
    }  # fmt: skip
    assert told["sst"] != sources.load_data("generated", sources.Settings(task="sst"), 1)
    several = {task for task, data in told.items() if len(data.labels) == 4}
    assert several == {"topics", "agnews"}
    long = {task for task, data in told.items() if min(len(e.tokens) for e in data.test) > 1000}
    assert long == {
        "documents", "anemia", "diab", "hipsurgery", "kneesurgery", "mortality", "readmission",
    }  # fmt: skip


def test_attention_by_log_odds(capsys: pytest.CaptureFixture[str]) -> None:
    done = reproduced(capsys, films(), "--task", "sst", "--attention", "log_odds")
    assert "fixed log-odds attention" in done.out and not beside(done, "sst")
    assert (done.results["settings"]["attention"], done.results["published"]) == ("log_odds", [])
    assert done.results["log_odds"]["accuracy"] == 1


def test_tied_attention(capsys: pytest.CaptureFixture[str]) -> None:
    """The model comes nearer to log-odds attention, and its checkpoint knows how it was made."""
    distance = {}
    for weight in ("0", "20"):
        options = ("--tie-attention", weight, "--epochs", "20", "--batch-size", "4")
        done = reproduced(capsys, films(), *options)
        assert done.results["settings"]["tie_attention"] == float(weight)
        assert ("Training tied the attention" in done.out) == (weight != "0")
        distance[weight] = sum(float(row["substitution_jsd"]) for row in instances())
    assert distance["20"] < 0.1 * distance["0"]
    Path("out", "model.npz").rename("tied.npz")
    again = reproduced(capsys, "films.csv", "--checkpoint", "tied.npz")
    assert again.results["settings"]["tie_attention"] == 20
    assert again.results["summaries"] == done.results["summaries"]
    more = ("--checkpoint", "tied.npz", "--tie-attention", "1")
    message = refused(capsys, "films.csv", *more)
    assert (
        ": --tie-attention must be left out with a checkpoint, which is trained; got 1" in message
    )


def test_checkpoints_of_another_task(capsys: pytest.CaptureFixture[str]) -> None:
    reproduced(capsys, films())
    options = ("--task", "snli", "--checkpoint", "out/model.npz")
    message = refused(capsys, snli_folder(), *options)
    assert "--checkpoint must hold a model that classifies pairs of texts; got one that" in message
