"""Table: a field of named columns, each a number, a binary, a count or a category; one entry of the value for
each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._words import did_you_mean, shortened
from ..errors import DataError
from .fields import summed, tensor_of
from .raw import Cells, Numbers, RawColumn, RawTable, table_from_array, text_array, write_number

COLUMN_KINDS = ("number", "binary", "count", "category")


@dataclass(frozen=True)
class Column:
    """One column. Model units: a number is (x - shift) / scale, a binary 0 or 1, a count as it is, a category
    its code.

    `levels` are the values that the codes 0, 1, ... stand for, all text or all numbers, sorted; a binary
    column without levels holds 0 and 1 themselves. `missing` says whether the column had holes when the
    schema was made.
    """

    name: str
    kind: str = "number"
    shift: float = 0.0
    scale: float = 1.0
    levels: tuple[str, ...] | tuple[float, ...] | None = None
    missing: bool = False

    def __post_init__(self) -> None:
        if self.kind not in COLUMN_KINDS:
            raise ValueError(
                f"column {self.name!r}: a kind is one of {', '.join(COLUMN_KINDS)}, got {self.kind!r}"
            )
        if not (math.isfinite(self.shift) and math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"column {self.name!r}: expected a finite shift and a positive scale")
        if self.kind == "category" and not self.levels:
            raise ValueError(f"column {self.name!r}: a category needs its levels")
        if self.kind in ("number", "count") and self.levels is not None:
            raise ValueError(f"column {self.name!r}: a {self.kind} has no levels")

    def encode(self, column: RawColumn, table: RawTable) -> Numbers:
        """Model units as float64 [N], NaN in the holes; DataError names the row, the column and the cell that
        does not fit.
        """
        if self.levels is not None:
            return self._codes(column, table)
        numbers = finite_numbers(column, table)
        if self.kind == "number":
            return (numbers - self.shift) / self.scale
        if self.kind == "binary":
            bad = (numbers != 0) & (numbers != 1) & ~np.isnan(numbers)
            refuse_cell(column, table, bad, "is neither 0 nor 1")
        else:
            bad = (numbers < 0) | ((numbers != np.round(numbers)) & ~np.isnan(numbers))
            refuse_cell(column, table, bad, "is no count (a whole number from 0)")
        return numbers

    def _codes(self, column: RawColumn, table: RawTable) -> Numbers:
        levels: tuple[Any, ...] = self.levels or ()
        code_of = {level: float(code) for code, level in enumerate(levels)}
        cells = column.text() if isinstance(levels[0], str) else finite_numbers(column, table)
        codes = np.array([code_of.get(cell, np.nan) for cell in cells.tolist()], dtype=np.float64)
        names = [level if isinstance(level, str) else write_number(level) for level in levels]
        unseen = np.isnan(codes) & column.observed
        refuse_cell(column, table, unseen, f"is none of the column's levels ({shortened(names, 8)})")
        return codes

    def decode(self, value: Numbers, observed: NDArray[np.bool_] | None = None) -> Cells:
        """The column's own values [N] from float64 model units: text or numbers; "" or NaN where not
        observed.
        """
        if self.levels is not None:
            codes = np.clip(np.round(value), 0, len(self.levels) - 1).astype(np.int64)
            decoded = (
                text_array(self.levels)[codes]
                if isinstance(self.levels[0], str)
                else np.array(self.levels)[codes]
            )
        else:
            decoded = value * self.scale + self.shift
        if observed is None:
            return decoded
        return np.where(observed, decoded, "" if decoded.dtype == object else np.nan)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "shift": self.shift,
            "scale": self.scale,
            "levels": None if self.levels is None else list(self.levels),
            "missing": self.missing,
        }


@dataclass(frozen=True)
class Table:
    """The kept columns of a table: values [N, D], float32, entry j for the j-th kept column; and the names
    left out.
    """

    columns: tuple[Column, ...]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not names or len(set(names)) < len(names):
            raise ValueError("a table needs at least one column, each with its own name")

    @property
    def event(self) -> tuple[int, ...]:
        return (len(self.columns),)

    @property
    def missing(self) -> bool:
        """Whether any column had holes when the schema was made; then every value carries a mask."""
        return any(column.missing for column in self.columns)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def likelihood(self) -> str:
        kinds = {column.kind for column in self.columns}
        return "bernoulli" if kinds == {"binary"} else "normal" if kinds == {"number"} else "columns"

    @property
    def units(self) -> str:
        return "the columns' own units"

    @property
    def measure(self) -> str:
        """What a density over this field is a density of: the columns with their kinds and levels."""
        return "table " + "; ".join(f"{c.name} {c.kind} {list(c.levels or ())}" for c in self.columns)

    def raw_table(self, raw: Cells | RawTable, where: str) -> RawTable:
        """The rows as a table with this field's columns at least: columns by name, those of an array by
        position.

        An array holds the kept columns; if they were an array's (x0, x1, ...), it may hold those left out as
        well.
        """
        if isinstance(raw, RawTable):
            for name in self.names:
                if name not in raw.columns:
                    others = [column for column in raw.columns if column not in self.names]
                    raise DataError(f"{raw.where} lacks column {name!r}{did_you_mean(name, others)}")
            return raw
        expected = f"expected {len(self.columns)} columns ({shortened(self.names, 5)})"
        if raw.ndim == 1 and len(self.columns) == 1:
            raw = raw[:, None]
        if raw.ndim == 1 and len(raw) == len(self.columns):
            raise DataError(
                f"{where} has the shape of a single row, {list(raw.shape)}; add a first dimension: x[None]"
            )
        if raw.ndim != 2:
            raise DataError(f"{expected}, got an array of shape {list(raw.shape)}")
        every = [f"x{j}" for j in range(len(self.columns) + len(self.left_out))]
        if raw.shape[1] == len(every) and set(self.names) <= set(every):
            return table_from_array(raw, where, every)
        if raw.shape[1] != len(self.columns):
            raise DataError(f"{expected}, got {raw.shape[1]}")
        return table_from_array(raw, where, self.names)

    def encode(self, raw: Cells | RawTable, where: str) -> tuple[Tensor, Tensor | None]:
        """Model units float32 [N, D], zero-filled, and the mask [N, D] (True = observed) if the schema has
        holes.

        Raises DataError, with the row and the column, for text where numbers are expected, infinity, a level
        that the schema does not know, and for a hole if the schema has none.
        """
        table = self.raw_table(raw, where)
        value = np.empty((len(table), len(self.columns)), dtype=np.float32)
        for j, column in enumerate(self.columns):
            found = table.columns[column.name]
            encoded = column.encode(found, table)
            if not self.missing:
                refuse_cell(
                    found,
                    table,
                    np.isnan(encoded),
                    "is missing, where the data that were fitted had no holes",
                )
            limit = np.finfo(np.float32).max
            refuse_cell(
                found, table, np.abs(encoded) > limit, "is too large for float32; standardise the columns"
            )
            value[:, j] = encoded
        if not self.missing:
            return tensor_of(value), None
        observed = ~np.isnan(value)
        return tensor_of(np.nan_to_num(value, copy=False)), tensor_of(observed)

    def values(self, stored: Tensor, rows: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Model units: stored as they are."""
        return stored

    def decode(self, value: Tensor) -> Tensor:
        """Numbers in their own units, [*lead, D]; binaries, counts and codes as they are. Computed in
        float64.
        """
        shift = torch.tensor(
            [column.shift for column in self.columns], dtype=torch.float64, device=value.device
        )
        scale = torch.tensor(
            [column.scale for column in self.columns], dtype=torch.float64, device=value.device
        )
        return (value.to(torch.float64) * scale + shift).to(value.dtype)

    def table(self, value: Tensor, observed: Tensor | None = None) -> dict[str, Cells]:
        """The data's own columns, order and units: {name: [N]}, categories as their levels, holes "" or
        NaN.
        """
        cells = value.detach().cpu().to(torch.float64).numpy()
        seen = None if observed is None else observed.cpu().numpy()
        return {
            column.name: column.decode(cells[:, j], None if seen is None else seen[:, j])
            for j, column in enumerate(self.columns)
        }

    def log_jacobian(self, value: Tensor, observed: Tensor | None) -> Tensor:
        """log|d model / d data| = -log(scale), summed over the observed numbers of each row, [B]."""
        each = [-math.log(column.scale) for column in self.columns]
        return summed(torch.tensor(each, dtype=torch.float64, device=value.device), value, observed)

    def standardised(self, raw: RawTable) -> tuple[Table, list[str]]:
        """The table with each number's shift and scale from these rows (mean, standard deviation); and the
        constant columns.

        Both passes are in float64, the second about the first's mean; a constant column keeps scale 1.
        """
        columns, constant = [], []
        for column in self.columns:
            if column.kind == "number":
                numbers = finite_numbers(raw.columns[column.name], raw)
                shift, scale = mean_and_scale(numbers[~np.isnan(numbers)])
                column = replace(column, shift=shift, scale=scale or 1.0)
                if scale == 0:
                    constant.append(column.name)
            columns.append(column)
        return replace(self, columns=tuple(columns)), constant

    def to_dict(self) -> dict[str, Any]:
        columns = [column.to_dict() for column in self.columns]
        return {"type": "table", "columns": columns, "left_out": list(self.left_out)}


def table_from_dict(config: Mapping[str, Any]) -> Table:
    return Table(
        tuple(
            Column(
                str(column["name"]),
                column["kind"],
                float(column["shift"]),
                float(column["scale"]),
                None if column["levels"] is None else tuple(column["levels"]),
                bool(column["missing"]),
            )
            for column in config["columns"]
        ),
        tuple(map(str, config["left_out"])),
    )


def mean_and_scale(numbers: Numbers) -> tuple[float, float]:
    """The mean and the standard deviation (divisor N), the latter 0 for equal numbers; (0, 0) for none.

    Deviations are divided by the largest before they are squared, so that neither 1e300 nor 1e-300 is lost.
    """
    if len(numbers) == 0:
        return 0.0, 0.0
    first = float(numbers[0])
    if (numbers == first).all():
        return first, 0.0
    mean = float((numbers / len(numbers)).sum())
    deviation = numbers - mean
    largest = float(np.abs(deviation).max())
    return mean, largest * math.sqrt(float(np.mean((deviation / largest) ** 2)))


def finite_numbers(column: RawColumn, table: RawTable) -> Numbers:
    """The cells as float64 with NaN in the holes; DataError names the row of the first text or infinity."""
    numbers = column.numbers
    if numbers is None:
        row = column.first_text()
        raise DataError(
            f"column {column.name!r}, {table.row_name(row)}: {column.cells[row]!r} is not a number"
        )
    refuse_cell(column, table, np.isinf(numbers), "is not finite")
    return numbers


def refuse_cell(column: RawColumn, table: RawTable, bad: NDArray[np.bool_], why: str) -> None:
    """DataError naming the column, the row and the cell of the first bad cell, if there is one."""
    if bad.any():
        row = int(np.argmax(bad))
        cell = column.cells[row]
        shown = (
            repr(cell) if column.is_text else write_number(cell) if np.isfinite(cell) else repr(float(cell))
        )
        raise DataError(f"column {column.name!r}, {table.row_name(row)}: {shown} {why}")
