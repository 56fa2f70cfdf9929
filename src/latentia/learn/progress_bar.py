"""The progress bar of a fit: bound, terms, examples per second and time left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .ascent import Record


class Teller(Protocol):
    """Told of every step and its records."""

    def __call__(self, step: int, records: list[Record]) -> None: ...


@contextmanager
def progress_bar(steps: int, start: int, show: bool) -> Iterator[Teller]:
    """A bar on stderr while the block runs, where that is a terminal."""
    if not show or not sys.stderr.isatty():
        yield lambda step, records: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # the numbers give way, never the time left
    columns = (
        BarColumn(bar_width=12),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[text]}", table_column=rest),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, refresh_per_second=5, expand=True) as bar:
        task = bar.add_task("fit", total=steps, completed=start, text="")
        told = {"valid": "", "train": ""}

        def tell(step: int, records: list[Record]) -> None:
            for record in records:
                told[record["split"]] = describe(record)
            if records:
                bar.update(task, completed=step, text=" | ".join(text for text in told.values() if text))

        yield tell


def describe(record: dict[str, Any]) -> str:
    """A record in one line, nats per example: of a validation the bound alone."""
    if record["split"] == "valid":
        return f"valid {record['bound']:.3f}"
    terms = ", ".join(f"{name} {value:.2f}" for name, value in record["terms"].items())
    speed = f", {record['examples_per_second']:,.0f} examples/s" if "examples_per_second" in record else ""
    return f"{record['split']} {record['bound']:.3f} nats{f' ({terms})' if terms else ''}{speed}"
