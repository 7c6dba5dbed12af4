"""Any other metric of the library, or of the user, in an audit."""

from __future__ import annotations

from dataclasses import replace

from faithattn.audits.measuring.subject import Subject, Values
from faithattn.metrics.scores.question import (
    LEAVE_ONE_OUT,
    READING,
    SIGNED_LEAVE_ONE_OUT,
    Question,
    Score,
)

# They ask which sign the effect of a removal has.
SIGNED = frozenset(["faithfulness_violation", "polarity_agreement"])


def score(subject: Subject, asked: Score) -> Values:
    """Values of the attention, and of random scores where the metric takes any."""
    question = _question(subject)
    if asked.name in SIGNED:
        removed = subject.shared.removed(subject.name, subject.removal)
        question.once(LEAVE_ONE_OUT, lambda: removed.unsigned)
        if removed.signed is not None:
            question.once(SIGNED_LEAVE_ONE_OUT, lambda: removed.signed)
    values = {"value": asked.values(question)}
    if subject.controls and not asked.attention_only:
        values["random"] = asked.values(replace(question, explanation="random"))
    return values


def _question(subject: Subject) -> Question:
    """What the metrics of a view are asked: one, so that they share what they compute."""

    def make() -> Question:
        question = Question(
            subject.model,
            subject.inputs,
            view=subject.view,
            target=subject.target,
            removal=subject.removal,
            seed=subject.seed,
            instances=subject.ids,
            rationale=subject.rationale,
        )
        question.once(READING, lambda: subject.reading)
        return question

    return subject.shared.own.once(("question", subject.name), make)
