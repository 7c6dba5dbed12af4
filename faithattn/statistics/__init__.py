"""Per-instance values summed up honestly: intervals, corrections, power, comparisons."""

from faithattn.statistics.differences import Difference, compare_means
from faithattn.statistics.intervals import mean_bound, mean_interval
from faithattn.statistics.nulls import (
    LengthBins,
    length_bins,
    null_band,
    null_bands_by_length,
    null_spread,
)
from faithattn.statistics.power import design_effect, minimum_detectable_effect
from faithattn.statistics.pvalues import SIGNIFICANCE, benjamini_hochberg, mean_pvalue
from faithattn.statistics.summary import (
    ATTENTION_BINS,
    Statistics,
    Summary,
    describe,
    median_ranks,
    none_if_nan,
    summarize,
)

__all__ = [
    "ATTENTION_BINS",
    "SIGNIFICANCE",
    "Difference",
    "LengthBins",
    "Statistics",
    "Summary",
    "benjamini_hochberg",
    "compare_means",
    "describe",
    "design_effect",
    "length_bins",
    "mean_bound",
    "mean_interval",
    "mean_pvalue",
    "median_ranks",
    "minimum_detectable_effect",
    "none_if_nan",
    "null_band",
    "null_bands_by_length",
    "null_spread",
    "summarize",
]
