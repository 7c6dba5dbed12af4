from __future__ import annotations

import csv
import json
import math
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reports import FIELDS, MadeUp, by_heads, made_up

from faithattn.audits.evidence import Failure
from faithattn.audits.pages import (
    as_dict,
    columns,
    document_of,
    records,
    schema,
    summary_of,
    write_report,
)
from faithattn.audits.pages.columns import bands_by_length, counts_by_class
from faithattn.audits.pages.figures import figures
from faithattn.audits.pages.files import write_instances
from faithattn.audits.pages.tables import evidence_tables
from faithattn.pages.document import Chart, Explorer, Section, Table
from faithattn.pages.html import html
from faithattn.pages.text import text
from faithattn.statistics import describe, null_band


@pytest.fixture(scope="module")
def report() -> MadeUp:
    return made_up()


def section(report: MadeUp, title: str) -> Section:
    return next(each for each in document_of(report).sections if each.title == title)


def test_files(report: MadeUp, tmp_path: Path) -> None:
    written = write_report(report, tmp_path / "deep" / "out")
    names = [path.relative_to(tmp_path / "deep" / "out").as_posix() for path in written]
    assert names[:4] == ["report.html", "report.md", "report.json", "instances.csv"]
    assert names[4:] and all(name.startswith("figures/") for name in names[4:])
    assert {path for path in (tmp_path / "deep").rglob("*") if path.is_file()} == set(written)
    first = {path: path.read_bytes() for path in written}
    write_report(report, tmp_path / "deep" / "out")
    assert {path: path.read_bytes() for path in written} == first


def test_conclusion_comes_first(report: MadeUp) -> None:
    document = document_of(report)
    assert document.lead == report.overall
    assert [each.title for each in document.sections] == [
        "Verdicts", "Evidence", "Figures", "Instances", "Failures", "How it was made",
        "What the numbers mean",
    ]  # fmt: skip
    said = text(document)
    for verdict in report.verdicts:
        assert verdict.conclusion.upper() in said
        assert verdict.rule.split()[0] in said


def test_evidence_table_is_the_evidence(report: MadeUp) -> None:
    table = section(report, "Evidence").parts[0]
    assert isinstance(table, Table)
    lines = {name: cells for name, *cells in table.rows}
    for place, each in enumerate(report.evidence):
        assert lines["mean"][place] == f"{each.overall.mean:.3f}"
        assert lines["95 % interval"][place] == f"{each.overall.low:.3f} to {each.overall.high:.3f}"
        assert lines["instances"][place] == "400"
        assert int(lines["undefined"][place]) == each.overall.undefined > 0
    assert lines["failed"] == ["0", "32", "0", "0"]
    assert lines["significant"][0] == "31"
    assert lines["random explanation"][0] == f"{report.evidence[0].controls['random'].mean:.3f}"
    assert lines["uniform attention"][2] == f"{report.evidence[2].controls['uniform'].mean:.3f}"


def test_json_is_plain_and_complete(report: MadeUp) -> None:
    data = as_dict(report)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert set(data) == {
        "schema_version", "instances", "overall", "verdicts", "evidence", "failures", "columns",
        "provenance",
    }  # fmt: skip
    first = data["evidence"][0]
    assert first["overall"]["mean"] == report.evidence[0].overall.mean
    assert first["groups"]["predicted"]["1"]["n"] == int((report.column("predicted") == 1).sum())
    assert data["failures"][0]["instances"] == [64, 95]


def test_csv_is_the_columns(report: MadeUp, tmp_path: Path) -> None:
    path = write_instances(report, tmp_path / "instances.csv")
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(report) and tuple(lines[0]) == report.columns
    for name in report.columns:
        column = report.column(name)
        for place, line in enumerate(lines):
            value = column[place]
            if name == "cluster" or (value.dtype.kind == "f" and np.isnan(value)):
                assert line[name] == ""
            else:
                assert float(line[name]) == pytest.approx(float(value), rel=1e-8)
    first = next(records(report))
    assert first["cluster"] is None and first["instance"] == 0
    assert isinstance(first["adversarial_attention.certified"], bool)


def test_csv_needs_no_memory_for_more_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "PIECE", 1024)
    monkeypatch.setattr(schema, "PIECE", 1024)
    peaks = []
    for count in (4_000, 16_000):
        report = made_up_columns(count, tmp_path)
        tracemalloc.start()
        write_instances(report, tmp_path / "instances.csv")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def made_up_columns(count: int, folder: Path) -> MadeUp:
    """Columns on disk, as a store has them."""
    data = {}
    for name in ("instance", "length"):
        np.save(folder / f"{name}.npy", np.arange(count))
        data[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=count))
    data["x"] = np.load(folder / "x.npy", mmap_mode="r")
    return MadeUp((), (), "", data)


def test_histograms_count_every_defined_instance(report: MadeUp) -> None:
    values = report.column("gradient_correlation.statistic")
    edges = np.linspace(-1, 1, 41)
    counts = counts_by_class(report, "gradient_correlation.statistic", edges)
    assert list(counts) == ["all", "0", "1"]
    assert counts["all"].sum() == (~np.isnan(values)).sum()
    assert (counts["0"] + counts["1"] == counts["all"]).all()
    chosen = values[(report.column("predicted") == 1) & ~np.isnan(values)]
    assert (counts["1"] == np.histogram(chosen, edges)[0]).all()


def test_bands_by_length_are_those_of_the_lengths(report: MadeUp) -> None:
    bands = bands_by_length(report, report.evidence[0])
    assert list(bands) == ["1 to 4", "5 to 9", "10 to 16"]
    values, lengths = report.column("gradient_correlation.statistic"), report.column("length")
    chosen = lengths[(lengths >= 5) & (lengths <= 9) & ~np.isnan(values)]
    assert bands["5 to 9"] == null_band(chosen)
    odd = replace(
        report.evidence[0],
        groups={"length": {"short": report.evidence[0].groups["length"]["1 to 4"]}},
    )
    assert bands_by_length(report, odd) == {}


def test_every_key_is_documented(report: MadeUp) -> None:
    found = as_dict(report)
    said = Path(__file__).parents[3].joinpath("docs", "report.md").read_text(encoding="utf-8")
    keys = [*found, *found["evidence"][0], *found["evidence"][0]["overall"], *found["verdicts"][0]]
    assert [key for key in keys if f"`{key}`" not in said] == []


def test_small_numbers_have_digits_that_tell_them_apart(report: MadeUp) -> None:
    values = np.linspace(0.0005, 0.002, 40)
    small = replace(report.evidence[2], overall=describe(values), controls={}, null=None)
    (table,) = evidence_tables([small])
    cells = dict(table.rows)
    low, high = cells["95 % interval"].split(" to ")
    assert low < cells["mean"] < high and cells["mean"] == f"{values.mean():.5f}"
    one = replace(small, overall=describe(values[:1]))
    said = [
        next(part for part in figures(replace(report, evidence=[each])) if isinstance(part, Chart))
        for each in (small, one)
    ]
    assert f"{values.mean():.5f} ({low} to {high})." in said[0].description
    assert said[0].data.rows[0][2] == f"{low} to {high}"
    assert said[1].description.endswith("5.0e-04 (no interval).")


def test_charts_of_few_metrics(report: MadeUp) -> None:
    names = [chart.name for chart in document_of(report).charts]
    assert names[:2] == ["intervals-agreement", "intervals-effects"]
    assert len(names) == len(set(names)) == 2 + 2 * len(FIELDS)


def test_layers_by_heads() -> None:
    report = by_heads(3, 4)
    charts = document_of(report).charts
    assert [chart.name for chart in charts] == [
        f"heads-{name.replace('_', '-')}" for name in FIELDS
    ]
    first = charts[0].data
    assert first.columns == ("", "0", "1", "2", "3") and len(first.rows) == 3
    found = {each.view: each for each in report.evidence if each.metric == "gradient_correlation"}
    assert first.rows[2][4] == f"{found['layer 2, head 3'].overall.mean:.3f}"
    counts = section(report, "Verdicts").parts[0]
    assert isinstance(counts, Table) and counts.rows[0][-1] == "12"
    assert len(html(document_of(report))) < 400_000


def test_explorer_shows_what_was_measured(report: MadeUp) -> None:
    explorer = section(report, "Instances").parts[1]
    assert isinstance(explorer, Explorer)
    first = explorer.specimens[0]
    (instance,) = report.instances(report.telling(1))
    assert first.tokens == instance.tokens
    assert [track.name for track in first.tracks] == [
        "attention", "gradient times input", "leave-one-out", "other attention, same output",
    ]  # fmt: skip
    own, other = first.tracks[0], first.tracks[3]
    assert own.values == instance.scores["attention"]
    assert own.strongest == other.strongest == max(own.values + other.values)
    assert first.values["eps-max JSD"] == instance.values["adversarial_attention.max_jsd"]
    assert first.values["length"] == len(first.tokens)


def test_long_instances_are_cut(report: MadeUp) -> None:
    long = made_up(20)
    long.data["length"] = np.full(20, 500)
    explorer = section(long, "Instances").parts[1]
    assert isinstance(explorer, Explorer)
    for specimen in explorer.specimens:
        assert len(specimen.tokens) <= 100
        assert "of its 500 words are shown" in specimen.text


def test_nothing_at_all() -> None:
    empty = MadeUp((), (), "Nothing was tested.", {"instance": np.arange(0)})
    said = text(document_of(empty))
    assert "Nothing was measured." in said and "No metric failed" in said
    html(document_of(empty))


def test_everything_undefined(tmp_path: Path) -> None:
    report = made_up(30)
    for name, column in report.data.items():
        if column.dtype.kind == "f":
            report.data[name] = np.full(30, np.nan)
    nan = math.nan
    report.evidence = [
        replace(each, overall=replace(each.overall, n=30, undefined=30, mean=nan, low=nan, high=nan,
                q25=nan, median=nan, q75=nan), groups={}, controls={}, null=None, ceiling=None)
        for each in report.evidence
    ]  # fmt: skip
    for path in write_report(report, tmp_path):
        assert not re.search(r"\bnan\b", path.read_text(encoding="utf-8"), re.IGNORECASE)


def test_many_failures_are_counted(report: MadeUp) -> None:
    failures = [Failure(n, (n, n), "x", "reason") for n in range(80)]
    part = section(replace(report, failures=failures), "Failures").parts
    assert ": 80." in part[0].text  # type: ignore[union-attr]
    assert len(part[1].rows) == 51 and "30 more" in part[1].rows[-1][-1]  # type: ignore[union-attr]


def test_summary_fits_a_terminal(report: MadeUp) -> None:
    said = text(summary_of(report))
    assert max(map(len, said.splitlines())) <= 100
    for words in ("SUPPORTS", "CONTRADICTS", "CANNOT TELL", "95 % interval", "no room"):
        assert words in said
    assert "Figures" not in said and len(said.splitlines()) < 80


def test_provenance_is_said(report: MadeUp) -> None:
    said = text(section_document(report))
    for words in ("torch 2.6.0", "9f86d081884c", "n permutations 100", "films.csv"):
        assert words in said.replace("_", " "), words


def section_document(report: MadeUp) -> object:
    return replace(document_of(report), parts=(section(report, "How it was made"),))
