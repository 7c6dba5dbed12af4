"""The published model of natural language inference; import it from ``faithattn.paper.models``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from faithattn.adapters.beside import Beside
from faithattn.adapters.protocol import Run
from faithattn.paper.models.two_texts import TwoTexts


class PairClassifier(TwoTexts):
    """A premise and a hypothesis, and what the one says of the other.

    A :class:`~faithattn.paper.models.two_texts.TwoTexts` whose hypothesis asks:
    attention is over the premise, which is what is explained. Any class can be
    the answer.

    Inputs are a mapping: ``"premise"`` ids ``(B, L)`` and ``"hypothesis"`` ids
    ``(B, Lh)``; ids as in :class:`TextClassifier`. Arguments and attributes are
    those of ``TwoTexts``.

    Raises:
        ValueError: If a name is unknown or a size does not fit.

    References:
        Jain and Wallace (2019), "Attention is not Explanation"; Bowman, Angeli,
        Potts, Manning (2015), "A large annotated corpus for learning natural
        language inference".

    Examples:
        >>> import torch
        >>> from faithattn import loo_correlation
        >>> from faithattn.paper.training import build
        >>> model = build(lambda: PairClassifier(9, 3, embedding_size=4, hidden_size=2), seed=0)
        >>> inputs = {
        ...     "premise": torch.tensor([[2, 5, 6, 7, 3]]),
        ...     "hypothesis": torch.tensor([[2, 8, 3]]),
        ... }
        >>> model.run(inputs).logits.shape
        torch.Size([1, 3])
        >>> loo_correlation(model, inputs).importance.shape
        torch.Size([1, 5])
    """

    keys = ("premise", "hypothesis")
    collate = "collate_pairs"

    def beside(self, inputs: Mapping[str, Tensor], run: Run | None = None) -> Beside | None:
        """What was read in a run, for premises that differ in places; see :class:`Beside`."""
        return self._beside(inputs, run) if type(self) is PairClassifier else None
