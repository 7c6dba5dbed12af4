"""The published question-answering model; import it from ``faithattn.paper.models``."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from faithattn.adapters.beside import Beside
from faithattn.adapters.protocol import Run
from faithattn.paper.models.common import check_candidates
from faithattn.paper.models.two_texts import TwoTexts


class QuestionAnswerer(TwoTexts):
    """A passage and a question, one of several entities as the answer.

    A :class:`~faithattn.paper.models.two_texts.TwoTexts` whose question asks:
    attention is over the passage, which is what is explained. Entities that are
    not candidates get the lowest finite number as their logit, hence
    probability 0.

    Inputs are a mapping: ``"passage"`` ids ``(B, L)``, ``"question"`` ids
    ``(B, Lq)``, ``"candidates"`` bool ``(B, n_classes)``; ids as in
    :class:`TextClassifier`. Arguments and attributes are those of ``TwoTexts``,
    the classes being the entities.

    Raises:
        ValueError: If a name is unknown or a size does not fit.

    References:
        Jain and Wallace (2019), "Attention is not Explanation".

    Examples:
        >>> import torch
        >>> from faithattn.paper.training import build
        >>> make = lambda: QuestionAnswerer(9, 3, embedding_size=4, hidden_size=2)
        >>> inputs = {
        ...     "passage": torch.tensor([[2, 5, 6, 7, 3]]),
        ...     "question": torch.tensor([[2, 8, 3]]),
        ...     "candidates": torch.tensor([[True, True, False]]),
        ... }
        >>> run = build(make, seed=0).run(inputs)
        >>> run.logits.softmax(-1)[0, 2].item(), run.mask.sum().item()
        (0.0, 3)
    """

    keys = ("passage", "question", "candidates")
    collate = "collate_questions"

    def beside(self, inputs: Mapping[str, Tensor], run: Run | None = None) -> Beside | None:
        """What was read in a run, for passages that differ in places; see :class:`Beside`."""
        return self._beside(inputs, run) if type(self) is QuestionAnswerer else None

    def _check(self, inputs: object) -> list[Tensor]:
        """Returns valid passages, questions and candidates."""
        passage, question, candidates = super()._check(inputs)
        check_candidates(candidates, passage, self.decoder.out_features)
        return [passage, question, candidates]
