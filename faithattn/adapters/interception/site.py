"""A place where a model computes attention."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("softmax", "sdpa", "multi_head", "flex", "module")


@dataclass(frozen=True)
class Site:
    """One place where something like attention was computed.

    Attributes:
        name: Path of the module whose forward was running ("attention" for
            the model itself), with ``#n`` for the n-th further call.
        kind: ``"softmax"``, ``"sdpa"`` (scaled_dot_product_attention),
            ``"multi_head"`` (multi_head_attention_forward), ``"flex"`` or
            ``"module"`` (a submodule's output).
        shape: Shape of the weights: ``(B, Lk)``, ``(B, Lq, Lk)`` or
            ``(B, H, Lq, Lk)``.
        where: File name and line of the call.
        call: How many calls of the same module came before it.
        role: ``"attention"``, or what speaks against it: ``"gate"`` (keys that
            do not follow the length of the input), ``"output"`` (what the
            model returns), ``"keys are no positions"``, ``"layout unknown"``.
        used: Whether :func:`faithattn.adapt` takes it as attention.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    where: str
    call: int = 0
    role: str = "attention"
    used: bool = True

    def __str__(self) -> str:
        remark = "" if self.role == "attention" else f", {self.role}"
        return f"{self.name!r} {self.shape} ({self.kind}, {self.where}{remark})"
