"""Padding is left out of forward passes where the model does not feel it, and only there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import make_text, texts
from torch import Tensor, nn

from faithattn import adapt, leave_one_out_importance, mask_token, memory_budget
from faithattn.adapters.reading import read
from faithattn.importance.removal.padding import cut
from faithattn.paper.models import TextClassifier

IDS = texts((10, 3, 6))
REMOVALS: dict[str, Any] = {
    "zero": "zero_embedding",
    "mean": "mean_embedding",
    "token": mask_token(5),
}


class Pooled(nn.Module):
    """Attention over embeddings; ``feels`` has the mean over all columns join the output."""

    def __init__(self, feels: bool) -> None:
        super().__init__()
        self.embedding, self.feels = nn.Embedding(14, 4), feels
        self.score, self.out = nn.Linear(4, 1), nn.Linear(4, 1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        scores = self.score(x).squeeze(-1).masked_fill(ids == 0, -torch.inf)
        context = (scores.softmax(-1)[..., None] * x).sum(1)
        return self.out(context + x.mean(1) if self.feels else context)


def widths(encoder: nn.Module) -> list[int]:
    seen: list[int] = []
    encoder.register_forward_hook(lambda _module, given, _out: seen.append(given[0].shape[1]))
    return seen


@pytest.mark.parametrize("removal", REMOVALS.values(), ids=REMOVALS)
@pytest.mark.parametrize("adapted", [False, True])
def test_short_rows_run_without_padding(removal: Any, adapted: bool) -> None:
    plain = make_text("bilstm")
    model = adapt(plain, mask=lambda ids: (ids > 3) | (ids == 1)) if adapted else plain
    alone = [
        leave_one_out_importance(model, IDS[row : row + 1, :width], removal=removal)[0]
        for row, width in enumerate((12, 5, 8))
    ]
    seen = widths(plain.encoder)
    with memory_budget(1e-6):
        found = leave_one_out_importance(model, IDS, removal=removal)
    for row, wanted in enumerate(alone):
        torch.testing.assert_close(found[row, : len(wanted)], wanted, rtol=0, atol=1e-12)
    # The whole batch; the shortest row by itself, as a trial; then row by row.
    assert seen == [12, 5] + 3 * [5] + 6 * [8] + 10 * [12]


@pytest.mark.parametrize("feels", [False, True])
def test_a_model_that_feels_padding_keeps_it(feels: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Pooled(feels).double()
    adapter = adapt(model, mask=0)
    reading = read(adapter, IDS)
    inputs, width = cut(reading, torch.tensor([1, 2]))
    assert inputs.shape[1] == width == (12 if feels else 8)
    if feels:
        for removal in ("zero_embedding", mask_token(5)):
            with memory_budget(1e-6):
                found = leave_one_out_importance(adapter, IDS, removal=removal)
            whole = leave_one_out_importance(adapter, IDS, removal=removal)
            torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)


def test_a_sure_output_does_not_hide_that_padding_is_felt() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Pooled(True)
    with torch.no_grad():
        model.embedding.weight[9] = 40 * model.out.weight[0].sign()
    ids = IDS.clone()
    ids[1, :5] = 9
    reading = read(adapt(model, mask=0), ids)
    assert reading.outputs[1] in (0, 1)  # of the shortest row, on which it is tried
    assert cut(reading, torch.tensor([1, 2]))[1] == 12


def test_nothing_is_tried_where_nothing_is_to_be_won(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_text("cnn")

    def remove_sets(self: Any, inputs: Tensor, gone: Tensor) -> Tensor:
        pytest.fail("rows are as good as of one length")

    monkeypatch.setattr(TextClassifier, "remove_sets", remove_sets)
    ids = texts((9, 9, 8))
    leave_one_out_importance(model, ids, removal="zero_embedding")
    reading = read(model, ids)
    assert cut(reading, torch.tensor([0]))[1] == 11


def test_inputs_that_cannot_be_shortened_run_as_they_are() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Pooled(False)

        def forward(self, ids: Tensor, other: Tensor) -> Tensor:
            return self.inner(ids) + other.sum(1, keepdim=True)

    adapter = adapt(Two().double(), mask=0)
    inputs = (IDS, torch.rand(3, 12).double())
    assert cut(read(adapter, inputs), torch.tensor([1]))[1] == 12
    assert leave_one_out_importance(adapter, inputs, removal="zero_embedding").isfinite().all()
