"""load_data: sources given in Python, splits, and what is taken from the training rows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from latentia.data import Array, Column, Image, load_data
from latentia.errors import DataError

RNG = np.random.default_rng(0)


def test_splits_are_disjoint_complete_and_by_seed():
    array = RNG.normal(size=(100, 3))
    data = load_data(array)
    assert [len(rows) for rows in data.splits.values()] == [80, 10, 10]
    together = torch.cat([rows.rows for rows in data.splits.values()])
    assert together.sort().values.tolist() == list(range(100))
    for rows in data.splits.values():
        np.testing.assert_array_equal(rows.tensors["x"].numpy(), array[rows.rows])
    assert torch.equal(load_data(array).test.rows, data.test.rows)
    assert not torch.equal(load_data(array, seed=1).test.rows, data.test.rows)


@pytest.mark.parametrize(
    ("number", "split", "sizes"),
    [
        (3, (0.8, 0.1, 0.1), [1, 1, 1]),
        (1, (1, 0, 0), [1, 0, 0]),
        (10, (0.5, 0.5, 0), [5, 5, 0]),
        (11, (1 / 3, 1 / 3, 1 / 3), [3, 4, 4]),
    ],
)
def test_sizes_of_splits(number, split, sizes):
    data = load_data(RNG.normal(size=(number, 2)), split=split)
    assert [len(rows) for rows in data.splits.values()] == sizes


def test_two_rows_are_too_few_for_three_splits():
    with pytest.raises(DataError, match="2 rows cannot be split into train, valid, test"):
        load_data(RNG.normal(size=(2, 2)))


def test_given_splits_are_kept_whole_and_in_order(tmp_path):
    frames = {
        n: pd.DataFrame({"a": RNG.normal(size=k), "b": list("uvw") * (k // 3)})
        for n, k in (("s", 30), ("t", 9))
    }
    for name, frame in frames.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    data = load_data(tmp_path / "s.csv", test=tmp_path / "t.csv", standardise=False)
    assert [len(rows) for rows in data.splits.values()] == [27, 3, 9]
    np.testing.assert_allclose(data.schema.table(data.test.batch()["x"])["a"], frames["t"]["a"], rtol=1e-6)
    both = load_data(frames["s"], valid=frames["t"], test=frames["t"])
    assert [len(rows) for rows in both.splits.values()] == [30, 9, 9]


def test_statistics_come_from_the_training_rows_alone():
    table = pd.DataFrame({"a": RNG.normal(5, 3, 100)})
    data = load_data(table, standardise=True)
    train = table["a"].to_numpy()[data.train.rows]
    (column,) = data.schema.fields["x"].columns
    assert (column.shift, column.scale) == pytest.approx((train.mean(), train.std()), rel=1e-12)
    far = load_data(table, standardise=True, test=table * 1e6)
    assert far.schema.fields["x"].columns[0].scale < 10


def test_a_large_mean_does_not_swamp_the_scale():
    table = pd.DataFrame({"a": 1e9 + RNG.normal(size=500), "b": 1e300 * RNG.normal(size=500)})
    data = load_data(table, standardise=True)
    value = data.train.batch()["x"].double()
    torch.testing.assert_close(
        value.std(0, correction=0), torch.ones(2, dtype=torch.float64), rtol=1e-5, atol=0
    )


def test_a_constant_column_is_left_unscaled_with_a_word():
    data = load_data(pd.DataFrame({"a": RNG.normal(size=30), "c": [0.1] * 30}), standardise=True)
    assert data.schema.fields["x"].columns[1] == Column("c", shift=0.1, scale=1.0)
    assert "Constant in the training rows, left unscaled: c." in data.notes
    assert data.schema.table(data.test.batch()["x"])["c"].tolist() == [0.1] * 3


def test_arrays_given_in_python_are_not_preprocessed():
    array = RNG.normal(100, 5, (20, 3))
    for given in (array, torch.from_numpy(array), array.tolist()):
        data = load_data(given)
        assert data.schema.fields["x"] == Array((3,), dtype="float64")
        np.testing.assert_array_equal(data.train.batch()["x"].numpy(), array[data.train.rows])
    assert load_data(torch.from_numpy(array).bfloat16()).train.batch()["x"].dtype == torch.float32
    pixels = RNG.integers(0, 256, (20, 1, 4, 4), dtype=np.uint8)
    data = load_data(pixels)
    assert data.schema.fields["x"] == Array((1, 4, 4))
    assert data.train.batch()["x"].max() > 1


def test_a_frame_given_in_python_is_not_scaled():
    frame = pd.DataFrame({"a": RNG.normal(100, 5, 20)})
    data = load_data(frame)
    assert data.schema.fields["x"].columns == (Column("a"),)


def test_frames_of_other_makers_and_odd_columns():
    import pyarrow

    columns = {"a": [1.5, 2.5, None] * 10, "b": ["u", None, "w"] * 10}
    expected = load_data(pd.DataFrame(columns)).schema
    assert load_data(pyarrow.table(columns)).schema == expected
    numbered = load_data(pd.DataFrame(RNG.normal(size=(20, 2))))
    assert numbered.schema.fields["x"].names == ["0", "1"]
    twice = pd.DataFrame(RNG.normal(size=(20, 2)), columns=["a", "a"])
    with pytest.raises(DataError, match="several columns of one name"):
        load_data(twice)
    dates = pd.date_range("2020-01-01", periods=40)
    mixed = pd.DataFrame({"a": [1, "?", 2.5, None] * 10, "b": dates, "c": RNG.normal(size=40)})
    table = load_data(mixed).schema.fields["x"]
    found = [(column.name, column.kind, column.missing) for column in table.columns]
    assert found == [("a", "number", True), ("c", "number", False)]
    assert load_data(pd.Series(RNG.normal(size=20), name="s")).schema.fields["x"].names == ["s"]


def test_whole_numbers_too_large_for_float32_are_exact():
    array = RNG.integers(2**24, 2**40, (20, 2))
    data = load_data(array)
    np.testing.assert_array_equal(data.train.batch()["x"].numpy(), array[data.train.rows])


@pytest.mark.parametrize(
    "array", [RNG.integers(0, 2, (30, 4)), RNG.random((30, 4)) > 0.5, RNG.random((30, 4)).round()]
)
def test_zeros_and_ones_are_binary(array):
    data = load_data(array)
    assert data.schema.likelihood == "bernoulli"
    assert data.train.tensors["x"].dtype == torch.uint8
    with pytest.raises(DataError, match="neither 0 nor 1"):
        data.schema.rows(np.full((1, 4), 0.5))


def test_arrays_are_standardised_and_binarised_when_asked():
    scaled = load_data(RNG.normal(100, 5, (50, 3)), standardise=True)
    assert scaled.train.batch()["x"].mean().abs() < 1e-5
    flat = load_data(RNG.random((50, 3)), binarise="dynamic")
    assert flat.schema.fields["x"] == Image((3,), levels=1.0, binarise="dynamic")
    assert set(flat.train.batch()["x"].unique().tolist()) == {0.0, 1.0}
    bytes_ = load_data(RNG.integers(0, 256, (50, 4, 4), dtype=np.uint8), binarise="threshold")
    assert bytes_.event_shape == (1, 4, 4)


def test_a_vector_is_one_column():
    data = load_data(RNG.normal(size=20))
    assert data.event_shape == (1,)
    assert any("[N, 1]" in note for note in data.notes)
    assert data.schema.rows(np.zeros(5)).batch()["x"].shape == (5, 1)


def test_a_dict_of_variables():
    x, y = RNG.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
    data = load_data({"x": x, "y": y})
    assert data.schema.fields == {"x": Array((4,)), "y": Array((), "category", classes=3)}
    batch = data.train.batch(slice(0, 7))
    np.testing.assert_array_equal(batch["y"].numpy(), y[data.train.rows[:7]])
    labelled = load_data({"x": x, "y": y}, label="y")
    assert list(labelled.train.batch()) == ["x"]
    np.testing.assert_array_equal(labelled.train.labels.numpy(), y[labelled.train.rows])
    with pytest.raises(DataError, match="holds text; give codes"):
        load_data({"x": x, "y": np.array(["u"] * 30)})
    assert load_data({"x": x, "y": np.array(["u", "v", "w"] * 10)}, label="y").schema.label.levels == (
        "u",
        "v",
        "w",
    )
    with pytest.raises(DataError, match="no variable 'yy'; did you mean 'y'"):
        load_data({"x": x, "y": y}, types={"yy": "category"})


def test_partly_missing_codes_carry_a_mask():
    y = np.where(np.arange(30) % 2 == 0, np.nan, np.arange(30) % 3)
    data = load_data({"x": RNG.normal(size=(30, 4)), "y": y}, types={"y": "category"})
    batch = data.train.batch()
    assert torch.equal(batch["y.observed"], data.train.rows % 2 == 1)
    assert batch["y"][~batch["y.observed"]].eq(0).all()
    assert "x.observed" not in batch


def test_rows_with_nothing_observed_are_left_out_and_keep_the_others_places():
    array = RNG.normal(size=(40, 3))
    array[[3, 17]] = np.nan
    data = load_data(array)
    together = torch.cat([rows.rows for rows in data.splits.values()]).sort().values
    assert together.tolist() == [i for i in range(40) if i not in (3, 17)]
    assert not data.schema.fields["x"].missing
    np.testing.assert_array_equal(data.valid.tensors["x"].numpy(), array[data.valid.rows])
    assert any("2 rows with nothing observed" in note for note in data.notes)


def test_real_labels_stay_real():
    frame = pd.DataFrame({"a": RNG.normal(size=20), "t": RNG.normal(size=20)})
    data = load_data(frame, label="t")
    assert data.schema.label.real
    np.testing.assert_allclose(data.train.labels.numpy(), frame["t"].to_numpy()[data.train.rows], rtol=1e-6)


def test_a_users_array_is_neither_changed_nor_shared():
    array = RNG.normal(size=(30, 3))
    array[0, 0] = np.nan
    before = array.copy()
    data = load_data(array)
    np.testing.assert_array_equal(array, before)
    for rows in load_data(array, test=array).splits.values():
        rows.tensors["x"].zero_()
    data.train.tensors["x"].zero_()
    np.testing.assert_array_equal(array, before)


def test_importing_data_imports_nothing_heavy():
    heavy = ["sklearn", "pandas", "matplotlib", "pyarrow", "PIL", "narwhals", "scipy"]
    code = f"import sys, latentia.data; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
