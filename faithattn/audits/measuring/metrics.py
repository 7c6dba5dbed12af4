"""The tests as an audit knows them: their options, their columns, and how they are measured."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from faithattn._checks import require_count
from faithattn.audits.measuring import correlations, interventions
from faithattn.audits.measuring.subject import Subject, Values
from faithattn.importance.leave_one_out import check_removal, expected_replays
from faithattn.measures.rank import tolerance_pair
from faithattn.metrics.adversarial.attention import adversarial_attention
from faithattn.metrics.adversarial.methods import Wanted
from faithattn.metrics.correlation import gradient_correlation, loo_correlation
from faithattn.metrics.erasure.flip import erasure_to_flip, replays_to_flip
from faithattn.metrics.erasure.orders import named_orders
from faithattn.metrics.erasure.single import replays_of_single, single_weight_erasure
from faithattn.metrics.permutation import permutation_test

Options = Mapping[str, Any]
Fields = tuple[tuple[str, str], ...]

FLOAT, INT, BOOL = "float64", "int64", "bool"
# What belongs to a batch, or to the audit as a whole.
_NO_OPTIONS = frozenset(["model", "inputs", "seed", "instances", "view", "target", "groups"])
_ORDERED = ("censored", "fraction", "removed_mass", "count", "flipped")


@dataclass(frozen=True)
class Metric:
    """A test.

    Attributes:
        function: The public function, whose keywords are its options.
        check: Raises for options that are out of range, all given.
        fields: Names and kinds of its columns.
        controls: Those of the same quantity for another explanation.
        measure: Its values by field.
        replays: How many outputs under other attention it asks for, about.
    """

    function: Callable[..., object]
    check: Callable[..., object]
    fields: Callable[[Options], Fields]
    controls: tuple[str, ...]
    measure: Callable[[Subject, Options], Values]
    replays: Callable[[Options], int]

    @property
    def defaults(self) -> dict[str, Any]:
        """Its options, as they are where nothing is said."""
        known = inspect.signature(self.function).parameters.values()
        return {each.name: each.default for each in known if each.name not in _NO_OPTIONS}


def _floats(*names: str) -> Callable[[Options], Fields]:
    return lambda _: tuple((name, FLOAT) for name in names)


def _fields_of_flips(options: Options) -> Fields:
    orders = named_orders(options["orders"])
    return tuple((f"{name}_{order}", FLOAT) for name in _ORDERED for order in orders)


def _check_permutation(*, n_permutations: object) -> None:
    require_count("n_permutations", n_permutations)


def _check_adversary(**options: Any) -> None:
    limits = Wanted.checked(**options).constraints
    if limits is not None and limits.positions is not None:
        raise ValueError(
            "constraints must not name positions, which differ from text to text; "
            f"got {tuple(limits.positions.shape)}. Call adversarial_attention for one batch."
        )


def _check_gradient(*, detach_attention: object, tie_tolerance: object) -> None:
    _require_flag("detach_attention", detach_attention)
    tolerance_pair(tie_tolerance)


def _check_loo(*, removal: Any, tie_tolerance: object) -> None:
    check_removal(removal)
    tolerance_pair(tie_tolerance)


def _check_single(*, renormalize: object, n_random: object) -> None:
    _require_flag("renormalize", renormalize)
    if n_random is not None:
        require_count("n_random", n_random)


def _check_flip(*, orders: Any, renormalize: object, n_random: object) -> None:
    _require_flag("renormalize", renormalize)
    require_count("n_random", n_random)
    if any(isinstance(order, Tensor) for order in named_orders(orders).values()):
        raise ValueError(
            "orders must be names in an audit; got scores (B, L), which belong to one batch. "
            "Call erasure_to_flip for it."
        )


def _require_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {value!r}. Pass one of the two.")


METRICS: dict[str, Metric] = {
    "gradient_correlation": Metric(
        gradient_correlation,
        _check_gradient,
        _floats("statistic", "pvalue"),
        ("random",),
        correlations.gradient,
        lambda _: 0,
    ),
    "loo_correlation": Metric(
        loo_correlation,
        _check_loo,
        _floats("statistic", "pvalue"),
        ("random",),
        correlations.leave_one_out,
        lambda options: expected_replays(check_removal(options["removal"])),
    ),
    "permutation_test": Metric(
        permutation_test,
        _check_permutation,
        lambda _: (
            *((name, FLOAT) for name in ("median_tvd", "pvalue", "median_low", "median_high")),
            ("exact", BOOL),
            *((name, FLOAT) for name in ("pvalue_error", "effect", "effect_spread")),
        ),
        ("uniform",),
        interventions.permutation,
        lambda options: int(options["n_permutations"]),
    ),
    "adversarial_attention": Metric(
        adversarial_attention,
        _check_adversary,
        lambda _: (
            *((name, FLOAT) for name in ("max_jsd", "upper_bound", "farthest")),
            ("certified", BOOL),
        ),
        ("uniform",),
        interventions.adversary,
        lambda options: Wanted.checked(**options).alternatives,
    ),
    "single_weight_erasure": Metric(
        single_weight_erasure,
        _check_single,
        lambda _: (
            *((name, FLOAT) for name in ("flipped_top", "flipped_other")),
            *((name, FLOAT) for name in ("change_top", "change_other")),
            *((name, FLOAT) for name in ("delta_change", "delta_attention")),
            ("n_others", INT),
            ("exact", BOOL),
        ),
        (),
        interventions.single_erasure,
        lambda options: replays_of_single(options["n_random"]),
    ),
    "erasure_to_flip": Metric(
        erasure_to_flip,
        _check_flip,
        _fields_of_flips,
        (),
        interventions.flip,
        lambda options: replays_to_flip(named_orders(options["orders"]), options["n_random"]),
    ),
}
TESTS = ("gradient_correlation", "loo_correlation", "permutation_test", "adversarial_attention")
CEILING = "gradient_loo"  # agreement of both importances, where both are there
