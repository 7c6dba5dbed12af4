"""The rows that a view chooses, conditioned on what can be explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from faithattn.adapters.protocol import Run
from faithattn.adapters.roles import is_cross, resolve_view
from faithattn.adapters.validate import require_support
from faithattn.adapters.view import AttentionView, as_tuple
from faithattn.errors import AdapterError


@dataclass(frozen=True)
class Rows:
    """The chosen attention rows, conditioned on what can be explained.

    Rows of several sites follow each other: all heads and queries of the
    first, then those of the second.

    Attributes:
        view: The view that chose them, its sites named.
        attention: All weights of the chosen sites by name, detached, in the
            order of the view and the shape of the site.
        valid: ``(B, R, L)`` bool, mask and support of each row.
        conditional: ``(B, R, L)`` rows divided by their mass at valid positions.
        mass: ``(B, R)`` weight of each row on its valid positions.
        mask: ``(B, L)`` bool.
        counted: ``(B, R)`` bool, False for rows of padding: they take no part.
        numbers: ``(B, R)`` int64, a number for each row that counts, which
            does not depend on padding.
    """

    view: AttentionView
    attention: dict[str, Tensor]
    valid: Tensor
    conditional: Tensor
    mass: Tensor
    mask: Tensor
    counted: Tensor
    numbers: Tensor
    _places: tuple[Tensor | None, ...]

    @property
    def explanation(self) -> Tensor:
        """Mean of the rows at the positions of the mask, ``(B, L)``; 0 elsewhere."""
        shares = self.mass * self.counted / self._count()[:, None]
        return torch.einsum("brl,br->bl", self.conditional, shares)

    @property
    def max_attention(self) -> Tensor:
        """Largest conditional weight, averaged over rows, ``(B,)``; nan without positions."""
        highest = self.mean(self.conditional.amax(-1))
        return highest.masked_fill(~self.valid.any(-1).any(-1), torch.nan)

    @property
    def mean_mass(self) -> Tensor:
        """Weight on the valid positions, averaged over rows, ``(B,)``."""
        return self.mean(self.mass)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``(..., B, R)`` over the rows that count, ``(..., B)``."""
        return torch.where(self.counted, values, 0).sum(-1) / self._count()

    def of(self, values: Mapping[str, Tensor]) -> Tensor:
        """The chosen rows ``(B, R, L)`` of tensors in the shape of each chosen site."""
        each = []
        for name, places in zip(self.attention, self._places, strict=True):
            flat = _flat(values[name])
            batch = torch.arange(len(flat), device=flat.device)[:, None]
            each.append(flat if places is None else flat[batch, places])
        return torch.cat(each, 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of sites, heads and queries, whose product is the number of rows."""
        sites = len(self.attention)
        first = next(iter(self.attention.values()))
        heads = first.shape[1] if first.ndim == 4 else 1
        if self.view.heads is not None:
            heads = len(as_tuple(self.view.heads))
        return sites, heads, self.counted.shape[1] // (sites * heads)

    @property
    def queries(self) -> Tensor:
        """Numbers ``(B, sites, queries)`` of the query rows in their sites."""
        count = self.shape[2]
        each = []
        for site, places in zip(self.attention.values(), self._places, strict=True):
            total = site.shape[-2] if site.ndim > 2 else 1
            every = torch.arange(count, device=site.device)[None]
            own = every if places is None else places[:, :count] % total
            each.append(own.expand(len(site), -1))
        return torch.stack(each, 1)

    def override(self, conditional: Tensor) -> dict[str, Tensor]:
        """Attention ``(K, B, ...)`` of each site with rows ``(K, B, R, L)`` put in.

        Each row keeps its mass at the valid positions and its weights elsewhere.
        """
        step = conditional.shape[2] // len(self.attention)
        return {
            name: self._override_site(index, slice(index * step, (index + 1) * step), conditional)
            for index, name in enumerate(self.attention)
        }

    def _override_site(self, index: int, part: slice, conditional: Tensor) -> Tensor:
        site, places = list(self.attention.values())[index], self._places[index]
        count, flat = conditional.shape[0], _flat(site)
        batch = torch.arange(len(flat), device=flat.device)[:, None]
        kept = flat if places is None else flat[batch, places]
        masses = self.mass[:, part, None].to(conditional.dtype)
        mixed = torch.where(self.valid[:, part], conditional[:, :, part] * masses, kept)
        mixed = mixed.to(site.dtype)
        if places is not None:
            full = flat.expand(count, *flat.shape).clone()
            full[:, batch, places] = mixed
            mixed = full
        return mixed.reshape(count, *site.shape)

    def _count(self) -> Tensor:
        return self.counted.sum(-1).clamp_min(1)


def choose_rows(run: Run, view: AttentionView | None) -> Rows:
    """Applies a view, or the only possible one, to a run."""
    names, view = resolve_view(run.attention, view)
    attention = {name: run.attention[name].detach() for name in names}
    mask = _shared_mask(run, names, view.feature)
    chosen = [_chosen(run, name, view, mask) for name in names]
    counted = torch.cat([flags for _, flags, _ in chosen], 1)
    ranks = torch.stack([numbers for _, _, numbers in chosen], 1)  # (B, sites, heads, queries)
    lanes = ranks.shape[1] * ranks.shape[2]
    heads = torch.arange(lanes, device=ranks.device).view(*ranks.shape[1:3], 1)
    numbers = (ranks * lanes + heads).flatten(1)
    first = attention[names[0]]
    wide = first.dtype if first.dtype == torch.float64 else torch.float32
    values = torch.empty(*counted.shape, mask.shape[1], dtype=wide, device=first.device)
    valid = torch.empty(values.shape, dtype=torch.bool, device=first.device)
    batch = torch.arange(len(mask), device=mask.device)[:, None]
    step = counted.shape[1] // len(names)
    for index, (name, (places, flags, _)) in enumerate(zip(names, chosen, strict=True)):
        part, flat = slice(index * step, (index + 1) * step), _flat(attention[name])
        values[:, part] = flat if places is None else flat[batch, places]
        valid[:, part] = mask[:, None] & flags[..., None]
        if run.support is not None and name in run.support:
            require_support(run, name)
            allowed = _flat(run.support[name])
            valid[:, part] &= allowed if places is None else allowed[batch, places]
    values.masked_fill_(~valid, 0)
    mass = values.sum(-1)
    valid &= (mass > 0)[..., None]  # a row without weight there has nothing to condition on
    values /= mass.clamp_min(torch.finfo(wide).tiny)[..., None]
    every = tuple(places for places, _, _ in chosen)
    return Rows(view, attention, valid, values, mass, mask, counted, numbers, every)


def site_mask(run: Run, site: str, feature: str | None = None) -> Tensor:
    """The mask ``(B, L)`` that goes with a site or feature."""
    if isinstance(run.mask, Tensor):
        return run.mask
    for name in (site, feature):
        if name is not None and name in run.mask:
            return run.mask[name]
    raise AdapterError(
        f"mask must cover the site {site!r}; got masks for {_names(run.mask)}. "
        "Add it to the run, or name the feature in the view."
    )


def _shared_mask(run: Run, names: Sequence[str], feature: str | None) -> Tensor:
    """The mask of the chosen sites, which must be one."""
    mask = site_mask(run, names[0], feature)
    shape = run.attention[names[0]].shape
    if mask.shape != (shape[0], shape[-1]):
        raise AdapterError(
            f"mask must have shape {(shape[0], shape[-1])} for the site {names[0]!r}; "
            f"got {tuple(mask.shape)}. Return a mapping with one mask a site."
        )
    masks = {name: site_mask(run, name, feature) for name in names}
    other = [name for name in names if not _equal(masks[name], mask)]
    if other:
        alike = [name for name in names if name not in other]
        call = f"AttentionView({alike if len(alike) > 1 else alike[0]!r})"
        raise AdapterError(
            f"view must choose sites over the same positions; got {names[0]!r} and {other[0]!r}, "
            f"whose masks differ. Choose with view={call}."
        )
    return mask


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or torch.equal(one, other)


def _chosen(
    run: Run, name: str, view: AttentionView, mask: Tensor
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Places (B or 1, R) of a site's rows (None for all), which count, and ranks of queries."""
    attention = run.attention[name]
    size, device = len(attention), attention.device
    if attention.ndim == 2 and view.heads is None and view.query is None:
        one = torch.zeros(size, 1, 1, dtype=torch.long, device=device)
        return None, one[..., 0] == 0, one
    n_heads = attention.shape[1] if attention.ndim == 4 else 1
    n_queries = attention.shape[-2] if attention.ndim > 2 else 1
    heads = _heads(view, n_heads, name).to(device)
    queries = _queries(run, name, view, mask, n_queries).to(device)
    places = (heads[:, None] * n_queries + queries[:, None]).flatten(1)  # (B or 1, R)
    flags = torch.ones(size, queries.shape[1], dtype=torch.bool, device=device)
    real = _real_queries(run, name) if view.query is None else None
    if real is not None:
        flags = real.to(device)
    ranks = (flags.long().cumsum(-1) - 1).clamp_min(0)
    whole = view.query is None and torch.equal(heads, torch.arange(n_heads, device=device))
    return (
        None if whole or n_heads * n_queries == 1 else places,
        flags.repeat(1, len(heads)),
        ranks[:, None].expand(-1, len(heads), -1),
    )


def _heads(view: AttentionView, n_heads: int, name: str) -> Tensor:
    """The chosen heads, numbered from 0."""
    chosen = range(n_heads) if view.heads is None else as_tuple(view.heads)
    _in_range("heads", chosen, n_heads, name)
    heads = [head % n_heads for head in chosen]
    if len(set(heads)) < len(heads):
        raise ValueError(
            f"view.heads must name each head once; got {list(chosen)}. Leave out the repetition."
        )
    return torch.tensor(heads)


def _queries(run: Run, name: str, view: AttentionView, mask: Tensor, count: int) -> Tensor:
    """The chosen queries (B or 1, n), numbered from 0."""
    if view.query is None:
        return torch.arange(count)[None]
    if isinstance(view.query, str):  # "last"
        return _last_query(run, name, mask, count)[:, None]
    if not isinstance(view.query, Tensor):
        _in_range("query", (view.query,), count, name)
        return torch.tensor([[view.query % count]])
    whole = not view.query.is_floating_point() and view.query.dtype != torch.bool
    if view.query.shape != mask.shape[:1] or not whole:
        raise ValueError(
            f"view.query must have one row per instance, shape ({len(mask)},), int64; "
            f"got {view.query.dtype} {tuple(view.query.shape)}. "
            "Pass an int for the same row everywhere."
        )
    _in_range("query", view.query.tolist(), count, name)
    return (view.query % count)[:, None]


def _last_query(run: Run, name: str, mask: Tensor, count: int) -> Tensor:
    """Number (B,) of each instance's last real query; the last of all where none is known."""
    real = _real_queries(run, name)
    if real is None and not is_cross(name, run.attention):
        real = mask[:, :count]
    if real is None:
        return torch.full(mask.shape[:1], count - 1)
    return real.shape[1] - 1 - real.flip(1).byte().argmax(1)


def _real_queries(run: Run, name: str) -> Tensor | None:
    """Which queries (B, Lq) are not padding, where the adapter says so and keys are queries."""
    real = getattr(run.state, "real", None)
    if not isinstance(real, Mapping) or name not in real or is_cross(name, run.attention):
        return None
    flags: Tensor = real[name]
    count = run.attention[name].shape[-2]
    return flags[:, :count] if flags.shape[-1] >= count else None


def _in_range(name: str, indices: Sequence[int], size: int, site: str) -> None:
    if len(indices) == 0 or any(not -size <= index < size for index in indices):
        raise ValueError(
            f"view.{name} must lie in 0..{size - 1} for site {site!r}; got {list(indices)}. "
            "Negative numbers count from the end."
        )


def _flat(attention: Tensor) -> Tensor:
    """(B, Lk), (B, Lq, Lk) or (B, H, Lq, Lk) as (B, H * Lq, Lk)."""
    return attention.reshape(len(attention), -1, attention.shape[-1])


def _names(mapping: Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in mapping)
