"""States of texts that differ in places from texts that a BiLSTM has read.

A direction has the states of the text that was read up to the first difference
in its way, and the projection W x of a vector that occurs in several places is
computed once. What is left are the products with the state before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from faithattn._memory import chunk_size
from faithattn.paper.models.encoders import BiLSTMEncoder, Encoder

_CLOSED = -1e4  # a gate's input that makes its sigmoid 0: padding leaves no state
_DTYPES = (torch.float32, torch.float64)


class Edited(NamedTuple):
    """Texts and where they first differ from those that were read, by their first difference.

    Attributes:
        order: Number ``(n,)`` of each text as the caller counts them.
        rows: The text ``(n,)`` that was read.
        codes: Number ``(n, L)`` of the vector at each position; 0 is padding.
        first: First position ``(n,)`` that differs; L if none does.
        last: Last position ``(n,)`` if the ends are put on each other; -1 if none does.
        offset: How much longer ``(n,)`` the text was that was read.
    """

    order: Tensor
    rows: Tensor
    codes: Tensor
    first: Tensor
    last: Tensor
    offset: Tensor

    @property
    def same(self) -> Tensor:
        """Whether each text ``(n,)`` is the one that was read."""
        return (self.last < 0) & (self.offset == 0)


class ReadTexts:
    """What a BiLSTM made of a batch, and what it makes of other texts from there.

    Args:
        encoder: One that :func:`can_share` allows.
        vectors: The distinct vectors ``(V, E)`` of the texts; that of padding
            comes first, whatever it is.
        codes: Which of them is where ``(B, L)``; 0 at padding, at the end only.
    """

    def __init__(self, encoder: BiLSTMEncoder, vectors: Tensor, codes: Tensor) -> None:
        self.codes = codes
        self._right, self._left = _Direction(encoder.rightward), _Direction(encoder.leftward)
        self._tables = [each.table(vectors) for each in (self._right, self._left)]
        self._more = vectors[:0], self._tables  # with other vectors behind them
        (size, length), hidden = codes.shape, self._right.hidden
        states, cells = self._read = vectors.new_empty(2, size, length, 2 * hidden)
        right, left = _halves(hidden)
        forth = [(at, slice(0, size)) for at in range(length)]
        for direction, table, way, half in (
            (self._right, self._tables[0], forth, right),
            (self._left, self._tables[1], forth[::-1], left),
        ):
            cell = vectors.new_zeros(size, hidden)
            direction.walk(table, codes, way, states[..., half], cell, cells[..., half])

    @property
    def states_read(self) -> Tensor:
        """States ``(B, L, 2 * hidden)`` of the texts that were read."""
        return self._read[0]

    def edited(self, codes: Tensor, rows: Tensor) -> Edited:
        """Finds where texts ``(n, L)`` differ from the rows ``(n,)`` that were read."""
        before = self.codes[rows]
        length, width = codes.shape[1], before.shape[1]
        offset = (before > 0).sum(1) - (codes > 0).sum(1)
        places = torch.arange(length, device=codes.device)
        padded = nn.functional.pad(before, (0, max(0, length - width)))
        first = torch.where(codes != padded[:, :length], places, length).amin(1)
        source = places + offset[:, None]
        moved = before.gather(1, source.clamp(0, width - 1)).masked_fill(source >= width, 0)
        last = torch.where((codes != moved) | (source < 0), places, -1).amax(1)
        order = first.argsort(stable=True)
        return Edited(order, *(each[order] for each in (rows, codes, first, last, offset)))

    def states(self, edited: Edited, vectors: Tensor) -> Tensor:
        """States ``(n, L, 2 * hidden)`` of texts; ``vectors`` (K, E) have the codes from V on."""
        rows, codes, first, offset = edited.rows, edited.codes, edited.first, edited.offset
        places = torch.arange(codes.shape[1], device=codes.device)
        # Whoever starts before the first difference comes to the same: texts that have started
        # are kept together, in the order of their differences from the left.
        last = edited.last.cummax(0).values
        begun = torch.searchsorted(first, places, right=True).tolist()
        late = torch.searchsorted(last, places).tolist()
        forth = [(at, slice(0, end)) for at, end in enumerate(begun)]
        back = [(at, slice(start, len(rows))) for at, start in enumerate(late)][::-1]
        states, tables = self._shared(rows, offset, codes.shape[1]), self._with(vectors)
        right, left = _halves(self._right.hidden)
        cell = self._cell(rows, first - 1, right)
        self._right.walk(tables[0], codes, forth, states[..., right], cell)
        cell = self._cell(rows, last + 1 + offset, left)
        self._left.walk(tables[1], codes, back, states[..., left], cell)
        return states

    def _shared(self, rows: Tensor, offset: Tensor, length: int) -> Tensor:
        """The states of the texts that were read, from the left and, moved, from the right."""
        states, width = self._read[0], self.codes.shape[1]
        if length > width:
            states = nn.functional.pad(states, (0, 0, 0, length - width))
        shared = states[:, :length].index_select(0, rows)
        moved = offset.nonzero()[:, 0]
        if len(moved):
            left = _halves(self._right.hidden)[1]
            source = torch.arange(length, device=rows.device) + offset[moved, None]
            found = states[rows[moved, None], source.clamp(0, width - 1), left]
            shared[moved, :, left] = found.masked_fill_((source >= width)[..., None], 0)
        return shared

    def _cell(self, rows: Tensor, places: Tensor, half: slice) -> Tensor:
        """The cell ``(n, hidden)`` at one place of each row; 0 outside of the text."""
        width = self.codes.shape[1]
        found = self._read[1, rows, places.clamp(0, width - 1), half]
        outside = (places < 0) | (places >= width)
        return found.masked_fill_(outside[:, None], 0)

    def _with(self, vectors: Tensor) -> list[Tensor]:
        """The tables with what other vectors give behind them; often they are those as before."""
        known, tables = self._more
        if not torch.equal(known, vectors):
            both = zip(self._tables, (self._right, self._left), strict=True)
            tables = [torch.cat([table, each.projected(vectors)]) for table, each in both]
            self._more = vectors, tables
        return tables


class _Direction:
    """The weights of one direction, the gates in their order: input, forget, cell, output."""

    def __init__(self, lstm: nn.LSTM) -> None:
        self.hidden = lstm.hidden_size
        weights = {name: each.detach() for name, each in lstm.named_parameters()}
        self._inputs = weights["weight_ih_l0"].T
        self._states = weights["weight_hh_l0"].T.contiguous()  # for the small products
        self._bias = self._inputs.new_zeros(4 * self.hidden)
        if lstm.bias:
            self._bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]

    def projected(self, vectors: Tensor) -> Tensor:
        """What vectors ``(V, E)`` give the gates ``(V, 4 * hidden)``."""
        return torch.addmm(self._bias, vectors, self._inputs)

    def table(self, vectors: Tensor) -> Tensor:
        """The same, with gates closed for the first, which is padding."""
        table = self.projected(vectors)
        table[0] = _CLOSED
        return table

    def walk(
        self,
        table: Tensor,
        codes: Tensor,
        spans: Iterable[tuple[int, slice]],
        states: Tensor,
        cell: Tensor,
        cells: Tensor | None = None,
    ) -> None:
        """Writes states ``(n, L, hidden)``, step by step.

        Args:
            table: What each vector gives the gates.
            codes: The vectors ``(n, L)``.
            spans: Each position in turn, with the rows to do.
            states: Where the states go; a row's first step goes on from the
                position before, as it is found there.
            cell: The cell ``(n, hidden)`` that each row goes on from; used up.
            cells: Where the cells go, if they are wanted.
        """
        before, done = torch.zeros_like(cell), slice(0)
        gates, shown = cell.new_empty(len(cell), 4 * self.hidden), torch.empty_like(cell)
        columns, targets = codes.T.contiguous().unbind(0), states.unbind(1)
        for at, part in spans:
            if part.start < part.stop:
                if part != done:
                    done, gate, now, seen = part, gates[part], cell[part], shown[part]
                    both = gate[:, : 2 * self.hidden]
                    opened, kept, new, out = gate.chunk(4, 1)
                torch.index_select(table, 0, columns[at][part], out=gate)
                gate.addmm_(before[part], self._states)
                both.sigmoid_()
                now.mul_(kept).addcmul_(opened, new.tanh_())
                torch.mul(torch.tanh(now, out=seen), out.sigmoid_(), out=targets[at][part])
                if cells is not None:
                    cells[part, at] = now
            before = targets[at]


def can_share(model: nn.Module, encoder: Encoder, shape: Sequence[int]) -> bool:
    """Whether ``ReadTexts`` knows all that an encoder of a model does, and has room for texts.

    Args:
        model: The whole model; somebody may watch or change its parts.
        encoder: Its encoder.
        shape: That of the texts, ``(B, L)``.
    """
    if type(encoder) is not BiLSTMEncoder:
        return False
    lstms = [encoder.rightward, encoder.leftward]
    if not all(_is_plain(each) for each in lstms) or lstms[0].hidden_size != lstms[1].hidden_size:
        return False
    if any(map(_is_altered, model.modules())):
        return False
    elements = 20 * lstms[0].hidden_size * shape[1]  # projections twice, states and cells
    bytes_each = next(encoder.parameters()).element_size()
    return chunk_size(elements, bytes_per_element=bytes_each) >= shape[0]


def _is_altered(part: nn.Module) -> bool:
    """Whether somebody has put something in the way of what a part does."""
    own = {"forward", "run"} & vars(part).keys()
    return bool(own or part._forward_hooks or part._forward_pre_hooks)


def _is_plain(lstm: nn.LSTM) -> bool:
    weights = list(lstm.parameters())
    return (
        type(lstm) is nn.LSTM
        and lstm.num_layers == 1
        and lstm.batch_first
        and not (lstm.bidirectional or lstm.proj_size)
        and all(each.device.type == "cpu" and each.dtype in _DTYPES for each in weights)
    )


def _halves(hidden: int) -> tuple[slice, slice]:
    return slice(hidden), slice(hidden, None)
