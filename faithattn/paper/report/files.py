"""What an experiment leaves behind: pages to read, JSON, CSV, and figures."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from faithattn._version import __version__
from faithattn.pages.files import write_figures, write_text
from faithattn.pages.html import html
from faithattn.pages.markdown import markdown
from faithattn.paper.experiment import Experiment
from faithattn.paper.published import published
from faithattn.paper.report.document import document_of
from faithattn.paper.report.facts import median_length
from faithattn.paper.report.findings import findings
from faithattn.paper.report.names import joined, predicted_labels, true_labels
from faithattn.statistics import null_spread

SCHEMA_VERSION = 1
_PACKAGES = ("torch", "numpy", "scipy", "captum", "matplotlib")


def write_report(experiment: Experiment, folder: str | PathLike[str]) -> list[Path]:
    """Writes ``results.json``, ``instances.csv``, two pages to read, and ``figures/``.

    Args:
        experiment: What to write.
        folder: A folder that exists.

    Returns:
        The files written: ``report.html``, ``summary.md``, ``results.json``,
        ``instances.csv``, then the figures.

    Raises:
        OSError: If a file cannot be written.
    """
    target = Path(folder)
    document = document_of(experiment)
    data = json.dumps(results(experiment), indent=2, ensure_ascii=False, allow_nan=False)
    return [
        write_text(target / "report.html", html(document)),
        write_text(target / "summary.md", markdown(document, figures="figures")),
        write_text(target / "results.json", data + "\n"),
        write_instances(experiment, target / "instances.csv"),
        *write_figures(document, target / "figures"),
    ]


def results(experiment: Experiment) -> dict[str, Any]:
    """Returns everything but the single instances, ready for JSON.

    Args:
        experiment: What to describe.

    Returns:
        Plain values; undefined numbers are None. ``schema_version`` counts up
        when a key changes its meaning.
    """
    prepared, settings, dataset = experiment.prepared, experiment.settings, experiment.dataset
    length = median_length(experiment)
    plain_values: dict[str, Any] = _without_nan(
        {
            "schema_version": SCHEMA_VERSION,
            "data": {
                "name": dataset.name,
                "kind": dataset.kind,
                "labels": list(dataset.labels),
                "train": len(dataset.train),
                "dev": len(dataset.dev),
                "test": len(dataset.test),
                "tested": len(experiment.instances),
                "left_out": dict(dataset.left_out),
                "cut": dataset.cut,
                "vocabulary": len(prepared.vocabulary),
                "vector_coverage": prepared.coverage,
                "median_length": length,
            },
            "settings": settings.to_dict(),
            "seeds": {"data": prepared.data_seed, "model": settings.seed, "tests": settings.seed},
            "versions": {"faithattn": __version__, "python": platform.python_version()}
            | {name: version(name) for name in _PACKAGES},
            "threads": experiment.threads,
            "accuracy": {
                "test": experiment.test.accuracy,
                "macro_f1": experiment.test.macro_f1,
                "test_loss": experiment.test.loss,
            },
            "training": None if experiment.record is None else asdict(experiment.record),
            "summaries": {key: value.to_dict() for key, value in experiment.summaries.items()},
            "null_spread": {"length": length, "tau": null_spread(length)},
            "evidence": _evidence(experiment),
            **findings(experiment),
            "published": _published(experiment),
            "seconds": dict(experiment.seconds),
        }
    )
    return plain_values


def instance_records(experiment: Experiment) -> list[dict[str, Any]]:
    """Returns one row per tested instance, in the order of the test split.

    Args:
        experiment: What to describe.

    Returns:
        Mappings of equal keys: ``id`` is the place in the test split from 0,
        ``length`` the number of words explained, ``feasible`` the number of
        adversaries within epsilon. Several labels are joined by ``|``.
        Undefined numbers are None, and predictions that are not known.
    """
    predicted = [
        None if each is None else joined(experiment, each, "|")
        for each in predicted_labels(experiment)
    ]
    gradient, loo, pair = experiment.gradient, experiment.loo, experiment.gradient_loo
    shuffled, adversarial = experiment.permutation, experiment.adversarial
    columns: dict[str, list[Any]] = {
        "id": list(experiment.instances),
        "label": [joined(experiment, true, "|") for true in true_labels(experiment)],
        "predicted": predicted,
        "length": gradient.mask.sum(1).tolist(),
        "max_attention": gradient.max_attention.tolist(),
        "mass": gradient.mass.tolist(),
        "tau_gradient": gradient.statistic.tolist(),
        "p_gradient": gradient.pvalue.tolist(),
        "tau_loo": loo.statistic.tolist(),
        "p_loo": loo.pvalue.tolist(),
        "tau_gradient_loo": pair.statistic.tolist(),
        "p_gradient_loo": pair.pvalue.tolist(),
        "median_tvd": shuffled.median_tvd.tolist(),
        "median_tvd_low": shuffled.median_low.tolist(),
        "median_tvd_high": shuffled.median_high.tolist(),
        "p_permutation": shuffled.pvalue.tolist(),
        "p_permutation_error": shuffled.pvalue_error.tolist(),
        "permutation_exact": shuffled.exact.int().tolist(),
        "permutation_effect": shuffled.effect.tolist(),
        "max_jsd": adversarial.max_jsd.tolist(),
        "feasible": adversarial.feasible.sum(1).tolist(),
        "upper_bound": adversarial.upper_bound.tolist(),
        "certified": adversarial.certified.int().tolist(),
        "farthest_jsd": experiment.farthest.max_jsd.tolist(),
        "farthest_upper_bound": experiment.farthest.upper_bound.tolist(),
        "farthest_certified": experiment.farthest.certified.int().tolist(),
    }
    if experiment.evidence is not None:
        for name, values in experiment.evidence._asdict().items():
            columns[f"evidence_{name}"] = values.tolist()
    columns |= {name: values.tolist() for name, values in _findings(experiment)}
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [_without_nan(row) for row in rows]


def write_instances(experiment: Experiment, path: Path) -> Path:
    """Writes :func:`instance_records` as CSV; undefined numbers are empty."""
    records = instance_records(experiment)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _field(value) for key, value in row.items()} for row in records)
    return path


def _field(value: object) -> object:
    """Returns what single precision needs of a number, and no more."""
    return f"{value:.9g}" if isinstance(value, float) else value


def _findings(experiment: Experiment) -> Iterator[tuple[str, Tensor]]:
    """Names and values of what else was measured of each instance."""
    for top in experiment.top_k:
        yield f"top_{top.k}_{top.pair}", top.distance
    found = experiment.log_odds
    if found is None:
        return
    yield "substitution_jsd", found.substitution.jsd
    yield "substitution_tvd", found.substitution.tvd
    yield "substitution_flipped", found.substitution.flipped
    yield "effective_words_log_odds", found.words
    yield "effective_words_model", found.own_words
    if found.replacement is not None:
        for order, change in found.replacement.change.items():
            flipped = found.replacement.flipped[order]
            for place, count in enumerate(found.replacement.counts):
                yield f"replaced_{count}_{order}", change[:, place]
                yield f"replaced_{count}_{order}_flipped", flipped[:, place]


def _evidence(experiment: Experiment) -> dict[str, float] | None:
    """Returns the mean share of each score on the supporting sentences."""
    if experiment.evidence is None:
        return None
    shares = experiment.evidence._asdict()
    return {name: float(values.nanmean()) for name, values in shares.items()}


def _published(experiment: Experiment) -> list[dict[str, Any]]:
    """Returns the published figures of the same data set and model, with their sources."""
    if experiment.published_name is None:
        return []
    settings = experiment.settings
    figures: Iterable[dict[str, Any]] = map(asdict, published(experiment.published_name))
    asked = (settings.encoder, settings.attention)
    return [figure for figure in figures if (figure["encoder"], figure["attention"]) == asked]


def _without_nan(value: Any) -> Any:
    """Returns nested plain values with None for nan, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
