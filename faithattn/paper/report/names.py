"""Names as a reader knows them."""

from __future__ import annotations

ENCODER_NAMES = {"bilstm": "BiLSTM", "cnn": "CNN", "average": "average"}
ATTENTION_NAMES = {"additive": "additive", "scaled_dot": "scaled dot-product"}
