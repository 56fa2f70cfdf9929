"""latentia impute RUN DATA: rows with their holes filled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .options import RunFolder, RunOptions, flag

EXAMPLES = """\
Examples:

  latentia impute runs/houses houses.csv --out filled.csv
  latentia impute runs/houses houses.csv --draws 20 --out twenty_times.csv"""


def run(
    folder: RunFolder,
    data: Annotated[str, Parameter(name="DATA", help="The rows, a name or a path: all are written.")],
    /,
    *,
    out: Annotated[
        Path | None, flag("A name ending in .csv, .npz or .npy.", "CSV on stdout", metavar="FILE")
    ] = None,
    draws: Annotated[int | None, flag("Draw what is missing N times.", "its mean", metavar="N")] = None,
    seed: Annotated[int, flag("Of the draws.", "0")] = 0,
    key: Annotated[str | None, flag("Which array of an NPZ file.", metavar="NAME")] = None,
    run_options: RunOptions = RunOptions(),  # noqa: B008 (frozen)
) -> None:
    """Fill in what is missing, given what is observed in the same row.

    A missing number becomes its mean given the rest of its row, a count that mean rounded, a category the
    most probable one: exactly under the model, which is a mixture, PPCA, factor analysis or log-linear.
    With --draws N the missing cells are drawn N times (multiple imputation); a first column counts the
    draws. All else is written as it stands in DATA: its columns, their order, every cell that was there.
    """
    import sys

    from .._holes import read_with_holes
    from .._words import counted, shortened
    from ..conditional import fill_holes, require_exact
    from ..data.readers import read_for
    from ..errors import UsageError
    from .build import located
    from .filled import account_of, filled_columns
    from .output import as_array, csv_text, ending, npy_bytes, npz_bytes, say, write
    from .runs import open_run

    kind = ".csv" if out is None else ending(out, (".csv", ".npz", ".npy"))
    model = open_run(folder, run_options, data).model
    require_exact(model, "impute")
    if model.schema is None:
        raise UsageError("this model has no schema to read files by: use it in Python")
    source = located(data)
    holed = read_with_holes(model, source, key)
    filled = fill_holes(holed, draws, seed)
    written: list[str] = []
    if kind == ".npz":
        write(out or Path(), npz_bytes({name: as_array(value) for name, value in filled.items()}))
    elif kind == ".npy":
        write(out or Path(), npy_bytes(as_array(filled[model.schema.main])))
    else:
        columns = filled_columns(holed, filled, read_for(model.schema.fields, source, key))
        written = list(columns)
        if out is None:
            sys.stdout.write(csv_text(columns))
        else:
            write(out, csv_text(columns).encode())
    say(f"{Path(data).name}, {counted(len(holed.rows), 'row')}: {account_of(holed, draws)}")
    own = getattr(model.schema.fields[model.schema.main], "names", written)
    left = [name for name in written if name not in (*own, "draw")]
    if left:
        say(f"Not modelled, and left as they are: {shortened(left)}")
