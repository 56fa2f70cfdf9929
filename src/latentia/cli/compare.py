"""latentia compare DATA: which model makes new rows the most probable, and how sure is that?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from .options import DataOptions, Switch, flag

if TYPE_CHECKING:
    from rich.table import Table

    from ..comparison import Comparison

EXAMPLES = """\
Examples:

  latentia compare wine
  latentia compare digits --models gaussian_mixture,ppca:latent=20,vae:latent=16 --seconds 60
  latentia compare votes.csv --models bernoulli_mixture:components=5:starts=3,vae:lr=0.003 --updates 2000
  latentia compare digits --runs runs/digits runs/wide --models ppca:latent=10
  latentia compare wine --models factor_analysis:latent=3,vae:latent=3 --method ais
  latentia compare iris --json > numbers.json

A model's options are those of latentia fit, each after a colon."""

COMPARE = Group("Models and budget", sort_key=1)
MINUTES = 2.0
MANY = 2_000_000  # draws that take long enough to be announced
FILES = (".png", ".svg", ".pdf", ".json", ".txt", ".tsv", ".toml")


def run(
    data: Annotated[str, Parameter(help="A name that `latentia data` lists, or a path, as in latentia fit.")],
    /,
    *,
    models: Annotated[
        str | None,
        Parameter(
            help="Which models, as NAME or NAME:OPTION=VALUE:..., or module:function of your own.",
            show_default="those that fit the columns, or none beside --runs",
            group=COMPARE,
            metavar="NAME,NAME",
        ),
    ] = None,
    runs: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Run folders to evaluate beside them, fitted to the same split of DATA.",
            consume_multiple=True,
            negative="",
            show_default=False,
            group=COMPARE,
            metavar="RUN",
        ),
    ] = (),
    minutes: Annotated[
        float | None,
        Parameter(help="Time for all fits, in equal shares.", show_default="2", group=COMPARE),
    ] = None,
    seconds: Annotated[
        float | None, Parameter(help="Or time for each fit.", show_default=False, group=COMPARE)
    ] = None,
    updates: Annotated[
        int | None,
        Parameter(
            help="Or gradient steps, iterations of EM, for each fit.", show_default=False, group=COMPARE
        ),
    ] = None,
    seeds: Annotated[int, Parameter(help="How many seeds each model is fitted with.", group=COMPARE)] = 3,
    method: Annotated[
        Literal["importance", "ais", "elbo", "naive"],
        Parameter(
            help="How log p(x) is bounded where it is not exact, as in latentia evaluate.", group=COMPARE
        ),
    ] = "importance",
    samples: Annotated[
        int | None,
        Parameter(
            help="Draws a row where the evidence is not exact, K of L_K; of annealing, chains.",
            show_default="1000; 16 of ais, 100 of elbo",
            group=COMPARE,
            metavar="K",
        ),
    ] = None,
    split_seed: Annotated[
        int, Parameter(help="Of the split into training and test rows.", group=COMPARE)
    ] = 0,
    data_options: DataOptions = DataOptions(),  # noqa: B008 (frozen)
    out: Annotated[
        Path | None,
        flag("A folder for comparison.csv and .png, or a name.csv.", "runs/DATA-comparison", metavar="PATH"),
    ] = None,
    as_json: Annotated[Switch, Parameter(name="--json", help="The numbers as JSON.")] = False,
    quiet: Annotated[Switch, Parameter(help="No notes and no progress.")] = False,
) -> None:
    """Compare models by the evidence of rows that none has seen.

    Each model is fitted to the same training rows with the same budget, at each seed. The table shows the
    mean log p(x) of the same test rows, in nats per row and the data's own units: exact where the posterior
    is, a lower bound (≥) elsewhere, which is marked and proves no order. Differences to the best one have
    paired standard errors. The last line names the best model and says whether it may be chance.

    A model that fails is listed with the reason, and the others go on. Runs of data that were read in
    another way (other columns, another binarisation) are refused: their numbers are of something else.
    """
    import json
    import sys

    from ..comparison import compare, suited_models
    from ..errors import UsageError
    from ..evidence.methods import METHODS, evaluations_of
    from .build import data_from, located
    from .contestants import contestants, parsed
    from .output import say, show
    from .settings import from_flags, merged

    target = _target(data, out)
    budget = {"minutes": minutes, "seconds": seconds, "updates": updates}
    given = [name for name, number in budget.items() if number is not None]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} are both budgets: say one of them")
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {seeds}")
    specs = None if models is None else parsed(models)
    settings = merged(from_flags(data=data_options), {"data": {"source": data}})
    for name in ("source", "valid", "test"):
        if name in settings["data"]:
            settings["data"][name] = located(settings["data"][name])
    read = data_from(settings, split_seed)
    say("\n".join([f"Data: {read.name}", *(f"  {note}" for note in read.notes)]), quiet)
    if specs is not None:
        fitted = contestants(specs, read)
    else:
        fitted = {} if runs else dict(suited_models(read))
    if minutes is None and seconds is None and updates is None:
        minutes = MINUTES
    if minutes is not None and fitted:
        seconds = 60 * minutes / (len(fitted) * seeds)
    draws = METHODS[method] if samples is None else samples
    if draws >= 1 and len(read.test) * draws * evaluations_of(method, {}) * seeds > MANY:
        each = f"{draws:,} {'chains of annealing' if method == 'ais' else 'draws'}"
        told = f"{len(read.test):,} test rows, {each} for each where log p(x) is not exact"
        say(f"{told}: --samples makes it shorter", quiet)
    found = compare(
        read,
        {**fitted, **{str(folder): folder for folder in runs}},
        updates=updates,
        seconds=seconds,
        seeds=range(seeds),
        method=method,
        samples=samples,
        progress=not quiet,
    )
    written = _write(found, target)
    if as_json:
        show(json.dumps(found.to_dict(), indent=2))
    else:
        wide = not sys.stdout.isatty()
        show(found.grid() if wide else _table(found), "", *found.legend, *found.notes, "", found.winner)
    say("\n".join(f"wrote {path}" for path in written))
    if not any(row.estimates for row in found.rows):
        raise UsageError("no model could be evaluated: the reasons stand above")


def _target(data: str, out: Path | None) -> Path:
    """Where the numbers go. Raises UsageError for a name that is neither a folder's nor a CSV file's."""
    from ..errors import UsageError

    if out is None:
        return Path("runs") / f"{Path(data).stem}-comparison"
    if out.suffix.lower() in FILES or (out.is_file() and out.suffix.lower() != ".csv"):
        raise UsageError(f"--out {out}: name a folder, or a file that ends in .csv")
    return out


def _write(found: Comparison, target: Path) -> list[Path]:
    """Write the table, and into a folder the picture as well, where pictures can be drawn."""
    from ..plots import ComparisonDisplay, DoesNotApply
    from .output import say

    if target.suffix.lower() == ".csv":
        return [found.to_csv(target)]
    written = [found.to_csv(target / "comparison.csv")]
    try:
        written.append(ComparisonDisplay.from_comparison(found).save(target / "comparison.png"))
    except (DoesNotApply, ImportError) as reason:
        say(f"no picture: {reason}")
    return written


def _table(found: Comparison) -> Table:
    """The table for a terminal: names are broken at their options where it is narrow."""
    from rich.table import Table

    headings, lines = found.cells()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, heading in enumerate(headings):
        text = i in (0, 4)
        table.add_column(
            heading,
            justify="left" if text else "right",
            no_wrap=i > 0,
            min_width=None if i else 16,
            overflow="fold",
        )
    for name, *cells in lines:
        table.add_row(name.replace(":", " ") if "=" in name else name, *cells)
    return table
