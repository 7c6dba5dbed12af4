"""A finished audit, made up: what a page may ask of a report, without running one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from faithattn.audits.evidence import Evidence, Failure, Instance, Verdict
from faithattn.audits.headlines import HEADLINES, Headline, known_headlines
from faithattn.statistics import ATTENTION_BINS, describe, null_spread

Columns = dict[str, NDArray[Any]]
FIELDS = {
    "gradient_correlation": "statistic",
    "loo_correlation": "statistic",
    "permutation_test": "median_tvd",
    "adversarial_attention": "max_jsd",
}
LENGTHS = ((1, 4), (5, 9), (10, 16))
WORDS = ("the", "film", "was", "long", "and", "quiet", "tonight", "again", "but", "nobody")


@dataclass(eq=False)
class MadeUp:
    """A report whose numbers are drawn."""

    evidence: Sequence[Evidence]
    verdicts: Sequence[Verdict]
    overall: str
    data: Columns
    failures: Sequence[Failure] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    words: Sequence[str] = WORDS

    @property
    def headlines(self) -> tuple[Headline, ...]:
        own = {
            each.metric: {
                "field": "value",
                "quantity": each.quantity,
                "larger_is_faithful": each.larger_is_faithful,
            }
            for each in self.evidence
            if each.metric not in FIELDS
        }
        metrics = dict.fromkeys(each.metric for each in self.evidence)
        columns = [*self.columns, *(f"{metric}.value" for metric in own)]
        return known_headlines(metrics, own, columns)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.data)

    def column(self, name: str) -> NDArray[Any]:
        return self.data[name]

    def telling(self, count: int) -> list[int]:
        found = self.data.get("adversarial_attention.max_jsd", np.zeros(0))
        order = np.argsort(-np.nan_to_num(found))
        return [int(place) for place in order[:count]]

    def instances(self, numbers: Sequence[int]) -> list[Instance]:
        return [self._instance(number) for number in numbers]

    def _instance(self, number: int) -> Instance:
        rng = np.random.default_rng(number)
        length = int(self.data["length"][number])
        tokens = tuple(self.words[place] for place in rng.integers(len(self.words), size=length))
        scores = {
            name: tuple(rng.dirichlet(np.full(length, 0.4)).tolist())
            for name in ("attention", "gradient", "leave_one_out", "adversary")
        }
        values = {
            name: None if np.isnan(column[number]) else column[number].item()
            for name, column in self.data.items()
        }
        return Instance(number, tokens, scores, values)

    def __len__(self) -> int:
        return len(self.data["instance"])


def made_up(count: int = 400, seed: int = 0, words: Sequence[str] = WORDS) -> MadeUp:
    """An audit of ``count`` instances by the four tests."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 17, size=count)
    data: Columns = {
        "instance": np.arange(count),
        "batch": np.arange(count) // 32,
        "label": rng.integers(2, size=count),
        "cluster": np.full(count, -1),
        "predicted": rng.integers(2, size=count),
        "length": length,
        "max_attention": rng.beta(2, 2, size=count),
        "mass": np.ones(count),
        "gradient_correlation.statistic": np.clip(rng.normal(0.12, 0.25, count), -1, 1),
        "gradient_correlation.pvalue": rng.uniform(size=count),
        "loo_correlation.statistic": np.clip(rng.normal(0.3, 0.2, count), -1, 1),
        "permutation_test.median_tvd": rng.beta(0.5, 6, size=count),
        "adversarial_attention.max_jsd": 0.69 * rng.beta(4, 2, size=count),
        "adversarial_attention.certified": rng.random(count) < 0.5,
    }
    for metric, name in FIELDS.items():
        data[f"{metric}.{name}"][length == 1] = np.nan
    evidence = [_evidence(metric, data) for metric in FIELDS]
    verdicts = [
        Verdict(metric, "", conclusion, rule, because)
        for metric, conclusion, rule, because in (
            ("gradient_correlation", "cannot tell", "Supports if the interval of the mean tau lies "
             "above .3, contradicts if it lies below .1.", "The mean tau is .12 (.10 to .15)."),
            ("loo_correlation", "supports", "Supports if the interval lies above .2.",
             "The mean tau is .30 (.28 to .32), far above what unrelated rankings give."),
            ("permutation_test", "contradicts", "Contradicts if the mean of the median TVD lies "
             "below .1.", "Shuffling moves the output by .08 (.07 to .09)."),
            ("adversarial_attention", "contradicts", "Contradicts if the mean share lies above "
             ".5.", "Other attention, .46 apart, keeps the output."),
        )
    ]  # fmt: skip
    provenance = {
        "model": "films.model:BiLSTM",
        "data": "films.csv, test split",
        "seed": 0,
        "versions": {"faithattn": "0.1.0", "torch": "2.6.0", "python": "3.11.2"},
        "digests": {"weights": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
        "settings": {"permutation_test": {"n_permutations": 100}, "loo_correlation": {}},
        "seconds": 12.345,
        "instances": count,
    }
    overall = (
        f"On these {count} texts the tests disagree. Attention ranks words as leave-one-out does, "
        "better than chance; but shuffling it hardly moves the output, and quite other attention "
        "gives the same one. Erasure was not tested."
    )
    failures = [Failure(2, (64, 95), "loo_correlation", "RuntimeError: no room")]
    return MadeUp(evidence, verdicts, overall, data, failures, provenance, words)


def _evidence(metric: str, data: Columns) -> Evidence:
    values = data[f"{metric}.{FIELDS[metric]}"]
    correlation = metric.endswith("correlation")
    lengths = {
        f"{low} to {high}": (data["length"] >= low) & (data["length"] <= high)
        for low, high in LENGTHS
    }
    bins = np.clip(np.floor(data["max_attention"] * 4), 0, 3)
    groups = {
        "predicted": {str(each): data["predicted"] == each for each in (0, 1)},
        "label": {str(each): data["label"] == each for each in (0, 1)},
        "length": lengths,
        "max attention": {name: bins == place for place, name in enumerate(ATTENTION_BINS)},
    }
    spread = [null_spread(float(each)) ** 2 for each in data["length"] if each > 1]
    half = float(stats.norm.ppf(0.975)) * float(np.sqrt(sum(spread))) / len(spread)
    return Evidence(
        metric,
        "",
        HEADLINES[metric].quantity,
        metric != "adversarial_attention",
        describe(values),
        groups={
            kind: {name: describe(values[chosen]) for name, chosen in found.items()}
            for kind, found in groups.items()
        },
        controls={"random": describe(values * 0.1)} if correlation else
        {"uniform": describe(values * 0.4)},
        null=(-half, half) if correlation else None,
        ceiling=describe(np.clip(values + 0.35, -1, 1)) if correlation else None,
        significant=31 if metric == "gradient_correlation" else None,
        detectable=0.012,
        failed=32 if metric == "loo_correlation" else 0,
        caution="Deep models are told apart less surely." if correlation else "",
    )  # fmt: skip


def by_heads(layers: int = 4, heads: int = 6) -> MadeUp:
    """An audit under a view for every layer and head."""
    report = made_up(60)
    views = [f"layer {layer}, head {head}" for layer in range(layers) for head in range(heads)]
    rng = np.random.default_rng(1)
    evidence, verdicts = [], []
    for metric in FIELDS:
        for view in views:
            values = rng.beta(2, 5, size=60)
            evidence.append(Evidence(metric, view, FIELDS[metric], True, describe(values)))
            verdicts.append(Verdict(metric, view, "cannot tell", "A rule.", f"{values.mean():.2f}"))
    report.evidence, report.verdicts = evidence, verdicts
    return report
