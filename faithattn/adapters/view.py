"""AttentionView: which site, heads and query rows are "the attention"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex, TypeAlias

from torch import Tensor
from typing_extensions import Self

_FEW = 3  # so many sites are named one by one


@dataclass(frozen=True)
class Choice:
    """A site that is found by what it does, once the sites of a run are known.

    Attributes:
        role: ``"only"``, ``"self"`` or ``"cross"``.
        layer: Its number among the sites of that role, in call order.
        step: Query row of a cross attention, or call where each row is a call.
    """

    role: str
    layer: int = -1
    step: int = -1

    def __post_init__(self) -> None:
        for name, value in (("layer", self.layer), ("step", self.step)):
            if not _is_index(value):
                raise TypeError(
                    f"{name} must be an int; got {value!r}. Number from 0, or from the end "
                    "with negative numbers."
                )

    def __str__(self) -> str:
        if self.role == "only":
            return "the only row"
        step = f", step {self.step}" if self.role == "cross" else ""
        return f"layer {self.layer} of {self.role} attention{step}"


Place: TypeAlias = "str | SupportsIndex"
Site: TypeAlias = "Place | Sequence[Place] | Choice | None"


@dataclass(frozen=True)
class AttentionView:
    """Which rows of which attention are taken as the explanation.

    The explanation is the mean of the chosen rows. A model with one site and
    one row needs no view. Views that most models share are ready-made:
    :meth:`cls`, :meth:`last_query`, :meth:`cross`, :meth:`mean` and
    :meth:`only`.

    Attributes:
        site: Name of the attention, as in ``Run.attention``; its number in
            call order (negative counts from the end); several names or
            numbers, of sites of one shape; None for every site.
        heads: A head, several, or None for all.
        query: A query row (negative counts from the end); ``"last"`` for the
            last real one of each instance; a tensor ``(B,)`` with one row per
            instance; None for all that are not padding.
        feature: The differentiable input to attribute to, where a run has
            several as long as the keys.

    Examples:
        >>> str(AttentionView("encoder.layer.3", heads=(0, 2), query=0))
        'encoder.layer.3, heads 0 and 2, query 0'
        >>> str(AttentionView(["encoder.layer.3", "encoder.layer.4"], query="last"))
        'encoder.layer.3 and encoder.layer.4, last query'
    """

    site: Site
    heads: int | Sequence[int] | None = None
    query: int | Tensor | str | None = None
    feature: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.site, Choice | str | SupportsIndex | None):
            object.__setattr__(self, "site", _places(self.site))
        elif isinstance(self.site, bool | Tensor):
            raise TypeError(_SITE_RULE.format(self.site))
        heads = () if self.heads is None else self.heads
        if isinstance(heads, str) or not all(_is_index(head) for head in as_tuple(heads)):
            raise TypeError(
                f"heads must be an int, several, or None for all; got {self.heads!r}. "
                "Number them from 0."
            )
        if self.heads is not None and not as_tuple(heads):
            raise ValueError(
                f"heads must name at least one head; got {self.heads!r}. Leave it out for all."
            )
        known = self.query is None or isinstance(self.query, Tensor) or _is_index(self.query)
        if not known and self.query != "last":
            raise TypeError(
                "query must be an int, 'last', a tensor with one row per instance, or None for "
                f"all; got {self.query!r}. Number the rows from 0."
            )

    @classmethod
    def only(cls) -> Self:
        """The single row of a model's single attention: what no view at all means.

        Returns:
            The view; applying it to a model with more rows is an error.

        Examples:
            >>> str(AttentionView.only())
            'the only row'
        """
        return cls(Choice("only"))

    @classmethod
    def cls(cls, layer: int = -1, heads: int | Sequence[int] | None = None) -> Self:
        """Row of the first token (CLS) in a layer of self attention, averaged over heads.

        Args:
            layer: Number of the layer in call order, negative from the end.
                Cross attention and pooling are not counted.
            heads: A head, several, or None for all.

        Returns:
            The view, for encoders that classify by their first token.

        Examples:
            >>> str(AttentionView.cls(layer=3, heads=0))
            'layer 3 of self attention, head 0, query 0'
        """
        return cls(Choice("self", layer), heads, 0)

    @classmethod
    def last_query(cls, layer: int = -1, heads: int | Sequence[int] | None = None) -> Self:
        """Row of each instance's last real token in a layer of self attention.

        Args:
            layer: Number of the layer in call order, negative from the end.
                Cross attention and pooling are not counted.
            heads: A head, several, or None for all.

        Returns:
            The view, for causal models, which predict from their last token,
            padded on either side.

        Examples:
            >>> str(AttentionView.last_query())
            'layer -1 of self attention, last query'
        """
        return cls(Choice("self", layer), heads, "last")

    @classmethod
    def cross(
        cls, layer: int = -1, step: int = -1, heads: int | Sequence[int] | None = None
    ) -> Self:
        """Row of one decoder step in a layer of cross attention, averaged over heads.

        Cross attention is told by its name (``encoder_attn``,
        ``crossattention``, ``EncDecAttention``, ...) or by having another
        number of queries than of keys.

        Args:
            layer: Number of the layer among those of cross attention, in call
                order, negative from the end.
            step: Decoder step, negative from the end: the query row, or the
                call where a decoder attends once a step.
            heads: A head, several, or None for all.

        Returns:
            The view, for models with an encoder and a decoder.

        Examples:
            >>> str(AttentionView.cross(step=0))
            'layer -1 of cross attention, step 0'
        """
        return cls(Choice("cross", layer, step), heads)

    @classmethod
    def mean(cls) -> Self:
        """Every site, head and real query of a model, averaged.

        Returns:
            The view, for models whose sites have one shape.

        Examples:
            >>> str(AttentionView.mean())
            'every site'
        """
        return cls(None)

    @property
    def names(self) -> tuple[str, ...] | None:
        """Sites that are asked for by name; None where that depends on the model."""
        places = self.site if isinstance(self.site, tuple) else (self.site,)
        named = tuple(place for place in places if isinstance(place, str))
        return named if len(named) == len(places) else None

    def __str__(self) -> str:
        heads = () if self.heads is None else as_tuple(self.heads)
        parts = [_site_text(self.site)]
        if heads:
            label = "head" if len(heads) == 1 else "heads"
            parts.append(f"{label} {' and '.join(str(head) for head in heads)}")
        if isinstance(self.query, Tensor):
            parts.append("one query per instance")
        elif self.query is not None:
            parts.append("last query" if self.query == "last" else f"query {self.query}")
        if self.feature is not None:
            parts.append(f"feature {self.feature}")
        return ", ".join(parts)


def as_tuple(heads: int | Sequence[int]) -> tuple[int, ...]:
    """One head, or several, as a tuple."""
    return tuple(heads) if isinstance(heads, Iterable) else (heads,)


def check_view(view: object) -> None:
    """Raises for what is given as a view and is none."""
    if view is not None and not isinstance(view, AttentionView):
        raise TypeError(
            f"view must be an AttentionView or None; got {type(view).__name__}. "
            "Use view=AttentionView(site, heads=..., query=...), or a ready-made one such as "
            "AttentionView.cls()."
        )


_SITE_RULE = (
    "site must be a name, a number, several of these, or None for every site; got {!r}. "
    "Take names from Run.attention."
)


def _places(site: object) -> tuple[Place, ...]:
    """Several names or numbers as a tuple."""
    places = tuple(site) if isinstance(site, Iterable) else ()
    if not places or not all(isinstance(place, str) or _is_index(place) for place in places):
        raise TypeError(_SITE_RULE.format(site))
    return places


def _site_text(site: Site) -> str:
    if site is None:
        return "every site"
    places = site if isinstance(site, tuple) else (site,)
    texts = [place if isinstance(place, str | Choice) else f"site {place}" for place in places]
    if len(texts) > _FEW:
        return f"{len(texts)} sites, {texts[0]} ... {texts[-1]}"
    return " and ".join(str(text) for text in texts)


def _is_index(value: object) -> bool:
    return isinstance(value, SupportsIndex) and not isinstance(value, bool | Tensor)
