from __future__ import annotations

from pathlib import Path

import pytest
import torch

from faithattn.paper.data.vectors import load_vectors
from faithattn.paper.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary.build([["film", "good", "new york", "odd", "zany"]])  # ids 4 to 8
ROWS = "film 1 -2 3\nbad 9 9 9\ngood 0.5 1e-1 0\nfilm 7 7 7\nnew york 4 5 6\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "vectors.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("header", ["", "5 3\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_reads_vectors(tmp_path: Path, header: str, end: str) -> None:
    matrix, coverage = load_vectors(write(tmp_path, (header + ROWS).replace("\n", end)), VOCABULARY)
    assert matrix.shape == (9, 3)
    assert matrix.dtype == torch.float32
    expected = torch.tensor([[1, -2, 3], [0.5, 0.1, 0], [4, 5, 6]])
    assert torch.equal(matrix[4:7], expected)
    assert torch.equal(matrix[0], torch.zeros(3))
    assert coverage == pytest.approx(3 / 5)


def test_tabs_separate_too(tmp_path: Path) -> None:
    matrix, _ = load_vectors(write(tmp_path, ROWS.replace(" ", "\t")), VOCABULARY)
    assert matrix[4].tolist() == [1, -2, 3]


def test_other_words_are_drawn_with_the_spread_of_those_found(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(2000)]
    vocabulary = Vocabulary.build([["film", *words]])
    path = write(tmp_path, "film 3 -3 3 -3 3 -3 3 -3\n")
    matrix, coverage = load_vectors(path, vocabulary)
    drawn = torch.cat([matrix[1:4], matrix[5:]])
    assert coverage == pytest.approx(1 / 2001)
    # 16,000 draws: the standard error of the deviation is .017, of the mean .024.
    assert float(drawn.std()) == pytest.approx(3, abs=0.1)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.15)


def test_seed_decides_the_draws_alone(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    state = torch.get_rng_state()
    first = load_vectors(path, VOCABULARY, seed=1).matrix
    assert torch.equal(first, load_vectors(path, VOCABULARY, seed=1).matrix)
    assert not torch.equal(first, load_vectors(path, VOCABULARY, seed=2).matrix)
    assert torch.equal(torch.get_rng_state(), state)


def test_scale(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    plain = load_vectors(path, VOCABULARY).matrix
    scaled = load_vectors(path, VOCABULARY, scale=0.3).matrix
    found = scaled[4:7].double()
    assert float(found.std(correction=0)) == pytest.approx(0.3, rel=1e-6)
    torch.testing.assert_close(scaled, plain * (scaled[4, 0] / plain[4, 0]))


def test_special_tokens_are_not_taken_from_the_file(tmp_path: Path) -> None:
    special = "<unk> 9 9 9\n</s> 9 9 9\n<pad> 9 9 9\n"
    matrix, coverage = load_vectors(write(tmp_path, special + ROWS), VOCABULARY)
    assert not (matrix[:4] == 9).any()
    assert coverage == pytest.approx(3 / 5)


def test_garbled_words_of_no_interest_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"\xff\xfe 1 2 3\n\xc2\xa0 1 2 3\n\xc2\x85 1 2 3\nfilm 1 -2 3\n")
    assert load_vectors(path, VOCABULARY).matrix[4].tolist() == [1, -2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("film 1 2 3\ngood 1 2\n", r"a word and 3 numbers in each row; got 3 fields at line 2"),
        ("2 3\nfilm 1 2 3\ngood 1 2\n", r"3 numbers in each row; got 3 fields at line 3"),
        ("film 1 2 3\n\ngood 1 2 3\n", r"got 0 fields at line 2"),
        ("film 1 2 3\ngood 1 x 3\n", r"finite numbers; got 'x' at line 2"),
        ("film 1 2 3\ngood 1 nan 3\n", r"finite numbers; got 'nan' at line 2"),
        ("film good odd\n", r"a word and its numbers in each row; got 3 fields at line 1"),
        ("9 3\nfilm 1 2 3\n", r"the 9 rows its header announces; got 1"),
        ("bad 1 2 3\n", r"must hold a vector for some word of the vocabulary; got none"),
        ("", r"must hold a vector for some word"),
        ("film 1 2\ngood " + "1" * 2**20 + " 2\n", r"lines below 1048576 bytes; .* at line 2"),
    ],
)
def test_malformed_files_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_vectors(write(tmp_path, text), VOCABULARY)


def test_missing_file_and_bad_scale(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path must name an existing file; got"):
        load_vectors(tmp_path / "none.txt", VOCABULARY)
    path = write(tmp_path, ROWS)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"scale must be positive and finite"):
            load_vectors(path, VOCABULARY, scale=scale)
    with pytest.raises(ValueError, match=r"scale must be None where all entries are equal"):
        load_vectors(write(tmp_path, "film 0 0\n"), VOCABULARY, scale=0.3)
