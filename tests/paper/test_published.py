from __future__ import annotations

import math
from collections import Counter

import pytest

from faithattn.paper.published import published, published_datasets, published_row

CORRELATIONS = ("gradient_correlation", "loo_correlation")


def test_quoted_figures() -> None:
    row = published_row("sst", "bilstm", "additive", "gradient_correlation", "0")
    assert row is not None
    assert (row.mean, row.std, row.significant) == (0.3432, 0.2114, 0.48)
    row = published_row("sst", "bilstm", "additive", "loo_correlation", "1")
    assert row is not None
    assert (round(row.mean, 2), round(row.std, 2)) == (0.32, 0.19)
    row = published_row("sst", "average", "additive", "gradient_correlation")
    assert row is not None
    assert (round(row.mean, 2), round(row.std, 2)) == (0.61, 0.20)
    assert "1902.10186" in row.source
    assert not row.approximate


def test_pairs_carry_the_corrected_labels() -> None:
    compared = 0
    for pair, table in zip(("attention_gradient", "attention_loo"), CORRELATIONS, strict=True):
        for figure in published():
            if figure.measure == pair:
                row = published_row(figure.dataset, figure.encoder, figure.attention, table)
                assert row is not None
                for name in ("mean", "std", "significant"):
                    left, right = getattr(figure, name), getattr(row, name)
                    assert left == right or (math.isnan(left) and math.isnan(right))
                compared += 1
    assert compared == 176
    sst = published_row("sst", "bilstm", "additive", "attention_gradient")
    assert sst is not None
    assert sst.mean == 0.3512


def test_overall_lies_between_its_classes() -> None:
    for figure in published():
        if figure.measure in CORRELATIONS and figure.group == "Overall":
            parts = [
                row.mean
                for row in published(figure.dataset)
                if (row.encoder, row.attention, row.measure)
                == (figure.encoder, figure.attention, figure.measure)
                and row.group != "Overall"
            ]
            if parts and not math.isnan(sum(parts)):
                assert min(parts) <= figure.mean <= max(parts)


def test_values_are_in_range_and_names_are_ours() -> None:
    for figure in published():
        assert figure.encoder in ("bilstm", "cnn", "average")
        assert figure.attention in ("additive", "scaled_dot")
        limit = math.log(2) if figure.measure == "adversarial_attention" else 1
        for value in (figure.mean, figure.median, figure.q25, figure.q75):
            assert math.isnan(value) or -1 <= value <= limit
        assert math.isnan(figure.significant) or 0 <= figure.significant <= 1
        assert figure.approximate == (
            figure.measure in ("permutation_test", "adversarial_attention")
        )


def test_figures_are_unique_and_complete() -> None:
    keys = Counter(
        (row.dataset, row.encoder, row.attention, row.measure, row.group) for row in published()
    )
    assert set(keys.values()) == {1}
    assert Counter(key[3] for key in keys) == {
        "gradient_correlation": 253,
        "loo_correlation": 223,
        "attention_gradient": 88,
        "attention_loo": 88,
        "gradient_loo": 88,
        "permutation_test": 421,
        "adversarial_attention": 180,
    }


def test_drawings() -> None:
    row = published_row("babi-1", "bilstm", "additive", "adversarial_attention")
    assert row is not None
    assert (row.mean, row.median) == (0.468, 0.534)
    assert math.isnan(row.std)
    row = published_row("babi_1", "bilstm", "additive", "permutation_test", "[.75,1]")
    assert row is not None
    assert (row.q25, row.median, row.q75) == (0.685, 0.899, 0.970)
    row = published_row("snli", "average", "scaled_dot", "permutation_test", "[0,.25) class 2")
    assert row is not None
    assert row.median == 0.099


def test_figures_that_do_not_exist_as_numbers_are_nan() -> None:
    row = published_row("imdb", "average", "scaled_dot", "gradient_correlation")
    assert row is not None
    assert math.isnan(row.mean)
    assert row.significant == 0.84


def test_names_of_data_sets() -> None:
    assert published("SST_dataset") == published("sst") != []
    assert {row.dataset for row in published("babi_2")} == {"babi-2"}
    assert published("sst2") == []
    assert published_row("my reviews", "bilstm", "additive", "loo_correlation") is None
    assert published_row("sst", "bilstm", "additive", "loo_correlation", "7") is None
    with pytest.raises(TypeError, match=r"dataset must be a string or None; got int"):
        published(3)  # type: ignore[arg-type]


def test_the_returned_list_is_the_callers() -> None:
    published().clear()
    assert published()


FIGURES = {  # by data set: of the average encoder, the BiLSTM and the CNN
    "20news-sports": (33, 32, 32),
    "agnews": (32, 32, 31),
    "anemia": (27, 30, 33),
    "babi-1": (17, 19, 20),
    "babi-2": (22, 18, 20),
    "babi-3": (15, 18, 17),
    "cnn": (14, 17, 20),
    "diab": (30, 32, 34),
    "hipsurgery": (28, 28, 28),
    "imdb": (28, 29, 28),
    "kneesurgery": (30, 30, 26),
    "mortality": (30, 20, 30),
    "phenotyping": (9, 9, 9),
    "readmission": (14, 19, 15),
    "snli": (45, 46, 52),
    "sst": (30, 31, 32),
    "tweet": (34, 32, 34),
}


def test_every_data_set_and_encoder_has_its_figures() -> None:
    counts = Counter((row.dataset, row.encoder) for row in published())
    for dataset, numbers in FIGURES.items():
        encoders = ("average", "bilstm", "cnn")
        assert tuple(counts.pop((dataset, encoder)) for encoder in encoders) == numbers
    assert not counts


def test_data_sets() -> None:
    listed = published_datasets()
    assert [each.name for each in listed] == sorted(FIGURES)
    for each in listed:
        assert each.figures == sum(FIGURES[each.name])
        assert each.encoders == ("average", "bilstm", "cnn")
        groups = {row.group for row in published(each.name) if row.measure in CORRELATIONS}
        if each.ordered:
            assert groups == {"Overall", "0", "1"} and len(each.classes) in (0, 2)
        elif each.classes:
            assert groups == {"Overall", *map(str, range(len(each.classes)))}
