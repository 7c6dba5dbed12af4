from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from made_parts import COLUMNS, MANIFEST

from faithattn import errors
from faithattn.audits.store import Manifest


def test_json_gives_it_back() -> None:
    manifest = replace(MANIFEST, settings={"views": {"": ("a", 1.5, None)}, "metrics": {}})
    again = Manifest.from_dict(json.loads(json.dumps(manifest.to_dict())))
    assert again == manifest and again.difference(manifest) == []


def test_what_changed_is_said_plainly() -> None:
    old = Manifest(
        1,
        {"seed": 0, "metrics": {"permutation_test": {"n_permutations": 100}}, "view": "a" * 50},
        {"digest": "0" * 64},
        {"torch": "2.6", "scipy": "1.15"},
        COLUMNS,
    )
    new = Manifest(
        1,
        {"seed": True, "metrics": {"permutation_test": {"n_permutations": 500, "pairs": [1]}}},
        {"digest": "0" * 60 + "1111"},
        {"torch": "2.7", "scipy": "1.15"},
        COLUMNS[:1],
    )
    assert old.difference(new) == [
        "metrics.permutation_test.n_permutations was 100 and is 500",
        "metrics.permutation_test.pairs was not given and is [1]",
        "seed was 0 and is true",
        'view was "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa… and is not given',
        'the model\'s digest was …00000000000000" and is …00000000001111"',
        'the version of torch was "2.6" and is "2.7"',
    ]


def test_columns_are_named_where_nothing_else_changed() -> None:
    fewer = replace(MANIFEST, columns=COLUMNS[1:])
    assert MANIFEST.difference(fewer) == [
        'the type of column instance was "int64" and is not given'
    ]
    turned = replace(MANIFEST, columns=COLUMNS[::-1])
    assert MANIFEST.difference(turned) == ["the order of the columns changed"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"a": object()}}, "settings must be values that JSON holds"),
        ({"model": {"a": float("nan")}}, "model must be values that JSON holds"),
        ({"columns": [("a", "float32")]}, "must be of type float64, int64, bool; got float32"),
        ({"columns": [("a", "bool"), ("a", "bool")]}, "each with a name of its own"),
        ({"columns": []}, "columns must be at least one"),
    ],
)
def test_values_that_are_none_of_a_manifest(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(MANIFEST, **change)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "must be one of an audit"),
        ({"name": "a web page"}, "must be one of an audit"),
        (MANIFEST.to_dict() | {"schema": 2}, r"must have schema 1; got 2"),
        ({"format": "faithattn audit", "schema": 1}, "must be whole; got one without 'settings'"),
    ],
)
def test_files_that_are_none(values: Any, message: str) -> None:
    with pytest.raises(errors.AuditError, match=message):
        Manifest.from_dict(values)
