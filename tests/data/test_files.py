"""Every kind of file is read from disk as a user has it there."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Picture

from latentia.data import Array, Image, Table, load_data
from latentia.errors import DataError

RNG = np.random.default_rng(0)


def write_idx(path: Path, array: np.ndarray) -> None:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, ending: str = "") -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    arrays = {
        "train-images-idx3-ubyte": RNG.integers(0, 256, (50, 5, 4), dtype=np.uint8),
        "train-labels-idx1-ubyte": RNG.integers(0, 10, 50, dtype=np.uint8),
        "t10k-images-idx3-ubyte": RNG.integers(0, 256, (12, 5, 4), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": RNG.integers(0, 10, 12, dtype=np.uint8),
    }
    for name, array in arrays.items():
        write_idx(folder / f"{name}{ending}", array)
    return arrays


def whole(data) -> torch.Tensor:
    """All rows of the source in their own order, as stored."""
    rows = torch.cat([part.rows for part in data.splits.values()])
    stored = torch.cat([part.tensors["x"] for part in data.splits.values()])
    return stored[rows.argsort()]


def test_csv_is_a_table_with_its_columns_in_order(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(
        "height,sex,weight\n" + "".join(f"{150 + i}.5,{'fm'[i % 2]},{50 + i / 3:.2f}\n" for i in range(30))
    )
    data = load_data(path, standardise=False)
    assert data.schema.fields["x"].names == ["height", "sex", "weight"]
    assert [column.kind for column in data.schema.fields["x"].columns] == ["number", "binary", "number"]
    back = data.schema.table(whole(data))
    assert back["height"].tolist() == [150.5 + i for i in range(30)]
    assert back["sex"].tolist() == ["fm"[i % 2] for i in range(30)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_delimiters_quotes_bom_and_gzip(tmp_path, delimiter):
    text = "\ufeff" + "".join(
        f'a{delimiter} "b"\n' if i == 0 else f'{i}.5{delimiter} "u, ;{i % 3}"\n' for i in range(31)
    )
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    data = load_data(path)
    assert data.schema.fields["x"].names == ["a", "b"]
    assert data.schema.fields["x"].columns[1].levels == ("u, ;0", "u, ;1", "u, ;2")


def test_csv_without_header_keeps_its_first_row(tmp_path):
    path = tmp_path / "bare.csv"
    np.savetxt(path, RNG.normal(size=(20, 3)), delimiter=",")
    data = load_data(path)
    assert len(whole(data)) == 20
    assert data.schema.fields["x"].names == ["x0", "x1", "x2"]
    assert any("no header" in note for note in data.notes)


def test_a_blank_line_is_skipped_and_in_one_column_a_hole(tmp_path):
    two = tmp_path / "two.csv"
    two.write_text("a,b\n" + "1.5,2.5\n\n3.5,4.25\n" * 5 + "\n\n")
    assert len(whole(load_data(two))) == 10
    one = tmp_path / "one.csv"
    one.write_text("a\n" + "1.5\n\n3.5\n" * 5)
    assert len(load_data(one).schema.rows(pd.DataFrame({"a": [1.5]}))) == 1
    assert any("5 rows with nothing observed" in note for note in load_data(one).notes)


def test_npy_numbers_are_standardised_columns(tmp_path):
    array = RNG.normal(3, 5, (40, 4))
    np.save(tmp_path / "a.npy", array)
    data = load_data(tmp_path / "a.npy")
    assert isinstance(data.schema.fields["x"], Table)
    assert data.train.batch()["x"].mean(0).abs().max() < 1e-6
    np.testing.assert_allclose(
        data.schema.decode("x", whole(data).double()).numpy(), array, atol=1e-6 * array.std()
    )


def test_npy_zeros_and_ones_keep_a_byte_each(tmp_path):
    array = RNG.integers(0, 2, (40, 6)).astype(np.float64)
    np.save(tmp_path / "b.npy", array)
    data = load_data(tmp_path / "b.npy")
    assert whole(data).dtype == torch.uint8
    assert data.schema.likelihood == "bernoulli"


@pytest.mark.parametrize("shape", [(20, 6, 5), (20, 3, 6, 5), (20, 6, 5, 3)])
def test_npy_bytes_are_images_scaled_to_one(tmp_path, shape):
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "i.npy", array)
    data = load_data(tmp_path / "i.npy")
    assert data.event_shape == ((1, 6, 5) if len(shape) == 3 else (3, 6, 5))
    expected = np.moveaxis(array, -1, 1) if shape[-1] == 3 else array.reshape(20, *data.event_shape)
    np.testing.assert_array_equal(whole(data).numpy(), expected)
    assert 0.9 < data.train.batch()["x"].max() <= 1


def test_npy_floats_in_the_unit_interval_are_images_others_are_left(tmp_path):
    np.save(tmp_path / "unit.npy", RNG.random((20, 6, 5)))
    unit = load_data(tmp_path / "unit.npy")
    assert unit.schema.fields["x"] == Image((1, 6, 5), levels=1.0)
    np.save(tmp_path / "free.npy", RNG.normal(size=(20, 6, 5)))
    assert load_data(tmp_path / "free.npy").schema.fields["x"] == Array((6, 5))


def test_big_endian_and_half_precision_files(tmp_path):
    array = RNG.normal(size=(20, 3)).astype(">f8")
    np.save(tmp_path / "big.npy", array)
    data = load_data(tmp_path / "big.npy", standardise=False)
    np.testing.assert_allclose(whole(data).numpy(), array.astype("<f4"), rtol=1e-6)
    np.save(tmp_path / "half.npy", array.astype(np.float16))
    assert whole(load_data(tmp_path / "half.npy")).dtype == torch.float32


def test_npz_takes_the_array_beside_its_labels(tmp_path):
    x, y = RNG.integers(0, 256, (30, 4, 4), dtype=np.uint8), RNG.integers(0, 5, 30)
    np.savez(tmp_path / "a.npz", x=x, y=y, note=np.zeros(3))
    data = load_data(tmp_path / "a.npz")
    for rows in data.splits.values():
        np.testing.assert_array_equal(rows.labels.numpy(), y[rows.rows])
        np.testing.assert_array_equal(rows.tensors["x"][:, 0].numpy(), x[rows.rows])
    assert "y" not in data.train.batch()
    assert any("note" in note for note in data.notes)


def test_npz_key_chooses_and_several_arrays_are_named(tmp_path):
    a, b = RNG.normal(size=(30, 3)), RNG.normal(size=(30, 2))
    np.savez(tmp_path / "ab.npz", apples=a, bears=b)
    assert load_data(tmp_path / "ab.npz", key="bears").event_shape == (2,)
    with pytest.raises(DataError, match=r"apples \[30, 3\], bears \[30, 2\]; choose"):
        load_data(tmp_path / "ab.npz")
    with pytest.raises(DataError, match="did you mean 'bears'"):
        load_data(tmp_path / "ab.npz", key="bear")


def test_npz_splits_of_its_own_are_kept(tmp_path):
    parts = {
        name: RNG.integers(0, 256, (n, 4, 4), dtype=np.uint8) for name, n in (("train", 40), ("test", 9))
    }
    labels = {name: RNG.integers(0, 3, len(part)) for name, part in parts.items()}
    np.savez(
        tmp_path / "m.npz",
        **{f"x_{n}": p for n, p in parts.items()},
        **{f"y_{n}": p for n, p in labels.items()},
    )
    data = load_data(tmp_path / "m.npz")
    assert [len(rows) for rows in data.splits.values()] == [36, 4, 9]
    np.testing.assert_array_equal(data.test.tensors["x"][:, 0].numpy(), parts["test"])
    np.testing.assert_array_equal(data.test.labels.numpy(), labels["test"])
    np.testing.assert_array_equal(data.valid.labels.numpy(), labels["train"][data.valid.rows])


def test_pickled_objects_are_never_loaded(tmp_path):
    objects = np.array([{"a": 1}, None], dtype=object)
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "o.npz", x=objects)
    for name in ("o.npy", "o.npz"):
        with pytest.raises(DataError, match="never loaded"):
            load_data(tmp_path / name)


def test_parquet_keeps_holes_and_text(tmp_path):
    frame = pd.DataFrame(
        {
            "a": [1.5, None, 2.5, 7.25] * 5,
            "b": ["u", "v", None, "w"] * 5,
            "c": pd.array([1, 0, 1, None] * 5, dtype="Int64"),
            "d": pd.Categorical(["x", "y", "x", "x"] * 5),
            "e": [True, False, True, True] * 5,
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    data = load_data(tmp_path / "t.parquet", standardise=False)
    kinds = {column.name: column.kind for column in data.schema.fields["x"].columns}
    assert kinds == {"a": "number", "b": "category", "c": "binary", "d": "binary", "e": "binary"}
    rows = data.schema.rows(tmp_path / "t.parquet")
    assert rows.tensors["x.observed"].tolist()[:4] == [
        [True, True, True, True, True],
        [False, True, True, True, True],
        [True, False, True, True, True],
        [True, True, False, True, True],
    ]
    assert data.schema.table(rows.tensors["x"], rows.tensors["x.observed"])["b"].tolist()[:4] == [
        "u",
        "v",
        "",
        "w",
    ]


def test_parquet_without_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r'pip install "latentia\[data\]"'):
        load_data(tmp_path / "t.parquet")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_folder_is_train_and_test(tmp_path, ending):
    arrays = write_mnist(tmp_path / "set", ending)
    data = load_data(tmp_path / "set")
    np.testing.assert_array_equal(data.test.tensors["x"][:, 0].numpy(), arrays["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.test.labels.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert (len(data.train), len(data.valid)) == (45, 5)
    together = np.concatenate([data.train.rows.numpy(), data.valid.rows.numpy()])
    np.testing.assert_array_equal(np.sort(together), np.arange(50))


def test_idx_file_by_itself(tmp_path):
    write_mnist(tmp_path / "set")
    assert load_data(tmp_path / "set" / "train-images-idx3-ubyte").event_shape == (1, 5, 4)


def test_idx_damage_and_absence_are_named(tmp_path):
    write_mnist(tmp_path / "set")
    file = tmp_path / "set" / "train-images-idx3-ubyte"
    content = file.read_bytes()
    file.write_bytes(content[:-7])
    with pytest.raises(DataError, match="cut short"):
        load_data(tmp_path / "set")
    file.write_bytes(content[:6])
    with pytest.raises(DataError, match="cut short"):
        load_data(tmp_path / "set")
    file.write_bytes(b"hello, world")
    with pytest.raises(DataError, match="not an IDX file"):
        load_data(tmp_path / "set")
    file.unlink()
    with pytest.raises(DataError, match=r"lacks train-images-idx3-ubyte"):
        load_data(tmp_path / "set")


def write_pictures(folder: Path, shapes: list[tuple[int, ...]], ending: str = ".png") -> list[np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [RNG.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    for i, picture in enumerate(pictures):
        Picture.fromarray(picture).save(folder / f"{i:03d}{ending}")
    return pictures


def test_grey_pictures(tmp_path):
    pictures = write_pictures(tmp_path / "grey", [(6, 5)] * 12)
    (tmp_path / "grey" / "notes.txt").write_text("hello")
    data = load_data(tmp_path / "grey")
    np.testing.assert_array_equal(whole(data)[:, 0].numpy(), np.stack(pictures))
    assert data.schema.units == "pixels 0..255"
    assert any("notes.txt" in note for note in data.notes)


def test_coloured_pictures_and_jpeg(tmp_path):
    pictures = write_pictures(tmp_path / "rgb", [(6, 5, 3)] * 11 + [(6, 5)])
    data = load_data(tmp_path / "rgb")
    assert data.event_shape == (3, 6, 5)
    np.testing.assert_array_equal(whole(data)[:11].numpy(), np.stack(pictures[:11]).transpose(0, 3, 1, 2))
    assert any("1 grey picture" in note for note in data.notes)
    write_pictures(tmp_path / "jpeg", [(8, 8)] * 10, ".jpg")
    assert load_data(tmp_path / "jpeg").event_shape == (1, 8, 8)


def test_pictures_in_sub_folders_are_labelled(tmp_path):
    for name in ("cats", "dogs"):
        write_pictures(tmp_path / "pets" / name, [(4, 4)] * 6)
    data = load_data(tmp_path / "pets")
    assert data.schema.label.levels == ("cats", "dogs")
    labels = torch.cat([rows.labels for rows in data.splits.values()])
    assert sorted(labels.tolist()) == [0] * 6 + [1] * 6


def test_mixed_sizes_name_two_files_and_their_sizes(tmp_path):
    write_pictures(tmp_path / "mixed", [(6, 5), (6, 5), (7, 5)])
    with pytest.raises(DataError, match=r"000\.png is 5 x 6, 002\.png is 5 x 7"):
        load_data(tmp_path / "mixed")


def test_broken_deep_and_absent_pictures(tmp_path):
    folder = tmp_path / "p"
    write_pictures(folder, [(6, 5)] * 3)
    (folder / "001.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataError, match=r"001\.png cannot be read as a picture"):
        load_data(folder)
    Picture.fromarray(np.zeros((6, 5), dtype=np.uint16)).save(folder / "001.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        load_data(folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no PNG or JPEG"):
        load_data(tmp_path / "none")
