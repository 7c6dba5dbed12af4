"""Parts of a model whose operations a recording cannot hear: whole forwards take its place."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from faithattn import AdapterError, AttentionView, permutation_test

IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 0, 0]])


class Layers(nn.Module):
    """Two layers; ``around`` runs the one with the number ``which``."""

    def __init__(self, around: Callable[..., Tensor] | None = None, which: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)]
            self.embed, self.out = nn.Embedding(10, 8, padding_idx=0), nn.Linear(8, 3)
        self.layers = nn.ModuleList(layers)
        self.around, self.which = around, which
        self.eval()

    def forward(self, ids: Tensor) -> Tensor:
        x, closed = self.embed(ids), ids == 0
        for number, layer in enumerate(self.layers):
            if self.around is not None and number == self.which:
                x = self.around(layer, x, closed)
            else:
                x = layer(x, src_key_padding_mask=closed)
        return self.out(x[:, 0])


def compiled(layer: Any, x: Tensor, closed: Tensor) -> Tensor:
    result: Tensor = torch.compile(layer, backend="eager")(x, src_key_padding_mask=closed)
    return result


def elsewhere(layer: Any, x: Tensor, closed: Tensor) -> Tensor:
    with ThreadPoolExecutor(1) as pool, torch.no_grad():
        return pool.submit(torch.no_grad()(layer), x, src_key_padding_mask=closed).result()


def result_of(model: nn.Module, site: int, count: int = 300) -> Any:
    view = AttentionView(f"layers.{site}.self_attn", query=None)
    return permutation_test(model, IDS, view=view, n_permutations=count, seed=0)


@pytest.mark.parametrize("site", [0, 1])
def test_a_submodule_that_is_compiled(site: int) -> None:
    plain, model = result_of(Layers(), site), Layers(compiled, site)
    result = result_of(model, site)
    torch.testing.assert_close(result.tvd, plain.tvd, atol=1e-6, rtol=0)
    assert (plain.replay, result.replay) == ("recorded", "whole forwards")


def test_a_submodule_that_compiles_itself() -> None:
    model = Layers()
    model.layers[0].compile(backend="eager")
    torch.testing.assert_close(
        result_of(model, 0).tvd, result_of(Layers(), 0).tvd, atol=1e-6, rtol=0
    )


def test_a_layer_that_another_thread_runs() -> None:
    model, plain = Layers(elsewhere, 1), result_of(Layers(), 0)
    for _ in range(2):
        result = result_of(model, 0)
        torch.testing.assert_close(result.tvd, plain.tvd, atol=1e-6, rtol=0)
        assert result.replay == "whole forwards"


def test_part_of_what_follows_in_another_thread() -> None:
    """The residual connection is heard, the layer beside it is not."""

    def beside(layer: Any, x: Tensor, closed: Tensor) -> Tensor:
        return x + elsewhere(layer, x, closed)

    def here(layer: Any, x: Tensor, closed: Tensor) -> Tensor:
        return x + layer(x, src_key_padding_mask=closed)

    plain, result = result_of(Layers(here, 1), 0), result_of(Layers(beside, 1), 0)
    torch.testing.assert_close(result.tvd, plain.tvd, atol=1e-6, rtol=0)
    assert (plain.replay, result.replay) == ("recorded", "whole forwards")


def test_weights_that_nothing_depends_on() -> None:
    class Idle(Layers):
        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            self.layers[0](x)
            return self.out(x[:, 0])

    with pytest.raises(AdapterError, match="logits must depend on the attention"):
        result_of(Idle(), 0)
