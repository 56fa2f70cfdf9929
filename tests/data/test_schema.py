"""A schema reads new rows in the data's units, gives values back in them, and knows the Jacobian between."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latentia.data import Array, Column, Image, LabelField, Schema, Table, load_data
from latentia.errors import DataError

RNG = np.random.default_rng(0)
N = 60


def mixed() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "height": RNG.normal(170, 10, N),
            "smoker": RNG.integers(0, 2, N),
            "city": list("abc") * 20,
            "children": np.tile([0, 1, 2, 3, 4, 0], 10),
            "weight": np.where(np.arange(N) % 7 == 0, np.nan, RNG.normal(70, 5, N)),
        }
    )


EVERY_SCHEMA = {
    "digits": lambda: load_data("digits").schema,
    "threshold": lambda: load_data("digits", binarise="threshold").schema,
    "dynamic": lambda: load_data("digits", binarise="dynamic").schema,
    "iris": lambda: load_data("iris").schema,
    "mixed": lambda: load_data(mixed(), standardise=True, label="city").schema,
    "binary array": lambda: load_data(RNG.integers(0, 2, (30, 4))).schema,
    "dict": lambda: load_data({"x": RNG.normal(size=(30, 4)), "y": np.arange(30) % 3}).schema,
    "codes": lambda: load_data(mixed(), types={"children": "category"}).schema,
}


@pytest.mark.parametrize("name", EVERY_SCHEMA)
def test_a_schema_goes_through_json_unchanged(name):
    schema = EVERY_SCHEMA[name]()
    again = Schema.from_dict(json.loads(json.dumps(schema.to_dict())))
    assert again == schema
    assert again.comparable == schema.comparable


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"fields": {}, "label": None},
        {"fields": {"x": {"type": "pickle"}}, "label": None},
        {"fields": {"x": {"type": "array", "event": [-1]}}, "label": None},
        {"fields": {"x": {"type": "table", "columns": [], "left_out": []}}, "label": None},
        {"fields": {"x": 3}, "label": None},
    ],
)
def test_what_is_no_schema_is_refused(config):
    with pytest.raises(ValueError, match=r"\w"):
        Schema.from_dict(config)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Column("a", "nmber"),
        lambda: Column("a", scale=0.0),
        lambda: Column("a", "category"),
        lambda: Column("a", "count", levels=("u",)),
        lambda: Image((28, 28)),
        lambda: Image((1, 4, 4), levels=0),
        lambda: Image((1, 4, 4), binarise="static"),
        lambda: Array((3,), "category"),
        lambda: Array((0,)),
        lambda: Array((3,), dtype="int8"),
        lambda: Table((Column("a"), Column("a"))),
        lambda: Schema({"row": Array((3,))}),
        lambda: Schema({"x.observed": Array((3,))}),
    ],
)
def test_fields_check_their_arguments(make):
    with pytest.raises(ValueError, match=r"\w"):
        make()


def test_a_mixed_table_comes_back_in_its_own_columns_order_and_units():
    frame = mixed()
    schema = load_data(frame, standardise=True).schema
    rows = schema.rows(frame)
    back = schema.table(rows.batch()["x"], rows.tensors["x.observed"])
    assert list(back) == list(frame)
    np.testing.assert_allclose(back["height"], frame["height"], rtol=1e-6)
    np.testing.assert_allclose(back["weight"], frame["weight"], rtol=1e-6)
    for name in ("smoker", "city", "children"):
        assert back[name].tolist() == frame[name].tolist()


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float64, (12, 2), elements=st.floats(-1e6, 1e6, allow_subnormal=False)),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
)
def test_decode_undoes_encode_to_float_precision(array, shift, scale):
    schema = Schema({"x": Table((Column("a", shift=shift, scale=scale), Column("b")))})
    value = schema.rows(array).batch()["x"]
    back = schema.decode("x", value.double()).numpy()
    tolerance = 2.0**-23 * np.maximum(np.abs(array), np.abs(array - [shift, 0.0]))
    assert (np.abs(back - array) <= tolerance + 1e-9).all()


@pytest.mark.parametrize("name", ["digits", "iris", "mixed", "binary array"])
def test_log_jacobian_matches_autograd_through_decode(name):
    """log|d model / d data| = -log|det d decode / d model|, over what has a density."""
    schema = EVERY_SCHEMA[name]()
    field = schema.fields["x"]
    value = torch.rand(3, *field.event, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: schema.decode("x", v), value[:1]).reshape(
        math.prod(field.event), -1
    )
    expected = -torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(schema.log_jacobian({"x": value}), expected.expand(3))


def test_log_jacobian_counts_observed_cells_only():
    schema = Schema({"x": Table((Column("a", scale=2.0, missing=True), Column("b", scale=3.0)))})
    observed = torch.tensor([[True, True], [True, False], [False, False]])
    found = schema.log_jacobian({"x": torch.zeros(3, 2), "x.observed": observed})
    torch.testing.assert_close(found, torch.tensor([-math.log(6), -math.log(2), 0.0], dtype=torch.float64))
    whole_rows = schema.log_jacobian(
        {"x": torch.zeros(3, 2), "x.observed": torch.tensor([True, False, True])}
    )
    torch.testing.assert_close(
        whole_rows, torch.tensor([-math.log(6), 0.0, -math.log(6)], dtype=torch.float64)
    )


def test_log_jacobian_is_zero_where_there_is_no_density():
    columns = (Column("b", "binary"), Column("c", "count"), Column("k", "category", levels=("u", "v")))
    assert not Schema({"x": Table(columns)}).log_jacobian({"x": torch.zeros(2, 3)}).any()
    for image in (Image((1, 2, 2), binarise="dynamic"), Image((1, 2, 2), kind="binary")):
        assert not Schema({"x": image}).log_jacobian({"x": torch.zeros(2, 1, 2, 2)}).any()
    with pytest.raises(ValueError, match="none of z is a variable"):
        Schema({"x": Array((2,))}).log_jacobian({"z": torch.zeros(2, 2)})


def test_a_density_in_the_datas_units_integrates_to_one():
    """A standard normal of the standardised column, with the Jacobian, is a density of the column itself."""
    schema = Schema({"x": Table((Column("a", shift=5.0, scale=3.0),))})
    grid = np.linspace(-25, 35, 4001)[:, None]
    values = schema.rows(grid).batch()
    log_density = torch.distributions.Normal(0.0, 1.0).log_prob(values["x"]).sum(1) + schema.log_jacobian(
        values
    )
    assert torch.trapezoid(log_density.exp(), torch.from_numpy(grid[:, 0])) == pytest.approx(1, abs=1e-5)


def test_columns_are_matched_by_name_in_any_order():
    frame = mixed()
    schema = load_data(frame).schema
    shuffled = frame[["city", "weight", "smoker", "children", "height"]].assign(extra=1)
    assert torch.equal(schema.rows(shuffled).batch()["x"], schema.rows(frame).batch()["x"])
    assert torch.equal(schema.rows(frame.to_dict("list")).batch()["x"], schema.rows(frame).batch()["x"])
    with pytest.raises(DataError, match="lacks column 'height'; did you mean 'higth'"):
        schema.rows(frame.rename(columns={"height": "higth"}))


def test_an_unseen_level_names_column_row_and_level():
    frame = mixed()
    schema = load_data(frame).schema
    with pytest.raises(
        DataError, match=r"column 'city', row 4 .*'z' is none of the column's levels \(a, b, c\)"
    ):
        schema.rows(frame.assign(city=["a", "b", "c", "a", "z"] * 12))
    coded = load_data(frame, types={"children": "category"}).schema
    with pytest.raises(DataError, match=r"column 'children', row 0 .*: 9 is none of"):
        coded.rows(frame.assign(children=9))


def test_a_hole_is_refused_where_the_fitted_data_had_none():
    iris = load_data("iris").schema
    x = np.ones((3, 4))
    x[1, 2] = np.nan
    with pytest.raises(DataError, match=r"column 'petal length \(cm\)', row 1 .*missing"):
        iris.rows(x)
    with pytest.raises(DataError, match=r"row 1, column 2 of the array .*missing"):
        load_data(RNG.normal(size=(20, 4))).schema.rows(x)


def test_the_mask_depends_on_the_schema_never_on_the_batch():
    schema = load_data(mixed()).schema
    full = mixed().fillna(1.0)
    assert schema.rows(full).tensors["x.observed"].all()
    array = RNG.normal(size=(30, 3))
    array[4, 1] = np.nan
    data = load_data(array)
    for rows in data.splits.values():
        assert rows.batch()["x.observed"].shape == rows.batch()["x"].shape
    at = data.schema.rows(array).batch()
    assert (at["x.observed"].logical_not().nonzero().tolist(), at["x"][4, 1].item()) == ([[4, 1]], 0.0)


@pytest.mark.parametrize("name", ["digits", "iris"])
def test_a_wrong_shape_says_what_was_expected(name):
    schema = EVERY_SCHEMA[name]()
    size = math.prod(schema.event_shape)
    with pytest.raises(DataError, match=f"expected {size} columns.*, got {size - 1}"):
        schema.rows(np.zeros((5, size - 1)))
    with pytest.raises(DataError, match=r"single row, .*; add a first dimension: x\[None\]"):
        schema.rows(np.zeros(size))
    with pytest.raises(DataError, match="expected"):
        schema.rows(np.zeros((2, 3, 4, 5)))


def test_images_are_taken_in_every_usual_shape():
    schema = Schema({"x": Image((3, 4, 5))})
    image = torch.from_numpy(RNG.integers(0, 256, (6, 3, 4, 5), dtype=np.uint8))
    for given_as in (
        image,
        image.permute(0, 2, 3, 1),
        image.flatten(1),
        image.numpy(),
        image.float().requires_grad_(),
    ):
        assert torch.equal(schema.rows(given_as).tensors["x"], image)
    grey = Schema({"x": Image((1, 4, 5))})
    assert torch.equal(grey.rows(image[:, 0]).tensors["x"], image[:, :1])
    frame = pd.DataFrame(image[:, 0].flatten(1).numpy())
    assert torch.equal(grey.rows(frame).tensors["x"], image[:, :1])


def test_intensities_outside_the_image_range_are_refused():
    digits = EVERY_SCHEMA["digits"]()
    with pytest.raises(
        DataError, match=r"row 1, place \(0, 2, 3\) .*: 17\.0 is outside the image's range 0\.\.16"
    ):
        x = np.zeros((2, 8, 8))
        x[1, 2, 3] = 17
        digits.rows(x)
    binary = Schema({"x": Image((1, 2, 2), kind="binary")})
    with pytest.raises(DataError, match="neither 0 nor 255"):
        binary.rows(np.full((1, 2, 2), 7))


@pytest.mark.parametrize("binarise", ["threshold", "dynamic"])
def test_what_a_binarised_schema_decodes_it_reads_again(binarise):
    data = load_data("digits", binarise=binarise)
    value = data.test.batch()["x"]
    assert set(value.unique().tolist()) == {0.0, 1.0}
    again = data.schema.rows(data.schema.decode("x", value))
    assert torch.equal(again.batch()["x"], value)


def test_numbers_keep_the_dtype_they_were_fitted_in():
    for dtype in (np.float32, np.float64):
        schema = load_data(RNG.normal(size=(20, 3)).astype(dtype)).schema
        for given_as in (np.float32, np.float64, np.int64):
            found = schema.rows(np.ones((2, 3), dtype=given_as)).batch()["x"]
            assert found.dtype == (torch.float32 if dtype == np.float32 else torch.float64)


def test_some_variables_of_several_may_be_given():
    data = load_data({"x": RNG.normal(size=(30, 4)), "y": np.arange(30) % 3})
    values = data.schema.rows({"x": np.zeros((2, 4))}).batch()
    assert list(values) == ["x"]
    codes = data.schema.rows({"y": [2, 0]}).batch()["y"]
    assert (codes.dtype, codes.tolist()) == (torch.int64, [2, 0])
    with pytest.raises(DataError, match=r"there is no variable 'yy'.*did you mean 'y'"):
        data.schema.rows({"yy": [0, 1]})
    with pytest.raises(DataError, match="3 is not one of the codes 0 to 2"):
        data.schema.rows({"y": [0, 3]})
    with pytest.raises(DataError, match="different numbers of rows"):
        data.schema.rows({"x": np.zeros((2, 4)), "y": [0]})


def test_columns_left_out_of_an_array_may_be_given_again(tmp_path):
    array = RNG.normal(size=(30, 4))
    array[:, 1] = np.nan
    np.save(tmp_path / "a.npy", array)
    schema = load_data(tmp_path / "a.npy", types="x1=ignored").schema
    assert schema.event_shape == (3,)
    kept = schema.rows(array[:, [0, 2, 3]]).batch()["x"]
    assert torch.equal(schema.rows(array).batch()["x"], kept)
    assert torch.equal(schema.rows(tmp_path / "a.npy").batch()["x"], kept)
    with pytest.raises(DataError, match="expected 3 columns"):
        schema.rows(RNG.normal(size=(30, 5)))


def test_rows_of_another_schema_are_refused():
    one, other = load_data("iris", seed=0), load_data("iris", seed=1)
    assert one.schema.rows(one.test) is one.test
    assert load_data("iris").schema.rows(one.test) is one.test
    with pytest.raises(DataError, match="another schema"):
        other.schema.rows(one.test)


def test_fingerprints_tell_what_densities_may_be_compared():
    names = [load_data("digits", binarise=how).schema.comparable for how in (None, "threshold", "dynamic")]
    assert len(set(names)) == 3
    assert (
        load_data("iris", seed=1).schema.comparable == load_data("iris", standardise=False).schema.comparable
    )
    frame = mixed()
    assert (
        load_data(frame).schema.comparable != load_data(frame, types={"smoker": "number"}).schema.comparable
    )


def test_likelihood_and_units_fit_the_data():
    found = {name: (make().likelihood, make().units) for name, make in EVERY_SCHEMA.items()}
    assert found == {
        "digits": ("normal", "pixels 0..16"),
        "threshold": ("bernoulli", "binarised pixels"),
        "dynamic": ("bernoulli", "binarised pixels"),
        "iris": ("normal", "the columns' own units"),
        "mixed": ("columns", "the columns' own units"),
        "binary array": ("bernoulli", "the array's own units"),
        "dict": ("normal", "the array's own units"),
        "codes": ("columns", "the columns' own units"),
    }


def test_a_table_of_an_array_has_numbered_columns():
    schema = Schema({"x": Array((3,))})
    back = schema.table(torch.arange(6.0).reshape(2, 3))
    assert {name: cells.tolist() for name, cells in back.items()} == {
        "x0": [0, 3],
        "x1": [1, 4],
        "x2": [2, 5],
    }
    holes = schema.table(torch.zeros(1, 3), torch.tensor([[True, False, True]]))
    assert np.isnan(holes["x1"]).all()
    several = Schema({"x": Array((2,)), "y": Array((), "category", classes=3)})
    found = several.table({"x": torch.ones(2, 2), "y": torch.tensor([2, 0])})
    assert {name: cells.tolist() for name, cells in found.items()} == {
        "x0": [1, 1],
        "x1": [1, 1],
        "y": [2, 0],
    }


def test_labels_that_are_new_or_missing():
    label = LabelField("k", ("u", "v"))
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "k": ["v", None, "w"]})
    schema = Schema({"x": Table((Column("a"),))}, label)
    assert schema.rows(frame).labels.tolist() == [1, -1, -1]
