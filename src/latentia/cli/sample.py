"""latentia sample RUN: new rows drawn from the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .options import RunFolder, RunOptions, flag

EXAMPLES = """\
Examples:

  latentia sample runs/digits -n 64 --out new_digits.png
  latentia sample runs/houses -n 1000 --seed 7 --out new_houses.csv"""


def run(
    folder: RunFolder,
    /,
    *,
    number: Annotated[int, Parameter(name=["-n", "--number"], help="How many.")] = 64,
    out: Annotated[
        Path | None,
        flag(
            "A name ending in .png (pictures), .npz (arrays) or .csv (rows).", "CSV on stdout", metavar="FILE"
        ),
    ] = None,
    mean: Annotated[
        bool | None,
        Parameter(
            help="The mean of p(x | z) at each drawn z, or a draw of x as well.",
            negative="--draw",
            show_default="--mean for .png, else --draw",
        ),
    ] = None,
    seed: Annotated[int, flag("Of the draws.", "0")] = 0,
    run_options: RunOptions = RunOptions(),  # noqa: B008 (frozen)
) -> None:
    """Draw new rows.

    z is drawn from p(z), then x from p(x | z), in the data's own columns, order and units.
    """
    from ..errors import UsageError
    from .codes import parents_of_data
    from .output import ending, say
    from .runs import open_run
    from .values import deliver, model_values

    kind = ".csv" if out is None else ending(out, (".png", ".npz", ".csv"))
    model = open_run(folder, run_options).model
    if model.p.inputs:
        raise UsageError(
            f"{model.p.equation()} says nothing of {', '.join(model.p.inputs)}, so there is nothing to draw "
            f"from: such a model reconstructs and embeds"
        )
    mean = kind == ".png" if mean is None else mean
    values = model_values(model).sample(number, seed=seed, mean=mean)
    deliver(out, kind, model, {"sample": values})
    latent, parents = ", ".join(model.latent), ", ".join(parents_of_data(model))
    drawn = f"draws of {latent} and x" if latent else "draws of x"
    means = f"means of p(x | {parents}) at drawn {parents}" if parents else "times the mean of p(x)"
    say(f"{number:,} {means if mean else drawn}, seed {seed}")
