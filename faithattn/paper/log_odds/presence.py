"""Which words each text holds, as a sparse matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from faithattn.paper.data.examples import Example
from faithattn.paper.data.ids import END
from faithattn.paper.data.vocabulary import Vocabulary


def word_presence(examples: Sequence[Example], vocabulary: Vocabulary) -> csr_array:
    """Marks the words of each text.

    Texts are encoded one at a time; what is kept is 12 bytes for each different
    word of each text.

    Args:
        examples: N examples.
        vocabulary: Turns tokens into ids.

    Returns:
        1 where a text holds a word, else 0, shape ``(N, V)``, float64, sparse;
        the columns of special tokens and of unknown words are 0.

    Examples:
        >>> vocabulary = Vocabulary.build([["a", "good", "film"]])
        >>> word_presence([Example(("a", "a", "dull", "film"), 0)], vocabulary).toarray()
        array([[0., 0., 0., 0., 1., 1., 0.]])
    """
    rows = [_words(example, vocabulary) for example in examples]
    starts = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate([np.empty(0, np.int32), *rows])
    held = np.ones(len(columns))
    return csr_array((held, columns, starts), shape=(len(rows), len(vocabulary)))


def _words(example: Example, vocabulary: Vocabulary) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Returns the ids of the known words of a text, each once, ascending."""
    ids = np.unique(np.array(vocabulary.encode(example.tokens), np.int32))
    return ids[ids > END]
