"""latentia plot RUN: pictures and a report."""

from __future__ import annotations

from typing import Annotated

from .evidence_options import Count, counted_flag
from .options import RunFolder, RunOptions

EXAMPLES = """\
Examples:

  latentia plot runs/digits
  latentia plot runs/digits --calibration 500"""


def run(
    folder: RunFolder,
    /,
    *,
    calibration: Annotated[
        Count,
        counted_flag(
            "Also whether q is the model's own posterior: ranks of simulated z among draws of q, in so many "
            "simulations (2000). It stands in RUN/plots only.",
            "NUMBER",
        ),
    ] = False,
    run_options: RunOptions = RunOptions(),  # noqa: B008 (frozen)
) -> None:
    """Draw the run, and write its report.

    RUN/plots gets loss and terms, reconstructions, samples, the latent plane, KL per dimension, the
    aggregated posterior over the prior and the graph. RUN/report.html holds them all with the numbers, in one
    file.
    """
    from ..errors import UsageError
    from .output import show
    from .plan import number
    from .runs import open_run

    simulations = number(calibration, 2000, "--calibration", 100)
    opened = open_run(folder, run_options)
    if opened.run is None:
        raise UsageError(f"{folder} is a model folder: pictures are of runs")
    from ..plots import CalibrationDisplay, DoesNotApply, plot_run
    from ..report import write_report

    data = opened.data()
    written = [*plot_run(opened.run, opened.model, data), write_report(opened.run, opened.model, data)]
    if simulations is not None:
        try:
            display = CalibrationDisplay.from_model(opened.model, simulations=simulations)
        except DoesNotApply as reason:
            raise UsageError(f"--calibration: {reason}") from reason
        written.append(display.save(opened.run / "plots" / "calibration.png"))
    show(*(str(path) for path in written))
