"""adapt(): any module whose attention is a softmax or the output of a submodule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.inputs.deletion import delete_positions
from faithattn.adapters.inputs.masks import find_mask, real_positions
from faithattn.adapters.inputs.structure import select_rows
from faithattn.adapters.interception.site import Site
from faithattn.adapters.interception.tap import Tap
from faithattn.adapters.protocol import Run
from faithattn.adapters.rows import site_mask
from faithattn.adapters.state import evaluating
from faithattn.adapters.torch_module.calls import (
    Call,
    called,
    check_options,
    check_reached,
    feature,
    logits_of,
    replacement,
)
from faithattn.adapters.torch_module.choice import candidates, choose_embedding, choose_site

MaskRule = Callable[[Any], Tensor] | Tensor | int


def adapt(
    model: nn.Module,
    *,
    site: str | None = None,
    call: Call | None = None,
    logits: Callable[[Any], Tensor] | None = None,
    mask: MaskRule | None = None,
    embedding: str | None = None,
    output: str = "auto",
) -> TorchAdapter:
    """Adapts a module without touching its code.

    Attention is found where the model computes a softmax (as a function, a
    tensor method or ``nn.Softmax``) over positions, or taken from the output
    of the submodule that ``site`` names. Embeddings are the output of
    ``nn.Embedding``. The model itself is left exactly as it is.

    Args:
        model: The module.
        site: Name of the attention: the path of the module that computes it
            ("attention" for the model itself) or whose output it is. None
            where there is only one.
        call: How to run the model, ``call(model, inputs)``; by default a
            mapping is passed as keywords, a tuple as positions.
        logits: Takes the logits ``(B, C)`` from what the model returns; by
            default a tensor, a ``.logits`` attribute or the first of a tuple.
        mask: Which positions can be explained: a function of the inputs that
            returns ``(B, L)`` bool, the id of the padding, or a tensor (which
            belongs to one batch: it cannot follow a deletion). By
            default an ``attention_mask`` in the inputs, else the embedding's
            ``padding_idx``, else every position.
        embedding: Path of the ``nn.Embedding`` to differentiate, where there
            are several.
        output: How logits become probabilities: ``"auto"``, ``"sigmoid"``,
            ``"softmax"`` or ``"identity"``.

    Returns:
        An adapter with ``run``, ``replay``, ``remove``, ``select`` and
        ``sites``. Its replay runs the whole model once per alternative.

    Raises:
        TypeError: If ``model`` is not a module, ``call`` or ``logits`` is not
            a function, or ``mask`` is none of the above.
        ValueError: If ``output`` is unknown.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> class Pooled(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.embed = nn.Embedding(10, 4, padding_idx=0)
        ...         self.score, self.out = nn.Linear(4, 1), nn.Linear(4, 1)
        ...     def forward(self, ids):
        ...         x = self.embed(ids)
        ...         scores = self.score(x).squeeze(-1).masked_fill(ids == 0, -1e9)
        ...         return self.out((scores.softmax(-1)[..., None] * x).sum(1))
        >>> adapter = adapt(Pooled())
        >>> run = adapter.run(torch.tensor([[1, 2, 3], [4, 5, 0]]))
        >>> {site: tuple(weights.shape) for site, weights in run.attention.items()}
        {'attention': (2, 3)}
        >>> run.mask
        tensor([[ True,  True,  True],
                [ True,  True, False]])
    """
    check_options(model, call, logits, mask, output)
    return TorchAdapter(model, site, call, logits, mask, embedding, output)


@dataclass(frozen=True)
class _State:
    """What replay needs: the inputs and the features of the run."""

    inputs: Any
    features: Mapping[str, Tensor]


class TorchAdapter:
    """A module as an attention model; made by :func:`adapt`.

    Attributes:
        model: The module, left exactly as it is.
        output: How its logits become probabilities.

    Examples:
        >>> import torch
        >>> from faithattn.paper.models import TextClassifier
        >>> adapter = adapt(TextClassifier(10), mask=lambda ids: ids > 3, output="sigmoid")
        >>> adapter
        TorchAdapter(TextClassifier, site=None, embedding=None, output='sigmoid')
        >>> ids = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]])
        >>> adapter.remove(ids, torch.tensor([1, 2]))
        tensor([[2, 6, 7, 3],
                [2, 8, 3, 0]])
    """

    def __init__(
        self,
        model: nn.Module,
        site: str | None,
        call: Call | None,
        logits: Callable[[Any], Tensor] | None,
        mask: MaskRule | None,
        embedding: str | None,
        output: str,
    ) -> None:
        self.model = model
        self.output = output
        self._site = site
        self._call = call
        self._logits = logits or logits_of
        self._mask = mask
        self._embedding = embedding

    def __repr__(self) -> str:
        return (
            f"TorchAdapter({type(self.model).__name__}, site={self._site!r}, "
            f"embedding={self._embedding!r}, output={self.output!r})"
        )

    def run(
        self,
        inputs: Any,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model once, with attention or features replaced if given.

        Raises:
            AdapterError: If the model fails on these inputs, no site is found,
                several are and none is chosen, or an override is never reached.
            TypeError: If the inputs are no tensor, tuple or mapping and no
                ``call`` was given.
            ValueError: If they hold no instance.
        """
        logits, seen, embedded = self._forward(inputs, attention or {}, features or {})
        embedded = choose_embedding(self._embedding, embedded, logits)
        name, weights = choose_site(self._site, seen, embedded)
        check_reached("attention", attention, {name})
        check_reached("features", features, set(embedded))
        mask = find_mask(self._mask, inputs, self._padding(embedded), weights)
        return Run(logits, {name: weights}, mask, embedded, state=_State(inputs, embedded))

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(K, B, C)`` under attention ``(K, B, ...)``, one forward each."""
        if not attention:
            raise ValueError("attention must name a site to replace; got none. Pass one tensor.")
        count = next(iter(attention.values())).shape[0]
        alternatives = [{name: each[k] for name, each in attention.items()} for k in range(count)]
        return torch.stack([self._decode(state, each) for each in alternatives])

    def _decode(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        logits, seen, _ = self._forward(state.inputs, attention, state.features)
        check_reached("attention", attention, {site.name for site, _ in seen})
        return logits

    def remove(self, inputs: Any, positions: Tensor) -> Any:
        """Deletes one position of each row from ids and masks; lengths become one less.

        Raises:
            AdapterError: If the inputs hold something else that may be as
                long, or count positions, so that deletion cannot adjust it.
            ValueError: If a position is outside the inputs.
        """
        with torch.no_grad():
            run = self.run(inputs)
        mask = site_mask(run, next(iter(run.attention)))
        real = real_positions(self._mask, inputs, self._padding(run.features), mask)
        return delete_positions(inputs, positions, real)

    def select(self, inputs: Any, rows: Tensor) -> Any:
        """Returns the given rows of the inputs."""
        return select_rows(inputs, rows)

    def sites(self, inputs: Any) -> list[Site]:
        """Every place that looks like attention for these inputs, in call order."""
        logits, seen, embedded = self._forward(inputs, {}, {})
        embedded = choose_embedding(self._embedding, embedded, logits)
        return [site for site, _ in candidates(seen, embedded)]

    def _forward(
        self, inputs: Any, attention: Mapping[str, Tensor], features: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[tuple[Site, Tensor]], dict[str, Tensor]]:
        seen: list[tuple[Site, Tensor]] = []
        embedded: dict[str, Tensor] = {}

        def visit(site: Site, value: Tensor) -> Tensor:
            if site.kind == "embedding":
                embedded[site.name] = feature(features.get(site.name), value, site)
                return embedded[site.name]
            if site.kind == "module" and any(other.name == site.name for other, _ in seen):
                return value  # the attention is the softmax inside; this is what comes of it
            used = replacement(attention.get(site.name), value, site)
            seen.append((site, used))
            return used

        outputs = [self._site] if self._is_output_site() else []
        with evaluating(self.model), Tap(self.model, visit, [name for name in outputs if name]):
            returned = called(self._call, self.model, inputs)
        return self._logits(returned), seen, embedded

    def _is_output_site(self) -> bool:
        """Whether the site names a submodule, whose output may be the attention."""
        return self._site is not None and self._site in dict(self.model.named_modules())

    def _padding(self, embedded: Mapping[str, Tensor]) -> int | None:
        """The padding id that the chosen embedding declares."""
        for name in embedded:
            module = dict(self.model.named_modules()).get(name.split("#")[0])
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                return module.padding_idx
        return None
