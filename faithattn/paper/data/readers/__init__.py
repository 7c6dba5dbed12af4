"""Readers for files of texts, of texts with several labels, and of pairs of texts.

All of them read row by row and keep the tokens in a
:class:`~faithattn.paper.data.store.TokenStore`, so that memory does not grow
with the length of the texts. A row that cannot be used is named by its line and
file and ends the reading; rows that are left out on purpose are counted.
"""

from faithattn.paper.data.readers.agnews import read_agnews
from faithattn.paper.data.readers.labels import read_labels
from faithattn.paper.data.readers.pairs import read_pairs
from faithattn.paper.data.readers.texts import read_texts

__all__ = ["read_agnews", "read_labels", "read_pairs", "read_texts"]
