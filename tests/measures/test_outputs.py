"""From logits to outputs, and distances between outputs, against plain formulas."""

from __future__ import annotations

import oracles
import pytest
import torch
from torch import Tensor

from faithattn.measures.outputs import (
    class_probability,
    output_distance,
    predicted_class,
    probabilities,
    resolve_output,
)


def logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize(
    ("output", "count", "expected"),
    [
        ("auto", 1, "sigmoid"),
        ("auto", 2, "softmax"),
        ("sigmoid", 3, "sigmoid"),
        ("softmax", 1, "softmax"),
        ("identity", 1, "identity"),
    ],
)
def test_auto_depends_on_the_number_of_logits(output: str, count: int, expected: str) -> None:
    assert resolve_output(output, count) == expected


def test_unknown_output() -> None:
    with pytest.raises(ValueError, match=r"output must be one of auto, .*got 'logit'"):
        resolve_output("logit", 1)


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_outputs_and_distances_agree_with_loops(output: str, count: int) -> None:
    x, y = logits(4, 3, count), logits(4, 3, count, seed=1)
    p, q = probabilities(x, output), probabilities(y, output)
    distance = output_distance(p, q, output)
    assert distance.shape == (4, 3)
    for index in torch.cartesian_prod(torch.arange(4), torch.arange(3)).tolist():
        one, other = (oracles.squash(value[tuple(index)], output) for value in (x, y))
        torch.testing.assert_close(p[tuple(index)], one)
        expected = oracles.distance(one, other, output)
        torch.testing.assert_close(distance[tuple(index)], torch.as_tensor(expected))


def test_one_sigmoid_is_the_distribution_of_two_classes() -> None:
    x, y = logits(20, 1), logits(20, 1, seed=1)
    p, q = x.sigmoid(), y.sigmoid()
    two = output_distance(torch.cat([p, 1 - p], -1), torch.cat([q, 1 - q], -1), "softmax")
    torch.testing.assert_close(output_distance(p, q, "sigmoid"), two)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_half_precision_is_widened_first(dtype: torch.dtype) -> None:
    narrow = logits(6, 4).to(dtype)
    for output in ("sigmoid", "softmax", "identity"):
        result = probabilities(narrow, output)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, probabilities(narrow.float(), output))


def test_the_lowest_number_is_probability_zero() -> None:
    lowest = torch.finfo(torch.float64).min
    result = probabilities(torch.tensor([[0.0, lowest, 0.0]], dtype=torch.float64), "softmax")
    assert result.tolist() == [[0.5, 0.0, 0.5]]


def test_predicted_class() -> None:
    assert predicted_class(torch.tensor([[0.2], [0.5], [0.8]]), "sigmoid").tolist() == [0, 0, 1]
    assert predicted_class(torch.tensor([[0.2, 0.5, 0.3]]), "softmax").tolist() == [1]
    assert predicted_class(torch.tensor([[0.9, 0.9]]), "sigmoid").tolist() == [-1]
    assert predicted_class(torch.tensor([[7.0]]), "identity").tolist() == [-1]


def test_probability_of_a_class() -> None:
    outputs = torch.tensor([[0.2], [0.8]])
    torch.testing.assert_close(
        class_probability(outputs, torch.tensor([0, 1]), "sigmoid"), torch.tensor([0.8, 0.8])
    )
    many = torch.tensor([[0.1, 0.9], [0.6, 0.4]]).expand(3, 2, 2)
    torch.testing.assert_close(
        class_probability(many, torch.tensor([1, 0]), "softmax"),
        torch.tensor([0.9, 0.6]).expand(3, 2),
    )
