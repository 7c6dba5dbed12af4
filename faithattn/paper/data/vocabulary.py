"""From text to token ids: tokens, the vocabulary, pretrained vectors."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from faithattn._checks import require_count
from faithattn.paper.data.ids import END, START, UNKNOWN

SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")

_TOKEN = re.compile(
    r"""
    \d+(?:[.,]\d+)+                    # 3.14 and 1,000 stay one token
    | [\w\u0300-\u036f]+(?=n't\b)      # do|n't
    | n't\b
    | '(?:s|re|ve|ll|d|m)\b            # it|'s
    | [\w\u0300-\u036f]+(?:'(?!(?:s|re|ve|ll|d|m)\b)\w+)*   # o'neil stays one
    | \.{2,}                           # an ellipsis, however long
    | [^\w\s\x00-\x1f\x7f\xad\u200b-\u200f\u2060\ufeff\ud800-\udfff]  # a visible mark
    """,
    re.VERBOSE,
)


def tokenize(text: str) -> list[str]:
    """Splits a text into lower-case words, numbers and punctuation marks.

    English contractions come apart as in the Penn Treebank (``do n't``,
    ``it 's``), numbers keep their points and commas, every other mark is a
    token of its own. Letters of any script are letters. Curly apostrophes
    count as straight ones. Control and zero-width characters separate tokens
    and are none.

    Args:
        text: Any string.

    Returns:
        The tokens in order; empty for a text without visible characters.

    Raises:
        TypeError: If ``text`` is not a string.

    Examples:
        >>> tokenize("It's good, but don't pay $3.50!")
        ['it', "'s", 'good', ',', 'but', 'do', "n't", 'pay', '$', '3.50', '!']
    """
    if not isinstance(text, str):
        raise TypeError(
            f"text must be a string; got {type(text).__name__}. Pass one text at a time."
        )
    plain = unicodedata.normalize("NFC", text).lower().replace("\u2019", "'")
    return _TOKEN.findall(plain)


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """The words a model knows, by id.

    The four special tokens come first: padding 0, unknown 1, start 2, end 3.
    A token of a text that is spelled like one of them is unknown, never the
    special token.

    Attributes:
        words: Every word by id, the special tokens included.

    Raises:
        ValueError: If the special tokens do not come first or a word repeats.

    Examples:
        >>> vocabulary = Vocabulary.build([["a", "good", "film"], ["a", "bore"]])
        >>> vocabulary.words
        ('<pad>', '<unk>', '<s>', '</s>', 'a', 'bore', 'film', 'good')
        >>> vocabulary.encode(["a", "dull", "film"])
        [2, 4, 1, 6, 3]
        >>> vocabulary.decode([2, 4, 1, 6, 3])
        ['<s>', 'a', '<unk>', 'film', '</s>']
    """

    words: tuple[str, ...]
    _index: dict[str, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        words = tuple(self.words)
        if words[: len(SPECIALS)] != SPECIALS:
            raise ValueError(
                f"words must begin with {SPECIALS}; got {words[: len(SPECIALS)]}. "
                "Use Vocabulary.build, or the list that to_list gave."
            )
        repeated = [word for word, count in Counter(words).items() if count > 1]
        if repeated:
            raise ValueError(
                f"words must not repeat; got {repeated[0]!r} twice. Keep one of each word."
            )
        object.__setattr__(self, "words", words)
        index = {word: number for number, word in enumerate(words) if number > END}
        object.__setattr__(self, "_index", index)

    @classmethod
    def build(
        cls,
        texts: Iterable[Sequence[str]],
        *,
        minimum_count: int = 1,
        maximum_size: int | None = None,
    ) -> Vocabulary:
        """Collects the words of tokenised texts, the most frequent first.

        Args:
            texts: Texts as sequences of tokens. Use the training split, so
                that words only the other splits hold are unknown.
            minimum_count: Rarer words are left out.
            maximum_size: Largest length of the vocabulary, the four special
                tokens included; None for no limit. Words of one count enter in
                alphabetical order.

        Returns:
            The vocabulary.

        Raises:
            TypeError: If a text is a string instead of its tokens.
            ValueError: If an option is out of range or no word is left.
        """
        require_count("minimum_count", minimum_count)
        if maximum_size is not None:
            require_count("maximum_size", maximum_size, least=len(SPECIALS) + 1)
        counts = Counter(chain.from_iterable(map(_tokens, texts)))
        kept = [w for w, n in counts.items() if n >= minimum_count and w not in SPECIALS]
        if not kept:
            raise ValueError(
                f"texts must hold a word that occurs {minimum_count} times or more; got "
                f"{len(counts)} rarer words. Lower minimum_count or pass more text."
            )
        kept.sort(key=lambda word: (-counts[word], word))
        return cls((*SPECIALS, *kept)[:maximum_size])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} words)"

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """Returns the ids of the tokens between start and end, unknown ones as ``<unk>``.

        Args:
            tokens: The tokens of one text.

        Returns:
            ``len(tokens) + 2`` ids.

        Raises:
            TypeError: If ``tokens`` is a string.
        """
        words = (self._index.get(token, UNKNOWN) for token in _tokens(tokens))
        return [START, *words, END]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Returns the word of every id, special tokens and padding included.

        Args:
            ids: Token ids, in the range of the vocabulary.

        Returns:
            One word per id.

        Raises:
            ValueError: If an id is out of range.
        """
        return [self._word(int(number)) for number in ids]

    def _word(self, number: int) -> str:
        """Returns the word of one id."""
        if not 0 <= number < len(self):
            raise ValueError(
                f"ids must lie in 0..{len(self) - 1}; got {number}. "
                "Decode with the vocabulary that encoded."
            )
        return self.words[number]

    def to_list(self) -> list[str]:
        """Returns the words by id, ready for JSON."""
        return list(self.words)

    @classmethod
    def from_list(cls, words: Iterable[str]) -> Vocabulary:
        """Returns the vocabulary that ``to_list`` described.

        Args:
            words: Every word by id, the special tokens first.

        Raises:
            ValueError: If the special tokens do not come first or a word repeats.

        Examples:
            >>> vocabulary = Vocabulary.build([["a", "film"]])
            >>> Vocabulary.from_list(vocabulary.to_list()) == vocabulary
            True
        """
        return cls(tuple(words))


def _tokens(text: Sequence[str]) -> Sequence[str]:
    """Returns the tokens of a text, refusing a string, whose items would be letters."""
    if isinstance(text, str):
        raise TypeError(
            f"tokens must be a sequence of words; got {text[:30]!r}. Tokenize it first."
        )
    return text
