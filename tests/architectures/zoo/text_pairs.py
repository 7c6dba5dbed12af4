"""Encoders with decoders, and models of several inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from faithattn import AttentionView

from .entry import EAGER_AND_SDPA
from .library import LENGTHS, Recipe, flattened, layers, padded, registered

END = 2


def ending() -> dict[str, Tensor]:
    """Padded ids whose last real one is the end of the text."""
    inputs = padded()
    inputs["input_ids"][torch.arange(3), torch.tensor(LENGTHS) - 1] = END
    return inputs


def t5() -> Recipe:
    start = torch.zeros(3, 1, dtype=torch.int64)
    own, cross = (
        "decoder.block.{}.layer.0.SelfAttention",
        "decoder.block.{}.layer.1.EncDecAttention",
    )
    return Recipe(
        "T5ForConditionalGeneration",
        "T5Config",
        {
            "vocab_size": 60,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
            "tie_word_embeddings": False,
        },
        (*layers("encoder.block.{}.layer.0.SelfAttention"), *flattened(layers(own), layers(cross))),
        "encoder.embed_tokens",
        padded(decoder_input_ids=start),
        attentions=lambda returned: [
            *returned.encoder_attentions,
            *flattened(returned.decoder_attentions, returned.cross_attentions),
        ],
        more={
            "options": {"logits": lambda returned: returned.logits[:, -1]},
            "view": AttentionView(layers(cross)[-1], query=-1, feature="encoder.embed_tokens"),
        },
    )


def bart() -> Recipe:
    own, cross = "model.decoder.layers.{}.self_attn", "model.decoder.layers.{}.encoder_attn"
    return Recipe(
        "BartForSequenceClassification",
        "BartConfig",
        {
            "vocab_size": 60,
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 40,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": END,
            "decoder_start_token_id": END,
            "forced_eos_token_id": END,
        },
        (
            *layers("model.encoder.layers.{}.self_attn"),
            *flattened(layers(own), layers(cross)),
        ),
        "model.encoder.embed_tokens",
        ending(),
        attentions=lambda returned: [
            *returned.encoder_attentions,
            *flattened(returned.decoder_attentions, returned.cross_attentions),
        ],
        more={
            # The end is what the classifier reads: taking it away leaves nothing to classify.
            "options": {
                "mask": lambda inputs: inputs["input_ids"] > END,
                "embedding": "model.encoder.embed_tokens",
            },
            "view": AttentionView(
                layers(cross)[-1],
                query=torch.tensor(LENGTHS) - 1,
                feature="model.encoder.embed_tokens",
            ),
        },
    )


def perceiver() -> Recipe:
    return Recipe(
        "PerceiverForSequenceClassification",
        "PerceiverConfig",
        {
            "vocab_size": 60,
            "d_model": 32,
            "d_latents": 32,
            "num_latents": 4,
            "num_self_attends_per_block": 1,
            "num_blocks": 2,
            "num_self_attention_heads": 4,
            "num_cross_attention_heads": 4,
            "max_position_embeddings": 8,
        },
        (
            "perceiver.encoder.cross_attention.attention.self",
            "perceiver.encoder.self_attends.0.attention.self",
            "perceiver.encoder.self_attends.0.attention.self#1",
            "perceiver.decoder.decoder.decoding_cross_attention.attention.self",
        ),
        "perceiver.input_preprocessor.embeddings",
        {"inputs": padded()["input_ids"], "attention_mask": padded()["attention_mask"]},
        attentions=lambda returned: [
            returned.cross_attentions[0],
            *returned.attentions,
            returned.cross_attentions[1],
        ],
        more={"view": AttentionView("perceiver.encoder.cross_attention.attention.self")},
    )


for _name, _recipe, _variants in (
    ("T5 (cross attention of a decoder step)", t5, EAGER_AND_SDPA),
    ("BART", bart, EAGER_AND_SDPA),
    ("Perceiver (of the library)", perceiver, ("eager",)),
):
    registered(_name, _recipe, _variants)
