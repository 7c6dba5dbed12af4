"""TorchAdapter: a module as an attention model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from faithattn.adapters.inputs.columns import check_positions
from faithattn.adapters.inputs.deletion import (
    delete_positions,
    delete_sets,
)
from faithattn.adapters.inputs.masks import is_tokenizer, real_positions
from faithattn.adapters.inputs.source import tensor_at, with_special_tokens
from faithattn.adapters.inputs.structure import is_integer, select_rows
from faithattn.adapters.interception.site import Site
from faithattn.adapters.protocol import Run
from faithattn.adapters.torch_module.alternatives import State, replayed
from faithattn.adapters.torch_module.calls import Override, check_reached
from faithattn.adapters.torch_module.dependence import dependent
from faithattn.adapters.torch_module.features import removable, with_feature
from faithattn.adapters.torch_module.order import (
    require_instances_in_order,
    require_positions_in_order,
)
from faithattn.adapters.torch_module.passes import Runner
from faithattn.adapters.torch_module.request import Request
from faithattn.adapters.torch_module.runs import positions_of, shown, supports_of
from faithattn.adapters.torch_module.sites import described_sites, settled, used_sites
from faithattn.adapters.torch_module.values import Values, transformed_values
from faithattn.adapters.view import AttentionView

MaskRule = Callable[[Any], Tensor] | Tensor | int


@dataclass(frozen=True)
class Options:
    """What adapt() was told about a model."""

    site: str | None
    mask: MaskRule | None
    embedding: str | None
    output: str


class TorchAdapter:
    """A module as an attention model; made by :func:`adapt`.

    Attributes:
        model: The module, left exactly as it is.
        output: How its logits become probabilities.
        mask_token_id: Id of the mask token, if ``mask`` was a tokenizer.

    Examples:
        >>> import torch
        >>> from faithattn import adapt
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
        runner: Runner,
        options: Options,
        focus: frozenset[str] | None = None,
        alternatives: int = 0,
    ) -> None:
        self.model = model
        self.output = options.output
        self.mask_token_id: int | None = getattr(options.mask, "mask_token_id", None)
        self._runner = runner
        self._options = options
        self._focus = focus
        self._alternatives = alternatives

    def __repr__(self) -> str:
        return (
            f"TorchAdapter({type(self.model).__name__}, site={self._options.site!r}, "
            f"embedding={self._options.embedding!r}, output={self.output!r})"
        )

    def run(
        self,
        inputs: Any,
        *,
        attention: Mapping[str, Override] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Runs the model once, with attention or features replaced if given.

        Args:
            inputs: A tensor, tuple (positions) or mapping (keywords).
            attention: By site, weights in the shape of the site, used as
                given, or a function of the model's own weights.
            features: By name, ``(B, L, E)``.

        Raises:
            AdapterError: If the model fails on these inputs, no site is found,
                or an override is never reached.
            TypeError: If the inputs are no tensor, tuple or mapping and no
                ``call`` was given.
            ValueError: If they hold no instance.
        """
        request = self._request(inputs, attention or {}, features or {})
        done = settled(self._runner, request)
        used = used_sites(self._runner, done)
        done, used, embedded = with_feature(self._runner, done, used)
        check_reached("attention", attention, {each.place.name for each in done.seen})
        check_reached("features", features, {each.name for each in embedded})
        done = dependent(self._runner, done)
        positions = positions_of(done, used, embedded, self._options.mask, self._runner.plan)
        require_instances_in_order(self._runner, done, used)
        if not attention:
            require_positions_in_order(used, positions.real[used[0].place.name])
        values = {each.name: each.value for each in embedded}
        state = State(
            done.request,
            done.size,
            values,
            positions.real,
            dict(self._runner.plan.feature_of),
            done.places,
            done.program,
            done.refusal,
        )
        weights = {each.place.name: shown(each) for each in used}
        mask = positions.shared()
        return Run(done.logits, weights, mask, values, supports_of(used), state)

    def replay(self, state: Any, attention: Mapping[str, Tensor]) -> Tensor:
        """Logits ``(K, B, C)`` under attention ``(K, B, ...)``.

        Raises:
            AdapterError: If the logits do not depend on the attention.
            TypeError: If ``state`` is not that of a run.
            ValueError: If ``attention`` names no site, or holds no alternatives.
        """
        return replayed(self._runner, state, attention)

    def replayed_by(self, state: Any) -> str:
        """How alternatives are computed: ``"recorded"`` or ``"whole forwards"``."""
        return "whole forwards" if state.program is None else "recorded"

    def remove(self, inputs: Any, positions: Tensor) -> Any:
        """Deletes one position of each row from ids and masks; lengths become one less.

        Raises:
            AdapterError: If the inputs hold something else that may be as
                long, or count positions, so that deletion cannot adjust it.
            TypeError: If the positions are no tensor of whole numbers.
            ValueError: If a position is outside the inputs, or padding.
        """
        check_positions(positions)
        return self._without(inputs, positions, delete_positions)

    def remove_sets(self, inputs: Any, gone: Tensor) -> Any:
        """Deletes the positions ``gone`` (n, L) of each row.

        Raises:
            AdapterError: As :meth:`remove`; or where rows lose different
                numbers of positions and nothing says what padding is.
        """
        counts = gone.sum(1)
        if (counts == counts[:1]).all():
            positions = gone.nonzero()[:, 1].view(len(gone), -1)
            return self._without(inputs, positions, delete_positions)
        return self._without(inputs, gone, self._delete_sets)

    def _delete_sets(self, inputs: Any, gone: Tensor, real: Tensor, **known: Any) -> Any:
        rule = self._options.mask
        padding = getattr(rule, "pad_token_id", rule)
        padding = padding if isinstance(padding, int) else None
        gone = gone[:, : real.shape[1]].to(real.device)
        return delete_sets(inputs, gone, real, padding=padding, **known)

    def _without(self, inputs: Any, which: Tensor, delete: Callable[..., Any]) -> Any:
        """The inputs without some positions, by a function that is told what they belong to."""
        inputs = with_special_tokens(inputs)
        plan = self._runner.plan
        known = [each.path for each in plan.sources.values() if each.path is not None]
        if not plan.sources or any(tensor_at(inputs, path) is None for path in known):
            with torch.no_grad():
                self.run(inputs)
        only = self._request(inputs, {}, {}).only or frozenset(plan.feature_of)
        source = removable(plan, only, inputs)
        ids, others = None, []
        for name, each in self._runner.plan.sources.items():
            value = None if each.path is None else tensor_at(inputs, each.path)
            if value is not None and name == source.name:
                ids = value
            elif value is not None:
                others.append(value)
        rule = self._options.mask
        mask = rule(inputs) if callable(rule) and not is_tokenizer(rule) else None
        if isinstance(mask, Mapping):
            mask = mask.get(source.name)
        shape = (len(which), source.length)
        told = mask if isinstance(mask, Tensor) and mask.shape == shape else None
        real = real_positions(rule, inputs, source, told, shape)
        return delete(inputs, which, real, ids=ids, others=others, mask=told)

    def select(self, inputs: Any, rows: Tensor) -> Any:
        """Returns the given rows of the inputs.

        Raises:
            TypeError: If the rows are no tensor of whole numbers.
            ValueError: If a row is outside the inputs.
        """
        return select_rows(with_special_tokens(inputs), rows)

    def sites(self, inputs: Any) -> list[Site]:
        """Every place that looks like attention for these inputs, in call order.

        Each says what speaks against it, and whether it would be used.
        """
        with torch.no_grad():
            done = settled(self._runner, self._request(inputs, {}, {}, everything=True))
            return described_sites(self._runner, done)

    def focused(self, names: frozenset[str] | None, *, alternatives: int = 0) -> TorchAdapter:
        """The same adapter, looking at these sites only; it prepares for a replay if asked."""
        known = names or self._focus
        return TorchAdapter(self.model, self._runner, self._options, known, alternatives)

    def unfocused(self) -> TorchAdapter:
        """The same adapter, looking at every site that adapt() was told to look at."""
        return TorchAdapter(self.model, self._runner, self._options)

    def transformed_values(self, state: Any, site: str, weights: Tensor) -> Values:
        """What a unit of weight adds to a site's output, by head and key.

        The value of each key, transformed by its head's part of the output
        projection, ``(B, H, Lk, E)``; that of a pooling row is the vector that
        is summed. With it comes which weights move anything at all.

        Args:
            state: That of a run.
            site: Name of the attention.
            weights: Its weights in that run, ``(B, Lk)``, ``(B, Lq, Lk)`` or
                ``(B, H, Lq, Lk)``.

        Raises:
            AdapterError: If the output is not affine in the weights, or cannot
                be told.
        """
        return transformed_values(self._runner, state.request, state.size, site, weights)

    def token_ids(self, inputs: Any, state: Any, site: str) -> Tensor | None:
        """Ids ``(B, L)`` of the positions of a site, as they are in the inputs; None if unknown."""
        sources = self._runner.plan.sources
        names = [state.feature_of[site]] if site in state.feature_of else list(sources)
        ways = [sources[name].path for name in names if name in sources]
        found = [None if path is None else tensor_at(inputs, path) for path in ways]
        ids = [each for each in found if each is not None and is_integer(each)]
        return ids[0] if len(ids) == 1 else None

    def recalled(self, view: AttentionView | None) -> AttentionView | None:
        """What a view came to in an earlier run, so that only its sites are looked at."""
        self._runner.plan.renew(self._runner.tree.parts().paths)
        known = None if _changes(view) else self._runner.plan.views.get((self._focus, view))
        return known or view

    def is_recalled(self, state: Any) -> bool:
        """Whether a run came by the calls that the plan was learned from."""
        return bool(state.places == self._runner.plan.places)

    def remember(self, view: AttentionView | None, resolved: AttentionView) -> None:
        """Keeps what a view came to; not where calls repeat, as their number may change."""
        names = resolved.names
        if not _changes(view) and names and not any("#" in name for name in names):
            self._runner.plan.views[self._focus, view] = resolved

    def _request(
        self,
        inputs: Any,
        attention: Mapping[str, Override],
        features: Mapping[str, Tensor],
        *,
        everything: bool = False,
    ) -> Request:
        plan, parts = self._runner.plan, self._runner.tree.parts()
        plan.renew(parts.paths)
        site = self._options.site
        only = self._focus or (frozenset({site}) if site is not None else None)
        only = None if everything else only
        return Request(
            with_special_tokens(inputs),
            only,
            attention,
            features,
            alternatives=self._alternatives,
            outputs=tuple(name for name in only or () if name in parts.by_path),
            mask=self._options.mask,
            tokens=plan.tokens.get(only),
            continuous=plan.continuous.get(only),
        )


def _changes(view: AttentionView | None) -> bool:
    """Whether a view holds a tensor, which belongs to one batch."""
    return view is not None and isinstance(view.query, Tensor)
