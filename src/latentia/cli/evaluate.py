"""latentia evaluate RUN: how probable are new rows, how sure is that, and what do the latents say?"""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from .evidence_options import DiagnosticOptions, EvidenceOptions
from .options import OtherData, RowOptions, RunFolder, RunOptions, Switch, flag

EXAMPLES = """\
Examples:

  latentia evaluate runs/digits
  latentia evaluate runs/digits --split valid --samples 5000
  latentia evaluate runs/digits --methods elbo,ais --rows 100 --bdmc 50
  latentia evaluate runs/digits --gaps 100 --calibration
  latentia evaluate runs/digits other_digits.npz --json > numbers.json"""


def run(
    folder: RunFolder,
    data: OtherData = None,
    /,
    *,
    row_options: RowOptions = RowOptions(),  # noqa: B008 (frozen)
    run_options: RunOptions = RunOptions(),  # noqa: B008
    evidence: EvidenceOptions = EvidenceOptions(),  # noqa: B008
    diagnostics: DiagnosticOptions = DiagnosticOptions(),  # noqa: B008
    seed: Annotated[int, flag("Of the noise.", "0")] = 0,
    as_json: Annotated[Switch, Parameter(name="--json", help="The numbers as JSON.")] = False,
) -> None:
    """Tell log p(x), or bound it, with errors, and diagnose the latent units.

    The first line can be quoted. Below it the bounds stand in order, in nats per row: larger is better. The
    ELBO and L_K (importance sampling with K draws of q) are lower bounds on log p(x), L_K the tighter one;
    annealing (ais) is tighter still where q is poor, and naive Monte Carlo shows why one needs the others.
    Then come the KL of each latent dimension and how many units are active, and more on request.

    Where the posterior is exact (mixtures, ppca, factor_analysis, log_linear), so is log p(x): it is told
    of every split, unless one is chosen, with BIC and AIC of the training rows and the shares of the
    components.

    Of real rows there is no upper bound. --bdmc bounds rows that the model makes from both sides, and so
    tells how far annealing may be off.
    """
    from .evaluation import report
    from .measured import evaluated
    from .numbers import plain
    from .output import say, show
    from .plan import planned
    from .runs import check_limit, choose, every_split, open_run

    opened = open_run(folder, run_options, data)
    plan = planned(opened, evidence, diagnostics, seed)
    if opened.is_exact and data is None and row_options.split is None and evidence.methods is None:
        chosen = every_split(opened, row_options.rows)
    else:
        check_limit(row_options.rows)
        whole = choose(opened, data, row_options.split, row_options.key, None)
        chosen = [whole.thinned(row_options.rows)]
    notice = plan.notice(chosen)
    if notice:
        say(notice)
    found = evaluated(opened, chosen, plan, whole=row_options.rows is None)
    show(*([json.dumps(plain(found), indent=2)] if as_json else report(found)))
