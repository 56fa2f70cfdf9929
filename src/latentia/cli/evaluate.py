"""latentia evaluate RUN: how probable are new rows, and which latent units does the model use?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .options import OtherData, RowOptions, RunFolder, RunOptions, Switch, flag

if TYPE_CHECKING:
    from torch import Tensor

    from ..evidence import Estimate
    from .runs import Chosen, Opened

EXAMPLES = """\
Examples:

  latentia evaluate runs/digits
  latentia evaluate runs/digits --split valid --samples 5000
  latentia evaluate runs/digits other_digits.npz --json > numbers.json"""

MANY = 2_000_000  # draws that take long enough to be announced


@dataclass(frozen=True)
class Evaluation:
    """The estimates, the loosest bound first, and the diagnostics by latent variable; empty where there
    are none.

    kl        mean KL of each dimension in nats, `[*event]`
    activity  variance of the posterior mean over rows, `[*event]`
    """

    opened: Opened
    chosen: Chosen
    estimates: list[Estimate]
    kl: dict[str, Tensor]
    activity: dict[str, Tensor]
    warning: str | None


def run(
    folder: RunFolder,
    data: OtherData = None,
    /,
    *,
    row_options: RowOptions = RowOptions(),  # noqa: B008 (frozen)
    run_options: RunOptions = RunOptions(),  # noqa: B008
    samples: Annotated[int, flag("K of L_K.", "1000", metavar="K")] = 1000,
    elbo_samples: Annotated[int, flag("Draws of z per row in the ELBO.", "100", metavar="S")] = 100,
    seed: Annotated[int, flag("Of the noise.", "0")] = 0,
    as_json: Annotated[Switch, Parameter(name="--json", help="The numbers as JSON.")] = False,
) -> None:
    """Bound log p(x), with errors, and diagnose the latent units.

    The ELBO and L_K (importance sampling with K draws of q) are both lower bounds on log p(x), in nats
    per row: larger is better, and L_K is the tighter one. Then come the KL of each latent dimension and
    how many units are active.
    """
    from .evaluation import plain, report
    from .output import say, show
    from .runs import choose, open_run

    opened = open_run(folder, run_options, data)
    chosen = choose(opened, data, row_options.split, row_options.key, row_options.rows)
    if len(chosen.rows) * samples > MANY:
        say(f"estimating on {chosen}, with {samples:,} draws a row: --rows and --samples make it shorter")
    found = evaluation(opened, chosen, samples, elbo_samples, seed)
    show(*([json.dumps(plain(found), indent=2)] if as_json else report(found)))


def evaluation(opened: Opened, chosen: Chosen, samples: int, elbo_samples: int, seed: int) -> Evaluation:
    """Estimate and diagnose."""
    from ..diagnostics import activity, collapse_warning, kl_per_dimension
    from ..evidence import log_evidence

    model, rows = opened.model, chosen.rows
    estimates = [log_evidence(model, rows, "elbo", elbo_samples, seed=seed)]
    if estimates[0].direction == "lower":
        estimates.append(log_evidence(model, rows, "importance", samples, seed=seed))
    latent, several = bool(model.latent), len(rows) > 1
    return Evaluation(
        opened,
        chosen,
        estimates,
        _by_name(opened, kl_per_dimension(model, rows) if latent else None),
        _by_name(opened, activity(model, rows) if latent and several else None),
        collapse_warning(model, rows),
    )


def _by_name(opened: Opened, per_unit: Tensor | dict[str, Tensor] | None) -> dict[str, Tensor]:
    if per_unit is None or isinstance(per_unit, dict):
        return per_unit or {}
    return {opened.model.latent[0]: per_unit}
