"""Planted models measured once, and judged by their first texts and by all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from faithattn._checks import require_count
from faithattn.audits.evidence import Evidence, Verdict
from faithattn.audits.verdicts.given import adversary_of_values, evidence_of_values
from faithattn.audits.verdicts.judging import judge_all
from faithattn.audits.verdicts.reach import farthest
from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.importance.leave_one_out import Removal
from faithattn.measures.rank import kendall_tau
from faithattn.metrics.adversarial.attention import adversarial_attention
from faithattn.metrics.correlation import gradient_correlation, loo_correlation
from faithattn.metrics.erasure.single import single_weight_erasure
from faithattn.metrics.permutation import permutation_test
from faithattn.planted.calibration.verdicts.cases import CASES, PLANTED, Case
from faithattn.planted.calibration.verdicts.outcome import VerdictCalibration, VerdictCell
from faithattn.planted.case import Planted


def calibrate_verdicts(
    *,
    sizes: Sequence[int] = (20, 200),
    n_seeds: int = 20,
    seed: int = 0,
    thresholds: Thresholds | None = None,
    cases: Sequence[Case] = CASES,
    progress: bool = False,
) -> VerdictCalibration:
    """Judges planted models, and counts how often the verdicts are right.

    Args:
        sizes: Numbers of texts a verdict is based on; the smaller are the first
            of the larger.
        n_seeds: Models and texts drawn for each family.
        seed: The first seed.
        thresholds: Where the lines are; None is the default.
        cases: The families.
        progress: Show a progress bar on standard error.

    Returns:
        How often each test gave which verdict, by family and size.

    Raises:
        ValueError: If a number is out of range, or there is nothing to judge.

    Examples:
        >>> found = calibrate_verdicts(cases=CASES[3:4], sizes=(30,), n_seeds=1)
        >>> found.of(case="B", test="permutation_test")[0].contradicts
        1
    """
    require_count("n_seeds", n_seeds)
    require_count("seed", seed, least=0)
    several = sorted({require_count("sizes", size) for size in sizes})
    if not several or not cases:
        raise ValueError(
            f"sizes and cases must hold something; got {len(several)} and {len(cases)}. "
            "Leave them out for the defaults."
        )
    lines = thresholds or Thresholds()
    counts: Counter[tuple[str, str, int, str]] = Counter()
    with tqdm(total=len(cases) * n_seeds, disable=not progress, desc="judging") as bar:
        for case in cases:
            for number in range(seed, seed + n_seeds):
                for size, verdicts in _judged(case, several, number, lines):
                    counts.update(
                        (case.name, test, size, verdict.conclusion)
                        for test, verdict in verdicts.items()
                    )
                bar.update()
    return VerdictCalibration(_cells(counts, cases), lines, seed)


def _judged(
    case: Case, sizes: Sequence[int], seed: int, thresholds: Thresholds
) -> Iterator[tuple[int, dict[str, Verdict]]]:
    values = measured(case.make(sizes[-1], seed), deletes=case.deletes)
    for size in sizes:
        evidences = evidences_of({name: each[:size] for name, each in values.items()}, case.deletes)
        verdicts = judge_all(list(evidences.values()), thresholds)
        yield size, dict(zip(evidences, verdicts, strict=True))


def measured(planted: Planted, *, deletes: bool = True) -> dict[str, Tensor]:
    """What the tests find in every text, float64 ``(B,)``, by name."""
    removal: Removal = "delete" if deletes else "mask_attention"
    model, inputs = planted
    gradient = gradient_correlation(model, inputs)
    left_out = loo_correlation(model, inputs, removal=removal)
    adversary = adversarial_attention(model, inputs, n_adversaries=1, seed=0)
    mask = gradient.mask
    found = {
        "permutation_test": permutation_test(model, inputs, seed=0).median_tvd,
        "gradient_correlation": gradient.statistic,
        "loo_correlation": left_out.statistic,
        "ceiling": kendall_tau(gradient.importance, left_out.importance, mask=mask).statistic,
        "max_jsd": adversary.max_jsd,
        "upper_bound": adversary.upper_bound,
        "smallest": adversary.original.masked_fill(~mask, torch.inf).amin(-1),
        "length": mask.sum(-1),
        "single_weight_erasure": single_weight_erasure(
            model, inputs, seed=0, n_random=None
        ).delta_change,
    }
    if planted.truth is not None:
        attention = gradient.explanation.double()
        found[PLANTED] = kendall_tau(attention, planted.truth.abs().double(), mask=mask).statistic
    return {name: value.detach().double() for name, value in found.items()}


def evidences_of(values: Mapping[str, Tensor], deletes: bool = True) -> dict[str, Evidence]:
    """Evidence by test, of what :func:`measured` gives."""
    settings: dict[str, Any] = {"output": "sigmoid"}
    removal = {"removal": "delete" if deletes else "mask_attention"}
    ceiling = values["ceiling"]
    found = {
        "permutation_test": evidence_of_values(
            "permutation_test", values["permutation_test"], settings=settings
        ),
        "gradient_correlation": evidence_of_values(
            "gradient_correlation", values["gradient_correlation"], ceiling=ceiling
        ),
        "loo_correlation": evidence_of_values(
            "loo_correlation", values["loo_correlation"], ceiling=ceiling, settings=removal
        ),
        "adversarial_attention": adversary_of_values(
            values["max_jsd"],
            values["upper_bound"],
            farthest(values["smallest"].numpy()),
            values["length"],
            settings=settings,
        ),
        "single_weight_erasure": evidence_of_values(
            "single_weight_erasure", values["single_weight_erasure"], settings=settings
        ),
    }
    if PLANTED in values:
        # Judged as leave-one-out is, with an importance that nobody has outside of planted models.
        given = evidence_of_values("loo_correlation", values[PLANTED])
        found[PLANTED] = replace(given, quantity="tau with the planted importance")
    return found


def _cells(
    counts: Mapping[tuple[str, str, int, str], int], cases: Sequence[Case]
) -> tuple[VerdictCell, ...]:
    answers = {case.name: case.answers for case in cases}
    asked = dict.fromkeys(key[:3] for key in counts)
    return tuple(
        VerdictCell(
            case,
            test,
            size,
            answers[case].get(test, ""),
            *(
                counts.get((case, test, size, conclusion), 0)
                for conclusion in ("supports", "contradicts", "cannot tell")
            ),
        )
        for case, test, size in asked
    )
