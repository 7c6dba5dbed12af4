"""Names that tokenizers and models give to inputs, and which text they speak of."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

Affix = tuple[str, str]  # what stands before and after a known name: ("decoder_", "")
PLAIN: Affix = ("", "")

TEXTS = ("input_ids", "inputs_embeds", "input_embeds", "embeddings", "embeds")
PLACES = "position_ids"
# One thing a position along dimension 1, and along the last two (pairs of positions).
_ALONG = ("token_type_ids", "special_tokens_mask", "offset_mapping", "bbox")
_PAIRS = (
    *("attention_mask", "global_attention_mask", "key_padding_mask", "padding_mask"),
    *("attn_mask", "perm_mask", "target_mapping", "mask", "adjacency_matrix", "adjacency", "adj"),
)
_COUNTS = ("lengths", "length", "lens")
_LONGEST_FIRST = sorted((*TEXTS, PLACES, *_ALONG, *_PAIRS, *_COUNTS), key=len, reverse=True)
_LABELS = (
    *("label", "labels", "target", "targets", "y", "next_sentence_label"),
    *("start_positions", "end_positions"),
)
_IMAGES_AND_SOUND = ("pixel_values", "input_features", "input_values")


def parsed(key: Any) -> tuple[Affix, str] | None:
    """Splits ``decoder_input_ids`` into what stands around a known name, and that name."""
    return _parsed(key) if isinstance(key, str) else None


@lru_cache(maxsize=256)
def _parsed(key: str) -> tuple[Affix, str] | None:
    for name in _LONGEST_FIRST:
        before, found, after = key.partition(name)
        if found and before[-1:] in ("", "_") and (after[:1] in ("", "_") or after.isdigit()):
            return (before, after), name
    return None


def affixes(key: Any) -> set[Affix]:
    """What stands around the names of all that goes with the text under this key.

    A key that is no known name may lend itself: ``premise`` goes with
    ``premise_mask`` and ``mask_premise``, and with a plain ``attention_mask``.
    """
    known = parsed(key)
    if known is not None:
        return {known[0]}
    return {(f"{key}_", ""), ("", f"_{key}"), PLAIN} if isinstance(key, str) else {PLAIN}


def is_text(key: Any) -> bool:
    """Whether a key names the ids or embeddings of a text."""
    known = parsed(key)
    return known is not None and known[1] in TEXTS


def holds_pairs(name: str) -> bool:
    """Whether what has this name may hold one thing for each pair of positions."""
    return name in _PAIRS


def is_label(key: Any) -> bool:
    """Whether a key names what a model is trained on."""
    return key in _LABELS


def is_no_text(key: Any) -> bool:
    """Whether a key names images or sound, whose dimensions are no positions."""
    return key in _IMAGES_AND_SOUND
