"""From raw rows to the fields of a schema, with the sentences that say what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .._words import counted, did_you_mean, shortened
from ..errors import DataError, UsageError
from .fields import Array, Binarise, Image, all_finite, refuse
from .kinds import describe, infer_table
from .raw import Cells, RawColumn, RawTable, table_from_array
from .schema import LabelField
from .table import Table

FEW = 100  # rows, a first look at which entries differ
LARGEST_CODE = 2**24  # whole numbers up to this are exact in float32

Field = Array | Image | Table
Value = Cells | RawTable


@dataclass(frozen=True)
class Wish:
    """How the variables of a source are to be read: what the caller asked for, and what is known of the
    source.
    """

    types: Mapping[str, str]
    binarise: Binarise | None
    standardise: bool
    from_file: bool
    by_variable: bool = False
    levels: float | None = None
    all_numbers: bool = False


def infer_variable(
    name: str, values: Sequence[Value], wheres: Sequence[str], wish: Wish
) -> tuple[Field, list[Value], list[str]]:
    """One variable's field, its values as that field reads them, and what to say of it.

    The values are those of the files of one data set. Arrays [N, D] of numbers become tables where columns
    are treated one by one: from files, with types, or to standardise; not where all is 0 or 1 (an array then
    keeps a byte for each value).
    """
    tables = [value for value in values if isinstance(value, RawTable)]
    arrays = [value for value in values if not isinstance(value, RawTable)]
    if tables and arrays:
        raise DataError(f"{' and '.join(wheres)} do not go together: one is a table, the other an array")
    if not tables:
        checked_arrays(arrays, wheres)
        if _by_column(name, arrays, wish):
            tables = [_columns(array, where) for array, where in zip(arrays, wheres, strict=True)]
    if tables:
        if wish.binarise is not None:
            raise UsageError("binarise is for images and arrays of numbers in [0, 1]; these data are a table")
        types = {} if wish.by_variable else wish.types
        table, left_out = infer_table(tables, types, wish.all_numbers or bool(arrays))
        return table, [*tables], describe(table, left_out)
    if wish.types and not wish.by_variable:
        raise UsageError(
            "types are for the columns of a table; these data are images or arrays of more dimensions"
        )
    if wish.standardise and not wish.from_file and not wish.by_variable and arrays[0].ndim > 2:
        raise UsageError(
            f"standardise is for columns, arrays [N, D]; this array has shape {list(arrays[0].shape)}"
        )
    binarise = None if wish.by_variable and arrays[0].ndim == 1 else wish.binarise
    if binarise is not None or (wish.from_file and arrays[0].ndim >= 3):
        image = image_field(arrays, wish.levels, binarise)
        if image is not None:
            return image[0], [*arrays], image[1]
        if binarise is not None:
            low, high = value_range(arrays)
            raise DataError(
                "binarise needs intensities, numbers in [0, 1] or whole numbers 0..255; "
                f"{wheres[0]} holds numbers from {low:g} to {high:g}, shape {list(arrays[0].shape)}"
            )
    kind = wish.types.get(name) if wish.by_variable else None
    field, notes = array_field(arrays, kind, wish.from_file, codes=wish.by_variable)
    return field, [*arrays], notes


def _by_column(name: str, arrays: Sequence[Cells], wish: Wish) -> bool:
    if arrays[0].ndim > 2 or wish.binarise is not None:
        return False
    if wish.by_variable:
        return wish.standardise and arrays[0].ndim == 2 and name not in wish.types and not _all_binary(arrays)
    return bool(wish.types) or ((wish.from_file or wish.standardise) and not _all_binary(arrays))


def _all_binary(arrays: Sequence[Cells]) -> bool:
    return value_range(arrays)[1] == 1 and all(only(array, 0, 1) for array in arrays)


def _columns(array: Cells, where: str) -> RawTable:
    return table_from_array(array if array.ndim == 2 else array[:, None], where)


def image_field(
    arrays: Sequence[Cells], levels: float | None, binarise: Binarise | None
) -> tuple[Image, list[str]] | None:
    """The field of arrays [N, H, W], [N, C, H, W], [N, H, W, C] (up to 4 channels) or flat [N, D]; None if
    they are no images.

    Images are whole numbers 0..255 (levels 255; 1 if nothing is above 1) or numbers in [0, 1] (levels 1),
    unless `levels` is known.
    """
    shape = arrays[0].shape[1:]
    if len(shape) == 3 and min(shape[0], shape[2]) <= 4:
        event: tuple[int, ...] = shape if shape[0] <= 4 else (shape[2], *shape[:2])
    elif len(shape) <= 2:
        event = shape if len(shape) == 1 else (1, *shape)
    else:
        return None
    low, high = value_range(arrays)
    if levels is None and low >= 0 and high <= 255:
        whole = all(array.dtype.kind != "f" or bool((array == np.round(array)).all()) for array in arrays)
        levels = 1.0 if high <= 1 else 255.0 if whole else None
    if levels is None or low < 0 or high > levels:
        return None
    kind = "binary" if high > 0 and all(only(array, 0, levels) for array in arrays) else "number"
    image = Image(event, levels, binarise, kind)
    size = " x ".join(map(str, event))
    tone = "two-valued" if kind == "binary" else "grey" if event[0] == 1 else "values"
    how = {
        None: "scaled to [0, 1]" if levels != 1 else "left in [0, 1]",
        "threshold": "binarised at half",
        "dynamic": "binarised anew at each presentation",
    }[binarise]
    return image, [f"Images: {size}, {tone} 0..{levels:g}, {how}."]


def array_field(
    arrays: Sequence[Cells], kind: str | None, from_file: bool, codes: bool
) -> tuple[Array, list[str]]:
    """The field of arrays that are left as they are. `codes`: whole numbers [N] may be a category's codes.

    Without a `kind`, arrays of nothing but 0 and 1 are binary, and whole numbers [N] from 0, in a dict, a
    category.
    """
    first = arrays[0]
    low, high = value_range(arrays)
    whole = all(array.dtype.kind in "iub" for array in arrays)
    if kind is None and codes and first.ndim == 1 and whole and low >= 0:
        kind = "category"
    if kind == "category":
        return Array(first.shape[1:], "category", classes=int(high) + 1), [
            f"Category with codes 0 to {int(high)}."
        ]
    if kind is None:
        kind = "binary" if _all_binary(arrays) else "number"
    notes = []
    event = first.shape[1:]
    if not event:
        event = (1,)
        notes.append("A vector of N numbers is taken as N rows of one column, shape [N, 1].")
    double = first.dtype == np.float64 and not from_file
    dtype = "float64" if double or (whole and max(abs(low), abs(high)) > LARGEST_CODE) else "float32"
    notes.append(
        f"{'Binary values' if kind == 'binary' else 'Numbers'}, shape {list(event)}, left as they are."
    )
    return Array(event, kind, dtype=dtype), notes


def label_field(columns: Sequence[RawColumn]) -> LabelField:
    """The label's field: levels for text, whole numbers as they are, else real numbers."""
    name = columns[0].name
    numbers = [column.numbers for column in columns]
    if any(found is None for found in numbers):
        return LabelField(name, tuple(sorted({cell for column in columns for cell in column.text() if cell})))
    real = any(
        ((found != np.round(found)) & ~np.isnan(found)).any() for found in numbers if found is not None
    )
    return LabelField(name, real=bool(real))


def check_variable_types(types: Mapping[str, str], names: Sequence[str]) -> None:
    """Check types= given for the variables of a dict: known names, and kinds that an array has."""
    for name, kind in types.items():
        if name not in names:
            raise DataError(f"there is no variable {name!r}{did_you_mean(name, names)}")
        if kind not in ("number", "binary", "category"):
            raise UsageError(
                f"variable {name!r} is an array: its kind is number, binary or category, not {kind!r}"
            )


def with_missing(field: Field, values: Sequence[Value]) -> Field:
    """The field with its `missing` flags as these rows have holes."""
    if not isinstance(field, Table):
        return replace(
            field, missing=any(has_holes(value) for value in values if isinstance(value, np.ndarray))
        )
    tables = [value for value in values if isinstance(value, RawTable)]
    columns = tuple(
        replace(column, missing=any(not table.columns[column.name].observed.all() for table in tables))
        for column in field.columns
    )
    return replace(field, columns=columns)


def hole_notes(name: str, field: Field, values: Sequence[Value]) -> list[str]:
    """A sentence on how many cells are missing, and in which columns of a table."""
    if not field.missing:
        return []
    if isinstance(field, Table):
        tables = [value for value in values if isinstance(value, RawTable)]
        holes = {
            column.name: sum(int((~table.columns[column.name].observed).sum()) for table in tables)
            for column in field.columns
            if column.missing
        }
        where = "in " + shortened([f"{column} ({number:,})" for column, number in holes.items()])
        total, cells = sum(holes.values()), sum(len(table) for table in tables) * len(field.columns)
    else:
        arrays = [value for value in values if isinstance(value, np.ndarray)]
        total, cells = (
            sum(int(np.isnan(array).sum()) for array in arrays),
            sum(array.size for array in arrays),
        )
        never = int(np.isnan(np.concatenate(arrays)).all(0).sum())
        where = f"of {name}" + (f"; {counted(never, 'entry', 'entries')} in every row" if never else "")
    return [f"Missing: {counted(total, 'cell')} ({100 * total / cells:.3g} %) {where}; they become the mask."]


def constant_notes(field: Field, value: Value) -> list[str]:
    """A sentence on the entries of an array that are the same in every row."""
    if isinstance(field, Table) or isinstance(value, RawTable) or field.event == () or len(value) < 2:
        return []
    candidates = (value[:FEW] == value[0]).all(0)
    constant = int((value[:, candidates] == value[0, candidates]).all(0).sum())
    if not constant:
        return []
    total = int(np.prod(value.shape[1:], dtype=int))
    what = "pixels" if isinstance(field, Image) else "entries"
    return [f"Constant: {constant:,} of {total:,} {what} are the same in every row."]


def checked_arrays(arrays: Sequence[Cells], wheres: Sequence[str]) -> None:
    """DataError for text, infinity, and arrays of one variable whose rows have different shapes."""
    for array, where in zip(arrays, wheres, strict=True):
        if array.dtype.kind not in "fiub":
            raise DataError(f"{where} holds text; give codes 0, 1, ... in its place, or make it the label")
        if array.dtype.kind == "f" and not all_finite(array):
            refuse(array, np.isinf(array), where, "is not finite")
        if array.shape[1:] != arrays[0].shape[1:]:
            shape, expected = list(array.shape[1:]), list(arrays[0].shape[1:])
            raise DataError(f"{where} has rows of shape {shape}, {wheres[0]} of {expected}")


def observed_rows(value: Value, field: Field) -> Cells:
    """Which rows have at least one observed cell, bool [N]."""
    if isinstance(value, RawTable) and isinstance(field, Table):
        return np.asarray(np.any([value.columns[column.name].observed for column in field.columns], axis=0))
    if isinstance(value, np.ndarray) and has_holes(value):
        return np.asarray((~np.isnan(value)).reshape(len(value), -1).any(1))
    return np.ones(len(value), dtype=bool)


def has_holes(array: Cells) -> bool:
    return array.dtype.kind == "f" and not all_finite(array) and bool(np.isnan(array).any())


def value_range(arrays: Sequence[Cells]) -> tuple[float, float]:
    """The smallest and the largest observed value; (0, 0) where there is none."""
    seen = [array[~np.isnan(array)] if has_holes(array) else array for array in arrays]
    seen = [array for array in seen if array.size]
    if not seen:
        return 0.0, 0.0
    return float(min(array.min() for array in seen)), float(max(array.max() for array in seen))


def only(array: Cells, low: float, high: float) -> bool:
    """Whether every observed value is one of these two; most arrays show in a few rows that not."""
    for part in (array[:FEW], array):
        ends = (part == low) | (part == high)
        if not (ends | np.isnan(part) if array.dtype.kind == "f" else ends).all():
            return False
    return True
