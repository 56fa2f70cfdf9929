"""CSV files: a table of text cells, each row with its line in the file."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np

from .._words import counted
from ..errors import DataError
from .raw import MISSING, RawTable, is_number, text_column

DELIMITERS = (",", ";", "\t")


def read_csv(path: Path) -> tuple[RawTable, list[str]]:
    """The table in a CSV file, and what a person should be told about how it was read.

    The file is UTF-8 text, gzip-compressed if its name ends in .gz. The delimiter is the comma, semicolon or
    tab that is most frequent in the first line. A first line of nothing but numbers is a row, and the columns
    are then called x0, x1, ... Blank lines are skipped, except inside a file of one column, where they are
    holes.

    Raises DataError for an empty file, a header alone, rows of different lengths, a name that occurs twice,
    and for a file that is not text.
    """
    rows, lines = _split(_text(path), path)
    if not rows:
        raise DataError(f"{path} is empty")
    first = [cell.strip() for cell in rows[0]]
    notes = []
    if any(cell not in MISSING for cell in first) and all(
        cell in MISSING or is_number(cell) for cell in first
    ):
        names = [f"x{j}" for j in range(len(first))]
        notes.append(f"{path.name} has no header; its columns are called {names[0]} to {names[-1]}.")
    else:
        names = [cell or f"unnamed_{j}" for j, cell in enumerate(first)]
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise DataError(f"{path} has a header and no rows")
    twice = next((name for j, name in enumerate(names) if name in names[:j]), None)
    if twice is not None:
        raise DataError(f"{path} has more than one column called {twice!r}; give each its own name")
    ragged = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if ragged is not None:
        raise DataError(
            f"row {lines[ragged]} of {path} has {counted(len(rows[ragged]), 'cell')}, "
            f"where {counted(len(names), 'column')} were expected"
        )
    cells = zip(*rows, strict=True)
    columns = {name: text_column(name, column) for name, column in zip(names, cells, strict=True)}
    counted_how = "the file's first line is row 1"
    return RawTable(columns, path.name, np.array(lines, dtype=np.int64), counted_how), notes


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _split(text: str, path: Path) -> tuple[list[list[str]], list[int]]:
    """The rows of cells and the line on which each ends."""
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows, lines = [], []
    try:
        for row in reader:
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: line {reader.line_num}: {error}") from error
    while rows and not rows[-1]:
        del rows[-1], lines[-1]
    one_column = bool(rows) and len(rows[0]) == 1
    kept = [(row or [""], line) for row, line in zip(rows, lines, strict=True) if row or one_column]
    return [row for row, _ in kept], [line for _, line in kept]
