"""The bootstrap of a mean, or of the difference of two: bias-corrected and accelerated (BCa)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from faithattn.statistics.moments import cornish_fisher, cumulants_of_mean
from faithattn.statistics.values import Sample, Values

RESAMPLES = 2000
# Below so many values the normal quantiles of BCa cover 91 to 93 %: Student's are taken.
FEW_VALUES = 50
# Below so many clusters BCa has nothing to learn a shape from.
FEW_CLUSTERS = 10
# From so many on the quantiles are computed rather than drawn, unless the mean is still skewed.
MANY = 2000
_NEARLY_NORMAL = 0.3
_CHUNK = 2**21
# What varies less has powers that double precision cannot hold.
_LEAST_SPREAD = 1e-60


def interval(samples: Sequence[Sample], confidence: float) -> tuple[float, float]:
    """Of the mean of one sample, or of that of the first less that of the second."""
    if not is_defined(samples):
        return math.nan, math.nan
    ends = _constant(samples)
    if ends is not None:
        return ends
    if any(sample.clustered and len(sample) < FEW_CLUSTERS for sample in samples):
        return _by_student(samples, confidence)
    return _accelerated(samples, confidence)


def difference(samples: Sequence[Sample]) -> float:
    """The mean, or the first mean less the second."""
    return samples[0].mean - (samples[1].mean if len(samples) > 1 else 0.0)


def standard_error(samples: Sequence[Sample]) -> float:
    """Of the mean or the difference, by the jackknife."""
    return math.sqrt(sum(sample.spread**2 for sample in samples))


def degrees(samples: Sequence[Sample]) -> float:
    """Degrees of freedom of the standard error: Welch and Satterthwaite's."""
    parts = [sample.spread**2 for sample in samples]
    own = sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, samples, strict=True))
    return sum(parts) ** 2 / own


def cumulants(samples: Sequence[Sample]) -> tuple[float, float, float, float]:
    """Bootstrap standard deviation of the mean or difference, and its standardised cumulants 3-5.

    Of ratios of sums to first order in the influences, which is what BCa's
    acceleration is made of.
    """
    found = np.zeros(4)
    for place, sample in enumerate(samples):
        signs = np.array([1, -1, 1, -1]) if place else np.ones(4)
        found += signs * cumulants_of_mean(sample.influence)
    deviation = math.sqrt(found[0])
    third, fourth, fifth = (found[1:] / deviation ** np.arange(3, 6)).tolist()
    return deviation, third, fourth, fifth


def is_defined(samples: Sequence[Sample]) -> bool:
    """Whether every sample has two units, and no infinite value, of which no mean has a spread."""
    return all(len(sample) > 1 and bool(np.isfinite(sample.sums).all()) for sample in samples)


def is_constant(samples: Sequence[Sample]) -> bool:
    """Whether no sample varies by more than rounding."""
    return _constant(samples) is not None


def resampled(samples: Sequence[Sample]) -> Values:
    """Means or differences of resamples, drawn with a fixed seed of their own."""
    generator = np.random.default_rng(0)
    means = [_means_of(sample, generator) for sample in samples]
    return means[0] - means[1] if len(means) > 1 else means[0]


def _means_of(sample: Sample, generator: np.random.Generator) -> Values:
    """Means of resamples of one sample."""
    if _nearly_normal(sample):
        # What resamples of so many would give to a hundredth of a standard error, without them.
        deviation, *others = cumulants([sample])
        return sample.mean + deviation * cornish_fisher(
            generator.standard_normal(RESAMPLES), *others
        )
    batch = max(1, _CHUNK // len(sample))
    return np.concatenate(
        [
            _drawn(sample, min(batch, RESAMPLES - start), generator)
            for start in range(0, RESAMPLES, batch)
        ]
    )


def _drawn(sample: Sample, rows: int, generator: np.random.Generator) -> Values:
    """Means of as many units, drawn with replacement, a row each."""
    picked = generator.integers(0, len(sample), (rows, len(sample)))
    means: Values = sample.sums[picked].mean(-1)
    return means / sample.sizes[picked].mean(-1) if sample.clustered else means


def _nearly_normal(sample: Sample) -> bool:
    """Whether cumulants alone tell how the mean of resamples is distributed."""
    if len(sample) < MANY or _constant([sample]) is not None:
        return False
    return abs(cumulants([sample])[1]) < _NEARLY_NORMAL


def _constant(samples: Sequence[Sample]) -> tuple[float, float] | None:
    """Smallest and largest where nothing varies: float noise has no distribution."""
    ends = []
    for sample in samples:
        means = sample.sums / sample.sizes
        if not np.ptp(means) <= max(1e-12 * np.abs(means).max(), _LEAST_SPREAD):
            return None
        ends.append((float(means.min()), float(means.max())))
    if len(ends) == 1:
        return ends[0]
    return ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]


def _by_student(samples: Sequence[Sample], confidence: float) -> tuple[float, float]:
    quantile = special.stdtrit(degrees(samples), (1 + confidence) / 2)
    middle, reach = difference(samples), float(quantile) * standard_error(samples)
    return middle - reach, middle + reach


def _accelerated(samples: Sequence[Sample], confidence: float) -> tuple[float, float]:
    deviation, skewness, kurtosis, fifth = cumulants(samples)
    normal = _quantile(samples, confidence, deviation)
    middle = difference(samples)
    # Few values beside many have Student's quantiles, too far out for the expansion.
    fewest, most = (pick(len(sample) for sample in samples) for pick in (min, max))
    if fewest >= FEW_VALUES and most >= MANY and abs(skewness) < _NEARLY_NORMAL:
        # An Edgeworth expansion gives the bias correction of a mean: its acceleration.
        moved = _moved(normal, skewness / 6, skewness / 6)
        low, high = (
            middle + deviation * cornish_fisher(z, skewness, kurtosis, fifth) for z in moved
        )
        return low, high
    drawn = resampled(samples)
    # A resample of every value once is a tie, in whatever order its sum was rounded.
    slack = 1e-12 * max(abs(middle), deviation)
    ties = np.count_nonzero(np.abs(drawn - middle) <= slack)
    below = np.count_nonzero(drawn < middle - slack) + ties / 2
    bias = float(special.ndtri(below / len(drawn)))
    low, high = np.quantile(drawn, special.ndtr(_moved(normal, bias, skewness / 6))).tolist()
    return low, high


def _quantile(samples: Sequence[Sample], confidence: float, deviation: float) -> float:
    """Normal quantile of the nominal level; Student's, rescaled, except for many single values.

    The bootstrap's standard deviation is that of the n values, divided by n;
    the rescaling takes it to the jackknife's (Hesterberg's expanded percentiles).
    """
    level = (1 + confidence) / 2
    few = any(sample.clustered or len(sample) < FEW_VALUES for sample in samples)
    if few or len(samples) > 1:
        student = float(special.stdtrit(degrees(samples), level))
        return student * standard_error(samples) / deviation
    return float(special.ndtri(level))


def _moved(normal: float, bias: float, acceleration: float) -> list[float]:
    """Both ends, as normal quantiles, after bias correction and acceleration."""
    ends = []
    for quantile in (bias - normal, bias + normal):
        slope = 1 - acceleration * quantile
        ends.append(bias + quantile / slope if slope > 0 else math.copysign(math.inf, quantile))
    return ends
