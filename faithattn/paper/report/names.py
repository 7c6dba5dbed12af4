"""Names as a reader knows them, and foreign text made safe to show."""

from __future__ import annotations

ENCODER_NAMES = {"bilstm": "BiLSTM", "cnn": "CNN", "average": "average"}
ATTENTION_NAMES = {"additive": "additive", "scaled_dot": "scaled dot-product"}


def plain(text: str, width: int | None = None) -> str:
    r"""Returns text on one line, without control characters, of ``width`` at most.

    Examples:
        >>> plain("a\tb\nsentence", 8)
        'a b sen…'
    """
    visible = "".join(
        character if character.isprintable() else "\ufffd" for character in " ".join(text.split())
    )
    if width is not None and len(visible) > width:
        return visible[: max(0, width - 1)] + "…"
    return visible
