"""A recorded forward, run again for other attention weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from faithattn._memory import chunk_size
from faithattn.adapters.replay.agreement import agree
from faithattn.adapters.replay.memory import Guard, Slot
from faithattn.adapters.replay.refusal import Unrecordable
from faithattn.adapters.replay.rules import can_batch
from faithattn.adapters.replay.simplify import simplify
from faithattn.adapters.replay.steps import Steps
from faithattn.adapters.replay.tape import Tape

# One chunk's largest intermediate should stay in a cache: beyond, batching saves calls that are
# no longer what takes the time. Measured on encoders: two together take half as long again as one
# by one, four as long, eight less.
_CACHED_BYTES = 2**22
_FEWEST_TOGETHER = 8


class Program:
    """What the logits are for other weights at the marked sites.

    Only what depends on the marked weights is computed; everything else is a
    constant of the recorded forward. Alternatives are computed in chunks under
    ``torch.func.vmap`` where many fit a cache, else one at a time.

    Attributes:
        inputs: Names of the marked sites.
        unused: Those among them that no logit depends on.
        depends: Whether the logits depend on any of them.
    """

    def __init__(
        self,
        tape: Tape,
        inputs: Mapping[str, Slot],
        output: Slot,
        *,
        gradients: bool,
        differentiable: bool,
    ) -> None:
        self.inputs = tuple(inputs)
        nodes = simplify(tape.nodes, output, tape.shapes)
        used = {output, *(slot for node in nodes for slot in node.reads)}
        self.unused = tuple(name for name, slot in inputs.items() if slot not in used)
        self.depends = len(self.unused) < len(inputs)
        self._guards = [g for s, g in tape.guards.items() if s in used and g is not None]
        self._check_constants()
        constants = {
            slot: _usable(value, gradients) for slot, value in tape.values.items() if slot in used
        }
        self._steps = Steps(nodes, list(inputs.values()), output, constants, tape.sizes)
        self._differentiable = differentiable
        rules = all(can_batch(node.function) for node in nodes)
        self._chunked = None if rules else False  # whether batching works; None: not tried yet
        self._devices = {value.device.type for value in constants.values()}

    def __call__(self, attention: Mapping[str, Tensor]) -> Tensor:
        """Logits of each alternative, stacked in front.

        Args:
            attention: For every marked site ``K`` alternatives in front of the
                shape that was marked.

        Raises:
            Unrecordable: If a constant changed since, a site has no alternative,
                or gradients are asked of a recording that cannot give them.
        """
        stacks = self._stacks(attention)
        self._check_constants()
        asked = torch.is_grad_enabled() and any(stack.requires_grad for stack in stacks)
        if asked and not self._differentiable:
            raise Unrecordable("The model turns gradients on or off after its attention.")
        with _without_autocast(self._devices | {stacks[0].device.type}):
            return self._all(stacks)

    def verify(self, attention: Mapping[str, Tensor], logits: Tensor) -> None:
        """Replays the recorded weights and compares.

        Raises:
            Unrecordable: If the logits differ from the recorded ones.
        """
        self._shapes = {name: (w.shape, w.dtype, w.device) for name, w in attention.items()}
        with torch.no_grad(), _without_autocast(self._devices | {logits.device.type}):
            try:
                replayed = self._steps(*(attention[name] for name in self.inputs))
            except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
                raise Unrecordable(f"The recording does not run: {error!r}.") from error
        if not agree(logits, replayed):
            raise Unrecordable("The recording does not give the model's own logits.")

    def chunk(self, count: int) -> int:
        """Alternatives computed together: within the cache and the memory budget, else one."""
        cached = _CACHED_BYTES // max(1, self._steps.largest)
        budget = chunk_size(self._steps.peak, bytes_per_element=1)
        together = min(count, cached, budget)
        return together if together >= _FEWEST_TOGETHER else 1

    def _all(self, stacks: Sequence[Tensor]) -> Tensor:
        count = len(stacks[0])
        if not self.depends:
            constant = self._steps(*(stack[:1] for stack in stacks))
            return constant.expand(count, *constant.shape)
        chunk = self.chunk(count)
        if chunk > 1 and self._chunked is not False:
            parts = self._batched(stacks, chunk)
            if parts is not None:
                return parts[0] if len(parts) == 1 else torch.cat(parts)
        if not count:
            return self._steps(*(stack.new_zeros(stack.shape[1:]) for stack in stacks))[None][:0]
        return torch.stack([self._steps(*each) for each in zip(*stacks, strict=True)])

    def _batched(self, stacks: Sequence[Tensor], chunk: int) -> list[Tensor] | None:
        """Outputs chunk by chunk; None, and never tried again, where batching is not right."""
        parts = []
        count = len(stacks[0])
        chunk = -(-count // -(-count // chunk))  # of about equal size
        try:
            for start in range(0, count, chunk):
                batch = [stack[start : start + chunk] for stack in stacks]
                parts.append(torch.func.vmap(self._steps)(*batch))
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
            self._chunked = False
            return None
        if self._chunked is None:
            with torch.no_grad():
                first = self._steps(*(stack[0].detach() for stack in stacks))
            self._chunked = agree(first, parts[0][0].detach())
        return parts if self._chunked else None

    def _stacks(self, attention: Mapping[str, Tensor]) -> list[Tensor]:
        """Alternatives in the order of the inputs, all of them of the recorded shape."""
        missing = [name for name in self.inputs if name not in attention]
        if missing:
            raise Unrecordable(f"No alternatives are given for {', '.join(missing)}.")
        stacks = []
        for name in self.inputs:
            shape, dtype, device = self._shapes[name]
            stack = attention[name]
            if stack.shape[1:] != shape:
                raise ValueError(
                    f"attention[{name!r}] must have shape (K, {', '.join(map(str, shape))}); "
                    f"got {tuple(stack.shape)}. Stack alternatives in front."
                )
            stacks.append(stack.to(device, dtype))
        if len({len(stack) for stack in stacks}) > 1:
            raise ValueError(
                "attention must have as many alternatives for every site; "
                f"got {[len(stack) for stack in stacks]}. Repeat the fewer ones."
            )
        return stacks

    def _check_constants(self) -> None:
        if not all(map(Guard.holds, self._guards)):
            raise Unrecordable("A tensor that the replay needs was changed in place.")


def _usable(value: Tensor, gradients: bool) -> Tensor:
    """A constant as the replay uses it: on the graph only if it was recorded with gradients."""
    if value.is_inference():
        with torch.inference_mode(False):
            return value.clone()
    return value if gradients else value.detach()


@contextmanager
def _without_autocast(devices: set[str]) -> Iterator[None]:
    """Casts were recorded; another one would change the numbers."""
    with ExitStack() as stack:
        for device in devices:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
