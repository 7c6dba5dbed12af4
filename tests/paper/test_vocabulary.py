from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faithattn.paper.data.vocabulary import SPECIALS, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A Good film.", ["a", "good", "film", "."]),
        ("it's, isn't, can't", ["it", "'s", ",", "is", "n't", ",", "ca", "n't"]),
        ("we\u2019re they'll I'd I'm", ["we", "'re", "they", "'ll", "i", "'d", "i", "'m"]),
        ("O'Neil's rock'n'roll", ["o'neil", "'s", "rock'n'roll"]),
        ("'quoted' dogs'", ["'", "quoted", "'", "dogs", "'"]),
        ("3.14 1,000, 21st", ["3.14", "1,000", ",", "21st"]),
        ("well-made...", ["well", "-", "made", "..."]),
        ("naïve ÜBER Ж 日本語", ["naïve", "über", "ж", "日本語"]),
        (unicodedata.normalize("NFD", "naïve"), ["naïve"]),
        ("(a)!?", ["(", "a", ")", "!", "?"]),
        ("a\u200bb\ufeff \x00 \ud800", ["a", "b"]),
        (" \n\t", []),
        ("", []),
    ],
)
def test_tokenize(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


@given(st.text())
def test_tokens_are_without_white_space(text: str) -> None:
    for token in tokenize(text):
        assert token
        assert not any(character.isspace() for character in token)


@given(st.text(alphabet="aB3.,'n t!-", max_size=30))
def test_tokenize_loses_no_visible_character(text: str) -> None:
    assert "".join(tokenize(text)) == text.lower().replace(" ", "")


def test_tokenize_wants_a_string() -> None:
    with pytest.raises(TypeError, match=r"text must be a string; got list"):
        tokenize(["a"])  # type: ignore[arg-type]


TEXTS = [["b", "a", "a", "c"], ["a", "b", "d"]]


def test_build_orders_by_count_then_alphabet() -> None:
    assert Vocabulary.build(TEXTS).words == (*SPECIALS, "a", "b", "c", "d")
    assert Vocabulary.build(TEXTS, minimum_count=2).words == (*SPECIALS, "a", "b")
    assert Vocabulary.build(TEXTS, maximum_size=7).words == (*SPECIALS, "a", "b", "c")
    assert len(Vocabulary.build(iter(TEXTS))) == 8


def test_encode_and_decode() -> None:
    vocabulary = Vocabulary.build(TEXTS)
    assert vocabulary.encode(["d", "zebra", "a"]) == [2, 7, 1, 4, 3]
    assert vocabulary.encode([]) == [2, 3]
    assert vocabulary.decode([2, 7, 1, 3, 0]) == ["<s>", "d", "<unk>", "</s>", "<pad>"]
    assert "a" in vocabulary
    assert "zebra" not in vocabulary


@pytest.mark.parametrize("special", SPECIALS)
def test_a_text_cannot_spell_a_special_token(special: str) -> None:
    vocabulary = Vocabulary.build([["a", special, special]])
    assert vocabulary.words == (*SPECIALS, "a")
    assert vocabulary.encode([special, "a"]) == [2, 1, 4, 3]
    assert special not in vocabulary


def test_round_trip_through_json() -> None:
    vocabulary = Vocabulary.build([["naïve", '"', "\\", "日本"]])
    loaded = Vocabulary.from_list(json.loads(json.dumps(vocabulary.to_list())))
    assert loaded == vocabulary
    assert loaded.encode(["日本"]) == vocabulary.encode(["日本"])
    assert hash(loaded) == hash(vocabulary)
    assert repr(vocabulary) == "Vocabulary(8 words)"


@given(st.lists(st.lists(st.text(min_size=1), min_size=1), min_size=1))
def test_known_words_come_back(texts: list[list[str]]) -> None:
    vocabulary = Vocabulary.build([["known"], *texts])
    for text in texts:
        ids = vocabulary.encode(text)
        expected = [word if word not in SPECIALS else "<unk>" for word in text]
        assert vocabulary.decode(ids[1:-1]) == expected


@pytest.mark.parametrize("number", [-1, 8])
def test_decode_out_of_range(number: int) -> None:
    with pytest.raises(ValueError, match=rf"ids must lie in 0..7; got {number}"):
        Vocabulary.build(TEXTS).decode([number])


def test_bad_vocabularies() -> None:
    with pytest.raises(ValueError, match=r"occurs 5 times or more; got 4 rarer words"):
        Vocabulary.build(TEXTS, minimum_count=5)
    with pytest.raises(ValueError, match=r"texts must hold a word"):
        Vocabulary.build([])
    with pytest.raises(ValueError, match=r"minimum_count must be at least 1"):
        Vocabulary.build(TEXTS, minimum_count=0)
    with pytest.raises(ValueError, match=r"maximum_size must be at least 5"):
        Vocabulary.build(TEXTS, maximum_size=4)
    with pytest.raises(ValueError, match=r"words must begin with"):
        Vocabulary.from_list(["a", "b"])
    with pytest.raises(ValueError, match=r"must not repeat; got 'a' twice"):
        Vocabulary.from_list([*SPECIALS, "a", "a"])


def test_strings_are_not_token_sequences() -> None:
    with pytest.raises(TypeError, match=r"tokens must be a sequence of words; got 'a film'"):
        Vocabulary.build(["a film"])
    with pytest.raises(TypeError, match=r"Tokenize it first"):
        Vocabulary.build(TEXTS).encode("a film")
