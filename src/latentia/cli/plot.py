"""latentia plot RUN: pictures and a report."""

from __future__ import annotations

from .options import RunFolder, RunOptions

EXAMPLES = """\
Examples:

  latentia plot runs/digits"""


def run(
    folder: RunFolder,
    /,
    *,
    run_options: RunOptions = RunOptions(),  # noqa: B008 (frozen)
) -> None:
    """Draw the run, and write its report.

    RUN/plots gets loss and terms, reconstructions, samples, the latent plane, KL per dimension and the
    graph. RUN/report.html holds them all with the numbers, in one file.
    """
    from ..errors import UsageError
    from .output import show
    from .runs import open_run

    opened = open_run(folder, run_options)
    if opened.run is None:
        raise UsageError(f"{folder} is a model folder: pictures are of runs")
    from ..plots import plot_run
    from ..report import write_report

    data = opened.data()
    written = [*plot_run(opened.run, opened.model, data), write_report(opened.run, opened.model, data)]
    show(*(str(path) for path in written))
