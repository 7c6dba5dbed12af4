"""head_views(): one view for every head, named so that the numbers can be read back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from faithattn import AdapterError, head_views
from faithattn.adapters.heads import layer_and_head
from faithattn.adapters.reading import read
from tests.adapters.adapter_models import IDS as ONE_ROW
from tests.adapters.adapter_models import Full
from tests.explanations import small_transformer
from tests.explanations.small_transformer import IDS, LAYERS


@pytest.mark.parametrize(("query", "row"), [(None, None), ("cls", 0), ("last", -1)])
def test_every_head_of_every_layer_has_a_view(query: Any, row: int | None) -> None:
    """Pooling attends, too, and is none of them."""
    model, ids = small_transformer.adapted(pooling=True), IDS[:1]
    views = head_views(model, ids, query=query)
    assert [layer_and_head(name) for name in views] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    weights = small_transformer.attention_of(model, ids)
    for name, view in views.items():
        layer, head = layer_and_head(name) or (9, 9)
        with torch.no_grad():
            rows = read(model, ids, view).rows
        expected = weights[LAYERS[layer]][:, head] * (ids > 1)[:, None]
        expected = expected.mean(1) if row is None else expected[:, row]
        torch.testing.assert_close(rows.explanation, expected, rtol=0, atol=1e-12)


def test_names_of_other_views_have_no_numbers() -> None:
    assert layer_and_head("layer 12, head 3") == (12, 3)
    for name in ("", "layer 1", "layer x, head 2", "layer 1, head 2, row 3", "my layer 1, head 2"):
        assert layer_and_head(name) is None


def test_what_has_no_heads_is_said() -> None:
    with pytest.raises(AdapterError, match=r"model must have self attention.*'a' \(3, 4\)"):
        head_views(Full(), ONE_ROW)
    with pytest.raises(ValueError, match='query must be "cls", "last" or None for all; got 3'):
        head_views(Full(), ONE_ROW, query=3)  # type: ignore[arg-type]
