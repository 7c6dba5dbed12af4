"""Assertions about faithfulness for test suites."""

from faithattn.testing.asserting import (
    assert_adversarial_distance,
    assert_erasure_to_flip,
    assert_gradient_correlation,
    assert_loo_correlation,
    assert_metric,
    assert_permutation_effect,
    assert_single_weight_erasure,
)
from faithattn.testing.checking import check_baseline
from faithattn.testing.finding import Finding

__all__ = [
    "Finding",
    "assert_adversarial_distance",
    "assert_erasure_to_flip",
    "assert_gradient_correlation",
    "assert_loo_correlation",
    "assert_metric",
    "assert_permutation_effect",
    "assert_single_weight_erasure",
    "check_baseline",
]
