from __future__ import annotations

import copy
import os
import pickle
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithattn.paper.data.examples import Example
from faithattn.paper.data.store import StoredTokens, TokenStore
from faithattn.paper.data.vocabulary import Vocabulary

TOKENS = st.lists(
    st.sampled_from(["a", "film", "é", "\U0001f600", "", "n't"]) | st.text(max_size=2), max_size=6
)
TEXTS = st.lists(TOKENS, min_size=1, max_size=3)


@settings(max_examples=40)
@given(TEXTS, st.integers(0, 12), st.data())
def test_stored_tokens_are_like_tuples(texts: list[list[str]], room: int, data) -> None:
    store = TokenStore(in_memory=room)
    stored = [store.add(iter(text)) for text in texts]
    for mine, text in zip(stored, texts, strict=True):
        oracle = tuple(text)
        assert mine == oracle and oracle == mine
        assert hash(mine) == hash(oracle)
        assert len(mine) == len(oracle) and bool(mine) == bool(oracle)
        assert list(mine) == text and list(reversed(mine)) == text[::-1]
        cut = data.draw(st.slices(len(text)))
        assert mine[cut] == oracle[cut] and type(mine[cut]) is tuple
        for place in range(-len(text), len(text)):
            assert mine[place] == oracle[place]
        for place in (len(text), -len(text) - 1):
            with pytest.raises(IndexError):
                mine[place]
        other = data.draw(TOKENS)
        assert (mine == tuple(other)) == (oracle == tuple(other))
        for token in {*other, *text}:
            assert (token in mine) == (token in oracle)
            assert mine.count(token) == oracle.count(token)
        assert pickle.loads(pickle.dumps(mine)) == oracle == copy.deepcopy(mine)
    assert len(set(stored)) == len(set(map(tuple, texts)))


def test_the_first_texts_are_tuples_and_all_later_ones_are_stored() -> None:
    store = TokenStore(in_memory=3)
    kept = [store.add(text.split()) for text in ("a b", "c d e", "f", "g h")]
    assert [type(each) for each in kept] == [tuple, *[StoredTokens] * 3]
    assert repr(kept[1]) == "StoredTokens('c', 'd', 'e')"
    assert kept[2] != ["f"] and kept[2] != "f"


def test_words_are_kept_once() -> None:
    store = TokenStore(in_memory=2)
    first, second = store.add(["".join(("fi", "lm"))]), store.add(["".join(("fi", "lm"))])
    stored = store.add(["".join(("fi", "lm"))])
    assert first[0] is second[0] is stored[0]


def test_reading_between_writing() -> None:
    store = TokenStore(in_memory=0)
    texts = [[f"word{number}"] * (number + 1) for number in range(20)]
    stored = []
    for text in texts:
        stored.append(store.add(text))
        assert [list(each) for each in stored] == texts[: len(stored)]


def test_examples_and_vocabularies_take_them() -> None:
    store = TokenStore(in_memory=0)
    example = Example(store.add(["a", "good", "film"]), 1)
    assert example == Example(("a", "good", "film"), 1)
    assert hash(example) == hash(Example(("a", "good", "film"), 1))
    vocabulary = Vocabulary.build([example.tokens])
    assert vocabulary == Vocabulary.build([["a", "good", "film"]])
    assert vocabulary.encode(example.tokens) == vocabulary.encode(("a", "good", "film"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_processes_read_at_once() -> None:
    texts = [tuple(f"word{text}-{place}" for place in range(2000)) for text in range(20)]
    store = TokenStore(in_memory=0)
    stored = [store.add(text) for text in texts]
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if all(stored[n] == texts[n] for n in 5 * [*range(20)]) else 1)
        children.append(pid)
    assert all(mine == text for mine, text in zip(stored, texts, strict=True))
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
    later = store.add(["later"])
    assert later == ("later",) and stored[0] == texts[0]


def test_the_file_goes_with_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = []
    make = tempfile.TemporaryFile

    def remember(*arguments: object, **options: object):
        files.append(make(*arguments, **options, dir=tmp_path))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remember)
    store = TokenStore(in_memory=1)
    small = store.add(["a"])
    assert not files and small == ("a",)
    stored = store.add(["b", "c"])
    # Nothing waits in a buffer, which forked processes would write again.
    assert os.fstat(files[0].fileno()).st_size == 8
    del store
    assert len(files) == 1 and not files[0].closed and stored == ("b", "c")
    del stored
    assert files[0].closed and not list(tmp_path.iterdir())


def test_a_full_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(
        OSError, match=r"temporary folder must hold .*; got No space left on device"
    ):
        TokenStore(in_memory=0).add(["a"])
