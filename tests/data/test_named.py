"""Named sets: those of scikit-learn, and those found in local files."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from latentia.data import Image, list_data, load_data
from latentia.errors import DataError

SHAPES = {"iris": (150, 4), "wine": (178, 13), "breast_cancer": (569, 30), "diabetes": (442, 10)}


def test_digits_are_the_images_of_scikit_learn():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    data = load_data("digits")
    assert data.schema.fields["x"] == Image((1, 8, 8), levels=16.0)
    for rows in data.splits.values():
        np.testing.assert_array_equal(rows.tensors["x"][:, 0].numpy(), bunch.images[rows.rows])
        np.testing.assert_array_equal(rows.labels.numpy(), bunch.target[rows.rows])
    assert "Constant: 3 of 64 pixels are the same in every row." in data.notes


@pytest.mark.parametrize("name", SHAPES)
def test_tables_are_numbers_beside_their_labels(name):
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    data = load_data(name)
    assert sum(len(rows) for rows in data.splits.values()) == SHAPES[name][0]
    assert data.event_shape == SHAPES[name][1:]
    assert data.schema.likelihood == "normal"
    assert data.schema.fields["x"].names == [str(feature) for feature in bunch.feature_names]
    back = np.stack(list(data.schema.table(data.train.batch()["x"]).values()), axis=1)
    scale = bunch.data.std(0)
    assert (np.abs(back - bunch.data[data.train.rows]) <= 1e-6 * scale).all()
    labels = data.train.labels.numpy()
    if name == "diabetes":
        np.testing.assert_array_equal(labels, bunch.target[data.train.rows])
    else:
        levels = np.array(data.schema.label.levels)
        np.testing.assert_array_equal(levels[labels], bunch.target_names[bunch.target][data.train.rows])


def test_mnist_is_looked_for_and_the_places_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTIA_DATA", str(tmp_path / "nowhere"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*\$LATENTIA_DATA/mnist or \./data/mnist"):
        load_data("mnist")
    assert {line.name: line.found for line in list_data()}["fashion_mnist"] is False
    assert {line.name: line.found for line in list_data()}["digits"] is True


def write_set(folder: Path, ending: str) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, n in (("train", 40), ("t10k", 8)):
        for kind, shape in (("images-idx3", (n, 4, 4)), ("labels-idx1", (n,))):
            content = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
            content += rng.integers(0, 10, shape, dtype=np.uint8).tobytes()
            path = folder / f"{split}-{kind}-ubyte{ending}"
            path.write_bytes(gzip.compress(content) if ending else content)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_local_sets_are_found_in_either_place(tmp_path, monkeypatch, ending):
    write_set(tmp_path / "root" / "mnist", ending)
    write_set(tmp_path / "here" / "data" / "fashion_mnist", ending)
    monkeypatch.setenv("LATENTIA_DATA", str(tmp_path / "root"))
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    for name in ("mnist", "fashion_mnist"):
        data = load_data(name)
        assert (data.name, len(data.train), len(data.valid), len(data.test)) == (name, 36, 4, 8)
        assert {line.name: line.found for line in list_data()}[name]


def test_an_incomplete_set_names_what_is_absent(tmp_path, monkeypatch):
    write_set(tmp_path / "mnist", "")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    monkeypatch.setenv("LATENTIA_DATA", str(tmp_path))
    with pytest.raises(DataError, match="lacks t10k-labels-idx1-ubyte"):
        load_data("mnist")


def test_mnist_from_one_npz(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (50, 4, 4), dtype=np.uint8)
    y = rng.integers(0, 10, 50, dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    monkeypatch.setenv("LATENTIA_DATA", str(tmp_path))
    data = load_data("mnist")
    assert torch.equal(data.test.tensors["x"][:, 0], torch.from_numpy(x[40:]))
    np.testing.assert_array_equal(data.test.labels.numpy(), y[40:])


BENCHMARKS = Path(os.environ.get("LATENTIA_DATA", "../shared/data"))


@pytest.mark.parametrize(
    ("name", "event", "likelihood", "sizes"),
    [
        ("adult.csv", (15,), "columns", (26049, 3256, 3256)),
        ("nltcs.csv", (16,), "bernoulli", (17260, 2157, 2157)),
        ("frey.npz", (1, 28, 20), "normal", (1573, 196, 196)),
        ("omniglot_small.npz", (1, 28, 28), "normal", (3872, 484, 484)),
    ],
)
def test_benchmark_files_load_sensibly(name, event, likelihood, sizes):
    if not (BENCHMARKS / name).exists():
        pytest.skip(f"{name} is not in $LATENTIA_DATA ({BENCHMARKS})")
    data = load_data(BENCHMARKS / name)
    assert (data.event_shape, data.schema.likelihood) == (event, likelihood)
    assert tuple(len(rows) for rows in data.splits.values()) == sizes
