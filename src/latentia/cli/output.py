"""What leaves the program: results on stdout, notes on stderr, files written whole or not at all."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._files import atomic_write
from ..data import Image
from ..errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ..data import Field

Cells = NDArray[Any]
Shown = Table | str | Text


def say(text: str = "", quiet: bool = False) -> None:
    """A note, on stderr."""
    if not quiet:
        print(text, file=sys.stderr)


def show(*things: Shown) -> None:
    """Results, on stdout: tables, lines that are never broken, and prose that a terminal breaks at words."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    for thing in things:
        whole = isinstance(thing, str) or (isinstance(thing, Text) and not console.is_terminal)
        console.print(thing, soft_wrap=whole)


def grid(first: str, *numbers: str, padding: int = 3) -> Table:
    """A table of a column of names and columns of numbers, by their headings."""
    table = Table(box=None, pad_edge=False, padding=(0, padding, 0, 0))
    table.add_column(first)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def facts(title: str, pairs: Iterable[tuple[str, str]]) -> Table:
    """A table of two columns: what, and how much."""
    table = Table(
        title=title or None,
        title_justify="left",
        show_header=False,
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, value)
    return table


def ending(path: Path, allowed: Sequence[str]) -> str:
    """The ending of a file's name. Raises UsageError for one that is not among `allowed`."""
    found = path.suffix.lower()
    if found not in allowed:
        raise UsageError(f"--out {path}: the name must end in {' or '.join(allowed)}")
    return found


def write(path: Path, content: bytes) -> None:
    """Write a file atomically, making its folder if need be, and say where it is."""
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder: name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content)
    say(f"wrote {path}")


def csv_text(columns: Mapping[str, Cells]) -> str:
    """Columns of equal length as CSV; numbers with the digits that their type holds, holes empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(map(cell, column.tolist()) for column in columns.values()), strict=True))
    return text.getvalue()


def cell(value: Any) -> str:
    """One cell of a CSV file: seven digits of a number, which is what a float32 knows; nothing for a hole."""
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else f"{value:.7g}"


def npz_bytes(arrays: Mapping[str, Cells]) -> bytes:
    """An NPZ file of arrays, compressed."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def npy_bytes(array: Cells) -> bytes:
    """An NPY file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def as_array(value: Tensor) -> Cells:
    """A tensor as a numpy array."""
    array: Cells = value.detach().cpu().numpy()
    return array


def picture(images: Cells, field: Field | None, columns: int | None = None, gap: int = 2) -> bytes:
    """A PNG of images `[N, C, H, W]` in a grid, small ones enlarged by whole factors.

    Intensities run from 0 to the field's levels; to what is there where the field does not say. Raises
    UsageError where the values are no images, or pillow is not installed.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UsageError(f"values of shape {list(images.shape[1:])} are no pictures: write .csv or .npz")
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise UsageError('writing PNG needs pillow: pip install "latentia[image]"') from error
    low, high = float(images.min()), float(images.max())
    if isinstance(field, Image):
        low, high = 0.0, 1.0 if field.binarise is not None else field.levels
    count, channels, height, width = images.shape
    across = columns or math.ceil(math.sqrt(count))
    factor = max(1, 56 // max(height, width))
    scaled = np.clip((images - low) / max(high - low, 1e-12), 0, 1) * 255
    pixels = np.round(scaled).astype(np.uint8).repeat(factor, 2).repeat(factor, 3)
    height, width = height * factor + gap, width * factor + gap
    grid = np.full((math.ceil(count / across) * height + gap, across * width + gap, channels), 128, np.uint8)
    for i, one in enumerate(pixels):
        top, left = i // across * height + gap, i % across * width + gap
        grid[top : top + height - gap, left : left + width - gap] = one.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Pillow.fromarray(grid[:, :, 0] if channels == 1 else grid).save(buffer, "PNG")
    return buffer.getvalue()
