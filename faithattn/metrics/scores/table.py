"""The metrics by name."""

from __future__ import annotations

from faithattn.metrics.scores import agreement, people, removals, weights
from faithattn.metrics.scores.question import Score

_UP, _DOWN = True, False
# What docs/calibration.md found wanting, and a test holds against it.
_DEPTH = (
    "Whether a model uses its attention they tell less surely the more its states are mixed "
    "before attention reads them."
)
_CLOSE = "Two models that use their attention almost alike it does not tell apart in short texts."
_SCORES = (
    "They compare explanations of one model, and do not tell whether a model uses its attention."
)
_ALL = (
    Score(
        "gradient_correlation",
        "tau with gradients",
        _UP,
        caution=_DEPTH,
        compute=agreement.gradient_tau,
    ),
    Score(
        "loo_correlation", "tau with leave-one-out", _UP, caution=_DEPTH, compute=agreement.loo_tau
    ),
    Score(
        "permutation_test",
        "median TVD of shuffles",
        _UP,
        attention_only=True,
        compute=weights.median_change,
    ),
    Score(
        "adversarial_attention",
        "eps-max JSD",
        _DOWN,
        attention_only=True,
        caution=_CLOSE,
        compute=weights.farthest,
    ),
    Score(
        "single_weight_erasure",
        "JSD without the top weight, less another",
        _UP,
        attention_only=True,
        compute=weights.top_weight,
    ),
    Score(
        "erasure_to_flip",
        "share of weights to the flip",
        _DOWN,
        caution=_DEPTH,
        compute=weights.until_flip,
    ),
    Score(
        "comprehensiveness",
        "fall without the top",
        _UP,
        caution=_SCORES,
        compute=removals.comprehensiveness,
    ),
    Score(
        "sufficiency",
        "fall with the top alone",
        _DOWN,
        caution=_SCORES,
        compute=removals.sufficiency,
    ),
    Score(
        "log_odds", "log-odds fall without the top", _UP, caution=_SCORES, compute=removals.log_odds
    ),
    Score(
        "deletion_area",
        "area under deletion",
        _DOWN,
        caution=_SCORES,
        compute=removals.deletion_area,
    ),
    Score(
        "insertion_area",
        "area under insertion",
        _UP,
        caution=_SCORES,
        compute=removals.insertion_area,
    ),
    Score(
        "normalized_aopc",
        "AOPC from worst to best order",
        _UP,
        caution=_SCORES,
        compute=removals.scaled_comprehensiveness,
        by_default=False,  # its beam takes 5 T^2 forward passes of a text
    ),
    Score(
        "soft_comprehensiveness",
        "soft comprehensiveness",
        _UP,
        caution=_SCORES,
        compute=removals.soft_comprehensiveness,
    ),
    Score(
        "soft_sufficiency",
        "soft sufficiency",
        _UP,
        caution=_SCORES,
        compute=removals.soft_sufficiency,
    ),
    Score(
        "infidelity",
        "infidelity to removed subsets",
        _DOWN,
        caution=_DEPTH,
        compute=removals.misfit,
    ),
    Score(
        "faithfulness_violation",
        "share of violations",
        _DOWN,
        share=True,
        caution=_SCORES,
        compute=agreement.violation,
    ),
    Score(
        "polarity_agreement",
        "weight of the right sign",
        _UP,
        caution=_SCORES,
        compute=agreement.polarity,
    ),
    Score(
        "average_precision",
        "average precision of the rationale",
        _UP,
        kind="plausibility",
        compute=people.precision,
    ),
    Score(
        "rationale_mass",
        "share of weight on the rationale",
        _UP,
        kind="plausibility",
        compute=people.mass,
    ),
    Score("token_f1", "token F1 of the rationale", _UP, kind="plausibility", compute=people.f1),
)
SCORES: dict[str, Score] = {score.name: score for score in _ALL}
