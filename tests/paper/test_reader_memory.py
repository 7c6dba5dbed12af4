"""Readers hold neither the file nor its tokens in memory."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

from faithattn.paper.data.readers import read_texts
from faithattn.paper.data.store import StoredTokens

N_TEXTS, N_WORDS = 190, 4000


def test_long_documents_take_less_memory_than_their_file(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"documentedtwiceandlong{number:04}" for number in range(3000)]
    path = tmp_path / "notes.csv"
    with path.open("w", encoding="utf-8") as handle:
        handle.write("text,label\n")
        for number in range(N_TEXTS):
            rng.shuffle(words)
            text = words + words[:1000]
            handle.write(f"{' '.join(text)},{number % 2}\n")
    size = path.stat().st_size
    assert size > 20e6
    tracemalloc.start()
    try:
        data = read_texts(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 4 MB of it are the pointers to the words of the first texts.
    assert peak < 8e6, f"{peak / 1e6:.1f} MB for a file of {size / 1e6:.1f} MB"
    assert [len(example.tokens) for part in data.splits for example in part] == [N_WORDS] * N_TEXTS
    stored = [each for part in data.splits for each in part if type(each.tokens) is StoredTokens]
    assert len(stored) == 190 - 125
    assert tuple(text) in {example.tokens for example in stored}
