"""Images: patches are the positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from faithattn import AttentionView

from .entry import EAGER_AND_SDPA, Entry, Weights, architecture, built, evaluated, numbers, texts
from .library import SMALL, Recipe, layers, registered
from .oracle import sdpa_weights

TOKENS = "tokens"  # the first (B, L, E) tensor of a model without embeddings
PIXELS = {"image_size": 12, "patch_size": 4, "num_channels": 3}
TEXT = {"vocab_size": 60, "eos_token_id": 59, "bos_token_id": 1, "pad_token_id": 0}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    **PIXELS,
}


def images(side: int = 12) -> Tensor:
    """Three images of noise."""
    return numbers(3, 3, side, side)


def of_images(
    model: str,
    config: str,
    settings: Mapping[str, Any],
    sites: tuple[str, ...],
    feature: str,
    side: int = 12,
    keep: Callable[[nn.Module, Any, Any], Tensor] | None = None,
    **more: Any,
) -> Recipe:
    """A classifier of images; positions are taken away by zeroing what they are embedded as."""
    more = {"removal": "zero_embedding", "feature_name": TOKENS, **more}
    inputs = {"pixel_values": images(side)}
    return Recipe(model, config, settings, sites, feature, inputs, keep=keep, more=more)


def vit() -> Recipe:
    return of_images(
        "ViTForImageClassification",
        "ViTConfig",
        {**SIZES, "num_labels": 3},
        layers("vit.layers.{}.attention"),
        "vit.embeddings",
    )


def deit() -> Recipe:
    return of_images(
        "DeiTForImageClassification",
        "DeiTConfig",
        {**SIZES, "num_labels": 3},
        layers("deit.layers.{}.attention"),
        "deit.embeddings",
    )


def dinov2() -> Recipe:
    return of_images(
        "Dinov2ForImageClassification",
        "Dinov2Config",
        {**SIZES, "mlp_ratio": 2, "num_labels": 3},
        layers("dinov2.encoder.layer.{}.attention"),
        "dinov2.embeddings",
    )


def beit() -> Recipe:
    return of_images(
        "BeitForImageClassification",
        "BeitConfig",
        {**SIZES, "use_relative_position_bias": True, "num_labels": 3},
        layers("beit.layers.{}.attention"),
        "beit.embeddings",
        view=AttentionView("beit.layers.1.attention"),  # it classifies the mean, not the first
    )


def windows(weights: Tensor) -> Tensor:
    """``(B * windows, H, w, w)`` as ``(B, windows * H, w, w)``."""
    return weights.view(3, -1, *weights.shape[-2:])


def unfolded(heads: int) -> Callable[[Tensor], Tensor]:
    """The way back."""
    return lambda weights: weights.reshape(-1, heads, *weights.shape[-2:])


def swin() -> Recipe:
    sites = tuple(
        f"swin.encoder.layers.{stage}.blocks.{block}.attention"
        for stage in range(2)
        for block in range(2)
    )
    return of_images(
        "SwinForImageClassification",
        "SwinConfig",
        {
            "image_size": 16,
            "patch_size": 2,
            "embed_dim": 24,
            "depths": [2, 2],
            "num_heads": [4, 4],
            "window_size": 4,
            "num_labels": 3,
        },
        sites,
        # In the last stage one window is the whole map: its keys are that stage's positions.
        "swin.encoder.layers.0.downsample.norm",
        side=16,
        feature_is_input=True,
        keep=lambda _module, _args, returned: windows(returned[1]),
        layout=(windows, unfolded(4)),
        removal="mask_attention",
    )


def siglip() -> Recipe:
    sites = layers("vision_model.encoder.layers.{}.self_attn")
    recipe = of_images(
        "SiglipForImageClassification",
        "SiglipConfig",
        {"vision_config": SIZES, "text_config": {**SMALL, **TEXT}, "num_labels": 3},
        # The pooling head runs, too, but its result is not used.
        (*sites, "vision_model.head.attention"),
        "vision_model.embeddings",
        heads=4,
        view=AttentionView(sites[-1]),
    )
    return replace(
        recipe, attentions=lambda returned: dict(zip(sites, returned.attentions, strict=True))
    )


def projected(module: Any, args: Any, _returned: Any) -> Tensor:
    """Weights from the queries and keys that a module projects."""
    parts = [
        each(args[0]).unflatten(-1, (module.num_attention_heads, -1)).transpose(1, 2)
        for each in (module.query, module.key)
    ]
    return windows(sdpa_weights(*parts))


def mobilevit() -> Recipe:
    # The last stage has one patch on a side, so its attention is 1 and says nothing.
    sites = tuple(
        f"mobilevit.encoder.layer.{stage}.transformer.layer.{layer}.attention.attention"
        for stage, depth in ((2, 2), (3, 4), (4, 3))
        for layer in range(depth)
    )
    return of_images(
        "MobileViTForImageClassification",
        "MobileViTConfig",
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 16, 16, 16, 16, 32],
            "num_attention_heads": 4,
            "output_stride": 32,
        },
        sites,
        "mobilevit.conv_stem",
        side=64,
        keep=projected,
        layout=(windows, unfolded(4)),
        view=AttentionView(sites[0]),
        feature_name="",  # patches are folded into the batch: there is no (B, L, E)
        removal="mask_attention",
    )


def clip() -> Recipe:
    captions = texts((6, 4, 7, 5))
    captions[torch.arange(4), torch.tensor([5, 3, 6, 4])] = 59  # the end, where it is pooled
    given = {"input_ids": captions, "attention_mask": (captions != 0).long()}
    pattern = "{}_model.encoder.layers.{{}}.self_attn"
    image = AttentionView(layers(pattern.format("vision"))[-1], query=0)

    def call(model: nn.Module, inputs: Any) -> Any:
        return model(**inputs, **given)

    return Recipe(
        "CLIPModel",
        "CLIPConfig",
        {
            "vision_config": SIZES,
            "text_config": {**SMALL, **TEXT},
            "projection_dim": 16,
        },
        (*layers(pattern.format("vision")), *layers(pattern.format("text"))),
        "vision_model.embeddings",
        {"pixel_values": images()},
        # The texts are no instances: nothing is said about their attention.
        attentions=lambda returned: dict(
            zip(
                layers(pattern.format("vision")),
                returned.vision_model_output.attentions,
                strict=True,
            )
        ),
        more={
            "options": {"call": call, "logits": lambda returned: returned.logits_per_image},
            "removal": "zero_embedding",
            "feature_name": TOKENS,
            "view": image,
        },
    )


for _name, _recipe, _variants in (
    ("ViT", vit, EAGER_AND_SDPA),
    ("DeiT", deit, EAGER_AND_SDPA),
    ("DINOv2", dinov2, EAGER_AND_SDPA),
    ("BEiT (relative positions)", beit, EAGER_AND_SDPA),
    ("Swin (shifted windows)", swin, EAGER_AND_SDPA),
    ("MobileViT", mobilevit, ("eager",)),
    ("SigLIP, vision", siglip, EAGER_AND_SDPA),
    ("CLIP, images against fixed texts", clip, EAGER_AND_SDPA),
):
    registered(_name, _recipe, _variants)


@architecture("ViT of timm", variants=EAGER_AND_SDPA, needs="timm")
def timm_vit(variant: str) -> Entry:
    from timm.models.vision_transformer import VisionTransformer

    sizes: dict[str, Any] = {"img_size": 12, "patch_size": 4, "embed_dim": 32}
    sizes |= {"depth": 2, "num_heads": 4}
    model = built(lambda: VisionTransformer(**sizes, num_classes=3))
    sites = layers("blocks.{}.attn")
    for block in model.blocks:
        block.attn.fused_attn = variant == "sdpa"
    pixels = images()

    def own() -> Weights:
        seen: Weights = {}

        def keep(name: str) -> Any:
            def hook(module: Any, args: Any) -> None:
                parts = module.qkv(args[0]).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
                seen[name] = sdpa_weights(parts[0], parts[1])

            return hook

        handles = [
            block.attn.register_forward_pre_hook(keep(name))
            for name, block in zip(sites, model.blocks, strict=True)
        ]
        with evaluated(model):
            model(pixels)
        for handle in handles:
            handle.remove()
        return seen

    return Entry(
        model,
        pixels,
        sites,
        own,
        "pos_drop",
        TOKENS,
        view=AttentionView(sites[-1], query=0),
        removal="zero_embedding",
    )
