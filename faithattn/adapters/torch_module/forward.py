"""One forward pass of a module under a tap: what was seen, and what was replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from faithattn.adapters.interception.layout import Axes, Extras, Layout, guess_axes
from faithattn.adapters.interception.site import Site
from faithattn.adapters.interception.tap import Place
from faithattn.adapters.replay.recorder import Recorder
from faithattn.adapters.torch_module.calls import Override, feature, replacement

TOKENS = "tokens"
_FIRST = Axes(0)


@dataclass(frozen=True)
class Seen:
    """Weights that a forward pass came by.

    Attributes:
        place: Where.
        raw: The model's own tensor, keys last.
        shown: The weights in the library's layout, None where it is unknown.
        axes: Where the instances are in it.
        sure: Whether no other layout is possible.
        before: How many results (B, L, E) had been computed.
        support: Computes the keys each row may use, in the library's layout.
        extras: How many keys are no positions; they are shown behind these.
    """

    place: Place
    raw: Tensor
    shown: Tensor | None
    axes: Axes | None
    sure: bool
    before: int
    support: Callable[[], Tensor] | None
    extras: Extras = (0, 0)

    def site(self, role: str, *, used: bool) -> Site:
        """The public description."""
        shape = self.raw.shape if self.shown is None else self.shown.shape
        place = self.place
        return Site(place.name, place.kind, tuple(shape), place.where, place.call, role, used)


@dataclass(frozen=True)
class Embedded:
    """The output of an embedding, or another feature, that a forward pass came by.

    Attributes:
        name: Path of the embedding, or of the input.
        value: ``(B, L, E)``.
        ids: What was embedded, ``(B, L)``; None for continuous features.
        padding: Id of the padding that the embedding declares.
        entries: Size of its table.
        axis: Where the instances were.
        sure: Whether they cannot have been elsewhere.
    """

    name: str
    value: Tensor
    ids: Tensor | None
    padding: int | None
    entries: int
    axis: int
    sure: bool

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of the model's own tensor."""
        return tuple(self.value.movedim(0, self.axis).shape)

    @cached_property
    def counted(self) -> bool:
        """Whether all rows of the ids are alike, one apart or equal: positions, segments."""
        ids = self.ids
        if ids is None or is_functorch_wrapped_tensor(ids) or ids.ndim != 2:
            return False
        steps = ids[:, 1:] - ids[:, :-1]
        if not bool((ids == ids[:1]).all()):
            return False
        return bool((steps == 1).all() or (steps == 0).all())


@dataclass
class Forward:
    """The watcher of one pass.

    Attributes:
        size: Number B of instances.
        only: Names of the sites to look at; None for all.
        attention: Replacements by site, tensors or functions.
        features: Replacements by feature.
        axes: By site or embedding name, where the instances are, if that was found before.
        extras: By site, how many of its keys are no positions.
        recorder: Records what depends on the sites ``only``, if given.
        feature_output: Name of the submodule whose output is the feature.
        tokens: Which of the results (B, L, E) is the feature.
        marked: Whether a recorded site was reached.
        returned: Whether the model is done; what follows makes logits of its output.
    """

    size: int
    only: frozenset[str] | None
    attention: Mapping[str, Override]
    features: Mapping[str, Tensor]
    axes: Mapping[str, Axes]
    extras: Mapping[str, Extras] = field(default_factory=dict)
    recorder: Recorder | None = None
    feature_output: str | None = None
    tokens: int | None = None
    seen: list[Seen] = field(default_factory=list)
    found: list[Embedded] = field(default_factory=list)
    results: int = 0
    returned: bool = False
    marked: bool = False
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    places: set[str] = field(default_factory=set)
    last: Tensor | None = None

    def wants(self, place: Place) -> bool:
        """Whether these weights are worth computing explicitly."""
        if self.returned:
            return False
        if self.recorder is not None and self.recorder.refused is not None:
            self.recorder.abandon()  # it cannot stop listening in the midst of an operation
        if place.kind != "module":
            self.places.add(place.name)
        if place.kind == "module":  # the attention is the softmax inside; this is what comes of it
            return all(each.place.name != place.name for each in self.seen)
        # What follows a recorded site is written out too: fused kernels have no batched form.
        chosen = self.only is None or self.marked
        return chosen or place.name in (self.only or ()) or place.name in self.attention

    def weights(
        self,
        place: Place,
        value: Tensor,
        dim: int,
        support: Callable[[], Tensor] | None,
        heads: int | None = None,
    ) -> Tensor:
        """Shows weights in the library's layout; returns what the model goes on with."""
        if place.kind == "module" and place.name == self.feature_output:
            return self._feature_output(place.name, value)
        dim = dim % value.ndim
        raw = value if dim == value.ndim - 1 else value.movedim(dim, -1)
        axes, sure = self._axes(place, raw, heads)
        if axes is None:
            self.seen.append(Seen(place, raw.detach(), None, axes, sure, self.results, None))
            return value
        extras = self.extras.get(place.name, (0, place.appended))
        layout = Layout(dim, axes, self.size, extras)
        shown = replacement(self.attention.get(place.name), layout.show(value), place.name)
        if self.recorder is not None and self.only is not None and place.name in self.only:
            shown = self.recorder.mark(place.name, shown)
            self.marked = True
        keys = None if support is None else (lambda: layout.show(support()))
        self.seen.append(Seen(place, raw.detach(), shown, axes, sure, self.results, keys, extras))
        return layout.restore(shown, value)

    def embedded(
        self, place: Place, value: Tensor, ids: Tensor, padding: int | None, entries: int
    ) -> Tensor:
        """Shows an embedding with the instances first; returns what the model goes on with."""
        if value.ndim != 3 or not value.is_floating_point():
            return value
        axes = self.axes.get(place.name)
        axis = axes.batch if axes else (0 if value.shape[0] == self.size else 1)
        if axis < 0 or value.shape[axis] != self.size:
            return value  # positions (1, L, E) or a table of something else
        alone = axis == 0 and value.shape[1] != self.size
        sure = axes is not None or alone or self.size == 1
        first = value if axis == 0 else value.movedim(axis, 0)
        shown = feature(self.features.get(place.name), first, place.name)
        declared = padding if padding is not None and padding >= 0 else None
        own = ids if axis == 0 else ids.movedim(axis, 0)
        self.found.append(Embedded(place.name, shown, own, declared, entries, axis, sure))
        return shown if axis == 0 else shown.movedim(0, axis)

    def result(self, value: Tensor) -> Tensor:
        """Counts results (B, L, E) and maps (B, C, H, W); one of them may be the feature."""
        if value.ndim not in (3, 4) or not value.is_floating_point():
            return value
        if value.shape[0] != self.size:
            return value
        index, self.results = self.results, self.results + 1
        before, self.last = self.last, value.detach()
        self.shapes.append(tuple(value.shape))
        if before is not None and _are_channels(value, before):
            self.shapes[-1] = (0, 0, 0)  # (B, E, L), no row for every key
        elif before is not None and _is_transpose(value, before):
            same = value.shape[1] == value.shape[2]
            self.shapes[-2] = (0, 0, 0) if same else self.shapes[-2]
        if index != self.tokens:
            return value
        rows = value if value.ndim == 3 else value.flatten(2).transpose(1, 2)
        used = feature(self.features.get(TOKENS), rows, TOKENS)
        self.found.append(Embedded(TOKENS, used, None, None, 0, 0, True))
        return used if value.ndim == 3 else used.transpose(1, 2).reshape(value.shape)

    def _feature_output(self, name: str, value: Tensor) -> Tensor:
        if value.ndim != 3 or value.shape[0] != self.size:
            return value
        used = feature(self.features.get(name), value, name)
        self.found.append(Embedded(name, used, None, None, 0, 0, True))
        return used

    def read(self, function: Any, args: tuple[Any, ...]) -> None:
        """Python reads a tensor: what is recorded may depend on it."""
        if self.recorder is not None:
            self.recorder.reads(function, args)

    def _axes(self, place: Place, raw: Tensor, heads: int | None) -> tuple[Axes | None, bool]:
        """Where the instances are, and whether nothing else is possible."""
        if heads is not None and raw.shape[0] != self.size * (heads if raw.ndim == 3 else 1):
            return None, True  # attention over something else, such as the batch
        known = self.axes.get(place.name)
        if known is not None and known.batch < 0:
            return None, True
        if known is not None and known.fits(raw.shape[:-1], self.size):
            return known, True
        if heads is not None:  # torch folds batch and heads itself, batch slowest
            return Axes(0, folded=raw.ndim == 3), (
                self.size == 1 or self.size not in raw.shape[-2:]
            )
        if place.kind in ("sdpa", "flex") and raw.ndim == 4 and raw.shape[0] == self.size:
            return _FIRST, True
        return guess_axes(raw.shape[:-1], self.size)


def _are_channels(value: Tensor, image: Tensor) -> bool:
    """Whether a tensor (B, E, L) is a view of an image (B, E, H, W)."""
    both = value.ndim == 3 and image.ndim > 3
    return both and value.shape[1] == image.shape[1] and _begin_alike(value, image)


def _is_transpose(value: Tensor, other: Tensor) -> bool:
    """Whether a tensor (B, L, E) is a view of another one (B, E, L)."""
    if value.ndim != 3 or other.ndim != 3 or not _begin_alike(value, other):
        return False
    return value.stride() == (other.stride(0), other.stride(2), other.stride(1))


def _begin_alike(one: Tensor, other: Tensor) -> bool:
    if is_functorch_wrapped_tensor(one):
        return False
    return one.data_ptr() == other.data_ptr()
