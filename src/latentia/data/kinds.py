"""The kinds of a table's columns: inferred by stated rules, or as the user says.

The rules, for a column's observed cells in all the rows given:

    number      every cell is a number, and nothing below applies
    binary      numbers, both 0 and 1 and nothing else; or text with two values
    count       whole numbers from 0 to at most 20, 0 among them, at least four different ones, each five
                times on average
    category    other text
    ignored     nothing observed; text that is the same in every row; an identifier: whole numbers or text
                named like one (id, index, key, ..._id, ...Id) and mostly different, whole numbers that run
                on without gap or repeat (from 20 rows), or text that never repeats; free text and codes:
                text with more than 20 values, more than half of the cells different

Two rules look at the table as a whole: when every column is made of zeros and ones, all are binary (constant
columns too); and when all columns, 16 or more, hold whole numbers from 0, they are taken as one measurement
on a grid (pixels, words), all of them numbers. Ignored columns do not count in these two rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from .._words import counted, did_you_mean, shortened
from ..errors import DataError, UsageError
from .raw import RawColumn, RawTable, is_number, text_array, write_number
from .table import COLUMN_KINDS, Column, Table

LARGEST_COUNT = 20
GRID = 16
IDENTIFIER = re.compile(
    r"(?i:^(id|index|key|uuid|guid|rowid|unnamed_0|unnamed: 0)$|[_\-. ](id|uuid|guid)$)|[a-z0-9](Id|ID)$"
)


def parse_types(types: Mapping[str, str] | str | None) -> dict[str, str]:
    """{"age": "number"} from that, or from "age=number,id=ignored"; UsageError for a kind that is none."""
    if types is None:
        return {}
    if isinstance(types, str):
        pairs = [item.rpartition("=") for item in types.split(",") if item.strip()]
        if any(not separator for _, separator, _ in pairs):
            raise UsageError(f"types are given as 'column=kind,column=kind', got {types!r}")
        types = {name.strip(): kind.strip() for name, _, kind in pairs}
    allowed = (*COLUMN_KINDS, "ignored")
    for name, kind in types.items():
        if kind not in allowed:
            raise UsageError(
                f"column {name!r} cannot be of kind {kind!r}: the kinds are {', '.join(allowed)}"
                f"{did_you_mean(str(kind), allowed)}"
            )
    return dict(types)


def infer_table(
    tables: Sequence[RawTable], types: Mapping[str, str], all_numbers: bool = False
) -> tuple[Table, dict[str, str]]:
    """The kept columns with kinds and levels (nothing scaled yet), and {name: why} for those left out.

    The tables are the files of one data set; the first says which columns there are. Raises DataError for a
    column that `types` does not find ("did you mean"), for cells that do not fit a promised kind, and when
    nothing is left.
    """
    joined = joined_table(tables)
    for name in types:
        if name not in joined.columns:
            raise DataError(f"{joined.where} has no column {name!r}{did_you_mean(name, joined.columns)}")
    inferred = {name: infer_kind(column) for name, column in joined.columns.items() if name not in types}
    if all_numbers:
        shared: str | None = "number"
    else:
        shared = _shared_kind(
            [joined.columns[name] for name, (kind, _) in inferred.items() if kind != "ignored"]
        )
    kept, left_out = [], {}
    for name, column in joined.columns.items():
        kind, reason = inferred.get(name, (types.get(name), "as asked"))
        if kind == "ignored":
            left_out[name] = reason
        else:
            kept.append(_column(shared if shared and name in inferred else str(kind), column, joined.where))
    if not kept:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise DataError(f"no column of {joined.where} is left to model ({reasons}); say otherwise with types")
    return Table(tuple(kept), tuple(left_out)), left_out


def infer_kind(column: RawColumn) -> tuple[str, str]:
    """One column's kind by the rules above; for "ignored", why."""
    if not column.observed.any():
        return "ignored", "every cell is missing"
    numbers = column.numbers
    if numbers is None:
        return _text_kind(column)
    seen = numbers[~np.isnan(numbers)]
    values, repeats = np.unique(seen, return_counts=True)
    if set(values.tolist()) == {0.0, 1.0}:
        return "binary", ""
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        return "number", ""
    if IDENTIFIER.search(column.name) and len(values) > len(seen) / 2:
        return "ignored", "an identifier, by its name"
    if len(seen) >= 20 and len(values) == len(seen) == values[-1] - values[0] + 1:
        return (
            "ignored",
            f"an identifier, {write_number(values[0])} to {write_number(values[-1])} without a repeat",
        )
    if values[0] == 0 and values[-1] <= LARGEST_COUNT and len(values) >= 4 and repeats.mean() >= 5:
        return "count", ""
    return "number", ""


def _text_kind(column: RawColumn) -> tuple[str, str]:
    cells = column.cells[column.observed].tolist()
    values = set(cells)
    different = f"{len(values):,} different values in {counted(len(cells), 'cell')}"
    if len(values) == 1:
        return "ignored", f"{cells[0]!r} in every row"
    if len(values) == 2:
        return "binary", ""
    if len(values) == len(cells) or (len(values) > 20 and len(values) > len(cells) / 2):
        strays = [cell for cell in cells if not is_number(cell)]
        if len(strays) < len(cells) / 2:
            return (
                "ignored",
                f"{counted(len(strays), 'cell')} of {len(cells):,} no number, the first {strays[0]!r:.40}",
            )
        if IDENTIFIER.search(column.name) or sum(map(len, cells)) / len(cells) <= 20:
            return "ignored", f"an identifier, {different}"
        return "ignored", f"free text, {different}"
    if IDENTIFIER.search(column.name) and len(values) > len(cells) / 2:
        return "ignored", "an identifier, by its name"
    return "category", ""


def _shared_kind(columns: Sequence[RawColumn]) -> str | None:
    """The kind that the rules for a whole table give to every column, or None."""
    lows, highs = [], []
    for column in columns:
        numbers = column.numbers
        if numbers is None:
            return None
        seen = numbers[~np.isnan(numbers)]
        if not np.isfinite(seen).all() or (seen < 0).any() or (seen != np.round(seen)).any():
            return None
        lows.append(seen.min())
        highs.append(seen.max())
    if columns and max(highs) == 1 and min(lows) == 0:
        return "binary"
    return "number" if len(columns) >= GRID else None


def _column(kind: str, column: RawColumn, where: str) -> Column:
    """The column with its levels, where the kind has them; whether every cell fits is checked when rows are
    encoded.
    """
    if kind == "category" or (kind == "binary" and not _zeros_and_ones(column)):
        levels = levels_of(column)
        if not levels:
            raise DataError(f"column {column.name!r} of {where} has no observed cell to take its values from")
        if kind == "binary" and len(levels) > 2:
            listed = shortened([str(level) for level in levels], 5)
            found = f"{len(levels):,} values: {listed}"
            raise DataError(f"column {column.name!r} of {where} was said to be binary and has {found}")
        return Column(column.name, kind, levels=levels)
    return Column(column.name, kind)


def levels_of(column: RawColumn) -> tuple[str, ...] | tuple[float, ...]:
    """The column's different values, sorted: as numbers if every cell is one, else as text."""
    numbers = column.numbers
    if numbers is None:
        return tuple(sorted(set(column.cells[column.observed].tolist())))
    return tuple(np.unique(numbers[~np.isnan(numbers)]).tolist())


def _zeros_and_ones(column: RawColumn) -> bool:
    numbers = column.numbers
    return numbers is not None and bool((np.isnan(numbers) | (numbers == 0) | (numbers == 1)).all())


def joined_table(tables: Sequence[RawTable]) -> RawTable:
    """The rows of several tables under each other, in the first one's columns; DataError for a column that
    one lacks.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    columns = {}
    for name in first.columns:
        parts = []
        for table in tables:
            if name not in table.columns:
                hint = did_you_mean(name, table.columns)
                raise DataError(f"{table.where} lacks column {name!r}, which {first.where} has{hint}")
            parts.append(table.columns[name])
        if any(part.is_text for part in parts):
            cells = text_array(cell for part in parts for cell in part.text())
        else:
            cells = np.concatenate([part.cells for part in parts])
        columns[name] = RawColumn(name, cells)
    return RawTable(columns, " and ".join(table.where for table in tables))


def describe(table: Table, left_out: Mapping[str, str]) -> list[str]:
    """Sentences that name the columns by kind, and those left out with the reason."""
    parts = []
    for kind in COLUMN_KINDS:
        names = [
            f"{c.name} ({len(c.levels)} levels)" if c.kind == "category" and c.levels else c.name
            for c in table.columns
            if c.kind == kind
        ]
        if names:
            plural = "categories" if kind == "category" else "binaries" if kind == "binary" else None
            parts.append(f"{counted(len(names), kind, plural)}: {shortened(names)}")
    notes = ["Columns: " + "; ".join(parts) + "."]
    if left_out:
        reasons = [f"{name} ({reason})" for name, reason in left_out.items()]
        notes.append(f"Left out: {shortened(reasons)}.")
    return notes
