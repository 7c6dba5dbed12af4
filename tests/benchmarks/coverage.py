"""``python -m tests.benchmarks.coverage``: how often the statistics are right, by simulation.

Prints the tables of docs/statistics.md, some ten minutes on one core.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from scipy import special

from faithattn.results.shares import share_interval
from faithattn.statistics import (
    benjamini_hochberg,
    compare_means,
    mean_interval,
    mean_pvalue,
    minimum_detectable_effect,
)
from faithattn.statistics.pvalues import studentised
from faithattn.statistics.values import sample_of

Draw = Callable[[np.random.Generator, int], np.ndarray]
Clustered = tuple[np.ndarray, np.ndarray]


def normal(generator: np.random.Generator, size: int) -> np.ndarray:
    return generator.normal(0.3, 0.2, size)


def skewed(generator: np.random.Generator, size: int) -> np.ndarray:
    """Exponential, skewness 2."""
    return generator.exponential(1.0, size)


def tau_like(generator: np.random.Generator, size: int) -> np.ndarray:
    """Bounded by 1 and skewed to the left."""
    return 2 * generator.beta(4, 1.5, size) - 1


def zero_heavy(generator: np.random.Generator, size: int) -> np.ndarray:
    """Six of ten are 0, the others between 0 and 1 and mostly small."""
    return np.where(generator.random(size) < 0.6, 0.0, generator.beta(1, 4, size))


def heavy(generator: np.random.Generator, size: int) -> np.ndarray:
    """Symmetric, excess kurtosis 7.8: as of differences in proportion to a skewed value."""
    return generator.exponential(1.0, size) * generator.uniform(-1, 1, size)


def rare(generator: np.random.Generator, size: int) -> np.ndarray:
    return (generator.random(size) < 0.1) * 1.0


def even(generator: np.random.Generator, size: int) -> np.ndarray:
    return (generator.random(size) < 0.5) * 1.0


DRAWS: dict[str, tuple[Draw, float]] = {
    "normal": (normal, 0.3),
    "exponential": (skewed, 1.0),
    "tau-like": (tau_like, 2 * 4 / 5.5 - 1),
    "heavy-tailed": (heavy, 0.0),
    "zero-heavy": (zero_heavy, 0.4 * 0.2),
    "share .1": (rare, 0.1),
    "share .5": (even, 0.5),
}
SIZES = (20, 24, 30, 50, 200, 2000)


def clustered(generator: np.random.Generator, count: int, draw: Draw) -> Clustered:
    """Clusters of 2 to 11 values that share a part: the correlation within is a third."""
    numbers = np.repeat(np.arange(count), generator.integers(2, 12, count))
    own, shared = draw(generator, len(numbers)), draw(generator, count)
    return own + np.sqrt(0.5) * shared[numbers], numbers


def generator_of(*names: object) -> np.random.Generator:
    """The same draws for the same row, whatever else is printed."""
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


def covered(intervals: Iterable[tuple[float, float]], truth: float) -> float:
    """Share of the intervals that contain the truth; an undefined one does not."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def interval_coverage(name: str, size: int, replications: int) -> float:
    """Of 95 % intervals of the mean."""
    draw, truth = DRAWS[name]
    generator = generator_of(name, size)
    return covered((mean_interval(draw(generator, size)) for _ in range(replications)), truth)


def wilson_coverage(name: str, size: int, replications: int) -> float:
    """Of Wilson's interval, which summaries of shares give."""
    draw, truth = DRAWS[name]
    generator = generator_of(name, size)
    draws = (torch.tensor(draw(generator, size)) for _ in range(replications))
    return covered(map(share_interval, draws), truth)


def bound_coverage(name: str, size: int, replications: int) -> tuple[float, float]:
    """Of lower and upper 95 % bounds of the mean: :func:`mean_bound` is an end of this interval."""
    draw, truth = DRAWS[name]
    generator = generator_of(name, size)
    drawn = (draw(generator, size) for _ in range(replications))
    ends = np.array([mean_interval(values, confidence=0.9) for values in drawn])
    return float(np.mean(ends[:, 0] <= truth)), float(np.mean(ends[:, 1] >= truth))


def cluster_coverage(name: str, count: int, replications: int, *, ignored: bool = False) -> float:
    """Of 95 % intervals of the mean, with the clusters or as if there were none."""
    draw, mean = DRAWS[name]
    generator = generator_of(name, count)
    drawn = (clustered(generator, count, draw) for _ in range(replications))
    intervals = (mean_interval(one, clusters=None if ignored else each) for one, each in drawn)
    return covered(intervals, mean * (1 + np.sqrt(0.5)))


def differences(generator: np.random.Generator, size: int, paired: bool) -> Clustered:
    """Tau-like values whose means differ by .1: pairs that share most of it, or other instances."""
    second = tau_like(generator, size)
    if paired:
        return 0.7 * second + 0.3 * tau_like(generator, size) + 0.1, second
    return tau_like(generator, 2 * size) + 0.1, second


def difference_coverage(size: int, paired: bool, replications: int) -> tuple[float, float]:
    """Of 95 % intervals of a difference of .1, and how often p <= .05 where there is none."""
    generator = generator_of("difference", size, paired)
    hits, rejections = [], []
    for _ in range(replications):
        first, second = differences(generator, size, paired)
        found = compare_means(first, second, paired=paired)
        hits.append(found.low <= 0.1 <= found.high)
        sets = [first - second - 0.1] if paired else [first - 0.1, second]
        rejections.append(studentised([sample_of(each) for each in sets], 0.0) <= 0.05)
    return float(np.mean(hits)), float(np.mean(rejections))


def size_of_test(name: str, size: int, replications: int) -> float:
    """How often p <= .05 for the true mean."""
    draw, truth = DRAWS[name]
    generator = generator_of(name, size)
    found = [mean_pvalue(draw(generator, size), truth) for _ in range(replications)]
    return float(np.mean([each <= 0.05 for each in found]))


def size_of_clustered_test(name: str, count: int, replications: int) -> float:
    """The same with clusters."""
    draw, mean = DRAWS[name]
    truth = mean * (1 + np.sqrt(0.5))
    generator = generator_of(name, count)
    found = []
    for _ in range(replications):
        values, each = clustered(generator, count, draw)
        found.append(mean_pvalue(values, truth, clusters=each) <= 0.05)
    return float(np.mean(found))


def false_discoveries(correlation: float, true: int, replications: int) -> float:
    """Mean share of false among 50 tests rejected at 5 %, ``true`` of which are real."""
    generator = generator_of("discoveries", correlation, true)
    shares = []
    for _ in range(replications):
        common, own = generator.normal(size=1), generator.normal(size=50)
        scores = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
        scores[:true] += 3
        rejected = benjamini_hochberg(special.ndtr(-scores))[0]
        shares.append(rejected[true:].sum() / max(rejected.sum(), 1))
    return float(np.mean(shares))


def power_reached(name: str, size: int, replications: int) -> float:
    """How often the true minimum detectable effect is shown, above and below by turns."""
    draw, truth = DRAWS[name]
    generator = generator_of("power", name, size)
    spread = float(draw(generator, 10**6).std())
    effect = minimum_detectable_effect(spread=spread, n=size)
    away = (truth + (-1) ** turn * effect for turn in range(replications))
    found = [mean_pvalue(draw(generator, size), against) for against in away]
    return float(np.mean([each <= 0.05 for each in found]))


def clustered_power(name: str, count: int, replications: int) -> float:
    """The same with clusters; the effect is the quadratic mean of what samples say."""
    draw, mean = DRAWS[name]
    truth = mean * (1 + np.sqrt(0.5))
    generator = generator_of("power", name, count)
    drawn = [clustered(generator, count, draw) for _ in range(replications)]
    effects = [minimum_detectable_effect(values, clusters=each) for values, each in drawn[:300]]
    away = truth - float(np.sqrt(np.mean(np.square(effects))))
    found = [mean_pvalue(values, away, clusters=each) for values, each in drawn]
    return float(np.mean([each <= 0.05 for each in found]))


def lines(replications: int) -> Iterator[str]:
    """The tables, as Markdown."""
    yield f"{replications:,} replications a figure; * where outside 93 to 97 %.\n"
    yield from _intervals(replications)
    yield from _bounds(replications)
    yield from _clusters(replications)
    yield from _tests(replications)


def _intervals(replications: int) -> Iterator[str]:
    yield from _head("95 % interval of the mean", [f"n = {size:,}" for size in SIZES])
    for name in DRAWS:
        yield _row(name, (interval_coverage(name, size, replications) for size in SIZES))
    for name in ("share .1", "share .5"):
        cells = (wilson_coverage(name, size, replications) for size in SIZES)
        yield _row(f"{name}, Wilson", cells)
    for paired in (True, False):
        cells = (difference_coverage(size, paired, replications)[0] for size in SIZES)
        yield _row(_named(paired), cells)


def _bounds(replications: int) -> Iterator[str]:
    sizes = (20, 50, 200, 2000)
    heads = [f"{side}, n = {size:,}" for size in sizes for side in ("lower", "upper")]
    yield from _head("95 % bound of the mean", heads)
    for name in ("normal", "exponential", "tau-like", "zero-heavy"):
        pairs = (bound_coverage(name, size, replications) for size in sizes)
        yield _row(name, (each for pair in pairs for each in pair))


def _clusters(replications: int) -> Iterator[str]:
    counts = (5, 10, 20, 50, 200)
    yield from _head("95 % interval, clusters of 2 to 11", [f"{count} of them" for count in counts])
    for name in ("normal", "exponential", "tau-like"):
        yield _row(name, (cluster_coverage(name, count, replications) for count in counts))
    few = min(replications, 500)
    cells = (cluster_coverage("normal", count, few, ignored=True) for count in counts)
    yield _row("normal, clusters ignored", cells)


def _tests(replications: int) -> Iterator[str]:
    sizes = (20, 50, 200, 2000)
    yield from _head("p <= .05 under the null hypothesis", [f"n = {size:,}" for size in sizes])
    for name in DRAWS:
        cells = (size_of_test(name, size, replications) for size in sizes)
        yield _row(name, cells, judged=False)
    cells = (size_of_clustered_test("normal", count, replications) for count in (10, 20, 50, 200))
    yield _row("normal, 10, 20, 50, 200 clusters instead", cells, judged=False)
    for paired in (True, False):
        cells = (difference_coverage(size, paired, replications)[1] for size in sizes)
        yield _row(_named(paired), cells, judged=False)
    yield from _head("false discoveries among 50 tests at 5 %", ["none real", "10 real", "25 real"])
    for correlation in (0.0, 0.5, 0.9):
        cells = (false_discoveries(correlation, true, replications) for true in (0, 10, 25))
        yield _row(f"correlation {correlation:g}", cells, judged=False)
    yield from _head("power at the minimum detectable effect", [f"n = {n:,}" for n in sizes])
    for name in ("normal", "exponential", "tau-like"):
        cells = (power_reached(name, size, replications) for size in sizes)
        yield _row(name, cells, judged=False)
    cells = (clustered_power("normal", count, replications) for count in (10, 20, 50, 200))
    yield _row("normal, 10, 20, 50, 200 clusters instead", cells, judged=False)


def _named(paired: bool) -> str:
    return "difference of pairs" if paired else "difference of sets, n and 2 n"


def _head(title: str, columns: list[str]) -> list[str]:
    return [f"\n| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]


def _row(name: str, cells: Iterable[float], *, judged: bool = True) -> str:
    texts = [
        f"{cell:.3f}{'*' if judged and not 0.93 <= cell <= 0.97 else ''}".removeprefix("0")
        for cell in cells
    ]
    return f"| {name} | {' | '.join(texts)} |"


def main() -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.coverage", description=__doc__
    )
    parser.add_argument("--replications", type=int, default=2000, help="a figure (2000)")
    for line in lines(parser.parse_args().replications):
        print(line, flush=True)


if __name__ == "__main__":
    main()
