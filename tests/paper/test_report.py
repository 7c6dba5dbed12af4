from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from experiments import LEARNING, SMALL, hostile, stories, write_texts

from faithattn.pages.document import Table
from faithattn.paper.experiment import Experiment
from faithattn.paper.experiment.study import CHECKPOINT
from faithattn.paper.report import (
    document_of,
    instance_records,
    prepare_folder,
    results,
    text_table,
    write_report,
)
from faithattn.paper.reproduction import reproduce

COLUMNS = {
    "gradient_correlation": ("tau_gradient", "p_gradient"),
    "loo_correlation": ("tau_loo", "p_loo"),
    "gradient_loo": ("tau_gradient_loo", "p_gradient_loo"),
    "permutation_test": ("median_tvd", "p_permutation"),
    "adversarial_attention": ("max_jsd", None),
    "farthest_attention": ("farthest_jsd", None),
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    base = tmp_path_factory.mktemp("texts")
    folder = base / "deep" / "out"
    return reproduce(write_texts(base / "sst.csv"), LEARNING, out=folder), folder


def test_tables_have_no_empty_columns(out: tuple[Experiment, Path]) -> None:
    tables = [
        part
        for section in document_of(out[0]).sections
        for part in section.parts
        if isinstance(part, Table)
    ]
    columns = {name for table in tables for name in table.columns}
    assert len(tables) > 4 and {"p≤.05", "published"} <= columns
    for table in tables:
        for place in range(len(table.columns)):
            assert any(row[place].strip() for row in table.rows)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "instances.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float:
    return float(text) if text else math.nan


def test_files(out: tuple[Experiment, Path]) -> None:
    names = {path.relative_to(out[1]).as_posix() for path in out[1].rglob("*") if path.is_file()}
    figures = {
        f"figures/{name}.svg"
        for name in (
            "tau-gradients", "tau-leave-one-out", "permutation-by-attention",
            "adversarial-histogram", "adversarial-by-attention", "pair-agreement",
            "first-words", "log-odds-attention", "words-replaced",
        )
    }  # fmt: skip
    pages = {"report.html", "summary.md"}
    assert names == {"results.json", "instances.csv", CHECKPOINT} | pages | figures


def test_json_is_what_the_csv_gives(out: tuple[Experiment, Path]) -> None:
    data = json.loads((out[1] / "results.json").read_text(encoding="utf-8"))
    rows = rows_of(out[1])
    assert data["data"]["tested"] == len(rows) == len(out[0].dataset.test)
    for measure, (column, pvalue) in COLUMNS.items():
        groups = {"overall": [True] * len(rows)}
        for key in data["summaries"][measure]["by_predicted"]:
            groups[key] = [row["predicted"] == data["data"]["labels"][int(key)] for row in rows]
        for name, members in groups.items():
            summary = data["summaries"][measure]
            given = summary["overall"] if name == "overall" else summary["by_predicted"][name]
            chosen = [row for row, member in zip(rows, members, strict=True) if member]
            values = np.array([number(row[column]) for row in chosen])
            kept = values[~np.isnan(values)]
            assert (given["n"], given["undefined"]) == (len(values), len(values) - len(kept))
            assert given["mean"] == pytest.approx(kept.mean(), abs=1e-7)
            assert given["std"] == pytest.approx(kept.std(ddof=1), abs=1e-7)
            assert given["median"] == pytest.approx(np.median(kept), abs=1e-7)
            if pvalue is not None:
                limit = 0.05 * (1 + 1e-6)  # in single precision 1/20 lies above it
                small = [number(row[pvalue]) <= limit for row in chosen if row[column]]
                assert given["significant"] == pytest.approx(np.mean(small))
    correct = np.mean([row["label"] == row["predicted"] for row in rows])
    assert data["accuracy"]["test"] == pytest.approx(correct)


def test_csv_rows(out: tuple[Experiment, Path]) -> None:
    rows = rows_of(out[1])
    assert [int(row["id"]) for row in rows] == list(range(len(rows)))
    for row, example in zip(rows, out[0].dataset.test, strict=True):
        assert int(row["length"]) == len(example.tokens)
        assert row["label"] == out[0].dataset.labels[example.label]
        assert 0 <= number(row["max_jsd"]) <= number(row["upper_bound"]) + 1e-6
        assert 0 <= int(row["feasible"]) <= 2
    assert rows[-1]["length"] == "1"
    assert rows[-1]["tau_gradient"] == rows[-1]["p_gradient"] == rows[-1]["median_tvd"] == ""


def test_json_says_what_was_done(out: tuple[Experiment, Path]) -> None:
    data = json.loads((out[1] / "results.json").read_text(encoding="utf-8"))
    assert data["schema_version"] == 1
    assert data["settings"]["encoder"] == "bilstm"
    assert data["settings"]["epsilon"] == 0.01
    assert data["seeds"] == {"data": 0, "model": 0, "tests": 0}
    assert set(data["versions"]) >= {"faithattn", "torch", "numpy", "scipy"}
    assert 1 <= len(data["training"]["dev_accuracy"]) <= 12
    assert set(data["seconds"]) == {
        "training", "gradients", "leave-one-out", "permutations", "adversaries",
        "farthest", "log-odds",
    }  # fmt: skip
    quoted = [row for row in data["published"] if row["measure"] == "gradient_correlation"]
    assert {row["mean"] for row in quoted} == {0.3432, 0.3637, 0.3512}
    assert all("1902.10186" in row["source"] for row in data["published"])


def test_table(out: tuple[Experiment, Path]) -> None:
    table = text_table(out[0])
    assert max(map(len, table.splitlines())) <= 100
    assert table.isascii()
    mean = out[0].summaries["gradient_correlation"].overall.mean
    assert re.search(rf"all +{len(out[0].examples)} +1 +{mean:.3f} \+- ", table)
    for text in ("0.351 +- 0.211", "-> bad", "-> good", "median ~0.0", "Jain & Wallace 2019"):
        assert text in table
    assert f"Accuracy {out[0].test.accuracy:.3f}" in table


def test_page(out: tuple[Experiment, Path]) -> None:
    page = (out[1] / "summary.md").read_text(encoding="utf-8")
    assert page.startswith("# sst: BiLSTM encoder, additive attention, seed 0")
    for target in re.findall(r"\]\(([^)]+)\)", page):
        assert (out[1] / target).is_file()
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert sum("±" in row for rows in tables for row in rows) > 10
    for rows in tables:
        assert len({len(row.replace("\\|", "").split("|")) for row in rows}) == 1
    shown = (out[1] / "report.html").read_text(encoding="utf-8")
    mean = out[0].summaries["gradient_correlation"].overall.mean
    for rendered in (page, shown):
        for words in (
            "Attention against gradients",
            "Jain & Wallace".replace("&", "&amp;"),
            f"{mean:.3f} ±",
            "the other attention the output moves",
            "dev accuracy",
        ):
            assert words in rendered  # fmt: skip


def test_stories_have_evidence_and_other_rows() -> None:
    experiment = reproduce(stories(), SMALL)
    data = results(experiment)
    assert 0 < data["evidence"]["positions"] < 1
    record = instance_records(experiment)[0]
    assert record["evidence_attention"] == float(experiment.evidence.attention[0])  # type: ignore[union-attr]
    table = text_table(experiment)
    assert "The supporting sentences are" in table
    assert "0.251 +- 0.156" in table
    assert max(map(len, table.splitlines())) <= 100


def test_limited_instances_are_said() -> None:
    experiment = reproduce(stories(), replace(SMALL, instances=3))
    assert "ran on 3 of them, drawn at random" in " ".join(text_table(experiment).split())
    assert results(experiment)["settings"]["instances"] == 3
    assert [row["id"] for row in instance_records(experiment)] == list(experiment.instances)


def test_hostile_names(tmp_path: Path) -> None:
    experiment = reproduce(hostile(), SMALL)
    write_report(experiment, tmp_path)
    rows = rows_of(tmp_path)
    assert len(rows) == 12
    assert {row["label"] for row in rows} == {"$\\alpha_", "a,b |<i>\ufffd\ufffd"}
    assert max(map(len, text_table(experiment).splitlines())) <= 100
    page = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "<i>" not in page.replace("\\<i\\>", "")
    json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))


def test_written_again_the_bytes_are_the_same(tmp_path: Path, out: tuple[Experiment, Path]) -> None:
    assert len(write_report(out[0], tmp_path)) == 13
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (out[1] / path.relative_to(tmp_path)).read_bytes()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for path in (file, file / "below"):
        with pytest.raises(OSError, match=r"out must be a folder that can be written; got"):
            prepare_folder(path)
    folder = prepare_folder(tmp_path / "new")
    assert list(folder.iterdir()) == []


def test_short_texts_are_left_out_and_said() -> None:
    data = stories()
    least = sorted(len(example.tokens) for example in data.test)[len(data.test) // 2]
    experiment = reproduce(data, replace(SMALL, minimum_words=least))
    kept = [place for place, each in enumerate(data.test) if len(each.tokens) >= least]
    assert list(experiment.instances) == kept and len(kept) < len(data.test)
    table = " ".join(text_table(experiment).split())
    assert f"ran on {len(kept)} of them, those of {least} words or more" in table


def test_too_long_a_minimum_is_an_error() -> None:
    with pytest.raises(ValueError, match="minimum_words must leave test texts"):
        reproduce(stories(), replace(SMALL, minimum_words=10_000))
