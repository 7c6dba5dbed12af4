"""What calibrate() is asked, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from faithattn._checks import require_count
from faithattn.importance.leave_one_out import Removal, check_removal
from faithattn.metrics.scores.question import Score
from faithattn.metrics.scores.table import SCORES

_LONGEST = 1024  # words of a text


@dataclass(frozen=True)
class Plan:
    """What is asked, checked."""

    metrics: list[Score]
    places: list[tuple[int, int]]
    sizes: tuple[int, ...]
    contrasts: tuple[float, ...]
    n_pairs: int
    seed: int


def check_arguments(
    metrics: Iterable[str | Score] | None,
    *,
    lengths: Sequence[int],
    depths: Sequence[int],
    sizes: Sequence[int],
    n_pairs: int,
    seed: int,
    removal: Removal = "delete",
) -> None:
    """Raises what :func:`calibrate` would raise about its arguments, before any work."""
    check_removal(removal)
    checked_plan(metrics, lengths, depths, sizes, (1.0,), n_pairs, seed)


def checked_plan(
    metrics: Iterable[str | Score] | None,
    lengths: Sequence[int],
    depths: Sequence[int],
    sizes: Sequence[int],
    contrasts: Sequence[float],
    n_pairs: int,
    seed: int,
) -> Plan:
    """Checks every argument."""
    return Plan(
        _chosen(metrics),
        [
            (length, depth)
            for length in _counts("lengths", lengths, least=2, most=_LONGEST)
            for depth in _counts("depths", depths, least=0)
        ],
        _counts("sizes", sizes),
        _contrasts(contrasts),
        require_count("n_pairs", n_pairs),
        require_count("seed", seed, least=0),
    )


def _chosen(metrics: Iterable[str | Score] | None) -> list[Score]:
    """The metrics that are asked for, each once."""
    if metrics is None:
        usual = [score for score in SCORES.values() if score.by_default]
        return [score for score in usual if score.kind == "faithfulness"]
    asked = [metrics] if isinstance(metrics, str | Score) else metrics
    if not isinstance(asked, Iterable):
        raise TypeError(
            f"metrics must be names or Score objects; got {type(metrics).__name__}. "
            f"Names are {', '.join(_names())}."
        )
    found: dict[str, Score] = {}
    for each in asked:
        if not isinstance(each, str | Score):
            raise TypeError(
                f"metrics must be names or Score objects; got {type(each).__name__}. "
                f"Names are {', '.join(_names())}."
            )
        if isinstance(each, str) and each not in SCORES:
            raise ValueError(
                f"metrics must be among {', '.join(_names())}; got {each!r}. Choose some of these."
            )
        score = SCORES[each] if isinstance(each, str) else each
        if score.kind != "faithfulness":
            raise ValueError(
                f"metrics must measure faithfulness; got {score.name!r}, which measures "
                f"{score.kind}. Leave it out: the pairs say nothing about it."
            )
        found[score.name] = score
    if not found:
        raise ValueError("metrics must hold a metric; got none. Pass None for all.")
    return list(found.values())


def _names() -> list[str]:
    return [name for name, score in SCORES.items() if score.kind == "faithfulness"]


def _counts(
    name: str, values: Sequence[int], *, least: int = 1, most: int | None = None
) -> tuple[int, ...]:
    """Several whole numbers, ascending, each once."""
    _require_several(name, values)
    counts = sorted({require_count(name, value, least=least) for value in values})
    if not counts:
        raise ValueError(f"{name} must hold a number; got none. Pass one or more.")
    if most is not None and counts[-1] > most:
        raise ValueError(
            f"{name} must be at most {most}; got {counts[-1]}. Longer texts tell no more."
        )
    return tuple(counts)


def _require_several(name: str, values: object) -> None:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence of numbers; got {values!r}. Put it in a tuple.")


def _contrasts(values: Sequence[float]) -> tuple[float, ...]:
    _require_several("contrasts", values)
    if not all(isinstance(value, int | float) for value in values):
        raise TypeError(f"contrasts must be numbers; got {list(values)}. Leave them out.")
    contrasts = sorted({float(value) for value in values})
    if not contrasts or not all(0 < value <= 1 for value in contrasts):
        raise ValueError(
            f"contrasts must lie above 0 and at most at 1; got {list(values)}. Leave them out."
        )
    return tuple(contrasts)
