"""What is learned about a model's calls on the way, and kept for the next run."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import nn

from faithattn.adapters.inputs.source import Path, Source
from faithattn.adapters.interception.layout import Axes, Extras
from faithattn.adapters.view import AttentionView

Names = frozenset[str] | None


@dataclass
class Plan:
    """Found by earlier runs; each entry is checked against the run that uses it.

    Attributes:
        parts: Paths of the model's modules; other ones make everything else void.
        weights: Number of weights that rows are multiplied by.
        axes: By site or embedding, where the instances are.
        tokens: By the sites looked at, which result (B, L, E) is their feature.
        continuous: By the sites looked at, the way to the input that is.
        extras: By site, how many of its keys are no positions.
        follows: By site, whether its keys follow the length of the input.
        undecided: Sites that a further run told nothing about; it is not made again.
        in_order: Sites whose instances were found in the order of the inputs, or tried in vain.
        replayed: By sites, whether a replay was found to give what a whole forward does.
        too_long: By sites and shapes, a number of operations that recording takes more than.
        copied: Sites whose weights the model writes to or keeps, which get copies of them.
        places: Names of all calls of the run that ``views`` were learned in.
        sources: Where the positions of each feature come from, without the ids.
        views: By the sites looked at and the view, the view with its sites named.
        feature_of: By site, the feature whose positions are its keys.
    """

    parts: tuple[str, ...] = ()
    weights: int | None = None
    axes: Mapping[str, Axes] = field(default_factory=dict)
    tokens: dict[Names, int] = field(default_factory=dict)
    continuous: dict[Names, Path] = field(default_factory=dict)
    extras: dict[str, Extras] = field(default_factory=dict)
    follows: dict[str, bool] = field(default_factory=dict)
    undecided: set[str] = field(default_factory=set)
    in_order: set[str] = field(default_factory=set)
    replayed: dict[Names, bool] = field(default_factory=dict)
    too_long: dict[Hashable, int] = field(default_factory=dict)
    copied: set[str] = field(default_factory=set)
    places: frozenset[str] = frozenset()
    sources: dict[str, Source] = field(default_factory=dict)
    views: dict[tuple[Names, AttentionView | None], AttentionView] = field(default_factory=dict)
    feature_of: dict[str, str] = field(default_factory=dict)

    def renew(self, parts: tuple[str, ...]) -> None:
        """Forgets everything if the model has other parts than it had."""
        if parts != self.parts:
            self.__init__(parts)  # type: ignore[misc]


_plans: WeakKeyDictionary[nn.Module, dict[Hashable, Plan]] = WeakKeyDictionary()


def plan_of(model: nn.Module, options: Hashable) -> Plan:
    """The plan of a module under these options: a second adapter knows what the first learned."""
    return _plans.setdefault(model, {}).setdefault(options, Plan())
