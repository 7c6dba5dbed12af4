"""Follows what a module does with the weights of one site."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from faithattn.adapters.interception.guards import eager
from faithattn.adapters.interception.tap import Place, Tap
from faithattn.adapters.state import differentiating, evaluating
from faithattn.adapters.torch_module.calls import called
from faithattn.adapters.torch_module.forward import Forward
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.request import Request
from faithattn.errors import AdapterError

Visit = Callable[[int, Tensor], None]


@dataclass
class _Followed(Forward):
    """The watcher of one pass, from one site on.

    Attributes:
        site: Name of the site.
        visit: Hears of every tensor that is computed after it, numbered.
        count: How many there were; -1 before the site.
    """

    site: str = ""
    visit: Visit = lambda _number, _value: None
    count: int = -1

    def weights(
        self,
        place: Place,
        value: Tensor,
        dim: int,
        support: Callable[[], Tensor] | None,
        heads: int | None = None,
    ) -> Tensor:
        used = super().weights(place, value, dim, support, heads)
        if place.name == self.site:
            self.count = 0
        return used

    def computed(self, result: Any) -> None:
        """Passes the tensors on."""
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and self.count >= 0:
                self.count += 1
                self.visit(self.count - 1, value)


class _Trail(Tap):
    """A tap that also tells of every result of a function, those of attention kernels included."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(self._watcher, _Followed) and self._stack[-1] is self and not self._aside:
            self._watcher.computed(result)
        return result


def follow(
    runner: Runner, request: Request, size: int, site: str, weights: Tensor, visit: Visit
) -> None:
    """Runs a module with a site's weights replaced, and shows what it computes after them.

    Gradients are recorded, so that what is shown can be differentiated by the weights.

    Raises:
        AdapterError: If the site is never reached.
    """
    request = replace(request, attention={**request.attention, site: weights})
    parts, plan = runner.tree.parts(), runner.plan
    only = frozenset({site})
    watch = _Followed(
        size, only, request.attention, request.features, plan.axes, plan.extras,
        site=site, visit=visit,
    )  # fmt: skip
    outputs = only if site in parts.by_path else ()
    with differentiating():
        inputs = runner.with_leaves(request, watch)
        tap = _Trail(parts, watch, outputs=outputs, copied=plan.copied)
        with eager(), evaluating(runner.module, parts.by_path.values()), tap:
            called(runner.call, runner.module, inputs)
    if watch.count < 0:
        raise AdapterError(
            f"model must compute attention named {site!r} on these inputs; it was not reached. "
            "Take the name from run(inputs).attention."
        )
