"""Flow against networkx's maximum flow on the layered graph."""

from __future__ import annotations

import networkx
import pytest
import torch
from test_layer_measures import layers
from torch import Tensor

from faithattn import attention_flow

TOLERANCE = 1e-6  # capacities are rounded to 2**-28


def slow_flow(attention: list[Tensor], row: Tensor) -> Tensor:
    """Flows from a source to each position of one instance, attention (L, L) a layer."""
    graph, length, top = networkx.DiGraph(), attention[0].shape[-1], len(attention)
    for j in range(length):
        graph.add_edge("source", (top, j), capacity=float(row[j]))
    for n, layer in enumerate(attention):
        mixed = (layer + torch.eye(length)) / (layer + torch.eye(length)).sum(-1, keepdim=True)
        for i in range(length):
            for j in range(length):
                graph.add_edge((n + 1, i), (n, j), capacity=float(mixed[i, j]))
    return torch.tensor(
        [networkx.maximum_flow_value(graph, "source", (0, j)) for j in range(length)]
    ).double()


@pytest.mark.parametrize("n_layers", [1, 2, 4])
def test_flow_is_networkx_maximum_flow(n_layers: int) -> None:
    attention = layers(n_layers, 2, 3, 5, 5, seed=n_layers)
    found = attention_flow(attention)
    for b in range(2):
        means = [layer[b].mean(0) for layer in attention]
        for q in range(5):
            expected = slow_flow(means, torch.eye(5)[q])
            torch.testing.assert_close(found[b, q], expected, atol=TOLERANCE, rtol=0)


def test_flow_of_a_pooling_row() -> None:
    attention, row = layers(2, 1, 4, 4), layers(1, 1, 1, 4)[0]
    expected = slow_flow([layer[0] for layer in attention], row[0, 0])
    found = attention_flow(attention, rows=row)[0, 0]
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_flow_of_one_layer_is_its_row() -> None:
    (layer,) = layers(1, 1, 6, 6)
    expected = (layer + torch.eye(6)) / 2
    torch.testing.assert_close(attention_flow([layer]), expected, atol=TOLERANCE, rtol=0)


def test_flow_outside_the_mask_is_not_computed() -> None:
    attention = layers(2, 1, 4, 4)
    mask = torch.tensor([[True, False, True, False]])
    found = attention_flow(attention, mask=mask)
    assert (found[..., ~mask[0]] == 0).all()
    assert torch.equal(found[..., mask[0]], attention_flow(attention)[..., mask[0]])
    with pytest.raises(ValueError, match="mask must have the shape of attention"):
        attention_flow(attention, mask=mask[:, :3])


def test_what_is_no_capacity() -> None:
    (layer,) = layers(1, 1, 3, 3)
    rows = torch.full((1, 1, 3), 9.0).double()
    with pytest.raises(ValueError, match=r"rows must hold .* sum to 4 .* a sum of 27"):
        attention_flow([layer], rows=rows)
    with pytest.raises(ValueError, match="attention must hold capacities that are 0 or more"):
        attention_flow([layer - 0.5])
    with pytest.raises(ValueError, match="got nan"):
        attention_flow([layer * torch.nan])
    most = attention_flow([layer], rows=rows / 9)  # sums to 3
    expected = attention_flow([layer]).sum(1, keepdim=True)
    torch.testing.assert_close(most, expected, atol=TOLERANCE, rtol=0)
