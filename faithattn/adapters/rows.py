"""The rows that a view chooses, conditioned on what can be explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from faithattn.adapters.protocol import Run
from faithattn.adapters.view import AttentionView, as_tuple
from faithattn.errors import AdapterError


@dataclass(frozen=True)
class Rows:
    """The chosen attention rows, conditioned on what can be explained.

    Attributes:
        view: The view that chose them.
        attention: All weights of the site, detached, in the shape of the site.
        valid: ``(B, R, L)`` bool, mask and support of each row.
        conditional: ``(B, R, L)`` rows divided by their mass at valid positions.
        mass: ``(B, R)`` weight of each row on its valid positions.
        mask: ``(B, L)`` bool.
    """

    view: AttentionView
    attention: Tensor
    valid: Tensor
    conditional: Tensor
    mass: Tensor
    mask: Tensor
    _heads: Tensor
    _queries: Tensor

    @property
    def explanation(self) -> Tensor:
        """Mean of the rows at the positions of the mask, ``(B, L)``; 0 elsewhere."""
        return (self.conditional * self.mass[..., None]).mean(1)

    @property
    def max_attention(self) -> Tensor:
        """Largest conditional weight, averaged over rows, ``(B,)``; nan without positions."""
        highest = self.conditional.amax(-1).mean(1)
        return highest.masked_fill(~self.valid.any(-1).any(-1), torch.nan)

    def override(self, conditional: Tensor) -> Tensor:
        """Site attention ``(K, B, ...)`` with rows ``(K, B, R, L)`` put in.

        Each row keeps its mass at the valid positions and its weights elsewhere.
        """
        count = conditional.shape[0]
        base = self.attention.expand(count, *self.attention.shape)
        masses = self.mass[..., None].to(conditional.dtype)
        if self.attention.ndim == 2:
            mixed = torch.where(self.valid[:, 0], (conditional * masses)[:, :, 0], base)
            return mixed.to(base.dtype)
        full = _four_dimensional(self.attention).expand(count, *self._shape4()).clone()
        batch = torch.arange(full.shape[1], device=full.device)[:, None]
        kept = full[:, batch, self._heads, self._queries]
        mixed = torch.where(self.valid, conditional * masses, kept).to(full.dtype)
        full[:, batch, self._heads, self._queries] = mixed
        return full.reshape(base.shape)

    def _shape4(self) -> torch.Size:
        return _four_dimensional(self.attention).shape


def choose_rows(run: Run, view: AttentionView | None) -> Rows:
    """Applies a view, or the only possible one, to a run."""
    view = _resolve(run, view)
    attention = run.attention[view.site].detach()
    four = _four_dimensional(attention)
    heads, queries = _indices(four, view)
    batch = torch.arange(four.shape[0], device=four.device)[:, None]
    values = four[batch, heads, queries]
    mask = site_mask(run, view.site, view.feature)
    if mask.shape != (len(values), values.shape[-1]):
        raise AdapterError(
            f"mask must have shape {(len(values), values.shape[-1])} for the site {view.site!r}; "
            f"got {tuple(mask.shape)}. Return a mapping with one mask a site."
        )
    valid = mask[:, None].expand(values.shape)
    if run.support is not None and view.site in run.support:
        valid = valid & _four_dimensional(run.support[view.site])[batch, heads, queries]
    wide = values if values.dtype == torch.float64 else values.float()
    inside = torch.where(valid, wide, 0)
    mass = inside.sum(-1)
    valid = valid & (mass > 0)[..., None]  # a row without weight there has nothing to condition on
    conditional = inside / mass.clamp_min(torch.finfo(wide.dtype).tiny)[..., None]
    return Rows(view, attention, valid, conditional, mass, mask, heads, queries)


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


def _resolve(run: Run, view: AttentionView | None) -> AttentionView:
    """Checks a given view, or finds the single row of a single site."""
    if view is not None:
        if not isinstance(view, AttentionView):
            raise TypeError(
                f"view must be an AttentionView; got {type(view).__name__}. "
                "Use view=AttentionView(site, heads=..., query=...)."
            )
        if view.site not in run.attention:
            raise AdapterError(
                f"view must name a site of the model; got {view.site!r}, "
                f"and the sites are {_listing(run.attention)}."
            )
        return view
    if len(run.attention) == 1:
        ((name, attention),) = run.attention.items()
        if all(size == 1 for size in attention.shape[1:-1]):
            return AttentionView(name)
    first = next(iter(run.attention))
    raise AdapterError(
        "view must say which attention rows are the explanation; the model has "
        f"{_listing(run.attention)}. "
        f"Choose with view=AttentionView({first!r}, heads=None, query=0)."
    )


def _indices(attention: Tensor, view: AttentionView) -> tuple[Tensor, Tensor]:
    """Head index (1, R) and query index (B or 1, R) of the chosen rows."""
    _, n_heads, n_queries, _ = attention.shape
    device = attention.device
    chosen = range(n_heads) if view.heads is None else as_tuple(view.heads)
    _in_range("heads", chosen, n_heads, view.site)
    heads = torch.tensor([head % n_heads for head in chosen], device=device)
    if len({head % n_heads for head in chosen}) < len(chosen):
        raise ValueError(
            f"view.heads must name each head once; got {list(chosen)}. Leave out the repetition."
        )
    if isinstance(view.query, Tensor):
        whole = not view.query.is_floating_point() and view.query.dtype != torch.bool
        if view.query.shape != attention.shape[:1] or not whole:
            raise ValueError(
                f"view.query must have one row per instance, shape ({attention.shape[0]},), int64; "
                f"got {view.query.dtype} {tuple(view.query.shape)}. "
                "Pass an int for the same row everywhere."
            )
        _in_range("query", view.query.tolist(), n_queries, view.site)
        queries = (view.query.to(device) % n_queries)[:, None].expand(-1, len(heads))
        return heads[None], queries
    rows = range(n_queries) if view.query is None else (view.query,)
    _in_range("query", rows, n_queries, view.site)
    picked = torch.tensor([row % n_queries for row in rows], device=device)
    grid_heads, grid_queries = torch.meshgrid(heads, picked, indexing="ij")
    return grid_heads.reshape(1, -1), grid_queries.reshape(1, -1)


def _in_range(name: str, indices: Sequence[int], size: int, site: str) -> None:
    if len(indices) == 0 or any(not -size <= index < size for index in indices):
        raise ValueError(
            f"view.{name} must lie in 0..{size - 1} for site {site!r}; got {list(indices)}. "
            "Negative numbers count from the end."
        )


def _four_dimensional(attention: Tensor) -> Tensor:
    """(B, Lk), (B, Lq, Lk) or (B, H, Lq, Lk) as (B, H, Lq, Lk)."""
    while attention.ndim < 4:
        attention = attention.unsqueeze(1)
    return attention


def _names(mapping: Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in mapping)


def _listing(attention: Mapping[str, Tensor]) -> str:
    """Names and shapes of sites for a message."""
    return ", ".join(f"{name!r} {tuple(value.shape)}" for name, value in attention.items())
