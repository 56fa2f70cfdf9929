"""An evaluation: the numbers on log p(x) and the diagnostics, computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from ..data.schema import spread
from ..diagnostics import (
    Calibration,
    Gaps,
    Information,
    Reconstruction,
    calibration,
    collapse_warning,
    inference_gaps,
    information,
    reconstruction_error,
)
from ..diagnostics.units import unit_kls, unit_variances
from ..evidence import Estimate, Sandwich, bdmc, log_evidence
from ..evidence.criteria import aic, bic, free_parameters
from .codes import posterior_codes, root_probabilities
from .plan import Plan, by_method
from .runs import Chosen, Opened

ORDER = ("none", "lower", "exact", "estimate", "upper")


@dataclass(frozen=True)
class Criteria:
    """BIC and AIC of the training rows, and how many free parameters are priced; lower is better."""

    parameters: int
    rows: int
    bic: float
    aic: float


class Told(NamedTuple):
    """What a method says of some rows."""

    chosen: Chosen
    method: str
    estimate: Estimate

    @property
    def name(self) -> str:
        """Shortly: exact, ELBO, L_1000, naive, AIS."""
        if self.estimate.direction == "none":
            return self.estimate.name
        names = {"elbo": "ELBO", "importance": f"L_{self.estimate.samples}", "ais": "AIS"}
        return names.get(self.method, self.method)


@dataclass(frozen=True)
class Evaluation:
    """The numbers and the diagnostics; empty or None where there are none.

    told       of the chosen rows by method, lower bounds first and the loosest first; or the exact evidence
               of each split
    kl         mean KL of each dimension in nats by latent variable, `[*event]`
    activity   variance of the posterior mean over rows by latent variable, `[*event]`
    shares     of each discrete latent: its probabilities p(k), and the mean of p(k | x) over rows, `[K]` each
    simulated  bounds from both sides, of rows that the model made: of other data than all the rest
    gaps       of some of the rows
    """

    opened: Opened
    plan: Plan
    told: list[Told]
    kl: dict[str, Tensor] = field(default_factory=dict)
    activity: dict[str, Tensor] = field(default_factory=dict)
    shares: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    warning: str | None = None
    criteria: Criteria | None = None
    simulated: Sandwich | None = None
    gaps: Gaps | None = None
    calibration: Calibration | None = None
    information: Information | None = None
    reconstruction: dict[str, Reconstruction] = field(default_factory=dict)

    @property
    def chosen(self) -> Chosen:
        """The rows that the diagnostics are of, and the number to quote."""
        return self.told[-1].chosen

    @property
    def example(self) -> str:
        return "image" if self.opened.is_image else "row"

    @property
    def by_split(self) -> bool:
        """Whether the numbers are of several splits, by one method."""
        return len({one.chosen.split for one in self.told}) > 1

    @property
    def best(self) -> Told:
        """The number to quote: the exact one, else the tightest lower bound."""
        for direction in ("exact", "lower"):
            found = [one for one in self.told if one.estimate.direction == direction]
            if found:
                return found[-1] if self.by_split or direction == "lower" else found[0]
        return self.told[-1]


def evaluated(opened: Opened, chosen: list[Chosen], plan: Plan, whole: bool) -> Evaluation:
    """Compute what was planned. whole: the chosen rows are all of their splits."""
    model, rows = opened.model, chosen[-1].rows
    told = [one for part in chosen for one in _told(opened, part, plan)]
    latent, several = bool(model.latent), len(rows) > 1
    exact = opened.is_exact
    continuous = any(model.p[name].coding is None for name in model.latent)
    moves = unit_variances(model, rows) if latent and several and (continuous or not exact) else {}
    reconstructed = reconstruction_error(model, rows) if plan.reconstruction else {}
    if isinstance(reconstructed, Reconstruction):
        reconstructed = {model.observed[0]: reconstructed}
    return Evaluation(
        opened,
        plan,
        told,
        kl={} if exact or not latent else unit_kls(model, rows),
        activity=moves,
        shares=_shares(opened, chosen[-1]) if exact else {},
        warning=None if exact else collapse_warning(model, rows),
        criteria=_criteria(opened, told) if exact and whole else None,
        simulated=None if plan.simulated is None else _sandwich(opened, plan, plan.simulated),
        gaps=None if plan.gaps is None else _gaps(opened, chosen[-1], told, plan, plan.gaps),
        calibration=(
            None if plan.simulations is None else calibration(model, plan.simulations, seed=plan.seed)
        ),
        information=information(model, rows, seed=plan.seed) if plan.information else None,
        reconstruction=reconstructed,
    )


def _told(opened: Opened, chosen: Chosen, plan: Plan) -> list[Told]:
    """The numbers by method, in order; of an autoencoder only what its ELBO says, unless more was asked."""
    found: list[Told] = []
    for method in plan.methods:
        if not plan.asked and found and found[0].estimate.direction == "none":
            continue
        samples, options = plan.samples[method], plan.options_of(method)
        estimate = by_method(opened.model, chosen.rows, method, samples, seed=plan.seed, **options)
        found.append(Told(chosen, method, estimate))
    return sorted(found, key=_place)


def _place(one: Told) -> tuple[int, float]:
    direction = one.estimate.direction
    return ORDER.index(direction), 0.0 if direction == "exact" else one.estimate.mean


def _sandwich(opened: Opened, plan: Plan, rows: int) -> Sandwich:
    return bdmc(opened.model, rows, chains=plan.annealing.chains, seed=plan.seed, **plan.path)


def _gaps(opened: Opened, chosen: Chosen, told: list[Told], plan: Plan, count: int) -> Gaps:
    """The gaps of so many rows; exact evidence, or that by annealing, is taken where it is there."""
    model, some = opened.model, spread(len(chosen.rows), count)
    rows = chosen.rows[some]
    known = next((one.estimate for one in told if one.method in ("exact", "ais")), None)
    if known is None and plan.anneals_its_own_way:
        how = plan.options_of("ais")
        known = log_evidence(model, rows, "ais", plan.samples["ais"], seed=plan.seed, **how)
    elif known is not None:
        known = known[some]
    return inference_gaps(model, rows, evidence=known, seed=plan.seed)


def _criteria(opened: Opened, told: list[Told]) -> Criteria | None:
    """BIC and AIC, where the training rows are there and parameters are there to price."""
    trained = next((one.estimate for one in told if one.chosen.split == "train"), None)
    p = opened.model.p
    if trained is None or trained.direction != "exact" or any(p[name].is_bayesian for name in p):
        return None
    count = free_parameters(p)
    return Criteria(count, len(trained.values), bic(trained, count), aic(trained, count))


def _shares(opened: Opened, chosen: Chosen) -> dict[str, tuple[Tensor, Tensor]]:
    probabilities = root_probabilities(opened.model)
    if not probabilities:
        return {}
    codes = posterior_codes(opened.model, chosen.rows)
    return {name: (p, codes[name].mean(0)) for name, p in probabilities.items()}
