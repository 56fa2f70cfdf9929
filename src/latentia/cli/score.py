"""latentia score RUN [DATA]: how probable each row is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from .options import OtherData, RowOptions, RunFolder, RunOptions, flag

EXAMPLES = """\
Examples:

  latentia score runs/digits --out scores.csv
  latentia score runs/houses new_houses.csv --samples 5000 --out odd_houses.csv"""


def run(
    folder: RunFolder,
    data: OtherData = None,
    /,
    *,
    out: Annotated[Path | None, flag("A name ending in .csv.", "CSV on stdout", metavar="FILE")] = None,
    method: Annotated[
        Literal["exact", "elbo", "importance", "naive", "ais"] | None,
        flag("How log p(x) is told or bounded.", "exact where the posterior is, else importance"),
    ] = None,
    samples: Annotated[
        int | None, flag("Draws a row; of ais, chains.", "1000; elbo: 100; ais: 16", metavar="K")
    ] = None,
    seed: Annotated[int, flag("Of the noise.", "0")] = 0,
    row_options: RowOptions = RowOptions(),  # noqa: B008 (frozen)
    run_options: RunOptions = RunOptions(),  # noqa: B008
) -> None:
    """Write log p(x) of each row.

    A line holds the row's number in its source (counted from 0) and log_evidence: log p(x) in nats and in
    the data's own units, exact where the posterior is (mixtures, ppca, ...). Elsewhere it is L_K, a lower
    bound by importance sampling (or what --method says, all of them lower bounds), with its Monte Carlo
    error beside it, mc_error. The lowest are the oddest rows.
    """
    import sys

    from .output import as_array, csv_text, ending, say, write
    from .plan import by_method
    from .runs import choose, open_run

    if out is not None:
        ending(out, (".csv",))
    opened = open_run(folder, run_options, data)
    opened.model.require_density()
    chosen = choose(opened, data, row_options.split, row_options.key, row_options.rows)
    found = by_method(opened.model, chosen.rows, method, samples, seed=seed)
    columns = {"row": chosen.rows.rows, "log_evidence": found.values}
    if found.direction != "exact":
        columns["mc_error"] = found.mc_errors
    text = csv_text({name: as_array(value) for name, value in columns.items()})
    if out is None:
        sys.stdout.write(text)
    else:
        write(out, text.encode())
    say(f"{chosen}: {found}")
