"""latentia embed RUN [DATA]: the code of each row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from .options import OtherData, RowOptions, RunFolder, RunOptions, flag

if TYPE_CHECKING:
    from torch import Tensor

    from ..model import Model

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

    It is the mean of q(z | x), beside the row's number in its source (counted from 0) and its label. Of a
    mixture, columns k=0, k=1, ... hold the responsibilities p(k | x). An upper layer of latents has its mean
    given the means of the layers before it.
    """
    import sys

    import numpy as np

    from .codes import names_of, posterior_codes
    from .output import Cells, as_array, csv_text, ending, npy_bytes, npz_bytes, say, write
    from .runs import choose, open_run
    from .values import beside_rows

    kind = ".csv" if out is None else ending(out, (".csv", ".npz", ".npy"))
    opened = open_run(folder, run_options, data)
    chosen = choose(opened, data, row_options.split, row_options.key, row_options.rows)
    codes = posterior_codes(opened.model, chosen.rows)
    flat = {name: as_array(code).reshape(len(code), -1) for name, code in codes.items()}
    if kind == ".npz":
        arrays = {name: as_array(code) for name, code in codes.items()}
        write(out or Path(), npz_bytes({**beside_rows(chosen.rows), **arrays}))
    elif kind == ".npy":
        write(out or Path(), npy_bytes(np.concatenate(list(flat.values()), axis=1)))
    else:
        columns: dict[str, Cells] = beside_rows(chosen.rows)
        for name, code in codes.items():
            columns |= dict(zip(names_of(opened.model, name, code), flat[name].T, strict=True))
        text = csv_text(columns)
        if out is None:
            sys.stdout.write(text)
        else:
            write(out, text.encode())
    say(f"{chosen}: {described(opened.model, codes)}")


def described(model: Model, codes: Mapping[str, Tensor]) -> str:
    """What the codes are."""
    from .codes import centres_of, names_of

    discrete = [name for name, code in codes.items() if "=" in names_of(model, name, code)[0]]
    parts = [f"the posterior probabilities of {' and '.join(discrete)}"] if discrete else []
    centres, mean_field = centres_of(model, [name for name in codes if name not in discrete], "the means")
    return " and ".join([*parts, *centres]) + mean_field
