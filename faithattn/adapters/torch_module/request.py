"""What a pass is asked for, and what it gave."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from faithattn.adapters.inputs.source import Path, Source, find_path, paths
from faithattn.adapters.inputs.structure import tensors_of
from faithattn.adapters.replay.program import Program
from faithattn.adapters.torch_module.calls import Override
from faithattn.adapters.torch_module.choice import choose_features
from faithattn.adapters.torch_module.forward import Embedded, Seen


@dataclass(frozen=True)
class Request:
    """What a pass is asked for.

    Attributes:
        inputs: What the model is called with.
        only: Names of the sites to look at; None for all.
        attention: Replacements by site.
        features: Replacements by feature.
        alternatives: How many are to be replayed at the sites ``only``; what
            depends on them is recorded if that is worth it.
        outputs: Submodules whose output may be the attention or the feature.
        mask: The caller's rule for masks, which tells the last real token.
        tokens: Which of the results (B, L, E) is the feature, if none is embedded.
        continuous: The way to the input that is the feature, if one is.
        search: Whether to note the results (B, L, E) for a choice among them.
    """

    inputs: Any
    only: frozenset[str] | None = None
    attention: Mapping[str, Override] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)
    alternatives: int = 0
    outputs: tuple[str, ...] = ()
    mask: Any = None
    tokens: int | None = None
    continuous: Path | None = None
    search: bool = False

    def key(self) -> Hashable:
        """What the number of operations after the sites depends on."""
        return self.only, tuple(each.shape for each in tensors_of(self.inputs))


@dataclass(frozen=True)
class Pass:
    """What one pass gave."""

    request: Request
    size: int
    logits: Tensor
    seen: list[Seen]
    found: list[Embedded]
    shapes: list[tuple[int, ...]]
    places: frozenset[str]
    program: Program | None
    refusal: str

    def features(self, name: str | None) -> list[Embedded]:
        """The features among what was embedded, looked for once."""
        if name not in self._features:
            self._features[name] = choose_features(name, self.found, self.request.inputs)
        return self._features[name]

    _features: dict[str | None, list[Embedded]] = field(default_factory=dict, repr=False)


def source_of(embedded: Embedded, inputs: Any, taken: set[Any]) -> Source:
    """Where the positions of a feature come from."""
    ids = embedded.ids
    if ids is None:
        ways = [path for path, _ in paths(inputs) if input_name(path) == embedded.name]
        path = ways[0] if ways else None
    else:
        path = find_path(inputs, ids, taken)
    return Source(embedded.name, embedded.value.shape[1], ids, embedded.padding, path)


def input_name(path: tuple[Any, ...]) -> str:
    """The name of a continuous input as a feature."""
    return ".".join(map(str, path)) or "inputs"
