"""What the number of a metric is: one table, and what a report knows of the caller's metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faithattn import Report, Score, audit, planted
from faithattn.audits.headlines import HEADLINES, headlines_of, own_headlines
from faithattn.audits.measuring.metrics import METRICS
from faithattn.audits.measuring.plan import Plan
from faithattn.metrics.scores.table import SCORES

OWN = Score(
    "sufficiency",  # as one of the library's is called
    "my number",
    True,
    caution="Mine.",
    compute=lambda question: torch.ones(len(question.reading.predicted)),
)


def test_every_test_has_a_headline_among_its_columns() -> None:
    assert list(HEADLINES) == list(METRICS)
    for name, headline in HEADLINES.items():
        fields = [field for field, _ in METRICS[name].fields(METRICS[name].defaults)]
        assert headline.field in fields and headline.pvalue in ("", *fields)
        assert headline.question.endswith("?") and headline.sentence.endswith(".")
        assert headline.correlation == name.endswith("correlation")


@pytest.mark.parametrize("name", HEADLINES)
def test_numbers_lie_between_the_ends(name: str) -> None:
    case = planted.indifferent(size=4)
    report = audit(case.model, [case.inputs], metrics=[name], removal="mask_attention")
    values = np.asarray(report.headline_values(name))
    low, high = HEADLINES[name].ends or (-np.inf, np.inf)
    assert ((values >= low - 1e-6) & (values <= high + 1e-6)).all()


def test_a_report_that_is_read_again_has_the_same_headlines(tmp_path: Path) -> None:
    case = planted.indifferent(size=4)
    metrics = ["permutation_test", replace(OWN, name="mine"), "comprehensiveness", OWN]
    audit(case.model, [case.inputs], metrics=metrics, removal="mask_attention", out=tmp_path)
    report = Report.open(tmp_path)
    assert report.headlines == headlines_of(Plan.of(metrics))
    mine, library, sufficiency = report.headlines[1:]
    assert (mine.title, mine.quantity) == ("Mine: my number", "my number")
    assert library.quantity == SCORES["comprehensiveness"].title
    assert (sufficiency.quantity, sufficiency.caution) == ("my number", "Mine.")
    assert sufficiency.larger_is_faithful is not SCORES["sufficiency"].larger_is_faithful
    assert report.evidence[3].quantity == "my number"
    stored = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert set(stored["settings"]["headlines"]) == {"mine", "sufficiency"}


def test_only_metrics_of_the_caller_are_stored() -> None:
    assert own_headlines(Plan.of([*METRICS, "sufficiency"])) == {}
    assert own_headlines(Plan.of([SCORES["sufficiency"], SCORES["permutation_test"]])) == {}
    with pytest.raises(ValueError, match="must not give a score the name of a test"):
        Plan.of([replace(OWN, name="permutation_test")])


def test_own_orders_of_erasure_are_their_own_headline() -> None:
    case = planted.indifferent(size=4)
    metrics = {"erasure_to_flip": {"orders": ["gradient_importance", "random"]}}
    report = audit(case.model, [case.inputs], metrics=metrics)
    assert report.headlines[0].field == "censored_gradient_importance"
    assert report.headlines == headlines_of(Plan.of(metrics))
    views = {"a": None, "b": None}
    report = audit(case.model, [case.inputs], metrics=metrics, view=views)
    assert report.headlines[0].field == "censored_gradient_importance"
    assert "How the instances spread" in report.markdown()
