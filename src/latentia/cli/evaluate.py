"""latentia evaluate RUN: how probable are new rows, and which latent units does the model use?"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
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
class Criteria:
    """BIC and AIC of the training rows, and how many free parameters are priced; lower is better."""

    parameters: int
    rows: int
    bic: float
    aic: float


@dataclass(frozen=True)
class Evaluation:
    """The estimates and the diagnostics by latent variable; empty where there are none.

    estimates  with the rows they are of: bounds, the loosest first; or the exact evidence of each split
    chosen     the rows that the diagnostics are of, and the last estimate
    kl         mean KL of each dimension in nats, `[*event]`
    activity   variance of the posterior mean over rows, `[*event]`
    shares     of each discrete latent: its probabilities p(k), and the mean of p(k | x) over rows, `[K]` each
    """

    opened: Opened
    estimates: list[tuple[Chosen, Estimate]]
    kl: dict[str, Tensor]
    activity: dict[str, Tensor]
    shares: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    warning: str | None = None
    criteria: Criteria | None = None

    @property
    def chosen(self) -> Chosen:
        return self.estimates[-1][0]


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
    """Tell log p(x), or bound it, with errors, and diagnose the latent units.

    The ELBO and L_K (importance sampling with K draws of q) are both lower bounds on log p(x), in nats
    per row: larger is better, and L_K is the tighter one. Then come the KL of each latent dimension and
    how many units are active.

    Where the posterior is exact (mixtures, ppca, factor_analysis, log_linear), so is log p(x): it is told
    of every split, unless one is chosen, with BIC and AIC of the training rows and the shares of the
    components.
    """
    from .evaluation import plain, report
    from .output import say, show
    from .runs import choose, every_split, open_run

    opened = open_run(folder, run_options, data)
    if opened.is_exact and data is None and row_options.split is None:
        chosen = every_split(opened, row_options.rows)
    else:
        chosen = [choose(opened, data, row_options.split, row_options.key, row_options.rows)]
    if not opened.is_exact and len(chosen[0].rows) * samples > MANY:
        say(f"estimating on {chosen[0]}, with {samples:,} draws a row: --rows and --samples make it shorter")
    if opened.is_exact:
        found = exact_evaluation(opened, chosen, whole=row_options.rows is None)
    else:
        found = evaluation(opened, chosen[0], samples, elbo_samples, seed)
    show(*([json.dumps(plain(found), indent=2)] if as_json else report(found)))


def evaluation(opened: Opened, chosen: Chosen, samples: int, elbo_samples: int, seed: int) -> Evaluation:
    """Bound the evidence and diagnose."""
    from ..diagnostics import activity, collapse_warning, kl_per_dimension
    from ..evidence import log_evidence

    model, rows = opened.model, chosen.rows
    estimates = [(chosen, log_evidence(model, rows, "elbo", elbo_samples, seed=seed))]
    if estimates[0][1].direction == "lower":
        estimates.append((chosen, log_evidence(model, rows, "importance", samples, seed=seed)))
    latent, several = bool(model.latent), len(rows) > 1
    return Evaluation(
        opened,
        estimates,
        _by_name(opened, kl_per_dimension(model, rows) if latent else None),
        _by_name(opened, activity(model, rows) if latent and several else None),
        warning=collapse_warning(model, rows),
    )


def exact_evaluation(opened: Opened, chosen: list[Chosen], whole: bool) -> Evaluation:
    """The exact evidence of each of the chosen rows, with the criteria where all training rows are there."""
    from ..diagnostics import activity
    from ..evidence import log_evidence
    from ..evidence.criteria import aic, bic, free_parameters
    from .codes import posterior_codes, root_probabilities

    model, rows = opened.model, chosen[-1].rows
    estimates = [(one, log_evidence(model, one.rows)) for one in chosen]
    trained = next((estimate for one, estimate in estimates if one.split == "train" and whole), None)
    criteria, shares = None, {}
    bayesian = any(model.p[name].is_bayesian for name in model.p)  # no parameters to price
    if trained is not None and trained.direction == "exact" and not bayesian:
        count = free_parameters(model.p)
        size = len(trained.values)
        criteria = Criteria(count, size, bic(trained, count), aic(trained, count))
    probabilities = root_probabilities(model)
    if probabilities:
        codes = posterior_codes(model, rows)
        shares = {name: (p, codes[name].mean(0)) for name, p in probabilities.items()}
    continuous = len(rows) > 1 and any(model.p[name].coding is None for name in model.latent)
    moves = _by_name(opened, activity(model, rows) if continuous else None)
    return Evaluation(opened, estimates, {}, moves, shares, criteria=criteria)


def _by_name(opened: Opened, per_unit: Tensor | dict[str, Tensor] | None) -> dict[str, Tensor]:
    if per_unit is None or isinstance(per_unit, dict):
        return per_unit or {}
    continuous = (name for name in opened.model.latent if opened.model.p[name].coding is None)
    return {next(continuous): per_unit}
