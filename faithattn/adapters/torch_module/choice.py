"""Which of the sites and embeddings that were seen are the model's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from faithattn.adapters.interception.site import Site
from faithattn.errors import AdapterError


def choose_embedding(
    name: str | None, embedded: dict[str, Tensor], logits: Tensor
) -> dict[str, Tensor]:
    """Keeps the embedding that was asked for, or those with a row for every instance."""
    if name is not None:
        if name not in embedded:
            ran = ", ".join(map(repr, embedded)) or "none"
            raise AdapterError(
                f"embedding must be the path of an nn.Embedding that runs; got {name!r}, "
                f"and these ran: {ran}."
            )
        return {name: embedded[name]}
    size = logits.shape[:1]
    return {key: value for key, value in embedded.items() if value.shape[:-2] == size}


def candidates(
    seen: list[tuple[Site, Tensor]], embedded: Mapping[str, Tensor]
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


def choose_site(
    name: str | None, seen: list[tuple[Site, Tensor]], embedded: Mapping[str, Tensor]
) -> tuple[str, Tensor]:
    """Name and weights of the site that was asked for, or of the only candidate."""
    found = candidates(seen, embedded)
    if name is not None:
        found = [(site, value) for site, value in seen if site.name == name]
    if not found:
        listing = "; ".join(str(site) for site, _ in seen) or "none"
        asked = "" if name is None else f" named {name!r}"
        raise AdapterError(
            f"model must compute attention{asked} that can be seen: a softmax over positions, "
            f"or a submodule whose output it is; got these candidates: {listing}. "
            "Name one with adapt(model, site=...)."
        )
    if len(found) > 1:
        listing = "; ".join(str(site) for site, _ in found)
        raise AdapterError(
            f"site must be chosen where a model has several; got {listing}. "
            f"Use adapt(model, site={found[0][0].name!r})."
        )
    site, value = found[0]
    return site.name, value
