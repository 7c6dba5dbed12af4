"""adapt(): any module whose attention is a softmax or the output of a submodule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.inputs import delete_positions, find_mask, real_positions, select_rows
from faithattn.adapters.protocol import Run
from faithattn.adapters.state import evaluating
from faithattn.adapters.tap import Site, Tap
from faithattn.adapters.view import site_mask
from faithattn.errors import AdapterError
from faithattn.measures.outputs import OUTPUTS

MaskRule = Callable[[Any], Tensor] | Tensor | int


def adapt(
    model: nn.Module,
    *,
    site: str | None = None,
    call: Callable[[nn.Module, Any], Any] | None = None,
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
            returns ``(B, L)`` bool, the id of the padding, or a tensor. By
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
        TypeError: If ``model`` is not a module.
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
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module; got {type(model).__name__}. "
            "Write a class with a run method for anything else."
        )
    if output not in OUTPUTS:
        raise ValueError(
            f"output must be one of {', '.join(OUTPUTS)}; got {output!r}. Leave it out for auto."
        )
    if not (mask is None or callable(mask) or isinstance(mask, Tensor | int)) or mask is True:
        raise TypeError(
            f"mask must be a function of the inputs, a padding id or a tensor; got {mask!r}. "
            "Use adapt(model, mask=lambda inputs: ...)."
        )
    return TorchAdapter(model, site, call, logits, mask, embedding, output)


@dataclass(frozen=True)
class _State:
    """What replay needs: the inputs and the features of the run."""

    inputs: Any
    features: Mapping[str, Tensor]


class TorchAdapter:
    """A module as an attention model; made by :func:`adapt`."""

    def __init__(
        self,
        model: nn.Module,
        site: str | None,
        call: Callable[[nn.Module, Any], Any] | None,
        logits: Callable[[Any], Tensor] | None,
        mask: MaskRule | None,
        embedding: str | None,
        output: str,
    ) -> None:
        self.model = model
        self.output = output
        self._site = site
        self._call = call or _call
        self._logits = logits or _logits
        self._mask = mask
        self._embedding = embedding

    def run(
        self,
        inputs: Any,
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model once, with attention or features replaced if given.

        Raises:
            AdapterError: If no site is found, several are and none is chosen,
                or an override is never reached.
        """
        logits, seen, embedded = self._forward(inputs, attention or {}, features or {})
        embedded = self._choose_embedding(embedded, logits)
        chosen = self._choose_site(seen, embedded)
        _reached("attention", attention, {name for name, (_, _) in chosen.items()})
        _reached("features", features, set(embedded))
        weights = {name: value for name, (_, value) in chosen.items()}
        mask = find_mask(self._mask, inputs, self._padding(embedded), next(iter(weights.values())))
        return Run(logits, weights, mask, embedded, state=_State(inputs, embedded))

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(K, B, C)`` under attention ``(K, B, ...)``, one forward each."""
        if not attention:
            raise ValueError("attention must name a site to replace; got none. Pass one tensor.")
        count = next(iter(attention.values())).shape[0]
        alternatives = [{name: each[k] for name, each in attention.items()} for k in range(count)]
        return torch.stack([self._decode(state, each) for each in alternatives])

    def _decode(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        logits, seen, _ = self._forward(state.inputs, attention, state.features)
        _reached("attention", attention, {site.name for site, _ in seen})
        return logits

    def remove(self, inputs: Any, positions: Tensor) -> Any:
        """Deletes one position of each row from ids, masks and whatever is as long."""
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
        embedded = self._choose_embedding(embedded, logits)
        return [site for site, _ in self._candidates(seen, embedded)]

    def _forward(
        self, inputs: Any, attention: Mapping[str, Tensor], features: Mapping[str, Tensor]
    ) -> tuple[Tensor, list[tuple[Site, Tensor]], dict[str, Tensor]]:
        seen: list[tuple[Site, Tensor]] = []
        embedded: dict[str, Tensor] = {}

        def visit(site: Site, value: Tensor) -> Tensor:
            if site.kind == "embedding":
                embedded[site.name] = _feature(features.get(site.name), value, site)
                return embedded[site.name]
            if site.kind == "module" and any(other.name == site.name for other, _ in seen):
                return value  # the attention is the softmax inside; this is what comes of it
            used = _replacement(attention.get(site.name), value, site)
            seen.append((site, used))
            return used

        outputs = [self._site] if self._is_output_site() else []
        with evaluating(self.model), Tap(self.model, visit, [name for name in outputs if name]):
            returned = self._call(self.model, inputs)
        return self._logits(returned), seen, embedded

    def _is_output_site(self) -> bool:
        """Whether the site names a submodule, whose output may be the attention."""
        return self._site is not None and self._site in dict(self.model.named_modules())

    def _choose_embedding(self, embedded: dict[str, Tensor], logits: Tensor) -> dict[str, Tensor]:
        """Keeps the embedding that was asked for, or those with a row for every instance."""
        if self._embedding is not None:
            if self._embedding not in embedded:
                ran = ", ".join(map(repr, embedded)) or "none"
                raise AdapterError(
                    "embedding must be the path of an nn.Embedding that runs; got "
                    f"{self._embedding!r}, and these ran: {ran}."
                )
            return {self._embedding: embedded[self._embedding]}
        size = logits.shape[:1]
        return {k: value for k, value in embedded.items() if value.shape[:-2] == size}

    def _candidates(
        self, seen: list[tuple[Site, Tensor]], embedded: Mapping[str, Tensor]
    ) -> list[tuple[Site, Tensor]]:
        """Sites whose keys are positions of an embedded input, where one is known."""
        lengths = {value.shape[1] for value in embedded.values()}
        batches = {value.shape[0] for value in embedded.values()}
        return [
            (site, value)
            for site, value in seen
            if value.ndim in (2, 3, 4)
            and (not lengths or (value.shape[-1] in lengths and value.shape[0] in batches))
        ]

    def _choose_site(
        self, seen: list[tuple[Site, Tensor]], embedded: Mapping[str, Tensor]
    ) -> dict[str, tuple[Site, Tensor]]:
        candidates = self._candidates(seen, embedded)
        if self._site is not None:
            candidates = [(site, value) for site, value in seen if site.name == self._site]
        if not candidates:
            listing = "; ".join(str(site) for site, _ in seen) or "none"
            asked = "" if self._site is None else f" named {self._site!r}"
            raise AdapterError(
                f"model must compute attention{asked} that can be seen: a softmax over positions, "
                f"or a submodule whose output it is; got these candidates: {listing}. "
                "Name one with adapt(model, site=...)."
            )
        if len(candidates) > 1:
            listing = "; ".join(str(site) for site, _ in candidates)
            raise AdapterError(
                f"site must be chosen where a model has several; got {listing}. "
                f"Use adapt(model, site={candidates[0][0].name!r})."
            )
        site, value = candidates[0]
        return {site.name: (site, value)}

    def _padding(self, embedded: Mapping[str, Tensor]) -> int | None:
        """The padding id that the chosen embedding declares."""
        for name in embedded:
            module = dict(self.model.named_modules()).get(name.split("#")[0])
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                return module.padding_idx
        return None


def _feature(given: Tensor | None, value: Tensor, site: Site) -> Tensor:
    """The embedded input to go on with; a leaf where gradients are on and none flows yet."""
    if given is not None and given.shape != value.shape:
        raise AdapterError(
            f"features[{site.name!r}] must have the shape of the embeddings, "
            f"{tuple(value.shape)}; got {tuple(given.shape)}. Start from run(inputs).features."
        )
    used = value if given is None else given
    if torch.is_grad_enabled() and not used.requires_grad:
        return used.detach().requires_grad_()
    return used


def _replacement(given: Tensor | None, value: Tensor, site: Site) -> Tensor:
    if given is None:
        return value
    if given.shape != value.shape:
        raise AdapterError(
            f"attention[{site.name!r}] must have the shape of the site, {tuple(value.shape)}; "
            f"got {tuple(given.shape)}. Start from run(inputs).attention."
        )
    return given.to(value.dtype)


def _reached(what: str, given: Mapping[str, Tensor] | None, present: set[str]) -> None:
    missed = set(given or ()) - present
    if missed:
        raise AdapterError(
            f"{what} must name what the model has: {sorted(present)}; "
            f"got {sorted(missed)}, which was never reached."
        )


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _logits(returned: Any) -> Tensor:
    for candidate in (returned, getattr(returned, "logits", None)):
        if isinstance(candidate, Tensor):
            return candidate
    if isinstance(returned, tuple | list) and returned and isinstance(returned[0], Tensor):
        return returned[0]
    raise AdapterError(
        f"model must return logits as a tensor, in .logits or first in a tuple; "
        f"got {type(returned).__name__}. Pass adapt(model, logits=function)."
    )
