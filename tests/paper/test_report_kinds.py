"""Reports of several labels, of pairs and of several classes."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kinds import experiment_of, pairs, several_labels, topics, with_findings

from faithattn.pages.document import Document, Table
from faithattn.paper.experiment import Experiment
from faithattn.paper.report import (
    document_of,
    instance_records,
    results,
    text_table,
    write_report,
)
from faithattn.paper.report.charts import charts
from faithattn.paper.report.facts import facts
from faithattn.paper.report.tables import sections
from faithattn.paper.report.telling import explorer
from faithattn.paper.training import TrainingRecord

ODD = ("$\\alpha_", "a,b\n<i>\x00\ud800", "a|b")


@pytest.fixture(scope="module")
def labels() -> Experiment:
    return experiment_of(several_labels())


@pytest.fixture(scope="module")
def snli() -> Experiment:
    return experiment_of(pairs())


@pytest.fixture(scope="module")
def four() -> Experiment:
    return experiment_of(topics())


def row_names(experiment: Experiment) -> set[str]:
    return {row.name for section in sections(experiment) for row in section.rows}


def test_labels_have_no_predicted_class(labels: Experiment) -> None:
    assert set(labels.gradient.predicted.tolist()) == {-1}
    assert not any("->" in name for name in row_names(labels))
    assert "-> X" not in text_table(labels) and "by class" not in text_table(labels)
    assert not any("predicted" in chart.svg for chart in charts(labels))


def test_predicted_labels_are_those_above_one_half(labels: Experiment) -> None:
    model, prepared = labels.prepared.model, labels.prepared
    assert labels.predicted_labels is not None
    for example, found in zip(labels.examples, labels.predicted_labels, strict=True):
        inputs, _ = prepared.collate([example])
        chances = model.run(inputs).logits[0].sigmoid().tolist()
        assert found == tuple(number for number, chance in enumerate(chances) if chance > 0.5)
    assert len(set(labels.predicted_labels)) > 1


def test_labels_are_joined(labels: Experiment) -> None:
    said = {0: (), 1: (0,), 2: (0, 2)}
    predicted = tuple(said[row % 3] for row in range(len(labels.examples)))
    rows = instance_records(replace(labels, predicted_labels=predicted))
    assert [row["label"] for row in rows[:8]] == ["", "a", "b", "a|b", "c", "a|c", "b|c", "a|b|c"]
    assert [row["predicted"] for row in rows[:3]] == ["", "a", "a|c"]
    unknown = instance_records(replace(labels, predicted_labels=None))
    assert {row["predicted"] for row in unknown} == {None}


def test_labels_are_shown_one_by_one(labels: Experiment) -> None:
    shown = explorer(labels)
    assert shown is not None and shown.grouped_by == "predicted labels"
    for specimen in shown.specimens:
        row = int(specimen.title.split()[0].removeprefix("#"))
        assert labels.predicted_labels is not None
        names = ", ".join("abc"[number] for number in labels.predicted_labels[row])
        true = ", ".join("abc"[number] for number in labels.examples[row].labels or ())
        brackets = [f"[{each}]" if each else "no label" for each in (names, true)]
        assert specimen.title == f"#{row}  predicted {brackets[0]}, true {brackets[1]}"
        assert specimen.group == (names or "no label")
    unknown = explorer(replace(labels, predicted_labels=None))
    assert unknown is not None and unknown.grouped_by == "labels"
    assert "predicted" not in unknown.specimens[0].title


def test_many_labels_are_counted() -> None:
    names = tuple("abcdefg")
    data = several_labels(20, names)
    every = tuple(replace(example, labels=tuple(range(7))) for example in data.test)
    shown = explorer(experiment_of(replace(data, test=every)))
    assert shown is not None
    assert all(each.title.endswith("true [a, b, c + 4]") for each in shown.specimens)


def test_accuracy_of_labels(labels: Experiment) -> None:
    held = [example.labels or () for example in labels.dataset.test]
    none = 1 - sum(map(len, held)) / (3 * len(held))
    # F1 of answering with a label always, by counting: precision is its share, recall is 1.
    shares = [sum(number in each for each in held) / len(held) for number in range(3)]
    every = sum(2 * share * 1 / (share + 1) for share in shares) / 3

    def said(macro_f1: float) -> str:
        return " ".join(facts(replace(labels, test=replace(labels.test, macro_f1=macro_f1))))

    assert said(0.4).startswith("Share of labels right 0.500 (macro F1 0.400) on 12 test examples")
    assert f"Giving no text any label would give {none:.3f}." in said(0.4)
    given_all = f"Giving every text all labels would give a macro F1 of {every:.3f}: this model has"
    assert given_all in said(every + 0.04)
    assert "learned little" not in said(every + 0.06)
    assert "learned little" not in said(math.nan) and "macro F1" not in said(math.nan)


def test_pairs_are_called_so(snli: Experiment) -> None:
    table = text_table(snli)
    assert "Half the tested premises have" in table and "Accuracy 0.500 (macro F1 0.400)" in table
    assert any("each pair counts once" in chart.description for chart in charts(snli))
    assert any("middle half of the pairs" in chart.description for chart in charts(snli))
    shown = explorer(snli)
    assert shown is not None
    for specimen in shown.specimens:
        row = int(specimen.title.split()[0].removeprefix("#"))
        hypothesis = " ".join(snli.examples[row].question)
        assert specimen.title.startswith(f"#{row}  hypothesis: {hypothesis} · predicted ")
        assert specimen.tokens == snli.examples[row].tokens


def test_classes_are_compared_only_where_their_order_is_known(snli: Experiment) -> None:
    rows = [row for section in sections(snli) for row in section.rows]
    published = {row.name for row in rows if row.published is not None}
    assert published == {"all", "attention-gradient", "attention-LOO", "gradient-LOO"}
    assert any(row.name.startswith("->") for row in rows)
    assert "published: Jain & Wallace 2019, snli (contradiction, entailment, neutral);" in " ".join(
        text_table(snli).split()
    )


def test_two_published_classes_are_not_the_first_two_of_four(four: Experiment) -> None:
    rows = [row for section in sections(four) for row in section.rows]
    assert any("->" in row.name for row in rows)
    assert not any(row.published for row in rows if "->" in row.name)


def test_corrected_pairs_stand_beside_ours(snli: Experiment) -> None:
    section = next(each for each in sections(snli) if each.title == "Do the three rankings agree?")
    by_name = {row.name: row for row in section.rows}
    for name, measure, published in (
        ("attention-gradient", "gradient_correlation", "attention_gradient"),
        ("attention-LOO", "loo_correlation", "attention_loo"),
        ("gradient-LOO", "gradient_loo", "gradient_loo"),
    ):
        assert by_name[name].ours == snli.summaries[measure].overall
        assert by_name[name].published == snli.published(published) is not None


def test_rows_left_out_are_told(labels: Experiment) -> None:
    reasons = {"label '-'": 785, **{f"reason {n}": 6 - n for n in range(6)}}

    def said(**changes: object) -> list[str]:
        data = replace(labels.dataset, **changes)  # type: ignore[arg-type]
        return facts(replace(labels, prepared=replace(labels.prepared, dataset=data)))

    assert (
        "806 rows were left out: label '-' 785, reason 0 6, reason 1 5, reason 2 4, reason 3 3, "
        "other reasons 3."
    ) in said(left_out=dict(reversed(reasons.items())))
    assert "1 row was left out: empty 1." in said(left_out={"empty": 1})
    assert "1 text was longer than the most words allowed, and cut at the end." in said(cut=1)
    assert not any("left out" in each or "cut" in each for each in said())


@pytest.mark.parametrize("make", [several_labels, pairs, topics])
def test_files(make: object, tmp_path: Path) -> None:
    data = replace(make(), left_out={"label '-'": 2}, cut=3)  # type: ignore[operator]
    experiment = with_findings(experiment_of(data))
    write_report(experiment, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert found["data"]["kind"] == data.kind
    assert (found["data"]["left_out"], found["data"]["cut"]) == ({"label '-'": 2}, 3)
    assert found["accuracy"] == {"test": 0.5, "macro_f1": 0.4, "test_loss": 0.7}
    with (tmp_path / "instances.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(data.test)
    assert max(map(len, text_table(experiment).splitlines())) <= 100
    assert text_table(experiment).isascii()


def tables(document: Document) -> list[Table]:
    parts = (part for section in document.sections for part in section.parts)
    return [part for part in parts if isinstance(part, Table)]


def test_hostile_labels(tmp_path: Path) -> None:
    data = replace(
        several_labels(12, ODD), name="$_{<odd>|\n", left_out={"label '<b>|\n\x00\ud800'": 7}
    )
    experiment = with_findings(experiment_of(data))
    write_report(experiment, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in page and "<i>" not in page and "&lt;i&gt;" in page
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "<b>" not in summary and "\\<b\\>\\|" in summary
    json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    names = {"$\\alpha_", "a,b <i>\ufffd\ufffd", "a|b"}
    rows = instance_records(experiment)
    assert {row["label"] for row in rows} >= names
    assert max(map(len, text_table(experiment).splitlines())) <= 100


def test_tables_of_labels_have_no_empty_columns(labels: Experiment) -> None:
    found = tables(document_of(with_findings(labels)))
    assert not any("flipped" in table.columns for table in found)
    for table in found:
        for place in range(len(table.columns)):
            assert any(row[place].strip() for row in table.rows)


def test_many_classes_are_left_to_the_json() -> None:
    every = experiment_of(topics(60, n_classes=20))
    predicted = torch.arange(60) % 20
    names = ("gradient", "loo", "gradient_loo", "permutation", "adversarial", "farthest")

    def of_classes(count: int) -> Experiment:
        changed = {
            name: replace(getattr(every, name), predicted=predicted % count) for name in names
        }
        return replace(every, **changed)

    twelve, thirteen = of_classes(12), of_classes(13)
    said = text_table(twelve)
    assert {f"-> topic {number}" for number in range(12)} <= row_names(twelve)
    assert "-> X: instances" in said and "last by class" in said and "one by one" not in said
    said = " ".join(text_table(thirteen).split())
    assert not any("->" in name for name in row_names(thirteen))
    assert "-> X" not in said and "by class" not in said
    assert "Of the 13 classes predicted, results.json tells one by one." in said
    assert len(results(thirteen)["summaries"]["loo_correlation"]["by_predicted"]) == 13


def test_columns_that_say_nothing_are_not_shown(labels: Experiment, snli: Experiment) -> None:
    gradients, shuffled = "Attention against gradients", "Attention shuffled 10 times"
    for experiment, title, last in (
        (labels, gradients, "p<=.05"),
        (labels, shuffled, "median"),
        (snli, gradients, "published"),
        (snli, shuffled, "p<=.05"),
    ):
        lines = text_table(experiment).splitlines()
        place = next(
            place
            for place in range(lines.index(title), len(lines))
            if lines[place].startswith("  all ")
        )
        assert lines[place - 1].split()[-1] == last
        assert len(lines[place]) == len(lines[place - 1])


def test_published_medians_are_explained_where_they_are() -> None:
    said = "Published medians were read off a drawing."
    for name, shown in (("sst", True), ("mine", False)):
        data = replace(topics(12, n_classes=2), name=name)
        drawn = [chart.description for chart in charts(experiment_of(data))]
        assert any(said in each for each in drawn) is shown


def test_shuffles_of_labels_have_no_p_values(labels: Experiment, snli: Experiment) -> None:
    assert "unusually sure" not in text_table(labels)
    assert "unusually sure" in " ".join(text_table(snli).split())


def test_the_epoch_of_labels_is_chosen_by_what_is_shown(labels: Experiment) -> None:
    record = TrainingRecord((0.5, 0.4), (0.6, 0.7), (0.8, 0.9), 1, 2.0, 0, (0.3, 0.2))
    for kind, given, shown in (
        (labels, record, True),
        (labels, replace(record, dev_f1=()), False),
        (replace(labels, prepared=replace(labels.prepared, dataset=topics())), record, False),
    ):
        document = document_of(replace(labels, record=given, prepared=kind.prepared))
        table = next(each for each in document.sections if each.title == "Training").parts[0]
        assert isinstance(table, Table)
        assert ("dev macro F1" in table.columns) is shown
        assert table.rows[1] == ("2 (kept)", "0.400", "0.700", "0.900", *(["0.200"] * shown))
