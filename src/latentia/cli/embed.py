"""latentia embed RUN [DATA]: the code of each row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .options import OtherData, RowOptions, RunFolder, RunOptions, flag

EXAMPLES = """\
Examples:

  latentia embed runs/digits --out codes.csv
  latentia embed runs/digits digits --out all_codes.npz
  latentia embed runs/houses new_houses.csv > codes.csv"""


def run(
    folder: RunFolder,
    data: OtherData = None,
    /,
    *,
    out: Annotated[
        Path | None,
        flag("A name ending in .csv, .npz or .npy (the codes alone).", "CSV on stdout", metavar="FILE"),
    ] = None,
    row_options: RowOptions = RowOptions(),  # noqa: B008 (frozen)
    run_options: RunOptions = RunOptions(),  # noqa: B008
) -> None:
    """Write the code of each row.

    It is the mean of q(z | x), beside the row's number in its source (counted from 0) and its label.
    """
    import sys

    import numpy as np

    from .output import Cells, as_array, csv_text, ending, npy_bytes, npz_bytes, say, write
    from .runs import choose, open_run
    from .values import beside_rows

    kind = ".csv" if out is None else ending(out, (".csv", ".npz", ".npy"))
    opened = open_run(folder, run_options, data)
    chosen = choose(opened, data, row_options.split, row_options.key, row_options.rows)
    found = opened.model.encode(chosen.rows)
    codes = found if isinstance(found, dict) else {next(iter(opened.model.latent or ("z",))): found}
    if kind == ".npz":
        arrays = {name: as_array(code) for name, code in codes.items()}
        write(out or Path(), npz_bytes({**beside_rows(chosen.rows), **arrays}))
    elif kind == ".npy":
        flat = [as_array(code).reshape(len(code), -1) for code in codes.values()]
        write(out or Path(), npy_bytes(np.concatenate(flat, axis=1)))
    else:
        columns: dict[str, Cells] = beside_rows(chosen.rows)
        for name, code in codes.items():
            flat_code = as_array(code).reshape(len(code), -1)
            columns |= {f"{name}{j}": flat_code[:, j] for j in range(flat_code.shape[1])}
        text = csv_text(columns)
        if out is None:
            sys.stdout.write(text)
        else:
            write(out, text.encode())
    say(f"{chosen}: the means of q(z | x)")
