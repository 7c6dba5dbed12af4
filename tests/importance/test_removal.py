"""Every way to take a position away, on models whose answer can be written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import planted
import pytest
import torch
from torch import Tensor, nn

from faithattn import (
    AdapterError,
    AttentionView,
    Run,
    leave_one_out_importance,
    loo_correlation,
    memory_budget,
)
from faithattn.importance.leave_one_out import check_removal
from faithattn.importance.removal.operators import REMOVALS
from faithattn.interventions.features import DRAWS, donors
from faithattn.interventions.patches import mask_patch
from faithattn.interventions.tokens import mask_token

MASK_ID = 9
VALUES = torch.tensor([0.0, 1, -2, 3, 0.5, 4, -1, 2.5, -3, 7], dtype=torch.float64)
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 1, 0], [2, 0, 0, 0]])
REAL = IDS != 0
NAN = torch.nan


class Tokens:
    """The logit is sum_t a_t v(id_t), with the weights given: what a removal does is plain."""

    output = "identity"
    mask_token_id: int | None = MASK_ID
    most = 0

    def run(
        self,
        inputs: Mapping[str, Tensor],
        *,
        attention: Mapping[str, Tensor] | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> Run:
        x = (features or {"x": VALUES[self.shown(inputs["input_ids"])][..., None]})["x"]
        weights = (attention or {"row": inputs["weights"]})["row"]
        self.most = max(self.most, len(x))
        logits = torch.einsum("bl,ble->be", weights, x)
        return Run(logits, {"row": weights}, inputs["input_ids"] != 0, {"x": x})

    def shown(self, ids: Tensor) -> Tensor:
        return ids

    def remove(self, inputs: Mapping[str, Tensor], positions: Tensor) -> dict[str, Tensor]:
        keep = torch.arange(inputs["input_ids"].shape[1]) != positions[:, None]
        return {name: each[keep].view(len(positions), -1) for name, each in inputs.items()}


def batch(ids: Tensor = IDS) -> dict[str, Tensor]:
    weights = planted.rows(len(ids), ids.shape[1]) * (ids != 0)
    return {"input_ids": ids, "weights": weights / weights.sum(-1, keepdim=True)}


def halved(inputs: Any, positions: Tensor) -> Any:
    """A user's own removal: the weight of a position is halved."""
    weights = inputs["weights"].clone()
    weights[torch.arange(len(weights)), positions] /= 2
    return {**inputs, "weights": weights}


def expected(name: str, weights: list[float], values: list[float]) -> list[float]:
    """Changes of one text without padding, position by position."""
    total = sum(w * v for w, v in zip(weights, values, strict=True))
    mean = sum(values) / len(values)
    result = []
    for w, v in zip(weights, values, strict=True):
        rest = 1 - w
        left = (total - w * v) / rest if rest > 1e-12 else NAN
        change = {
            "delete": abs(w * v) if len(values) > 1 else NAN,
            "mask_token": abs(w * (v - float(VALUES[MASK_ID]))),
            "mask_attention": abs(w * v),
            "mask_attention_renormalize": abs(left - total),
            "zero_embedding": abs(w * v),
            "mean_embedding": abs(w * (v - mean)) if len(values) > 1 else NAN,
            "halved": abs(w * v) / 2,
        }
        result.append(change[name])
    return result


@pytest.mark.parametrize("name", [*sorted(set(REMOVALS) - {"resample"}), "halved"])
def test_what_each_removal_does(name: str) -> None:
    inputs = batch()
    removal: Any = halved if name == "halved" else name
    importance = leave_one_out_importance(Tokens(), inputs, removal=removal)
    assert (importance[~REAL] == 0).all()
    for row, real in enumerate(REAL):
        weights = inputs["weights"][row][real].tolist()
        wanted = expected(name, weights, VALUES[IDS[row][real]].tolist())
        assert importance[row][real].tolist() == pytest.approx(wanted, abs=1e-12, nan_ok=True)


def test_resampling_is_the_mean_over_fixed_draws() -> None:
    inputs = batch()
    importance = leave_one_out_importance(Tokens(), inputs, removal="resample")
    rows, columns = donors(REAL)
    for row, at in REAL.nonzero().tolist():
        own, weight = float(VALUES[IDS[row, at]]), float(inputs["weights"][row, at])
        taken = [float(VALUES[IDS[rows[d, row, at], columns[d, row, at]]]) for d in range(DRAWS)]
        wanted = sum(abs(weight * (own - value)) for value in taken) / DRAWS
        assert float(importance[row, at]) == pytest.approx(wanted, abs=1e-12)
    assert torch.equal(importance, leave_one_out_importance(Tokens(), inputs, removal="resample"))
    alone = {name: each[:1] for name, each in inputs.items()}
    assert leave_one_out_importance(Tokens(), alone, removal="resample").isfinite().all()
    nothing = {name: each[3:] for name, each in inputs.items()}  # one position in all
    left = leave_one_out_importance(Tokens(), nothing, removal="resample")
    assert left.isnan().tolist() == [[True, False, False, False]]


ALL: dict[str, Any] = {**{name: name for name in REMOVALS}, "mask_token(9)": mask_token(9)}


@pytest.mark.parametrize("removal", ALL.values(), ids=ALL)
def test_chunks_do_not_matter_and_the_budget_bounds_them(removal: Any) -> None:
    inputs = batch()
    whole = leave_one_out_importance(Tokens(), inputs, removal=removal)
    model = Tokens()
    with memory_budget(1e-6):
        small = leave_one_out_importance(model, inputs, removal=removal)
    torch.testing.assert_close(small, whole, rtol=0, atol=1e-12, equal_nan=True)
    assert model.most == len(IDS)  # the first run, as it was asked for


@pytest.mark.parametrize("removal", sorted(set(ALL) - {"resample"}))
def test_instances_do_not_influence_each_other(removal: str) -> None:
    inputs = batch()
    whole = leave_one_out_importance(Tokens(), inputs, removal=ALL[removal])
    for row in range(len(IDS)):
        one = {name: each[row : row + 1] for name, each in inputs.items()}
        alone = leave_one_out_importance(Tokens(), one, removal=ALL[removal])
        torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=1e-12, equal_nan=True)


def test_features_count_for_the_budget() -> None:
    class Wide(Tokens):
        def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
            run = super().run(inputs, attention=attention, features=features and _first(features))
            x = run.features["x"].expand(-1, -1, 4096)
            return Run(run.logits, run.attention, run.mask, {"x": x})

    def _first(features: Any) -> Any:
        return {"x": features["x"][..., :1]}

    model, ids = Wide(), IDS.repeat(8, 1)
    with memory_budget(2):
        leave_one_out_importance(model, batch(ids), removal="delete")
    narrow = Tokens()
    with memory_budget(2):
        leave_one_out_importance(narrow, batch(ids), removal="delete")
    assert model.most == 32 and narrow.most > 64  # of 32 rows in the first run


class Patches:
    """The logit is sum_p a_p (mean of patch p), with a CLS token before 2 x 2 patches."""

    output = "identity"
    prefix = 1

    def run(self, inputs: Tensor, *, attention: Any = None, features: Any = None) -> Run:
        means = inputs.unfold(2, 2, 2).unfold(3, 2, 2).mean((1, -2, -1)).flatten(1)
        tokens = torch.nn.functional.pad(means, (self.prefix, 0))[..., None]
        own = planted.rows(1, tokens.shape[1]).expand(len(inputs), -1)
        weights = (attention or {"row": own})["row"]
        places = torch.arange(tokens.shape[1]).expand(own.shape)
        mask = (places >= 1) & (places <= 4)
        logits = torch.einsum("bl,ble->be", weights, (features or {"x": tokens})["x"])
        return Run(logits, {"row": weights}, mask, {"x": tokens})


IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("baseline", [0.0, 0.5, "mean"])
def test_hidden_patches(baseline: Any) -> None:
    removal = mask_patch(2, baseline=baseline)
    result = loo_correlation(Patches(), IMAGES, removal=removal)
    for row, image in enumerate(IMAGES):
        shown = float(image.mean()) if baseline == "mean" else baseline
        for patch in range(4):
            top, left = patch // 2 * 2, patch % 2 * 2
            own = float(image[0, top : top + 2, left : left + 2].mean())
            wanted = abs(float(result.explanation[row, patch + 1]) * (own - shown))
            assert float(result.importance[row, patch + 1]) == pytest.approx(wanted, abs=1e-12)
    assert result.removal == str(removal)


def test_patches_after_another_prefix_are_found_out() -> None:
    class Distilled(Patches):
        prefix = 2

    with pytest.raises(AdapterError, match=r"mask_patch\(2, mean\) must change the position that"):
        leave_one_out_importance(Distilled(), IMAGES, removal=mask_patch(2, baseline="mean"))
    with pytest.raises(AdapterError, match=r"'x' changed at \[2\] instead of 1 in row 0\. Check "):
        leave_one_out_importance(Distilled(), IMAGES, removal=mask_patch(2, prefix=1))


def test_shifted_ids_are_found_out() -> None:
    class Shifted(Tokens):
        """Positions are those of a decoder that sees the token before."""

        def shown(self, ids: Tensor) -> Tensor:
            return torch.nn.functional.pad(ids, (1, 0), value=2)[:, :-1]

    with pytest.raises(
        AdapterError, match=r"mask_token\(9\) must change the .*\[1\] instead of 0 i"
    ):
        leave_one_out_importance(Shifted(), batch(), removal="mask_token")


def test_mask_tokens_in_another_text_are_found_out() -> None:
    inputs = {**batch(), "other": IDS.flip(0)}
    with pytest.raises(AdapterError, match=r"mask_token\(9, key='other'\) must .* changed at none"):
        leave_one_out_importance(Tokens(), inputs, removal=mask_token(MASK_ID, key="other"))
    again = torch.full_like(IDS, MASK_ID) * REAL  # where the mask token is already, nothing moves
    importance = leave_one_out_importance(Tokens(), batch(again), removal="mask_token")
    assert (importance == 0).all()


def test_a_model_without_a_mask_token() -> None:
    class Without(Tokens):
        mask_token_id = None

    for model in (Without(), planted.Linear()):
        inputs = batch() if isinstance(model, Without) else planted.faithful()[1]
        with pytest.raises(AdapterError, match=r"mask_token_id for.*removal=mask_token\(103\)"):
            leave_one_out_importance(model, inputs, removal="mask_token")


def test_a_removal_that_loses_instances() -> None:
    def first_half(inputs: Any, positions: Tensor) -> Any:
        return {name: each[: len(each) // 2] for name, each in inputs.items()}

    with pytest.raises(
        AdapterError, match=r"must have shape \(10, 1\), one row for each; got \(5,"
    ):
        leave_one_out_importance(Tokens(), batch(), removal=first_half)


def test_features_of_another_length() -> None:
    class Longer(Tokens):
        def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
            run = super().run(inputs)
            return Run(
                run.logits, run.attention, run.mask, {"x": run.features["x"].repeat(1, 2, 1)}
            )

    for removal in ("zero_embedding", "mean_embedding", "resample"):
        with pytest.raises(
            AdapterError, match=r"features\['x'\] must be as long as the mask, \(4, "
        ):
            leave_one_out_importance(Longer(), batch(), removal=removal)


def test_keys_that_are_no_input_are_left_out() -> None:
    class WithSink(Tokens):
        """Attention has one more key, learned, which is no position."""

        def run(self, inputs: Any, *, attention: Any = None, features: Any = None) -> Run:
            run = super().run(inputs, features=features)
            row = torch.nn.functional.pad(run.attention["row"], (0, 1))
            mask = torch.nn.functional.pad(run.mask, (0, 1))
            return Run(run.logits, {"row": row}, mask, run.features)

    for removal in ("zero_embedding", "mean_embedding", "resample", "mask_token"):
        plain = leave_one_out_importance(Tokens(), batch(), removal=removal)
        importance = leave_one_out_importance(WithSink(), batch(), removal=removal)
        assert (importance[:, -1] == 0).all()
        torch.testing.assert_close(importance[:, :-1], plain, equal_nan=True)


class Mixed(nn.Module):
    """The mean state of the real positions after self-attention."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed, self.out = nn.Embedding(10, 4, padding_idx=0), nn.Linear(4, 3)
            self.attn = nn.MultiheadAttention(4, 2, batch_first=True)
        self.double().eval()

    def forward(self, ids: Tensor) -> Tensor:
        x, real = self.embed(ids), ids != 0
        mixed = self.attn(x, x, x, key_padding_mask=~real, need_weights=False)[0]
        return self.out((mixed * real[..., None]).sum(1) / real.sum(1, keepdim=True))


@pytest.mark.parametrize("removal", ["mask_attention", "mask_attention_renormalize"])
def test_query_rows_of_padding_take_no_part(removal: str) -> None:
    options: Any = {"removal": removal, "view": AttentionView("attn")}
    found = leave_one_out_importance(Mixed(), IDS[:3], **options)
    for ids, importance in zip(IDS[:3], found, strict=True):
        alone = leave_one_out_importance(Mixed(), ids[ids != 0][None], **options)[0]
        assert (alone > 0).all()
        torch.testing.assert_close(importance[ids != 0], alone, rtol=0, atol=1e-12)
        assert not importance[ids == 0].any()


class Named:
    def __call__(self, inputs: Any, positions: Tensor) -> Any:
        return halved(inputs, positions)


class Described(Named):
    def __str__(self) -> str:
        return "described(2)"


NAMES: dict[str, tuple[Callable[..., Any], str]] = {
    "function": (halved, "halved"),
    "partial": (partial(halved), "halved"),
    "object": (Named(), "Named"),
    "described object": (Described(), "described(2)"),
    "lambda": (lambda inputs, positions: halved(inputs, positions), "<lambda>"),
    "mask_token": (mask_token(9), "mask_token(9)"),
}


@pytest.mark.parametrize(("removal", "name"), NAMES.values(), ids=NAMES)
def test_results_name_the_removal(removal: Any, name: str) -> None:
    assert check_removal(removal) == name
    assert loo_correlation(Tokens(), batch(), removal=removal).removal == name


def test_removals_that_cannot_be() -> None:
    message = (
        r"one of delete, mask_token, .*resample, or a function \(inputs, positions\) -> inputs"
    )
    with pytest.raises(ValueError, match=message + "; got 'erase'"):
        leave_one_out_importance(Tokens(), batch(), removal="erase")
    for removal in (None, 3, ["delete"]):
        with pytest.raises(TypeError, match=r"removal must be a name or a function .* Use one of "):
            leave_one_out_importance(Tokens(), batch(), removal=removal)  # type: ignore[arg-type]

    def delete(inputs: Any, positions: Tensor) -> Any:
        return inputs

    for removal in (delete, mask_token, mask_patch):
        with pytest.raises(ValueError, match="must not be a function of the name of another remov"):
            leave_one_out_importance(Tokens(), batch(), removal=removal)
