"""What the matrix needs to know about one model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from faithattn import AttentionView

Weights = dict[str, Tensor]
EAGER_AND_SDPA = ("eager", "sdpa")


@dataclass(frozen=True)
class Entry:
    """A small model with inputs, and what is known about it without faithattn.

    Attributes:
        model: The module, in whatever mode its author left it.
        inputs: What it takes, B = 3.
        sites: Names of its attention in the order of the calls.
        own_weights: The weights as the model itself computes or returns them, in
            the canonical layout, by site.
        options: Keywords of ``adapt``.
        view: Which rows are the explanation; None where there is only one.
        removal: How leave-one-out takes a position away.
        feature: Path of a module whose output carries the gradient of the
            feature ``feature_name``, and has its layout.
        feature_name: Name of the feature in ``Run.features``; "" where the model has
            none that is as long as the keys.
        replayed: How alternatives are computed.
        feature_scale: What the module multiplies the feature by.
        feature_is_input: Whether it is what that module is given instead.
        outputs: Submodules whose output is attention, where no function is.
        heads: Heads that the model folds into the batch, ``(B * heads, Lq, Lk)``.
        skip: Tells a normalisation that is no attention, from its weights.
        layout: For layouts of its own: weights to canonical and back.
        compared: Rows of a site that mean something; None for all. Bool,
            broadcastable to the weights.
    """

    model: nn.Module
    inputs: Any
    sites: tuple[str, ...]
    own_weights: Callable[[], Weights]
    feature: str
    feature_name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    view: AttentionView | None = None
    removal: str = "delete"
    replayed: str = "recorded"
    feature_scale: float = 1.0
    feature_is_input: bool = False
    outputs: tuple[str, ...] = ()
    heads: int | None = None
    skip: Callable[[Tensor], bool] = lambda _weights: False
    layout: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] | None = None
    compared: Mapping[str, Tensor] = field(default_factory=dict)

    def forward(self) -> Tensor:
        """The logits, by a plain call in eval mode."""
        call, logits = self.options.get("call"), self.options.get("logits")
        with evaluated(self.model):
            returned = call(self.model, self.inputs) if call else called(self.model, self.inputs)
        return logits(returned) if logits else plain_logits(returned)


Builder = Callable[[str], Entry]


@dataclass(frozen=True)
class Architecture:
    """A builder of entries, one for each way the model can compute attention.

    Attributes:
        name: Row of the table.
        build: Makes the entry of a variant.
        variants: ``("eager", "sdpa")`` or ``("",)``.
        needs: Package it needs besides torch.
    """

    name: str
    build: Builder
    variants: tuple[str, ...] = ("",)
    needs: str = ""


REGISTRY: dict[str, Architecture] = {}


def architecture(
    name: str, *, variants: tuple[str, ...] = ("",), needs: str = ""
) -> Callable[[Callable[..., Entry]], Callable[..., Entry]]:
    """Puts a builder into the zoo; it takes the variant where there are several."""

    def register(build: Callable[..., Entry]) -> Callable[..., Entry]:
        takes = bool(inspect.signature(build).parameters)
        builder: Builder = build if takes else lambda _variant: build()
        REGISTRY[name] = Architecture(name, builder, variants, needs)
        return build

    return register


def called(model: nn.Module, inputs: Any) -> Any:
    """A module on a tensor, a tuple or a mapping."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def plain_logits(returned: Any) -> Tensor:
    """A tensor, the field of that name, or the first of several."""
    if isinstance(returned, Tensor):
        return returned
    logits = getattr(returned, "logits", None)
    return logits if logits is not None else returned[0]  # type: ignore[no-any-return]


@contextmanager
def evaluated(model: nn.Module) -> Any:
    """Eval mode of every part, put back afterwards."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def built(make: Callable[[], nn.Module], *, seed: int = 0, gain: float = 1.3) -> Any:
    """A module with parameters of one seed, loud enough for attention to matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
        with torch.no_grad():
            for part in model.modules():
                for parameter in part.parameters(recurse=False):
                    _draw(part, parameter, gain)
    return model


def _draw(part: nn.Module, parameter: nn.Parameter, gain: float) -> None:
    """Matrices by their fan-in, embeddings of unit size, vectors moved a little."""
    if parameter.ndim < 2:
        parameter.add_(0.1 * torch.randn_like(parameter))
    elif isinstance(part, nn.Embedding):
        parameter.normal_()
    else:
        fan_in = parameter[0].numel() if parameter.shape[0] > 1 else parameter.shape[-1]
        parameter.normal_(0, gain / fan_in**0.5)


def texts(lengths: tuple[int, ...] = (7, 5, 8), *, vocabulary: int = 60, seed: int = 1) -> Tensor:
    """Ids from 5 up, padded with 0 at the end."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(5, vocabulary, (length,), generator=generator)
    return ids


def numbers(*shape: int, seed: int = 2) -> Tensor:
    """Normal numbers of one seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
