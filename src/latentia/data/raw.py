"""Rows as a reader found them, before any schema: arrays, and tables of numbers and text with their holes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

MISSING = frozenset(
    {"", "?", "NA", "N/A", "na", "n/a", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "Null", "NaT"}
)  # a cell that is one of these, spaces stripped, is a hole

Numbers = NDArray[np.float64]
Cells = NDArray[Any]


@dataclass(frozen=True, eq=False)
class RawColumn:
    """One column of N cells: float64 with NaN in the holes, or text (an object array of str) with "" in
    them.
    """

    name: str
    cells: Cells

    @property
    def is_text(self) -> bool:
        return self.cells.dtype == object

    @cached_property
    def observed(self) -> NDArray[np.bool_]:
        """True where there is a value, [N]."""
        return np.asarray(self.cells != "" if self.is_text else ~np.isnan(self.cells), dtype=bool)

    @cached_property
    def numbers(self) -> Numbers | None:
        """The cells as float64 with NaN in the holes, or None when some cell is not a number."""
        if not self.is_text:
            return self.cells
        try:
            return np.array([float(cell) if cell else np.nan for cell in self.cells], dtype=np.float64)
        except ValueError:
            return None

    def first_text(self) -> int:
        """The position of the first cell that is not a number."""
        return next(i for i, cell in enumerate(self.cells) if cell and not is_number(cell))

    def text(self) -> Cells:
        """The cells as text; whole numbers are written without a decimal point."""
        if self.is_text:
            return self.cells
        return text_array("" if np.isnan(number) else write_number(number) for number in self.cells)

    def take(self, index: NDArray[np.int64]) -> RawColumn:
        return RawColumn(self.name, self.cells[index])


@dataclass(frozen=True, eq=False)
class RawTable:
    """Named columns of one length. `lines` [N] are the rows' numbers for errors: by default counted from
    0.
    """

    columns: Mapping[str, RawColumn]
    where: str
    lines: NDArray[np.int64] | None = None
    counted: str = "counting from 0"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).cells) if self.columns else 0

    def row_name(self, row: int) -> str:
        """How an error names a row."""
        number = row if self.lines is None else self.lines[row]
        return f"row {number} of {self.where} ({self.counted})"

    def take(self, index: NDArray[np.int64]) -> RawTable:
        columns = {name: column.take(index) for name, column in self.columns.items()}
        return replace(self, columns=columns, lines=index if self.lines is None else self.lines[index])

    def without(self, name: str) -> RawTable:
        return replace(self, columns={key: column for key, column in self.columns.items() if key != name})


@dataclass(frozen=True, eq=False)
class Raw:
    """The variables of N rows: each an array [N, *event] or a table; and labels [N], which no model is
    fed.
    """

    values: Mapping[str, Cells | RawTable]
    where: str
    labels: RawColumn | None = None
    positions: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        lengths = {name: len(value) for name, value in self.values.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{self.where}: the variables have different numbers of rows: {lengths}")
        if self.labels is not None and len(self.labels.cells) != len(self):
            raise DataError(
                f"{self.where}: there are {len(self.labels.cells)} labels for {len(self)} rows of data"
            )
        if len(self.positions) != len(self):
            object.__setattr__(self, "positions", np.arange(len(self)))

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def take(self, index: NDArray[np.int64]) -> Raw:
        """These rows only; `positions` still says where each was."""
        values = {
            name: value.take(index) if isinstance(value, RawTable) else value[index]
            for name, value in self.values.items()
        }
        labels = None if self.labels is None else self.labels.take(index)
        return Raw(values, self.where, labels, self.positions[index])


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def write_number(number: float) -> str:
    """3.0 as "3", 0.5 as "0.5"."""
    return str(int(number)) if number.is_integer() else repr(float(number))


def text_array(cells: Iterable[str]) -> Cells:
    """An object array of the strings (numpy's own text arrays pad every cell to the longest)."""
    listed = list(cells)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def text_column(name: str, cells: Iterable[str]) -> RawColumn:
    """A column of text: cells stripped, those in MISSING emptied."""
    stripped = (cell.strip() for cell in cells)
    return RawColumn(name, text_array("" if cell in MISSING else cell for cell in stripped))


def column(name: str, cells: Any) -> RawColumn:
    """A column from anything one-dimensional: numbers, booleans, text, or a mixture with None and NaN as
    holes.
    """
    array = cells if isinstance(cells, np.ndarray) else np.asarray(cells)
    if array.ndim != 1:
        raise DataError(f"column {name!r} has shape {list(array.shape)}; expected one value for each row")
    if array.dtype.kind in "fiub":
        return RawColumn(name, array.astype(np.float64))
    if array.dtype.kind == "c":
        raise DataError(
            f"column {name!r} holds complex numbers; give its real and imaginary parts as two columns"
        )
    return text_column(name, (cell_text(cell) for cell in array.tolist()))


def cell_text(cell: object) -> str:
    """One cell of a mixed column as text; None becomes "", and NaN one of the words in MISSING."""
    if cell is None:
        return ""
    if isinstance(cell, float) and np.isfinite(cell):
        return write_number(cell)
    return cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)


def table_from_array(array: Cells, where: str, names: Sequence[str] | None = None) -> RawTable:
    """A table of a 2-d array's columns, named x0, x1, ... unless names are given; a structured array brings
    its own.
    """
    if array.dtype.names is not None:
        return RawTable({name: column(name, array[name]) for name in array.dtype.names}, where)
    names = names if names is not None else [f"x{j}" for j in range(array.shape[1])]
    return RawTable({name: column(name, array[:, j]) for j, name in enumerate(names)}, where)


def table_from_columns(columns: Mapping[str, Any], where: str) -> RawTable:
    """A table from a mapping of column names to cells."""
    table = {str(name): column(str(name), cells) for name, cells in columns.items()}
    lengths = {name: len(found.cells) for name, found in table.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: the columns have different lengths: {lengths}")
    return RawTable(table, where)


def table_from_frame(frame: Any, where: str) -> RawTable | None:
    """A table from any DataFrame or Series that narwhals knows (pandas, polars, pyarrow, ...; lazy ones are
    collected), or None for any other object.
    """
    import narwhals as nw
    from narwhals.exceptions import DuplicateError

    try:
        native = nw.from_native(frame, pass_through=True, allow_series=True)
    except DuplicateError as error:
        raise DataError(f"{where} has several columns of one name; give each its own: {error}") from error
    if isinstance(native, nw.LazyFrame):
        native = native.collect()
    if isinstance(native, nw.Series):
        native = native.to_frame()
    if not isinstance(native, nw.DataFrame):
        return None
    columns = {}
    for series in native.iter_columns():
        name = str(series.name)
        if series.dtype.is_numeric() or series.dtype == nw.Boolean:
            columns[name] = column(name, series.cast(nw.Float64).to_numpy())
        else:
            holes = series.is_null().to_list()
            cells = series.to_list()
            columns[name] = text_column(
                name, ("" if hole else cell_text(cell) for cell, hole in zip(cells, holes, strict=True))
            )
    return RawTable(columns, where)
