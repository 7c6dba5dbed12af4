"""All verdicts in one paragraph, which claims no more than was tested."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from faithattn.audits.evidence import (
    CANNOT_TELL,
    CONTRADICTS,
    SUPPORTS,
    Evidence,
    Failure,
    Verdict,
)
from faithattn.audits.verdicts.claims import CLAIMS
from faithattn.audits.verdicts.thresholds import Thresholds

_BEYOND = (
    "Nothing here is about other data, other attention of the model, or the model after another "
    "training"
)

_FEW = 3  # attentions that have a paragraph, or are named
_KINDS = (SUPPORTS, CONTRADICTS, CANNOT_TELL)


def overall(
    verdicts: Sequence[Verdict],
    evidences: Sequence[Evidence],
    thresholds: Thresholds,
    *,
    n: int,
    failures: Sequence[Failure] = (),
) -> str:
    """Sums verdicts up in plain words.

    Tests ask different questions, so none outvotes another: the paragraph says
    what each found, whether they agree, and what nobody tested.

    Args:
        verdicts: Of :func:`judge`, in the order of ``evidences``.
        evidences: What they were judged by.
        thresholds: Where the lines were.
        n: Number of instances of the audit.
        failures: What failed on which batch.

    Returns:
        A paragraph without line breaks.

    Examples:
        >>> overall([], [], Thresholds(), n=3).startswith("On these 3 instances no test was run")
        True
    """
    instances = "this 1 instance" if n == 1 else f"these {n:,} instances"
    if not verdicts:
        return f"On {instances} no test was run, so there is nothing to say about attention."
    views = list(dict.fromkeys(verdict.view for verdict in verdicts))
    parts = []
    if len(views) > _FEW:
        parts.append(_of_many(f"On {instances}", len(views), verdicts))
    else:
        for view in views:
            here = [
                (verdict, evidence)
                for verdict, evidence in zip(verdicts, evidences, strict=True)
                if verdict.view == view
            ]
            parts.append(_of_view(f"On {instances}", view if len(views) > 1 else "", here))
    parts.append(_untested({verdict.metric for verdict in verdicts}))
    parts += _failed(failures)
    if thresholds != Thresholds():
        parts.append("The thresholds were changed from those that were calibrated.")
    return " ".join([*filter(None, parts), f"{_BEYOND}."])


def _of_many(start: str, count: int, verdicts: Sequence[Verdict]) -> str:
    """For how many attentions each test found what."""
    found: dict[str, dict[str, list[str]]] = {}
    for each in verdicts:
        if each.metric in CLAIMS:
            kinds = found.setdefault(each.metric, {kind: [] for kind in _KINDS})
            kinds[each.conclusion].append(each.view)
    parts = [f"{start}, each of {count} attentions was judged by itself."]
    for metric, kinds in found.items():
        claim = CLAIMS[metric]
        words = {SUPPORTS: claim.yes, CONTRADICTS: claim.no}
        told = [f"{words[kind]} for {_named(kinds[kind])}" for kind in words if kinds[kind]]
        told += [f"undecided for {len(kinds[CANNOT_TELL])}"] if kinds[CANNOT_TELL] else []
        test = claim.test[0].upper() + claim.test[1:]
        parts.append(f"{test}: {'; '.join(told)}.")
    others = dict.fromkeys(each.metric for each in verdicts if each.metric not in CLAIMS)
    if others:
        parts.append(f"Not counted, as they do not decide this: {_listed(others)}.")
    parts.append("Of many attentions, some stand out by chance.")
    return " ".join(parts)


def _named(views: Sequence[str]) -> str:
    """How many views, and which, where they are few."""
    names = f" (“{'”, “'.join(views)}”)" if len(views) <= _FEW else ""
    return f"{len(views)}{names}"


def _untested(ran: set[str]) -> str:
    """What no test that was run asks."""
    missing = [claim.untested for name, claim in CLAIMS.items() if name not in ran]
    return f"Not tested: {_listed(filter(None, missing))}." if any(missing) else ""


def _of_view(start: str, view: str, pairs: Sequence[tuple[Verdict, Evidence]]) -> str:
    """What the tests of one view found, and whether they agree."""
    name = f", for the attention “{view}”," if view else ""
    known = [pair for pair in pairs if pair[0].metric in CLAIMS]
    told = [_finding(*pair) for pair in known if pair[0].conclusion != CANNOT_TELL]
    open_ = [
        CLAIMS[verdict.metric].test for verdict, _ in known if verdict.conclusion == CANNOT_TELL
    ]
    parts = [
        f"{start}{name} {'; '.join(told)}." if told else f"{start}{name} no test could tell.",
        _agreement([verdict for verdict, _ in known]),
    ]
    if told and open_:
        parts.append(f"Could not tell: {_listed(open_)}.")
    others = [verdict.metric for verdict, _ in pairs if verdict.metric not in CLAIMS]
    if others:
        parts.append(f"Not counted, as they do not decide this: {_listed(others)}.")
    return " ".join(filter(None, parts))


def _finding(verdict: Verdict, evidence: Evidence) -> str:
    """One result, with its number."""
    claim = CLAIMS[verdict.metric]
    words = claim.yes if verdict.conclusion == SUPPORTS else claim.no
    undefined = evidence.overall.undefined
    without = f"; {undefined:,} instances undefined" if undefined else ""
    return f"{words} ({claim.test}: {verdict.because}{without})"


def _agreement(verdicts: Sequence[Verdict]) -> str:
    """Whether the tests agree, without counting them."""
    names = {
        conclusion: [CLAIMS[each.metric].test for each in verdicts if each.conclusion == conclusion]
        for conclusion in (SUPPORTS, CONTRADICTS)
    }
    yes, no = names[SUPPORTS], names[CONTRADICTS]
    if yes and no:
        return (
            f"The tests disagree: {_listed(yes)} {_verb(yes, 'support')} attention as an "
            f"explanation, {_listed(no)} {_verb(no, 'contradict')} it. They ask different "
            "questions, and none outvotes another."
        )
    if no:
        return (
            f"{_first(no)} {_verb(no, 'contradict')} attention as an explanation; no test that was "
            "run supports it."
        )
    if yes:
        return (
            f"{_first(yes)} {_verb(yes, 'support')} attention as an explanation, in what was asked "
            "and no more; no test that was run contradicts it, which does not show that it is one."
        )
    return "That is no evidence for attention as an explanation, and none against it."


def _verb(names: Sequence[str], plural: str) -> str:
    # "gradients" is the one name that is plural by itself.
    return plural if len(names) > 1 or names[0].endswith("gradients") else f"{plural}s"


def _first(names: Sequence[str]) -> str:
    text = _listed(names)
    return text[0].upper() + text[1:]


def _failed(failures: Sequence[Failure]) -> list[str]:
    if not failures:
        return []
    batches = {failure.batch for failure in failures}
    many = "1 batch" if len(batches) == 1 else f"{len(batches)} batches"
    metrics = sorted({failure.metric for failure in failures if failure.metric})
    what = f" ({_listed(metrics)})" if metrics else ""
    return [f"Something failed on {many}{what}; those instances count as undefined."]


def _listed(names: Iterable[str]) -> str:
    several = list(names)
    return several[0] if len(several) == 1 else f"{', '.join(several[:-1])} and {several[-1]}"
