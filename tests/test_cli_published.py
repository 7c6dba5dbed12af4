from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict

import pytest
from commands import fails

from faithattn.cli import main
from faithattn.paper.published import published, published_datasets


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["published", *options]) == 0
    return capsys.readouterr().out


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    table = printed(capsys, "SST")
    assert "0.351" in table and "[.25,.5) class 1" in table and "babi-1" not in table
    everything = printed(capsys)
    assert "babi-1" in everything and "class" not in everything
    assert max(map(len, (table + everything).splitlines())) <= 100


def test_csv_holds_every_column_of_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "--format", "csv"))))
    figures = published()
    assert len(rows) == len(figures) == 1341
    for row, figure in zip(rows, figures, strict=True):
        expected = {
            name: "" if isinstance(value, float) and math.isnan(value) else str(value)
            for name, value in asdict(figure).items()
        }
        assert row == expected


def test_json_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(capsys, "sst", "--format", "json"))
    for row, figure in zip(rows, published("sst"), strict=True):
        expected = asdict(figure)
        assert row == {k: None if v != v else v for k, v in expected.items()}


def test_filters(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--encoder", "cnn", "--attention", "additive", "--measure", "gradient_loo")
    rows = json.loads(printed(capsys, *options, "--format", "json"))
    assert [(row["encoder"], row["attention"], row["measure"]) for row in rows] == [
        ("cnn", "additive", "gradient_loo")
    ] * 15
    assert len(printed(capsys, *options).splitlines()) == 1 + 15 + 4


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    table = printed(capsys, "--list")
    assert [line.split()[0] for line in table.splitlines()[1:]] == [
        each.name for each in published_datasets()
    ]
    assert "(World, Business)" in table
    rows = json.loads(printed(capsys, "--list", "--format", "json", "--encoder", "bilstm"))
    assert sum(row["figures"] for row in rows) == sum(f.encoder == "bilstm" for f in published())
    assert all(row["encoders"] == ["bilstm"] for row in rows)
    (row,) = csv.DictReader(io.StringIO(printed(capsys, "snli", "--list", "--format", "csv")))
    assert row["classes"] == "contradiction|entailment|neutral"


def test_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert "DATASET must be one of 20news-sports, agnews" in fails(["published", "nothing"], capsys)
    message = fails(["published", "readmission", "--measure", "loo_correlation"], capsys)
    assert "--measure loo_correlation must leave a figure; got none of readmission" in message
    assert "'gru'" in fails(["published", "--encoder", "gru"], capsys)
