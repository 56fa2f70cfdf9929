"""What an evaluation is to compute, checked before any of it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .._words import did_you_mean
from ..data import Rows
from ..errors import UsageError
from ..evidence import Estimate, log_evidence
from ..evidence.ais import Annealing
from ..evidence.enumeration import state_count
from ..evidence.methods import METHODS, path_start
from ..exact import NotExactError
from ..factor import NotEnumerableError
from ..model import Model
from .evidence_options import Count, DiagnosticOptions, EvidenceOptions
from .runs import Chosen, Opened
from .settings import names_in

MANY = 2_000_000  # draws that take long enough to be announced
SUMMED = 50_000_000  # states of all rows that do
ANNEALING = ("chains", "distributions", "schedule")


@dataclass(frozen=True)
class Plan:
    """What to compute.

    methods    of log_evidence, in the order of its METHODS
    samples    draws a row by method; the chains of "ais"
    annealing  how "ais" anneals, and what of it was asked for
    start      of annealing: "prior" or "q"
    asked      whether the methods were named, not chosen here
    simulated, gaps, simulations  rows of BDMC and of the gaps, simulations of the calibration; or None
    states     of the discrete latents, which "exact" sums over; 0 where it sums over none
    """

    methods: tuple[str, ...]
    samples: Mapping[str, int]
    annealing: Annealing
    start: str
    asked: bool
    simulated: int | None
    gaps: int | None
    simulations: int | None
    information: bool
    reconstruction: bool
    seed: int
    states: int = 0

    def options_of(self, method: str) -> dict[str, Any]:
        """The keywords of log_evidence for a method."""
        return self.path if method == "ais" else {}

    @property
    def path(self) -> dict[str, Any]:
        """How to anneal but for the chains, as keywords."""
        settings = asdict(self.annealing) | {"start": self.start}
        return {name: setting for name, setting in settings.items() if name != "chains"}

    @property
    def anneals_its_own_way(self) -> bool:
        """Whether annealing is other than by default."""
        return self.annealing != Annealing() or self.start != "prior"

    @property
    def annealed(self) -> str:
        """How the annealing is done, in words."""
        how = self.annealing
        start = "q(z | x)" if self.start == "q" else "the prior"
        return (
            f"{how.chains:,} chains from {start} over {how.distributions:,} distributions "
            f"({how.schedule} schedule)"
        )

    def notice(self, chosen: Sequence[Chosen]) -> str:
        """What takes long, and how to make it shorter; empty where nothing does."""
        rows, where = sum(len(one.rows) for one in chosen), str(chosen[-1])
        annealed = (rows if "ais" in self.methods else 0) + 2 * (self.simulated or 0)
        annealed += 0 if self.gaps is None or "ais" in self.methods else min(self.gaps, rows)
        how = self.annealing
        if annealed * how.chains * how.distributions * how.leapfrogs > MANY:
            return f"annealing with {self.annealed}: fewer rows, chains or distributions make it shorter"
        draws = max((self.samples[m] for m in self.methods if m in ("importance", "naive")), default=0)
        if "exact" in self.methods and rows * self.states > SUMMED:
            return (
                f"summing over {self.states:,} latent states on {where}: --rows, or "
                f"--methods elbo,importance, make it shorter"
            )
        if rows * draws > MANY:
            return f"estimating on {where}, with {draws:,} draws a row: --rows and --samples make it shorter"
        return ""


def planned(opened: Opened, evidence: EvidenceOptions, diagnostics: DiagnosticOptions, seed: int) -> Plan:
    """The plan that the options make for this model.

    Raises UsageError or ValueError for a method that is unknown or does not suit the model, and for options
    out of range or without effect.
    """
    given = {name: getattr(evidence, name) for name in ANNEALING if getattr(evidence, name) is not None}
    for flag, count in (("--samples", evidence.samples), ("--elbo-samples", evidence.elbo_samples)):
        if count < 1:
            raise UsageError(f"{flag} must be at least 1, got {count}")
    plan = Plan(
        methods=_methods(opened, evidence.methods),
        samples={
            **METHODS,
            "elbo": evidence.elbo_samples,
            "importance": evidence.samples,
            "naive": evidence.samples,
            "ais": given.get("chains", METHODS["ais"]),
        },
        annealing=Annealing(**given),
        start=evidence.start or "prior",
        asked=evidence.methods is not None,
        simulated=number(evidence.bdmc, 100, "--bdmc", 1),
        gaps=number(diagnostics.gaps, 100, "--gaps", 1),
        simulations=number(diagnostics.calibration, 2000, "--calibration", 100),
        information=diagnostics.information,
        reconstruction=diagnostics.reconstruction,
        seed=seed,
        states=0 if opened.is_exact else state_count(opened.model.p, opened.model.latent),
    )
    _check(opened.model, plan, [*given, *["start"] * (evidence.start is not None)])
    return plan


def number(given: Count, default: int, flag: str, least: int) -> int | None:
    """The number behind a flag, the default for the flag alone, None without it."""
    if given is False:
        return None
    asked = default if given is True else int(given)
    if asked < least:
        raise UsageError(f"{flag} must be at least {least}, got {asked}")
    return asked


def by_method(model: Model, rows: Rows, method: str | None, samples: int | None, **options: Any) -> Estimate:
    """log_evidence. Raises UsageError for the exact method where there is no closed form."""
    try:
        return log_evidence(model, rows, method, samples, **options)
    except NotExactError as error:
        how = "importance and ais bound log p(x)"
        raise UsageError(f"the method exact does not suit this model: {error.reason}; {how}") from error
    except NotEnumerableError as error:
        raise UsageError(f"the method exact does not suit this model: {error}") from error


def _methods(opened: Opened, asked: str | None) -> tuple[str, ...]:
    if asked is None and opened.is_exact:
        return ("exact",)
    if asked is None:
        exactly = ("exact",) if state_count(opened.model.p, opened.model.latent) else ()
        return ("elbo", "importance", *exactly)
    named = names_in(asked)
    for name in named:
        if name not in METHODS:
            hint = did_you_mean(name, METHODS)
            raise UsageError(f"--methods: {name!r} is unknown; the methods are {', '.join(METHODS)}{hint}")
    if not named:
        raise UsageError(f"--methods names none: choose among {', '.join(METHODS)}")
    return tuple(name for name in METHODS if name in named)


def _check(model: Model, plan: Plan, annealing: Sequence[str]) -> None:
    """Refuse what does not suit the model before anything is computed."""
    anneals = "ais" in plan.methods or plan.simulated is not None or plan.gaps is not None
    if annealing and not anneals:
        raise UsageError(
            f"--{annealing[0]} is an option of annealing: add --methods elbo,importance,ais, --bdmc or --gaps"
        )
    wants = {"--bdmc": plan.simulated, "--gaps": plan.gaps, "--calibration": plan.simulations}
    for flag, wanted in wants.items():
        if wanted is None:
            continue
        model.require_density()
        if not model.latent:
            raise UsageError(f"{flag} is for models with latent variables, and {model.p.equation()} has none")
    if plan.gaps is not None and model.q is not None and model.q.exact:
        raise UsageError("--gaps: q is the exact posterior, and both gaps are zero")
    if anneals and model.q is not None:
        path_start(model, plan.start)
