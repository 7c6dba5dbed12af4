"""Causal language models with a classifier on the last token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from faithattn import AttentionView

from .entry import EAGER_AND_SDPA
from .library import LENGTHS, SMALL, Recipe, layers, padded, padded_left, registered

GROUPED = {**SMALL, "num_key_value_heads": 2, "pad_token_id": 0, "head_dim": 8}


def last(site: str) -> AttentionView:
    """The last real query of each instance."""
    return AttentionView(site, query=torch.tensor(LENGTHS) - 1)


def decoder(name: str, settings: dict[str, Any], feature: str, pattern: str, **more: Any) -> Recipe:
    """A classifier of the library on its causal model of that name."""
    sites = layers(pattern)
    return Recipe(
        f"{name}ForSequenceClassification",
        f"{name}Config",
        settings,
        sites,
        feature,
        padded(),
        more={"view": last(sites[-1]), **more},
    )


def gpt2() -> Recipe:
    settings = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return decoder("GPT2", {**settings, **ids}, "transformer.wte", "transformer.h.{}.attn")


def rotary(name: str, **settings: Any) -> Recipe:
    """Llama and its kin."""
    pattern = "model.layers.{}.self_attn"
    scale = GROUPED["hidden_size"] ** 0.5 if name == "Gemma" else 1.0
    feature = "model.embed_tokens"
    return decoder(name, {**GROUPED, **settings}, feature, pattern, feature_scale=scale)


def mixtral() -> Recipe:
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    return decoder(
        "Mixtral",
        {**GROUPED, **experts},
        "model.embed_tokens",
        "model.layers.{}.self_attn",
        skip=lambda weights: weights.shape[-1] == 4,  # the router's (tokens, experts)
    )


def gpt_oss() -> Recipe:
    """Its sink is a key behind the positions, which the library leaves out of what it returns."""
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    recipe = decoder(
        "GptOss",
        {**GROUPED, **experts, "layer_types": ["full_attention"] * 2},
        "model.embed_tokens",
        "model.layers.{}.self_attn",
        skip=lambda weights: weights.shape[-1] == 2,  # the router's chosen experts
    )
    return replace(
        recipe,
        attentions=lambda returned: [
            torch.cat([each, 1 - each.sum(-1, keepdim=True)], -1) for each in returned.attentions
        ],
    )


def neox() -> Recipe:
    return decoder(
        "GPTNeoX",
        {**SMALL, "pad_token_id": 0},
        "gpt_neox.embed_in",
        "gpt_neox.layers.{}.attention",
    )


def opt() -> Recipe:
    settings = {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 0}
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    return decoder(
        "OPT",
        {**settings, **ids},
        "model.decoder.embed_tokens",
        "model.decoder.layers.{}.self_attn",
    )


def bloom() -> Recipe:
    settings = {"vocab_size": 60, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return decoder(
        "Bloom",
        {**settings, **ids},
        "transformer.word_embeddings",
        "transformer.h.{}.self_attention",
    )


def language_model() -> Recipe:
    """Next-token logits of a language model, padded at the beginning."""
    inputs = padded_left()
    sites = layers("model.layers.{}.self_attn")
    rows = inputs["attention_mask"].bool()[:, None, :, None]
    return Recipe(
        "LlamaForCausalLM",
        "LlamaConfig",
        GROUPED,
        sites,
        "model.embed_tokens",
        inputs,
        more={
            "options": {"logits": lambda returned: returned.logits[:, -1]},
            "view": AttentionView(sites[-1], query=-1),
            "compared": dict.fromkeys(sites, rows),
        },
    )


for _name, _recipe, _variants in (
    ("GPT-2", gpt2, EAGER_AND_SDPA),
    ("Llama (grouped queries, rotary)", lambda: rotary("Llama"), EAGER_AND_SDPA),
    ("Gemma", lambda: rotary("Gemma"), EAGER_AND_SDPA),
    ("Qwen3", lambda: rotary("Qwen3"), EAGER_AND_SDPA),
    ("Mixtral (with a router)", mixtral, EAGER_AND_SDPA),
    ("GPT-OSS (a sink, a router)", gpt_oss, ("eager",)),
    ("GPT-NeoX", neox, EAGER_AND_SDPA),
    ("OPT", opt, EAGER_AND_SDPA),
    ("BLOOM (ALiBi)", bloom, ("eager",)),
    ("Llama, next token, padded on the left", language_model, EAGER_AND_SDPA),
):
    registered(_name, _recipe, _variants)
