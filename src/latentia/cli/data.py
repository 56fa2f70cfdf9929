"""latentia data: the named data sets."""

from __future__ import annotations

EXAMPLES = """\
Examples:

  latentia fit wine
  LATENTIA_DATA=~/data latentia fit fashion_mnist --conv"""


def run() -> None:
    """List the named data sets, and where files are looked for."""
    from rich.table import Table

    from ..data import list_data
    from .output import facts, show

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("name", "what", "rows", ""):
        table.add_column(heading, no_wrap=heading in ("name", ""))
    sets = list_data()
    for one in sets:
        state = "embedded" if one.places == "embedded" else "found" if one.found else "not here"
        table.add_row(one.name, one.what, one.shape, state)
    show(table)
    absent = [(one.name, f"looked for as {one.places}") for one in sets if not one.found]
    if absent:
        show("", facts("", absent))
    show(
        "",
        "Or a path: .csv or .tsv (also .gz), .parquet, .npy, .npz, IDX, a folder of pictures.",
    )
