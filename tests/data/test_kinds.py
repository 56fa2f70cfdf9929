"""Columns' kinds: inferred by the stated rules, overridden by types."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentia.data import load_data
from latentia.data.kinds import infer_kind, parse_types
from latentia.data.raw import column

RNG = np.random.default_rng(0)
N = 100


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("height", RNG.normal(size=N), "number"),
        ("age", RNG.integers(17, 90, N), "number"),
        ("smoker", RNG.integers(0, 2, N), "binary"),
        ("sex", ["m", "f"] * 50, "binary"),
        ("passed", ["True", "False"] * 50, "binary"),
        ("code", [1, 2] * 50, "number"),
        ("children", RNG.poisson(2.0, N), "count"),
        ("rating", RNG.integers(1, 6, N), "number"),
        ("species", [0, 1, 2, 1] * 25, "number"),
        ("visits", RNG.poisson(2.0, N) * 10, "number"),
        ("city", list("abcde") * 20, "category"),
        ("with ? in it", ["a", "?", "b", "c"] * 25, "category"),
        ("id", RNG.permutation(1000)[:N], "ignored"),
        ("customer_id", RNG.permutation(5000)[:N], "ignored"),
        ("PassengerId", RNG.permutation(5000)[:N], "ignored"),
        ("number", RNG.permutation(N) + 1, "ignored"),
        ("paid", RNG.permutation(5000)[:N], "number"),
        ("valid", RNG.permutation(5000)[:N], "number"),
        ("name", [f"person {i}" for i in range(N)], "ignored"),
        ("remark", [f"a long remark, number {i % 80}, that says little" for i in range(N)], "ignored"),
        ("same", ["x"] * N, "ignored"),
        ("nothing", [np.nan] * N, "ignored"),
        ("constant", [3.5] * N, "number"),
    ],
)
def test_the_rules(name, cells, kind):
    assert infer_kind(column(name, cells))[0] == kind


def test_identifiers_and_free_text_are_named_with_the_reason():
    frame = pd.DataFrame(
        {
            "id": np.arange(N),
            "remark": [f"a long remark, number {i}, that says little" for i in range(N)],
            "ticket": [f"T{i}" for i in range(N)],
            "height": RNG.normal(size=N),
        }
    )
    data = load_data(frame)
    assert data.schema.fields["x"].names == ["height"]
    (note,) = [note for note in data.notes if note.startswith("Left out")]
    assert "id (an identifier" in note
    assert "remark (free text, 100 different values" in note
    assert "ticket (an identifier, 100 different values" in note


def test_types_override_in_both_spellings():
    frame = pd.DataFrame({"a": RNG.integers(0, 3, N), "id": np.arange(N), "b": RNG.normal(size=N)})
    expected = [("a", "category"), ("id", "number")]
    for types in ({"a": "category", "id": "number", "b": "ignored"}, " a=category, id = number,b=ignored"):
        columns = load_data(frame, types=types).schema.fields["x"].columns
        assert [(column.name, column.kind) for column in columns] == expected
    assert columns[0].levels == (0.0, 1.0, 2.0)


def test_types_string_keeps_equal_signs_in_names():
    assert parse_types("a=b=count") == {"a=b": "count"}


def test_a_table_of_zeros_and_ones_is_binary_with_its_constants():
    frame = pd.DataFrame({"a": [0, 1] * 10, "b": [0] * 20, "c": [1] * 20})
    assert load_data(frame).schema.likelihood == "bernoulli"
    frame["d"] = [0.5, 1.0] * 10
    kinds = [column.kind for column in load_data(frame).schema.fields["x"].columns]
    assert kinds == ["binary", "number", "number", "number"]


def test_a_grid_of_whole_numbers_is_all_numbers():
    from sklearn.datasets import load_digits

    frame = pd.DataFrame(load_digits().data, columns=[f"pixel{i}" for i in range(64)])
    data = load_data(frame)
    assert {column.kind for column in data.schema.fields["x"].columns} == {"number"}
    assert len(data.schema.fields["x"].columns) == 64


@pytest.mark.parametrize("hole", ["", "?", "NA", "nan", "NaN", "null", " ? ", " "])
def test_what_counts_as_missing_in_a_file(tmp_path, hole):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + f"1.5,u\n{hole},v\n2.5,{hole}\n3.25,w\n" * 5)
    data = load_data(path)
    rows = data.schema.rows(path)
    assert rows.tensors["x.observed"][:4].tolist() == [
        [True, True],
        [False, True],
        [True, False],
        [True, True],
    ]
    assert rows.batch()["x"][1, 0] == 0
    assert any(note.startswith("Missing: 10 cells (25 %) in a (5), b (5)") for note in data.notes)


def test_two_valued_text_has_sorted_levels():
    data = load_data(pd.DataFrame({"income": ["<=50K", ">50K"] * 10}))
    (income,) = data.schema.fields["x"].columns
    assert (income.kind, income.levels) == ("binary", ("<=50K", ">50K"))


def test_labels_are_taken_out_of_the_table():
    frame = pd.DataFrame({"a": RNG.normal(size=N), "kind": list("uvwx") * 25})
    data = load_data(frame, label="kind")
    assert data.schema.fields["x"].names == ["a"]
    assert data.schema.label.levels == ("u", "v", "w", "x")
    for rows in data.splits.values():
        assert rows.labels.tolist() == (rows.rows % 4).tolist()
    assert data.schema.rows(frame).labels.tolist() == [0, 1, 2, 3] * 25
    assert data.schema.rows(frame[["a"]]).labels is None
