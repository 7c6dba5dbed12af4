"""Sounds and series: continuous inputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from faithattn import AttentionView

from .entry import EAGER_AND_SDPA, Entry, Weights, architecture, built, evaluated, numbers
from .library import Recipe, layers, registered

TOKENS = "tokens"
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 60,
}


class Heard(nn.Module):
    """Whisper's encoder with a linear classifier on the mean of its states."""

    def __init__(self, variant: str) -> None:
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        super().__init__()
        config = WhisperConfig(
            vocab_size=60,
            d_model=32,
            encoder_layers=2,
            encoder_attention_heads=4,
            encoder_ffn_dim=48,
            num_mel_bins=8,
            max_source_positions=9,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        )
        config._attn_implementation = variant
        self.encoder = WhisperEncoder(config)
        self.out = nn.Linear(32, 3)

    def forward(self, features: Tensor, **more: Any) -> Tensor:
        return self.out(self.encoder(features, **more).last_hidden_state.mean(1))


@architecture("Whisper's encoder, linear head", variants=EAGER_AND_SDPA, needs="transformers")
def whisper(variant: str) -> Entry:
    model = built(lambda: Heard(variant))
    features = numbers(3, 8, 18)  # (B, mel bins, frames); two frames make one position
    sites = layers("encoder.layers.{}.self_attn")

    def own() -> Weights:
        twin = built(lambda: Heard("eager")).encoder
        with evaluated(twin):
            weights = twin(features, output_attentions=True).attentions
        return dict(zip(sites, weights, strict=True))

    return Entry(
        model,
        features,
        sites,
        own,
        "encoder.layers.0",
        TOKENS,
        feature_is_input=True,
        view=AttentionView(sites[-1]),
        removal="zero_embedding",
    )


def wav2vec2() -> Recipe:
    convolutions = {"conv_dim": [16, 16], "conv_stride": [4, 4], "conv_kernel": [6, 4]}
    return Recipe(
        "Wav2Vec2ForSequenceClassification",
        "Wav2Vec2Config",
        {
            **SIZES,
            **convolutions,
            "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 4,
            "num_conv_pos_embedding_groups": 2,
            "classifier_proj_size": 16,
            "apply_spec_augment": False,
        },
        layers("wav2vec2.encoder.layers.{}.attention"),
        "wav2vec2.feature_projection",
        {"input_values": numbers(3, 150)},
        more={
            "view": AttentionView("wav2vec2.encoder.layers.1.attention"),
            "removal": "zero_embedding",
            "feature_name": TOKENS,
            "feature_is_input": True,
        },
    )


def patchtst() -> Recipe:
    return Recipe(
        "PatchTSTForClassification",
        "PatchTSTConfig",
        {
            "num_input_channels": 1,
            "context_length": 24,
            "patch_length": 4,
            "patch_stride": 4,
            "num_hidden_layers": 2,
            "d_model": 32,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "num_targets": 3,
            "norm_type": "layernorm",
        },
        layers("model.encoder.layers.{}.self_attn"),
        "model.encoder.embedder",
        {"past_values": numbers(3, 24, 1)},
        more={
            "options": {"logits": lambda returned: returned.prediction_logits},
            "view": AttentionView("model.encoder.layers.1.self_attn"),
            "removal": "zero_embedding",
            "feature_name": TOKENS,
        },
    )


for _name, _recipe in (
    ("Wav2Vec2 (convolutions, then transformer)", wav2vec2),
    ("PatchTST (time series)", patchtst),
):
    registered(_name, _recipe)
