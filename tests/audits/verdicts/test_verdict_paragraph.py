"""The paragraph says what was found and what was not tested, and claims no more."""

from __future__ import annotations

import itertools
import re

import pytest

from faithattn.audits.evidence import Evidence, Failure, Verdict
from faithattn.audits.verdicts.claims import CLAIMS
from faithattn.audits.verdicts.summing import overall
from faithattn.audits.verdicts.thresholds import Thresholds
from faithattn.statistics import Statistics

FOUR = ("permutation_test", "gradient_correlation", "loo_correlation", "adversarial_attention")
CONCLUSIONS = ("supports", "contradicts", "cannot tell")
# What no test of this library can show.
FORBIDDEN = re.compile(
    r"\bfaithful|\bprov(e|es|ed)\b|\bproof|\bcaus|\bsignificant|\balways\b|\bnever\b"
    r"|\btrust|\bmost tests\b|\bmajority\b|\bscore of\b|\bcorrect\b|\bthe reason\b|\bclearly\b",
    re.IGNORECASE,
)


def statistics(undefined: int = 0) -> Statistics:
    return Statistics(1725, undefined, 0.5, 0.1, 0.4, 0.5, 0.6, 0.4, 0.6, None)


def said(
    conclusions: dict[str, str], *, view: str = "", undefined: int = 0
) -> tuple[list[Verdict], list[Evidence]]:
    verdicts = [Verdict(name, view, each, "rule", "numbers") for name, each in conclusions.items()]
    evidences = [
        Evidence(name, view, "quantity", True, statistics(undefined)) for name in conclusions
    ]
    return verdicts, evidences


def paragraph(conclusions: dict[str, str], **more: int) -> str:
    return overall(*said(conclusions, **more), Thresholds(), n=1725)


@pytest.mark.parametrize("conclusions", list(itertools.product(CONCLUSIONS, repeat=4)))
def test_every_outcome_of_the_four_tests(conclusions: tuple[str, ...]) -> None:
    found = dict(zip(FOUR, conclusions, strict=True))
    text = paragraph(found)
    assert text.startswith("On these 1,725 instances ")
    assert not FORBIDDEN.search(text), text
    assert "Not tested" not in text and "\n" not in text
    assert text.endswith("or the model after another training.")
    for name, conclusion in found.items():
        claim = CLAIMS[name]
        assert (claim.yes in text) == (conclusion == "supports")
        assert (claim.no in text) == (conclusion == "contradicts")
    yes, no = "supports" in conclusions, "contradicts" in conclusions
    assert ("The tests disagree" in text) == (yes and no)
    assert ("none outvotes another" in text) == (yes and no)
    assert ("which does not show that it is one" in text) == (yes and not no)
    assert ("no test that was run supports it" in text) == (no and not yes)
    assert ("no evidence for attention as an explanation, and none against" in text) == (
        not yes and not no
    )
    assert ("Could not tell" in text) == ("cannot tell" in conclusions and (yes or no))


def test_the_numbers_that_decided_are_in_it() -> None:
    text = paragraph({"permutation_test": "supports"}, undefined=12)
    assert "(shuffling: numbers; 12 instances undefined)" in text


@pytest.mark.parametrize("name", FOUR)
def test_what_nobody_ran_is_said(name: str) -> None:
    text = paragraph({each: "supports" for each in FOUR if each != name})
    assert f"Not tested: {CLAIMS[name].untested}." in text
    assert CLAIMS[name].yes not in text.split("Not tested")[0]


def test_metrics_that_do_not_decide_are_not_counted() -> None:
    with_others = {
        "permutation_test": "contradicts",
        "comprehensiveness": "cannot tell",
        "own": "x",
    }
    text = paragraph(with_others | {"own": "cannot tell"})
    assert "Not counted, as they do not decide this: comprehensiveness and own." in text
    assert "no test that was run supports it" in text
    only = paragraph({"comprehensiveness": "cannot tell"})
    assert "no test could tell" in only and "none against it" in only


def test_a_lone_name_takes_the_verb_that_fits() -> None:
    assert ". Shuffling supports attention as" in paragraph(
        {"permutation_test": "supports", "loo_correlation": "cannot tell"}
    )
    assert ". Gradients support attention" in paragraph({"gradient_correlation": "supports"})
    assert ". Gradients and leave-one-out contradict attention" in paragraph(
        {"gradient_correlation": "contradicts", "loo_correlation": "contradicts"}
    )
    assert "disagree: shuffling supports attention as an explanation, gradients contradict" in (
        paragraph({"permutation_test": "supports", "gradient_correlation": "contradicts"})
    )


def test_views_do_not_mix() -> None:
    first = said({"permutation_test": "supports"}, view="layer 1")
    second = said({"permutation_test": "contradicts"}, view="layer 2")
    text = overall(first[0] + second[0], first[1] + second[1], Thresholds(), n=20)
    assert "for the attention “layer 1”, the output depends on" in text
    assert "for the attention “layer 2”, the output is almost the same" in text
    assert "disagree" not in text
    assert "“" not in overall(*first, Thresholds(), n=20)


def test_failures_and_changed_thresholds_are_said() -> None:
    failures = [
        Failure(0, (0, 3), "loo_correlation", "no"),
        Failure(0, (0, 3), "permutation_test", "no"),
        Failure(4, (16, 19), "", "out of memory"),
    ]
    found = said({"permutation_test": "supports"})
    text = overall(*found, Thresholds(least_tau=0.5), n=1, failures=failures)
    assert text.startswith("On this 1 instance ")
    assert (
        "Something failed on 2 batches (loo_correlation and permutation_test); those instances "
        "count as undefined."
    ) in text
    assert "thresholds were changed from those that were calibrated" in text
    text = overall(*found, Thresholds(), n=1, failures=failures[2:])
    assert "failed on 1 batch; those" in text and "thresholds" not in text


def test_nothing_was_run() -> None:
    assert overall([], [], Thresholds(), n=2) == (
        "On these 2 instances no test was run, so there is nothing to say about attention."
    )


def test_many_attentions_are_counted_and_few_of_them_named() -> None:
    conclusions = ["supports", "supports", *["contradicts"] * 4, "cannot tell"]
    verdicts, evidences = [], []
    for number, conclusion in enumerate(conclusions):
        some = said(
            {"loo_correlation": conclusion, "sufficiency": "cannot tell"}, view=f"h{number}"
        )
        verdicts += some[0]
        evidences += some[1]
    text = overall(verdicts, evidences, Thresholds(), n=1725)
    claim = CLAIMS["loo_correlation"]
    assert text.startswith("On these 1,725 instances, each of 7 attentions was judged by itself.")
    assert (
        f"Leave-one-out: {claim.yes} for 2 (“h0”, “h1”); {claim.no} for 4; undecided for 1." in text
    )
    assert text.count("Not tested:") == 1 and "permutation_test" in text
    assert text.count("sufficiency") == 1
    assert not FORBIDDEN.search(text), text


def test_from_four_attentions_on_they_are_counted() -> None:
    for count in (3, 4):
        several = [said({"loo_correlation": "supports"}, view=f"h{each}") for each in range(count)]
        verdicts, evidences = ([one for each in several for one in each[k]] for k in (0, 1))
        text = overall(verdicts, evidences, Thresholds(), n=20)
        assert ("each of 4 attentions" in text) is (count == 4)
        assert ("for the attention “h2”" in text) is (count == 3)
