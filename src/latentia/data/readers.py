"""From what a person gives (a name, a path, an array, a DataFrame, a dict) to raw rows."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .._words import did_you_mean
from ..errors import DataError
from .csv_files import read_csv
from .images import find_idx, read_idx, read_idx_folder, read_picture_folder
from .raw import (
    Cells,
    Raw,
    RawColumn,
    column,
    table_from_array,
    table_from_columns,
    table_from_frame,
)

FORMATS = (
    ".csv, .tsv (or either with .gz), .parquet, .npy, .npz, an IDX file, a folder of IDX files or of pictures"
)
LABEL_KEYS = ("y", "labels", "label", "target", "targets")
DATA_KEYS = ("x", "X", "data", "images")


@dataclass(frozen=True, eq=False)
class Source:
    """Raw rows with what is known of them: `parts` is {"all": rows}, or the splits that the source itself
    holds.
    """

    name: str
    parts: Mapping[str, Raw]
    from_file: bool
    notes: list[str] = field(default_factory=list)
    levels: float | None = None
    all_numbers: bool = False


def read(source: Any, key: str | None = None) -> Source:
    """Raw rows from a name, a path, an array, a tensor, a DataFrame, or a dict of arrays by variable.

    `key` chooses an array of an NPZ file. Raises DataError with a sentence for whatever cannot be read.
    """
    if isinstance(source, (str, PathLike)):
        return _named_or_file(source, key)
    if key is not None:
        raise DataError("key= chooses an array of an NPZ file; the data given are no file")
    if isinstance(source, Mapping):
        if not source:
            raise DataError("the dict holds no variables")
        values = {str(name): array_of(value, f"variable {name!r}") for name, value in source.items()}
        return Source("dict", {"all": Raw(values, "the dict")}, from_file=False)
    if not isinstance(source, (np.ndarray, Tensor, list, tuple)):
        table = table_from_frame(source, "the DataFrame")
        if table is not None:
            if not len(table):
                raise DataError("the DataFrame has no rows")
            return Source("DataFrame", {"all": Raw({"x": table}, table.where)}, from_file=False)
    array = array_of(source, "the array")
    return Source("array", {"all": _raw_array(array, "the array")}, from_file=False)


def read_for(fields: Mapping[str, Any], source: Any, key: str | None = None) -> list[Raw]:
    """Raw rows to be read by an existing schema's fields: as `read`, but a dict may also hold a table's
    columns.
    """
    if isinstance(source, Mapping) and not set(map(str, source)) <= set(fields):
        if len(fields) > 1:
            unknown = next(str(name) for name in source if name not in fields)
            raise DataError(
                f"there is no variable {unknown!r}; the variables are {', '.join(fields)}"
                f"{did_you_mean(unknown, fields)}"
            )
        return [Raw({next(iter(fields)): table_from_columns(source, "the dict")}, "the dict")]
    return list(read(source, key).parts.values())


def array_of(source: Any, what: str) -> Cells:
    """A numpy array [N, ...] of anything that is one, tensors on any device among them; never a copy without
    need.
    """
    if isinstance(source, Tensor):
        tensor = source.detach().cpu()
        array = (
            tensor if tensor.dtype.itemsize > 2 or not tensor.is_floating_point() else tensor.float()
        ).numpy()
    else:
        try:
            array = np.asarray(source)
        except ValueError as error:
            raise DataError(f"{what} is no array: its rows have different lengths") from error
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.float16 or array.dtype == np.longdouble:
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    if array.dtype.kind not in "fiubOUSV" or (array.dtype.kind == "V" and array.dtype.names is None):
        raise DataError(f"{what} holds {array.dtype} values; expected numbers or text")
    if array.ndim == 0:
        raise DataError(
            f"{what} is a single value ({source!r:.60}); expected rows: an array of shape [N, ...]"
        )
    if 0 in array.shape:
        raise DataError(f"{what} is empty: its shape is {list(array.shape)}")
    return array


def _raw_array(array: Cells, where: str, labels: RawColumn | None = None) -> Raw:
    """Numbers stay an array; text, mixed cells and structured arrays are a table."""
    if array.dtype.kind in "fiub":
        return Raw({"x": array}, where, labels)
    if array.ndim == 1 and array.dtype.names is None:
        array = array[:, None]
    if array.ndim > 2:
        raise DataError(
            f"{where} has shape {list(array.shape)} and holds text; expected a table [N, columns]"
        )
    return Raw({"x": table_from_array(array, where)}, where, labels)


def _named_or_file(source: str | PathLike[str], key: str | None) -> Source:
    from .named import NAMES, read_named

    if str(source) in NAMES:
        return read_named(str(source))
    path = Path(source).expanduser()
    if not path.exists():
        if path.suffix or len(path.parts) > 1:
            raise DataError(f"there is no file or folder {path}")
        raise DataError(
            f"there is no data set, file or folder called {str(source)!r}{did_you_mean(str(source), NAMES)}"
        )
    if path.is_dir():
        return _folder(path)
    name = path.name.lower()
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    if key is not None and not name.endswith(".npz"):
        raise DataError(f"key= chooses an array of an NPZ file; {path.name} is none")
    if name.removesuffix(".gz").endswith((".csv", ".tsv")):
        table, notes = read_csv(path)
        return Source(path.stem, {"all": Raw({"x": table}, path.name)}, True, notes)
    if name.endswith((".parquet", ".pq")):
        return _parquet(path)
    if name.endswith(".npy"):
        return Source(path.stem, {"all": _raw_array(array_of(_load(path), path.name), path.name)}, True)
    if name.endswith(".npz"):
        return _npz(path, key)
    if "-ubyte" in name or name.removesuffix(".gz").endswith(".idx"):
        return Source(path.stem, {"all": _raw_array(array_of(read_idx(path), path.name), path.name)}, True)
    raise DataError(f"cannot tell how to read {path}; known are {FORMATS}")


def _folder(path: Path) -> Source:
    if any(found is not None for found in find_idx(path).values()):
        return Source(path.name, read_idx_folder(path), True)
    raw, notes = read_picture_folder(path)
    return Source(path.resolve().name, {"all": raw}, True, notes)


def _parquet(path: Path) -> Source:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError('reading Parquet needs pyarrow: pip install "latentia[data]"') from error
    try:
        frame = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error
    if not frame.num_rows or not frame.num_columns:
        raise DataError(f"{path} has {frame.num_rows} rows and {frame.num_columns} columns")
    table = table_from_frame(frame, path.name)
    if table is None:
        raise DataError(f"{path} holds no table")
    return Source(path.stem, {"all": Raw({"x": table}, path.name)}, True)


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{path} holds pickled Python objects, which are never loaded") from error
        raise DataError(f"{path} cannot be read as {path.suffix.lstrip('.').upper()}: {error}") from error


def _npz(path: Path, key: str | None) -> Source:
    """An NPZ file: the array under `key`; else the splits x_train, x_valid, x_test; else its one array of
    data.
    """
    archive = _load(path)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path} is called .npz and holds a single array; call it .npy")
    with archive:
        names = list(archive.files)
        if key is not None and key not in names:
            raise DataError(
                f"{path} has no array {key!r}; it holds {', '.join(names)}{did_you_mean(key, names)}"
            )

        def get(name: str) -> Cells:
            try:
                return array_of(archive[name], f"array {name!r} of {path.name}")
            except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
                if isinstance(error, DataError):
                    raise
                pickled = (
                    "pickled Python objects, which are never loaded"
                    if "allow_pickle" in str(error)
                    else error
                )
                raise DataError(f"array {name!r} of {path} cannot be read: {pickled}") from error

        def labels_for(x: Cells, candidates: tuple[str, ...]) -> RawColumn | None:
            """The first candidate that has one whole number or text for each row."""
            for name in candidates:
                y = get(name) if name in names else None
                if (
                    y is not None
                    and y.shape == (len(x),)
                    and (y.dtype.kind in "iubUS" or (y == np.round(y)).all())
                ):
                    return column(name.partition("_")[0], y)
            return None

        x_train = next((name for name in ("x_train", "X_train") if name in names), None)
        if key is None and x_train is not None:
            parts = {}
            for split in ("train", "valid", "test"):
                name = f"{x_train[0]}_{split}"
                if name in names:
                    x = get(name)
                    labels = labels_for(x, (f"y_{split}", f"labels_{split}"))
                    parts[split] = _raw_array(x, f"{path.name} ({name})", labels)
            return Source(path.stem, parts, True)
        chosen = key or _only(names, path, get)
        x = get(chosen)
        beside = tuple(name for name in (chosen.replace("x", "y", 1), *LABEL_KEYS) if name != chosen)
        labels = labels_for(x, beside)
        unread = [name for name in names if name != chosen and (labels is None or name != labels.name)]
        notes = [f"Not read from {path.name}: {', '.join(unread)}."] if unread else []
        return Source(path.stem, {"all": _raw_array(x, f"{path.name} ({chosen})", labels)}, True, notes)


def _only(names: list[str], path: Path, get: Any) -> str:
    """The name of the one array of data in an NPZ file; DataError lists them when there are several."""
    if not names:
        raise DataError(f"{path} holds no arrays")
    data = [name for name in names if name not in LABEL_KEYS]
    for candidates in (names, data, [name for name in data if name in DATA_KEYS]):
        if len(candidates) == 1:
            return candidates[0]
    listed = ", ".join(f"{name} {list(get(name).shape)}" for name in names)
    raise DataError(f"{path} holds several arrays: {listed}; choose one by its key (key= in Python, --key)")
