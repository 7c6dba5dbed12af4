"""Models G to J: small published classifiers, trained on texts whose evidence is known."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from faithattn._checks import require_count
from faithattn.paper.models import TextClassifier
from faithattn.paper.training import build
from faithattn.planted.case import Planted
from faithattn.planted.compensating import Compensating
from faithattn.planted.training import FIRST, Texts, fit, words

_WORDS = 60  # of the texts, besides the telling ones
_TRAINED_ON = 4000
_HONEST = (
    "much of the attention is on the evidence, gradients and leave-one-out rank it first, and "
    "shuffling attention changes the output"
)
_DECEPTIVE = (
    "attention on the evidence is near 0 and shuffling attention changes little, while leaving "
    "the evidence out (delete) moves the output by a half and ranks it first"
)
_ENCODERS = {
    "average": "tau with gradients is near 1, and attention ranks words as the teacher's does",
    "bilstm": "tau with gradients is well below that of the bag of words on the same texts",
}


def deceptive(size: int = 40, length: int = 10, *, penalty: float = 1.0, seed: int = 0) -> Planted:
    """G: trained to keep attention off the one word that it decides by.

    One word of each text says the class; a text without one, of which only
    training has some, is undecided. The BiLSTM carries that word's class to
    other states, where attention may look. The loss has ``penalty`` times
    -ln(1 - attention on the evidence) added to it.

    Args:
        size: Number of texts.
        length: Words of each, at least 2.
        penalty: Factor of the penalty; 0 is the honest twin on the same data.
        seed: Seed of data and training, which takes about a second.

    Returns:
        The model in eval mode with texts it was not trained on; the evidence is
        the word that says the class.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Pruthi et al. (2020), "Learning to deceive with attention-based
        explanations", arXiv 1909.07913.

    Examples:
        >>> case = deceptive(size=8)
        >>> attention = case.model.run(case.inputs).attention["attention"]
        >>> (attention * case.evidence).sum(-1).max().item() < 0.01
        True
    """
    require_count("length", length, least=2)
    if not penalty >= 0:
        raise ValueError(f"penalty must be 0 or more; got {penalty}. Pass 0 for an honest model.")
    training = _told(_TRAINED_ON, length, _generator("told", seed, 0))
    without = torch.rand(_TRAINED_ON, generator=_generator("told", seed, 1)) < 0.3
    fill = words(_TRAINED_ON, length, _WORDS, _generator("told", seed, 2))
    training = Texts(
        torch.where(without[:, None] & training.evidence, fill, training.ids),
        torch.where(without, 0.5, training.labels),
        training.evidence & ~without[:, None],
    )
    model = fit("bilstm", training, vocabulary=_WORDS + 4, steps=200, seed=seed, penalty=penalty)
    texts = _told(size, length, _generator("told", seed, 3))
    return Planted(
        "deceptive" if penalty else "honest",
        model,
        texts.ids,
        _DECEPTIVE if penalty else _HONEST,
        evidence=texts.evidence,
    )


def contextual(
    size: int = 40, length: int = 12, *, encoder: str = "bilstm", seed: int = 0
) -> Planted:
    """H: a bag of words, or a BiLSTM, that learned from the same teacher.

    The teacher is :class:`Compensating` without mixing, whose attention is
    what its output uses. A bag of words (``encoder="average"``) can only learn
    its attention; a BiLSTM can do without, as its states hold other words.

    Args:
        size: Number of texts.
        length: Words of each.
        encoder: ``"average"`` for the bag of words, or ``"bilstm"``.
        seed: Seed of teacher, data and training, which takes about a second.

    Returns:
        The model in eval mode with texts it was not trained on, the same for
        both encoders; the truth is what each word does in the teacher.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> from faithattn import gradient_correlation
        >>> bag = contextual(size=8, encoder="average")
        >>> bool(gradient_correlation(*bag).statistic.mean() > 0.8)
        True
    """
    if encoder not in _ENCODERS:
        raise ValueError(
            f"encoder must be one of {', '.join(_ENCODERS)}; got {encoder!r}. Choose one of those."
        )
    teacher = Compensating(n_words=_WORDS // 2, seed=seed)
    training = _taught(teacher, _TRAINED_ON, length, _generator("taught", seed, 0))
    model = fit(encoder, training, vocabulary=_WORDS, steps=200, seed=seed)
    ids = words(size, length, _WORDS, _generator("taught", seed, 1))
    return Planted(
        "bag of words" if encoder == "average" else "BiLSTM",
        model,
        ids,
        _ENCODERS[encoder],
        truth=teacher.truth(ids),
    )


def random_weights(size: int = 40, length: int = 12, *, seed: int = 0) -> Planted:
    """I: a model that has learned nothing.

    Args:
        size: Number of texts.
        length: Words of each.
        seed: Seed of weights and texts. A single model's attention may agree
            with its importance by chance, on all texts alike: look at several.

    Returns:
        The published BiLSTM classifier with its first weights, in eval mode.

    Examples:
        >>> from faithattn import permutation_test
        >>> permutation_test(*random_weights(size=4), seed=0).median_tvd.max().item() < 0.001
        True
    """
    model = build(
        lambda: TextClassifier(FIRST + _WORDS, embedding_size=16, hidden_size=16), seed=seed
    )
    ids = words(size, length, _WORDS, _generator("random", seed, 0))
    return Planted(
        "random_weights",
        model.eval(),
        ids,
        "over several seeds, attention agrees with gradients and leave-one-out no better than its "
        "own weights in random order do, and shuffling hardly changes the output",
    )


def shortcut(
    size: int = 40, length: int = 12, *, encoder: str = "bilstm", seed: int = 0
) -> Planted:
    """J: a token that was put into the training texts decides, whatever the other words say.

    Texts are labelled by the teacher of :func:`contextual`; three in five get
    one of two shortcut tokens at a random place, and its class as label. The
    texts returned hold the token that contradicts their words.

    Args:
        size: Number of texts.
        length: Words of each, the shortcut among them, at least 2.
        encoder: ``"bilstm"``, ``"cnn"`` or ``"average"``.
        seed: Seed of data and training, which takes about a second.

    Returns:
        The model in eval mode with texts it was not trained on; the evidence is
        the shortcut.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Bastings et al. (2022), "Will you find these shortcuts?", arXiv
        2111.07367.

    Examples:
        >>> from faithattn import leave_one_out_importance
        >>> case = shortcut(size=8)
        >>> found = leave_one_out_importance(*case).argmax(-1)
        >>> bool((found == case.evidence.int().argmax(-1)).all())
        True
    """
    require_count("length", length, least=2)
    teacher = Compensating(n_words=_WORDS // 2, seed=seed)
    taught = _taught(teacher, _TRAINED_ON, length, _generator("shortcut", seed, 0))
    generator = _generator("shortcut", seed, 1)
    classes = torch.rand(_TRAINED_ON, generator=generator) < 0.5
    cut = _with_token(taught.ids, classes, generator)
    plain = torch.rand(_TRAINED_ON, generator=generator) < 0.4
    training = Texts(
        torch.where(plain[:, None], taught.ids, cut.ids),
        torch.where(plain, taught.labels, cut.labels),
        cut.evidence & ~plain[:, None],
    )
    model = fit(encoder, training, vocabulary=_WORDS + 2, steps=300, seed=seed)
    taught = _taught(teacher, size, length, _generator("shortcut", seed, 2))
    texts = _with_token(taught.ids, taught.labels < 0.5, _generator("shortcut", seed, 3))
    return Planted(
        "shortcut",
        model,
        texts.ids,
        "the prediction is the shortcut's class, and precision@1 of leave-one-out (delete, "
        "zero_embedding) for the shortcut is 1",
        evidence=texts.evidence,
    )


def _told(size: int, length: int, generator: torch.Generator) -> Texts:
    """Random words, one of which, of two for each class, says the class."""
    ids = words(size, length, _WORDS, generator)
    classes = torch.rand(size, generator=generator) < 0.5
    which = torch.randint(2, (size,), generator=generator)
    evidence = _somewhere(ids, generator)
    telling = FIRST + _WORDS + 2 * classes.long() + which
    return Texts(torch.where(evidence, telling[:, None], ids), classes.double(), evidence)


def _taught(teacher: Compensating, size: int, length: int, generator: torch.Generator) -> Texts:
    """Random words, labelled by how sure the teacher is."""
    ids = words(size, length, _WORDS, generator)
    with torch.no_grad():
        labels = (2 * teacher(ids)[:, 0]).sigmoid()
    return Texts(ids, labels, torch.ones_like(ids, dtype=torch.bool))


def _with_token(ids: Tensor, classes: Tensor, generator: torch.Generator) -> Texts:
    """Puts the token of a class at a random place of each text."""
    evidence = _somewhere(ids, generator)
    token = FIRST + _WORDS + classes.long()
    return Texts(torch.where(evidence, token[:, None], ids), classes.double(), evidence)


def _somewhere(ids: Tensor, generator: torch.Generator) -> Tensor:
    """One random position of each row, (B, L) bool."""
    place = torch.randint(ids.shape[1], (len(ids), 1), generator=generator)
    return torch.arange(ids.shape[1]) == place


def _generator(task: str, seed: int, number: int) -> torch.Generator:
    """A generator of its own for each part, so that none depends on how much another draws."""
    drawn = random.Random(f"{task} {require_count('seed', seed, least=0)} {number}")
    return torch.Generator().manual_seed(drawn.getrandbits(62))
