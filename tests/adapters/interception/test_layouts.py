"""Whatever layout a model has, its weights are shown instance by instance, or it is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from watching import noise

from faithattn import AdapterError, adapt

E = 8


class Laid(nn.Module):
    """Self attention with H heads whose weights lie as a function of (B, H, L, L) scores says."""

    def __init__(self, heads: int, weigh: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(6)
            self.embed = nn.Embedding(50, E)
            self.query, self.key, self.value = (nn.Linear(E, heads * 3) for _ in range(3))
            self.out = nn.Linear(heads * 3, 2)
        self.heads, self.weigh = heads, weigh
        self.double()

    def split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, 3)).transpose(1, 2)

    def weights(self, ids: Tensor) -> Tensor:
        """(B, H, L, L), in no model's layout."""
        x = self.embed(ids)
        scores = self.split(self.query(x)) @ self.split(self.key(x)).mT
        raised = scores.exp()
        return raised / raised.sum(-1, keepdim=True)

    def decode(self, weights: Tensor, ids: Tensor) -> Tensor:
        mixed = (weights @ self.split(self.value(self.embed(ids)))).transpose(1, 2).flatten(2)
        return self.out(mixed.tanh().mean(1))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        scores = self.split(self.query(x)) @ self.split(self.key(x)).mT
        return self.decode(self.weigh(scores), ids)


def batch_major(scores: Tensor) -> Tensor:
    return scores.flatten(0, 1).softmax(-1).view_as(scores)


def head_major(scores: Tensor) -> Tensor:
    turned = scores.transpose(0, 1)
    return turned.flatten(0, 1).softmax(-1).view_as(turned).transpose(0, 1)


def heads_first(scores: Tensor) -> Tensor:
    return scores.transpose(0, 1).softmax(-1).transpose(0, 1)


def keys_second(scores: Tensor) -> Tensor:
    """(i, j, b, n) over dim 1, as XLNet once had it."""
    return scores.permute(2, 3, 0, 1).softmax(1).permute(2, 3, 0, 1)


def keys_first(scores: Tensor) -> Tensor:
    return scores.permute(3, 2, 0, 1).softmax(0).permute(2, 3, 1, 0)


def heads_last(scores: Tensor) -> Tensor:
    return scores.permute(0, 2, 3, 1).softmax(-2).permute(0, 3, 1, 2)


def queries_first(scores: Tensor) -> Tensor:
    return scores.permute(2, 0, 1, 3).softmax(-1).permute(1, 2, 0, 3)


LAYOUTS = [batch_major, head_major, heads_first, keys_second, keys_first, heads_last]
LAYOUTS += [queries_first]
SIZES = [(2, 3, 5), (3, 2, 4), (1, 2, 4), (2, 1, 4), (4, 4, 4), (4, 2, 4), (2, 4, 4), (6, 2, 3)]
SIZES += [(3, 3, 5), (2, 2, 2), (1, 1, 3)]


def as_rows(shown: Tensor, expected: Tensor) -> list[tuple[int, ...]]:
    """Ways to order the shown axes between the first and the last that give what is expected."""
    flat = expected.reshape(len(expected), -1, expected.shape[-1])
    ways = []
    if shown.ndim == 4:
        for way in ((0, 1, 2, 3), (0, 2, 1, 3)):
            turned = shown.permute(way)
            if turned.shape == expected.shape and torch.allclose(turned, expected, atol=1e-9):
                ways.append(way)
    elif shown.ndim == 3 and shown.shape == flat.shape and torch.allclose(shown, flat, atol=1e-9):
        ways.append((0, 1, 2))
    return ways


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_heads(layout: Callable[[Tensor], Tensor], sizes: tuple[int, int, int]) -> None:
    size, heads, length = sizes
    model = Laid(heads, layout)
    ids = torch.arange(size * length).view(size, length) % 50
    expected = torch.cat([model.weights(row[None]) for row in ids])  # one instance at a time
    try:
        run = adapt(model).run(ids)
    except AdapterError as refusal:
        assert "attention" in str(refusal)
        return
    shown = run.attention["attention"]
    ways = as_rows(shown, expected)
    assert ways, f"shown {tuple(shown.shape)} is not {tuple(expected.shape)}"
    torch.testing.assert_close(run.logits, model.decode(expected, ids), rtol=0, atol=1e-9)
    # Another distribution in one row of one instance changes that instance alone, as by hand.
    other = noise(*shown.shape, seed=3).softmax(-1)
    new = shown.detach().clone()
    new[size - 1] = other[size - 1]
    changed = adapt(model).run(ids, attention={"attention": new})
    if shown.ndim == 4:
        by_hand = model.decode(new.permute(ways[0]), ids)
        torch.testing.assert_close(changed.logits, by_hand, rtol=0, atol=1e-9)
    torch.testing.assert_close(changed.logits[: size - 1], run.logits[: size - 1])
    assert (changed.logits[-1] - run.logits[-1]).abs().max() > 1e-6


def test_which_of_the_layouts_are_read() -> None:
    """Where no sizes coincide nothing is refused."""
    ids = torch.arange(10).view(2, 5)
    for layout in LAYOUTS:
        model = Laid(3, layout)
        expected = torch.cat([model.weights(row[None]) for row in ids])
        assert as_rows(adapt(model).run(ids).attention["attention"], expected)


class Grouped(nn.Module):
    """Five axes: (B, groups, heads, L, L), or (B, windows, heads, L / windows, L / windows)."""

    def __init__(self, *, windows: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.embed, self.out = nn.Embedding(50, E), nn.Linear(E, 2)
        self.windows = windows
        self.double()

    def scores(self, x: Tensor) -> Tensor:
        if self.windows:
            x = x.unflatten(1, (2, -1))
            x = x.unflatten(-1, (2, E // 2)).transpose(2, 3)
        else:
            x = x.unflatten(-1, (2, 2, E // 4)).permute(0, 2, 3, 1, 4)
        return x @ x.mT

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        weights = self.scores(x).softmax(-1)
        mean = weights.mean(2)
        if self.windows:
            return self.out((mean @ x.unflatten(1, (2, -1))).flatten(1, 2).mean(1))
        return self.out((mean.mean(1) @ x).mean(1))


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_five_axes(windows: bool, size: int) -> None:
    model = Grouped(windows=windows)
    ids = torch.arange(size * 6).view(size, 6) % 50
    expected = torch.cat([model.scores(model.embed(row[None])).softmax(-1) for row in ids])
    try:
        run = adapt(model, site="attention").run(ids)
    except AdapterError:
        return
    shown = run.attention["attention"]
    assert shown.shape[0] == size
    assert shown.ndim <= 4
    torch.testing.assert_close(
        shown.reshape(size, -1), expected.reshape(size, -1), rtol=0, atol=1e-10
    )
    again = adapt(model, site="attention").run(ids, attention={"attention": shown.detach()})
    torch.testing.assert_close(again.logits, run.logits, rtol=0, atol=1e-12)


class Rows(nn.Module):
    """One row for each instance, in a layout of its own."""

    def __init__(self, weigh: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(8)
            self.embed = nn.Embedding(50, E)
            self.score, self.out = nn.Linear(E, 1), nn.Linear(E, 2)
        self.weigh = weigh
        self.double()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return self.out((self.weigh(self.score(x))[..., None] * x).sum(1))


ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "(B, L)": lambda s: s.squeeze(-1).softmax(-1),
    "(B, L, 1)": lambda s: s.softmax(1).squeeze(-1),
    "(L, B)": lambda s: s.squeeze(-1).T.softmax(0).T,
    "(L, B, 1)": lambda s: s.transpose(0, 1).softmax(0).squeeze(-1).T,
    "(B, 1, L)": lambda s: s.mT.softmax(-1).squeeze(1),
    "(1, B, L)": lambda s: s.squeeze(-1)[None].softmax(-1)[0],
    "(B, 1, 1, L)": lambda s: s.mT[:, None].softmax(-1)[:, 0, 0],
    "(L, 1, B)": lambda s: s.permute(1, 2, 0).softmax(0)[:, 0].T,
}


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (1, 4), (4, 1), (1, 1), (4, 2), (2, 4)], ids=str)
@pytest.mark.parametrize("layout", ROWS)
def test_single_rows(layout: str, shape: tuple[int, int]) -> None:
    model = Rows(ROWS[layout])
    size, length = shape
    ids = torch.arange(size * length).view(shape)
    expected = torch.stack([model.score(model.embed(row))[:, 0].softmax(0) for row in ids])
    run = adapt(model, site="attention").run(ids)
    shown = run.attention["attention"]
    assert shown.shape[0] == size
    assert shown.shape[-1] == length
    torch.testing.assert_close(shown.reshape(shape), expected, rtol=0, atol=1e-12)
    new = noise(*shape).softmax(-1)
    changed = adapt(model, site="attention").run(ids, attention={"attention": new.view_as(shown)})
    by_hand = model.out((new[..., None] * model.embed(ids)).sum(1))
    torch.testing.assert_close(changed.logits, by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "length"),
    [
        *((2, 4), (2, 3), (3, 2), (6, 3)),
        *((3, 3), (4, 4), (4, 2)),  # as many instances as rows
    ],
)
def test_attention_over_the_batch_is_refused(size: int, length: int) -> None:
    """A mistake that nobody sees: the batch is where nn.MultiheadAttention expects positions."""

    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(9)
                self.embed, self.out = nn.Embedding(50, E), nn.Linear(E, 2)
                self.attend = nn.MultiheadAttention(E, 2)  # takes (L, B, E), is given (B, L, E)
            self.double()

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            return self.out(self.attend(x, x, x)[0].mean(1))

    ids = torch.arange(size * length).view(size, length)
    with pytest.raises(AdapterError):
        adapt(Mixing()).run(ids)
