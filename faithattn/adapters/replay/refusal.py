"""What cannot be replayed, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload


class Unrecordable(Exception):  # noqa: N818
    """This forward cannot be replayed; the text is the reason, one sentence."""


# Functions that look at values without a dispatched operation, or hand out the memory itself.
READS: frozenset[Any] = frozenset(
    [
        *(Tensor.tolist, Tensor.numpy, Tensor.item, Tensor.__array__, Tensor.__deepcopy__),
        *(Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__, Tensor.__complex__),
        *(Tensor.__reduce_ex__, Tensor.__dlpack__, Tensor.__contains__, Tensor.data_ptr),
        *(Tensor.storage, Tensor.untyped_storage, Tensor.apply_, Tensor.map_, Tensor.map2_),
        *(Tensor.share_memory_, Tensor.new_tensor, torch.tensor, torch.as_tensor, torch.asarray),
        *(torch.tensor_split, Tensor.tensor_split, torch.is_nonzero, torch.equal, Tensor.equal),
        *(Tensor.data.__set__, Tensor.is_nonzero),  # type: ignore[attr-defined]
    ]
)
_SHAPE_ONLY = frozenset(
    f"aten::{name}"
    for name in (
        *("empty_like", "zeros_like", "ones_like", "full_like"),
        *("new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided"),
    )
)
_RESHAPES_MEMORY = frozenset(f"aten::{name}" for name in ("set_", "resize_", "resize_as_"))
_BATCH_NORMS = frozenset(f"aten::{name}_batch_norm" for name in ("native", "cudnn", "miopen"))


@dataclass(frozen=True)
class Traits:
    """What is asked of an operation each time it is called.

    Attributes:
        name: Qualified name without the overload.
        writes: Positions of the arguments that are written.
        shape_only: The result depends on shapes alone.
        reads: The result's shape, or Python value, depends on the values.
        composite: It is made of other operations, which are recorded instead.
        random: It may draw random numbers.
        reshapes: It changes the shape or memory of its argument in place.
    """

    name: str
    arguments: tuple[str, ...]
    writes: tuple[int, ...]
    shape_only: bool
    reads: bool
    composite: bool
    random: bool
    reshapes: bool


@cache
def traits(func: OpOverload[Any, Any]) -> Traits:
    """The traits of an operation."""
    schema, tags, tag = func._schema, func.tags, torch.Tag
    name = schema.name
    writes = [
        i
        for i, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return Traits(
        name=name,
        arguments=tuple(argument.name for argument in schema.arguments),
        writes=tuple(writes),
        shape_only=name in _SHAPE_ONLY,
        reads=tag.data_dependent_output in tags or tag.dynamic_output_shape in tags,
        composite=torch._C._dispatch_has_kernel_for_dispatch_key(
            func.name(),  # type: ignore[no-untyped-call]
            "CompositeImplicitAutograd",
        ),
        random=tag.nondeterministic_seeded in tags,
        reshapes=tag.inplace_view in tags or name in _RESHAPES_MEMORY,
    )


def draws(known: Traits, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """True if this call draws random numbers; dropout of zero, or outside training, does not."""
    if not known.random:
        return False
    given = {**dict(zip(known.arguments, args, strict=False)), **kwargs}
    names = ("dropout_p", "p", "dropout")
    idle = any(name in given and not given[name] for name in (*names, "train", "training"))
    # Fused attention leaves a dropout out of its arguments when it is the default, zero.
    return not (idle or ("dropout_p" in known.arguments and "dropout_p" not in given))


def check_call(
    known: Traits,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    depends: Callable[[Tensor], bool],
) -> None:
    """Refuses a call with attention-dependent arguments whose replay could be wrong."""
    name = known.name
    if name in ("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"):
        chosen = [i for i in tensors_in(args[1]) if i.dtype in (torch.bool, torch.uint8)]
        static = name == "aten::index_put_" and is_scalar_choice(args)
        if any(map(depends, chosen)) and not static:
            raise Unrecordable(f"{name} selects positions by values of the attention.")
    elif known.reads:
        raise Unrecordable(f"{name} reads a value that depends on the attention.")
    if name == "aten::_pack_padded_sequence" and depends(args[1]):
        raise Unrecordable("Sequence lengths depend on the attention.")
    if name in _BATCH_NORMS:
        given = {**dict(zip(known.arguments, args, strict=False)), **kwargs}
        if given.get("training") and given.get("running_mean") is not None:
            raise Unrecordable(f"{name} updates running statistics.")


def is_scalar_choice(args: tuple[Any, ...]) -> bool:
    """True for ``target[mask] = number``, whose shape does not depend on the mask."""
    _, indices, value, *accumulate = args
    return (
        len(indices) == 1
        and indices[0] is not None
        and indices[0].dtype == torch.bool
        and value.numel() == 1
        and not any(accumulate)
    )


def check_plain(tensor: Tensor) -> None:
    """Refuses tensors that are more, or other, than strided memory."""
    kind = type(tensor)
    if kind is not Tensor and kind.__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise Unrecordable(f"Tensors of type {kind.__name__} hide operations.")
    if tensor.is_nested:
        raise Unrecordable("Nested tensors are not recorded.")


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Every tensor among arguments, which may be nested in lists, tuples and mappings."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors_in(value)
