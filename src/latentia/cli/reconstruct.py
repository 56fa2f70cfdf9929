"""latentia reconstruct RUN [DATA]: rows, encoded and decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .options import OtherData, RowOptions, RunFolder, RunOptions, flag

EXAMPLES = """\
Examples:

  latentia reconstruct runs/digits --out pairs.png
  latentia reconstruct runs/houses new_houses.csv --out cleaned.csv"""

PAIRS = 16  # pictures in a line


def run(
    folder: RunFolder,
    data: OtherData = None,
    /,
    *,
    out: Annotated[
        Path | None,
        flag(
            "A name ending in .png (each line of inputs above its reconstructions), .npz (both) or .csv.",
            "CSV on stdout",
            metavar="FILE",
        ),
    ] = None,
    row_options: RowOptions = RowOptions(),  # noqa: B008 (frozen)
    run_options: RunOptions = RunOptions(),  # noqa: B008
) -> None:
    """Encode rows and decode them.

    Writes the mean of p(x | z) at the mean of q(z | x) for each row (of a mixture, at the most probable
    component), in the data's own columns, order and units.
    """
    from .codes import point_of
    from .output import ending, say
    from .runs import choose, open_run
    from .values import deliver, model_values

    kind = ".csv" if out is None else ending(out, (".png", ".npz", ".csv"))
    opened = open_run(folder, run_options, data)
    limit = row_options.rows or (4 * PAIRS if kind == ".png" else None)
    chosen = choose(opened, data, row_options.split, row_options.key, limit)
    model = opened.model
    inputs = {name: value for name, value in chosen.rows.batch().items() if name in model.observed}
    outputs = model_values(model).reconstruct(chosen.rows)
    deliver(out, kind, model, {"input": inputs, "reconstruction": outputs}, chosen.rows, PAIRS)
    say(f"{chosen}: the mean of {point_of(model)}")
