"""Bad data is refused with a sentence that says where and why, as a DataError (exit code 3)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentia.data import load_data
from latentia.errors import DataError, UsageError

GOOD = "".join(f"{i}.5,{i * i}.25\n" for i in range(12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "a header and no rows"),
        ("a,b\n1,2.5\n", "a single row"),
        (f"a,b\n{GOOD}1,2,3\n", r"row 14 .* has 3 cells, where 2 columns were expected"),
        (f"a,b\n{GOOD}1\n", r"row 14 .* has 1 cell, where 2 columns"),
        (f"a,a\n{GOOD}", "more than one column called 'a'"),
        (f"a,b\n{GOOD}1.5,inf\n", r"column 'b', row 14 of bad\.csv .*: 'inf' is not finite"),
        (f"a,b\n{GOOD}\n-Infinity,3\n", r"column 'a', row 15 of bad\.csv"),
        ("a,b\n" + ",\n" * 9, "is left to model"),
        ("a\n" + "x\n" * 9, r"no column .* is left to model \(a: 'x' in every row\)"),
    ],
)
def test_bad_csv(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_data(path)
    assert caught.value.exit_code == 3


def test_text_where_numbers_were_promised(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(f"age,b\n{GOOD}old,3\n")
    with pytest.raises(DataError, match=r"column 'age', row 14 of bad\.csv .*: 'old' is not a number"):
        load_data(path, types="age=number")


def test_one_stray_word_among_numbers_is_told(tmp_path):
    path = tmp_path / "stray.csv"
    path.write_text("a,b\n" + "".join(f"{i}.5,{i}.25\n" for i in range(40)) + "oops,2\n")
    notes = load_data(path).notes
    assert any("a (1 cell of 41 no number, the first 'oops')" in note for note in notes)


def test_unknown_column_and_kind_have_hints(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"age,b\n{GOOD}")
    with pytest.raises(DataError, match=r"no column 'agee'; did you mean 'age'"):
        load_data(path, types={"agee": "number"})
    with pytest.raises(UsageError, match="did you mean 'number'"):
        load_data(path, types="age=numbr")
    with pytest.raises(UsageError, match="column=kind"):
        load_data(path, types="age")
    with pytest.raises(DataError, match=r"no column 'aeg' .*did you mean 'age'"):
        load_data(path, label="aeg")


@pytest.mark.parametrize(
    ("kind", "message"),
    [("binary", "was said to be binary and has 12 values"), ("count", r"row 2 .* is no count")],
)
def test_cells_must_fit_the_promised_kind(tmp_path, kind, message):
    path = tmp_path / "t.csv"
    path.write_text(f"age,b\n{GOOD}")
    with pytest.raises(DataError, match=message):
        load_data(path, types={"age": kind})


def test_files_that_are_not_there_or_not_what_they_say(tmp_path):
    with pytest.raises(DataError, match=r"no file or folder .*absent\.csv"):
        load_data(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="did you mean 'digits'"):
        load_data("digts")
    (tmp_path / "a.xyz").write_text("1")
    with pytest.raises(DataError, match="cannot tell how to read"):
        load_data(tmp_path / "a.xyz")
    for name in ("a.npy", "a.npz", "a.parquet"):
        (tmp_path / name).write_bytes(b"not what it says, at all")
        with pytest.raises(DataError, match=r"cannot be read|not a Parquet|pickled"):
            load_data(tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(DataError, match="is empty"):
            load_data(tmp_path / name)
    (tmp_path / "latin.csv").write_bytes("a,b\ncafé,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        load_data(tmp_path / "latin.csv")
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(DataError, match="cannot be read"):
        load_data(tmp_path / "cut.csv.gz")


def test_a_truncated_npz_names_the_array(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(50, 3)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[300:320] = b"\0" * 20
    (tmp_path / "a.npz").write_bytes(bytes(content))
    with pytest.raises(DataError, match="array 'x' of"):
        load_data(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 3)), "is empty"),
        (np.float64(3), "a single value"),
        (np.array([[1.0, 2.0], [3.0, np.inf]] * 5), r"row 1, column 1 of the array \(counting from 0\): inf"),
        (np.zeros((5, 2), dtype=complex), "expected numbers or text"),
        ([[1, 2], [3]], "different lengths"),
        (np.full((9, 2), np.nan), "every cell of the array is missing"),
        (np.ones((1, 2)), "a single row cannot be split into train, valid, test"),
    ],
)
def test_bad_arrays(array, message):
    with pytest.raises(DataError, match=message):
        load_data(array)


def test_a_large_number_that_float32_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + GOOD + "1e300,1\n")
    with pytest.raises(DataError, match=r"column 'a', row 14 .*too large"):
        load_data(path, standardise=False)
    assert torch.isfinite(load_data(path).train.batch()["x"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": (0.5, 0.2)}, "three fractions"),
        ({"split": (0.5, 0.2, 0.2)}, "sum to 1"),
        ({"split": (0.0, 0.5, 0.5)}, "train above 0"),
        ({"binarise": "dynamc"}, "did you mean 'dynamic'"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(UsageError, match=message):
        load_data(np.random.default_rng(0).random((20, 3)), **arguments)


def test_what_binarise_standardise_types_and_key_are_not_for(tmp_path):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="binarise needs intensities"):
        load_data(rng.normal(size=(20, 3)), binarise="threshold")
    with pytest.raises(UsageError, match="standardise is for columns"):
        load_data(rng.normal(size=(20, 3, 3)), standardise=True)
    with pytest.raises(UsageError, match="types are for the columns"):
        load_data(rng.normal(size=(20, 3, 3)), types={"x0": "number"})
    with pytest.raises(DataError, match="key= chooses"):
        load_data(rng.normal(size=(20, 3)), key="x")
    (tmp_path / "t.csv").write_text(f"a,b\n{GOOD}")
    with pytest.raises(UsageError, match="binarise is for images"):
        load_data(tmp_path / "t.csv", binarise="dynamic")


def test_files_for_splits_must_agree(tmp_path):
    (tmp_path / "train.csv").write_text(f"age,b\n{GOOD}")
    (tmp_path / "test.csv").write_text(f"aage,b\n{GOOD}")
    with pytest.raises(
        DataError, match=r"test\.csv lacks column 'age', which train\.csv has; did you mean 'aage'"
    ):
        load_data(tmp_path / "train.csv", test=tmp_path / "test.csv")
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"rows of shape \[2\], the array of \[3\]"):
        load_data(rng.normal(size=(20, 3)), test=rng.normal(size=(5, 2)))
    with pytest.raises(DataError, match="do not go together"):
        load_data(tmp_path / "train.csv", test=rng.normal(size=(5, 2)))
