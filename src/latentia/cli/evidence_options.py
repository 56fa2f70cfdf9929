"""The options of `latentia evaluate`: which numbers on log p(x), and which diagnostics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from .options import Switch, flag

EVIDENCE = Group("Evidence", sort_key=2)
DIAGNOSTICS = Group("Diagnostics", sort_key=3)

Count = int | bool
"""A number that may be left out: True where only the flag is given, False where it is not."""


def counted_flag(text: str, metavar: str) -> Parameter:
    """A flag that may be followed by a number."""
    return Parameter(help=text, show_default=False, metavar=f"[{metavar}]", negative="")


@Parameter(name="*", group=EVIDENCE)
@dataclass(frozen=True)
class EvidenceOptions:
    """Which numbers on log p(x), and how they are drawn."""

    methods: Annotated[
        str | None,
        flag(
            "Which of exact (log p(x) itself, where the posterior is exact or all latents are discrete with "
            "at most 2^20 states), elbo, importance (L_K), naive (draws of the prior) and ais (annealed "
            "importance sampling, slow). All but exact are lower bounds.",
            "exact where the posterior is, else elbo,importance, and exact beside them where it can be",
            metavar="NAME,NAME",
        ),
    ] = None
    samples: Annotated[
        int, flag("Draws a row of importance (K of L_K) and of naive.", "1000", metavar="K")
    ] = 1000
    elbo_samples: Annotated[int, flag("Draws a row of the ELBO.", "100", metavar="S")] = 100
    chains: Annotated[int | None, flag("Of annealing, a row.", "16")] = None
    distributions: Annotated[
        int | None, flag("Of annealing, from the start to the posterior.", "500", metavar="T")
    ] = None
    schedule: Annotated[
        Literal["linear", "sigmoidal", "adaptive"] | None, flag("Of annealing.", "adaptive")
    ] = None
    start: Annotated[Literal["prior", "q"] | None, flag("Where annealing starts.", "prior")] = None
    bdmc: Annotated[
        Count,
        counted_flag(
            "Bound log p(x) of so many rows (100) simulated from the model, from both sides by annealing: it "
            "tells how far it may be off.",
            "ROWS",
        ),
    ] = False


@Parameter(name="*", group=DIAGNOSTICS)
@dataclass(frozen=True)
class DiagnosticOptions:
    """Diagnostics that take longer, or that not everybody asks for."""

    gaps: Annotated[
        Count,
        counted_flag(
            "Where the distance between log p(x) and the ELBO comes from, the family of q or the encoder, on "
            "so many of the rows (100), evenly spread.",
            "ROWS",
        ),
    ] = False
    calibration: Annotated[
        Count,
        counted_flag(
            "Whether q is the model's own posterior, by ranks of simulated z among draws of q, in so many "
            "simulations (2000).",
            "NUMBER",
        ),
    ] = False
    information: Annotated[
        Switch,
        Parameter(help="What z says about x, and how far the aggregated posterior is from the prior."),
    ] = False
    reconstruction: Annotated[Switch, Parameter(help="The error of reconstructions, in data units.")] = False
